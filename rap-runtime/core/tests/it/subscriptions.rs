//! Situations of subscriptions: their events, the threads that those get, and how they end.

use crate::{
    situations::{STILL, called, starts, subscribed},
    world::{World, says, turn, with_text},
};
use rap_core::{Accepted, CallState, DeliveryKind, InputBody, Rules, Surface, ThreadState};
use rap_types::SubscriptionEvent;
use serde_json::json;

/// SUB-05: an event gets a thread of its own, which knows the parent's history and closes with a report.
#[test]
fn an_event_gets_its_own_thread() {
    let mut world = subscribed();
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting, "a subscription is no work");
    let child = {
        world.event("watch", "e1", "it happened");
        // The parent's slice opens the thread; the child's id is needed for closing it.
        assert!(world.slice());
        world.children()[0].clone()
    };
    world.model([
        turn("", &[("close_thread", json!({"thread_id": child, "report_to_parent": "handled it"}))]),
        says("my child says it is handled"),
    ]);
    world.run();
    assert_eq!(world.thread_state(&child), ThreadState::Closed);
    let told = world.told_of(&child);
    assert_eq!(told[..4], world.told()[..4], "it sees what the parent saw");
    assert_eq!(told[4], "event of watch: it happened");
    starts(&told[5], &format!("Runtime: You are thread {child}"));
    assert_eq!(world.told()[4], format!("event of watch: Report of thread {child} (closed): handled it"));
    assert_eq!(
        world.sent(DeliveryKind::CloseThread),
        ["http://one/base/close_thread", "http://two/base/close_thread"]
    );
    assert!(world.shown().contains(&Surface::Closed));
    assert_eq!(world.store.dead_letters(), []);
}

/// SUB-13, and the trap "a re-sent event spawns a second child".
#[test]
fn a_resent_event_has_no_second_effect() {
    let mut world = subscribed();
    assert_eq!(world.event("watch", "e1", "x"), Accepted::Accepted);
    assert_eq!(world.event("watch", "e1", "x"), Accepted::Duplicate);
    world.model([says("nothing to do")]);
    world.run();
    assert_eq!(world.event("watch", "e1", "x"), Accepted::Duplicate);
    world.run();
    assert_eq!(world.children().len(), 1);
}

/// An event thread that comes to rest is closed, and its parent hears nothing.
#[test]
fn an_event_thread_that_rests_is_closed() {
    let mut world = subscribed();
    world.event("watch", "e1", "x");
    world.model([says("nothing to do")]);
    world.run();
    let child = world.children()[0].clone();
    assert_eq!(world.thread_state(&child), ThreadState::Closed);
    assert_eq!(world.told().len(), 4);
}

/// An event while calls pend: its thread sees the parent to the safe point, never a call without result.
#[test]
fn an_event_thread_while_calls_pend() {
    let mut world = subscribed();
    world.model([turn("working", &[("a", json!({}))])]);
    world.user("work");
    world.run();
    world.event("watch", "e1", "now");
    world.model([says("noted")]);
    world.run();
    let child = world.children()[0].clone();
    let told = world.told_of(&child);
    assert_eq!(told[4], "Person: work");
    assert_eq!(told[5], "event of watch: now", "the open turn is left out");
    assert_eq!(world.state("a"), CallState::Pending, "the parent still waits");
}

/// Associative events wait at most 30 s for calls that may soon end, then the calls are detached.
#[test]
fn an_associative_event_waits_for_calls() {
    let mut world = subscribed();
    world.model([turn("working", &[("a", json!({}))])]);
    world.user("work");
    world.run();
    let associative = |event: SubscriptionEvent| with_text(event, "psst").associative(true);
    world.event_with("watch", "e1", associative);
    world.run();
    assert_eq!(world.told().len(), 6, "held back");
    world.advance(30_000);
    world.model([says("saw it")]);
    world.run();
    starts(&world.told()[6], &format!("results: {STILL}"));
    assert_eq!(world.told()[7..], ["event of watch: psst", "model: saw it []"]);
}

/// SUB-06, SUB-07: after a final event the subscription takes nothing; a re-sent final is a duplicate.
#[test]
fn a_final_event_ends_the_subscription() {
    let mut world = subscribed();
    world.event_with("watch", "e1", |event| event.last(true));
    assert_eq!(world.event("watch", "e2", "late"), Accepted::Ended);
    world.model([says("the end")]);
    world.run();
    assert_eq!(world.event_with("watch", "e1", |event| event.last(true)), Accepted::Duplicate);
    assert_eq!(world.event("watch", "e3", "later"), Accepted::Ended);
}

/// An event before its confirming result is parked and follows it, a final one too.
#[test]
fn a_final_event_before_its_result() {
    let mut world = called(&["watch"]);
    world.event_with("watch", "e1", |event| with_text(event, "early").last(true));
    world.run();
    assert_eq!(world.children().len(), 0);
    world.model([says("subscribed, I see"), says("noted")]);
    world.confirm("watch", "ok");
    world.run();
    assert_eq!(world.children().len(), 1);
    assert_eq!(world.event("watch", "e2", "late"), Accepted::Ended);
}

/// What was accepted before a final event is told before it, though it had to wait and the final had not.
#[test]
fn an_event_held_back_survives_the_final_one() {
    let mut world = subscribed();
    world.model([turn("working", &[("a", json!({}))])]);
    world.user("work");
    world.run();
    world.event_with("watch", "e1", |event| with_text(event, "psst").associative(true));
    world.event_with("watch", "e2", |event| with_text(event, "the end").last(true));
    world.model([says("noted")]);
    world.run();
    world.model([says("both")]);
    world.result("a", "1");
    world.run();
    assert!(world.told().contains(&"event of watch: psst".to_owned()), "{:#?}", world.told());
    assert_eq!(world.store.dead_letters(), []);
}

/// Events that waited for a late confirmation keep their order with those that came after it.
#[test]
fn parked_events_keep_their_order() {
    let mut world = called(&["watch"]);
    world.model([says("hm")]);
    world.user("hurry");
    world.run();
    world.event_with("watch", "e1", |event| with_text(event, "one").associative(true));
    world.confirm("watch", "ok");
    world.event_with("watch", "e2", |event| with_text(event, "two").associative(true).last(true));
    world.model([says("seen")]);
    world.run();
    assert_eq!(world.told()[5..8], ["event of watch: ok", "event of watch: one", "event of watch: two"]);
}

/// At the limit of subscriptions, the model hears that it has none.
#[test]
fn a_subscription_too_many() {
    let mut rules = Rules::default();
    rules.subscriptions = 0;
    let mut world = World::with(rules);
    world.model([turn("", &[("watch", json!({}))])]);
    world.user("watch");
    world.run();
    world.model([says("a pity")]);
    world.confirm("watch", "subscribed");
    world.run();
    starts(&world.told()[2], "results: Error: this thread has 0 subscriptions, which is the limit");
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 2);
}

/// A call that was cancelled and says all the same that it subscribed is cancelled once more.
#[test]
fn a_subscription_after_a_cancel() {
    let mut world = called(&["watch"]);
    world.control(InputBody::Stop);
    world.run();
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 2);
    assert!(matches!(world.confirm("watch", "ok"), Accepted::Discarded(_)));
    world.run();
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 4);
    assert_eq!(world.event("watch", "e1", "x"), Accepted::Ended);
}

/// A parked event whose call turns out to be no subscription is a dead letter.
#[test]
fn a_parked_event_without_a_subscription() {
    let mut world = called(&["a"]);
    world.event("a", "e1", "early");
    world.run();
    world.model([says("fine")]);
    world.result("a", "1");
    world.run();
    assert_eq!(world.store.dead_letters().len(), 1);
    assert_eq!(world.children().len(), 0);
}

/// `subscription: true` that comes after the call was detached still makes the subscription, and a parked
/// event follows it in the same slice.
#[test]
fn a_subscription_confirmed_late() {
    let mut world = called(&["watch"]);
    world.model([says("hm")]);
    world.user("hurry");
    world.run();
    world.event("watch", "e1", "early");
    world.confirm("watch", "ok");
    world.model([says("at last"), says("noted")]);
    world.run();
    assert_eq!(world.children().len(), 1);
    assert_eq!(world.told()[5], "event of watch: ok");
}
