//! A runtime that was started again elsewhere sends its open invocations again, with other callback URLs: the newest
//! counts.

use crate::{
    invocation,
    subscriptions::{Emitters, watch},
};
use rap_server::{
    Call, Tool, ToolServer,
    rap_http::Attempt,
    testing::{TestCall, TestServer},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

fn server() -> (TestServer, Arc<Emitters>) {
    let wait = Tool::new("wait", "d", async |call: Call| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        format!("work of {}", call.id())
    });
    let emitters = Arc::new(Emitters::default());
    (
        TestServer::new(ToolServer::new("test").tool(watch()).tool(wait).shared_state(emitters.clone())),
        emitters,
    )
}

/// The same call, to be answered at another port.
fn moved(sent: &Value, port: u16) -> (Value, String) {
    let mut sent = sent.clone();
    let url = format!("http://127.0.0.1:{port}/new/{}?capability=n%2Fw", sent["id"].as_str().unwrap());
    sent["callback_url"] = json!(url);
    (sent, url)
}

async fn arrives_at(call: &mut TestCall, url: &str) -> Value {
    let arrived = call.any().await;
    assert_eq!(arrived.url, url);
    arrived.json
}

/// TRN-07, INV-10: a call that still runs answers at the newest URL, exactly as it is given, and is worked once.
#[tokio::test(start_paused = true)]
async fn while_it_runs() {
    let (server, _) = server();
    let sent = invocation("wait", json!({}), "t", "c");
    let mut old = server.invoke(sent.clone()).await;
    let (again, url) = moved(&sent, 4001);
    let mut new = server.invoke(again).await;
    assert_eq!(arrives_at(&mut new, &url).await["text"], "work of c");
    new.silence().await;
    old.silence().await;
    assert_eq!((server.attempts(), server.handle().open_calls()), (1, 0));
}

/// TRN-07, INV-10: so does one whose result is being tried at the old URL, at once and not when the pause is over; also
/// where the old URL is refused for good while the new one comes in.
#[tokio::test(start_paused = true)]
async fn while_its_result_is_owed() {
    let (server, _) = server();
    let sent = invocation("wait", json!({}), "t", "c");
    server.answer_next((0..11).map(|_| Attempt::Refused));
    let mut old = server.invoke(sent.clone()).await;
    while server.attempts() < 11 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (again, url) = moved(&sent, 4001);
    let start = tokio::time::Instant::now();
    let mut new = server.invoke(again.clone()).await;
    // Sent twice with the same URL, it is one delivery.
    server.invoke(again).await;
    let mut new_too = server.invoke(moved(&sent, 4002).0).await;
    assert_eq!(new_too.any().await.json["text"], "work of c");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    new.silence().await;
    old.silence().await;
    assert!(!url.is_empty() && server.handle().open_calls() == 0);
}

/// TRN-07, INV-10: the outcome of a call that is over goes to the newest URL, even while it is still being delivered
/// again to the one before.
#[tokio::test(start_paused = true)]
async fn when_it_is_over() {
    let (server, _) = server();
    let sent = invocation("wait", json!({}), "t", "c");
    let mut old = server.invoke(sent.clone()).await;
    assert_eq!(old.result_within(HOUR).await.text(), "work of c");
    // Nobody listens there.
    server.answer_next((0..8).map(|_| Attempt::Refused));
    let (second, _) = moved(&sent, 4001);
    let mut nobody = server.invoke(second.clone()).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let tried = server.attempts();
    assert!(tried > 4, "{tried}");
    server.answer_well();
    let (third, url) = moved(&sent, 4002);
    let mut new = server.invoke(third).await;
    assert_eq!(arrives_at(&mut new, &url).await["text"], "work of c");
    tokio::time::sleep(100 * HOUR).await;
    nobody.silence().await;
    old.silence().await;
    assert_eq!(server.attempts(), tried + 1);
    // And where it was delivered once it is delivered again.
    let mut again = server.invoke(second).await;
    assert_eq!(again.any().await.json["text"], "work of c");
}

/// TRN-07: the events of a subscription follow, the one that is being tried first.
#[tokio::test(start_paused = true)]
async fn a_subscription() {
    let (server, emitters) = server();
    let sent = invocation("watch", json!({}), "t", "c");
    let mut old = server.invoke(sent.clone()).await;
    assert!(old.result().await.0.subscription);
    let events = emitters.lock().unwrap().pop().unwrap();
    server.answer_next((0..11).map(|_| Attempt::Refused));
    for n in 1..=3 {
        events.emit(n.to_string()).await.unwrap();
    }
    while server.attempts() < 12 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (again, url) = moved(&sent, 4001);
    let mut new = server.invoke(again).await;
    for n in 1..=3 {
        assert_eq!(arrives_at(&mut new, &url).await["text"], n.to_string());
    }
    events.finish("over").await.unwrap();
    assert_eq!(arrives_at(&mut new, &url).await["final"], true);
    old.silence().await;
}

/// INV-03, TRN-07: the id of a call with other arguments moves nothing.
#[tokio::test(start_paused = true)]
async fn another_call_of_that_id_moves_nothing() {
    let (server, _) = server();
    let sent = invocation("wait", json!({}), "t", "c");
    let mut call = server.invoke(sent.clone()).await;
    let (mut other, _) = moved(&sent, 4001);
    other["arguments"] = json!({"other": true});
    let mut stranger = server.invoke(other).await;
    let (mut elsewhere, _) = moved(&sent, 4002);
    elsewhere["callback_url"] = json!("http://10.0.0.1/");
    assert_eq!(server.post("/invoke", &elsewhere).await.0, 400);
    assert_eq!(call.result_within(HOUR).await.text(), "work of c");
    stranger.silence().await;
}
