//! Discovery: where a toolset is asked for, and what each way to fail says.

use crate::peer::{Peer, caller, caller_within};
use rap_client::{Credentials, DiscoverError, ToolsetCache};
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/.well-known/rap-toolset";

fn good() -> Value {
    json!({
        "name": "weather",
        "endpoint": "http://127.0.0.1:9/call",
        "tools": [{"name": "get_weather", "description": "d", "inputSchema": {"type": "object"}}],
        "x-unknown": {"ignored": true}
    })
}

async fn fails(peer: &Peer) -> DiscoverError {
    caller().discover(&peer.url("")).await.unwrap_err()
}

/// TLS-01, TLS-02: below the base, prefix kept, with or without a slash, a query of the base dropped.
#[tokio::test]
async fn the_well_known_path_is_below_the_base() {
    for (base, path) in [
        ("", PATH.to_owned()),
        ("/", PATH.to_owned()),
        ("/tools", format!("/tools{PATH}")),
        ("/tools/v1/", format!("/tools/v1{PATH}")),
        ("/tools?x=1", format!("/tools{PATH}")),
    ] {
        let peer = Peer::start().await.answer(&path, 200, good().to_string());
        let toolset = caller().discover(&peer.url(base)).await.unwrap();
        assert_eq!(toolset.toolset().name(), "weather");
        assert_eq!(peer.seen()[0].target, path);
    }
}

#[tokio::test]
async fn credentials_go_along_and_to_no_other_origin() {
    let peer = Peer::start().await.answer(PATH, 200, good().to_string());
    let other = Peer::start().await.answer(PATH, 200, good().to_string());
    let caller = caller().with_credentials(&peer.url("/x"), Credentials::Bearer("t0ken".into()));
    caller.discover(&peer.url("")).await.unwrap();
    caller.discover(&other.url("")).await.unwrap();
    assert_eq!(peer.seen()[0].headers["authorization"], "Bearer t0ken");
    assert!(!other.seen()[0].headers.contains_key("authorization"));
    assert!(!format!("{caller:?}").contains("t0ken"));
}

#[tokio::test]
async fn what_is_no_rap_server_is_told_from_what_is_unreachable() {
    let table: [(u16, &str, &str); 9] = [
        (404, "nothing", "it answered 404 at /.well-known/rap-toolset"),
        (405, "", "it answered 405 at"),
        (302, "", "it answered 302 and redirects are not followed"),
        (200, "<!doctype html><html></html>", "it answered with a web page"),
        (200, "  <html>", "it answered with a web page"),
        (200, "", "it answered with nothing"),
        (200, "hello", "is not JSON"),
        (200, "{\"name\":", "is not JSON"),
        (200, "\u{feff}{}", "is not JSON"),
    ];
    for (status, body, says) in table {
        let peer = Peer::start().await.answer(PATH, status, body);
        let error = fails(&peer).await;
        assert!(error.is_not_a_server() && !error.is_unreachable() && !error.is_invalid(), "{error}");
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("is not a RAP tool server"), "{text}");
        assert!(text.ends_with("give the server's base URL, with its path prefix if it has one"), "{text}");
    }
    for status in [500, 502, 503, 429, 408] {
        let peer = Peer::start().await.answer(PATH, status, "");
        let error = fails(&peer).await;
        assert!(error.is_unreachable(), "{error}");
    }
    for status in [401, 403] {
        let peer = Peer::start().await.answer(PATH, status, "");
        let error = fails(&peer).await;
        assert!(error.is_unauthorized() && error.to_string().contains("configure the token"), "{error}");
    }
    let peer = Peer::start().await.silent(PATH);
    let error = caller_within(Duration::from_millis(100)).discover(&peer.url("")).await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("no answer came in time"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_down_says_what_to_do() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let base = crate::url(&format!("http://user:secret@{address}/tools?key=secret"));
    let error = caller().discover(&base).await.unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    let base = crate::url(&format!("http://{address}/tools?key=secret"));
    let error = caller().discover(&base).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the tool server at http://{address}/tools cannot be reached: the connection was refused; \
             start the server, or correct its URL"
        )
    );
    let error = caller().discover(&crate::url("http://10.0.0.1/")).await.unwrap_err();
    assert!(error.to_string().ends_with("correct the URL, or allow the target"), "{error}");
}

/// TLS-03: one fault rejects all of it, and all faults are told.
#[tokio::test]
async fn an_invalid_toolset_is_told_with_all_its_faults() {
    let tool = |patch: Value| {
        let mut tool = json!({"name": "t", "description": "d", "inputSchema": {"type": "object"}});
        for (key, value) in patch.as_object().unwrap() {
            tool[key] = value.clone();
        }
        tool
    };
    let with = |patch: Value| {
        let mut toolset = good();
        for (key, value) in patch.as_object().unwrap() {
            toolset[key] = value.clone();
        }
        toolset
    };
    let table: Vec<(Value, Vec<(&str, &str)>)> = vec![
        (json!([]), vec![("", "TLS-01")]),
        (json!("x"), vec![("", "TLS-01")]),
        (with(json!({"name": ""})), vec![("/name", "TLS-11")]),
        (with(json!({"name": 7})), vec![("/name", "TLS-11")]),
        (with(json!({"endpoint": "ftp://x/"})), vec![("/endpoint", "")]),
        (with(json!({"endpoint": "/call"})), vec![("/endpoint", "")]),
        (with(json!({"tools": []})), vec![("/tools", "TLS-11")]),
        (with(json!({"tools": {}})), vec![("/tools", "TLS-11")]),
        (with(json!({"tools": [tool(json!({})), tool(json!({}))]})), vec![("/tools/1/name", "TLS-07")]),
        (with(json!({"tools": [tool(json!({"name": "a b"}))]})), vec![("/tools/0/name", "TLS-07")]),
        (with(json!({"tools": [tool(json!({"name": "receive_event"}))]})), vec![("/tools/0/name", "SUB-04")]),
        (
            with(json!({"tools": [tool(json!({"inputSchema": {"type": "string"}}))]})),
            vec![("/tools/0/inputSchema", "TLS-08")],
        ),
        (
            with(json!({"tools": [tool(json!({"inputSchema": {"type": "object", "properties": 7}}))]})),
            vec![("/tools/0/inputSchema", "TLS-08")],
        ),
        // Several at once.
        (
            with(
                json!({"name": "", "endpoint": "x", "tools": [tool(json!({})), tool(json!({"name": ""})), 7, tool(json!({"description": 1}))]}),
            ),
            vec![
                ("/name", "TLS-11"),
                ("/endpoint", ""),
                ("/tools/1/name", "TLS-07"),
                ("/tools/2", "TLS-11"),
                ("/tools/3/description", "TLS-11"),
            ],
        ),
        (
            with(json!({"tools": [
                tool(json!({"name": "a", "inputSchema": {"type": "object", "$ref": "https://evil.example/x"}})),
                tool(json!({"name": "receive_event"})),
                tool(json!({"name": "b", "inputSchema": {"type": "object", "required": 1}}))]})),
            vec![
                ("/tools/1/name", "SUB-04"),
                ("/tools/0/inputSchema", "TLS-08"),
                ("/tools/2/inputSchema", "TLS-08"),
            ],
        ),
    ];
    for (document, expected) in table {
        let peer = Peer::start().await.answer(PATH, 200, document.to_string());
        let error = fails(&peer).await;
        assert!(error.is_invalid() && !error.is_not_a_server(), "{document}: {error}");
        let found: Vec<_> = error.faults().iter().map(|f| (f.pointer(), f.obligation())).collect();
        for (pointer, obligation) in &expected {
            assert!(
                found
                    .iter()
                    .any(|(p, o)| p.starts_with(pointer) && (obligation.is_empty() || o == obligation)),
                "{document}: wanted {pointer} {obligation}, found {found:?}"
            );
        }
        assert_eq!(found.len(), expected.len(), "{document}: {found:?}");
        assert!(error.to_string().contains(error.faults()[0].message()));
    }
}

#[tokio::test]
async fn missing_members_are_all_told() {
    let peer = Peer::start().await.answer(PATH, 200, "{}");
    let error = fails(&peer).await;
    let text = error.to_string();
    for member in ["name", "endpoint", "tools"] {
        assert!(text.contains(&format!("`{member}`")), "{text}");
    }
}

/// LIM-01: a toolset of 1 MiB is taken, a larger one is not.
#[tokio::test]
async fn the_size_of_a_toolset_is_limited() {
    let sized = |bytes: usize| {
        let mut document = good();
        document["description"] = json!("");
        document["description"] = json!("x".repeat(bytes - document.to_string().len()));
        assert_eq!(document.to_string().len(), bytes);
        document.to_string()
    };
    let peer = Peer::start().await.answer(PATH, 200, sized(1 << 20));
    caller().discover(&peer.url("")).await.unwrap();
    let peer = Peer::start().await.answer(PATH, 200, sized((1 << 20) + 1));
    let error = fails(&peer).await;
    assert_eq!(error.faults()[0].obligation(), "LIM-01");
}

/// TLS-05, TLS-06, TLS-12, TLS-13: a session keeps what it was given; a new one asks afresh while the server answers, the last good one while it does not.
#[tokio::test]
async fn a_server_that_cannot_be_reached_is_remembered() {
    let named = |name: &str| {
        let mut document = good();
        document["name"] = json!(name);
        (200, document.to_string())
    };
    let trouble = || (503, String::new());
    let answers = vec![
        trouble(),
        named("first"),
        named("second"),
        trouble(),
        (200, "{}".to_owned()),
        (404, String::new()),
        trouble(),
    ];
    let peer = Peer::start().await.answers(PATH, answers);
    let (cache, caller) = (ToolsetCache::new(), caller());
    let bases = [peer.url(""), peer.url("/")];
    let ask = async |n: usize| cache.discover(&caller, &bases[n % 2]).await;

    assert!(ask(0).await.unwrap_err().is_unreachable(), "nothing is remembered yet");
    let mut session = None;
    for name in ["first", "second"] {
        let found = ask(0).await.unwrap();
        assert_eq!((found.toolset.toolset().name(), found.stale.is_none()), (name, true));
        session.get_or_insert(found);
    }
    let found = ask(1).await.unwrap();
    assert_eq!(found.toolset.toolset().name(), "second");
    assert!(found.stale.unwrap().is_unreachable(), "and it is said why");
    assert_eq!(session.unwrap().toolset.toolset().name(), "first", "the session that began with it");
    assert!(ask(0).await.unwrap_err().is_invalid(), "a server that answers is believed");
    assert!(ask(0).await.unwrap_err().is_not_a_server());
    assert_eq!(ask(1).await.unwrap().toolset.toolset().name(), "second");
}
