//! W3C trace context: from a message through a slice to an invocation, from its callback to the next.

use crate::{
    peer::Peer,
    world::{TOKEN, World, scripted},
};
use rap_http::{AddressPolicy, GuardedClient};
use rap_runtime::{AgentHost, NewSession};
use rap_types::HttpUrl;
use serde_json::json;

const OURS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const THEIRS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn post(url: &HttpUrl, body: serde_json::Value, headers: &[(&'static str, String)]) -> u16 {
    let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
    let headers = headers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
        .collect();
    client.post_json_reading(url, body.to_string().into(), headers, 4096).await.unwrap().status.as_u16()
}

fn parts(traceparent: &str) -> (String, String) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    assert!(
        matches!(parts[..], ["00", trace, span, "01"] if trace.len() == 32 && span.len() == 16),
        "{traceparent}"
    );
    (parts[1].to_owned(), parts[2].to_owned())
}

/// A trace that comes with a message goes on with the invocation, in a span of our own; one that comes with a callback goes
/// on with the next slice's; without one a slice begins its own. A wrong one is left aside.
#[tokio::test]
async fn from_message_to_invocation() {
    let script = "[[rule]]\nwhen = { user = '*' }\ncalls = [{ name = 'work' }]\n
        [[rule]]\nwhen = { turn = 2 }\ncalls = [{ name = 'work' }]\n[[rule]]\ntext = 'done'";
    for (header, trace) in [(Some(OURS), Some(OURS)), (Some("00-x"), None), (None, None)] {
        let mut peer = Peer::start("traced", &["work"]).await;
        let world = World::new(|b| b.toolset(peer.base.clone()).model(scripted(script))).await;
        let session = world.runtime.create(NewSession::new()).await.unwrap().session;
        let url = world.base.below(&format!("v1/threads/{session}/messages")).unwrap();
        let mut headers = vec![("authorization", format!("Bearer {TOKEN}"))];
        headers.extend(header.map(|value| ("traceparent", value.to_owned())));
        assert_eq!(post(&url, json!({"text": "go", "key": "1"}), &headers).await, 200);

        let first = peer.next_at("/invoke").await;
        let (of_first, span) = parts(first.headers["traceparent"].to_str().unwrap());
        if let Some(trace) = trace {
            assert_eq!(of_first, parts(trace).0);
            assert_ne!(span, parts(trace).1, "a span of the slice's own");
        }
        let callback: HttpUrl = first.body["callback_url"].as_str().unwrap().parse().unwrap();
        let result = json!({"type": "tool_result", "group_id": session, "id": first.body["id"], "text": "x"});
        assert_eq!(post(&callback, result, &[("traceparent", THEIRS.to_owned())]).await, 200);
        let second = peer.next_at("/invoke").await;
        let (of_second, next_span) = parts(second.headers["traceparent"].to_str().unwrap());
        assert_eq!(of_second, parts(THEIRS).0);
        assert_ne!(next_span, span);
        world.stop().await;
    }
}
