//! Compaction: when it starts, what it covers, what the model sees then, and what must not get lost by it.

use crate::{
    situations::{starts, subscribed},
    world::{World, says, turn, with_text},
};
use rap_core::{
    Compaction, Compactor, CompactorStep, Entry, InputBody, ModelTurn, Surface, ThreadState, TurnOutcome,
    Usage,
};
use rap_types::ContentPart;
use serde_json::json;

/// A turn of text after which the window of 100 tokens holds so many.
fn says_at(text: &str, tokens: u64) -> TurnOutcome {
    TurnOutcome::Turn(ModelTurn {
        text: text.into(),
        usage: Usage { input: tokens, output: 0 },
        model: "test".into(),
        window: Some(100),
        ..ModelTurn::default()
    })
}

fn overflow() -> TurnOutcome {
    TurnOutcome::Overflow { message: "the request is too long".into() }
}

/// What the model was shown last.
fn shown(world: &World) -> Vec<String> {
    world.requests.last().unwrap().history.iter().map(|entry| text(entry)).collect()
}

fn text(entry: &Entry) -> String {
    match entry {
        Entry::User(user) => match &user.content[0] {
            ContentPart::Text(text) => text.text.clone(),
            _ => panic!("no text"),
        },
        Entry::Turn(turn) => format!("model: {}", turn.text),
        Entry::Event(event) => format!("event of {}", event.original_tool_name),
        Entry::Results { .. } => "results".into(),
        other => panic!("{other:?} is shown to a model"),
    }
}

fn state(world: &World) -> Compaction {
    world.store.history(&world.root).unwrap().thread.row.compaction
}

/// A thread with two exchanges, whose window is full.
fn full() -> World {
    let mut world = World::new();
    world.model([says_at("hello", 10), says_at("sure", 75)]);
    world.user("hi");
    world.run();
    world.user("go on");
    world.run();
    assert_eq!(state(&world), Compaction::Asked, "75 %");
    world
}

/// At 75 % of the window a summary takes the place of what came before the last message on the user's side; people
/// still see all, and nothing is deleted.
#[test]
fn at_three_quarters() {
    let mut world = full();
    world.summaries.push_back(says("they said hi"));
    world.run();
    assert_eq!(state(&world), Compaction::Fresh);
    assert_eq!(world.requests.len(), 2, "no completion of its own");
    let asked: Vec<_> = world.summarised[0].history.iter().map(|entry| text(entry)).collect();
    assert_eq!(asked[..2], ["hi", "model: hello"], "never the last message on the user's side");
    starts(&asked[2], "Summarise the conversation above");
    world.model([says_at("here", 20)]);
    world.user("and now?");
    world.run();
    let seen = shown(&world);
    starts(&seen[0], "Summary of the conversation so far");
    assert!(seen[0].ends_with("they said hi"));
    assert_eq!(seen[1..], ["go on", "model: sure", "and now?"]);
    assert_eq!(
        world.told(),
        [
            "Person: hi",
            "model: hello []",
            "Person: go on",
            "model: sure []",
            "summary: they said hi",
            "Person: and now?",
            "model: here []"
        ]
    );
    assert!(world.shown().contains(&Surface::Compacted { text: "they said hi".into() }));
    assert_eq!(state(&world), Compaction::Idle, "a turn has come");
}

/// A summary of a summary: it covers what the first one covered and what came after.
#[test]
fn a_second_summary_begins_with_the_first() {
    let mut world = full();
    world.summaries.push_back(says("first"));
    world.run();
    world.model([says_at("x", 20), says_at("y", 90)]);
    world.user("three");
    world.run();
    world.user("four");
    world.run();
    world.summaries.push_back(says("second"));
    world.run();
    let asked: Vec<_> = world.summarised[1].history.iter().map(|entry| text(entry)).collect();
    assert!(asked[0].ends_with("first"));
    assert_eq!(asked[1..5], ["go on", "model: sure", "three", "model: x"]);
    world.model([says_at("z", 20)]);
    world.user("five");
    world.run();
    let seen = shown(&world);
    assert!(seen[0].ends_with("second"));
    assert_eq!(seen[1..], ["four", "model: y", "five"]);
}

/// On request of a person, and never of nothing.
#[test]
fn on_request() {
    let mut world = World::new();
    world.model([says("hello"), says("sure")]);
    world.user("hi");
    world.run();
    world.user("go on");
    world.run();
    world.control(InputBody::Compact);
    world.summaries.push_back(says("they said hi"));
    world.run();
    assert_eq!(state(&world), Compaction::Fresh);
    world.control(InputBody::Compact);
    world.summaries.push_back(says("not asked for"));
    world.run();
    assert_eq!(world.summarised.len(), 1, "there is nothing older than the summary");
    assert_eq!(state(&world), Compaction::Idle);
}

/// A request that does not fit: the history is summarised, then the model is asked again, with the same message.
#[test]
fn an_overflow_is_summarised_and_tried_again() {
    let mut world = World::new();
    world.model([says("hello"), overflow()]);
    world.user("hi");
    world.run();
    world.user("go on");
    world.run();
    assert_eq!(state(&world), Compaction::Needed);
    assert_eq!(world.thread_state(&world.root), ThreadState::Running, "it owes an answer");
    assert_eq!(world.store.next_due(), None, "and waits for the summary, not for the clock");
    world.user("are you there?");
    world.run();
    assert_eq!(world.requests.len(), 2, "the model is not asked before");
    world.summaries.push_back(says("they said hi"));
    world.model([says("both")]);
    world.run();
    let seen = shown(&world);
    assert!(seen[0].ends_with("they said hi"));
    assert_eq!(seen[1..], ["are you there?"]);
    assert!(world.summarised[0].history.iter().any(|entry| text(entry) == "go on"));
}

/// An overflow right after a compaction is an error, never a loop; the next input tries again.
#[test]
fn an_overflow_right_after_is_an_error() {
    let mut world = World::new();
    world.model([says("hello"), overflow(), overflow()]);
    world.user("hi");
    world.run();
    world.user("go on");
    world.summaries.push_back(says("they said hi"));
    world.run();
    assert_eq!(world.requests.len(), 3);
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
    assert!(
        world
            .shown()
            .iter()
            .any(|what| matches!(what, Surface::Error { text } if text.contains("just summarised")))
    );
    world.model([says("ah")]);
    world.user("shorter");
    world.run();
    assert_eq!(world.told().last().unwrap(), "model: ah []");
}

/// Where nothing can be summarised, or the model fails at it, the thread rests with an error and the next input
/// tries again.
#[test]
fn a_compaction_that_comes_to_nothing() {
    let mut world = World::new();
    world.model([overflow()]);
    world.user("far too long");
    world.summaries.push_back(says("not asked for"));
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
    assert!(
        world
            .shown()
            .iter()
            .any(|what| matches!(what, Surface::Error { text } if text.contains("nothing older")))
    );

    let mut world = full();
    world.summaries.push_back(TurnOutcome::Failed { message: "down".into() });
    world.run();
    assert_eq!(state(&world), Compaction::Idle, "beside the work: nobody is bothered");
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
}

/// The trap "compaction that needs a finished turn, on a thread whose turn cannot finish", and "after compaction
/// the history begins with an assistant message": with a call open, the history before its turn is summarised; the
/// summary is stored when the turn has its results.
#[test]
fn a_compaction_while_a_call_is_open() {
    let mut world = full();
    world.model([turn("working", &[("build", json!({}))])]);
    world.user("build it");
    world.run();
    world.summaries.push_back(says("they said hi and more"));
    world.run();
    assert_eq!(world.told().len(), 6, "nothing comes between a call and its result");
    world.model([says_at("built", 30)]);
    world.result("build", "ok");
    world.run();
    let seen = shown(&world);
    assert!(seen[0].ends_with("they said hi and more"));
    assert_eq!(seen[1..], ["build it", "model: working", "results"]);

    // The last message on the user's side may be results: their turn is kept with them, and the summary is on the
    // user's side, so that a strict provider takes it (checked at every request).
    world.model([turn("again", &[("a", json!({}))])]);
    world.user("once more");
    world.run();
    world.control(InputBody::Compact);
    world.model([overflow()]);
    world.result("a", "1");
    world.run();
    world.summaries.push_back(says("all of it"));
    world.model([says("done")]);
    world.run();
    let seen = shown(&world);
    assert!(seen[0].ends_with("all of it"));
    assert_eq!(seen[1..], ["model: again", "results"]);
}

/// The trap "after compaction, events and child reports whose original call is no longer in memory: dropped":
/// subscriptions, late outcomes and children are rows of their own.
#[test]
fn what_comes_after_a_compaction_is_still_known() {
    let mut world = subscribed();
    world.model([turn("working", &[("a", json!({}))]), says("hm")]);
    world.user("work");
    world.run();
    world.user("hurry");
    world.run();
    world.control(InputBody::Compact);
    world.summaries.push_back(says("they subscribed and called a"));
    world.run();
    world.model([says("both")]);
    world.event_with("watch", "e1", |event| with_text(event, "psst").associative(true));
    world.result("a", "1");
    world.run();
    let seen = shown(&world);
    assert!(seen[0].ends_with("they subscribed and called a"));
    assert!(
        seen.contains(&"event of watch".to_owned()) && seen.contains(&"event of a".to_owned()),
        "{seen:?}"
    );
}

/// P9: a message that comes together with the summary is answered by the next slice, whichever of the two came first.
/// Found by the simulation (seed 1205): the slice that stored the summary left nothing due.
#[test]
fn a_message_beside_a_summary_is_answered() {
    for message_first in [true, false] {
        let mut world = full();
        let thread = world.store.claim_compaction().unwrap();
        let view = world.store.history(&thread).unwrap();
        let session = world.store.session(&thread).unwrap();
        let mut compactor = Compactor::new(session, &view, None);
        assert!(matches!(compactor.step(), CompactorStep::Ask(_)));
        compactor.turn(says("they said hi"));
        let CompactorStep::Done(summary) = compactor.step() else { panic!() };
        if message_first {
            world.user("still there?");
        }
        world.accept(*summary);
        if !message_first {
            world.user("still there?");
        }
        world.store.release_compaction(&thread);
        world.model([says_at("yes", 20)]);
        world.run();
        assert_eq!(world.told().last().unwrap(), "model: yes []", "{message_first}");
        assert!(shown(&world)[0].ends_with("they said hi"), "{message_first}");
    }
}

/// A child uses the summaries that were committed before its spawn, and its own.
#[test]
fn a_child_and_summaries() {
    let mut world = full();
    let spawn = ("spawn_thread", json!({"instructions": "count", "child_of": ["root"]}));
    world.model([turn("", std::slice::from_ref(&spawn)), says("before"), says("spawned"), says("heard")]);
    world.user("split");
    world.run();
    let early = world.children()[0].clone();
    world.summaries.push_back(says("the summary"));
    world.run();
    world.model([turn("", &[spawn]), says("after"), says("spawned"), says("heard")]);
    world.user("split again");
    world.run();
    let late = world.children()[1].clone();
    let request = |thread| world.requests.iter().rev().find(|request| request.thread == thread).unwrap();
    assert_eq!(text(&request(early).history[0]), "hi");
    assert!(text(&request(late.clone()).history[0]).ends_with("the summary"));

    // Its own compaction covers what it inherited.
    world.model([says_at("one", 20), says_at("two", 90)]);
    world.user_of(&late, "one?");
    world.run();
    world.user_of(&late, "two?");
    world.run();
    world.summaries.push_back(says("its own"));
    world.model([says_at("three", 20)]);
    world.run();
    world.user_of(&late, "three?");
    world.run();
    let last = world.requests.iter().rev().find(|request| request.thread == late).unwrap();
    let seen: Vec<_> = last.history.iter().map(|entry| text(entry)).collect();
    assert!(seen[0].ends_with("its own"), "{seen:?}");
    assert_eq!(seen[1..], ["two?", "model: two", "three?"]);
}

/// A kill while the model summarises: it is asked once more, and the summary is stored once (P2, P6).
#[test]
fn a_kill_during_a_compaction() {
    let mut world = full();
    let claimed = world.store.claim_compaction().unwrap();
    assert_eq!(world.store.claim_compaction(), None, "one job for a thread");
    let view = world.store.history(&claimed).unwrap();
    let session = world.store.session(&claimed).unwrap();
    let mut first = Compactor::new(session, &view, None);
    assert!(matches!(first.step(), CompactorStep::Ask(_)));
    world.store.crash();
    world.summaries.push_back(says("the second try"));
    world.run();
    first.turn(says("the first try, late"));
    let CompactorStep::Done(input) = first.step() else { panic!() };
    assert_eq!(world.accept(*input), rap_core::Accepted::Duplicate);
    world.run();
    assert_eq!(world.told().iter().filter(|line| line.starts_with("summary")).count(), 1);
}

/// "A request that does not fit has its oldest tool results replaced by a note and is summarised in pieces."
#[test]
fn what_does_not_fit_is_shortened_and_done_in_pieces() {
    let mut world = World::new();
    let long = "x".repeat(6_000);
    world.model([
        turn("", &[("a", json!({}))]),
        says("first"),
        turn("", &[("b", json!({}))]),
        says("second"),
    ]);
    for (ask, tool) in [("one", "a"), ("two", "b")] {
        world.user(ask);
        world.run();
        world.result(tool, &long);
        world.run();
    }
    let view = world.store.history(&world.root).unwrap();
    let session = world.store.session(&world.root).unwrap();
    let sizes = |request: &rap_core::ModelRequest| {
        let bytes = |entry: &Entry| serde_json::to_string(entry).unwrap().len();
        request.history.iter().map(|entry| bytes(entry)).sum::<usize>()
    };
    // Room for one long result, then for none, then for hardly anything.
    for (window, most, asks) in [(4_000, 9_000, 1), (1_000, 3_500, 1), (60, 1_800, 2)] {
        let mut compactor = Compactor::new(session.clone(), &view, Some(window));
        let mut asked = 0;
        loop {
            match compactor.step() {
                CompactorStep::Ask(request) => {
                    assert!(sizes(&request) <= most, "{window}: {}", sizes(&request));
                    crate::strict::check(&request);
                    asked += 1;
                    compactor.turn(says("part"));
                }
                CompactorStep::Done(input) => {
                    assert_eq!(input.body.kind(), "summary");
                    break;
                }
            }
        }
        assert!(asked >= asks, "{window}: {asked}");
    }
    // A model that finds every request too long ends it.
    let mut compactor = Compactor::new(session, &view, None);
    for _ in 0..20 {
        match compactor.step() {
            CompactorStep::Ask(_) => compactor.turn(overflow()),
            CompactorStep::Done(input) => {
                assert_eq!(input.body.kind(), "not_compacted");
                return;
            }
        }
    }
    panic!("it goes on for ever");
}
