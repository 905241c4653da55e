//! The tool server seen from outside: a runtime in memory calls it, or a socket. Time is tokio's, paused.

#![allow(clippy::unwrap_used)]

mod access;
mod calls;
mod delivery;
mod facade;
mod forms;
mod guide;
mod http;
mod letters;
mod lifecycle;
mod macros;
mod moved;
mod nested;
mod obligations;
mod owed;
mod questions;
mod served;
mod subscriptions;
mod testserver;
mod threads;
mod toolset;
mod traps;
mod vectors;

use serde_json::{Value, json};

/// An invocation of a tool on a thread and call of one's own choosing.
fn invocation(operation: &str, arguments: Value, thread: &str, id: &str) -> Value {
    json!({
        "operation": operation,
        "arguments": arguments,
        "id": id,
        "callback_url": format!("http://127.0.0.1:4000/cb/{thread}/{id}?capability=secret&x=%2F"),
        "group_id": thread,
    })
}
