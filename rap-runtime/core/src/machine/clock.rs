//! The clock was set back while nobody ran. What waits for a span of time (patience, a model's retry, `sleep`) waits from
//! as much earlier, as if no time had passed meanwhile; what waits for a time of the calendar (`sleep_until`) waits for it.

use super::{Draft, prepare};
use crate::{Input, InputBody};
use rap_types::CallId;

pub(crate) fn set_back(draft: &mut Draft, inputs: &[Input]) {
    for input in inputs {
        let InputBody::ClockSetBack { by } = &input.body else { continue };
        draft.consume(input);
        let back = by.saturating_neg();
        draft.turn_at = draft.turn_at.map(|at| at + back);
        draft.retry_at = draft.retry_at.map(|at| at + back);
        let spans = draft.snapshot.calls.iter().filter(|row| prepare::is_ticking(row) && row.name == SLEEP);
        let spans: Vec<CallId> = spans.map(|row| row.id.clone()).collect();
        for id in spans {
            if let Some(row) = draft.change_call(&id) {
                row.created_at = row.created_at + back;
                row.due_at = row.due_at.map(|at| at + back);
            }
        }
    }
}

const SLEEP: &str = "sleep";
