//! P12: every slice replays to the same commit, and whatever was changed after it was written is found. (That every
//! slice of every other test replays is asserted where worlds are dropped.)

use crate::world::{World, says, turn};
use rap_core::{
    Compaction, Entry, HistoryView, Millis, Session, SliceView, ThreadKind, ThreadRow, ThreadState, ThreadView,
    TurnOutcome,
    replay::{Explanation, Replayed, ThreadReplay, Verdict},
};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

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

/// A thread as an earlier version left it: its session, its history, its slices.
#[derive(Deserialize)]
struct Golden {
    session: Session,
    entries: Vec<Entry>,
    slices: Vec<SliceView>,
}

impl Golden {
    fn verdicts(self) -> Vec<Verdict> {
        let row = ThreadRow {
            id: self.session.id.clone(),
            session: self.session.id.clone(),
            ancestors: Vec::new(),
            chain: Vec::new(),
            kind: ThreadKind::Root,
            version: 0,
            next_entry: self.entries.len() as u64,
            paused: false,
            closed: false,
            model_owed: false,
            turn_at: None,
            reported: false,
            retry_at: None,
            compaction: Compaction::Idle,
            waits_for_room: None,
            model: None,
            last_record: String::new(),
        };
        let thread = ThreadView {
            row,
            state: ThreadState::Resting,
            created_at: Millis(0),
            open_calls: 0,
            subscriptions: 0,
        };
        let entries = self.entries.into_iter().map(Arc::new).collect();
        let history = HistoryView { thread, entries, inherited: 0, left_out: 0 };
        let mut replay = ThreadReplay::new(Arc::new(self.session), history);
        self.slices.iter().map(|slice| replay.slice(slice).verdict).collect()
    }
}

/// P12 across upgrades: records that were written by versions 2 and 3 of the decisions, when a request's hash was made of
/// every entry, replay to the same commits; and one that was altered since is found.
#[test]
fn records_of_before_digests() {
    for (version, written) in [
        (2, include_str!("../golden/decisions-2.json")),
        (3, include_str!("../golden/decisions-3.json")),
    ] {
        let golden = || serde_json::from_str::<Golden>(written).unwrap();
        let decisions: Vec<_> = golden().slices.iter().map(|slice| slice.record.decisions).collect();
        assert_eq!(decisions, [version; 3]);
        assert_eq!(golden().slices.iter().filter(|slice| slice.record.request.is_some()).count(), 2);
        let verdicts = golden().verdicts();
        assert!(verdicts.iter().all(Verdict::is_same), "version {version}: {verdicts:?}");

        let mut altered = golden();
        altered.session.system.push('!');
        let told = altered.verdicts()[0].to_string();
        assert!(told.contains("the model would be asked something else"), "{told}");
        assert!(told.contains(&format!("it was decided by version {version} of the decisions")), "{told}");
    }
}
