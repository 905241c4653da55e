//! When a thread's history is to be summarised, and what is done with the summary. The summarising itself is a job
//! of its own ([`Compactor`](crate::Compactor)), beside the slices.

use super::{Draft, rest};
use crate::{Compaction, Entry, Input, InputBody, SummaryEntry, Surface, Usage};

/// Fewer entries than this are not worth a summary.
const WORTH: usize = 4;

/// A person's wish, and a job that came to nothing.
pub(crate) fn controls(draft: &mut Draft, inputs: &[Input]) {
    for input in inputs {
        match &input.body {
            InputBody::Compact => {
                draft.consume(input);
                if !draft.compaction.is_owed() {
                    draft.compaction = Compaction::Asked;
                }
            }
            InputBody::NotCompacted { reason } => {
                draft.consume(input);
                if draft.compaction == Compaction::Needed {
                    // The model cannot be asked, and nothing makes its request smaller. The next input tries again.
                    draft.show(Surface::Error {
                        text: format!("the history is too long for the model: {reason}"),
                    });
                    rest::rest(draft, "failed");
                }
                draft.compaction = Compaction::Idle;
            }
            _ => {}
        }
    }
}

/// Stores a summary; to be called where no call stands open.
pub(crate) fn store(draft: &mut Draft, input: &Input) {
    let InputBody::Summary { covers, text, usage } = &input.body else { return };
    if !draft.compaction.is_owed() {
        draft.dead_letter(input, "no summary was asked for any more");
        return;
    }
    draft.entries.push(Entry::Summary(SummaryEntry { covers: covers.clone(), text: text.clone() }));
    draft.show(Surface::Compacted { text: text.clone() });
    draft.spend(*usage);
    if *usage != Usage::default() {
        draft.show(Surface::Usage(*usage));
    }
    draft.compaction = Compaction::Fresh;
    draft.summarised = true;
    draft.consume(input);
}

/// After a turn: whether the window is filling up.
pub(crate) fn after_turn(draft: &mut Draft, usage: Usage, window: Option<u64>) {
    if draft.compaction == Compaction::Fresh {
        draft.compaction = Compaction::Idle;
    }
    let Some(window) = window.filter(|window| *window > 0) else { return };
    let used = u128::from(usage.input) + u128::from(usage.output);
    let full = used * 100 >= u128::from(window) * u128::from(draft.rules().compact_at);
    let worth = draft.snapshot.history.len() + draft.entries.len() >= WORTH;
    if full && worth && draft.compaction == Compaction::Idle {
        draft.compaction = Compaction::Asked;
    }
}

/// The request did not fit: the history is summarised first, or, right after that was done, the turn has failed.
pub(crate) fn overflow(draft: &mut Draft, message: &str) {
    if draft.compaction == Compaction::Fresh {
        draft.compaction = Compaction::Idle;
        let text = format!(
            "{message}; it does not fit even though its history was just summarised: begin a new session, or use a model with a larger window"
        );
        draft.show(Surface::Error { text });
        rest::rest(draft, "failed");
        return;
    }
    draft.compaction = Compaction::Needed;
    draft.model_owed = true;
}
