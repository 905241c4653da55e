//! The server on a socket: bound, served, ended; in an app of somebody else.

use crate::invocation;
use bytes::Bytes;
use http::HeaderMap;
use rap_server::{
    Tool, ToolServer,
    rap_http::{AddressPolicy, Attempt, GuardedClient},
    rap_types::HttpUrl,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

fn server() -> ToolServer {
    ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello"))
}

fn client() -> GuardedClient {
    GuardedClient::new(AddressPolicy::public().allow_loopback())
}

fn url(text: String) -> HttpUrl {
    text.parse().unwrap()
}

/// A callback endpoint on a socket of its own.
async fn callbacks() -> (String, mpsc::UnboundedReceiver<Value>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let take = move |headers: HeaderMap, body: Bytes| {
        let sender = sender.clone();
        assert_eq!(headers["content-type"], "application/json", "TRN-01");
        async move { sender.send(serde_json::from_slice(&body).unwrap()).unwrap() }
    };
    let router = axum::Router::new().route("/cb", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/cb?capability=x", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

/// TLS-01, TRN-02: a real round trip; the endpoint is the listener's own address; a clean end owes nothing.
#[tokio::test]
async fn round_trip() {
    let bound = server().bind("127.0.0.1:0").await.unwrap();
    let address = bound.local_addr();
    let handle = bound.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(bound.run_until(async {
        let _ = stopped.await;
    }));

    let toolset =
        client().get(&url(format!("http://{address}/.well-known/rap-toolset")), 1 << 20).await.unwrap();
    let toolset: Value = serde_json::from_slice(&toolset.body).unwrap();
    let endpoint = toolset["endpoint"].as_str().unwrap();
    assert_eq!(endpoint, format!("http://{address}/invoke"));

    let (callback_url, mut arrivals) = callbacks().await;
    for n in 0..20 {
        let mut sent = invocation("echo", json!({}), "t", &n.to_string());
        sent["callback_url"] = json!(callback_url);
        let body = Bytes::from(sent.to_string());
        let attempt = client().post_json(&url(endpoint.to_owned()), body, HeaderMap::new()).await;
        assert_eq!(attempt, Attempt::status(200));
        let result = tokio::time::timeout(Duration::from_secs(10), arrivals.recv()).await.unwrap().unwrap();
        assert_eq!((&result["id"], &result["text"]), (&json!(n.to_string()), &json!("hello")));
    }
    stop.send(()).unwrap();
    let owed = tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert!(owed.0.is_empty());
    assert_eq!(handle.open_calls(), 0);
    let after = client().get(&url(format!("http://{address}/.well-known/rap-toolset")), 1 << 20).await;
    assert!(after.is_err());
}

/// Not on an address that others reach without authentication; all faults at once; a taken port says so.
#[tokio::test]
async fn where_not_to_listen() {
    let error = server().tool(Tool::new("a b", "d", async || "x")).bind("0.0.0.0:0").await.unwrap_err();
    assert!(error.faults().iter().any(|f| f.contains("authentication")), "{error}");
    assert!(error.faults().iter().any(|f| f.contains("a b")), "{error}");

    let error = server().bearer_token("t").bind("0.0.0.0:0").await.unwrap_err();
    assert!(error.to_string().contains(".public_url(..)"), "{error}");
    let bound = server().bearer_token("t").public_url("https://example.com").bind("0.0.0.0:0").await.unwrap();
    assert_eq!(bound.handle().toolset().endpoint.as_str(), "https://example.com/invoke");

    let taken = bound.local_addr().port();
    let error = server().bind(&format!("127.0.0.1:{taken}")).await.unwrap_err();
    assert!(error.to_string().contains("another program has this port"), "{error}");

    // All faults of everything, whatever keeps it from listening.
    let wrong =
        || server().tool(Tool::new("a b", "d", async || "x")).endpoint_url("nowhere").allow_target("10.x");
    for address in [&format!("127.0.0.1:{taken}"), "nonsense", "0.0.0.0:0"] {
        let error = wrong().public_url("ftp://x").bind(address).await.unwrap_err();
        for word in [address, "a b", "endpoint_url", "allow_target", "public_url \"ftp://x\""] {
            assert!(error.faults().iter().any(|f| f.contains(word)), "{word} for {address}: {error}");
        }
        assert_eq!(error.faults().len(), 5, "{error}");
    }
    let error = wrong().bind("0.0.0.0:0").await.unwrap_err();
    assert!(error.faults().iter().any(|f| f.contains("give .public_url(..)")), "{error}");
    assert_eq!(error.faults().len(), 5, "{error}");
}

/// A shutdown waits for the runtime no longer than it may, and hands out what is owed, with no secret in its print.
#[tokio::test]
async fn a_short_drain() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let callback_url = format!("http://{}/cb?capability=very-secret", nobody.local_addr().unwrap());
    drop(nobody);
    let bound = server().drain(Duration::ZERO).bind("127.0.0.1:0").await.unwrap();
    let endpoint = url(format!("http://{}/invoke", bound.local_addr()));
    let handle = bound.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(bound.run_until(async {
        let _ = stopped.await;
    }));
    let mut sent = invocation("echo", json!({}), "t", "c");
    sent["callback_url"] = json!(callback_url);
    let attempt = client().post_json(&endpoint, Bytes::from(sent.to_string()), HeaderMap::new()).await;
    assert_eq!((attempt, handle.open_calls()), (Attempt::status(200), 1));
    stop.send(()).unwrap();
    let owed = tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert_eq!(owed.0.len(), 1, "{owed:?}");
    assert!(owed.0[0].is_result() && owed.0[0].call().as_str() == "c");
    assert!(!format!("{owed:?}").contains("very-secret"), "{owed:?}");
}

/// In a router of one's own, the handle ends the calls: a tool that runs ends in an error result (INV-07).
#[tokio::test]
async fn a_nested_server_ends_its_calls() {
    let forever = Tool::new("forever", "d", async || std::future::pending::<String>().await);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tools = ToolServer::new("test")
        .tool(forever)
        .grace(Duration::ZERO)
        .public_url(format!("http://{address}/tools"))
        .into_service(true)
        .unwrap();
    let handle = tools.handle();
    let app = axum::Router::new().nest_service("/tools", tools);
    let (stop, stopped) = oneshot::channel::<()>();
    let (ended, end) = oneshot::channel();
    let serving = axum::serve(listener, app).with_graceful_shutdown({
        let handle = handle.clone();
        async move {
            let _ = stopped.await;
            let _ = ended.send(handle.shut_down(Duration::from_secs(10)).await);
        }
    });
    tokio::spawn(serving.into_future());
    let (callback_url, mut arrivals) = callbacks().await;
    let mut sent = invocation("forever", json!({}), "t", "c");
    sent["callback_url"] = json!(callback_url);
    let invoke = url(format!("http://{address}/tools/invoke"));
    let body = Bytes::from(sent.to_string());
    assert_eq!(client().post_json(&invoke, body, HeaderMap::new()).await, Attempt::status(200));
    stop.send(()).unwrap();
    let result = tokio::time::timeout(Duration::from_secs(10), arrivals.recv()).await.unwrap().unwrap();
    assert!(result["text"].as_str().unwrap().starts_with("Error: "), "{result}");
    let owed = tokio::time::timeout(Duration::from_secs(10), end).await.unwrap().unwrap();
    assert!(owed.0.is_empty(), "{owed:?}");
    assert_eq!(handle.open_calls(), 0);
}

/// The first signal lets it deliver what it owes, a second one ends it at once: what is owed is given to whoever keeps
/// it.
#[cfg(unix)]
#[tokio::test]
async fn a_second_signal() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let hour = Duration::from_secs(3600);
    let address = free.to_string();
    let (keep, kept) = std::sync::mpsc::channel();
    let running = tokio::spawn(async move {
        let server = server().drain(hour).on_undelivered(move |owed| keep.send(owed.0).unwrap());
        server.serve(&address).await
    });
    let invoke = url(format!("http://{free}/invoke"));
    let call = async |id: &str| {
        let mut sent = invocation("echo", json!({}), "t", id);
        // Nobody listens there.
        sent["callback_url"] = json!("http://127.0.0.1:9/cb");
        client().post_json(&invoke, Bytes::from(sent.to_string()), HeaderMap::new()).await
    };
    let until = async |status: u16| {
        let asking = async {
            for n in 0_u64.. {
                let answer = call(&format!("{status}-{n}")).await;
                if matches!(answer, Attempt::Status { code, .. } if code == status) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asking).await.expect("an answer");
    };
    let signal = || {
        let pid = std::process::id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    };
    until(200).await;
    signal();
    until(503).await;
    assert!(!running.is_finished(), "it owes a result");
    signal();
    tokio::time::timeout(Duration::from_secs(30), running).await.expect("an end").unwrap().unwrap();
    let kept = kept.try_recv().unwrap();
    assert!(!kept.is_empty() && kept.iter().all(|l| l.is_result() && l.url().as_str().ends_with(":9/cb")));
}

/// LIM-02: while bodies come to it slowly, or never end, others are answered.
#[tokio::test]
async fn slow_bodies_hold_nobody_up() {
    use tokio::io::AsyncWriteExt;
    let bound = server().bind("127.0.0.1:0").await.unwrap();
    let address = bound.local_addr();
    tokio::spawn(async move { bound.run_until(std::future::pending()).await.0 });
    let mut slow = Vec::new();
    for path in ["invoke", "close_thread", "choices/x"] {
        for _ in 0..20 {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            slow.push(socket);
        }
    }
    let (callback_url, mut arrivals) = callbacks().await;
    let mut sent = invocation("echo", json!({}), "t", "c");
    sent["callback_url"] = json!(callback_url);
    let body = Bytes::from(sent.to_string());
    let invoke = url(format!("http://{address}/invoke"));
    assert_eq!(client().post_json(&invoke, body, HeaderMap::new()).await, Attempt::status(200));
    let result = tokio::time::timeout(Duration::from_secs(10), arrivals.recv()).await.unwrap().unwrap();
    assert_eq!(result["text"], "hello");
    for socket in &slow {
        assert!(socket.peer_addr().is_ok(), "they are still there");
    }
}
