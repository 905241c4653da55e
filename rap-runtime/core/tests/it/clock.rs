//! A clock that was set back while nobody ran: nothing waits for the difference (P7, P9), and what happened replays (P12;
//! asserted where the worlds are dropped).

use crate::{
    situations::called,
    world::{World, says, turn, with_text},
};
use rap_core::{
    CallState, DeliveryKind, InputBody, Millis, Settlement, ThreadState, TurnOutcome,
    replay::{Explanation, ThreadReplay},
};
use serde_json::json;

const HOUR: i64 = 3_600_000;

/// The program ends, the clock is set back, the program starts.
fn set_back(world: &mut World, by: i64) -> Option<i64> {
    world.store.crash();
    world.advance(-by);
    world.store.clock_starts(world.now)
}

#[test]
fn what_was_due_is_due() {
    let mut world = World::new();
    world.user("hello");
    assert_eq!(set_back(&mut world, 2 * HOUR), Some(2 * HOUR));
    world.model([says("hello")]);
    world.run();
    assert_eq!(world.requests.len(), 1);
}

#[test]
fn patience_lasts_no_longer() {
    let mut world = called(&["a", "b"]);
    world.result("a", "1");
    world.run();
    world.advance(10_000);
    set_back(&mut world, 2 * HOUR);
    world.run();
    // Nobody knows how long nothing happened: it is as if no time had passed since something was written.
    assert_eq!(world.store.next_due(), Some(world.now + 30_000));
    world.advance(30_000);
    world.model([says("on")]);
    world.run();
    assert_eq!(world.state("b"), CallState::Detached);
}

/// `sleep` ends after its span; `sleep_until` at its time, whatever the clock was before.
#[test]
fn sleeps() {
    let mut world = World::new();
    let time = json!({"date": "1970-01-01", "time": "05:00", "timezone": "UTC"});
    world.model([turn("", &[("sleep", json!({"seconds": 600})), ("sleep_until", time)])]);
    world.user("sleep");
    world.run();
    let began = world.now;
    world.user("still there?");
    world.model([says("yes")]);
    world.run();
    assert_eq!(set_back(&mut world, 2 * HOUR), Some(2 * HOUR));
    world.run();
    assert_eq!(world.call("sleep").due_at, Some(began + (600_000 - 2 * HOUR)));
    assert_eq!(world.call("sleep_until").due_at, Some(Millis(5 * HOUR)));
    assert_eq!(world.store.next_due(), Some(world.now + 600_000));
    world.advance(600_000);
    world.model([says("awake")]);
    world.run();
    assert_eq!(world.told().last().map(String::as_str), Some("model: awake []"));
    assert_eq!(world.store.next_due(), Some(Millis(5 * HOUR)));
}

/// What began under a clock that was right ends when it was to, however far that ran ahead in between: a sleep, a turn's
/// patience; a model that asked to wait is asked early at most.
#[test]
fn what_began_before_the_clock_ran_ahead() {
    let day = 24 * HOUR;
    let mut world = World::new();
    world.model([turn("", &[("sleep", json!({"seconds": 7 * 24 * 60 * 60}))]), says("yes")]);
    world.user("nap");
    world.run();
    let began = world.now;
    world.advance(day);
    world.user("still there?");
    world.run();
    world.advance(1_000 - day);
    world.store.crash();
    assert_eq!(world.store.clock_starts(world.now), Some(day - 1_000));
    world.run();
    assert_eq!(world.store.next_due(), Some(began + 7 * day), "not a day early");

    let mut world = called(&["a", "b"]);
    world.result("a", "1");
    world.run();
    let over = world.store.next_due();
    world.advance(day);
    world.store.show_event(
        &rap_core::SurfaceEvent { thread: world.root.clone(), what: rap_core::Surface::Resting },
        world.now,
    );
    world.advance(1_000 - day);
    world.store.crash();
    assert!(world.store.clock_starts(world.now).is_some());
    world.run();
    assert_eq!(world.store.next_due(), over, "patience is what is left of it");
}

#[test]
fn a_model_that_asked_to_wait() {
    let mut world = World::new();
    let later = world.now + HOUR;
    world.model([TurnOutcome::RetryAt { at: later, message: "the quota is used up".into() }]);
    world.user("a");
    world.run();
    set_back(&mut world, 2 * HOUR);
    world.run();
    assert_eq!(world.requests.len(), 1);
    assert_eq!(world.store.next_due(), Some(world.now + HOUR));
    world.advance(HOUR);
    world.model([says("here I am")]);
    world.run();
    assert_eq!(world.requests.len(), 2);
}

/// An event that waits for calls has waited enough when it is said to have come long after now.
#[test]
fn an_event_that_waits_for_calls() {
    let mut world = World::new();
    world.model([turn("", &[("watch", json!({}))]), turn("", &[("a", json!({}))])]);
    world.user("watch");
    world.run();
    world.confirm("watch", "watching");
    world.run();
    world.event_with("watch", "1", |event| with_text(event, "news").associative(true));
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Waiting);
    set_back(&mut world, 2 * HOUR);
    world.model([says("I see")]);
    world.run();
    assert_eq!(world.state("a"), CallState::Detached);
    assert!(world.told().contains(&"event of watch: news".to_owned()), "{:?}", world.told());
}

/// A request of the outbox waits no longer for its next try. (An invocation is due at once for whoever comes next.)
#[test]
fn a_request_that_is_tried_again() {
    let mut world = World::new();
    world.advance(3 * HOUR);
    world.offline = true;
    world.model([turn("", &[("a", json!({}))])]);
    world.user("go");
    world.run();
    let held = world.held.pop().unwrap();
    assert_eq!(held.kind, DeliveryKind::Invocation);
    world.store.begin(held.id);
    world.store.settle(held.id, Settlement::RetryAt(world.now + 5_000), world.now);
    // Not to before the beginning of all time, where nothing is due.
    world.advance(-600_000);
    assert_eq!(world.store.clock_starts(world.now), Some(600_000));
    assert!(world.store.take(world.now + 4_999, 10).is_empty());
    assert_eq!(world.store.take(world.now + 5_000, 10).len(), 1);
    world.store.crash();
    let owed = world.store.take(world.now, 10);
    assert_eq!((owed.len(), owed[0].begun), (1, true), "taken up without waiting");
}

/// A stopped thread hears of it when it goes on, with all below it; nothing wakes it before.
#[test]
fn a_stopped_thread() {
    let mut world = World::new();
    let spawn = json!({"instructions": "x", "child_of": ["root"]});
    world.model([turn("", &[("spawn_thread", spawn)])]);
    world.user("go");
    assert!(world.slice());
    let sleep = turn("", &[("sleep", json!({"seconds": 60}))]);
    world.model([sleep.clone(), sleep]);
    world.run();
    world.control(InputBody::Stop);
    world.run();
    set_back(&mut world, 2 * HOUR);
    assert_eq!(world.store.claim(world.now), None);
    world.model([says("on")]);
    world.user("go on");
    world.run();
    assert_eq!(world.store.next_due(), Some(world.now + 60_000), "the child's sleep");
}

/// A clock that was not set back, or by less than clocks differ, changes nothing; who has heard of it hears it once.
#[test]
fn told_once() {
    let mut world = called(&["a", "b"]);
    world.result("a", "1");
    world.run();
    let before = world.store.slices(&world.root, 0, 100).len();
    for (by, told) in [(-HOUR, None), (HOUR, None), (999, None), (1, Some(1_000)), (0, Some(1_000))] {
        assert_eq!(set_back(&mut world, by), told, "{by}");
    }
    world.run();
    assert_eq!(world.store.slices(&world.root, 0, 100).len(), before + 1);
}

/// P12: it is an input like any other, so it is explained.
#[test]
fn it_is_explained() {
    let mut world = World::new();
    world.model([turn("", &[("sleep", json!({"seconds": 600}))])]);
    world.user("sleep");
    world.run();
    set_back(&mut world, 2 * HOUR);
    world.run();
    let slices = world.store.slices(&world.root, 0, 100);
    let history = world.store.history(&world.root).unwrap();
    let mut replay = ThreadReplay::new(world.store.session(&world.root).unwrap(), history);
    replay.slice(&slices[0]);
    let replayed = replay.slice(&slices[1]);
    let told = Explanation::new(&slices[1], &replayed);
    assert_eq!(told.woke, ["the clock was set back by 7200 s while nothing ran"]);
}
