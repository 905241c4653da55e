//! What a server still owes at its end: a last attempt for all of it, and the rest in somebody's hands.

use crate::{
    invocation,
    subscriptions::{Emitters, watch},
};
use futures_util::FutureExt;
use rap_server::{Call, DeadLetter, Tool, ToolServer, rap_http::Attempt, testing::TestServer};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

fn server() -> (TestServer, Arc<Emitters>) {
    let show = Tool::new("show", "d", async |call: Call| {
        call.view("progress", json!({"n": 1})).unwrap();
        call.cancelled().await;
        "shown"
    });
    let ask = Tool::new("ask", "d", async |call: Call| call.choose("Which?", ["a"], 0).await.map(|p| p.text));
    let emitters = Arc::new(Emitters::default());
    let server = ToolServer::new("test").tool(watch()).tool(show).tool(ask);
    let server = server.tool(Tool::new("echo", "d", async || "hello")).shared_state(emitters.clone());
    (TestServer::new(server), emitters)
}

fn down(server: &TestServer) {
    server.answer_next((0..100_000).map(|_| Attempt::Refused));
}

async fn some_turns() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

fn bodies(owed: &[DeadLetter]) -> Vec<Value> {
    owed.iter().map(|letter| serde_json::from_slice(letter.body()).unwrap()).collect()
}

/// INV-07, SUB-06: of a live subscription everything is handed out, the event that is just being tried again
/// included, in order and the farewell last; every letter has a number of its own and says where it belongs.
#[tokio::test(start_paused = true)]
async fn a_subscription_while_the_runtime_is_down() {
    let (server, emitters) = server();
    let mut call = server.start("watch", json!({})).await;
    assert!(call.result().await.0.subscription);
    down(&server);
    let events = emitters.lock().unwrap().pop().unwrap();
    for n in 1..=3 {
        events.emit(n.to_string()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let owed = server.shut_down(Duration::from_secs(2)).await.0;
    let texts: Vec<_> = bodies(&owed).iter().map(|b| b["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(&texts[..3], ["1", "2", "3"], "{texts:?}");
    assert!(texts.len() == 4 && texts[3].contains("shutting down"), "{texts:?}");
    assert_eq!(bodies(&owed)[3]["final"], true);
    let numbers: HashSet<u64> = owed.iter().map(DeadLetter::number).collect();
    assert!(numbers.len() == 4 && !numbers.contains(&0), "{numbers:?}");
    for letter in &owed {
        assert_eq!(letter.url().as_str(), call.url());
        assert!(!format!("{letter:?}").contains("capability"), "{letter:?}");
    }
    assert!(owed[0].attempts() > 3 && owed[1].attempts() == 0, "{owed:?}");
    // Whoever took them over is alone with them.
    server.answer_well();
    let attempts = server.attempts();
    tokio::time::sleep(100 * HOUR).await;
    assert_eq!((server.attempts(), server.handle().open_calls()), (attempts, 0));
    assert!(server.shut_down(Duration::ZERO).await.0.is_empty(), "they are handed out once");
}

/// A view that is being tried again is owed, beside its call's result; a question is not: nobody could take its
/// answer.
#[tokio::test(start_paused = true)]
async fn views_and_questions() {
    let (server, _) = server();
    down(&server);
    for tool in ["show", "ask"] {
        server.start(tool, json!({})).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let owed = server.shut_down(Duration::from_secs(2)).await.0;
    let mut kinds: Vec<_> = owed.iter().map(|l| (l.call().as_str(), l.kind())).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [("call-1", "tool_result"), ("call-1", "view_update"), ("call-2", "tool_result")]);
}

/// Dead letters, one that is just being sent again among them, and an outcome that is delivered again are owed too.
#[tokio::test(start_paused = true)]
async fn letters_and_strays() {
    let (server, _) = server();
    server.answer_next([Attempt::status(400), Attempt::status(400)]);
    for n in 1..=2 {
        server.invoke(invocation("echo", json!({}), "t", &n.to_string())).await.silence().await;
    }
    let third = invocation("echo", json!({}), "t", "3");
    server.invoke(third.clone()).await.result().await;
    let handle = server.handle();
    assert_eq!(handle.dead_letters().len(), 2);
    down(&server);
    server.invoke(third).await;
    some_turns().await;
    let first = handle.dead_letters()[0].number();
    let owed = {
        let mut resending = std::pin::pin!(handle.resend(first));
        assert!(resending.as_mut().now_or_never().is_none());
        server.shut_down(Duration::from_secs(2)).await.0
    };
    let mut calls: Vec<_> = owed.iter().map(|l| (l.call().as_str(), l.is_result())).collect();
    calls.sort_unstable();
    assert_eq!(calls, [("1", true), ("2", true), ("3", true)]);
    assert_eq!(owed.iter().map(DeadLetter::number).collect::<HashSet<_>>().len(), 3);
    assert!(handle.dead_letters().is_empty());
    let attempts = server.attempts();
    tokio::time::sleep(100 * HOUR).await;
    assert_eq!(server.attempts(), attempts);
}

/// INV-07, TRN-05: however long the pause that a delivery is in, a shutdown tries it once more: a runtime that is well
/// again by then gets its result, whether it answered errors before or was not there.
#[tokio::test(start_paused = true)]
async fn a_last_attempt() {
    for failure in [Attempt::status(500), Attempt::Refused, Attempt::status(503), Attempt::TimedOut] {
        let (server, _) = server();
        server.answer_next((0..11).map(|_| failure.clone()));
        let mut call = server.start("echo", json!({})).await;
        while server.attempts() < 11 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        server.answer_well();
        let owed = server.shut_down(Duration::from_secs(2)).await.0;
        assert!(owed.is_empty(), "{failure}: {owed:?}");
        assert_eq!(call.result().await.text(), "hello", "{failure}");
        assert_eq!(server.attempts(), 12, "{failure}");
    }
}

/// The last attempt is one, and of many to an origin that is still down one alone asks first.
#[tokio::test(start_paused = true)]
async fn no_stampede_at_the_end() {
    let (server, _) = server();
    down(&server);
    for _ in 0..200 {
        server.start("echo", json!({})).await;
    }
    tokio::time::sleep(HOUR).await;
    let before = server.attempts();
    let owed = server.shut_down(Duration::from_millis(100)).await.0;
    assert_eq!(owed.len(), 200);
    assert_eq!(server.attempts() - before, 1);
}
