//! The clock was set back while nobody ran. What began at a moment that is yet to come (patience, `sleep`) began as much
//! earlier, as if no time had passed meanwhile. What began before now did so under a clock that was right, as far as
//! anybody can know, and ends when it was to; so does what waits for a time of the calendar (`sleep_until`). When a model's
//! retry began is not known: it comes at the earlier of both times, and early costs a question at most.

use super::{Draft, prepare};
use crate::{Input, InputBody, Millis};
use rap_types::CallId;

pub(crate) fn set_back(draft: &mut Draft, inputs: &[Input]) {
    for input in inputs {
        let InputBody::ClockSetBack { by } = &input.body else { continue };
        draft.consume(input);
        let back = by.saturating_neg();
        let now = draft.now();
        let earlier = |at: Millis| if at > now { at + back } else { at };
        draft.turn_at = draft.turn_at.map(earlier);
        draft.retry_at = draft.retry_at.map(|at| earlier(at).max(now.min(at)));
        let spans = draft
            .snapshot
            .calls
            .iter()
            .filter(|row| prepare::is_ticking(row) && row.name == SLEEP && row.created_at > now);
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
