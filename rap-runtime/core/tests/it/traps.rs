//! Traps seen in the field that no situation names.

use crate::{
    situations::{called, subscribed},
    world::{World, says, turn, with_text},
};
use rap_core::{InputBody, ModelCall, ModelTurn, ThreadState, TurnOutcome};
use serde_json::json;

/// "Several that are due share one completion."
#[test]
fn several_that_are_due_share_one_completion() {
    let mut world = subscribed();
    world.model([turn("", &[("a", json!({}))]), says("hm")]);
    world.user("work");
    world.run();
    world.user("hurry");
    world.run();
    let before = world.requests.len();
    for (id, text) in [("e1", "one"), ("e2", "two")] {
        world.event_with("watch", id, |event| with_text(event, text).associative(true));
    }
    world.result("a", "late");
    world.user("and?");
    world.model([says("all of it")]);
    world.run();
    assert_eq!(world.requests.len(), before + 1);
    let told = world.told();
    assert_eq!(
        told[told.len() - 5..],
        [
            "event of watch: one",
            "event of watch: two",
            "event of a: late",
            "Person: and?",
            "model: all of it []"
        ]
    );
}

/// The trap "closing marks closed first, then a crash loses the report to the parent".
#[test]
fn a_report_and_the_close_are_one_commit() {
    let mut world = subscribed();
    world.event("watch", "e1", "it happened");
    assert!(world.slice(), "the parent opens the thread");
    let child = world.children()[0].clone();
    world.model([turn("", &[("close_thread", json!({"thread_id": child, "report_to_parent": "done"}))])]);
    while world.thread_state(&child) != ThreadState::Closed {
        assert!(world.slice());
    }
    world.store.crash();
    world.model([says("I see")]);
    world.run();
    assert!(world.told().iter().any(|line| line.contains("(closed): done")), "{:#?}", world.told());
}

/// The trap "the model re-uses a tool call id within a thread: the thread hangs".
#[test]
fn a_provider_id_that_is_used_twice() {
    let calls = |name: &str| {
        TurnOutcome::Turn(ModelTurn {
            calls: vec![ModelCall {
                name: name.into(),
                arguments: json!({}),
                provider_id: Some("call_1".into()),
            }],
            model: "test".into(),
            ..ModelTurn::default()
        })
    };
    let mut world = World::new();
    world.model([calls("a"), calls("a"), says("done")]);
    world.user("twice");
    world.run();
    let first = world.call("a").id;
    world.result("a", "1");
    world.run();
    let second = world.call("a").id;
    assert_ne!(first, second, "the id is ours");
    world.result("a", "2");
    world.run();
    assert_eq!(world.told()[2..], ["results: 1", "model:  [\"a\"]", "results: 2", "model: done []"]);
}

/// The trap "watching a stopped thread un-stops it".
#[test]
fn watching_a_stopped_thread() {
    let mut world = called(&["a"]);
    world.control(InputBody::Stop);
    world.run();
    let root = world.root.clone();
    world.store.events(&root, 0, 100);
    world.store.history(&root);
    world.store.interactions(&root);
    world.store.threads(&root);
    world.advance(1_000_000);
    assert_eq!(world.store.claim(world.now), None);
    assert_eq!(world.thread_state(&root), ThreadState::Paused);
}
