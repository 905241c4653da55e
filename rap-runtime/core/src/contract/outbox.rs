//! The store contract: requests to the outside, and what tools ask people.

use super::hand::{
    TRACE, at, call, call_row, invocation, message, outcome, root, seen, session, thread, url, woken,
};
use crate::{
    Accepted, Answered, CallState, Delivery, DeliveryKind, InputBody, InputId, Interaction, NewInput, Reply,
    Settlement, Store, Surface,
};
use rap_types::ThreadId;
use serde_json::json;

/// A root with a pending call `c` whose invocation is in the outbox.
async fn with_a_call(store: &dyn Store) -> ThreadId {
    let root = root(store).await;
    calls(store, &root).await;
    root
}

async fn calls(store: &dyn Store, root: &ThreadId) {
    woken(store, root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(root, "c", CallState::Pending)];
        commit.outbox = vec![invocation(root, "c")];
    })
    .await;
}

async fn cancel(store: &dyn Store, root: &ThreadId, now: i64) {
    woken(store, root, &format!("stop at {now}"), now, |_, commit| {
        commit.calls = vec![call_row(root, "c", CallState::Cancelled)];
        commit.cancel = vec![call("c")];
    })
    .await;
}

async fn take(store: &dyn Store, now: i64) -> Vec<Delivery> {
    store.take(at(now), 10).await.unwrap()
}

async fn delivered(store: &dyn Store, deliveries: &[Delivery], now: i64) {
    for delivery in deliveries {
        store.settle(delivery.id, Settlement::Delivered, at(now)).await.unwrap();
    }
}

fn urls(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.url.to_string()).collect()
}

/// Taken once; of one call one after another; other calls beside it.
pub async fn requests_go_out_one_after_another_per_call(store: &dyn Store) {
    let root = with_a_call(store).await;
    woken(store, &root, "more", 11, |_, commit| {
        commit.calls = vec![call_row(&root, "d", CallState::Pending)];
        let mut second = invocation(&root, "c");
        second.kind = DeliveryKind::ChoiceAnswer;
        commit.outbox = vec![second, invocation(&root, "d")];
    })
    .await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(10)));
    let first = take(store, 20).await;
    assert_eq!(first[0].traceparent.as_deref(), Some(TRACE), "its trace goes along");
    let calls: Vec<_> = first.iter().map(|d| (d.call.clone().unwrap(), d.kind)).collect();
    assert_eq!(calls, [(call("c"), DeliveryKind::Invocation), (call("d"), DeliveryKind::Invocation)]);
    assert_eq!((&first[0].thread, &first[0].session), (&root, &root));
    assert_eq!(first[0].body, json!({"operation": "weather", "id": "c"}));
    assert_eq!((first[0].attempts, first[0].first_attempt), (0, None));
    assert_eq!(take(store, 20).await, [], "taken is taken");
    assert_eq!(store.next_due().await.unwrap(), None, "what waits for its call is not due");
    delivered(store, &first[..1], 21).await;
    let second = take(store, 21).await;
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].kind, DeliveryKind::ChoiceAnswer);
    delivered(store, &second, 22).await;
    delivered(store, &first[1..], 22).await;
    assert_eq!(take(store, 1_000).await, []);
}

/// TRN-03: settled to be tried again, it is due at that time, and knows its tries.
pub async fn a_request_is_tried_again(store: &dyn Store) {
    with_a_call(store).await;
    let first = take(store, 20).await;
    assert!(!first[0].begun && store.begin(first[0].id).await.unwrap());
    store.settle(first[0].id, Settlement::RetryAt(at(500)), at(21)).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(at(500)));
    assert_eq!(take(store, 499).await, []);
    let second = take(store, 500).await;
    assert_eq!((second[0].attempts, second[0].first_attempt), (1, Some(at(20))));
    assert!(second[0].begun && store.begin(second[0].id).await.unwrap());
    store.settle(second[0].id, Settlement::RetryAt(at(900)), at(501)).await.unwrap();
    let third = take(store, 900).await;
    assert_eq!((third[0].attempts, third[0].first_attempt), (2, Some(at(20))));
    // Settling what nobody has is nothing.
    store.settle(third[0].id + 1_000, Settlement::Delivered, at(901)).await.unwrap();
    delivered(store, &third, 901).await;
    delivered(store, &third, 901).await;
    assert_eq!(store.next_due().await.unwrap(), None);
}

/// P11: what is given up is a dead letter, and its thread is told, together.
pub async fn a_request_is_given_up(store: &dyn Store) {
    let root = with_a_call(store).await;
    let taken = take(store, 20).await;
    let body = InputBody::Undelivered { call: call("c"), may_have_arrived: true, reason: "down".into() };
    let input = NewInput {
        thread: root.clone(),
        id: InputId::undelivered(&call("c")),
        source: "runtime".into(),
        body,
        traceparent: None,
    };
    let gave_up =
        Settlement::GaveUp { reason: "it was down for 2 minutes".into(), input: Some(input.into()) };
    store.settle(taken[0].id, gave_up, at(30)).await.unwrap();
    let letters = store.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, "it was down for 2 minutes");
    assert_eq!(letters[0].body["id"], "c");
    assert_eq!(
        letters[0].request(),
        Some((DeliveryKind::Invocation, Some(call("c")))),
        "{}",
        letters[0].what
    );
    assert_eq!(take(store, 1_000).await, []);
    let snapshot = seen(store, &root, 30).await;
    assert_eq!(snapshot.inputs[0].body.kind(), "undelivered");
    assert_eq!(snapshot.calls[0].id, call("c"));
    assert!(!store.calls(true).await.unwrap()[0].undelivered);
    // Sent again, it is a dead letter no more; another one keeps its number.
    assert!(!store.drop_dead_letter(letters[0].id + 1).await.unwrap());
    assert!(store.drop_dead_letter(letters[0].id).await.unwrap());
    assert!(!store.drop_dead_letter(letters[0].id).await.unwrap());
    assert_eq!(store.dead_letters().await.unwrap(), []);
}

/// P6: what was worked here is settled together with its outcome, however full the inbox: nobody would bring it again.
pub async fn what_was_worked_is_settled_with_its_outcome(store: &dyn Store) {
    let mut small = session("root");
    small.rules.inbox_bytes = 1;
    store.create(&small).await.unwrap();
    let root = thread("root");
    calls(store, &root).await;
    store.accept(message(&root, "words"), at(19)).await.unwrap();
    assert_eq!(store.accept(outcome(&root, "c"), at(19)).await.unwrap(), Accepted::Busy);
    let taken = take(store, 20).await;
    assert!(store.begin(taken[0].id).await.unwrap());
    let answered = Settlement::Answered(outcome(&root, "c").into());
    store.settle(taken[0].id, answered, at(21)).await.unwrap();
    assert_eq!(take(store, 1_000).await, []);
    assert_eq!(store.dead_letters().await.unwrap(), []);
    assert!(!store.calls(true).await.unwrap()[0].undelivered);
    assert_eq!(seen(store, &root, 22).await.inputs[1].body.kind(), "outcome");
    assert_eq!(store.accept(outcome(&root, "c"), at(23)).await.unwrap(), Accepted::Duplicate);
}

/// INV-10: an invocation that is to be tried again is not, once its call has its outcome: it arrived.
pub async fn an_answered_invocation_is_not_sent_again(store: &dyn Store) {
    let root = with_a_call(store).await;
    let taken = take(store, 20).await;
    assert!(store.begin(taken[0].id).await.unwrap());
    store.settle(taken[0].id, Settlement::RetryAt(at(100)), at(21)).await.unwrap();
    assert!(store.calls(true).await.unwrap()[0].undelivered);
    assert_eq!(store.accept(outcome(&root, "c"), at(22)).await.unwrap(), Accepted::Accepted);
    assert_eq!(take(store, 1_000).await, []);
    assert!(!store.calls(true).await.unwrap()[0].undelivered);
}

/// CAN-01: an invocation that nobody tried leaves the outbox, and no server hears of the call.
pub async fn cancelling_what_was_never_attempted(store: &dyn Store) {
    let root = with_a_call(store).await;
    cancel(store, &root, 20).await;
    assert_eq!(take(store, 1_000).await, []);
    assert_eq!(store.next_due().await.unwrap(), None);
    // Nor does one of a call that never had an invocation.
    woken(store, &root, "again", 30, |_, commit| {
        commit.calls = vec![call_row(&root, "asked", CallState::Cancelled)];
        commit.cancel = vec![call("asked"), call("c")];
    })
    .await;
    assert_eq!(take(store, 1_000).await, []);
}

/// CAN-01: an invocation that somebody has in hand and has not begun to send is taken back, and no server hears of
/// the call: no send is followed by a cancel that a stop before it could have spared.
pub async fn cancelling_what_was_taken_and_not_begun(store: &dyn Store) {
    let root = with_a_call(store).await;
    let taken = take(store, 20).await;
    store.settle(taken[0].id, Settlement::RetryAt(at(100)), at(21)).await.unwrap();
    let again = take(store, 100).await;
    assert_eq!((again[0].attempts, again[0].begun), (0, false), "going back is no try");
    assert_eq!(again[0].first_attempt, Some(at(20)), "its window goes on all the same");
    cancel(store, &root, 101).await;
    assert!(!store.begin(again[0].id).await.unwrap(), "it must not be sent any more");
    store.settle(again[0].id, Settlement::RetryAt(at(500)), at(102)).await.unwrap();
    assert_eq!(take(store, 1_000).await, []);
    assert_eq!(store.next_due().await.unwrap(), None);
    assert!(!store.begin(again[0].id).await.unwrap());
}

/// CAN-01: what may have been sent is followed by a notice to every server, once it has settled.
pub async fn cancelling_what_was_attempted(store: &dyn Store) {
    let root = with_a_call(store).await;
    let taken = take(store, 20).await;
    assert!(store.begin(taken[0].id).await.unwrap());
    cancel(store, &root, 21).await;
    assert_eq!(take(store, 1_000).await, [], "the notice waits for the invocation");
    store.settle(taken[0].id, Settlement::RetryAt(at(100)), at(22)).await.unwrap();
    let again = take(store, 1_000).await;
    assert_eq!(again.len(), 1, "tried again, whatever was cancelled");
    assert_eq!(again[0].kind, DeliveryKind::Invocation);
    delivered(store, &again, 1_000).await;
    let notices = take(store, 1_000).await;
    assert_eq!(
        urls(&notices),
        ["http://one/base/cancel_tool_call", "http://two/base/cancel_tool_call"],
        "to all at once (CLS-06)"
    );
    assert_eq!(notices[0].body, json!({"thread_id": "root", "tool_call_id": "c"}));
    assert_eq!(notices[0].kind, DeliveryKind::CancelToolCall);
}

/// CAN-01, SUB-09: a call that was delivered is cancelled by a notice, wherever the servers now are.
pub async fn cancelling_what_was_delivered(store: &dyn Store) {
    let root = with_a_call(store).await;
    let taken = take(store, 20).await;
    delivered(store, &taken, 21).await;
    let first = session("root").toolbox;
    let mut toolbox = first.clone();
    toolbox.servers[1].base = super::hand::url("http://moved:81");
    assert!(store.update_toolbox(&thread("root"), &first, &toolbox).await.unwrap());
    cancel(store, &root, 30).await;
    let notices = take(store, 30).await;
    assert_eq!(urls(&notices), ["http://one/base/cancel_tool_call", "http://moved:81/cancel_tool_call"]);
}

fn choice() -> Interaction {
    Interaction::Choice {
        call: call("c"),
        prompt: "Deploy?".into(),
        choices: vec!["yes".into(), "no".into()],
        default: 1,
        response_url: url("http://one/answers?token=x"),
    }
}

/// CHO-01, CHO-04: the first answer wins and goes out once.
pub async fn a_choice_is_answered_once(store: &dyn Store) {
    let root = with_a_call(store).await;
    delivered(store, &take(store, 20).await, 20).await;
    assert_eq!(store.answer(&call("c"), 0, at(21)).await.unwrap(), Answered::NoQuestion);
    assert_eq!(store.interact(&root, choice(), at(21)).await.unwrap(), Accepted::Accepted);
    assert_eq!(store.interact(&root, choice(), at(22)).await.unwrap(), Accepted::Duplicate);
    assert_eq!(store.claim(at(100)).await.unwrap(), None, "it wakes nobody");
    let open = store.interactions(&root).await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!((&open[0].thread, &open[0].interaction), (&root, &choice()));
    let shown = store.events(&root, 0, 100).await.unwrap();
    assert_eq!(shown.iter().filter(|event| matches!(event.event.what, Surface::Choice { .. })).count(), 1);
    assert_eq!(store.answer(&call("c"), 2, at(23)).await.unwrap(), Answered::NoSuchChoice(2));
    assert_eq!(store.answer(&call("c"), 1, at(23)).await.unwrap(), Answered::Accepted);
    assert_eq!(store.answer(&call("c"), 0, at(24)).await.unwrap(), Answered::Already);
    assert_eq!(store.interact(&root, choice(), at(24)).await.unwrap(), Accepted::Duplicate);
    assert!(store.interactions(&root).await.unwrap().is_empty());
    let answers = take(store, 30).await;
    assert_eq!(urls(&answers), ["http://one/answers?token=x"]);
    assert_eq!(answers[0].body, json!({"id": "c", "selected": 1}));
}

/// CHO-01: a dismissal picks the default, as an answer does.
pub async fn a_choice_is_dismissed(store: &dyn Store) {
    let root = with_a_call(store).await;
    delivered(store, &take(store, 20).await, 20).await;
    let dismiss = async |now| store.reply(&call("c"), Reply::Dismiss, at(now)).await.unwrap();
    assert_eq!(dismiss(21).await, Answered::NoQuestion);
    store.interact(&root, choice(), at(21)).await.unwrap();
    assert_eq!(store.reply(&call("c"), Reply::Allow(true), at(22)).await.unwrap(), Answered::NoQuestion);
    assert_eq!(dismiss(22).await, Answered::Accepted);
    assert_eq!(dismiss(23).await, Answered::Already);
    assert_eq!(take(store, 30).await[0].body, json!({"id": "c", "selected": 1}));
}

/// OAU-04: a question, and an authorization's URL, are worth what their call is worth.
pub async fn questions_end_with_their_call(store: &dyn Store) {
    let root = with_a_call(store).await;
    let ask = Interaction::Authorize { call: call("c"), url: url("https://login/secret") };
    assert_eq!(store.interact(&root, ask.clone(), at(20)).await.unwrap(), Accepted::Accepted);
    assert_eq!(store.interactions(&root).await.unwrap()[0].interaction, ask);
    assert_eq!(store.answer(&call("c"), 0, at(20)).await.unwrap(), Answered::NoQuestion);
    let events = format!("{:?}", store.events(&root, 0, 100).await.unwrap());
    assert!(events.contains("Authorize") && !events.contains("secret"), "{events}");
    woken(store, &root, "end", 21, |_, commit| {
        commit.calls =
            vec![call_row(&root, "c", CallState::Done), call_row(&root, "d", CallState::Cancelled)];
    })
    .await;
    assert!(store.interactions(&root).await.unwrap().is_empty());
    assert_eq!(store.interact(&root, ask, at(30)).await.unwrap(), Accepted::Duplicate);
    let discarded = |reason: &str| Accepted::Discarded(reason.into());
    for (of, id, expected) in [
        (&root, "d", discarded("the call was cancelled")),
        (&root, "e", discarded("no such call in this thread")),
        (&thread("nobody"), "c", discarded("no such thread")),
    ] {
        let ask = Interaction::Authorize { call: call(id), url: url("https://login/secret") };
        assert_eq!(store.interact(of, ask, at(31)).await.unwrap(), expected, "{id}");
    }
}

/// VIW-01, VIW-02: the latest content of a view, whole, unchanged; not of a thread that is not there.
pub async fn views_are_replaced_whole(store: &dyn Store) {
    let root = root(store).await;
    let view = |view_type: &str, n: i64| {
        let content = [("n".to_owned(), json!(n))].into_iter().collect();
        Interaction::View { view_type: view_type.into(), content }
    };
    for (view_type, n) in [("plan", 1), ("tests", 1), ("plan", 2), ("plan", 2)] {
        assert_eq!(store.interact(&root, view(view_type, n), at(20)).await.unwrap(), Accepted::Accepted);
    }
    let latest: Vec<_> =
        store.interactions(&root).await.unwrap().into_iter().map(|open| open.interaction).collect();
    assert_eq!(latest, [view("tests", 1), view("plan", 2)], "the one that waits longest for an update first");
    let refused = store.interact(&thread("nobody"), view("plan", 1), at(20)).await.unwrap();
    assert_eq!(refused, Accepted::UnknownThread);
    woken(store, &root, "close", 30, |_, commit| commit.close = true).await;
    assert_eq!(store.interact(&root, view("plan", 3), at(31)).await.unwrap(), Accepted::Ended);
}
