//! `rap run`: conversations, with servers at ordinary and at odd URLs.

use crate::support::{Server, plain, rap, troublesome, weather};
use serde_json::Value;

const TWO_CALLS: &str = r#"call get_weather {"city":"Oslo"} and get_time {}"#;

/// The form that the scripted model is told to call in; text, calls and results are shown.
#[test]
fn a_conversation() {
    let server = Server::of(weather());
    let ended = rap(&["run", TWO_CALLS, "--server", &server.base]).expect_success();
    // The two results come in any order.
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"), @r#"
        call get_time {}
        call get_weather {"city":"Oslo"}
      result get_time: noon
      result get_weather: Oslo: rain
    Calling get_weather and get_time.
    get_time: noon
    get_weather: Oslo: rain
    "#);
    insta::assert_snapshot!(ended.stderr, @r#"no model is configured, so the scripted one answers; tell it what to call, e.g. call get_weather {"city":"Oslo"} and get_time {}"#);
}

/// An agent needs no tool server: its built-in tools work, and what is said is answered.
#[test]
fn no_server_at_all() {
    let ended = rap(&["run", r#"call sleep {"seconds":1}"#]).expect_success();
    insta::assert_snapshot!(ended.stdout, @r#"
    Calling sleep.
        call sleep {"seconds":1}
      result sleep: The wait of 1 s is over.
    sleep: The wait of 1 s is over.
    "#);
}

/// Base URLs with a path prefix, with and without a slash at the end; endpoints elsewhere and with a query
/// (INV-11, TLS-02).
#[test]
fn odd_urls() {
    let prefixed = Server::start(|base| {
        let tools = weather().public_url(format!("{base}/tools/of/mine")).into_service(true).unwrap();
        axum::Router::new().nest("/tools/of/mine", tools.into())
    });
    let queried = Server::start(|base| {
        let tools = weather().public_url(base).endpoint_url(format!("{base}/hooks/call?tenant=a%20b&v=2"));
        let service: axum::Router = tools.into_service(true).unwrap().into();
        service.layer(axum::middleware::from_fn(
            |request: axum::extract::Request, next: axum::middleware::Next| async {
                let uri = request.uri().clone();
                if uri.path() == "/hooks/call" && uri.query() != Some("tenant=a%20b&v=2") {
                    return axum::http::StatusCode::NOT_FOUND.into_response();
                }
                next.run(request).await
            },
        ))
    });
    use axum::response::IntoResponse;
    for url in [
        format!("{}/tools/of/mine", prefixed.base),
        format!("{}/tools/of/mine/", prefixed.base),
        queried.base.clone(),
    ] {
        let ended = rap(&["run", TWO_CALLS, "--server", &url]).expect_success();
        assert!(ended.stdout.contains("result get_weather: Oslo: rain"), "{url}: {}", ended.transcript());
    }
}

/// One JSON event a line, from the session's beginning to its rest.
#[test]
fn json() {
    let server = Server::of(weather());
    let ended = rap(&["--json", "run", TWO_CALLS, "--server", &server.base]).expect_success();
    let records = ended.records();
    let field = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    assert_eq!((field(&records[0], "run"), records[0]["tools"].as_u64()), ("began".to_owned(), Some(2)));
    let last = records.last().unwrap();
    assert_eq!((field(last, "run"), last["open_calls"].as_u64()), ("at_rest".to_owned(), Some(0)));
    for kind in ["message", "text", "call", "result", "resting"] {
        assert!(records.iter().any(|record| field(record, "kind") == kind), "{kind}: {}", ended.stdout);
    }
    assert!(records.iter().any(|record| field(record, "watched") == "chunk"), "{}", ended.stdout);
}

/// The same database goes on later; the session remembers.
#[test]
fn later() {
    let server = Server::of(weather());
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("agent.db");
    let db = db.to_str().unwrap();
    let ended = rap(&["run", "call get_time {}", "--server", &server.base, "--db", db]).expect_success();
    let session = ended.stderr.split("--session ").nth(1).unwrap().trim().to_owned();
    insta::assert_snapshot!(plain(ended.stderr.lines().last().unwrap(), &[(db, "DB")]), @r#"to go on: rap run "..." --db DB --session ID"#);

    let ended = rap(&["run", r#"call get_weather {"city":"Rome"}"#, "--db", db, "--session", &session]);
    let ended = ended.expect_success();
    assert!(ended.stdout.contains("result get_weather: Rome: rain"), "{}", ended.transcript());
    assert!(!ended.stdout.contains("get_time"), "what was before is not told again: {}", ended.transcript());

    let shown = rap(&["show", &session, "--db", db]).expect_success().stdout;
    assert!(shown.contains("noon") && shown.contains("Rome: rain"), "{shown}");
    let listed = rap(&["--json", "sessions", "--db", db]).expect_success().records();
    assert_eq!((listed.len(), listed[0]["id"].as_str()), (1, Some(session.as_str())));
}

/// The time is over: what is open stays open, is listed with its age, and goes on later (P10).
#[test]
fn timeout() {
    let (tools, gate) = troublesome();
    let server = Server::of(tools);
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("agent.db");
    let db = db.to_str().unwrap();
    let ended = rap(&["run", "call wait", "--server", &server.base, "--db", db, "--timeout", "1500ms"])
        .expect_failure("the time is over and the agent is still at work (1 open call)");
    let session = ended.stderr.split("--session ").nth(1).unwrap().trim().to_owned();
    let calls = rap(&["--json", "calls", "--db", db]).expect_success().records();
    assert_eq!((calls.len(), calls[0]["tool"].as_str()), (1, Some("wait")));
    assert!(calls[0]["age_ms"].as_i64().unwrap() >= 1000, "{calls:?}");

    gate.notify_one();
    let ended =
        rap(&["run", "hello", "--db", db, "--session", &session, "--timeout", "60s"]).expect_success();
    assert!(ended.stdout.contains("wait: it was worth it"), "{}", ended.transcript());
    let ended = rap(&["calls", "--db", db]).expect_success();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "no open calls\n"));
}

/// Without a word of the person, a destructive tool does not run (CON-02); nobody there to ask takes the
/// default of a choice (CHO-01).
#[test]
fn people_decide() {
    let (tools, _gate) = troublesome();
    let server = Server::of(tools);
    let denied = rap(&["run", "call delete_all", "--server", &server.base]).expect_success();
    assert!(!denied.stdout.contains("all is gone"), "{}", denied.transcript());
    assert!(denied.stdout.contains("error delete_all"), "{}", denied.transcript());
    let allowed = rap(&["run", "call delete_all", "--server", &server.base, "--allow-destructive"]);
    let allowed = allowed.expect_success();
    assert!(allowed.stdout.contains("result delete_all: all is gone"), "{}", allowed.transcript());
    let asked = rap(&["run", "call ask", "--server", &server.base]).expect_success();
    assert!(asked.stdout.contains("result ask: coffee"), "{}", asked.transcript());
}

/// CLS-01: what was only for this command is closed with it, and the servers hear of that.
#[test]
fn a_conversation_without_a_database_says_goodbye() {
    let (closed, told) = std::sync::mpsc::channel();
    let server = Server::start(|base| {
        let service: axum::Router = weather().public_url(base).into_service(true).unwrap().into();
        service.layer(axum::middleware::from_fn(
            move |request: axum::extract::Request, next: axum::middleware::Next| {
                let closed = closed.clone();
                async move {
                    if request.uri().path().ends_with("/close_thread") {
                        closed.send(()).unwrap();
                    }
                    next.run(request).await
                }
            },
        ))
    });
    rap(&["run", "hello", "--server", &server.base]).expect_success();
    told.recv_timeout(crate::support::PATIENCE).expect("the server is told");
}

/// Data that cannot be written is a failure, not a silence.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let server = Server::of(weather());
    let mut command = crate::support::command(&["run", "hello", "--server", &server.base]);
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    crate::support::end_of(command.spawn().unwrap()).expect_failure("the output cannot be written");
}

/// A key that is gone cuts off what is open: whoever starts again is told before it is too late.
#[test]
fn a_lost_key() {
    let server = Server::of(troublesome().0);
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("agent.db").display().to_string();
    let run = ["run", "call wait {}", "--server", &server.base, "--db", &db, "--timeout", "1s"];
    let ended = rap(&run).expect_failure("the time is over");
    assert!(!ended.stderr.contains("is missing"), "{}", ended.stderr);
    std::fs::remove_file(format!("{db}.key")).unwrap();
    let ended = rap(&["run", "hello", "--server", &server.base, "--db", &db]).expect_success();
    assert!(ended.stderr.contains("agent.db.key is missing"), "{}", ended.stderr);
    assert!(ended.stderr.contains("for 1 open call and 0 subscriptions"), "{}", ended.stderr);
}
