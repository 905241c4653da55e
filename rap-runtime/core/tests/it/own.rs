//! Tools of the program around the runtime: instant ones, answered in the decision itself, and calls, worked from the
//! outbox after the commit, by their id. (P12: what instant tools said is in the record; that all of this replays without
//! them is asserted where worlds are dropped.)

use crate::world::{World, says, turn, with_text};
use rap_core::{
    CallRoute, CallState, DeliveryKind, DestructivePolicy, EMBEDDED_URL, InputBody, InputId, InstantCall,
    InstantTools, NewInput, Outcome, OwnTool, Rules, Surface, ThreadState,
};
use serde_json::{Map, Value, json};

fn schema(schema: Value) -> Map<String, Value> {
    schema.as_object().unwrap().clone()
}

/// `double` (instant), `lost` (instant, of a former version), `panics` (instant), `job` and `wipe` (destructive).
fn world(policy: DestructivePolicy) -> World {
    let any = schema(json!({"type": "object"}));
    let numbers = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let own = vec![
        OwnTool::new("double", "Doubles.", schema(numbers.clone())).instant(true),
        OwnTool::new("lost", "Is gone.", any.clone()).instant(true),
        OwnTool::new("panics", "Panics.", any.clone()).instant(true).destructive(true),
        OwnTool::new("job", "Works.", schema(numbers)),
        OwnTool::new("long_job", "Works on.", any.clone()).long_running(true),
        OwnTool::new("wipe", "Wipes.", any).destructive(true),
    ];
    let mut rules = Rules::default();
    rules.destructive = policy;
    let mut world = World::with_own(rules, own);
    world.instants = InstantTools::new(|call: &InstantCall<'_>| match call.tool {
        "double" => {
            let n = call.arguments["n"].as_i64().unwrap();
            let made = Outcome::text(format!("{} in {} by {}", 2 * n, call.thread, call.call));
            Some(Outcome { subscription: true, ..made })
        }
        "panics" => panic!("on purpose"),
        _ => None,
    });
    world
}

/// They are answered in the turn that calls them, whatever happens in them; nothing leaves the house.
#[test]
fn instant_tools() {
    let mut world = world(DestructivePolicy::Ask);
    let calls = [
        ("double", json!({"n": 21})),
        ("double", json!({"n": "x"})),
        ("lost", json!({})),
        ("panics", json!({})),
        ("double", json!({"n": 4})),
    ];
    world.model([turn("", &calls), says("done")]);
    world.user("go");
    world.run();
    let told = world.told();
    let results: Vec<_> = told[2].trim_start_matches("results: ").split(" | ").collect();
    let ids: Vec<_> = world.store.calls(false).into_iter().map(|call| call.row.id.to_string()).collect();
    assert_eq!(results[0], format!("42 in root by {}", ids[0]));
    assert!(results[1].starts_with("Error: the arguments of double do not fit its schema"), "{told:?}");
    assert!(results[2].starts_with("Error: the program does not have the tool lost any more"), "{told:?}");
    assert!(results[3].starts_with("Error: panics panicked, which is a bug in it"), "{told:?}");
    assert_eq!(results[4], format!("8 in root by {}", ids[4]));
    assert_eq!(told[3], "model: done []");
    assert!(world.sent.is_empty(), "{:?}", world.sent);
    let states: Vec<_> =
        world.store.calls(false).into_iter().map(|view| (view.row.route, view.row.state)).collect();
    let done = (CallRoute::Instant, CallState::Done);
    assert_eq!(states, [done, (CallRoute::Instant, CallState::Refused), done, done, done]);
    let record = world.store.slices(&world.root, 0, 1).remove(0).record;
    assert_eq!(record.instants.len(), 4, "what was asked is recorded, so that a replay asks nobody");
    assert_eq!(world.thread_state(&world.root), ThreadState::Resting, "a subscription needs a server");
}

/// A call is committed, then handed to the program under its id; its outcome is like a server's.
#[test]
fn calls() {
    let mut world = world(DestructivePolicy::Deny);
    world.model([turn("", &[("job", json!({"n": 1})), ("job", json!({}))])]);
    world.user("go");
    world.run();
    let [delivery] = &world.sent[..] else { panic!("{:?}", world.sent) };
    let row = world.store.calls(true).remove(0).row;
    assert_eq!((delivery.kind, delivery.embedded_tool()), (DeliveryKind::Invocation, Some("job")));
    assert_eq!((delivery.url.as_str(), delivery.call.as_ref()), (EMBEDDED_URL, Some(&row.id)));
    assert_eq!(delivery.body["arguments"], json!({"n": 1}));
    assert_eq!((row.route, row.state), (CallRoute::Embedded, CallState::Pending));
    let body = InputBody::Outcome { call: row.id.clone(), outcome: Outcome::text("worked") };
    let id = InputId::outcome(&row.id);
    world.accept(NewInput { thread: row.thread, id, source: "program".into(), body, traceparent: None });
    world.model([says("done")]);
    world.run();
    assert!(
        world.told()[2].starts_with("results: worked | Error: the arguments of job"),
        "{:?}",
        world.told()
    );
}

/// P9, P10: a person is answered while it works, and its outcome comes as an event.
#[test]
fn nobody_waits_for_a_call() {
    let mut world = world(DestructivePolicy::Deny);
    world.model([turn("", &[("long_job", json!({})), ("double", json!({"n": 1}))]), says("it works")]);
    world.user("go");
    world.run();
    assert_eq!(world.state("long_job"), CallState::Detached, "it says that it runs long");
    world.model([says("I see")]);
    world.result("long_job", "worked");
    world.run();
    assert!(world.told().contains(&"event of long_job: worked".to_owned()), "{:?}", world.told());
}

/// Cancelled before it was begun, it is never worked; after that it may have taken effect. No server hears of either.
#[test]
fn a_cancelled_call() {
    for begun in [false, true] {
        let mut world = world(DestructivePolicy::Deny);
        world.offline = true;
        world.model([turn("", &[("job", json!({"n": 1}))])]);
        world.user("go");
        world.run();
        if begun {
            let held = world.held.pop().unwrap();
            assert!(world.store.begin(held.id));
        }
        world.control(InputBody::Stop);
        world.run();
        assert_eq!(world.state("job"), CallState::Cancelled);
        let left = world.store.calls(false).remove(0);
        assert_eq!(left.undelivered, begun, "taken back where nobody began it");
        world.offline = false;
        world.held.clear();
        world.run();
        assert!(world.sent.iter().all(|sent| sent.kind == DeliveryKind::Invocation), "{:?}", world.sent);
        world.result("job", "too late");
        assert_eq!(world.store.dead_letters().len(), 1);
    }
}

/// CON-02: a destructive one asks first, or is declined.
#[test]
fn a_destructive_call() {
    let mut declined = world(DestructivePolicy::Deny);
    declined.model([turn("", &[("wipe", json!({}))]), says("well")]);
    declined.user("go");
    declined.run();
    assert!(
        declined.told()[2].starts_with("results: Error: declined: wipe may destroy"),
        "{:?}",
        declined.told()
    );

    let mut world = world(DestructivePolicy::Ask);
    world.model([turn("", &[("wipe", json!({}))])]);
    world.user("go");
    world.run();
    assert!(world.sent.is_empty());
    assert!(
        world.shown().iter().any(|what| matches!(what, Surface::Approval { name, .. } if name == "wipe"))
    );
    let id = world.call("wipe").id;
    let root = world.root.clone();
    world.accept(rap_core::approval(root, &id, true));
    world.run();
    assert_eq!(world.sent.len(), 1);
    assert_eq!(world.sent[0].embedded_tool(), Some("wipe"));
    assert_eq!(world.state("wipe"), CallState::Pending);
}

/// An event waits for a call that may soon end; `close_thread` stands beside an instant tool, and not beside a call.
#[test]
fn beside_other_things() {
    let mut world = world(DestructivePolicy::Deny);
    world.model([turn("", &[("watch", json!({}))]), turn("", &[("job", json!({"n": 1}))])]);
    world.user("go");
    world.run();
    world.confirm("watch", "watching");
    world.run();
    world.event_with("watch", "1", |event| with_text(event, "news").associative(true));
    world.run();
    assert_eq!(world.state("job"), CallState::Pending);
    world.model([says("I see")]);
    world.advance(30_000);
    world.run();
    assert_eq!(world.state("job"), CallState::Detached);

    let close = ("close_thread", json!({"thread_id": "root"}));
    world.model([turn("", &[close.clone(), ("job", json!({"n": 1}))])]);
    world.user("close");
    world.run();
    assert_ne!(world.thread_state(&world.root), ThreadState::Closed);
    world.model([turn("", &[close, ("double", json!({"n": 1}))])]);
    world.user("close");
    world.run();
    assert_eq!(world.thread_state(&world.root), ThreadState::Closed);
}

/// Given up, because the program had it no more, it can be sent again by a person.
#[test]
fn sent_again() {
    let mut world = world(DestructivePolicy::Deny);
    world.model([turn("", &[("job", json!({"n": 1}))]), says("well")]);
    world.user("go");
    world.run();
    world.undelivered("job", false);
    world.run();
    assert_eq!(world.state("job"), CallState::Refused);
    let call = world.call("job").id;
    world.control(InputBody::Resend { call });
    world.run();
    assert_eq!(world.sent.len(), 2);
    world.model([says("at last")]);
    world.result("job", "worked");
    world.run();
    assert!(world.told().contains(&"event of job: worked".to_owned()), "{:?}", world.told());
}
