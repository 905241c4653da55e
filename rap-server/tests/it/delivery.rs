//! Callbacks go out by the delivery contract, under a simulated clock.

use crate::invocation;
use rap_server::{ResendError, Tool, ToolServer, rap_http::Attempt, testing::TestServer};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_secs(3600);

fn server() -> TestServer {
    let echo = Tool::new("echo", "d", async || "hello");
    TestServer::new(ToolServer::new("test").tool(echo))
}

fn refused(times: usize) -> impl Iterator<Item = Attempt> {
    (0..times).map(|_| Attempt::Refused)
}

/// TRN-05: refused and timed-out connections and 5xx are tried again, later each time, with the same bytes.
#[tokio::test(start_paused = true)]
async fn retried() {
    for failure in [
        Attempt::status(500),
        Attempt::status(503),
        Attempt::Refused,
        Attempt::TimedOut,
        Attempt::status(302),
    ] {
        let server = server();
        server.answer_next((0..6).map(|_| failure.clone()));
        let start = Instant::now();
        let mut call = server.start("echo", json!({})).await;
        assert_eq!(call.result_within(HOUR).await.text(), "hello", "{failure}");
        assert_eq!(server.attempts(), 7, "{failure}");
        // ¼ + ½ + 1 + 2 + 4 + 8 s, each up to a fifth longer.
        let took = start.elapsed().as_secs_f64();
        assert!((7.5..19.0).contains(&took), "{failure}: {took}");
        assert!(server.handle().dead_letters().is_empty());
    }
}

/// TRN-06: a 4xx is final, 408, 425 and 429 excepted; what is given up is a dead letter that can be sent again.
#[tokio::test(start_paused = true)]
async fn final_answers() {
    for status in [400, 401, 403, 404, 405, 409, 410, 413, 422] {
        let server = server();
        server.answer_next([Attempt::status(status)]);
        let mut call = server.start("echo", json!({})).await;
        call.silence().await;
        tokio::time::sleep(100 * HOUR).await;
        assert_eq!(server.attempts(), 1, "{status}");
        assert!(!call.is_alive().await);
        let handle = server.handle();
        let letters = handle.dead_letters();
        assert_eq!(letters.len(), 1);
        let letter = &letters[0];
        assert_eq!((letter.kind(), letter.attempts(), letter.call().as_str()), ("tool_result", 1, "call-1"));
        assert!(letter.reason().contains(&status.to_string()), "{}", letter.reason());
        // Sent again, it fails again and stays; then it arrives and is gone.
        server.answer_next([Attempt::status(status)]);
        let failed = handle.resend(letter.number()).await;
        assert!(matches!(&failed, Err(ResendError::NotTaken(why)) if why.contains(&status.to_string())));
        let again = handle.dead_letters();
        assert_eq!((again.len(), again[0].number(), again[0].attempts()), (1, letter.number(), 2));
        handle.resend(letter.number()).await.unwrap();
        assert_eq!(call.result().await.text(), "hello");
        assert!(handle.dead_letters().is_empty());
        assert_eq!(handle.resend(letter.number()).await, Err(ResendError::Unknown));
    }
    for status in [408, 425, 429] {
        let server = server();
        server.answer_next([Attempt::status(status)]);
        assert_eq!(server.call("echo", json!({})).await.text(), "hello", "{status}");
    }
}

/// 72 hours of a runtime that is down lose nothing, and one probe at a time finds out that it is back.
#[tokio::test(start_paused = true)]
async fn three_days() {
    let server = server();
    server.answer_next(refused(10_000));
    let mut calls = Vec::new();
    for _ in 0..20 {
        calls.push(server.start("echo", json!({})).await);
    }
    tokio::time::sleep(72 * HOUR).await;
    assert!(server.attempts() <= 20 * 18, "{}", server.attempts());
    assert_eq!(server.handle().open_calls(), 20);
    server.answer_well();
    // The first to be due finds out, and releases the rest.
    let first =
        futures_util::future::select_all(calls.iter_mut().map(|c| Box::pin(c.result_within(25 * HOUR))));
    assert_eq!(first.await.0.text(), "hello");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.handle().dead_letters().is_empty());
    assert_eq!(server.handle().open_calls(), 0);
}

/// `Retry-After` slows the whole origin down; other origins go on.
#[tokio::test(start_paused = true)]
async fn retry_after() {
    let server = server();
    server.answer_next([Attempt::Status { code: 429, retry_after: Some(Duration::from_secs(5)) }]);
    let start = Instant::now();
    let mut slowed = server.start("echo", json!({})).await;
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let mut same_origin = server.start("echo", json!({})).await;
    let mut sent = invocation("echo", json!({}), "t", "other");
    sent["callback_url"] = json!("http://127.0.0.1:4001/elsewhere");
    let mut other_origin = server.invoke(sent).await;
    assert_eq!(other_origin.result().await.text(), "hello");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(slowed.result().await.text(), "hello");
    assert!(start.elapsed() >= Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(same_origin.result().await.text(), "hello");
    assert!(start.elapsed() >= Duration::from_secs(5));
}

/// A callback that is refused for its own sake holds up no other call.
#[tokio::test(start_paused = true)]
async fn calls_do_not_block_each_other() {
    let server = server();
    server.answer_next([Attempt::status(500)]);
    let start = Instant::now();
    let mut first = server.start("echo", json!({})).await;
    let mut second = server.start("echo", json!({})).await;
    let mut took = Vec::new();
    for call in [&mut first, &mut second] {
        call.result().await;
        took.push(start.elapsed());
    }
    assert!(took.iter().any(|t| *t >= Duration::from_millis(250)));
    assert_eq!(server.attempts(), 3);
}

/// A callback to where this server may not call is refused with the invocation, before any work.
#[tokio::test(start_paused = true)]
async fn forbidden_targets() {
    let server = server();
    for url in [
        "http://10.0.0.1/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:10.0.0.1]/",
        "http://user:pass@127.0.0.1/",
        "ftp://127.0.0.1/",
        "not a url",
    ]
    .into_iter()
    // A build that speaks no https says so at once.
    .chain((!cfg!(feature = "tls")).then_some("https://127.0.0.1/"))
    {
        let mut sent = invocation("echo", json!({}), "t", "c");
        sent["callback_url"] = json!(url);
        let (status, problem) = server.post("/invoke", &sent).await;
        assert_eq!(status, 400, "{url}");
        assert!(problem["detail"].as_str().unwrap().contains("callback_url"), "{problem}");
    }
    assert_eq!(server.attempts(), 0);
    let exposed = ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello"));
    let service = exposed.public_url("https://example.com").bearer_token("t").into_service(false).unwrap();
    let request = http::Request::post("http://example.com/invoke")
        .header("content-type", "application/json")
        .header("authorization", "Bearer t")
        .body(http_body_util::Full::from(invocation("echo", json!({}), "t", "c").to_string()))
        .unwrap();
    // Loopback is a target only for a server on loopback.
    assert_eq!(tower::ServiceExt::oneshot(service, request).await.unwrap().status(), 400);
}

/// An answer of 503 may be the delivery's own fault: others' success does not bring its next try forward, or a
/// runtime that works for all but one call would use up that call's tries in no time.
#[tokio::test(start_paused = true)]
async fn others_success_says_nothing_of_a_503() {
    let server = server();
    server.answer_next([Attempt::status(503)]);
    let start = Instant::now();
    let mut troubled = server.start("echo", json!({})).await;
    while server.attempts() == 0 {
        tokio::task::yield_now().await;
    }
    let mut other = server.start("echo", json!({})).await;
    assert_eq!(other.result_within(HOUR).await.text(), "hello");
    let others = start.elapsed();
    assert_eq!(troubled.result_within(HOUR).await.text(), "hello");
    assert!(start.elapsed() > others, "it waited for its own time: {:?}, {others:?}", start.elapsed());
    assert_eq!(server.attempts(), 3);
}
