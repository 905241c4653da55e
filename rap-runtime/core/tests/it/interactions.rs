//! Views, choices and authorizations: kept, shown, answered once, gone with their call.

use crate::world::{World, says, turn};
use rap_core::{Accepted, Answered, DeliveryKind, Interaction, Surface};
use rap_types::{HttpUrl, ThreadId};
use serde_json::{Map, json};

fn asked() -> World {
    let mut world = World::new();
    world.model([turn("", &[("build", json!({}))])]);
    world.user("build");
    world.run();
    world
}

fn question(world: &World) -> Interaction {
    Interaction::Choice {
        call: world.call("build").id,
        prompt: "Sure?".into(),
        choices: vec!["no".into(), "yes".into()],
        default: 0,
        response_url: HttpUrl::new("http://one/answer?t=1").unwrap(),
    }
}

/// CHO-01, CHO-04: the first answer wins, an index that is none of the choices is refused.
#[test]
fn a_choice_is_answered_once() {
    let mut world = asked();
    let (root, now, asks) = (world.root.clone(), world.now, question(&world));
    let call = world.call("build").id;
    assert_eq!(world.store.answer(&call, 0, now), Answered::NoQuestion);
    assert_eq!(world.store.interact(&root, asks.clone(), now), Accepted::Accepted);
    assert_eq!(world.store.interact(&root, asks, now), Accepted::Duplicate, "a re-sent question");
    assert_eq!(world.store.interactions(&root).len(), 1);
    assert_eq!(world.store.answer(&call, 2, now), Answered::NoSuchChoice(2));
    assert_eq!(world.store.answer(&call, 1, now), Answered::Accepted);
    assert_eq!(world.store.answer(&call, 0, now), Answered::Already);
    world.run();
    let sent = world.sent.iter().find(|delivery| delivery.kind == DeliveryKind::ChoiceAnswer).unwrap();
    assert_eq!(sent.body, json!({"id": call, "selected": 1}));
    assert_eq!(sent.url.as_str(), "http://one/answer?t=1");
    assert_eq!(world.store.interactions(&root).len(), 0);
}

/// A question goes with its call.
#[test]
fn a_question_ends_with_its_call() {
    let mut world = asked();
    let (root, now, asks) = (world.root.clone(), world.now, question(&world));
    let call = world.call("build").id;
    world.store.interact(&root, asks.clone(), now);
    world.model([says("built")]);
    world.result("build", "ok");
    world.run();
    assert_eq!(world.store.interactions(&root), []);
    assert_eq!(world.store.answer(&call, 0, now), Answered::NoQuestion);
    assert_eq!(world.store.interact(&root, asks, now), Accepted::Duplicate);
}

/// OAU-04: the URL is on the call while it is open, and never in an event.
#[test]
fn an_authorization_is_shown_without_its_url() {
    let mut world = asked();
    let (root, now) = (world.root.clone(), world.now);
    let call = world.call("build").id;
    let asks = Interaction::Authorize {
        call: call.clone(),
        url: HttpUrl::new("https://auth.test/?secret=1").unwrap(),
    };
    assert_eq!(world.store.interact(&root, asks.clone(), now), Accepted::Accepted);
    assert_eq!(world.store.interactions(&root)[0].interaction, asks);
    assert!(world.shown().contains(&Surface::Authorize { call }));
    assert!(!format!("{:?}", world.shown()).contains("secret"));
}

/// VIW-01, VIW-02: the latest content of a view, whole; an unknown thread is refused.
#[test]
fn views() {
    let mut world = asked();
    let (root, now) = (world.root.clone(), world.now);
    let view = |n: u64| {
        let mut content = Map::new();
        content.insert("n".into(), n.into());
        Interaction::View { view_type: "progress".into(), content }
    };
    world.store.interact(&root, view(1), now);
    world.store.interact(&root, view(2), now);
    let kept = world.store.interactions(&root);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].interaction, view(2));
    let unknown = ThreadId::new("nobody").unwrap();
    assert_eq!(world.store.interact(&unknown, view(1), now), Accepted::UnknownThread);
}
