//! The newest turn: how long its calls are waited for, what stands in their place, and the next turn.

use super::{Draft, approvals, compact, kit, resolve, rest};
use crate::{
    CallRoute, CallRow, CallState, Compaction, Entry, Millis, ModelRequest, Outcome, ResultEntry, Surface,
    TurnEntry, TurnOutcome, builtin,
};
use std::sync::Arc;

/// Whether the thread waits for calls of its newest turn.
pub(crate) enum Waiting {
    /// No call is open: results are in history.
    Nothing,
    /// Calls are open, and it is time to go on without them.
    Over,
    /// Calls are open; look again at this time, if nothing comes before.
    Until(Option<Millis>),
}

/// Decides whether the thread still waits. Writes the turn's results if all are known.
pub(crate) fn waiting(draft: &mut Draft, urgent: bool, oldest_held: Option<Millis>) -> Waiting {
    let Some(turn) = draft.open_turn() else { return Waiting::Nothing };
    let rows = draft.turn_rows(turn);
    let open: Vec<&CallRow> = rows.iter().copied().filter(|row| row.outcome.is_none()).collect();
    if open.is_empty() {
        write_results(draft);
        return Waiting::Nothing;
    }
    if urgent {
        return Waiting::Over;
    }
    let now = draft.now();
    let since = draft.turn_at.unwrap_or(now);
    let mut until = None;
    let mut at_latest = |at: Millis| until = Some(until.map_or(at, |u: Millis| u.min(at)));

    // A turn that asked to rest until something happens waits for all its other calls.
    let rests = rows.iter().any(|row| builtin::rests(&row.name));
    if !rests && open.len() < rows.len() {
        let patience = |row: &&CallRow| if row.long_running { 0 } else { draft.rules().patience_ms };
        let over_at = since + open.iter().map(patience).max().unwrap_or(0);
        if over_at <= now {
            return Waiting::Over;
        }
        at_latest(over_at);
    }
    if let Some(oldest) = oldest_held {
        let may_soon_end = open.iter().any(|row| {
            row.route.is_sent()
                && row.state == CallState::Pending
                && !row.long_running
                && !draft.snapshot.asking.contains(&row.id)
        });
        let wait = if may_soon_end { draft.rules().hold_ms } else { 0 };
        // What is said to have come so long after now came before the clock was set back: it has waited enough.
        let over_at = if oldest - now > wait { now } else { oldest + wait };
        if over_at <= now {
            return Waiting::Over;
        }
        at_latest(over_at);
    }
    Waiting::Until(until)
}

/// Goes on without the open calls of the newest turn: their outcomes will come as events (P9, P10).
pub(crate) fn detach_open(draft: &mut Draft) {
    let Some(turn) = draft.open_turn() else { return };
    let open: Vec<CallRow> =
        draft.turn_rows(turn).into_iter().filter(|row| row.outcome.is_none()).cloned().collect();
    for row in open {
        if row.state == CallState::AwaitingApproval {
            continue; // It stays a question; only its turn goes on.
        }
        if let Some(changed) = draft.change_call(&row.id) {
            changed.state = CallState::Detached;
        }
        draft.show(Surface::Detached { call: row.id, name: row.name });
    }
    write_results(draft);
}

/// Writes the results of the newest turn into history, in call order: outcomes, or notes in their place.
pub(crate) fn write_results(draft: &mut Draft) {
    let Some(turn) = draft.open_turn() else { return };
    let now = draft.now();
    let rows: Vec<CallRow> = draft.turn_rows(turn).into_iter().cloned().collect();
    let mut results = Vec::with_capacity(rows.len());
    for row in rows {
        let (outcome, placeholder) = match (&row.outcome, row.state) {
            (Some(outcome), state) => {
                (outcome.clone(), matches!(state, CallState::Cancelled | CallState::PresumedLost))
            }
            (None, CallState::AwaitingApproval) => (approvals::placeholder(&row.id), true),
            (None, _) if row.route == CallRoute::Timer => (builtin::sleep::interrupted(&row, now), true),
            (None, _) => {
                let text = format!(
                    "Still running. The outcome of this call ({}) will come as an event; go on meanwhile.",
                    row.id
                );
                (Outcome::text(text), true)
            }
        };
        if row.state == CallState::Pending
            && let Some(changed) = draft.change_call(&row.id)
        {
            changed.state = CallState::Done;
        }
        let content = draft.for_model(&outcome.content);
        results.push(ResultEntry { call: row.id, content, is_error: outcome.is_error, placeholder });
    }
    draft.entries.push(Entry::Results { results });
    draft.turn_at = None;
    draft.model_owed = true;
}

/// What to tell people of a session that has worked for too long without a word of theirs: the runaway guard.
fn ran_away(draft: &Draft) -> Option<String> {
    let (rules, session) = (draft.rules(), &draft.snapshot);
    let did = match rules.tokens {
        _ if session.completions >= rules.completions => format!("made {} completions", rules.completions),
        Some(budget) if session.tokens >= budget => {
            format!("used {} tokens, of a budget of {budget},", session.tokens)
        }
        _ => return None,
    };
    Some(format!("the agent {did} without a message from a person and was put to rest; write to it to go on"))
}

/// The request to the model, if it is owed one.
pub(crate) fn request(draft: &mut Draft) -> Option<ModelRequest> {
    if !draft.model_owed || draft.close || draft.is_paused() || draft.open_turn().is_some() {
        return None;
    }
    if let Some(at) = draft.retry_at.filter(|at| *at > draft.now()) {
        draft.wake_at(at);
        return None;
    }
    if draft.summarised {
        // Whatever came before the summary or with it: the next slice asks, and knows what is shown.
        let now = draft.now();
        draft.wake_at(now);
        return None;
    }
    if draft.compaction == Compaction::Needed {
        return None;
    }
    if let Some(text) = ran_away(draft) {
        draft.show(Surface::Error { text });
        rest::rest(draft, "failed");
        return None;
    }
    // From here on it grows with the history.
    draft.snapshot.history.digest();
    let mut history = draft.snapshot.history.clone();
    history.extend(draft.entries.iter().cloned().map(Arc::new));
    let session = &draft.snapshot.session;
    let kit = kit::of(session);
    Some(ModelRequest {
        session: session.id.clone(),
        thread: draft.thread().clone(),
        depth: draft.snapshot.thread.ancestors.len(),
        model: draft.model().map(str::to_owned),
        system: kit.system.clone(),
        tools: kit.tools.clone(),
        history,
    })
}

/// Takes in how the completion ended.
pub(crate) fn ended(draft: &mut Draft, outcome: TurnOutcome) {
    draft.model_owed = false;
    draft.retry_at = None;
    match outcome {
        TurnOutcome::Turn(turn) => {
            draft.completed = true;
            draft.spend(turn.usage);
            let (usage, window) = (turn.usage, turn.window);
            resolve::resolve(draft, turn);
            compact::after_turn(draft, usage, window);
        }
        TurnOutcome::Interrupted { text, model } => {
            if !text.is_empty() {
                draft.show(Surface::Text { text: text.clone(), interrupted: true });
                draft.entries.push(Entry::Turn(TurnEntry {
                    text,
                    reasoning: Vec::new(),
                    calls: Vec::new(),
                    order: Vec::new(),
                    interrupted: true,
                    model,
                }));
            }
            draft.model_owed = true;
            let now = draft.now();
            draft.wake_at(now);
        }
        TurnOutcome::Overflow { message } => compact::overflow(draft, &message),
        TurnOutcome::RetryAt { at, message } => {
            draft.show(Surface::Error { text: message });
            draft.model_owed = true;
            draft.retry_at = Some(at);
            draft.wake_at(at);
        }
        TurnOutcome::Failed { message } => {
            draft.show(Surface::Error { text: message });
            rest::rest(draft, "failed");
        }
    }
}
