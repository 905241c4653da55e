//! What people, the model and the servers do in the reference scenario. Times are milliseconds.

use crate::model::turn;
use rap_core::{ModelRequest, TurnOutcome};
use rap_runtime::ScriptedModel;

/// What the person writes, and when: to begin, while calls pend, to have something dropped that a person must allow, and
/// at last, after the history was summarised.
pub(super) const MESSAGES: [(i64, &str); 5] =
    [(0, "<msg-0>"), (100_500, "<msg-1>"), (400_000, "<msg-2>"), (430_000, "<msg-3>"), (550_000, "<msg-4>")];
/// When the person has the history summarised.
pub(super) const COMPACT_AT: i64 = 500_000;
/// When the person closes the session.
pub(super) const CLOSE_AT: i64 = 600_000;
/// How long the person thinks about a question.
pub(super) const PERSON_THINKS: i64 = 4_000;
/// Events of the subscription; the last is final, the second is for the subscribing thread itself.
pub(super) const EVENTS: u32 = 3;
pub(super) const BETWEEN_EVENTS: i64 = 55_000;

/// How long a tool works.
pub(super) fn duration(tool: &str) -> i64 {
    match tool {
        "slow" => 60_000,
        "build" => 300_000,
        // Nothing happens at the same instant: what is sent again would come in another order.
        "watch" => 1_700,
        _ => 1_000,
    }
}

/// The model: a script, so that this scenario is also one of the scripted model.
pub(super) fn model() -> ScriptedModel {
    ScriptedModel::from_toml(include_str!("model.toml")).expect("bug: the script of the reference scenario")
}

/// What the model says: it follows from what it sees.
pub(super) fn says(model: &ScriptedModel, request: &ModelRequest) -> TurnOutcome {
    match model.turn(request) {
        Ok(turn) => TurnOutcome::Turn(turn),
        Err(error) => TurnOutcome::Failed { message: error.message },
    }
}

/// What a summary says: it follows from what it sees, too.
pub(super) fn summary(request: &ModelRequest) -> TurnOutcome {
    TurnOutcome::Turn(turn(format!("what was before, in {} entries", request.history.len()), Vec::new()))
}
