//! Calls that a person must allow first (CON-02): parked with nothing sent, then sent, or declined.

use super::{Draft, prepare, resolve};
use crate::{CallState, Input, InputBody, Outcome, Surface};
use rap_types::CallId;

/// Takes in what people said. What is declined after the model went on without it comes as an event, with
/// everything else that arrives.
pub(crate) fn answers(draft: &mut Draft, inputs: &[Input]) {
    for input in inputs {
        let InputBody::Approval { call, allowed } = &input.body else { continue };
        let Some(row) = draft.call(call).filter(|row| row.state == CallState::AwaitingApproval).cloned()
        else {
            draft.consume(input);
            continue;
        };
        let refused = if *allowed {
            resolve::allowed(draft, &row).err()
        } else {
            Some(Outcome::error("declined: the user does not allow this call; do not make it again unasked"))
        };
        let is_newest = draft.open_turn() == Some(row.turn);
        match refused {
            None => {
                if let Some(row) = draft.change_call(call) {
                    row.state = if is_newest { CallState::Pending } else { CallState::Detached };
                }
                // The patience for it begins now.
                draft.turn_at = is_newest.then(|| draft.now()).or(draft.turn_at);
                draft.show(Surface::Approved { call: call.clone(), allowed: true });
                draft.consume(input);
            }
            Some(outcome) if is_newest => {
                decline(draft, call, &row.name, outcome);
                draft.consume(input);
            }
            Some(_) => {}
        }
    }
}

/// A call of the newest turn never runs.
fn decline(draft: &mut Draft, call: &CallId, name: &str, outcome: Outcome) {
    draft.show(Surface::Approved { call: call.clone(), allowed: false });
    draft.show_result(call, name, &outcome, false);
    draft.finish_call(call, CallState::Refused, outcome);
}

/// A person writes instead of answering: what awaits a word is declined.
pub(crate) fn overtaken(draft: &mut Draft) {
    let newest = draft.open_turn();
    for row in awaiting(draft).into_iter().filter(|row| Some(row.turn) == newest) {
        decline(draft, &row.id, &row.name, overtaken_outcome());
    }
}

/// The same for calls that the model has gone on without; to be called where no call stands open.
pub(crate) fn overtaken_late(draft: &mut Draft) {
    for row in awaiting(draft) {
        draft.show(Surface::Approved { call: row.id.clone(), allowed: false });
        prepare::late_outcome(draft, &row.id, CallState::Refused, overtaken_outcome());
    }
}

fn overtaken_outcome() -> Outcome {
    Outcome::error("declined: the user wrote instead of allowing this call")
}

fn awaiting(draft: &Draft) -> Vec<crate::CallRow> {
    let awaits = |row: &&crate::CallRow| row.state == CallState::AwaitingApproval;
    draft.snapshot.calls.iter().filter(awaits).cloned().collect()
}

/// What stands in the place of a result while a person's word is awaited and the model goes on.
pub(crate) fn placeholder(call: &CallId) -> Outcome {
    Outcome::text(format!(
        "Not sent yet: a person must allow this call ({call}) first. What comes of it will come as an event; go on meanwhile."
    ))
}

/// A late word that declines.
pub(crate) fn declined_late(draft: &mut Draft, call: &CallId) {
    draft.show(Surface::Approved { call: call.clone(), allowed: false });
    let outcome = Outcome::error("declined: the user does not allow this call; do not make it again unasked");
    prepare::late_outcome(draft, call, CallState::Refused, outcome);
}
