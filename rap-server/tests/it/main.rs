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

/// Sends an invocation with a trace context.
async fn traced(server: &rap_server::testing::TestServer, sent: &Value, parent: &str, state: Option<&str>) {
    let mut request = ::http::Request::post("http://127.0.0.1:3001/invoke")
        .header("content-type", "application/json")
        .header("traceparent", parent);
    if let Some(state) = state {
        request = request.header("tracestate", state);
    }
    let request = request.body(http_body_util::Full::from(sent.to_string())).unwrap();
    assert_eq!(server.send(request).await.0, 200);
}
