//! Dead letters that are sent again: once, not lost on the way, and not where nobody wants them any more.

use crate::subscriptions::{Emitters, watch};
use futures_util::FutureExt;
use rap_server::{
    Args, Call, Emitter, ResendError, Tool, ToolServer,
    rap_http::Attempt,
    testing::{TestCall, TestServer},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Shown {
    n: u8,
}

fn server() -> (TestServer, Arc<Emitters>) {
    let show =
        Tool::new("show", "d", async |call: Call, Args(n): Args<Shown>| call.view("v", json!({"n": n.n})));
    let emitters = Arc::new(Emitters::default());
    let server = ToolServer::new("test").tool(watch()).tool(show);
    let server = server.tool(Tool::new("echo", "d", async || "hello")).shared_state(emitters.clone());
    (TestServer::new(server), emitters)
}

/// A subscription, and the number of an event of it that was given up.
async fn with_a_dead_event(server: &TestServer, emitters: &Emitters, last: bool) -> (TestCall, Emitter, u64) {
    let mut call = server.start("watch", json!({})).await;
    assert!(call.result().await.0.subscription);
    let events = emitters.lock().unwrap().pop().unwrap();
    server.answer_next([Attempt::status(400)]);
    if last {
        events.clone().finish("last").await.unwrap();
    } else {
        events.emit("one").await.unwrap();
    }
    call.silence().await;
    let letters = server.handle().dead_letters();
    let letter = letters.last().unwrap();
    assert_eq!(letter.kind(), "subscription_event");
    (call, events, letter.number())
}

/// SUB-07: an event that was given up is sent again while its subscription lives, and never after its last event, a
/// cancellation or the closing of its thread; whoever asks is told why.
#[tokio::test(start_paused = true)]
async fn no_event_after_the_end() {
    for end in ["", "finish", "cancel", "close"] {
        let (server, emitters) = server();
        let (mut call, events, number) = with_a_dead_event(&server, &emitters, false).await;
        match end {
            "finish" => {
                events.finish("over").await.unwrap();
                assert!(call.event().await.is_final);
            }
            "cancel" => assert_eq!(call.cancel().await, 200),
            "close" => assert_eq!(call.close_thread().await, 200),
            _ => {}
        }
        let attempts = server.attempts();
        let sent = server.handle().resend(number).await;
        if end.is_empty() {
            assert_eq!((sent, server.attempts()), (Ok(()), attempts + 1));
            assert_eq!(call.event().await.text, "one");
        } else {
            assert!(matches!(sent, Err(ResendError::Unwanted(_))), "{end}: {sent:?}");
            assert_eq!(server.attempts(), attempts, "{end}");
        }
        assert!(server.handle().dead_letters().is_empty());
        call.silence().await;
    }
}

/// SUB-06, SUB-07: the last event itself can still be sent, unless the call was cancelled meanwhile.
#[tokio::test(start_paused = true)]
async fn the_last_event_itself() {
    for cancelled in [false, true] {
        let (server, emitters) = server();
        let (mut call, _events, number) = with_a_dead_event(&server, &emitters, true).await;
        if cancelled {
            assert_eq!(call.cancel().await, 200);
        }
        let sent = server.handle().resend(number).await;
        assert_eq!(sent.is_ok(), !cancelled, "{sent:?}");
        if !cancelled {
            assert!(call.event().await.is_final);
        }
        call.silence().await;
    }
}

/// VIW-01: an older content of a view is off the list as soon as there is a newer one, of whatever call of the thread.
#[tokio::test(start_paused = true)]
async fn no_older_view_over_a_newer_one() {
    let (server, _) = server();
    let show = |n: u8, id: &str| crate::invocation("show", json!({"n": n}), "t", id);
    server.answer_next([Attempt::status(400)]);
    let mut older = server.invoke(show(1, "older")).await;
    assert_eq!(older.any().await.json["text"], "done");
    let number = server.handle().dead_letters()[0].number();
    let mut other = crate::invocation("show", json!({"n": 3}), "another thread", "c");
    other["callback_url"] = json!("http://127.0.0.1:4000/another");
    server.invoke(other).await.result().await;
    assert_eq!(server.handle().dead_letters().len(), 1);
    let mut newer = server.invoke(show(2, "newer")).await;
    assert_eq!(newer.view().await.content["n"], 2);
    assert!(server.handle().dead_letters().is_empty());
    assert_eq!(server.handle().resend(number).await, Err(ResendError::Unknown));
    older.silence().await;
}

/// CHO-03: a question that could not be asked is listed, but not asked when nobody awaits the answer.
#[tokio::test(start_paused = true)]
async fn no_question_that_nobody_awaits() {
    let ask = Tool::new("ask", "d", async |call: Call| call.choose("Which?", ["a"], 0).await.map(|p| p.text));
    let server = TestServer::new(ToolServer::new("test").tool(ask));
    server.answer_next([Attempt::status(403)]);
    let mut call = server.start("ask", json!({})).await;
    assert!(call.result().await.is_error());
    let letters = server.handle().dead_letters();
    assert_eq!((letters.len(), letters[0].kind()), (1, "user_choice"));
    let sent = server.handle().resend(letters[0].number()).await;
    assert!(matches!(sent, Err(ResendError::Unwanted(why)) if why.contains("nobody awaits")), "{sent:?}");
    call.silence().await;
    assert!(server.handle().dead_letters().is_empty());
}

/// INV-07: to send again is one attempt, at once, even to an origin that is left in peace; dropped halfway it loses
/// nothing, and two at a time are one.
#[tokio::test(start_paused = true)]
async fn one_attempt_and_nothing_lost() {
    let (server, _) = server();
    server.answer_next([Attempt::status(400)]);
    let mut call = server.start("echo", json!({})).await;
    call.silence().await;
    let handle = server.handle();
    let letter = handle.dead_letters().remove(0);
    {
        let mut dropped = std::pin::pin!(handle.resend(letter.number()));
        assert!(dropped.as_mut().now_or_never().is_none());
        assert_eq!(handle.resend(letter.number()).await, Err(ResendError::Underway));
        assert_eq!(handle.dead_letters(), std::slice::from_ref(&letter));
    }
    assert_eq!(handle.dead_letters(), std::slice::from_ref(&letter));
    // Another delivery is in trouble with that origin.
    server.answer_next((0..11).map(|_| Attempt::Refused));
    let mut other = server.start("echo", json!({})).await;
    let attempts = server.attempts();
    while server.attempts() < attempts + 11 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.answer_next([Attempt::Refused]);
    let start = tokio::time::Instant::now();
    let failed = handle.resend(letter.number()).await;
    assert!(matches!(failed, Err(ResendError::NotTaken(_))), "{failed:?}");
    assert_eq!((server.attempts(), handle.dead_letters()[0].attempts()), (attempts + 12, 2));
    handle.resend(letter.number()).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(call.result().await.text(), "hello");
    assert!(handle.dead_letters().is_empty());
    assert_eq!(other.result_within(Duration::from_secs(3600)).await.text(), "hello");
}
