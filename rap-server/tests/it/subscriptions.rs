//! Subscriptions: confirmed by construction, events after the confirmation, none after the end.

use http::StatusCode;
use rap_server::{
    Call, EmitError, Emitter, State, Subscribed, Tool, ToolError, ToolServer,
    rap_http::Attempt,
    testing::{TestCall, TestServer},
};
use serde_json::json;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Where the emitters of confirmed subscriptions go, for the test to emit with.
pub(crate) type Emitters = Mutex<Vec<Emitter>>;

/// A tool that confirms a subscription.
pub(crate) fn watch() -> Tool {
    Tool::new("watch", "d", async |call: Call, emitters: State<Emitters>| -> Subscribed {
        let (subscribed, events) = call.subscribe().confirm("watching");
        emitters.lock().unwrap().push(events);
        subscribed
    })
}

fn server_with(change: impl FnOnce(ToolServer) -> ToolServer) -> (TestServer, Arc<Emitters>) {
    let emitters = Arc::new(Emitters::default());
    let server = ToolServer::new("test")
        .tool(watch())
        .tool(Tool::new("fail", "d", async |call: Call, emitters: State<Emitters>| {
            let (subscribed, events) = call.subscribe().confirm("watching");
            let _ = events.emit("too early").await;
            emitters.lock().unwrap().push(events);
            drop(subscribed);
            Err::<Subscribed, _>(ToolError::new("it cannot be watched"))
        }))
        .tool(Tool::new("eager", "d", async |call: Call| {
            let (subscribed, events) = call.subscribe().confirm("watching");
            let _ = events.emit("one").await;
            let _ = events.associative().finish("two").await;
            // The way out has every chance to run ahead.
            tokio::time::sleep(Duration::from_secs(1)).await;
            subscribed
        }))
        .shared_state(emitters.clone());
    (TestServer::new(change(server)), emitters)
}

fn server() -> (TestServer, Arc<Emitters>) {
    server_with(|server| server)
}

async fn confirmed(server: &TestServer, emitters: &Emitters) -> (TestCall, Emitter) {
    let mut call = server.start("watch", json!({})).await;
    let result = call.result().await;
    assert!(result.0.subscription && result.text() == "watching");
    (call, emitters.lock().unwrap().pop().unwrap())
}

/// SUB-01, SUB-13: the confirmation first, then the events in order, each with an id of its own, the last one final.
#[tokio::test(start_paused = true)]
async fn in_order() {
    let (server, emitters) = server();
    let (mut call, events) = confirmed(&server, &emitters).await;
    assert!(call.is_alive().await);
    for n in 0..50 {
        events.emit(n.to_string()).await.unwrap();
    }
    events.clone().associative().emit("inline").await.unwrap();
    events.finish("end").await.unwrap();
    let mut ids = std::collections::HashSet::new();
    for n in 0..50 {
        let event = call.event().await;
        assert_eq!((event.text, event.associative, event.is_final), (n.to_string(), false, false));
        assert!(ids.insert(event.event_id.unwrap()));
    }
    let inline = call.event().await;
    assert!(inline.associative && ids.insert(inline.event_id.unwrap()));
    let end = call.any().await.json;
    assert_eq!(
        (&end["text"], &end["final"], &end["tool_call_id"]),
        (&json!("end"), &json!(true), &json!("call-1"))
    );
    call.silence().await;
    assert!(!call.is_alive().await);
}

/// SUB-01: an event that is emitted before the function returns waits until the confirmation was answered 2xx,
/// however long that takes.
#[tokio::test(start_paused = true)]
async fn not_before_the_confirmation() {
    let (server, _) = server();
    server.answer_next([Attempt::status(500), Attempt::Refused, Attempt::TimedOut, Attempt::status(503)]);
    let mut call = server.start("eager", json!({})).await;
    let first = call.any().await.json;
    assert_eq!((&first["type"], &first["subscription"]), (&json!("tool_result"), &json!(true)));
    assert_eq!(call.any().await.json["text"], "one");
    let last = call.any().await.json;
    assert_eq!(
        (&last["text"], &last["final"], &last["associative"]),
        (&json!("two"), &json!(true), &json!(true))
    );
    assert_eq!(server.attempts(), 7);
    assert!(!call.is_alive().await);
}

/// A failed subscription says no `subscription: true`, and none of its events ever leaves.
#[tokio::test(start_paused = true)]
async fn failed() {
    let (server, emitters) = server();
    let mut call = server.start("fail", json!({})).await;
    let arrived = call.any().await.json;
    assert_eq!(arrived["text"], "Error: it cannot be watched");
    assert!(arrived.get("subscription").is_none());
    let events = emitters.lock().unwrap().pop().unwrap();
    assert_eq!(events.emit("late").await, Err(EmitError::Ended));
    assert_eq!(events.try_emit("late"), Err(EmitError::Ended));
    assert!(events.is_ended());
    call.silence().await;
}

/// A confirmation that is refused for good, or whose URL is gone, is no subscription.
#[tokio::test(start_paused = true)]
async fn refused() {
    for answer in [400, 404, 410] {
        let (server, emitters) = server();
        server.answer_next([Attempt::status(answer)]);
        let mut call = server.start("watch", json!({})).await;
        call.silence().await;
        let events = emitters.lock().unwrap().pop().unwrap();
        assert_eq!(events.emit("x").await, Err(EmitError::Ended), "{answer}");
        events.ended().await;
        assert!(!call.is_alive().await);
        assert_eq!(server.handle().dead_letters().len(), 1);
    }
}

/// SUB-07: no event after cancelling or closing, not even one that waits to be tried again.
#[tokio::test(start_paused = true)]
async fn none_after_the_end() {
    for cancel in [true, false] {
        let (server, emitters) = server();
        let (mut call, events) = confirmed(&server, &emitters).await;
        events.emit("one").await.unwrap();
        assert_eq!(call.event().await.text, "one");
        server.answer_next([Attempt::status(500)]);
        for n in 0..10 {
            events.emit(n.to_string()).await.unwrap();
        }
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let status = if cancel { call.cancel().await } else { call.close_thread().await };
        assert_eq!(status, StatusCode::OK);
        assert!(!call.is_alive().await);
        events.ended().await;
        assert_eq!(events.emit("late").await, Err(EmitError::Ended));
        assert_eq!(events.finish("late").await, Err(EmitError::Ended));
        let attempts = server.attempts();
        call.silence().await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(server.attempts(), attempts);
        call.silence().await;
    }
}

/// SUB-07: cancelled before it was confirmed, it is no subscription.
#[tokio::test(start_paused = true)]
async fn cancelled_before_it_began() {
    let slow = Tool::new("slow", "d", async |call: Call| {
        call.cancelled().await;
        let (subscribed, events) = call.subscribe().confirm("watching");
        let _ = events.emit("x").await;
        subscribed
    });
    let server = TestServer::new(ToolServer::new("test").tool(slow));
    let mut call = server.start("slow", json!({})).await;
    tokio::task::yield_now().await;
    assert_eq!(call.cancel().await, 200);
    let arrived = call.any().await.json;
    assert_eq!(arrived["text"], "Error: the call was cancelled");
    assert!(arrived.get("subscription").is_none());
    call.silence().await;
}

/// 410 ends the URL: nothing more is sent, and whoever emits learns it.
#[tokio::test(start_paused = true)]
async fn gone() {
    let (server, emitters) = server();
    let (mut call, events) = confirmed(&server, &emitters).await;
    server.answer_next([Attempt::status(410)]);
    events.emit("one").await.unwrap();
    events.emit("two").await.unwrap();
    events.ended().await;
    assert_eq!(events.emit("three").await, Err(EmitError::Ended));
    assert!(!call.is_alive().await);
    assert_eq!(server.attempts(), 2);
    call.silence().await;
}

/// Dropping the emitter, or its task, ends the subscription with a last event; so does a shutdown.
#[tokio::test(start_paused = true)]
async fn goodbye() {
    let (server, emitters) = server();
    let (mut call, events) = confirmed(&server, &emitters).await;
    drop(events);
    let last = call.event().await;
    assert!(last.is_final, "{last:?}");
    assert!(!call.is_alive().await);

    let (mut call, events) = confirmed(&server, &emitters).await;
    events.emit("one").await.unwrap();
    let owed = server.shut_down(Duration::from_secs(5)).await;
    assert!(owed.0.is_empty());
    assert_eq!(call.event().await.text, "one");
    let last = call.event().await;
    assert!(last.is_final && last.text.contains("shutting down"), "{last:?}");
    assert_eq!(events.emit("late").await, Err(EmitError::Ended));
}

/// Work under `until_cancelled` ends with the subscription, and not while it lives.
#[tokio::test(start_paused = true)]
async fn until_it_ends() {
    let (told, mut news) = tokio::sync::mpsc::unbounded_channel();
    let watch = Tool::new("watch", "d", move |call: Call| {
        let told = told.clone();
        async move {
            let (subscribed, events) = call.subscribe().confirm("watching");
            tokio::spawn(async move {
                let pending = std::future::pending::<()>();
                let outcome = call.until_cancelled(pending).await;
                told.send((outcome.unwrap_err().is_stopped(), events.is_ended())).unwrap();
            });
            subscribed
        }
    });
    let server = TestServer::new(ToolServer::new("test").tool(watch));
    for stop in ["cancel", "close", "gone"] {
        let mut call = server.start("watch", json!({})).await;
        assert!(call.result().await.0.subscription);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(news.try_recv().is_err(), "it lives");
        match stop {
            "cancel" => assert_eq!(call.cancel().await, 200),
            "close" => assert_eq!(call.close_thread().await, 200),
            _ => assert!(server.shut_down(Duration::from_secs(5)).await.0.is_empty()),
        }
        let news = tokio::time::timeout(Duration::from_secs(1), news.recv()).await;
        assert_eq!(news.unwrap(), Some((true, true)), "{stop}");
    }
}

/// The queue is bounded: `emit` waits for room, `try_emit` refuses, nothing is lost or reordered. LIM-01: too large
/// an event is refused.
#[tokio::test(start_paused = true)]
async fn overflow() {
    let (server, emitters) = server_with(|server| server.event_queue(3));
    let (mut call, events) = confirmed(&server, &emitters).await;
    server.answer_next((0..3).map(|_| Attempt::Refused));
    assert_eq!(events.emit("x".repeat(300 * 1024)).await, Err(EmitError::TooLarge));
    for n in 0..3 {
        events.try_emit(n.to_string()).unwrap();
    }
    assert_eq!(events.try_emit("3"), Err(EmitError::Full));
    events.emit("3").await.unwrap();
    for n in 0..4 {
        assert_eq!(call.event().await.text, n.to_string());
    }
}

/// SUB-11: so many at once, then so many a second.
#[tokio::test(start_paused = true)]
async fn rate() {
    let (server, emitters) = server_with(|server| server.event_rate(10, 5));
    let (mut call, events) = confirmed(&server, &emitters).await;
    let start = tokio::time::Instant::now();
    for n in 0..25 {
        events.emit(n.to_string()).await.unwrap();
    }
    for n in 0..25 {
        assert_eq!(call.event().await.text, n.to_string());
        let (earliest, now) =
            (Duration::from_millis(100) * u32::max(n, 4) - Duration::from_millis(400), start.elapsed());
        assert!(
            now >= earliest && now <= earliest + Duration::from_millis(50),
            "{n}: {now:?} for {earliest:?}"
        );
    }
}

/// The confirmation of another call is no confirmation.
#[tokio::test(start_paused = true)]
async fn foreign_confirmation() {
    let server = thief();
    assert_eq!(server.call("keep", json!({})).await.text(), "kept");
    let result = server.call("steal", json!({})).await;
    assert!(result.is_error() && !result.0.subscription, "{result:?}");
}

fn thief() -> TestServer {
    let kept: Arc<Mutex<Option<Subscribed>>> = Arc::default();
    let give = kept.clone();
    let keep = Tool::new("keep", "d", move |call: Call| {
        let kept = kept.clone();
        async move {
            *kept.lock().unwrap() = Some(call.subscribe().confirm("mine").0);
            "kept"
        }
    });
    let steal = Tool::new("steal", "d", move || {
        let give = give.clone();
        async move { give.lock().unwrap().take().ok_or_else(|| ToolError::new("nothing kept")) }
    });
    TestServer::new(ToolServer::new("test").tool(keep).tool(steal))
}
