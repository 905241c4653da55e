//! Every vector of `spec/vectors` that a tool server takes, through the server itself: what is valid is answered
//! 200, what is not is a 400 that names the obligation and the place, and does nothing.

use rap_server::{Call, Tool, ToolServer, testing::TestServer};
use rap_spec::VECTORS;
use serde_json::{Value, json};

fn server() -> TestServer {
    TestServer::new(ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello")))
}

fn path(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "invocation" => "/invoke",
        "close_thread" => "/close_thread",
        "cancel_tool_call" => "/cancel_tool_call",
        "tool_call_status" => "/tool_call_status",
        _ => return None,
    })
}

/// TRN-01, TRN-10, TRN-14, LIM-01, CLS-02, CAN-02, STA-01.
#[tokio::test(start_paused = true)]
async fn requests() {
    let (mut valid, mut invalid) = (0, 0);
    for vector in VECTORS {
        let Some(path) = path(vector.kind) else { continue };
        let server = server();
        let Some(expected) = vector.expected else {
            let mut body = vector.json.to_owned();
            // Where a callback may go is another question than what it looks like.
            if let (Ok(mut json), "invocation") = (serde_json::from_str::<Value>(&body), vector.kind) {
                json["callback_url"] = json!("http://127.0.0.1:4000/cb");
                body = json.to_string();
            }
            let (status, answer) = server.post_text(path, &body).await;
            assert_eq!(status, 200, "valid {} {}: {answer}", vector.kind, vector.name);
            valid += 1;
            continue;
        };
        let (status, problem) = server.post_text(path, vector.json).await;
        assert_eq!(status, 400, "invalid {} {}", vector.kind, vector.name);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(expected.obligation), "{}: {} in {detail}", vector.name, expected.obligation);
        assert!(detail.contains(expected.pointer), "{}: {} in {detail}", vector.name, expected.pointer);
        assert_eq!((server.handle().open_calls(), server.attempts()), (0, 0), "{}", vector.name);
        invalid += 1;
    }
    assert!(valid > 50 && invalid > 80, "{valid} {invalid}");
}

/// CHO-03: answers to a question. A number that is no index ends the call in an error result; whatever else is no
/// answer is 400 and leaves the question open.
#[tokio::test(start_paused = true)]
async fn answers() {
    let ask = async |call: Call| {
        call.choose("Which?", (0..10).map(|n| n.to_string()), 0).await.map(|pick| pick.text)
    };
    for vector in VECTORS.iter().filter(|v| v.kind == "choice_response") {
        let server = TestServer::new(ToolServer::new("test").tool(Tool::new("ask", "d", ask)));
        let mut call = server.start("ask", json!({})).await;
        let question = call.question().await;
        let mut body: Value = serde_json::from_str(vector.json).unwrap();
        let named = body.get("id").is_some_and(|id| id.as_str().is_some_and(|id| !id.is_empty()));
        if named {
            body["id"] = json!(question.choice.id);
        }
        let is_number = body.get("selected").is_some_and(Value::is_number);
        let (status, _) = question.answer(body).await;
        if !named || !is_number {
            assert_eq!(status, 400, "{}", vector.name);
            assert!(call.is_alive().await);
            continue;
        }
        assert_eq!(status, 200, "{}", vector.name);
        let result = call.result().await;
        assert!(vector.is_valid() || result.is_error(), "{}: {}", vector.name, result.text());
    }
}
