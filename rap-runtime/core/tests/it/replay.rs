//! P12: every slice replays to the same commit, and whatever was changed after it was written is found. (That every
//! slice of every other test replays is asserted where worlds are dropped.)

use crate::world::{World, says, turn};
use rap_core::{
    ModelRequest, Session, SliceView, TurnOutcome,
    replay::{Explanation, Replayed, ThreadReplay, Verdict},
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest, Sha256};

/// A message, a turn with two calls, one answered and one waited for in vain, an answer.
fn told() -> World {
    let mut world = World::new();
    world.model([turn("I look", &[("weather", json!({"city": "Oslo"})), ("a", json!({}))])]);
    world.user("how is the weather?");
    world.run();
    world.result("weather", "rain");
    world.run();
    world.advance(30_000);
    world.model([says("it rains")]);
    world.run();
    world
}

fn slices(world: &World) -> Vec<SliceView> {
    world.store.slices(&world.root, 0, usize::MAX)
}

fn replay(world: &World, slices: &[SliceView]) -> Vec<Replayed> {
    let session = world.store.session(&world.root).unwrap();
    let mut replay = ThreadReplay::new(session, world.store.history(&world.root).unwrap());
    slices.iter().map(|slice| replay.slice(slice)).collect()
}

#[test]
fn what_was_changed_is_found() {
    let world = told();
    let honest = slices(&world);
    assert_eq!(honest.len(), 3);
    assert!(replay(&world, &honest).iter().all(|slice| slice.verdict.is_same()));

    let altered = |change: &dyn Fn(&mut Vec<SliceView>)| {
        let mut slices = honest.clone();
        change(&mut slices);
        replay(&world, &slices).into_iter().map(|slice| slice.verdict.to_string()).collect::<Vec<_>>()
    };
    let told = altered(&|slices| {
        if let Some(TurnOutcome::Turn(turn)) = &mut slices[0].record.turn {
            turn.calls.pop();
        }
    });
    assert!(told[0].contains("altered after it was written"), "{told:?}");
    assert!(told[0].contains("entry 1 of the history would be another"), "{told:?}");

    let told = altered(&|slices| slices[2].record.moment.now = rap_core::Millis(0));
    assert_eq!((told[0].as_str(), told[1].as_str()), ("the same", "the same"));
    assert!(told[2].contains("otherwise"), "{told:?}");

    let told = altered(&|slices| drop(slices.remove(1)));
    assert!(told[1].contains("does not follow the one before"), "{told:?}");
}

/// Nothing is claimed of what cannot be known.
#[test]
fn what_is_no_longer_kept_is_said_to_be_so() {
    let world = told();
    let mut slices = slices(&world);
    slices[1].inputs.clear();
    let verdicts: Vec<_> = replay(&world, &slices).into_iter().map(|slice| slice.verdict).collect();
    assert!(verdicts[0].is_same());
    assert_eq!(verdicts[1], Verdict::Unknown("inputs that it saw are no longer kept".to_owned()));
    assert!(
        matches!(&verdicts[2], Verdict::Unknown(why) if why.contains("which it follows")),
        "{verdicts:?}"
    );
}

#[test]
fn a_slice_in_words() {
    let world = told();
    let slices = slices(&world);
    let replayed = replay(&world, &slices);
    let told = |n: usize| {
        let told = Explanation::new(&slices[n], &replayed[n]);
        [told.woke, told.model, told.decided, told.sent].map(|lines| lines.join("\n"))
    };
    let ids: Vec<_> = world.store.calls(false).into_iter().map(|call| call.row.id.to_string()).collect();
    let plain = |text: String| text.replace(&ids[0], "<1>").replace(&ids[1], "<2>");
    let [woke, model, decided, sent] = told(0).map(plain);
    assert_eq!(woke, r#"a person wrote: "how is the weather?""#);
    assert!(model.contains(r#"test called weather "{\"city\":\"Oslo\"}""#), "{model}");
    assert!(decided.contains("call weather (<1>): pending"), "{decided}");
    assert_eq!(
        sent,
        "an invocation of call <1> to http://one/invoke\nan invocation of call <2> to http://one/invoke"
    );
    let [woke, model, decided, sent] = told(1).map(plain);
    assert_eq!(woke, r#"weather (<1>) answered: "rain""#);
    assert_eq!((model.as_str(), sent.as_str()), ("", ""));
    assert!(decided.contains("due again in 30000 ms"), "{decided}");
    let [woke, _, decided, _] = told(2).map(plain);
    assert_eq!(woke, "it was time to go on without the calls that are still open");
    assert!(decided.contains("call a (<2>): no longer waited for"), "{decided}");
}

fn hashed<T: Serialize>(hash: &mut Sha256, value: &T) {
    hash.update(serde_json::to_vec(value).unwrap());
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hash of a request as it was made before histories had digests, written down once more: of the session's model and
/// prompt, each tool, the thread, each entry.
fn of_every_entry(session: &Session, request: &ModelRequest) -> String {
    let mut hash = Sha256::new();
    hashed(&mut hash, &(&session.model, &session.system));
    request.tools.iter().for_each(|tool| hashed(&mut hash, tool));
    hashed(&mut hash, &request.thread);
    request.history.iter().for_each(|entry| hashed(&mut hash, &**entry));
    hex(hash)
}

/// The records as an earlier version of the decisions wrote them.
fn as_written_by(world: &World, decisions: u32, honest: &[SliceView]) -> Vec<SliceView> {
    let session = world.store.session(&world.root).unwrap();
    let mut slices = honest.to_vec();
    let mut previous = String::new();
    for (slice, replayed) in slices.iter_mut().zip(replay(world, honest)) {
        let record = &mut slice.record;
        record.decisions = decisions;
        record.request = replayed.request.map(|request| of_every_entry(&session, &request));
        record.previous = std::mem::take(&mut previous);
        record.hash = String::new();
        let mut hash = Sha256::new();
        hashed(&mut hash, record);
        record.hash = hex(hash);
        previous.clone_from(&record.hash);
    }
    slices
}

/// P12 across upgrades: records of versions 2 and 3 of the decisions, when a request's hash was made of every entry, replay
/// to the same commits; one whose request was another is found, and a later version never wrote such a hash.
#[test]
fn records_of_before_digests() {
    let world = told();
    let honest = slices(&world);
    for version in [2, 3] {
        let old = as_written_by(&world, version, &honest);
        assert_ne!(old[0].record.request, honest[0].record.request);
        assert_eq!(old.iter().filter(|slice| slice.record.request.is_some()).count(), 2);
        let verdicts: Vec<_> = replay(&world, &old).into_iter().map(|slice| slice.verdict).collect();
        assert!(verdicts.iter().all(Verdict::is_same), "version {version}: {verdicts:?}");

        let mut altered = old;
        altered[2].record.request = altered[0].record.request.clone();
        let told = replay(&world, &altered)[2].verdict.to_string();
        assert!(told.contains("the model would be asked something else"), "{told}");
        assert!(told.contains(&format!("it was decided by version {version} of the decisions")), "{told}");
    }
    let never = replay(&world, &as_written_by(&world, 4, &honest));
    assert!(never[0].verdict.is_different() && never[2].verdict.is_different());
}
