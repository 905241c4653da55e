//! What goes wrong between a store and its file, and what must not come of it: an owner that was replaced, rows that cannot
//! be read or written.

use crate::files::Place;
use rap_core::contract::hand::{
    at, call, call_row, invocation, message, outcome, root, seen, session, slice, thread, woken,
};
use rap_core::{
    CallState, Delivery, DeliveryKind, InputBody, InputId, NewInput, Settlement, Store, StoreError,
};
use rap_store_sqlite::{SqliteReader, SqliteStore};
use rap_types::ThreadId;
use std::fs;

fn is_owned<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::Owned { .. })), "{result:?}");
}

/// P4: a database has one owner, whatever name it is opened under, before it is made and after.
#[cfg(unix)]
#[tokio::test]
async fn one_owner_under_all_names() {
    let place = Place::new();
    let link = place.0.path().join("link.db");
    std::os::unix::fs::symlink("agent.db", &link).unwrap();
    for (first, second) in [(link.clone(), place.db()), (place.db(), link.clone())] {
        let store = SqliteStore::open(&first).await.unwrap();
        is_owned(SqliteStore::open(&second).await.map(drop));
        let root = root(&store).await;
        store.accept(message(&root, "go"), at(10)).await.unwrap();
        let reader = SqliteReader::open(&second).await.unwrap();
        assert_eq!(reader.sessions().await.unwrap().len(), 1);
        drop(store);
        drop(SqliteStore::open(&second).await.unwrap());
    }
}

/// P4: an owner that was replaced, here because its lock file was removed, finds that out by whatever it does next, and
/// does nothing any more: it works on nothing that the other has committed, and sends nothing of it.
#[tokio::test]
async fn an_owner_that_was_replaced_does_nothing_more() {
    for what in ["accept", "claim", "take", "compaction"] {
        let place = Place::new();
        let first = place.open().await;
        let root = root(&first).await;
        fs::remove_file(place.0.path().join("agent.db.lock")).unwrap();
        let second = place.open().await;
        second.accept(message(&root, "a"), at(10)).await.unwrap();
        if what != "claim" {
            slice(&second, &root, 10, |_, commit| {
                commit.calls = vec![call_row(&root, "c", CallState::Pending)];
                commit.outbox = vec![invocation(&root, "c")];
                if what == "compaction" {
                    commit.update.compaction = rap_core::Compaction::Asked;
                }
            })
            .await;
        }
        match what {
            "accept" => is_owned(first.accept(message(&root, "b"), at(11)).await),
            "claim" => is_owned(first.claim(at(11)).await),
            "take" => is_owned(first.take(at(11), 10).await),
            _ => is_owned(first.claim_compaction().await),
        }
        // From here on all of it fails, even what would find nothing.
        is_owned(first.claim(at(0)).await);
        is_owned(first.take(at(0), 10).await);
        is_owned(first.next_due().await);
        is_owned(first.claim_compaction().await);
        is_owned(first.begin(1).await);
        let held = rap_core::Claim { thread: root.clone(), fence: 1 };
        assert!(matches!(first.load(&held).await, Err(StoreError::Fenced)));
        drop(first);
        assert_eq!(second.take(at(12), 10).await.unwrap().len(), usize::from(what != "claim"));
    }
}

/// A thread that is due, with calls whose invocations are in the outbox.
async fn with_calls(store: &SqliteStore, calls: &[&str]) -> ThreadId {
    let root = root(store).await;
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = calls.iter().map(|id| call_row(&root, id, CallState::Pending)).collect();
        commit.outbox = calls.iter().map(|id| invocation(&root, id)).collect();
    })
    .await;
    root
}

async fn begun(store: &SqliteStore, now: i64) -> Vec<Delivery> {
    let taken = store.take(at(now), 10).await.unwrap();
    for delivery in &taken {
        assert!(store.begin(delivery.id).await.unwrap());
    }
    taken
}

const FULL: &str = "BEGIN SELECT RAISE(FAIL, 'the disk is full'); END";

/// TRN-04: a request that was refused and whose end cannot be written stays taken: it is never sent again, and its end can
/// be written later, with all that belongs to it.
#[tokio::test]
async fn an_end_that_cannot_be_written() {
    let place = Place::new();
    let store = place.open().await;
    let root = with_calls(&store, &["c", "d"]).await;
    let taken = begun(&store, 20).await;
    let told = |id: &str| {
        let (call, reason) = (call(id), "refused".to_owned());
        let body = InputBody::Undelivered { call: call.clone(), may_have_arrived: true, reason };
        let (id, source) = (InputId::undelivered(&call), "runtime".to_owned());
        NewInput { thread: root.clone(), id, source, body, traceparent: None }
    };
    let ends = [
        Settlement::GaveUp { reason: "it answered 422".into(), input: Some(Box::new(told("c"))) },
        Settlement::Answered(Box::new(outcome(&root, "d"))),
    ];
    place.tamper(&format!(
        "CREATE TRIGGER no_letter BEFORE INSERT ON dead_letters {FULL};
        CREATE TRIGGER no_input BEFORE INSERT ON inputs {FULL}"
    ));
    for _ in 0..2 {
        for (delivery, end) in taken.iter().zip(&ends) {
            let error = store.settle(delivery.id, end.clone(), at(21)).await.unwrap_err();
            assert!(error.to_string().contains("the disk is full"), "{error}");
        }
        assert_eq!(store.take(at(100_000), 10).await.unwrap(), [], "nobody sends it again");
        assert_eq!(store.next_due().await.unwrap(), None, "and nobody is woken for it");
    }
    place.tamper("DROP TRIGGER no_letter; DROP TRIGGER no_input");
    for (delivery, end) in taken.iter().zip(ends) {
        store.settle(delivery.id, end, at(22)).await.unwrap();
    }
    let letters = store.dead_letters().await.unwrap();
    assert_eq!((letters.len(), letters[0].reason.as_str(), letters[0].attempts), (1, "it answered 422", 1));
    let kinds = |store: rap_core::Snapshot| -> Vec<_> {
        store.inputs.iter().map(|input| input.body.kind().to_owned()).collect()
    };
    assert_eq!(kinds(seen(&store, &root, 23).await), ["undelivered", "outcome"]);
    // All of that is durable when it is told (P6).
    let killed = place.killed();
    let after = killed.open().await;
    assert_eq!(after.take(at(100_000), 10).await.unwrap(), []);
    assert_eq!(kinds(seen(&after, &root, 23).await), ["undelivered", "outcome"]);
}

/// INV-10: what a server has taken is not sent to it again at the next start because one batch could not be written.
#[tokio::test]
async fn a_settlement_that_could_not_be_written_is_written_later() {
    let place = Place::new();
    let store = place.open().await;
    with_calls(&store, &["c"]).await;
    let taken = begun(&store, 20).await;
    place.tamper(&format!("CREATE TRIGGER no_end BEFORE DELETE ON outbox {FULL}"));
    store.settle(taken[0].id, Settlement::Delivered, at(21)).await.unwrap();
    store.put("flush", "1").await.unwrap();
    let killed = place.killed();
    assert_eq!(begun(&killed.open().await, 22).await.len(), 1, "it could not be written");
    place.tamper("DROP TRIGGER no_end");
    store.put("flush", "2").await.unwrap();
    let killed = place.killed();
    assert_eq!(begun(&killed.open().await, 22).await, [], "it came along");
    drop(store);

    // The last chance is the end of the store.
    let place = Place::new();
    let store = place.open().await;
    with_calls(&store, &["c"]).await;
    let taken = begun(&store, 20).await;
    place.tamper(&format!("CREATE TRIGGER no_end BEFORE DELETE ON outbox {FULL}"));
    store.settle(taken[0].id, Settlement::Delivered, at(21)).await.unwrap();
    store.put("flush", "1").await.unwrap();
    place.tamper("DROP TRIGGER no_end");
    drop(store);
    assert_eq!(begun(&place.open().await, 22).await, []);
}

/// INV-10, P6: an invocation that was sent before a kill, and whose outcome came, is not sent again, however late the start.
#[tokio::test]
async fn what_was_answered_before_a_kill_is_not_sent_again() {
    let place = Place::new();
    let store = place.open().await;
    let root = with_calls(&store, &["answered", "open"]).await;
    begun(&store, 20).await;
    store.accept(outcome(&root, "answered"), at(21)).await.unwrap();
    let killed = place.killed();
    let after = killed.open().await;
    let again = after.take(at(100_000), 10).await.unwrap();
    assert_eq!(again.iter().map(|d| d.call.clone()).collect::<Vec<_>>(), [Some(call("open"))]);
    assert!(
        after.calls(true).await.unwrap().iter().all(|view| view.undelivered == (view.row.id == call("open")))
    );
}

/// P1, P11: a row of the outbox that cannot be read holds up no other, is a dead letter, and its thread is told.
#[tokio::test]
async fn a_request_that_cannot_be_read() {
    for (sql, what) in [
        ("url = 'x'", "invocation of call c"),
        ("body = '{'", "invocation of call c"),
        ("body = x'ff'", "invocation of call c"),
        ("first_attempt = 'x'", "invocation of call c"),
        ("kind = 'telegram'", "request"),
        ("call = ''", "invocation"),
    ] {
        let place = Place::new();
        let store = place.open().await;
        let root = with_calls(&store, &["c", "d"]).await;
        drop(store);
        place.tamper(&format!("UPDATE outbox SET {sql} WHERE call = 'c'"));
        let store = place.open().await;
        let taken = store.take(at(20), 10).await.unwrap();
        assert_eq!(taken.iter().map(|d| d.call.clone()).collect::<Vec<_>>(), [Some(call("d"))], "{sql}");
        let letters = store.dead_letters().await.unwrap();
        let whats: Vec<_> = letters.iter().map(|letter| letter.what.as_str()).collect();
        assert_eq!(whats, [what], "{sql}");
        assert!(letters[0].reason.starts_with("it cannot be read: "), "{}", letters[0].reason);
        assert_eq!(store.next_due().await.unwrap().is_some(), what == "invocation of call c", "{sql}");
        if what == "invocation of call c" {
            let snapshot = seen(&store, &root, 21).await;
            assert!(
                matches!(&snapshot.inputs[0].body, InputBody::Undelivered { call: its, may_have_arrived: true, .. }
                    if *its == call("c")),
                "{sql}: {:?}",
                snapshot.inputs
            );
        }
        assert_eq!(store.take(at(100_000), 10).await.unwrap(), [], "{sql}");
    }
}

/// P11: pages of what servers owe hold each thing once, whatever the size of a page and whatever is damaged in between.
#[tokio::test]
async fn what_is_owed_page_by_page() {
    let place = Place::new();
    let store = place.open().await;
    for id in ["root", "second", "third"] {
        store.create(&session(id)).await.unwrap();
        let of = thread(id);
        woken(&store, &of, "go", 10, |_, commit| {
            let named = |name: &str| format!("{id}-{name}");
            commit.calls = vec![
                call_row(&of, &named("a"), CallState::Pending),
                call_row(&of, &named("sent"), CallState::Pending),
                call_row(&of, &named("asks"), CallState::AwaitingApproval),
                call_row(&of, &named("done"), CallState::Done),
                call_row(&of, &named("b"), CallState::Detached),
            ];
            commit.outbox = vec![invocation(&of, &named("sent"))];
            let active = rap_core::SubscriptionState::Active;
            commit.subscriptions = vec![rap_core::contract::hand::subscription(&of, &named("s"), active)];
        })
        .await;
    }
    let mut expected: Vec<String> = Vec::new();
    for end in ["-a", "-b", "-s"] {
        expected.extend(["root", "second", "third"].map(|id| format!("{id}{end}")));
    }
    expected.sort();
    for limit in [1, 2, 3, 100] {
        let (mut all, mut last) = (Vec::new(), None);
        loop {
            let page = store.owed(last.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let Some(end) = page.last() else { break };
            last = Some(end.clone());
            all.extend(page.iter().map(|owed| owed.call.to_string()));
        }
        all.sort();
        assert_eq!(all, expected, "pages of {limit}");
    }
    // The same as whoever reads all at once finds.
    let calls = store.calls(true).await.unwrap().into_iter().filter_map(rap_core::Owed::outcome);
    let events = store.subscriptions().await.unwrap().into_iter().map(rap_core::Owed::events);
    let mut at_once: Vec<_> = calls.chain(events).map(|owed| owed.call.to_string()).collect();
    at_once.sort();
    assert_eq!(at_once, expected);
    // Sent and taken, it is owed as well.
    let sent = begun(&store, 20).await;
    store.settle(sent[0].id, Settlement::Delivered, at(21)).await.unwrap();
    assert_eq!(store.owed(None, 100).await.unwrap().len(), expected.len() + 1);
}

/// CHO-04: an answer that did not reach its server goes out once more when a person says so, and only as long as the call
/// waits for that answer.
#[tokio::test]
async fn an_answer_is_sent_again_on_a_persons_order() {
    use rap_core::{Answered, Reply};
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
    })
    .await;
    let asked = |prompt: &str| rap_core::Interaction::Choice {
        call: call("c"),
        prompt: prompt.into(),
        choices: vec!["yes".into(), "no".into()],
        default: 1,
        response_url: rap_core::contract::hand::url("http://one/answers?token=x"),
    };
    let again = async || store.reply(&call("c"), Reply::PickAgain(0), at(30)).await.unwrap();
    assert_eq!(again().await, Answered::NoQuestion);
    store.interact(&root, asked("first?"), at(20)).await.unwrap();
    assert_eq!(again().await, Answered::NoQuestion, "nobody has answered yet");
    assert_eq!(store.reply(&call("c"), Reply::Allow(true), at(21)).await.unwrap(), Answered::NoQuestion);
    assert_eq!(store.answer(&call("c"), 0, at(21)).await.unwrap(), Answered::Accepted);
    assert_eq!(again().await, Answered::Already, "it is on its way");
    let taken = begun(&store, 22).await;
    assert_eq!(taken[0].kind, DeliveryKind::ChoiceAnswer);
    let gave_up = Settlement::GaveUp { reason: "down".into(), input: None };
    store.settle(taken[0].id, gave_up, at(23)).await.unwrap();
    assert_eq!(again().await, Answered::Accepted);
    let second = begun(&store, 31).await;
    assert_eq!((&second[0].body, &second[0].url), (&taken[0].body, &taken[0].url));
    store.settle(second[0].id, Settlement::Delivered, at(32)).await.unwrap();
    // Asked anew, another answer is waited for, and a dismissal picks the default.
    store.interact(&root, asked("second?"), at(40)).await.unwrap();
    assert_eq!(again().await, Answered::NoQuestion);
    assert_eq!(store.reply(&call("c"), Reply::Dismiss, at(41)).await.unwrap(), Answered::Accepted);
    assert_eq!(begun(&store, 42).await[0].body["selected"], 1);
}
