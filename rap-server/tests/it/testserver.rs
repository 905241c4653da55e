//! The runtime for tests: it has what the server asks for, and says at once what is wrong.

use rap_server::{
    Call, Tool, ToolError, ToolServer,
    rap_http::{Auth, Secret, webhooks::Keys},
    testing::TestServer,
};
use serde_json::json;

fn server() -> ToolServer {
    let ask = async |call: Call| -> Result<String, ToolError> {
        Ok(call.choose("Which?", ["a", "b"], 0).await?.text)
    };
    ToolServer::new("test").tool(Tool::new("ask", "d", ask))
}

/// AUT-01: whatever the server asks for, the runtime side of a test has it, and the person's side needs none.
#[tokio::test]
async fn has_what_is_asked_for() {
    let keys = Keys::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
    for auth in
        [Auth::None, Auth::bearer("t"), Auth::Bearer(vec!["old".into(), "new".into()]), Auth::Signed(keys)]
    {
        let server = TestServer::new(server().auth(auth.clone()));
        assert_eq!(server.toolset().await["name"], "test", "{auth:?}");
        let mut call = server.start("ask", json!({})).await;
        assert!(call.is_alive().await, "{auth:?}");
        assert_eq!(call.question().await.pick(1).await, 200, "{auth:?}");
        assert_eq!(call.result().await.text(), "b", "{auth:?}");
        let call = server.start("ask", json!({})).await;
        assert_eq!(
            (call.cancel().await, call.close_thread().await),
            (http::StatusCode::OK, http::StatusCode::OK)
        );
    }
}

/// A test of a call that was refused fails at once, and says why.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_told() {
    let server = TestServer::new(server());
    let began = tokio::time::Instant::now();
    let mut call = server
        .invoke(json!({"operation": "ask", "arguments": {}, "id": "c", "group_id": "t", "callback_url": "http://10.0.0.1/"}))
        .await;
    assert_eq!(call.status(), 400);
    let waiting = tokio::spawn(async move { call.result().await });
    let panic = waiting.await.unwrap_err().into_panic();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("refused with 400") && said.contains("10.0.0.1 is a private address"), "{said}");
    assert_eq!(began.elapsed().as_secs(), 0);
}

/// A public URL is what it is in earnest.
#[tokio::test]
async fn has_the_public_url() {
    let server = TestServer::new(server().public_url("https://tools.example.com/x"));
    assert_eq!(server.toolset().await["endpoint"], "https://tools.example.com/x/invoke");
    let mut call = server.start("ask", json!({})).await;
    let question = call.question().await;
    assert!(question.choice.response_url.as_str().starts_with("https://tools.example.com/x/choices/"));
    assert_eq!(question.pick(0).await, 200);
    assert_eq!(call.result().await.text(), "a");
}

/// A malformed one is found, as in earnest.
#[tokio::test]
#[should_panic(expected = "public_url \"tools.example.com\"")]
async fn finds_a_malformed_public_url() {
    TestServer::new(server().public_url("tools.example.com"));
}
