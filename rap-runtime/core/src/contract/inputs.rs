//! The store contract: accepting, claiming, committing. Each function wants a fresh store.

use super::hand::{
    all, all_used, at, call, call_row, child, claim, event, input, invocation, message, outcome, root, seen,
    session, slice, subscription, thread, url, woken,
};
use crate::{
    Accepted, CallState, Claim, DeadLetter, Entry, InputBody, NewInput, Store, StoreError, SubscriptionState,
    Surface, SurfaceEvent, ThreadKind, ThreadState,
};
use rap_types::ContentPart;

/// A session is made with its root thread, and stays as it is when it is made again.
pub async fn a_session_is_made_once(store: &dyn Store) {
    let first = session("root");
    store.create(&first).await.unwrap();
    let mut again = session("root");
    again.system = "other".into();
    store.create(&again).await.unwrap();
    assert_eq!(*store.session(&thread("root")).await.unwrap().unwrap(), first);
    assert!(store.session(&thread("other")).await.unwrap().is_none());
    let threads = store.threads(&thread("root")).await.unwrap();
    assert_eq!(threads.len(), 1);
    assert_eq!(threads[0].row.kind, ThreadKind::Root);
    assert_eq!(threads[0].state, ThreadState::Resting);
    assert_eq!(store.claim(at(i64::MAX)).await.unwrap(), None, "nothing to do yet");
    assert_eq!(store.next_due().await.unwrap(), None);

    let mut toolbox = first.toolbox.clone();
    toolbox.servers.pop();
    assert!(store.update_toolbox(&thread("root"), &first.toolbox, &toolbox).await.unwrap());
    assert_eq!(store.session(&thread("root")).await.unwrap().unwrap().toolbox, toolbox);
}

/// A toolbox is replaced by whoever knows the one that is there: of two that change the same one, one has to look again.
/// Trap: what one process learned of a server is overwritten by what another learned of another at that moment.
pub async fn a_toolbox_is_replaced_by_who_knows_it(store: &dyn Store) {
    let root = root(store).await;
    let first = session("root").toolbox;
    let moved = |name: &str| {
        let mut toolbox = first.clone();
        toolbox.servers[0].base = url(&format!("http://{name}/moved/"));
        toolbox
    };
    let boxes = [moved("a"), moved("b"), moved("c")];
    let told = all(boxes.iter().map(|new| store.update_toolbox(&root, &first, new)).collect()).await;
    let told: Vec<bool> = told.into_iter().map(Result::unwrap).collect();
    assert_eq!(told.iter().filter(|written| **written).count(), 1, "{told:?}");
    let now = store.session(&root).await.unwrap().unwrap().toolbox.clone();
    let winner = told.iter().position(|written| *written).unwrap();
    assert_eq!(now, boxes[winner]);
    assert!(store.update_toolbox(&root, &now, &first).await.unwrap());
    assert!(!store.update_toolbox(&thread("nobody"), &first, &now).await.unwrap());
    store.accept(message(&root, "look"), at(10)).await.unwrap();
    assert_eq!(seen(store, &root, 10).await.session.toolbox, first);
}

/// A thread's inbox holds so many inputs, and so many bytes, as its session's rules say; for people there is room when it
/// is full (P9), for outcomes as much again; what parents and children say is counted, not weighed. What slices take out makes room, and an inbox that was full loads.
pub async fn an_inbox_holds_so_much(store: &dyn Store) {
    let mut small = session("root");
    (small.rules.inbox, small.rules.inbox_bytes) = (5, 30_000);
    store.create(&small).await.unwrap();
    let root = thread("root");
    let note =
        |id: String, bytes: usize| input(&root, &id, InputBody::FromParent { text: "x".repeat(bytes) });
    for n in 0..5 {
        assert_eq!(store.accept(note(n.to_string(), 10), at(10)).await.unwrap(), Accepted::Accepted);
    }
    assert_eq!(store.accept(note("5".into(), 10), at(10)).await.unwrap(), Accepted::Busy, "by count");
    assert_eq!(store.accept(message(&root, "a"), at(10)).await.unwrap(), Accepted::Accepted);
    let committed = slice(store, &root, 11, |_, commit| {
        commit.calls = ["c", "d", "e"].map(|id| call_row(&root, id, CallState::Pending)).into();
        commit.subscriptions = vec![subscription(&root, "s", SubscriptionState::Active)];
    })
    .await;
    assert_eq!(committed.due_at, None);

    for n in 6..9 {
        assert_eq!(store.accept(note(n.to_string(), 10_000), at(20)).await.unwrap(), Accepted::Accepted);
    }
    let event = |id: &str| event(&root, "s", id, false);
    assert_eq!(store.accept(event("1"), at(20)).await.unwrap(), Accepted::Busy, "by bytes");
    let words = NewInput::message(root.clone(), "b", vec![ContentPart::text("x".repeat(20_000))], "test");
    assert_eq!(store.accept(words, at(20)).await.unwrap(), Accepted::Accepted, "P9");
    let large = |id: &str| {
        let body = InputBody::Outcome { call: call(id), outcome: crate::Outcome::text("x".repeat(10_000)) };
        NewInput { id: crate::InputId::outcome(&call(id)), ..input(&root, "", body) }
    };
    assert_eq!(store.accept(large("c"), at(20)).await.unwrap(), Accepted::Accepted);
    assert_eq!(store.accept(large("d"), at(20)).await.unwrap(), Accepted::Busy, "twice as much");
    assert_eq!(store.accept(message(&root, "c"), at(20)).await.unwrap(), Accepted::Accepted, "P9");
    assert_eq!(
        store.accept(input(&root, "stop", InputBody::Stop), at(20)).await.unwrap(),
        Accepted::Accepted
    );

    // What stays counts on; what is used, or buried, does not.
    slice(store, &root, 21, |snapshot, commit| {
        assert_eq!(snapshot.inputs.len(), 7);
        commit.consumed = snapshot.inputs[2..].iter().map(|input| input.seq).collect();
        let seq = snapshot.inputs[1].seq;
        commit.dead_letters = vec![DeadLetter { seq, reason: "no use".into() }];
    })
    .await;
    for id in ["f", "g"] {
        assert_eq!(store.accept(event(id), at(22)).await.unwrap(), Accepted::Accepted, "{id}");
        assert_eq!(store.accept(note(id.into(), 10_000), at(22)).await.unwrap(), Accepted::Accepted, "{id}");
    }
    assert_eq!(store.accept(event("h"), at(22)).await.unwrap(), Accepted::Busy);
    assert_eq!(store.accept(large("d"), at(22)).await.unwrap(), Accepted::Accepted, "it comes again");
}

/// P8: calls that are over, or presumed lost, are no part of a snapshot once the thread has gone on, however many there are;
/// each is found by its id, in its own thread alone.
pub async fn a_call_that_nobody_waits_for_is_asked_for(store: &dyn Store) {
    let root = root(store).await;
    let rows =
        [("lost", CallState::PresumedLost, 0), ("done", CallState::Done, 0), ("newest", CallState::Done, 2)]
            .map(|(id, state, turn)| crate::CallRow { turn, ..call_row(&root, id, state) });
    woken(store, &root, "go", 10, |snapshot, commit| {
        commit.calls = rows.to_vec();
        commit.threads = vec![child(&snapshot.thread, "kid", 0)];
    })
    .await;
    slice(store, &thread("kid"), 10, |_, _| {}).await;
    store.accept(message(&root, "on"), at(11)).await.unwrap();
    assert_eq!(seen(store, &root, 11).await.calls, rows[2..]);
    for row in &rows {
        assert_eq!(store.call(&root, &row.id).await.unwrap().as_ref(), Some(row));
        assert_eq!(store.call(&thread("kid"), &row.id).await.unwrap(), None);
        assert_eq!(store.call(&thread("nobody"), &row.id).await.unwrap(), None);
    }
    assert_eq!(store.call(&root, &call("nobody's")).await.unwrap(), None);
    store.accept(outcome(&root, "lost"), at(12)).await.unwrap();
    assert_eq!(seen(store, &root, 12).await.calls, [rows[0].clone(), rows[2].clone()], "an input names it");
}

/// Of what was never accepted a thread keeps so many dead letters, and its oldest go; none of them pushes out an input
/// that was (P1).
pub async fn dead_letters_of_strangers_are_few(store: &dyn Store) {
    let mut few = session("root");
    few.rules.dead_letters = 2;
    store.create(&few).await.unwrap();
    let root = thread("root");
    for id in ["a", "b", "c"] {
        store.accept(message(&root, id), at(10)).await.unwrap();
    }
    slice(store, &root, 10, |snapshot, commit| {
        commit.consumed.clear();
        let letter = |input: &crate::Input| DeadLetter { seq: input.seq, reason: "no use".into() };
        commit.dead_letters = snapshot.inputs.iter().map(letter).collect();
    })
    .await;
    for id in ["1", "2", "3", "4"] {
        let told = store.accept(outcome(&root, id), at(20)).await.unwrap();
        assert!(matches!(told, Accepted::Discarded(_)), "{told:?}");
    }
    let letters = store.dead_letters().await.unwrap();
    let what: Vec<&str> = letters.iter().map(|letter| letter.what.as_str()).collect();
    assert_eq!(what, ["message:a", "message:b", "message:c", "outcome:3", "outcome:4"]);
    assert!(store.drop_dead_letter(letters[0].id).await.unwrap());
    assert_eq!(store.dead_letters().await.unwrap().len(), 4);
}

/// P1: what was accepted is there, and wakes its thread; not before its time.
pub async fn a_message_is_kept_and_wakes(store: &dyn Store) {
    let root = root(store).await;
    assert_eq!(store.accept(message(&root, "a"), at(10)).await.unwrap(), Accepted::Accepted);
    assert_eq!(store.next_due().await.unwrap(), Some(at(10)));
    assert_eq!(store.claim(at(9)).await.unwrap(), None, "not due yet");
    let snapshot = seen(store, &root, 10).await;
    assert_eq!(snapshot.inputs.len(), 1);
    assert_eq!(snapshot.inputs[0].id.as_str(), "message:a");
    assert_eq!(snapshot.inputs[0].accepted_at, at(10));
    assert_eq!(snapshot.inputs[0].body, InputBody::Message { content: vec![ContentPart::text("a")] });
    assert_eq!(store.threads(&root).await.unwrap()[0].state, ThreadState::Running);
}

/// P2: an input id has one effect, consumed or not.
pub async fn an_input_has_one_effect(store: &dyn Store) {
    let root = root(store).await;
    assert_eq!(store.accept(message(&root, "a"), at(10)).await.unwrap(), Accepted::Accepted);
    assert_eq!(store.accept(message(&root, "a"), at(11)).await.unwrap(), Accepted::Duplicate);
    let committed = slice(store, &root, 12, |snapshot, _| assert_eq!(snapshot.inputs.len(), 1)).await;
    assert_eq!(committed.due_at, None);
    assert_eq!(store.accept(message(&root, "a"), at(13)).await.unwrap(), Accepted::Duplicate);
    assert_eq!(store.claim(at(100)).await.unwrap(), None, "a duplicate wakes nobody");
}

/// RES-08, RES-09, CAN-03: what becomes of an outcome, by the state of its call.
pub async fn outcomes_are_admitted_by_the_state_of_their_call(store: &dyn Store) {
    let root = root(store).await;
    let states = [
        ("waits", CallState::AwaitingApproval),
        ("pending", CallState::Pending),
        ("detached", CallState::Detached),
        ("lost", CallState::PresumedLost),
        ("refused", CallState::Refused),
        ("done", CallState::Done),
        ("cancelled", CallState::Cancelled),
    ];
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = states.iter().map(|(id, state)| call_row(&root, id, *state)).collect();
    })
    .await;
    let discarded = |reason: &str| Accepted::Discarded(reason.to_owned());
    for (id, expected) in [
        ("waits", discarded("the call was never sent")),
        ("pending", Accepted::Accepted),
        ("detached", Accepted::Accepted),
        ("lost", Accepted::Accepted),
        ("refused", Accepted::Duplicate),
        ("done", Accepted::Duplicate),
        ("cancelled", discarded("the call was cancelled")),
        ("nobody's", discarded("no such call in this thread")),
    ] {
        assert_eq!(store.accept(outcome(&root, id), at(20)).await.unwrap(), expected, "{id}");
    }
    let again = NewInput { id: crate::InputId::from_stored("x"), ..outcome(&root, "pending") };
    assert_eq!(
        store.accept(again, at(21)).await.unwrap(),
        Accepted::Duplicate,
        "RES-09, under another name as well"
    );
    let letters = store.dead_letters().await.unwrap();
    let what: Vec<&str> = letters.iter().map(|letter| letter.what.as_str()).collect();
    assert_eq!(what, ["outcome:waits", "outcome:cancelled", "outcome:nobody's"]);
    assert_eq!(letters[1].reason, "the call was cancelled");
    assert_eq!(letters[1].body["call"], "cancelled", "whole, to be replayed");
    let snapshot = seen(store, &root, 30).await;
    assert_eq!(snapshot.inputs.len(), 3);
    let loaded: Vec<&str> = snapshot.calls.iter().map(|row| row.id.as_str()).collect();
    assert!(loaded.contains(&"pending") && loaded.contains(&"lost") && loaded.contains(&"detached"));
}

/// SUB-07, SUB-08: what becomes of an event, by the state of its subscription. Trap: events accepted for
/// cancelled, ended or never-made subscriptions.
pub async fn events_are_admitted_by_the_state_of_their_subscription(store: &dyn Store) {
    let root = root(store).await;
    let states = [
        ("active", SubscriptionState::Active),
        ("ended", SubscriptionState::Ended),
        ("cancelled", SubscriptionState::Cancelled),
    ];
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = states.iter().map(|(id, _)| call_row(&root, id, CallState::Done)).collect();
        commit.calls.push(call_row(&root, "plain", CallState::Done));
        commit.subscriptions = states.iter().map(|(id, state)| subscription(&root, id, *state)).collect();
    })
    .await;
    for (of, id, is_final, expected) in [
        ("active", "1", false, Accepted::Accepted),
        ("active", "1", false, Accepted::Duplicate),
        ("active", "2", true, Accepted::Accepted),
        ("active", "2", true, Accepted::Duplicate),
        ("active", "3", false, Accepted::Ended),
        ("ended", "1", false, Accepted::Ended),
        ("cancelled", "1", false, Accepted::Ended),
        ("plain", "1", false, Accepted::Discarded("no such subscription".into())),
        ("nobody's", "1", false, Accepted::Discarded("no such subscription".into())),
    ] {
        let got = store.accept(event(&root, of, id, is_final), at(20)).await.unwrap();
        assert_eq!(got, expected, "{of} {id}");
    }
    // What was accepted before the end stays accepted after it.
    slice(store, &root, 30, |snapshot, commit| {
        assert_eq!(snapshot.subscriptions.len(), 1, "only the active one");
        commit.subscriptions = vec![subscription(&root, "active", SubscriptionState::Ended)];
    })
    .await;
    let again = store.accept(event(&root, "active", "2", true), at(40)).await.unwrap();
    assert_eq!(again, Accepted::Duplicate);
}

/// P2, SUB-13: an event that is sent again is known for 30 days, and not for ever: after more than a thousand newer ones it
/// is forgotten.
pub async fn events_are_known_for_thirty_days(store: &dyn Store) {
    const DAY: i64 = 24 * 60 * 60 * 1_000;
    let root = root(store).await;
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "s", CallState::Done)];
        commit.subscriptions = vec![subscription(&root, "s", SubscriptionState::Active)];
    })
    .await;
    let old = || event(&root, "s", "old", false);
    assert_eq!(store.accept(old(), at(DAY)).await.unwrap(), Accepted::Accepted);
    slice(store, &root, DAY, |_, _| {}).await;
    assert_eq!(store.accept(old(), at(30 * DAY)).await.unwrap(), Accepted::Duplicate);
    let newer = (0..1_100).map(|n| store.accept(event(&root, "s", &n.to_string(), false), at(32 * DAY)));
    assert!(all(newer.collect()).await.into_iter().all(|told| told.unwrap() == Accepted::Accepted));
    assert_eq!(store.accept(old(), at(32 * DAY)).await.unwrap(), Accepted::Accepted, "it is forgotten");
    let recent = store.accept(event(&root, "s", "7", false), at(32 * DAY)).await.unwrap();
    assert_eq!(recent, Accepted::Duplicate);
}

/// SUB-01: an event that is faster than the result of its call waits for it, 64 of them at most.
pub async fn events_wait_for_the_result_of_their_call(store: &dyn Store) {
    let root = root(store).await;
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
    })
    .await;
    for n in 0..64 {
        let got = store.accept(event(&root, "c", &n.to_string(), false), at(20)).await.unwrap();
        assert_eq!(got, Accepted::Accepted, "{n}");
    }
    assert_eq!(store.accept(event(&root, "c", "64", false), at(20)).await.unwrap(), Accepted::Busy);
    let snapshot = seen(store, &root, 20).await;
    assert_eq!(snapshot.inputs.len(), 64);
    assert_eq!(snapshot.calls[0].id, call("c"), "the call that they wait for is loaded");
}

/// RES-08, SUB-12: a thread that is not there, or no more.
pub async fn inputs_of_strangers_are_refused(store: &dyn Store) {
    let root = root(store).await;
    let nobody = thread("nobody");
    assert_eq!(store.accept(message(&nobody, "a"), at(1)).await.unwrap(), Accepted::UnknownThread);
    let lost = store.accept(outcome(&nobody, "c"), at(1)).await.unwrap();
    assert_eq!(lost, Accepted::Discarded("no such thread".into()));
    assert_eq!(store.dead_letters().await.unwrap()[0].thread, "nobody");
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Detached)];
        commit.close = true;
    })
    .await;
    assert_eq!(store.accept(message(&root, "b"), at(20)).await.unwrap(), Accepted::Ended);
    assert_eq!(store.accept(event(&root, "c", "1", false), at(20)).await.unwrap(), Accepted::Ended);
    let late = store.accept(outcome(&root, "c"), at(20)).await.unwrap();
    assert_eq!(late, Accepted::Discarded("the call was cancelled".into()));
    assert_eq!(store.claim(at(100)).await.unwrap(), None);
}

/// P4: one claim at a time for a thread; the one that is due longest first.
pub async fn one_claim_at_a_time(store: &dyn Store) {
    for (id, now) in [("a", 30), ("b", 10), ("c", 20)] {
        store.create(&session(id)).await.unwrap();
        store.accept(message(&thread(id), "go"), at(now)).await.unwrap();
    }
    assert_eq!(store.next_due().await.unwrap(), Some(at(10)));
    let first = claim(store, &thread("b"), 50).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(20)), "a claimed thread is nobody's business");
    let second = claim(store, &thread("c"), 50).await;
    let third = claim(store, &thread("a"), 50).await;
    assert_eq!(store.claim(at(50)).await.unwrap(), None);
    assert_eq!(store.next_due().await.unwrap(), None);
    assert!(first.fence != second.fence && second.fence != third.fence, "a fence is nobody else's");
    store.release(second.clone()).await.unwrap();
    store.release(second.clone()).await.unwrap();
    let again = claim(store, &thread("c"), 50).await;
    assert_ne!(again.fence, second.fence);
    assert!(matches!(store.renew(&second).await, Err(StoreError::Fenced)));
    store.renew(&again).await.unwrap();
}

/// P4: a worker that lost its claim loads and commits nothing.
pub async fn a_lost_claim_commits_nothing(store: &dyn Store) {
    let root = root(store).await;
    store.accept(message(&root, "a"), at(10)).await.unwrap();
    let lost = claim(store, &root, 10).await;
    let snapshot = store.load(&lost).await.unwrap();
    store.release(lost.clone()).await.unwrap();
    let held = claim(store, &root, 10).await;
    assert!(matches!(store.load(&lost).await, Err(StoreError::Fenced)));
    let late = store.commit(&lost, all_used(&snapshot), at(11)).await;
    assert!(matches!(late, Err(StoreError::Fenced)));
    let forged = Claim { thread: root.clone(), fence: held.fence + 1 };
    assert!(matches!(store.commit(&forged, all_used(&snapshot), at(11)).await, Err(StoreError::Fenced)));
    assert_eq!(store.load(&held).await.unwrap().inputs.len(), 1, "nothing was written");
    store.commit(&held, all_used(&snapshot), at(11)).await.unwrap();
}

/// P4: a slice that was loaded before another commit is fenced, whoever holds the claim.
pub async fn a_commit_on_an_old_version_is_fenced(store: &dyn Store) {
    let root = root(store).await;
    store.accept(message(&root, "a"), at(10)).await.unwrap();
    let held = claim(store, &root, 10).await;
    let snapshot = store.load(&held).await.unwrap();
    let first = store.commit(&held, all_used(&snapshot), at(11)).await.unwrap();
    assert_eq!(first.version, snapshot.thread.version + 1);
    let twice = store.commit(&held, all_used(&snapshot), at(11)).await;
    assert!(matches!(twice, Err(StoreError::Fenced)));
    // The claim stays: the next slice goes on under it.
    let next = store.load(&held).await.unwrap();
    assert_eq!(next.thread.version, first.version);
    store.commit(&held, all_used(&next), at(12)).await.unwrap();
}

/// The lost wake-up: what comes between load and commit makes the thread due again.
pub async fn an_input_that_comes_late_wakes_the_thread(store: &dyn Store) {
    let root = root(store).await;
    store.accept(message(&root, "a"), at(10)).await.unwrap();
    let held = claim(store, &root, 10).await;
    let snapshot = store.load(&held).await.unwrap();
    store.accept(message(&root, "b"), at(11)).await.unwrap();
    let mut commit = all_used(&snapshot);
    commit.update.due_at = Some(at(1_000));
    let committed = store.commit(&held, commit, at(12)).await.unwrap();
    assert_eq!(committed.due_at, Some(at(12)), "due now, not when the slice thought");
    store.release(held).await.unwrap();
    let snapshot = seen(store, &root, 12).await;
    assert_eq!(snapshot.inputs.len(), 1);
    assert_eq!(snapshot.inputs[0].id.as_str(), "message:b");
    // An input that the slice saw and left waits for the time that the slice set.
    let committed = slice(store, &root, 13, |_, commit| {
        commit.consumed.clear();
        commit.update.due_at = Some(at(1_000));
    })
    .await;
    assert_eq!(committed.due_at, Some(at(1_000)));
    assert_eq!(store.claim(at(999)).await.unwrap(), None);
    assert_eq!(seen(store, &root, 1_000).await.inputs.len(), 1);
}

/// A slice's changes are all there: history, rows, requests, events for people, the count of completions.
pub async fn a_slice_is_written_whole(store: &dyn Store) {
    let root = root(store).await;
    let entry = Entry::from_runtime("hello");
    let shown = SurfaceEvent { thread: root.clone(), what: Surface::Resting };
    woken(store, &root, "a", 10, |_, commit| {
        commit.entries = vec![entry.clone(), entry.clone()];
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.subscriptions = vec![subscription(&root, "s", SubscriptionState::Active)];
        commit.outbox = vec![invocation(&root, "c")];
        commit.surface = vec![shown.clone()];
        commit.completed = true;
        commit.tokens = 1_234;
        commit.update.model_owed = true;
        commit.update.turn_at = Some(at(10));
        commit.update.due_at = Some(at(70));
    })
    .await;
    let snapshot = seen(store, &root, 70).await;
    assert_eq!(snapshot.history.len(), 2);
    assert_eq!(snapshot.thread.version, 1);
    assert_eq!(snapshot.thread.next_entry, 2);
    assert_eq!(snapshot.thread.turn_at, Some(at(10)));
    assert_eq!(snapshot.thread.last_record, "hash 1");
    assert!(snapshot.thread.model_owed);
    assert_eq!(snapshot.calls, [call_row(&root, "c", CallState::Pending)]);
    assert_eq!(snapshot.subscriptions, [subscription(&root, "s", SubscriptionState::Active)]);
    assert_eq!((snapshot.completions, snapshot.tokens), (1, 1_234));
    assert_eq!(snapshot.open_threads, 1);
    let events = store.events(&root, 0, 100).await.unwrap();
    assert_eq!(events.last().unwrap().event, shown);
    assert!(events.is_sorted_by(|a, b| a.n < b.n));
    let after = store.events(&root, events[0].n, 1).await.unwrap();
    assert_eq!(after, events[1..2], "from a number on, so many at most");
    let calls = store.calls(true).await.unwrap();
    assert!(calls.len() == 1 && calls[0].undelivered && calls[0].session == root);
    assert_eq!(store.take(at(10), 10).await.unwrap().len(), 1);
    let history = store.history(&root).await.unwrap().unwrap();
    assert_eq!((history.entries.len(), history.inherited), (2, 0));
    // The runaway guard counts from a person's message, and tokens of summaries beside those of completions.
    slice(store, &root, 71, |_, commit| commit.tokens = u64::MAX).await;
    let note = InputBody::FromParent { text: "x".into() };
    store.accept(input(&root, "note", note), at(72)).await.unwrap();
    let snapshot = seen(store, &root, 72).await;
    assert_eq!(snapshot.completions, 1);
    assert!(snapshot.tokens >= i64::MAX as u64, "{}", snapshot.tokens);
    store.accept(message(&root, "b"), at(80)).await.unwrap();
    let snapshot = seen(store, &root, 80).await;
    assert_eq!((snapshot.completions, snapshot.tokens), (0, 0));
}

/// Inputs for other threads are admitted like any others; a refused one is a dead letter (P1).
pub async fn a_message_between_threads_is_admitted(store: &dyn Store) {
    let root = root(store).await;
    let note = |to: &str, id: &str| input(&thread(to), id, InputBody::FromParent { text: id.into() });
    woken(store, &root, "a", 10, |snapshot, commit| {
        commit.threads = vec![child(&snapshot.thread, "kid", 0)];
        commit.inputs = vec![note("kid", "one"), note("kid", "one"), note("nobody", "two")];
    })
    .await;
    let snapshot = seen(store, &thread("kid"), 10).await;
    assert_eq!(snapshot.inputs.len(), 1);
    let letters = store.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].thread.as_str(), letters[0].what.as_str()), ("nobody", "two"));
    // What a slice cannot use is a dead letter too.
    slice(store, &thread("kid"), 20, |snapshot, commit| {
        let seq = snapshot.inputs[0].seq;
        commit.consumed.clear();
        commit.dead_letters = vec![DeadLetter { seq, reason: "no use".into() }];
    })
    .await;
    let letters = store.dead_letters().await.unwrap();
    assert_eq!((letters[1].what.as_str(), letters[1].reason.as_str()), ("one", "no use"));
    assert_eq!(store.claim(at(100)).await.unwrap(), None, "it is used up");
}

/// Whoever waits for changes hears of each, also of one that came just before it began to wait.
pub async fn changes_are_heard(store: &dyn Store) {
    let root = root(store).await;
    store.changed().await; // The session was made.
    store.accept(message(&root, "a"), at(1)).await.unwrap();
    store.changed().await; // The message came before.
    let heard = async { store.changed().await };
    let comes = async { drop(store.accept(message(&root, "b"), at(1)).await.unwrap()) };
    all(vec![Box::pin(heard), Box::pin(comes)]).await;
}

/// A value under a name.
pub async fn values_have_names(store: &dyn Store) {
    assert_eq!(store.get("address").await.unwrap(), None);
    store.put("address", "a").await.unwrap();
    store.put("address", "b").await.unwrap();
    assert_eq!(store.get("address").await.unwrap().as_deref(), Some("b"));
}

/// P1: many at once, and every one of them is there, once, in an order.
pub async fn many_accepts_at_once(store: &dyn Store) {
    let root = root(store).await;
    let accepts = (0..200).map(|n| store.accept(message(&root, &(n % 100).to_string()), at(10)));
    let mut accepted = 0;
    for result in all(accepts.collect()).await {
        accepted += usize::from(result.unwrap() == Accepted::Accepted);
    }
    assert_eq!(accepted, 100, "each once");
    let snapshot = seen(store, &root, 10).await;
    assert_eq!(snapshot.inputs.len(), 100);
    assert!(snapshot.inputs.is_sorted_by(|a, b| a.seq < b.seq));
}

/// ERR-02: a commit that cannot be written is not written at all, and takes no other with it.
pub async fn damage_in_a_commit_writes_nothing(store: &dyn Store) {
    let root = root(store).await;
    store.accept(message(&root, "a"), at(10)).await.unwrap();
    let held = claim(store, &root, 10).await;
    let snapshot = store.load(&held).await.unwrap();
    let mut bad = all_used(&snapshot);
    bad.entries = vec![Entry::from_runtime("half")];
    // A thread that is there already.
    bad.threads = vec![child(&snapshot.thread, "root", 0)];
    let (mut failed, mut accepted) = (None, None);
    let fails = async { failed = Some(store.commit(&held, bad, at(11)).await) };
    let comes = async { accepted = Some(store.accept(message(&root, "b"), at(11)).await) };
    all(vec![Box::pin(fails), Box::pin(comes)]).await;
    assert!(failed.unwrap().is_err());
    assert_eq!(accepted.unwrap().unwrap(), Accepted::Accepted);
    let again = store.load(&held).await.unwrap();
    assert_eq!(again.thread.version, snapshot.thread.version);
    assert_eq!((again.history.len(), again.inputs.len()), (0, 2));
    store.commit(&held, all_used(&again), at(12)).await.unwrap();
}
