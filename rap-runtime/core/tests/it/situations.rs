//! The situations that two engineers would decide differently, each with its outcome.

use crate::world::{World, call_id, says, turn};
use rap_core::{
    Accepted, CallState, DeliveryKind, InputBody, InputId, ModelTurn, NewInput, Rules, Surface, ThreadState,
    TurnOutcome, Usage,
};
use rap_types::ToolResult;
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
