//! What people, the model and the servers do in the reference scenario. Times are milliseconds.

use crate::model::{all_text, call, turn};
use rap_core::{Entry, ModelRequest, TurnOutcome};
use serde_json::{Value, json};

/// What the person writes, and when: to begin, while calls pend, and at last, after the history was summarised.
pub(super) const MESSAGES: [(i64, &str); 5] =
    [(0, "<msg-0>"), (100_500, "<msg-1>"), (400_000, "<msg-2>"), (430_000, DROP_IT), (550_000, "<msg-4>")];
/// What makes the model call the tool that a person must allow.
const DROP_IT: &str = "<msg-3>";
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

/// What the model says: it follows from what it sees.
pub(super) fn says(request: &ModelRequest) -> TurnOutcome {
    let (task, own) = place(request);
    let dropping = |entry: &Entry| matches!(entry, Entry::User(user) if all_text(&user.content) == DROP_IT);
    let calls = match (task, own) {
        ("root", _) if request.history.last().is_some_and(|last| dropping(last)) => vec![tool("drop")],
        ("root", 0) => vec![tool("slow"), tool("failing"), tool("never")],
        ("root", 1) => vec![
            call("spawn_thread", json!({"instructions": "look", "child_of": [request.session]})),
            tool("watch"),
            tool("ask"),
        ],
        ("root", 2) => vec![call("sleep", json!({"seconds": 40}))],
        ("root", 3) => {
            vec![call("cancel_subscription", json!({"tool_call_id": first_call(request, "never")}))]
        }
        ("root", 5) => vec![tool("build")],
        ("child", 0) => vec![tool("quick")],
        ("child", 1) => vec![call(
            "close_thread",
            json!({"thread_id": request.thread, "report_to_parent": format!("<rep-{}>", request.thread)}),
        )],
        ("event", 0) => {
            vec![call("report_to_parent", json!({"report": format!("<rep-{}>", request.thread)}))]
        }
        _ => Vec::new(),
    };
    TurnOutcome::Turn(turn(format!("{task} {own}"), calls))
}

fn tool(name: &str) -> rap_core::ModelCall {
    call(name, json!({}))
}

fn first_call(request: &ModelRequest, name: &str) -> Value {
    let mut calls = request.history.iter().flat_map(|entry| entry.calls());
    calls.find(|call| call.name == name).map_or(Value::Null, |call| json!(call.id))
}

/// What a summary says: where the model stood when it was made.
pub(super) fn summary(request: &ModelRequest) -> TurnOutcome {
    let (task, own) = place(request);
    TurnOutcome::Turn(turn(format!("{STOOD}{own} of {task}"), Vec::new()))
}

const STOOD: &str = "turn ";

/// Which thread's part it is, and how many of its own turns it has made.
fn place(request: &ModelRequest) -> (&'static str, u64) {
    let (mut task, mut own) = ("root", 0);
    for entry in &request.history {
        match &**entry {
            Entry::Turn(turn) => {
                own += 1;
                if turn.calls.iter().any(|call| call.name == "spawn_thread") && request.depth > 0 {
                    (task, own) = ("child", 0);
                }
            }
            Entry::User(user) if all_text(&user.content).contains("made for this one event") => {
                (task, own) = ("event", 0);
            }
            Entry::User(user) if all_text(&user.content).starts_with("Summary of the conversation") => {
                let text = all_text(&user.content);
                let stood = text.rsplit(STOOD).next().and_then(|text| text.split(' ').next());
                own = stood.and_then(|n| n.parse().ok()).unwrap_or(0);
            }
            _ => {}
        }
    }
    (task, own)
}
