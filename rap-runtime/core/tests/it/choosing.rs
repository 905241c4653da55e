//! Another model in mid-conversation: a control that a slice takes in, so that it is durable, explained and replayed
//! (P12; that all of this replays is asserted where the worlds are dropped).

use crate::world::{World, says, turn};
use rap_core::{
    InputBody, InputId, NewInput, Surface, ThreadState, TurnOutcome,
    replay::{Explanation, ThreadReplay},
};
use rap_types::ThreadId;
use serde_json::json;

fn choose(world: &mut World, thread: &ThreadId, key: &str, model: Option<&str>) {
    let body = InputBody::UseModel { model: model.map(str::to_owned) };
    let id = InputId::control(key);
    world.accept(NewInput { thread: thread.clone(), id, source: "test".into(), body, traceparent: None });
}

/// The models that were asked, by thread.
fn asked(world: &World) -> Vec<(&str, Option<&str>)> {
    world.requests.iter().map(|request| (request.thread.as_str(), request.model.as_deref())).collect()
}

#[test]
fn from_the_next_turn_on_and_back() {
    let mut world = World::new();
    let root = world.root.clone();
    world.model(["one", "two", "three"].map(says));
    world.user("a");
    world.run();
    choose(&mut world, &root, "x", Some("p/m"));
    choose(&mut world, &root, "x", Some("q/n"));
    world.run();
    assert_eq!(world.requests.len(), 1, "the choice alone asks nobody, and a key counts once");
    let view = world.store.history(&root).unwrap();
    assert_eq!(view.thread.row.model.as_deref(), Some("p/m"));
    world.user("b");
    world.run();
    choose(&mut world, &root, "y", None);
    world.user("c");
    world.run();
    assert_eq!(asked(&world), [("root", None), ("root", Some("p/m")), ("root", None)]);
    let shown: Vec<_> =
        world.shown().into_iter().filter(|what| matches!(what, Surface::Model { .. })).collect();
    let expected = [Some("p/m".to_owned()), None].map(|model| Surface::Model { model });
    assert_eq!(shown, expected, "people are told, once each");
}

/// It goes for the open threads below, and new ones begin with their parent's; below alone, it stays below.
#[test]
fn the_threads_below() {
    let mut world = World::new();
    let root = world.root.clone();
    let spawn = turn("", &[("spawn_thread", json!({"instructions": "x", "child_of": ["root"]}))]);
    world.model([spawn.clone(), says("at work"), says("spawned"), says("heard")]);
    world.user("go");
    world.run();
    let child = world.children()[0].clone();
    world.requests.clear();

    choose(&mut world, &root, "all", Some("p/m"));
    world.run();
    world.model([says("sure")]);
    world.user_of(&child, "hello");
    world.run();
    choose(&mut world, &child, "below", Some("q/n"));
    world.run();
    world.model([says("sure")]);
    world.user_of(&child, "hello again");
    world.run();
    let expected = [(child.as_str(), Some("p/m")), (child.as_str(), Some("q/n"))];
    assert_eq!(asked(&world), expected);

    world.requests.clear();
    world.model([spawn, says("at work"), says("spawned"), says("heard")]);
    world.user("another");
    world.run();
    let second = world.children()[1].clone();
    let of = |thread: &ThreadId| -> Vec<_> {
        asked(&world).into_iter().filter(|(id, _)| *id == thread.as_str()).map(|(_, model)| model).collect()
    };
    assert!(!of(&second).is_empty() && of(&second).iter().all(|model| *model == Some("p/m")));
    assert!(of(&root).iter().all(|model| *model == Some("p/m")));
}

/// What the former model asked to wait for is no matter of the new one's: it is asked at once.
#[test]
fn a_wait_of_the_former_model_ends() {
    let mut world = World::new();
    let root = world.root.clone();
    let later = world.now + 3_600_000;
    world.model([TurnOutcome::RetryAt { at: later, message: "the quota is used up".into() }]);
    world.user("a");
    world.run();
    choose(&mut world, &root, "x", Some("p/m"));
    world.model([says("here I am")]);
    world.run();
    assert_eq!(asked(&world), [("root", None), ("root", Some("p/m"))]);
    assert_eq!(world.told().last().map(String::as_str), Some("model: here I am []"));
}

/// Calls that are waited for are waited for still, and a stopped thread stays stopped.
#[test]
fn it_disturbs_nothing() {
    let mut world = World::new();
    let root = world.root.clone();
    world.model([turn("", &[("a", json!({}))]), says("done")]);
    world.user("go");
    world.run();
    choose(&mut world, &root, "x", Some("p/m"));
    world.run();
    assert_eq!(world.thread_state(&root), ThreadState::Waiting);
    world.result("a", "fine");
    world.run();
    assert_eq!(world.told()[2..], ["results: fine", "model: done []"], "no placeholder, no event");

    world.control(InputBody::Stop);
    world.run();
    choose(&mut world, &root, "y", Some("q/n"));
    world.run();
    assert_eq!(world.thread_state(&root), ThreadState::Paused);
    world.model([says("awake")]);
    world.user("on");
    world.run();
    assert_eq!(world.requests.last().unwrap().model.as_deref(), Some("q/n"));
}

/// P12: the record says why another model was asked, and a changed choice is found.
#[test]
fn a_choice_is_explained() {
    let mut world = World::new();
    let root = world.root.clone();
    choose(&mut world, &root, "x", Some("p/m"));
    world.model([says("hello")]);
    world.user("hi");
    world.run();
    let mut slices = world.store.slices(&root, 0, usize::MAX);
    let replay = |slices: &[rap_core::SliceView]| {
        let history = world.store.history(&root).unwrap();
        ThreadReplay::new(world.store.session(&root).unwrap(), history).slice(&slices[0])
    };
    let honest = replay(&slices);
    assert!(honest.verdict.is_same(), "{}", honest.verdict);
    let told = Explanation::new(&slices[0], &honest);
    assert_eq!(told.woke[0], "from now on p/m is to answer");
    slices[0].inputs[0].body = InputBody::UseModel { model: Some("q/n".into()) };
    let altered = replay(&slices);
    assert!(altered.verdict.to_string().contains("the model would be asked something else"));
}
