//! Looking after what is open: calls and subscriptions with their age, and tool servers that are asked again.

use crate::support::{Server, end_of, rap, serving, until, weather};
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use rap_server::{Call, Subscribed, ToolServer, tool};

/// Never tells anything.
#[tool]
async fn watch(#[cx] call: Call) -> Subscribed {
    let (subscribed, events) = call.subscribe().confirm("watching");
    // It lives as long as the server.
    Box::leak(Box::new(events));
    subscribed
}

/// P11: `rap calls` lists subscriptions with their age, and says of which of them nothing is known and why.
#[test]
fn subscriptions_are_listed() {
    let server = Server::start(|base| {
        let tools = ToolServer::new("feed").tool(watch).public_url(base);
        let service: axum::Router = tools.into_service(true).unwrap().into();
        service.layer(axum::middleware::from_fn(
            |request: axum::extract::Request, next: axum::middleware::Next| async {
                let asks = request.uri().path().ends_with("/tool_call_status");
                let refused = || -> Response { StatusCode::NOT_FOUND.into_response() };
                if asks { refused() } else { next.run(request).await }
            },
        ))
    });
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("agent.db").display().to_string();
    rap(&["run", "call watch", "--server", &server.base, "--db", &db]).expect_success();
    let listed = || rap(&["--json", "calls", "--db", &db]).expect_success().records();
    let calls = listed();
    assert_eq!((calls.len(), calls[0]["tool"].as_str()), (1, Some("watch")), "{calls:?}");
    assert_eq!(calls[0]["state"], "subscribed");
    assert!(calls[0]["age_ms"].as_i64().unwrap() > 0 && calls[0]["unknown"].is_null(), "{calls:?}");

    let (mut child, _) = serving(&["--db", &db]);
    until("nothing is known of it", || !listed()[0]["unknown"].is_null());
    let shown = rap(&["calls", "--db", &db]).expect_success().stdout;
    assert!(shown.contains("subscribed  watch {}"), "{shown}");
    assert!(shown.contains("does not say whether it is alive, since "), "{shown}");
    assert!(shown.contains("404"), "{shown}");
    drop(child.stdin.take());
    end_of(child).expect_success();
}

/// `rap refresh`: at once by `rap serve` where that runs, else by the next one, and watchers see what is new.
#[test]
fn servers_are_asked_again() {
    let (good, late) = (Server::of(weather()), std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = late.local_addr().unwrap();
    let late_url = format!("http://{address}");
    drop(late);
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("agent.db").display().to_string();
    let run = ["run", "hello", "--server", &good.base, "--server", &late_url, "--db", &db];
    let ended = rap(&run).expect_success();
    assert_eq!(ended.stderr.matches("cannot be reached").count(), 1, "said once: {}", ended.transcript());
    let session = ended.stderr.split("--session ").nth(1).unwrap().trim().to_owned();

    let ended = rap(&["refresh", &session, "--db", &db]).expect_success();
    assert!(
        ended.stdout.contains("when rap serve or rap run opens this database again"),
        "{}",
        ended.transcript()
    );
    rap(&["refresh", "nobody", "--db", &db]).expect_failure("there is no thread nobody");

    let (mut child, _) = serving(&["--db", &db]);
    let asked = rap(&["--json", "refresh", &session, "--db", &db]).expect_success();
    let record = &asked.records()[0];
    assert_eq!((record["asked"].as_bool(), record["tools"].as_u64()), (Some(true), Some(2)), "{record}");
    assert_eq!(record["problems"][0]["kind"], "unreachable", "{record}");
    rap(&["refresh", "nobody", "--db", &db]).expect_failure("there is no thread nobody");
    drop(child.stdin.take());
    end_of(child).expect_success();
}
