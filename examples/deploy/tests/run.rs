//! Runs the program as a runtime does: starts it, calls `deploy`, answers its question, reads the result.

#![allow(clippy::unwrap_used)]

use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
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

/// CHO-02, CHO-03, RES-12: the view, the question, the answer at its `response_url`, the result with its diff.
#[tokio::test]
async fn a_deployment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services.txt");
    std::fs::write(&file, "web = 1.0\n").unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_deploy"))
        .args(["--port", "0"])
        .env("SERVICES", &file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    tokio::time::timeout(PATIENCE, out.read_line(&mut line)).await.unwrap().unwrap();
    let port = serde_json::from_str::<Value>(&line).expect("the first line is {\"port\":N}")["port"].clone();

    let (callback_url, mut arrivals) = callbacks().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let invocation = json!({
        "operation": "deploy",
        "arguments": {"service": "web", "version": "1.1"},
        "id": "c1",
        "callback_url": callback_url,
        "group_id": "t1",
    });
    let answer = client.post(format!("http://127.0.0.1:{port}/invoke")).json(&invocation).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let mut next = async || tokio::time::timeout(PATIENCE, arrivals.recv()).await.unwrap().unwrap();
    assert_eq!(next().await["content"]["state"], "asking");
    let question = next().await;
    assert_eq!(question["choices"], json!(["Deploy", "Leave it"]));
    let pick = json!({"id": "c1", "selected": 0});
    let url = question["response_url"].as_str().unwrap();
    assert_eq!(client.post(url).json(&pick).send().await.unwrap().status(), 200);
    assert_eq!(client.post(url).json(&pick).send().await.unwrap().status(), 409);
    assert_eq!(next().await["content"]["state"], "done");
    let result = next().await;
    assert_eq!(result["text"], "deployed web 1.1, it was 1.0");
    assert_eq!(result["display_as"][0]["content"]["path"], "services.txt");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "web = 1.1\n");
}
