//! Runs the program as a runtime does: starts it, subscribes, reads the events of a real process to their end.

#![allow(clippy::unwrap_used)]

use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn callbacks() -> (String, mpsc::UnboundedReceiver<Value>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let take = |State(sender): State<mpsc::UnboundedSender<Value>>, Json(message): Json<Value>| async move {
        sender.send(message).unwrap();
    };
    let router = Router::new().route("/callback", post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

/// Starts the program with these checks, and subscribes to them as the call `c1` of the thread `t1`; beside it what
/// comes back.
async fn subscribed(checks: &str) -> (Child, mpsc::UnboundedReceiver<Value>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ci-watch"))
        .args(["--port", "0"])
        .env("CHECKS", checks)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    tokio::time::timeout(PATIENCE, out.read_line(&mut line)).await.unwrap().unwrap();
    let port = serde_json::from_str::<Value>(&line).expect("the first line is {\"port\":N}")["port"].clone();

    let (callback_url, arrivals) = callbacks().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let invocation = json!({
        "operation": "watch_checks",
        "arguments": {},
        "id": "c1",
        "callback_url": callback_url,
        "group_id": "t1",
    });
    let answer = client.post(format!("http://127.0.0.1:{port}/invoke")).json(&invocation).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    (child, arrivals)
}

async fn next(arrivals: &mut mpsc::UnboundedReceiver<Value>) -> Value {
    tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap()
}

/// SUB-01, SUB-07, SUB-13: the confirmation first, then the events, each with an id of its own, the last one final.
#[tokio::test]
async fn a_subscription() {
    let (_child, mut arrivals) = subscribed("echo fine; echo FAIL one; echo FAIL two; exit 1").await;
    let confirmation = next(&mut arrivals).await;
    assert_eq!((&confirmation["type"], &confirmation["subscription"]), (&json!("tool_result"), &json!(true)));
    let mut ids = std::collections::HashSet::new();
    for (text, last) in [("FAIL one", false), ("FAIL two", false), ("the checks failed", true)] {
        let event = next(&mut arrivals).await;
        assert!(event["text"].as_str().unwrap().starts_with(text), "{event}");
        assert_eq!(event["final"].as_bool().unwrap_or(false), last, "{event}");
        assert_eq!(event["tool_call_id"], "c1");
        assert!(ids.insert(event["event_id"].as_str().unwrap().to_owned()));
    }
}

/// However the program ends, nothing that its checks have started outlives it, not even what takes no notice of
/// SIGTERM: killed outright, and told to end, when the subscription's last event says so.
#[tokio::test]
async fn nothing_outlives_it() {
    for signal in ["-KILL", "-TERM"] {
        let (mut child, mut arrivals) =
            subscribed("trap '' TERM; sleep 1000 & echo FAIL; wait; sleep 1000").await;
        assert_eq!(next(&mut arrivals).await["subscription"], true);
        assert_eq!(next(&mut arrivals).await["text"], "FAIL");
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        if signal == "-TERM" {
            let last = next(&mut arrivals).await;
            assert_eq!(last["final"], true, "{last}");
        }
        // Everybody who is left holds the other end: it closes with the last of them.
        let mut log = Vec::new();
        let mut held = child.stderr.take().unwrap();
        let gone = tokio::time::timeout(PATIENCE, held.read_to_end(&mut log)).await;
        gone.expect("all processes are gone").unwrap();
        tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    }
}
