//! Sessions: what is discovered, what is reported, what is refused.

use crate::world::{World, tools, within};
use axum::{Json, Router, routing::get};
use rap_runtime::{AgentHost, NewSession, ToolsetProblemKind};
use rap_types::HttpUrl;
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn serve(router: impl FnOnce(&str) -> Router) -> HttpUrl {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = router(&base);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base.parse().unwrap()
}

/// A server that only has a toolset.
async fn toolset(make: impl FnOnce(&str) -> Value) -> HttpUrl {
    serve(|base| {
        let toolset = make(base);
        Router::new().route("/.well-known/rap-toolset", get(move || async move { Json(toolset) }))
    })
    .await
}

fn tool(name: &str) -> Value {
    json!({"name": name, "description": "x", "inputSchema": {"type": "object"}})
}

/// One server unreachable, one that is none, one invalid, one that doubles a name, one with a built-in's name: each
/// is reported in words and the rest goes on (TLS-03, TLS-04, TLS-13, SUB-04).
#[tokio::test]
async fn problems_are_reported_and_the_rest_goes_on() {
    let (good, _bench) = tools().await;
    let gone: HttpUrl = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let page = serve(|_| Router::new().route("/.well-known/rap-toolset", get(|| async { "<html>" }))).await;
    let invalid = toolset(|base| json!({"name": "x", "endpoint": base, "tools": []})).await;
    let doubled = toolset(|base| {
        json!({"name": "second", "endpoint": format!("{base}/invoke"),
               "tools": [tool("quick"), tool("sleep"), tool("odd.name"), tool("odd_name")]})
    })
    .await;
    let world = World::new(|b| {
        b.toolset(good.clone()).toolset(gone).toolset(page).toolset(invalid).toolset(doubled).toolset(good)
    })
    .await;
    let opened = world.session().await;
    let mut kinds: Vec<_> = opened.problems.iter().map(|problem| problem.kind).collect();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    use ToolsetProblemKind::*;
    assert_eq!(kinds, [BuiltInName, DoubledTool, Invalid, NotAServer, Unreachable]);
    for problem in &opened.problems {
        assert!(problem.message.contains("http://") && problem.message.len() > 40, "{problem}");
    }
    let session = world.runtime.store().session(&opened.session).await.unwrap().unwrap();
    let mut names: Vec<_> =
        session.toolbox.tools.iter().map(|t| (t.name.as_str(), t.operation.as_str())).collect();
    names.sort_unstable();
    // TLS-14: a name that no model takes gets an alias of its own.
    assert_eq!(
        names,
        [
            ("ask", "ask"),
            ("broken", "broken"),
            ("odd_name", "odd_name"),
            ("odd_name_2", "odd.name"),
            ("slow", "slow"),
            ("ticks", "ticks"),
        ]
    );
    assert_eq!(opened.tools, names.len());
    assert_eq!(session.toolbox.servers.len(), 2, "both get notices, each once");
}

/// Servers are configured and none is usable: an error that lists them all. None configured: a session.
#[tokio::test]
async fn no_usable_server() {
    let invalid = toolset(|base| json!({"name": "x", "endpoint": base, "tools": []})).await;
    let world = World::new(|b| b.toolset(invalid)).await;
    let error = world.runtime.create(NewSession::new()).await.unwrap_err();
    assert!(error.is_no_tools() && error.problems().len() == 1, "{error}");
    assert!(error.to_string().contains("is invalid"), "{error}");
    let opened = world.runtime.create(NewSession::new().toolsets([])).await.unwrap();
    assert_eq!((opened.tools, opened.problems.len()), (0, 0));
    assert!(world.runtime.watch(&"no-such-session".parse().unwrap(), 0).await.err().unwrap().is_unknown());
    assert!(world.runtime.status(&"no-such-session".parse().unwrap()).await.unwrap_err().is_unknown());
    assert!(world.runtime.send(&"no-such".parse().unwrap(), "k", "x").await.unwrap_err().is_unknown());
}

/// INV-11: calls go to the endpoint that the toolset names, wherever the well-known document lives, with a path
/// prefix and a query; TLS-02: the document is looked for below the prefix.
#[tokio::test]
async fn prefixes_and_queries() {
    let (real, _bench) = tools().await;
    let found: Value = {
        let client = rap_http::GuardedClient::new(rap_http::AddressPolicy::public().allow_loopback());
        let url = real.below(".well-known/rap-toolset").unwrap();
        serde_json::from_slice(&client.get(&url, 1 << 20).await.unwrap().body).unwrap()
    };
    let base = serve(|_| {
        let mut toolset = found;
        let endpoint = format!("{}?tenant=a%2Fb", toolset["endpoint"].as_str().unwrap());
        toolset["endpoint"] = json!(endpoint);
        Router::new().route("/deep/er/.well-known/rap-toolset", get(move || async move { Json(toolset) }))
    })
    .await;
    let world = World::new(|b| b.toolset(format!("{base}/deep/er/").parse().unwrap())).await;
    let (session, mut story) = world.told("call quick").await;
    story.text("quick: quick").await;
    within("rest", story.resting(&session)).await;
}

/// TLS-06, TLS-12: a server that answered once and is gone is offered as it was, and that is reported.
#[tokio::test]
async fn a_server_that_is_gone_for_a_while() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let document = json!({"name": "x", "endpoint": base, "tools": [tool("odd")]});
    let router = Router::new().route("/.well-known/rap-toolset", get(move || async move { Json(document) }));
    let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let world = World::new(|b| b.toolset(base.parse().unwrap())).await;
    assert!(world.session().await.problems.is_empty());
    served.abort();
    let _ = served.await;
    // A connection that was open may be served to its end: asked until it is gone.
    within("the server is gone", async {
        loop {
            let opened = world.session().await;
            assert_eq!(opened.tools, 1);
            if let [problem] = &opened.problems[..] {
                assert_eq!(problem.kind, ToolsetProblemKind::Stale);
                assert!(problem.message.contains("as they were last"), "{problem}");
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}
