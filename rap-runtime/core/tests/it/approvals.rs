//! Calls that a person must allow first (CON-02), in all orders of people, results and events.

use crate::{
    situations::starts,
    world::{World, says, turn, with_text},
};
use rap_core::{
    Accepted, Answered, CallState, DeliveryKind, DestructivePolicy, InputBody, Interaction, Rules, Surface,
    ThreadState,
};
use serde_json::json;

fn asking() -> Rules {
    let mut rules = Rules::default();
    rules.destructive = DestructivePolicy::Ask;
    rules
}

/// The model calls `drop`, and others beside it.
fn asked(others: &[&str]) -> World {
    let mut world = World::with(asking());
    let calls: Vec<_> = ["drop"].iter().chain(others).map(|name| (*name, json!({"what": "all"}))).collect();
    world.model([turn("on it", &calls)]);
    world.user("go");
    world.run();
    world
}

fn answer(world: &mut World, selected: u64) -> Answered {
    let call = world.call("drop").id;
    let now = world.now;
    world.store.answer(&call, selected, now)
}

/// Nothing is sent before a person allows it; then it is a call like any other. The first answer wins.
#[test]
fn allowed() {
    let mut world = asked(&[]);
    assert_eq!(world.sent(DeliveryKind::Invocation).len(), 0);
    assert_eq!(world.state("drop"), CallState::AwaitingApproval);
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting);
    assert_eq!(world.store.next_due(), None, "P7: nothing runs while a person thinks");
    let row = world.call("drop");
    let question = Interaction::approval_of(&row).unwrap();
    let open = world.store.interactions(&world.root);
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].interaction, question);
    assert!(world.shown().contains(&question.surface()));

    assert_eq!(answer(&mut world, 2), Answered::NoSuchChoice(2));
    assert_eq!(answer(&mut world, 1), Answered::Accepted);
    assert_eq!(answer(&mut world, 0), Answered::Already);
    assert_eq!(world.store.interactions(&world.root), [], "answered");
    world.run();
    assert_eq!(world.sent(DeliveryKind::Invocation).len(), 1);
    assert_eq!(world.sent[0].body["arguments"], json!({"what": "all"}));
    assert_eq!(world.state("drop"), CallState::Pending);
    assert_eq!(answer(&mut world, 0), Answered::NoQuestion, "it is not asked any more");
    assert!(world.shown().contains(&Surface::Approved { call: row.id, allowed: true }));
    world.model([says("gone")]);
    world.result("drop", "dropped");
    world.run();
    assert_eq!(world.told()[2..], ["results: dropped", "model: gone []"]);
}

/// Declined, it never runs, and the model is told.
#[test]
fn declined() {
    let mut world = asked(&[]);
    assert_eq!(answer(&mut world, 0), Answered::Accepted);
    world.model([says("as you wish")]);
    world.run();
    starts(&world.told()[2], "results: Error: declined: the user does not allow this call");
    assert_eq!(world.state("drop"), CallState::Refused);
    assert_eq!(world.sent.len(), 0);
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
}

/// "An open one is declined when the user writes instead": whether the model still waits for it or has gone on.
#[test]
fn the_user_writes_instead() {
    let mut world = asked(&[]);
    world.model([says("then not")]);
    world.user("wait, something else");
    world.run();
    starts(&world.told()[2], "results: Error: declined: the user wrote instead");
    assert_eq!(world.state("drop"), CallState::Refused);
    assert_eq!(answer(&mut world, 1), Answered::NoQuestion);

    let mut world = asked(&["a"]);
    world.result("a", "1");
    world.run();
    world.model([says("went on")]);
    world.advance(30_000);
    world.run();
    assert_eq!(world.state("drop"), CallState::AwaitingApproval, "patience ends, the question does not");
    starts(&world.told()[2], "results: ~Not sent yet: a person must allow this call");
    world.model([says("noted")]);
    world.user("something else");
    world.run();
    starts(&world.told()[4], "event of drop: Error: declined: the user wrote instead");
    assert_eq!(world.told()[5..], ["Person: something else", "model: noted []"]);
    assert_eq!(world.sent(DeliveryKind::Invocation).len(), 1, "only `a` was ever sent");
}

/// After the model has gone on, the word of the person and the outcome come as events (P10).
#[test]
fn allowed_or_declined_after_the_model_went_on() {
    for allowed in [true, false] {
        let mut world = asked(&["a"]);
        world.result("a", "1");
        world.run();
        world.model([says("went on")]);
        world.advance(30_000);
        world.run();
        answer(&mut world, u64::from(allowed));
        if allowed {
            world.run();
            assert_eq!(world.state("drop"), CallState::Detached);
            assert_eq!(world.told().len(), 4, "the model hears of it when it has an outcome");
            world.result("drop", "dropped");
        }
        world.model([says("I see")]);
        world.run();
        let expected = if allowed {
            "event of drop: dropped"
        } else {
            "event of drop: Error: declined: the user does not"
        };
        starts(&world.told()[4], expected);
        assert_eq!(world.told()[5], "model: I see []");
        assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
    }
}

/// The patience for a call begins when it is allowed.
#[test]
fn patience_begins_with_the_word() {
    let mut world = asked(&["a"]);
    world.result("a", "1");
    world.run();
    world.advance(29_000);
    answer(&mut world, 1);
    world.run();
    world.advance(29_000);
    world.run();
    assert_eq!(world.told().len(), 2, "still waiting");
    world.model([says("both")]);
    world.result("drop", "dropped");
    world.run();
    assert_eq!(world.told()[2..], ["results: dropped | 1", "model: both []"]);
}

/// "No wait if all that is open is an approval": an event is told at once, and declines nothing.
#[test]
fn an_event_does_not_wait_for_an_approval() {
    let mut world = World::with(asking());
    world.model([turn("", &[("watch", json!({}))]), says("watching")]);
    world.user("watch");
    world.run();
    world.confirm("watch", "ok");
    world.run();
    world.model([turn("", &[("drop", json!({}))]), says("saw it")]);
    world.user("drop it");
    world.run();
    world.event_with("watch", "e1", |event| with_text(event, "psst").associative(true));
    world.run();
    assert_eq!(world.told().last().unwrap(), "model: saw it []");
    assert_eq!(world.state("drop"), CallState::AwaitingApproval);
}

/// A stop, a close and a cancel withdraw the question; no server hears of a call that was never sent.
#[test]
fn withdrawn() {
    for body in [InputBody::Stop, InputBody::Close] {
        let closes = body == InputBody::Close;
        let mut world = asked(&[]);
        world.control(body);
        world.run();
        assert_eq!(world.state("drop"), CallState::Cancelled);
        assert_eq!(world.store.interactions(&world.root), []);
        assert_eq!(answer(&mut world, 1), Answered::NoQuestion);
        assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 0);
        if !closes {
            assert_eq!(world.told()[2], "results: ~Error: cancelled; it was never sent");
        }
    }
}

/// Any tool can be made to ask, whatever it says of itself; with nobody to ask the policy decides at once.
#[test]
fn any_tool_can_ask() {
    for (policy, sent, told) in [
        (DestructivePolicy::Ask, 0, None),
        (DestructivePolicy::Allow, 1, None),
        (DestructivePolicy::Deny, 0, Some("results: Error: declined: a may destroy something")),
    ] {
        let mut rules = Rules::default();
        rules.destructive = policy;
        rules.ask_for = vec!["a".into()];
        let mut world = World::with(rules);
        world.model([turn("", &[("a", json!({}))])]);
        if told.is_some() {
            world.model([says("no then")]);
        }
        world.user("go");
        world.run();
        assert_eq!(world.sent(DeliveryKind::Invocation).len(), sent, "{policy:?}");
        if let Some(told) = told {
            starts(&world.told()[2], told);
        }
    }
}

/// An outcome for a call that was never sent reaches no conversation (RES-08).
#[test]
fn an_outcome_before_the_word() {
    let mut world = asked(&[]);
    assert!(matches!(world.result("drop", "dropped"), Accepted::Discarded(_)));
    assert_eq!(world.store.dead_letters().len(), 1);
}
