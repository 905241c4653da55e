//! What waits, for what, and for how long: a model that is to be asked later, events without room, calls that ask
//! people something, requests that nobody began to send, and what is kept only up to a limit.

use crate::{
    situations::{called, starts, subscribed},
    world::{World, call_id, says, turn, with_text},
};
use rap_core::{
    DeliveryKind, InputBody, InputId, Interaction, Millis, NewInput, Rules, Settlement, ThreadState,
    TurnOutcome,
};
use rap_types::{HttpUrl, SubscriptionEvent, ToolResult};
use serde_json::{Map, json};

/// 2-runtime "a user message brings it forward": nothing else does. An event that comes meanwhile is in history
/// when the model is asked.
#[test]
fn only_a_person_brings_a_retry_forward() {
    let overloaded = |at| TurnOutcome::RetryAt { at, message: "overloaded".into() };
    let mut world = subscribed();
    let at = world.now + 60_000;
    world.model([overloaded(at)]);
    world.user("hello");
    world.run();
    let asked = world.requests.len();
    world.advance(1_000);
    world.event_with("watch", "e1", |event| with_text(event, "psst").associative(true));
    world.run();
    assert_eq!(world.requests.len(), asked, "an event does not ask the model again");
    assert_eq!(world.store.next_due(), Some(at), "its time still stands");
    world.model([says("both")]);
    world.advance(59_000);
    world.run();
    assert_eq!(world.told()[4..], ["Person: hello", "event of watch: psst", "model: both []"]);

    let at = world.now + 60_000;
    world.model([overloaded(at)]);
    world.user("and now?");
    world.run();
    world.model([says("here")]);
    world.advance(1_000);
    world.user("well?");
    world.run();
    assert_eq!(world.told()[7..], ["Person: and now?", "Person: well?", "model: here []"]);
    assert_eq!(world.store.next_due(), None);
}

/// At the limit of open threads an event stays in the inbox, with nothing due (P7), until a thread closes; what has
/// gathered of one subscription then shares a thread.
#[test]
fn events_without_room_wait_for_a_thread_to_close_and_share_one() {
    let mut rules = Rules::default();
    rules.open_threads = 2;
    let mut world = World::with(rules);
    world.model([turn("", &[("watch", json!({}))]), says("watching")]);
    world.user("watch");
    world.run();
    world.confirm("watch", "ok");
    world.run();
    world.model([turn("", &[("build", json!({}))])]);
    world.event("watch", "e1", "one");
    world.run();
    let first = world.children()[0].clone();
    assert_eq!(world.thread_state(&first), ThreadState::Waiting);

    for (id, text) in [("e2", "two"), ("e3", "three")] {
        world.event("watch", id, text);
        world.run();
    }
    world.event_with("watch", "e4", |event| with_text(event, "four").last(true));
    world.run();
    assert_eq!(world.children().len(), 1);
    assert_eq!(world.store.next_due(), None, "nothing is looked at again before there is room");
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting);

    let close = InputBody::Close;
    let id = InputId::control("close the first");
    world.accept(NewInput { thread: first, id, source: "test".into(), body: close, traceparent: None });
    world.model([says("nothing to do")]);
    world.run();
    let children = world.children();
    assert_eq!(children.len(), 2, "the three share one");
    let told = world.told_of(&children[1]);
    assert_eq!(told[4..7], ["event of watch: two", "event of watch: three", "event of watch: four"]);
    starts(&told[7], &format!("Runtime: You are thread {}", children[1]));
    assert_eq!(world.thread_state(&children[1]), ThreadState::Closed);
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting);
    assert_eq!(world.event("watch", "e5", "late"), rap_core::Accepted::Ended, "SUB-06: the last one counted");
    assert_eq!(world.store.dead_letters(), []);
}

/// A thread that closed while a slice found no room: the slice's commit makes the thread due at once.
#[test]
fn room_that_came_while_the_slice_ran() {
    let mut rules = Rules::default();
    rules.open_threads = 2;
    let mut world = World::with(rules);
    world.model([turn("", &[("watch", json!({}))]), says("watching")]);
    world.user("watch");
    world.run();
    world.confirm("watch", "ok");
    world.run();
    world.model([turn("", &[("build", json!({}))])]);
    world.event("watch", "e1", "one");
    world.run();
    let first = world.children()[0].clone();

    world.event("watch", "e2", "two");
    let claim = world.store.claim(world.now).unwrap();
    let snapshot = world.store.load(&claim).unwrap();
    let id = InputId::control("close");
    world.accept(NewInput {
        thread: first,
        id,
        source: "test".into(),
        body: InputBody::Close,
        traceparent: None,
    });
    assert!(world.slice(), "the child closes");
    let mut machine = rap_core::SliceMachine::new(snapshot, rap_core::Moment { now: world.now, seed: 1 });
    let rap_core::Step::Commit(commit) = machine.step() else { panic!() };
    assert_eq!(commit.update.waits_for_room, Some(2));
    let committed = world.store.commit(&claim, *commit, world.now).unwrap();
    assert_eq!(committed.due_at, Some(world.now));
    world.store.release(&claim);
    world.model([says("noted")]);
    world.run();
    assert_eq!(world.children().len(), 2);
}

/// A parked event waits for its call, which may take days: nothing of it is due, so nothing of it runs.
#[test]
fn a_parked_event_keeps_no_thread_running() {
    let mut world = called(&["watch"]);
    world.event("watch", "e1", "early");
    assert_eq!(world.thread_state(&world.root), ThreadState::Running, "nobody has looked at it yet");
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting);
    assert_eq!(world.store.next_due(), None);
    world.model([says("hm"), says("oh")]);
    world.user("hurry");
    world.run();
    world.undelivered("watch", true);
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting, "parked with a call presumed lost");
}

/// "No wait if all that is open is a choice, an OAuth": whatever comes is not held back by a call that waits for a
/// person, whether it asked before or asks now.
#[test]
fn a_call_that_asks_a_person_holds_nothing_back() {
    for asks_first in [true, false] {
        let mut world = subscribed();
        world.model([turn("working", &[("a", json!({}))])]);
        world.user("work");
        world.run();
        let question = Interaction::Choice {
            call: world.call("a").id,
            prompt: "Sure?".into(),
            choices: vec!["no".into(), "yes".into()],
            default: 0,
            response_url: HttpUrl::new("http://one/answer").unwrap(),
        };
        let (root, now) = (world.root.clone(), world.now);
        if asks_first {
            world.store.interact(&root, question.clone(), now);
        }
        world
            .event_with("watch", "e1", |event: SubscriptionEvent| with_text(event, "psst").associative(true));
        if !asks_first {
            world.run();
            assert_eq!(world.told().len(), 6, "held back for a call that may soon end");
            world.store.interact(&root, question, now);
        }
        world.model([says("saw it")]);
        world.run();
        assert_eq!(world.told()[7..], ["event of watch: psst", "model: saw it []"], "{asks_first}");
    }
}

/// CAN-01: a stop takes back the calls that nobody began to send: no server gets a call and then its cancel.
#[test]
fn a_stop_takes_back_calls_that_were_not_begun() {
    let mut world = World::new();
    world.offline = true;
    world.model([turn("", &[("a", json!({})), ("b", json!({}))])]);
    world.user("go");
    world.run();
    assert_eq!(world.held.len(), 2, "a sender has them, and waits for the server");
    let (a, b) = (world.held[0].id, world.held[1].id);
    assert!(world.store.begin(a));
    world.control(InputBody::Stop);
    world.run();
    assert!(!world.store.begin(b), "it must not be sent any more");
    world.offline = false;
    world.store.settle(a, Settlement::Delivered, world.now);
    world.run();
    let cancelled: Vec<_> = world
        .sent
        .iter()
        .filter(|d| d.kind == DeliveryKind::CancelToolCall)
        .map(|d| d.call.clone())
        .collect();
    let call = world.call("a").id;
    assert_eq!(cancelled, [Some(call.clone()), Some(call)], "the one that was begun, at both servers");
}

/// TRN-03: the two minutes of calls that wait behind a probe pass all the same, though they were never begun; what
/// never left is refused, not presumed lost.
#[test]
fn the_window_of_calls_that_wait_behind_a_probe() {
    let mut world = World::new();
    world.offline = true;
    world.model([turn("", &[("a", json!({}))])]);
    world.user("go");
    world.run();
    let first_taken = world.now;
    for _ in 0..12 {
        let held = world.held.pop().unwrap();
        let back = world.now + 10_000;
        world.store.settle(held.id, Settlement::RetryAt(back), world.now);
        world.advance(10_000);
        world.run();
    }
    let held = world.held.pop().unwrap();
    assert_eq!((held.attempts, held.begun), (0, false));
    assert_eq!(world.now - held.first_attempt.unwrap(), 120_000);
    assert_eq!(held.first_attempt, Some(first_taken));
    // A crash of the whole house begins the window anew.
    world.store.crash();
    world.advance(3_600_000);
    assert_eq!(world.store.take(world.now, 1)[0].first_attempt, None);
}

/// Views are bounded: one more than the limit, and the one that was longest without an update goes.
#[test]
fn views_are_bounded() {
    let mut rules = Rules::default();
    rules.views = 2;
    let mut world = World::with(rules);
    let root = world.root.clone();
    for name in ["one", "two", "one", "three"] {
        let view = Interaction::View { view_type: name.into(), content: Map::new() };
        world.store.interact(&root, view, Millis(1));
    }
    let mut kept: Vec<String> = world
        .store
        .interactions(&root)
        .into_iter()
        .map(|open| match open.interaction {
            Interaction::View { view_type, .. } => view_type,
            other => panic!("{other:?}"),
        })
        .collect();
    kept.sort();
    assert_eq!(kept, ["one", "three"]);
}

/// Dead letters are bounded: one more than the limit, and the thread's oldest goes.
#[test]
fn dead_letters_are_bounded() {
    let mut rules = Rules::default();
    rules.dead_letters = 2;
    let mut world = World::with(rules);
    for call in ["x1", "x2", "x3"] {
        let unknown = ToolResult::text(world.root.clone(), call_id(call), "x");
        world.accept(NewInput::result(unknown, None));
    }
    let kept: Vec<_> = world.store.dead_letters().into_iter().map(|letter| letter.what).collect();
    assert_eq!(kept, ["outcome:x2", "outcome:x3"]);
}
