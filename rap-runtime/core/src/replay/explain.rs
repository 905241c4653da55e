//! A slice in words: what woke it, what the model was asked and said, what was decided, what was sent.

use super::Replayed;
use crate::{
    CallState, Commit, DeliveryKind, Entry, Input, InputBody, ModelTurn, Outcome, SliceView, TurnOutcome,
    history::text_of,
};
use serde::Serialize;

/// How much of a text is quoted.
const QUOTED: usize = 120;

/// Why a slice did what it did, in sentences for people. What the words are about is in the slice's record and its
/// replayed commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// What it woke for.
    pub woke: Vec<String>,
    /// What the model was asked and how that ended; empty where it was not asked.
    pub model: Vec<String>,
    /// What was decided.
    pub decided: Vec<String>,
    /// What was put into the outbox, or taken out of it.
    pub sent: Vec<String>,
}

impl Explanation {
    /// Explains a slice from its record and its replay. Where it could not be replayed, only the record speaks.
    pub fn new(view: &SliceView, replayed: &Replayed) -> Self {
        let mut told = Self { woke: woke(view, replayed), model: model(view, replayed), ..Self::default() };
        if let Some(commit) = &replayed.commit {
            told.decided = decided(view, commit);
            told.sent = sent(commit);
        }
        told
    }
}

fn woke(view: &SliceView, replayed: &Replayed) -> Vec<String> {
    let mut woke: Vec<String> = view.inputs.iter().map(|input| told(input, replayed)).collect();
    let missing = view.record.inputs.len().saturating_sub(view.inputs.len());
    if missing > 0 {
        woke.push(format!("{missing} inputs that are no longer kept"));
    }
    if !woke.is_empty() {
        return woke;
    }
    let Some(snapshot) = &replayed.snapshot else { return woke };
    let now = view.record.moment.now;
    for call in snapshot.calls.iter().filter(|call| call.state.is_open()) {
        if call.due_at.is_some_and(|due| due <= now) {
            woke.push(format!("the timer of {} ({}) fired", call.name, call.id));
        }
    }
    if woke.is_empty() && snapshot.thread.turn_at.is_some() {
        woke.push("it was time to go on without the calls that are still open".to_owned());
    }
    if woke.is_empty() && snapshot.thread.model_owed {
        woke.push("the model had something new to see".to_owned());
    }
    if woke.is_empty() {
        woke.push("its due time".to_owned());
    }
    woke
}

fn told(input: &Input, replayed: &Replayed) -> String {
    let name = |call: &rap_types::CallId| {
        let row = replayed.snapshot.as_ref().and_then(|s| s.calls.iter().find(|row| row.id == *call));
        row.map_or_else(|| call.to_string(), |row| format!("{} ({call})", row.name))
    };
    match &input.body {
        InputBody::Message { content } => format!("a person wrote: {}", quoted(&text_of(content))),
        InputBody::Outcome { call, outcome } => {
            format!("{} answered: {}", name(call), quoted_outcome(outcome))
        }
        InputBody::Undelivered { call, reason, .. } => {
            format!("{} could not be delivered: {reason}", name(call))
        }
        InputBody::Event { call, text, is_final, .. } => {
            let last = if *is_final { ", the last one" } else { "" };
            format!("{} told an event{last}: {}", name(call), quoted(text))
        }
        InputBody::Report { child, text, state, .. } => {
            format!("thread {child} reported ({state}): {}", quoted(text))
        }
        InputBody::FromParent { text } => format!("its parent wrote: {}", quoted(text)),
        InputBody::Approval { call, allowed: true } => format!("a person allowed {}", name(call)),
        InputBody::Approval { call, allowed: false } => format!("a person declined {}", name(call)),
        InputBody::UseModel { model: Some(model) } => format!("from now on {model} is to answer"),
        InputBody::UseModel { model: None } => {
            "from now on the model that its session began with is to answer".to_owned()
        }
        InputBody::Resend { call } => format!("a person had {} sent again", name(call)),
        InputBody::Refresh => "a person asked for a look at the tool servers".to_owned(),
        InputBody::Compact => "a person asked for a summary of its history".to_owned(),
        InputBody::Summary { text, .. } => format!("its history was summarised: {}", quoted(text)),
        InputBody::NotCompacted { reason } => format!("its history could not be summarised: {reason}"),
        InputBody::ClockSetBack { by } => {
            format!("the clock was set back by {} s while nothing ran", by / 1_000)
        }
        InputBody::Stop => "a person stopped it".to_owned(),
        InputBody::Close => "a person closed it".to_owned(),
        #[allow(unreachable_patterns, reason = "kinds may be added")]
        other => format!("an input of the kind {}", other.kind()),
    }
}

fn model(view: &SliceView, replayed: &Replayed) -> Vec<String> {
    let Some(turn) = &view.record.turn else { return Vec::new() };
    let mut lines = Vec::new();
    if let Some(request) = &replayed.request {
        let new =
            replayed.snapshot.as_ref().map_or(0, |s| request.history.len().saturating_sub(s.history.len()));
        lines.push(format!(
            "it was asked with {} of history, {new} of them new, and {}",
            counted(request.history.len(), "entry", "entries"),
            counted(request.tools.len(), "tool", "tools")
        ));
    }
    match turn {
        TurnOutcome::Turn(turn) => lines.extend(turn_lines(turn)),
        TurnOutcome::Interrupted { text, .. } => {
            lines.push(format!("it was interrupted after {}", quoted(text)));
        }
        TurnOutcome::Overflow { message } => lines.push(format!("its request did not fit: {message}")),
        TurnOutcome::Failed { message } => lines.push(format!("it failed: {message}")),
        TurnOutcome::RetryAt { message, .. } => lines.push(format!("it asked to wait: {message}")),
        #[allow(unreachable_patterns, reason = "kinds may be added")]
        _ => lines.push("its turn ended in a way that this version has no words for".to_owned()),
    }
    lines
}

fn turn_lines(turn: &ModelTurn) -> Vec<String> {
    let mut lines = Vec::new();
    if !turn.text.is_empty() {
        lines.push(format!("{} said {}", turn.model, quoted(&turn.text)));
    }
    for call in &turn.calls {
        lines.push(format!("{} called {} {}", turn.model, call.name, quoted(&call.arguments.to_string())));
    }
    if lines.is_empty() {
        lines.push(format!("{} said nothing", turn.model));
    }
    lines
}

fn decided(view: &SliceView, commit: &Commit) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in &commit.entries {
        lines.push(match entry {
            Entry::User(user) => format!("history: {}", quoted(&text_of(&user.content))),
            Entry::Turn(_) => "history: the model's turn".to_owned(),
            Entry::Summary(summary) => format!("history: a summary: {}", quoted(&summary.text)),
            Entry::Results { results } => {
                format!("history: the results of {}", counted(results.len(), "call", "calls"))
            }
            Entry::Event(event) => {
                format!(
                    "history: an event of {}: {}",
                    event.original_tool_name,
                    quoted(&text_of(&event.content))
                )
            }
            #[allow(unreachable_patterns, reason = "kinds may be added")]
            _ => "history: an entry".to_owned(),
        });
    }
    for call in &commit.calls {
        lines.push(format!("call {} ({}): {}", call.name, call.id, state(call.state)));
    }
    for row in &commit.subscriptions {
        lines.push(format!("subscription of {} ({}): {:?}", row.name, row.call, row.state).to_lowercase());
    }
    for new in &commit.threads {
        lines.push(format!("thread {} is made", new.row.id));
    }
    for input in &commit.inputs {
        lines.push(format!("thread {} gets a {}", input.thread, input.body.kind()));
    }
    for letter in &commit.dead_letters {
        let id = view.inputs.iter().find(|input| input.seq == letter.seq).map(|input| input.id.as_str());
        lines.push(format!("{} becomes a dead letter: {}", id.unwrap_or("an input"), letter.reason));
    }
    let waiting = view.inputs.iter().filter(|input| !commit.consumed.contains(&input.seq)).count();
    if waiting > 0 {
        lines.push(format!("{waiting} inputs wait for later"));
    }
    for (yes, line) in [
        (commit.close, "the thread is closed, with all below it"),
        (commit.pause, "the thread is stopped, with all below it"),
        (commit.resume && !commit.pause, "the thread goes on, with all below it"),
    ] {
        if yes {
            lines.push(line.to_owned());
        }
    }
    let now = view.record.moment.now;
    match commit.update.due_at {
        Some(due) if due <= now => lines.push("the thread is due again at once".to_owned()),
        Some(due) => lines.push(format!("the thread is due again in {} ms", due - now)),
        None => lines.push("the thread is due when something comes".to_owned()),
    }
    lines
}

fn sent(commit: &Commit) -> Vec<String> {
    let mut lines: Vec<String> = commit
        .outbox
        .iter()
        .map(|delivery| {
            let what = match delivery.kind {
                DeliveryKind::Invocation => "an invocation",
                DeliveryKind::CancelToolCall => "a cancel notice",
                DeliveryKind::CloseThread => "a close notice",
                DeliveryKind::ChoiceAnswer => "an answer to a choice",
                DeliveryKind::Refresh => "a look at the tool servers, from the one",
                #[allow(unreachable_patterns, reason = "kinds may be added")]
                _ => "a request",
            };
            if delivery.is_embedded() {
                let call = delivery.call.as_ref().map(ToString::to_string).unwrap_or_default();
                return format!("call {call} to the program itself");
            }
            let call = delivery.call.as_ref().map(|call| format!(" of call {call}")).unwrap_or_default();
            format!("{what}{call} to {}", delivery.url.redacted())
        })
        .collect();
    for call in &commit.cancel {
        lines.push(format!(
            "call {call} is cancelled: its invocation leaves the outbox, or its servers are told"
        ));
    }
    if commit.close {
        lines.push("a close notice for each closed thread to each server".to_owned());
    }
    lines
}

fn state(state: CallState) -> &'static str {
    match state {
        CallState::AwaitingApproval => "awaits approval",
        CallState::Pending => "pending",
        CallState::Detached => "no longer waited for; its outcome comes as an event",
        CallState::PresumedLost => "presumed lost",
        CallState::Refused => "refused",
        CallState::Done => "done",
        CallState::Cancelled => "cancelled",
    }
}

fn quoted_outcome(outcome: &Outcome) -> String {
    quoted(&text_of(&outcome.content))
}

/// The beginning of a text, on one line.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(QUOTED).collect();
    if cut.len() < line.len() { format!("{cut:?} …") } else { format!("{cut:?}") }
}

/// How many of something, in words.
fn counted(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}
