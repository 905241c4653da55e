//! The situations that two engineers would decide differently, each with its outcome.

use crate::world::{World, call_id, says, turn, with_text};
use rap_core::{
    Accepted, CallState, DeliveryKind, InputBody, InputId, ModelTurn, NewInput, Rules, Surface, ThreadState,
    TurnOutcome, Usage,
};
use rap_types::{SubscriptionEvent, ToolResult};
use serde_json::json;

pub(crate) fn called(calls: &[&str]) -> World {
    let mut world = World::new();
    let calls: Vec<_> = calls.iter().map(|name| (*name, json!({}))).collect();
    world.model([turn("on it", &calls)]);
    world.user("go");
    world.run();
    world
}

pub(crate) const STILL: &str = "~Still running. The outcome of this call";

pub(crate) fn starts(line: &str, start: &str) {
    assert!(line.starts_with(start), "{line:?} does not start with {start:?}");
}

/// P5, P3, the trap "all but the first call dropped": several calls of one turn go out together, and their
/// results enter history together, in call order, whatever order they come in.
#[test]
fn three_parallel_calls_all_answered() {
    let mut world = called(&["a", "b", "c"]);
    assert_eq!(world.sent(DeliveryKind::Invocation).len(), 3);
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting);
    world.result("c", "3");
    world.run();
    world.result("a", "1");
    world.run();
    assert_eq!(world.told().len(), 2, "nothing enters history yet");
    world.model([says("done")]);
    world.result("b", "2");
    world.run();
    assert_eq!(world.told()[2..], ["results: 1 | 2 | 3", "model: done []"]);
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
}

/// P9, P10, RSP-01: one answered, the user writes, one comes late, one never.
#[test]
fn one_answered_the_user_writes_one_late_one_never() {
    let mut world = called(&["a", "b", "c"]);
    world.result("a", "1");
    world.run();
    world.model([says("hi")]);
    world.user("still there?");
    world.run();
    let told = world.told();
    starts(&told[2], &format!("results: 1 | {STILL}"));
    assert_eq!(told[3..], ["Person: still there?", "model: hi []"]);
    assert_eq!(world.state("b"), CallState::Detached);

    world.model([says("so late")]);
    assert_eq!(world.result("b", "2"), Accepted::Accepted);
    world.run();
    assert_eq!(world.told()[5..], ["event of b: 2", "model: so late []"]);
    assert_eq!(world.state("b"), CallState::Done);
    assert_eq!(world.state("c"), CallState::Detached);
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting, "c is still open");
}

/// A message never detaches a call whose outcome is already there.
#[test]
fn a_message_and_a_result_due_together() {
    let mut world = called(&["a"]);
    world.user("and?");
    world.result("a", "1");
    world.model([says("both")]);
    world.run();
    assert_eq!(world.told()[2..], ["results: 1", "Person: and?", "model: both []"]);
}

/// Patience: 30 s for the others once one is answered, none for tools that run long.
#[test]
fn patience() {
    let mut world = called(&["a", "b"]);
    world.result("a", "1");
    world.run();
    world.advance(29_999);
    world.run();
    assert_eq!(world.told().len(), 2);
    world.model([says("went on")]);
    world.advance(1);
    world.run();
    starts(&world.told()[2], &format!("results: 1 | {STILL}"));

    let mut world = called(&["a", "build"]);
    world.model([says("went on at once")]);
    world.result("a", "1");
    world.run();
    starts(&world.told()[2], &format!("results: 1 | {STILL}"));
    world.model([says("built")]);
    world.result("build", "ok");
    world.run();
    assert_eq!(world.told()[4..], ["event of build: ok", "model: built []"]);
}

/// A single call is waited for, however long it runs: there is nothing to go on with.
#[test]
fn a_single_long_call_is_waited_for() {
    let mut world = called(&["build"]);
    world.advance(72 * 3_600_000);
    world.run();
    assert_eq!(world.told().len(), 2);
    assert_eq!(world.store.next_due(), None, "P7: nothing is due, nothing runs");
    world.model([says("built")]);
    world.result("build", "ok");
    world.run();
    assert_eq!(world.told()[2..], ["results: ok", "model: built []"]);
}

/// P2, RES-09, RES-10: the same result twice, before and after it was used.
#[test]
fn the_same_result_twice() {
    let mut world = called(&["a"]);
    assert_eq!(world.result("a", "1"), Accepted::Accepted);
    assert_eq!(world.result("a", "again"), Accepted::Duplicate);
    world.model([says("done")]);
    world.run();
    assert_eq!(world.result("a", "again"), Accepted::Duplicate);
    world.run();
    assert_eq!(world.told()[2..], ["results: 1", "model: done []"]);
}

/// RES-08: outcomes for unknown calls and threads reach no conversation and are kept as dead letters.
#[test]
fn outcomes_for_nobody() {
    let mut world = called(&["a"]);
    let root = world.root.clone();
    let unknown = ToolResult::text(root, call_id("nobody"), "x");
    assert!(matches!(world.accept(NewInput::result(unknown, None)), Accepted::Discarded(_)));
    assert_eq!(world.store.dead_letters().len(), 1);
}

pub(crate) fn subscribed() -> World {
    let mut world = called(&["watch"]);
    world.model([says("watching")]);
    world.confirm("watch", "subscribed");
    world.run();
    world
}

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

/// A call that could not be delivered: an error for the model; an outcome that comes all the same is shown.
#[test]
fn a_call_presumed_lost_that_was_not() {
    let mut world = called(&["a"]);
    world.model([says("too bad")]);
    world.undelivered("a", true);
    world.run();
    starts(&world.told()[2], "results: ~Error: the server is down");
    assert_eq!(world.state("a"), CallState::PresumedLost);
    world.model([says("oh, it came")]);
    assert_eq!(world.result("a", "1"), Accepted::Accepted);
    world.run();
    assert_eq!(world.told()[4..], ["event of a: 1", "model: oh, it came []"]);
    assert_eq!(world.result("a", "1"), Accepted::Duplicate);
}

/// TRN-04, INV-08: a call that no server took is refused, and nothing more is awaited.
#[test]
fn a_call_refused_by_its_server() {
    let mut world = called(&["a"]);
    world.model([says("too bad")]);
    world.undelivered("a", false);
    world.run();
    assert_eq!(world.state("a"), CallState::Refused);
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
}

/// Stop, then an event, then a message: calls are cancelled, the event waits, the message lifts the pause.
#[test]
fn stop_then_an_event_then_a_message() {
    let mut world = subscribed();
    world.model([turn("working", &[("a", json!({}))])]);
    world.user("work");
    world.run();
    world.control(InputBody::Stop);
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Paused);
    assert_eq!(world.state("a"), CallState::Cancelled);
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 2, "CAN-01: every server, once");
    assert!(matches!(world.result("a", "1"), Accepted::Discarded(_)), "CAN-03");
    world.event("watch", "e1", "meanwhile");
    world.run();
    assert_eq!(world.children().len(), 0, "no event thread while paused");
    world.model([says("back"), says("noted")]);
    world.user("go on");
    world.run();
    assert_eq!(world.children().len(), 1);
    starts(&world.told()[6], "results: ~Error: cancelled; it may already have taken effect");
    assert_eq!(world.told()[7..], ["Person: go on", "model: back []"]);
}

/// CLS-01: close of a parent closes its children, cancels their calls and leaves nothing in a limbo.
#[test]
fn close_of_a_parent_with_running_children() {
    let mut world = World::new();
    world.model([
        turn("", &[("spawn_thread", json!({"instructions": "do b", "child_of": ["root"]}))]),
        says("spawned"),
        turn("working", &[("b", json!({}))]),
    ]);
    world.user("go");
    world.run();
    let child = world.children()[0].clone();
    assert_eq!(world.state("b"), CallState::Pending);
    world.control(InputBody::Close);
    world.run();
    assert_eq!(world.thread_state(&child), ThreadState::Closed);
    assert_eq!(world.thread_state(&world.root), ThreadState::Closed);
    assert_eq!(world.state("b"), CallState::Cancelled);
    assert_eq!(world.sent(DeliveryKind::CloseThread).len(), 4, "two threads, two servers");
    assert!(matches!(world.result("b", "2"), Accepted::Discarded(_)));
    assert_eq!(world.user("hello?"), Accepted::Ended);
}

/// ERR-01: a failing model keeps the message, the error is shown, and the next input tries again.
#[test]
fn a_failing_model() {
    let mut world = World::new();
    world.model([TurnOutcome::Failed { message: "the model is down".into() }]);
    world.user("hello");
    world.run();
    assert_eq!(world.told(), ["Person: hello"]);
    assert!(world.shown().contains(&Surface::Error { text: "the model is down".into() }));
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
    world.model([says("hi")]);
    world.user("again");
    world.run();
    assert_eq!(world.told(), ["Person: hello", "Person: again", "model: hi []"]);
}

/// A retry that is far away ends the slice; a message brings it forward.
#[test]
fn a_retry_far_away() {
    let mut world = World::new();
    let at = world.now + 60_000;
    world.model([TurnOutcome::RetryAt { at, message: "overloaded".into() }]);
    world.user("hello");
    world.run();
    assert_eq!(world.store.next_due(), Some(at));
    world.model([says("hi")]);
    world.advance(60_000);
    world.run();
    assert_eq!(world.told(), ["Person: hello", "model: hi []"]);
}

/// A turn that was cut short keeps its visible text, and the message is answered.
#[test]
fn an_interrupted_turn() {
    let mut world = World::new();
    world.model([TurnOutcome::Interrupted { text: "Let me th".into(), model: "test".into() }, says("sure")]);
    world.user("hello");
    assert!(world.slice());
    world.user("stop thinking");
    world.run();
    assert_eq!(
        world.told(),
        ["Person: hello", "model: Let me th (interrupted) []", "Person: stop thinking", "model: sure []"]
    );
}

/// P2 for messages: the same key twice is one message.
#[test]
fn a_message_sent_twice() {
    let mut world = World::new();
    let message =
        NewInput::message(world.root.clone(), "k", vec![rap_types::ContentPart::text("hi")], "test");
    assert_eq!(world.accept(message.clone()), Accepted::Accepted);
    assert_eq!(world.accept(message.clone()), Accepted::Duplicate);
    world.model([says("hello")]);
    world.run();
    assert_eq!(world.accept(message), Accepted::Duplicate);
    world.run();
    assert_eq!(world.told().len(), 2);
}

/// The runaway guard puts a session to rest that nobody watches; a person's message lets it go on.
#[test]
fn the_runaway_guard() {
    let mut rules = Rules::default();
    rules.completions = 3;
    let mut world = World::with(rules);
    let again = turn("again", &[("report_to_parent", json!({"report": "x"}))]);
    world.model([again.clone(), again.clone(), again]);
    world.user("loop");
    world.run();
    assert_eq!(world.requests.len(), 3);
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
    world.model([says("enough")]);
    world.user("go on");
    world.run();
    assert_eq!(world.requests.len(), 4);
}

/// Its other half: a budget of tokens, for turns and summaries together.
#[test]
fn the_budget_of_tokens() {
    let used = |outcome: TurnOutcome, input: u64, output: u64| match outcome {
        TurnOutcome::Turn(turn) => TurnOutcome::Turn(ModelTurn { usage: Usage { input, output }, ..turn }),
        other => other,
    };
    let mut rules = Rules::default();
    assert_eq!(rules.tokens, Some(50_000_000), "generous: 200 completions of a quarter of a million");
    rules.tokens = Some(1_000);
    let mut world = World::with(rules);
    let again = turn("again", &[("report_to_parent", json!({"report": "x"}))]);
    world.model([used(again.clone(), 400, 99), used(again.clone(), 400, 100), used(again.clone(), 1, 0)]);
    world.user("loop");
    world.run();
    assert_eq!(world.requests.len(), 3, "999 tokens are not the budget");
    let told = world.shown().into_iter().rev().find_map(|what| match what {
        Surface::Error { text } => Some(text),
        _ => None,
    });
    let expected = "the agent used 1000 tokens, of a budget of 1000, without a message from a person and was put to rest; write to it to go on";
    assert_eq!(told.as_deref(), Some(expected));
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);

    // A person's message begins a new budget, which a summary counts against too.
    world.model([used(says("enough"), 100, 0)]);
    world.user("go on");
    world.run();
    assert_eq!(world.requests.len(), 4);
    world.summaries.push_back(used(says("what was before"), 900, 0));
    world.control(InputBody::Compact);
    world.run();
    let root = world.root.clone();
    let body = InputBody::FromParent { text: "anything".into() };
    let id = InputId::between_threads("x");
    world.accept(NewInput { thread: root, id, source: "test".into(), body, traceparent: None });
    world.run();
    assert_eq!(world.requests.len(), 4, "the budget is used up");

    let mut rules = Rules::default();
    rules.tokens = None;
    let mut world = World::with(rules);
    world.model([used(again, u64::MAX, u64::MAX), says("no limit")]);
    world.user("go");
    world.run();
    assert_eq!(world.requests.len(), 2);
}

/// P10 and P1 together: an outcome that comes while the slice runs is seen by the next one.
#[test]
fn nothing_is_lost_between_load_and_commit() {
    let mut world = called(&["a"]);
    let claim = {
        world.user("hello?");
        world.store.claim(world.now).unwrap()
    };
    let snapshot = world.store.load(&claim).unwrap();
    world.result("a", "1");
    let mut machine = rap_core::SliceMachine::new(snapshot, rap_core::Moment { now: world.now, seed: 1 });
    assert!(matches!(machine.step(), rap_core::Step::Complete(_)));
    machine.turn(says("wait"));
    let rap_core::Step::Commit(commit) = machine.step() else { panic!() };
    let committed = world.store.commit(&claim, *commit, world.now).unwrap();
    assert_eq!(committed.due_at, Some(world.now));
    world.store.release(&claim);
    world.model([says("there it is")]);
    world.run();
    assert_eq!(world.told()[5..], ["event of a: 1", "model: there it is []"]);
}

/// P2: an outcome and our own word that the call is lost, both due after the call was detached.
#[test]
fn a_late_outcome_beside_our_own_word_that_it_is_lost() {
    for outcome_first in [true, false] {
        let mut world = called(&["a"]);
        world.model([says("hi")]);
        world.user("hurry");
        world.run();
        if outcome_first {
            world.result("a", "1");
            world.undelivered("a", true);
        } else {
            world.undelivered("a", true);
            world.result("a", "1");
        }
        world.model([says("so it came")]);
        world.run();
        assert_eq!(world.state("a"), CallState::Done);
        let events: Vec<String> =
            world.told().into_iter().filter(|line| line.starts_with("event of a: 1")).collect();
        assert_eq!(events.len(), 1, "{:#?}", world.told());
    }
}
