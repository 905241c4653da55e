//! The built-in tools, with the arguments that models get wrong.

use crate::world::{World, says, turn};
use rap_core::{CallState, DeliveryKind, ThreadState};
use serde_json::{Value, json};

/// The text of the first result after a turn with one call.
fn answer(name: &str, arguments: Value) -> String {
    let mut world = World::new();
    world.model([turn("", &[(name, arguments)]), says("ok")]);
    world.user("go");
    world.run();
    world.told().get(2).cloned().unwrap_or_default()
}

/// INV-01, INV-02, SUB-04 and the traps "a missing argument panics a built-in", "sleep with 1e300,
/// NaN, negative, zero", "an unknown zone": what a model is told.
#[test]
fn bad_calls_get_an_answer_at_once() {
    let until = |date: &str, time: &str, zone: &str| json!({"date": date, "time": time, "timezone": zone});
    for (name, arguments, expected) in [
        ("nosuch", json!({}), "results: Error: there is no tool \"nosuch\""),
        ("receive_event", json!({}), "results: Error: receive_event is how events are shown"),
        ("a", json!("text"), "results: Error: the arguments of a are not a JSON object"),
        ("weather", json!({}), "results: Error: the arguments of weather do not fit"),
        ("sleep", json!({}), "results: Error: `seconds` is missing"),
        ("sleep", json!({"seconds": 0}), "results: Error: `seconds` must be more than 0"),
        ("sleep", json!({"seconds": -1}), "results: Error: `seconds` must be more than 0"),
        ("sleep", json!({"seconds": 1e300}), "results: Error: `seconds` must be more than 0"),
        ("sleep", json!({"seconds": "NaN"}), "results: Error: `seconds` must be a number"),
        ("sleep_until", until("2026-02-30", "10:00", "UTC"), "results: Error: `date` must be a day"),
        ("sleep_until", until("2026-03-01", "24:00", "UTC"), "results: Error: `time` must be"),
        ("sleep_until", until("2026-03-01", "23:59:60", "UTC"), "results: Error: `time` must be"),
        ("sleep_until", until("2026-03-01", "10:00", "Mars/Base"), "results: Error: there is no time zone"),
        ("sleep_until", until("1969-12-31", "10:00", "UTC"), "results: That time has passed already."),
        ("report_to_parent", json!({"report": "x"}), "results: Error: this is a root thread"),
        ("close_thread", json!({"thread_id": "other"}), "results: Error: you can close only your own"),
        (
            "send_message_to_child",
            json!({"thread_id": "x", "message": "y"}),
            "results: Error: \"x\" is no child",
        ),
        ("cancel_subscription", json!({"tool_call_id": "x"}), "results: Error: \"x\" is neither"),
        (
            "spawn_thread",
            json!({"instructions": "x", "child_of": ["y"]}),
            "results: Error: `child_of` must be",
        ),
    ] {
        let told = answer(name, arguments.clone());
        assert!(told.starts_with(expected), "{name} {arguments}: {told:?}");
    }
}

/// `sleep` is a row with a due time: nothing runs until then (P7), and its end is its result.
#[test]
fn sleep_is_a_row() {
    let mut world = World::new();
    world.model([turn("", &[("sleep", json!({"seconds": 600}))])]);
    world.user("nap");
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting);
    assert_eq!(world.store.next_due(), Some(world.now + 600_000));
    world.model([says("awake")]);
    world.advance(600_000);
    world.run();
    assert_eq!(world.told()[2..], ["results: The wait of 600 s is over.", "model: awake []"]);
}

/// An interrupted sleep goes on, and its end comes as an event.
#[test]
fn an_interrupted_sleep() {
    let mut world = World::new();
    world.model([turn("", &[("sleep", json!({"seconds": 600}))]), says("yes?")]);
    world.user("nap");
    world.run();
    world.advance(12_000);
    world.user("wake up");
    world.run();
    assert_eq!(world.told()[2], "results: ~Something came first: slept 12 s of 600 s. The wait goes on,");
    world.model([says("now I am awake")]);
    world.advance(588_000);
    world.run();
    assert_eq!(world.told()[5..], ["event of sleep: The wait of 600 s is over.", "model: now I am awake []"]);
    assert_eq!(world.store.next_due(), None);
}

/// A detached sleep that ends while another call is open waits for it, without spinning.
#[test]
fn a_late_sleep_waits_for_open_calls() {
    let mut world = World::new();
    world.model([turn("", &[("sleep", json!({"seconds": 60}))]), turn("", &[("a", json!({}))])]);
    world.user("nap");
    world.run();
    world.advance(59_000);
    world.user("do a");
    world.run();
    world.advance(2_000);
    world.run();
    assert_eq!(world.told().len(), 5, "held back");
    world.model([says("both")]);
    world.result("a", "1");
    world.run();
    assert_eq!(
        world.told()[5..],
        ["results: 1", "event of sleep: The wait of 60 s is over.", "model: both []"]
    );
}

/// The trap "a DST gap or fold": a gap ends at the next valid moment, a fold begins at the first.
#[test]
fn sleep_until_in_gap_and_fold() {
    for (date, expected) in [
        // Oslo 2026: 02:00 to 03:00 does not exist on 29 March; it comes twice on 25 October.
        ("2026-03-29", 1_774_746_000_000),
        ("2026-10-25", 1_792_888_200_000),
    ] {
        let mut world = World::new();
        world.now = rap_core::Millis(1_767_225_600_000); // 2026-01-01
        world.model([turn(
            "",
            &[("sleep_until", json!({"date": date, "time": "02:30", "timezone": "Europe/Oslo"}))],
        )]);
        world.user("nap");
        world.run();
        assert_eq!(world.store.next_due(), Some(rap_core::Millis(expected)), "{date}");
    }
}

/// `sleep_until_event_or_input` rests until the next input; with other calls, until all are answered.
#[test]
fn resting() {
    let mut world = World::new();
    world.model([turn("", &[("sleep_until_event_or_input", json!({}))])]);
    world.user("rest");
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
    world.model([turn("", &[("build", json!({})), ("sleep_until_event_or_input", json!({}))])]);
    world.user("build and rest");
    world.run();
    assert_eq!(world.state("build"), CallState::Pending, "not detached: the model asked to rest");
    world.model([says("built")]);
    world.result("build", "ok");
    world.run();
    assert_eq!(world.told()[5], "results: ok | Resting until something happens.");
}

/// A spawned child sees the parent up to the call, then that call alone; it reports, and it gets messages.
#[test]
fn a_spawned_child() {
    let mut world = World::new();
    world.model([
        turn(
            "splitting",
            &[("spawn_thread", json!({"instructions": "count", "child_of": ["root"]})), ("a", json!({}))],
        ),
        says("counted: 3"),
    ]);
    world.user("go");
    world.run();
    let child = world.children()[0].clone();
    let told = world.told_of(&child);
    assert_eq!(told[..2], ["Person: go", "model:  [\"spawn_thread\"]"], "no text, no sibling call");
    assert!(told[2].starts_with("results: You are a child thread."), "{told:?}");
    assert_eq!(told[3], "model: counted: 3 []");

    world.model([says("so it is 3")]);
    world.result("a", "1");
    world.run();
    let line = format!("event of spawn_thread: Report of thread {child} (idle): counted: 3");
    assert!(world.told().contains(&line), "it rests, so it reports once by itself: {:#?}", world.told());

    let message = json!({"thread_id": child, "message": "count again"});
    world.model([turn("", &[("send_message_to_child", message.clone())]), says("told it"), says("4")]);
    world.model([says("it is 4 now")]);
    world.user("again");
    world.run();
    let told = world.told_of(&child);
    assert!(told.contains(&"Parent: Message from your parent thread: count again".to_owned()), "{told:?}");
    let line = format!("event of spawn_thread: Report of thread {child} (idle): 4");
    assert!(world.told().contains(&line), "it was asked again, so it reports again: {:#?}", world.told());

    world.model([turn("", &[("close_thread", json!({"thread_id": child}))])]);
    world.user_of(&child, "close");
    world.run();
    assert_eq!(world.thread_state(&child), ThreadState::Closed);
    world.model([turn("", &[("send_message_to_child", message)]), says("it is gone")]);
    world.user("and again");
    world.run();
    let told = world.told();
    assert!(
        told[told.len() - 2].starts_with("results: Error: the child"),
        "the trap: no false success: {told:?}"
    );
}

/// The trap "a child whose model fails says nothing to its parent".
#[test]
fn a_failing_child_reports() {
    let mut world = World::new();
    world.model([
        turn("", &[("spawn_thread", json!({"instructions": "x", "child_of": ["root"]}))]),
        says("spawned"),
        rap_core::TurnOutcome::Failed { message: "the model is down".into() },
        says("my child failed"),
    ]);
    world.user("go");
    world.run();
    let told = world.told();
    assert!(told.iter().any(|line| line.contains("(failed)")), "{told:#?}");
}

/// A child that has reported its progress still reports where it comes to rest, and then no more: a person's word to it
/// is answered to that person.
#[test]
fn a_child_that_reported_before() {
    let mut world = World::new();
    world.model([
        turn("", &[("spawn_thread", json!({"instructions": "x", "child_of": ["root"]}))]),
        says("spawned"),
        turn("", &[("report_to_parent", json!({"report": "half done"}))]),
        says("half done, I hear"),
        says("it is 42"),
        says("42, I hear"),
    ]);
    world.user("go");
    world.run();
    let child = world.children()[0].clone();
    let reports = |world: &World| -> Vec<String> {
        let told = world.told().into_iter();
        told.filter_map(|line| Some(line.split_once(&format!("Report of thread {child} "))?.1.to_owned()))
            .collect()
    };
    let expected = ["(reported): half done", "(idle): it is 42"];
    assert_eq!(reports(&world), expected);
    world.model([says("yes, 42")]);
    world.user_of(&child, "sure?");
    world.run();
    assert_eq!(reports(&world), expected);
}

/// A child that rests without a word reports its last ones, and none of its parent's.
#[test]
fn a_child_that_rests_without_a_word() {
    let spawn =
        |text: &str| turn(text, &[("spawn_thread", json!({"instructions": "x", "child_of": ["root"]}))]);
    let rests = || turn("", &[("sleep_until_event_or_input", json!({}))]);
    for (words, expected) in [(Some("found it"), "(idle): found it"), (None, "(idle): nothing to say")] {
        let mut world = World::new();
        world.model([says("my own words"), spawn("more of them"), says("spawned")]);
        world.user("hello");
        world.run();
        world.user("go");
        for _ in 0..2 {
            assert!(world.slice());
        }
        if let Some(words) = words {
            world.model([turn(words, &[("a", json!({}))])]);
            while world.slice() {}
            world.result("a", "1");
        }
        world.model([rests(), says("I hear")]);
        world.run();
        let told = world.told().join("\n");
        assert!(told.contains(expected), "{told}");
    }
}

/// A child that has reported its progress still says that it failed.
#[test]
fn a_failing_child_that_reported_before() {
    let mut world = World::new();
    world.model([
        turn("", &[("spawn_thread", json!({"instructions": "x", "child_of": ["root"]}))]),
        says("spawned"),
        turn("", &[("report_to_parent", json!({"report": "half done"}))]),
    ]);
    world.user("go");
    while world.requests.len() < 3 {
        assert!(world.slice());
    }
    world.model([
        says("half done, I hear"),
        rap_core::TurnOutcome::Failed { message: "the model is down".into() },
        says("it failed"),
    ]);
    world.run();
    let told = world.told().join("\n");
    assert!(told.contains("half done") && told.contains("(failed)"), "{told}");
}

/// `close_thread` in a turn with calls to servers is refused; alone, it closes a root too.
#[test]
fn close_alone() {
    let mut world = World::new();
    let close = ("close_thread", json!({"thread_id": "root"}));
    world.model([turn("", &[close.clone(), ("a", json!({}))])]);
    world.user("bye");
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting);
    world.model([turn("bye", &[close])]);
    world.result("a", "1");
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Closed);
    assert_eq!(world.told()[3..], ["model: bye [\"close_thread\"]", "results: Closed."]);
}

/// SUB-09: cancelling a subscription notifies the servers, ends the tracking and answers in the same turn.
#[test]
fn cancel_subscription() {
    let mut world = World::new();
    world.model([turn("", &[("watch", json!({}))]), says("watching")]);
    world.user("watch");
    world.run();
    world.confirm("watch", "ok");
    world.run();
    let id = world.call("watch").id;
    world.model([turn("", &[("cancel_subscription", json!({"tool_call_id": id}))]), says("cancelled")]);
    world.user("stop watching");
    world.run();
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 2);
    assert_eq!(world.event("watch", "e1", "late"), rap_core::Accepted::Ended);
}

/// CAN-01, CAN-03: cancelling an unanswered call notifies the servers, and its outcome is a dead letter.
#[test]
fn cancel_an_unanswered_call() {
    let mut world = World::new();
    world.model([turn("", &[("build", json!({}))]), says("hm")]);
    world.user("build");
    world.run();
    world.user("never mind");
    world.run();
    let id = world.call("build").id;
    world.model([turn("", &[("cancel_subscription", json!({"tool_call_id": id}))]), says("cancelled")]);
    world.user("cancel it");
    world.run();
    assert_eq!(world.state("build"), CallState::Cancelled);
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 2);
    assert!(matches!(world.result("build", "ok"), rap_core::Accepted::Discarded(_)));
    assert_eq!(world.store.dead_letters().len(), 1);
}

/// P8, CAN-01: a call that was presumed lost turns ago is no part of what a slice loads; the model names it, and it is
/// cancelled.
#[test]
fn cancel_a_call_that_was_presumed_lost() {
    let mut world = World::new();
    world.model([
        turn("", &[("a", json!({}))]),
        says("lost, it seems"),
        turn("", &[("b", json!({}))]),
        says("well"),
    ]);
    world.user("go");
    world.run();
    world.undelivered("a", true);
    world.run();
    world.user("go on");
    world.run();
    world.result("b", "1");
    world.run();
    assert_eq!(world.state("a"), CallState::PresumedLost);
    let (id, root) = (world.call("a").id, world.root.clone());
    world.user("cancel it");
    let claim = world.store.claim(world.now).unwrap();
    let loaded = world.store.load(&claim).unwrap().calls;
    assert!(loaded.iter().all(|row| row.id != id), "{loaded:?}");
    world.store.release(&claim);
    world.model([turn("", &[("cancel_subscription", json!({"tool_call_id": id}))]), says("cancelled")]);
    world.run();
    assert_eq!(world.state("a"), CallState::Cancelled);
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 2);
    assert!(matches!(world.result("a", "ok"), rap_core::Accepted::Discarded(_)));
    assert_eq!(world.store.call(&root, &id).unwrap().state, CallState::Cancelled);
}
