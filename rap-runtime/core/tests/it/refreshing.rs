//! A person's wish that the tool servers be asked again: a control that becomes a request of the outbox, so that it
//! outlives a kill (P6; that all of this replays is asserted where the worlds are dropped).

use crate::world::{World, says};
use rap_core::{DeliveryKind, InputBody, Millis};

#[test]
fn a_request_and_nothing_else() {
    let mut world = World::new();
    world.model([says("hello")]);
    world.user("a");
    world.run();
    let shown = world.shown().len();
    world.control(InputBody::Refresh);
    assert!(world.slice() && !world.slice());
    assert_eq!((world.requests.len(), world.shown().len()), (1, shown), "nobody is asked or told anything");
    world.store.crash();
    let owed = world.store.take(Millis(i64::MAX), 10);
    assert_eq!(owed.len(), 1);
    assert_eq!((owed[0].kind, &owed[0].call), (DeliveryKind::Refresh, &None));
    assert!(owed[0].body["asked_at"].is_i64(), "{}", owed[0].body);
}
