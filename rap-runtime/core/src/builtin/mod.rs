//! The built-in tools. All but the timed sleeps are answered in the decision itself.

mod definitions;
pub(crate) mod sleep;
pub(crate) mod threads;

pub(crate) use definitions::definitions;

use crate::{Outcome, TurnCall, machine::Draft, machine::Resolution};
use rap_types::CallId;
use serde_json::{Map, Value};

/// The names of the built-in tools. A foreign tool of one of these names is not offered.
pub const BUILT_IN_TOOLS: [&str; 8] = [
    "sleep",
    "sleep_until",
    SLEEP_UNTIL_EVENT_OR_INPUT,
    SPAWN_THREAD,
    "report_to_parent",
    "close_thread",
    "send_message_to_child",
    CANCEL_SUBSCRIPTION,
];

pub(crate) const SLEEP_UNTIL_EVENT_OR_INPUT: &str = "sleep_until_event_or_input";
const CANCEL_SUBSCRIPTION: &str = "cancel_subscription";
pub(crate) const SPAWN_THREAD: &str = "spawn_thread";

/// Whether a name is that of a built-in tool that is switched on.
pub(crate) fn is_on(name: &str, without: &[String]) -> bool {
    BUILT_IN_TOOLS.contains(&name) && !without.iter().any(|off| off == name)
}

/// Whether a tool asks to rest until something happens.
pub(crate) fn rests(name: &str) -> bool {
    name == SLEEP_UNTIL_EVENT_OR_INPUT
}

/// Whether a tool's call stays open until a due time.
pub(crate) fn is_timed(name: &str) -> bool {
    matches!(name, "sleep" | "sleep_until")
}

/// The call that a call of a built-in tool names.
pub(crate) fn names_call(name: &str, arguments: &Value) -> Option<CallId> {
    let named =
        arguments.get("tool_call_id").and_then(Value::as_str).filter(|_| name == CANCEL_SUBSCRIPTION)?;
    CallId::new(named).ok()
}

/// Runs a built-in tool. `alone`: no call of its turn leaves anything open.
pub(crate) fn run(
    draft: &mut Draft,
    turn: u64,
    call: &TurnCall,
    arguments: &Map<String, Value>,
    alone: bool,
) -> Resolution {
    let result = match call.name.as_str() {
        "sleep" => sleep::sleep(draft.now(), arguments),
        "sleep_until" => sleep::sleep_until(draft.now(), arguments),
        SLEEP_UNTIL_EVENT_OR_INPUT => {
            Ok(Resolution::Instant(Outcome::text("Resting until something happens.")))
        }
        SPAWN_THREAD => threads::spawn(draft, turn, call, arguments).map(instant),
        "report_to_parent" => threads::report_to_parent(draft, call, arguments).map(instant),
        "close_thread" => threads::close_thread(draft, call, arguments, alone).map(instant),
        "send_message_to_child" => threads::send_message_to_child(draft, call, arguments).map(instant),
        CANCEL_SUBSCRIPTION => threads::cancel_subscription(draft, arguments).map(instant),
        other => Err(format!("bug: {other} is no built-in tool")),
    };
    result.unwrap_or_else(|message| Resolution::Refused(Outcome::error(message)))
}

fn instant(text: String) -> Resolution {
    Resolution::Instant(Outcome::text(text))
}

/// A string argument; anything else is a sentence for the model.
fn string<'a>(arguments: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match arguments.get(name) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("`{name}` must be a string")),
        None => Err(format!("`{name}` is missing")),
    }
}
