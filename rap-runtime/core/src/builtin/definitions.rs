//! Names, descriptions and schemas of the built-in tools.

use crate::ToolForModel;
use serde_json::{Value, json};

/// The definitions of all built-in tools but those named in `without`.
pub(crate) fn definitions(without: &[String]) -> Vec<ToolForModel> {
    all().into_iter().filter(|tool| !without.contains(&tool.name)).collect()
}

fn all() -> Vec<ToolForModel> {
    vec![
        tool(
            "sleep",
            "Wait for a number of seconds. You are woken by whatever comes first: the end of the wait, a \
             message, or an event.",
            json!({
                "seconds": {
                    "type": "number",
                    "exclusiveMinimum": 0,
                    "maximum": super::sleep::LONGEST_SECONDS,
                    "description": "How long, in seconds; more than 0 and at most ten years."
                }
            }),
            &["seconds"],
        ),
        tool(
            "sleep_until",
            "Wait until a date and time. A time that is past answers at once.",
            json!({
                "date": { "type": "string", "description": "The date, YYYY-MM-DD." },
                "time": { "type": "string", "description": "The time of day, HH:MM or HH:MM:SS." },
                "timezone": { "type": "string", "description": "An IANA time zone, e.g. Europe/Oslo." }
            }),
            &["date", "time", "timezone"],
        ),
        tool(
            "sleep_until_event_or_input",
            "Rest until something happens: an event of a subscription, the end of a call that is still \
             running, a report, or a message.",
            json!({}),
            &[],
        ),
        tool(
            "spawn_thread",
            "Start a child thread that works beside you. It knows all that you know so far, follows its \
             instructions, and reports to you.",
            json!({
                "instructions": { "type": "string", "description": "What the child is to do." },
                "child_of": {
                    "type": "array",
                    "items": { "type": "string" },
                    "description": "Your own stack of thread ids, root first, you last."
                }
            }),
            &["instructions", "child_of"],
        ),
        tool(
            "report_to_parent",
            "Tell your parent thread something, and go on.",
            json!({ "report": { "type": "string", "description": "What to tell." } }),
            &["report"],
        ),
        tool(
            "close_thread",
            "Close your thread for good, with everything in it: its calls, timers, subscriptions and \
             children. Call it alone, when your work is done.",
            json!({
                "thread_id": { "type": "string", "description": "Your own thread id." },
                "report_to_parent": { "type": "string", "description": "What your parent should know, if anything." }
            }),
            &["thread_id"],
        ),
        tool(
            "send_message_to_child",
            "Send a message to a child thread of yours that is open.",
            json!({
                "thread_id": { "type": "string", "description": "The child's thread id." },
                "message": { "type": "string", "description": "The message." }
            }),
            &["thread_id", "message"],
        ),
        tool(
            "cancel_subscription",
            "Cancel a subscription of yours, or a call of yours that has no result yet.",
            json!({
                "tool_call_id": {
                    "type": "string",
                    "description": "The id of the call that subscribed, or of the call without a result."
                }
            }),
            &["tool_call_id"],
        ),
    ]
}

fn tool(name: &str, description: &str, properties: Value, required: &[&str]) -> ToolForModel {
    let schema = json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false
    });
    let Value::Object(input_schema) = schema else { unreachable!("bug: an object was written") };
    ToolForModel { name: name.to_owned(), description: description.to_owned(), input_schema }
}
