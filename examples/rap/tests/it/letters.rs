//! `rap dead-letters resend`: a call that was given up goes out again.

use crate::support::{Server, rap};
use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// P1: what a server refused is listed, sent again by the next process that has the database, and listed no more; one that
/// is not there is an error that says what to do.
#[test]
fn sent_again_later() {
    let (status, seen) = (Arc::new(Mutex::new(422_u16)), Arc::new(Mutex::new(Vec::<Value>::new())));
    let (answers, came) = (status.clone(), seen.clone());
    let server = Server::start(|base| {
        let toolset = json!({"name": "strict", "endpoint": format!("{base}/invoke"),
            "tools": [{"name": "work", "description": "x", "inputSchema": {"type": "object"}}]});
        let take = move |Json(invocation): Json<Value>| async move {
            came.lock().unwrap().push(invocation);
            StatusCode::from_u16(*answers.lock().unwrap()).unwrap()
        };
        Router::new()
            .route("/.well-known/rap-toolset", get(move || async move { Json(toolset) }))
            .route("/invoke", post(take))
    });
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("agent.db");
    let db = db.to_str().unwrap();
    let ended = rap(&["run", "call work", "--server", &server.base, "--db", db]).expect_success();
    let session = ended.stderr.split("--session ").nth(1).unwrap().trim().to_owned();
    let letters = rap(&["--json", "dead-letters", "--db", db]).expect_success().records();
    assert_eq!((letters.len(), &letters[0]["attempts"]), (1, &json!(1)), "{letters:?}");
    let told = rap(&["dead-letters", "--db", db]).expect_success().stdout;
    assert!(told.contains(", after one try: "), "{told}");
    rap(&["dead-letters", "resend", "999", "--db", db]).expect_failure("there is no dead letter 999");
    let id = letters[0]["id"].to_string();
    rap(&["dead-letters", "resend", &id, "--db", db]).expect_success();
    assert!(rap(&["--json", "dead-letters", "--db", db]).expect_success().records().is_empty());
    *status.lock().unwrap() = 200;
    rap(&["run", "hello", "--db", db, "--session", &session, "--timeout", "60s"]).expect_success();
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), &seen[0]["id"]), (2, &seen[1]["id"]), "the same call, once more");
}
