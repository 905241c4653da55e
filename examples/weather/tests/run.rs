//! Runs the program as a runtime does: starts it, reads its port, calls its tool, waits for the callback, ends it.

#![allow(clippy::unwrap_used)]

use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

const PATIENCE: Duration = Duration::from_secs(30);

async fn start(arguments: &[&str], embedded: bool) -> (Child, u16) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weather"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    if embedded {
        command.env("RAP_EMBEDDED", "1");
    }
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    // The pipe is closed after the first line, which must not trouble the program.
    let mut out = BufReader::new(child.stdout.take().unwrap());
    tokio::time::timeout(PATIENCE, out.read_line(&mut line)).await.unwrap().unwrap();
    let first: Value = serde_json::from_str(&line).expect("the first line is {\"port\":N}");
    (child, first["port"].as_u64().unwrap().try_into().unwrap())
}

async fn ends(child: &mut Child) {
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "{status}");
}

async fn callbacks() -> (String, mpsc::UnboundedReceiver<Value>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let take = |State(sender): State<mpsc::UnboundedSender<Value>>, Json(message): Json<Value>| async move {
        sender.send(message).unwrap();
    };
    let router = Router::new().route("/callback", post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/callback?capability=x", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, receiver)
}

/// TLS-01, TRN-02, RES-01, and a clean end on SIGTERM.
#[tokio::test]
async fn a_call() {
    let (mut child, port) = start(&["--port", "0"], false).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let toolset: Value = client
        .get(format!("http://127.0.0.1:{port}/.well-known/rap-toolset"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let endpoint = toolset["endpoint"].as_str().unwrap();
    assert_eq!(endpoint, format!("http://127.0.0.1:{port}/invoke"));
    assert_eq!(toolset["tools"][0]["inputSchema"]["required"], json!(["city"]));

    let (callback_url, mut arrivals) = callbacks().await;
    let invocation = json!({
        "operation": toolset["tools"][0]["name"],
        "arguments": {"city": "Oslo"},
        "id": "c1",
        "callback_url": callback_url,
        "group_id": "t1",
    });
    let answer = client.post(endpoint).json(&invocation).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let result = tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    assert_eq!(
        result,
        json!({"type": "tool_result", "group_id": "t1", "id": "c1", "text": "Oslo: sun, 21 °C"})
    );

    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    ends(&mut child).await;
}

/// Whatever the judge can see of it is right.
#[tokio::test]
async fn conforms() {
    let (_child, port) = start(&["--port", "0"], false).await;
    let report = rap_conformance::check(&format!("http://127.0.0.1:{port}")).await.unwrap();
    let of = |id| report.obligations.iter().find(|o| o.id == id).unwrap().verdict;
    assert_eq!(of("TRN-02"), rap_conformance::verdict::Verdict::Pass);
}

/// Spawned by a parent: the end of stdin ends it only when asked to.
#[tokio::test]
async fn stdin() {
    let (mut child, _) = start(&["--exit-on-stdin-eof"], true).await;
    drop(child.stdin.take());
    ends(&mut child).await;

    let (mut child, port) = start(&[], true).await;
    drop(child.stdin.take());
    let url = format!("http://127.0.0.1:{port}/.well-known/rap-toolset");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
    assert!(child.try_wait().unwrap().is_none());
}

/// What is wrong is said in one go, in words.
#[tokio::test]
async fn wrong_argument() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weather"));
    let output = command.arg("--prot").output().await.unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("unknown argument \"--prot\""), "{error}");
    assert!(!error.contains("StartError"), "{error}");
}

/// The README shows this very program.
#[test]
fn the_readme_shows_this_program() {
    let readme = include_str!("../../../README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(shown, Some(include_str!("../src/main.rs")));
}
