//! The store contract: threads below threads.

use super::hand::{
    all_used, at, call_row, child, claim, event, input, invocation, message, root, seen, session, slice,
    subscription, thread, woken,
};
use crate::{
    Accepted, CallRoute, CallState, Child, ChildKind, DeliveryKind, Entry, InputBody, Settlement, Store,
    StoreError, SubscriptionState, Surface, SurfaceEvent, ThreadState,
};
use rap_types::ThreadId;

/// A root with two entries; `kid` below it, which sees one of them; `grandkid` below that. All at rest.
async fn family(store: &dyn Store) -> (ThreadId, ThreadId, ThreadId) {
    let (root, kid, grandkid) = (root(store).await, thread("kid"), thread("grandkid"));
    woken(store, &root, "go", 10, |snapshot, commit| {
        commit.entries = vec![Entry::from_runtime("first"), Entry::from_runtime("second")];
        commit.threads = vec![child(&snapshot.thread, "kid", 1)];
    })
    .await;
    slice(store, &kid, 11, |snapshot, commit| {
        commit.entries = vec![Entry::from_runtime("third")];
        commit.threads = vec![child(&snapshot.thread, "grandkid", 2)];
    })
    .await;
    slice(store, &grandkid, 12, |_, _| {}).await;
    assert_eq!(store.claim(at(1_000)).await.unwrap(), None);
    (root, kid, grandkid)
}

async fn state(store: &dyn Store, of: &ThreadId) -> ThreadState {
    let threads = store.threads(&thread("root")).await.unwrap();
    threads.into_iter().find(|view| view.row.id == *of).unwrap().state
}

/// A history is a chain of segments: nothing is copied, and what the parent adds later is not seen.
pub async fn a_child_sees_its_parent(store: &dyn Store) {
    let (root, _, grandkid) = family(store).await;
    store.accept(message(&grandkid, "hello"), at(20)).await.unwrap();
    let snapshot = seen(store, &grandkid, 20).await;
    let told: Vec<Entry> = snapshot.history.iter().map(|entry| (**entry).clone()).collect();
    let expected = ["first", "you are kid", "third", "you are grandkid"].map(Entry::from_runtime);
    assert_eq!(told, expected);
    assert_eq!(snapshot.thread.ancestors, [root.clone(), thread("kid")]);
    assert_eq!(snapshot.open_threads, 3);
    let view = store.history(&grandkid).await.unwrap().unwrap();
    assert_eq!((view.entries.len(), view.inherited), (4, 3));
    assert!(store.history(&thread("nobody")).await.unwrap().is_none());
    let ids: Vec<_> = store.threads(&root).await.unwrap().into_iter().map(|view| view.row.id).collect();
    assert_eq!(ids, [root.clone(), thread("kid"), grandkid.clone()]);

    store.accept(message(&root, "hello"), at(19)).await.unwrap();
    let parent = seen(store, &root, 20).await;
    let only = Child { id: thread("kid"), kind: ChildKind::Spawned, open: true };
    assert_eq!(parent.children, [only], "direct children alone");
}

/// P11: active subscriptions are listed with their sessions, oldest first; those that are over are not, nor those of a
/// closed thread.
pub async fn active_subscriptions_are_listed(store: &dyn Store) {
    let (root, kid, _) = family(store).await;
    let listed = async || {
        let views = store.subscriptions().await.unwrap();
        assert!(views.iter().all(|view| view.session == thread("root")));
        views.into_iter().map(|view| view.row).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, []);
    let of = |thread: &ThreadId, id: &str, state, made| {
        let mut row = subscription(thread, id, state);
        row.created_at = at(made);
        row
    };
    woken(store, &kid, "subscribe", 20, |_, commit| {
        commit.calls = vec![call_row(&kid, "young", CallState::Done)];
        commit.subscriptions = vec![of(&kid, "young", SubscriptionState::Active, 20)];
    })
    .await;
    woken(store, &root, "subscribe", 21, |_, commit| {
        commit.calls =
            vec![call_row(&root, "old", CallState::Done), call_row(&root, "over", CallState::Done)];
        commit.subscriptions = vec![
            of(&root, "old", SubscriptionState::Active, 15),
            of(&root, "over", SubscriptionState::Cancelled, 12),
        ];
    })
    .await;
    let old = of(&root, "old", SubscriptionState::Active, 15);
    assert_eq!(listed().await, [old.clone(), of(&kid, "young", SubscriptionState::Active, 20)]);
    woken(store, &kid, "close", 30, |_, commit| commit.close = true).await;
    assert_eq!(listed().await, [old]);
}

/// What no slice has decided is shown in order with all else, and wakes nobody.
pub async fn what_no_slice_decided_is_shown(store: &dyn Store) {
    let (root, kid, _) = family(store).await;
    let before = store.events(&root, 0, 1_000).await.unwrap();
    let last = before.last().map_or(0, |event| event.n);
    let shown = |thread: &ThreadId, text: &str| SurfaceEvent {
        thread: thread.clone(),
        what: Surface::Error { text: text.into() },
    };
    store.show(&shown(&kid, "one"), at(40)).await.unwrap();
    store.show(&shown(&thread("nobody"), "lost"), at(41)).await.unwrap();
    store.show(&shown(&root, "two"), at(42)).await.unwrap();
    let events = store.events(&root, last, 1_000).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.at, event.event.clone())).collect();
    assert_eq!(told, [(at(40), shown(&kid, "one")), (at(42), shown(&root, "two"))]);
    assert_eq!(store.claim(at(1_000)).await.unwrap(), None);
}

/// The model that was chosen for a thread is kept, and taken back; a new thread begins with what its row says.
pub async fn a_chosen_model_is_kept(store: &dyn Store) {
    let root = root(store).await;
    woken(store, &root, "go", 10, |snapshot, commit| {
        assert_eq!(snapshot.model(), snapshot.session.model.as_deref());
        commit.update.model = Some("p/m".into());
        let mut kid = child(&snapshot.thread, "kid", 0);
        kid.row.model = Some("q/n".into());
        commit.threads = vec![kid];
    })
    .await;
    let kid = seen(store, &thread("kid"), 11).await;
    assert_eq!((kid.thread.model.as_deref(), kid.model()), (Some("q/n"), Some("q/n")));
    let models: Vec<_> = store.threads(&root).await.unwrap().into_iter().map(|view| view.row.model).collect();
    assert_eq!(models, [Some("p/m".to_owned()), Some("q/n".to_owned())]);
    slice(store, &thread("kid"), 12, |_, commit| commit.update.model = None).await;
    woken(store, &root, "again", 13, |snapshot, _| assert_eq!(snapshot.model(), Some("p/m"))).await;
    let kid = store.history(&thread("kid")).await.unwrap().unwrap();
    assert_eq!(kid.thread.row.model, None);
}

/// Close is one commit: the subtree is closed, nothing of it goes on, nobody is forgotten (CLS-01).
pub async fn closing_takes_all_below_along(store: &dyn Store) {
    let (root, kid, grandkid) = family(store).await;
    let quiet = input(&kid, "note", InputBody::FromParent { text: "x".into() });
    woken(store, &grandkid, "work", 20, |_, commit| {
        let mut timer = call_row(&grandkid, "timer", CallState::Pending);
        timer.route = CallRoute::Timer;
        timer.due_at = Some(at(500));
        let unsent = call_row(&grandkid, "unsent", CallState::Pending);
        let sent = call_row(&grandkid, "sent", CallState::Detached);
        let done = call_row(&grandkid, "done", CallState::Done);
        commit.calls = vec![timer, unsent, sent, done];
        commit.subscriptions = vec![subscription(&grandkid, "done", SubscriptionState::Active)];
        commit.outbox = vec![invocation(&grandkid, "sent")];
        commit.update.due_at = Some(at(500));
    })
    .await;
    let sent = store.take(at(20), 10).await.unwrap();
    assert!(store.begin(sent[0].id).await.unwrap());
    woken(store, &grandkid, "more", 21, |_, commit| {
        commit.outbox = vec![invocation(&grandkid, "unsent")];
        commit.update.due_at = Some(at(500));
    })
    .await;
    store.accept(quiet, at(22)).await.unwrap();
    let before = store.events(&root, 0, 1_000).await.unwrap().last().map_or(0, |event| event.n);

    let closed = woken(store, &root, "close", 15, |_, commit| commit.close = true).await;
    assert_eq!(closed.due_at, None);
    for id in [&root, &kid, &grandkid] {
        assert_eq!(state(store, id).await, ThreadState::Closed, "{id}");
        assert_eq!(store.accept(message(id, "late"), at(30)).await.unwrap(), Accepted::Ended);
    }
    assert_eq!(store.claim(at(10_000)).await.unwrap(), None, "timers are gone");
    let states: Vec<_> =
        store.calls(false).await.unwrap().into_iter().map(|c| (c.row.id.to_string(), c.row.state)).collect();
    assert!(states.contains(&("sent".into(), CallState::Cancelled)));
    assert!(states.contains(&("timer".into(), CallState::Cancelled)));
    assert!(states.contains(&("done".into(), CallState::Done)));
    assert_eq!(store.calls(true).await.unwrap(), []);
    assert_eq!(store.accept(event(&grandkid, "done", "1", false), at(30)).await.unwrap(), Accepted::Ended);
    let letters = store.dead_letters().await.unwrap();
    let what: Vec<_> = letters.iter().map(|letter| (letter.thread.as_str(), letter.what.as_str())).collect();
    assert_eq!(what, [("kid", "note")]);

    let told = store.events(&root, before, 1_000).await.unwrap();
    let told: Vec<_> = told.iter().map(|event| (&event.event.thread, &event.event.what)).collect();
    assert_eq!(told, [(&root, &Surface::Closed), (&kid, &Surface::Closed), (&grandkid, &Surface::Closed)]);
    let notices = store.take(at(100), 100).await.unwrap();
    let urls: Vec<_> = notices
        .iter()
        .map(|notice| (notice.kind, notice.url.to_string(), notice.body["thread_id"].clone()))
        .collect();
    let notice = |server: &str, id: &ThreadId| {
        let url = format!("http://{server}/base/close_thread");
        (DeliveryKind::CloseThread, url, serde_json::Value::from(id.as_str()))
    };
    let expected: Vec<_> =
        [&root, &kid, &grandkid].iter().flat_map(|id| [notice("one", id), notice("two", id)]).collect();
    assert_eq!(urls, expected, "one per thread and server, and the unsent invocation is gone");
    assert_eq!(sent.len(), 1);
}

/// P1: whatever waits in a thread that is closed is a dead letter, however much it is and however few are kept of others;
/// nothing that comes later takes it away.
pub async fn closing_loses_no_input(store: &dyn Store) {
    let mut few = session("root");
    few.rules.dead_letters = 3;
    store.create(&few).await.unwrap();
    let root = thread("root");
    woken(store, &root, "go", 10, |snapshot, commit| {
        commit.threads = vec![child(&snapshot.thread, "kid", 0)];
    })
    .await;
    let kid = thread("kid");
    slice(store, &kid, 10, |_, _| {}).await;
    for n in 0..4 {
        for (of, id) in [(&root, format!("root {n}")), (&kid, format!("kid {n}"))] {
            let note = input(of, &id, InputBody::FromParent { text: "x".into() });
            assert_eq!(store.accept(note, at(20)).await.unwrap(), Accepted::Accepted);
        }
    }
    store.accept(input(&root, "close", InputBody::Close), at(19)).await.unwrap();
    slice(store, &root, 20, |snapshot, commit| {
        let close = snapshot.inputs.iter().find(|input| input.body == InputBody::Close).unwrap();
        commit.consumed = vec![close.seq];
        commit.close = true;
    })
    .await;
    for n in 0..5 {
        let late = super::hand::outcome(&kid, &format!("late {n}"));
        assert!(matches!(store.accept(late, at(30)).await.unwrap(), Accepted::Discarded(_)));
    }
    let letters = store.dead_letters().await.unwrap();
    let of = |reason: &str| letters.iter().filter(|l| l.reason == reason).map(|l| l.what.as_str()).collect();
    let closed: Vec<&str> = of("its thread was closed");
    let expected = ["root 0", "root 1", "root 2", "root 3", "kid 0", "kid 1", "kid 2", "kid 3"];
    assert_eq!(closed, expected);
    assert_eq!(letters.len(), expected.len() + 3);
}

/// P4: a slice that runs below a thread that is closed commits nothing, and hears of it when it renews.
pub async fn a_slice_below_a_closed_thread_is_fenced(store: &dyn Store) {
    let (root, kid, _) = family(store).await;
    store.accept(message(&kid, "work"), at(20)).await.unwrap();
    let held = claim(store, &kid, 20).await;
    let snapshot = store.load(&held).await.unwrap();
    woken(store, &root, "close", 21, |_, commit| commit.close = true).await;
    assert!(matches!(store.renew(&held).await, Err(StoreError::Fenced)));
    assert!(matches!(store.load(&held).await, Err(StoreError::Fenced)));
    assert!(matches!(store.commit(&held, all_used(&snapshot), at(22)).await, Err(StoreError::Fenced)));
    store.release(held).await.unwrap();
    assert_eq!(store.claim(at(100)).await.unwrap(), None);
}

/// Stop pauses a thread and all below it; inputs are taken and wait; a running slice below loses its turn;
/// going on lifts it for all, and what waited is due.
pub async fn stop_and_go_on(store: &dyn Store) {
    let (root, kid, grandkid) = family(store).await;
    store.accept(message(&kid, "work"), at(20)).await.unwrap();
    let held = claim(store, &kid, 20).await;
    let snapshot = store.load(&held).await.unwrap();
    let stopped = woken(store, &root, "stop", 21, |_, commit| commit.pause = true).await;
    assert_eq!(stopped.due_at, None);
    assert!(matches!(store.commit(&held, all_used(&snapshot), at(22)).await, Err(StoreError::Fenced)));
    for id in [&root, &kid, &grandkid] {
        assert_eq!(state(store, id).await, ThreadState::Paused, "{id}");
    }
    let note = input(&grandkid, "note", InputBody::FromParent { text: "x".into() });
    assert_eq!(store.accept(note, at(23)).await.unwrap(), Accepted::Accepted);
    assert_eq!(store.claim(at(1_000)).await.unwrap().map(|claim| claim.thread), None);
    assert_eq!(store.next_due().await.unwrap(), None);

    let went_on = woken(store, &root, "go on", 24, |snapshot, commit| {
        assert!(snapshot.thread.paused);
        commit.resume = true;
        commit.update.due_at = Some(at(900));
    })
    .await;
    assert_eq!(went_on.due_at, Some(at(900)));
    let mut due = Vec::new();
    while let Some(claim) = store.claim(at(30)).await.unwrap() {
        assert!(!store.load(&claim).await.unwrap().thread.paused);
        due.push(claim.thread);
    }
    due.sort();
    assert_eq!(due, [grandkid, kid], "all that were paused look again");
}

/// A paused thread hears a person, and nobody else: a message, a stop, a close. Trap: a stopped thread that
/// cannot be closed.
pub async fn a_paused_thread_hears_people(store: &dyn Store) {
    let (root, ..) = family(store).await;
    woken(store, &root, "stop", 20, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Detached)];
        commit.pause = true;
    })
    .await;
    store.accept(super::hand::outcome(&root, "c"), at(21)).await.unwrap();
    assert_eq!(store.claim(at(1_000)).await.unwrap(), None);
    for (n, body) in [InputBody::Stop, InputBody::Close].into_iter().enumerate() {
        let now = 30 + i64::try_from(n).unwrap();
        store.accept(input(&root, body.kind(), body), at(now)).await.unwrap();
        let committed = slice(store, &root, now, |snapshot, commit| {
            commit.consumed.retain(|seq| *seq != snapshot.inputs[0].seq);
        })
        .await;
        assert_eq!(committed.due_at, None, "still paused");
    }
    // A message that comes while the stop is written is not lost either.
    store.accept(message(&root, "a"), at(40)).await.unwrap();
    let held = claim(store, &root, 40).await;
    let snapshot = store.load(&held).await.unwrap();
    store.accept(message(&root, "b"), at(41)).await.unwrap();
    let committed = store.commit(&held, all_used(&snapshot), at(42)).await.unwrap();
    assert_eq!(committed.due_at, Some(at(42)));
}

/// P9: what a person says to a thread below one that is stopped, after the stop and before its slice, is not stopped: that
/// thread is due, with all that it waits for. What was said before the stop waits, with everybody else's.
pub async fn what_a_person_says_after_a_stop_is_heard(store: &dyn Store) {
    let (root, kid, grandkid) = family(store).await;
    store.accept(message(&grandkid, "before"), at(20)).await.unwrap();
    store.accept(input(&root, "stop", InputBody::Stop), at(20)).await.unwrap();
    let held = claim_of(store, &root, 20).await;
    let snapshot = store.load(&held).await.unwrap();
    store.accept(message(&kid, "after"), at(21)).await.unwrap();
    let note = input(&grandkid, "note", InputBody::FromParent { text: "x".into() });
    store.accept(note, at(21)).await.unwrap();
    let mut commit = all_used(&snapshot);
    (commit.pause, commit.stopped_by) = (true, Some(snapshot.inputs[0].seq));
    store.commit(&held, commit, at(22)).await.unwrap();
    store.release(held).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(at(22)));
    let awake = claim(store, &kid, 22).await;
    assert_eq!(store.claim(at(1_000)).await.unwrap(), None, "nobody else");
    let snapshot = store.load(&awake).await.unwrap();
    assert!(snapshot.thread.paused);
    assert_eq!(snapshot.inputs.len(), 1);
    let mut commit = all_used(&snapshot);
    commit.resume = true;
    store.commit(&awake, commit, at(23)).await.unwrap();
    store.release(awake).await.unwrap();
    assert_eq!(state(store, &root).await, ThreadState::Paused);
    assert_eq!(seen(store, &grandkid, 23).await.inputs.len(), 2, "the stop is lifted below it");
}

/// Claims a thread among others that are due.
async fn claim_of(store: &dyn Store, of: &ThreadId, now: i64) -> crate::Claim {
    let mut others = Vec::new();
    let found = loop {
        let claim = store.claim(at(now)).await.unwrap().expect("it is due");
        if claim.thread == *of {
            break claim;
        }
        others.push(claim);
    };
    for claim in others {
        store.release(claim).await.unwrap();
    }
    found
}

/// A pause keeps timers: when it ends, the thread looks at them again.
pub async fn a_timer_outlives_a_pause(store: &dyn Store) {
    let (root, kid, _) = family(store).await;
    woken(store, &kid, "sleep", 20, |_, commit| {
        let mut timer = call_row(&kid, "timer", CallState::Pending);
        timer.route = CallRoute::Timer;
        timer.due_at = Some(at(500));
        commit.calls = vec![timer];
        commit.update.due_at = Some(at(500));
    })
    .await;
    woken(store, &root, "stop", 30, |_, commit| commit.pause = true).await;
    assert_eq!(store.claim(at(1_000)).await.unwrap(), None);
    woken(store, &root, "go on", 40, |_, commit| commit.resume = true).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(40)));
    assert_eq!(seen(store, &kid, 40).await.calls[0].due_at, Some(at(500)));
}

/// A slice of a paused thread that runs while the pause is lifted above it would leave what waits lying: it
/// loses its turn.
pub async fn going_on_above_a_running_slice(store: &dyn Store) {
    let (root, kid, _) = family(store).await;
    woken(store, &root, "stop", 20, |_, commit| commit.pause = true).await;
    store.accept(message(&kid, "hello"), at(21)).await.unwrap();
    let held = claim(store, &kid, 21).await;
    let snapshot = store.load(&held).await.unwrap();
    woken(store, &root, "go on", 20, |_, commit| commit.resume = true).await;
    assert!(matches!(store.commit(&held, all_used(&snapshot), at(22)).await, Err(StoreError::Fenced)));
    assert_eq!(seen(store, &kid, 22).await.inputs.len(), 1);
}

/// A clock that was set back while nobody ran: what is due at some time, or stopped, is told, once, and what is due
/// is due; requests wait for as much less. Where it was not set back, nothing happens.
pub async fn a_clock_that_was_set_back(store: &dyn Store) {
    const HOUR: i64 = 3_600_000;
    let (root, kid, grandkid) = family(store).await;
    let (late, now) = (10 * HOUR, 8 * HOUR);
    store.create(&session("quiet")).await.unwrap();
    let told = |snapshot: &crate::Snapshot| -> Vec<i64> {
        let by = |input: &crate::Input| match &input.body {
            InputBody::ClockSetBack { by } => Some(*by),
            _ => None,
        };
        snapshot.inputs.iter().filter_map(by).collect()
    };
    woken(store, &kid, "stop", late - 2, |_, commit| commit.pause = true).await;
    woken(store, &root, "sleep", late, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.outbox = vec![invocation(&root, "c")];
        commit.update.due_at = Some(at(late + HOUR));
    })
    .await;
    let taken = store.take(at(late), 10).await.unwrap();
    assert!(store.begin(taken[0].id).await.unwrap());
    store.settle(taken[0].id, Settlement::RetryAt(at(late + 5_000)), at(late)).await.unwrap();
    for steady in [late + HOUR / 2, late - 900] {
        assert_eq!(store.clock_starts(at(steady)).await.unwrap(), None, "{steady}");
    }
    let by = store.clock_starts(at(now)).await.unwrap().unwrap();
    assert!((2 * HOUR - 2..=2 * HOUR).contains(&by), "{by}");
    let again = store.clock_starts(at(now)).await.unwrap();
    assert!(again.is_none_or(|again| again == by), "{again:?}");
    let snapshot = seen(store, &root, now).await;
    assert_eq!(told(&snapshot), [by], "it is due, and told once");
    slice(store, &root, now, |_, commit| commit.update.due_at = Some(at(now + HOUR))).await;
    assert_eq!(store.claim(at(now)).await.unwrap(), None, "the stopped ones sleep, and the quiet one too");
    woken(store, &kid, "go on", now, |snapshot, commit| {
        assert_eq!(told(snapshot), [by]);
        commit.resume = true;
    })
    .await;
    assert_eq!(told(&seen(store, &grandkid, now).await), [by]);
}
