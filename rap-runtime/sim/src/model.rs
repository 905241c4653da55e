//! The model: what it says follows from what it sees and the seed, so that asked again it says the same.

use crate::server::TOOLS;
use rap_core::{Entry, ModelCall, ModelRequest, ModelTurn, TurnOutcome, Usage};
use rap_types::ContentPart;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Dice that follow from what they are thrown for.
pub(crate) fn dice(seed: u64, what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, what).hash(&mut hasher);
    hasher.finish()
}

/// The window of the model, in tokens.
pub(crate) const WINDOW: u64 = 1_000;
/// Tokens of an entry, for a model that does not look closer: 17 entries are three quarters of the window.
const TOKENS: u64 = 45;

/// What the model says to a request.
pub(crate) fn says(seed: u64, request: &ModelRequest, quiet: bool) -> TurnOutcome {
    if request.history.len() as u64 * TOKENS > WINDOW {
        return TurnOutcome::Overflow { message: "the request is too long".into() };
    }
    let d = place(seed, request);
    let text = format!("turn {} of {}", request.history.len(), request.thread);
    let turn = |text: String, calls: Vec<ModelCall>| {
        let usage = Usage { input: request.history.len() as u64 * TOKENS, output: 0 };
        ModelTurn { usage, window: Some(WINDOW), ..turn(text, calls) }
    };
    if quiet {
        return TurnOutcome::Turn(turn(text, Vec::new()));
    }
    if d.is_multiple_of(41) {
        return TurnOutcome::Failed { message: "the simulated model failed".into() };
    }
    let count = match d % 10 {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2 + (d / 10 % 2) as usize,
    };
    let calls = (0..count).map(|index| random_call(dice(d, index), request)).collect();
    TurnOutcome::Turn(turn(text, calls))
}

/// Dice for where the model stands: the newest entry names what nothing else names.
fn place(seed: u64, request: &ModelRequest) -> u64 {
    let newest = request.history.last().map(|entry| format!("{entry:?}"));
    dice(seed, (request.thread.as_str(), request.history.len(), newest))
}

/// How the model's work at a summary ends.
pub(crate) fn summary(d: u64) -> TurnOutcome {
    match d % 16 {
        0 => TurnOutcome::Failed { message: "the simulated model failed".into() },
        1 => TurnOutcome::Turn(turn(String::new(), Vec::new())),
        2 | 3 => TurnOutcome::Overflow { message: "the summary's request is too long".into() },
        _ => TurnOutcome::Turn(turn(format!("what was before, in words ({d})"), Vec::new())),
    }
}

/// Whether a stream breaks before its end, after `before` of its tries have broken: one in seventy does so once
/// or twice, one in two hundred always.
pub(crate) fn breaks(seed: u64, request: impl Hash, before: u32) -> bool {
    let d = dice(seed, (request, "breaks"));
    d.is_multiple_of(200) || (d.is_multiple_of(70) && u64::from(before) <= d / 70 % 2)
}

/// For how long the model asks to be left alone, in milliseconds: one completion in sixty.
pub(crate) fn later(seed: u64, request: impl Hash) -> Option<i64> {
    let d = dice(seed, (request, "later"));
    d.is_multiple_of(60).then_some(10_000 + (d / 60 % 3_600_000) as i64)
}

pub(crate) fn turn(text: String, calls: Vec<ModelCall>) -> ModelTurn {
    ModelTurn { text, calls, model: "simulated".into(), ..ModelTurn::default() }
}

fn random_call(d: u64, request: &ModelRequest) -> ModelCall {
    let own = request.thread.as_str();
    let (name, arguments): (&str, Value) = match d % 16 {
        0..=8 => (TOOLS[(d / 16) as usize % TOOLS.len()], json!({"n": d % 1000})),
        9 => ("sleep", json!({"seconds": 1 + d / 16 % 300})),
        10 => (
            "spawn_thread",
            json!({"instructions": format!("task {}", d % 1000), "child_of": stack(request)}),
        ),
        11 => ("report_to_parent", json!({"report": format!("<rep-{own}-{}-{d}>", request.history.len())})),
        12 => ("sleep_until_event_or_input", json!({})),
        13 => match newest_call_id(request) {
            Some(id) => ("cancel_subscription", json!({"tool_call_id": id})),
            None => ("nosuch", json!({})),
        },
        14 if request.depth > 0 => (
            "close_thread",
            json!({"thread_id": own, "report_to_parent": format!("<rep-{own}-{}-{d}>", request.history.len())}),
        ),
        // Now and then to nobody.
        _ => match newest_child(request).filter(|_| !(d / 16).is_multiple_of(8)) {
            Some(child) => {
                let message = format!("<par-{own}-{}-{d}>", request.history.len());
                ("send_message_to_child", json!({"thread_id": child, "message": message}))
            }
            None => ("send_message_to_child", json!({"thread_id": "x", "message": "x"})),
        },
    };
    call(name, arguments)
}

/// A call, under an id that the model has used before (it is for the provider's adapter alone).
pub(crate) fn call(name: &str, arguments: Value) -> ModelCall {
    ModelCall { name: name.to_owned(), arguments, provider_id: Some("reused".into()) }
}

/// The thread's own stack, as it was told; a root knows its own id.
fn stack(request: &ModelRequest) -> Value {
    let told = request.history.iter().rev().find_map(|entry| {
        let text = match &**entry {
            Entry::User(user) => all_text(&user.content),
            Entry::Results { results } => results.iter().map(|result| all_text(&result.content)).collect(),
            _ => return None,
        };
        let mark =
            text.find("stack is ").map(|at| at + 9).or_else(|| text.find("(stack: ").map(|at| at + 8))?;
        let list = text.get(mark..)?;
        let end = list.find(']')? + 1;
        serde_json::from_str(list.get(..end)?).ok()
    });
    told.unwrap_or_else(|| json!([request.session]))
}

/// The thread that the model has spawned last, as it was told.
fn newest_child(request: &ModelRequest) -> Option<String> {
    request.history.iter().rev().find_map(|entry| {
        let Entry::Results { results } = &**entry else { return None };
        let told = results.iter().map(|result| all_text(&result.content));
        told.into_iter()
            .find_map(|text| Some(text.strip_prefix("Started thread ")?.split_once('.')?.0.to_owned()))
    })
}

fn newest_call_id(request: &ModelRequest) -> Option<String> {
    let calls = request.history.iter().rev().flat_map(|entry| entry.calls());
    calls.filter(|call| TOOLS.contains(&call.name.as_str())).map(|call| call.id.to_string()).next()
}

pub(crate) fn all_text(content: &[ContentPart]) -> String {
    let text = content.iter().filter_map(|part| match part {
        ContentPart::Text(text) => Some(text.text.as_str()),
        _ => None,
    });
    text.collect()
}
