//! Calls, results and events in words, for where they cannot stand as themselves.

use super::{Names, PlanCall};
use rap_types::CallId;
use serde_json::Value;

pub(super) fn call(call: &PlanCall) -> String {
    format!("[called {} {} ({})]", call.name, Value::Object(call.arguments.clone()), call.id)
}

pub(super) fn result_head(tool: &str, names: &Names, call: &CallId) -> String {
    format!("[result of {tool} ({})]", names.id(call.as_str()))
}

pub(super) fn event_head(tool: &str, call: &str, arguments: &Value) -> String {
    format!("[an event, which you did not ask for now: it comes from your call {call} of {tool} {arguments}]")
}

/// Adds a line to a text.
pub(super) fn line(text: &mut String, line: &str) {
    if !text.is_empty() && !line.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}
