//! The tools in an axum app, whatever else the app has: found, called, inside its layers, and out of its way. And what
//! they answer where something in front of them took a part of the path off.

use crate::invocation;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use rap_server::{Tool, ToolServer, ToolService};
use serde_json::{Value, json};
use tower::ServiceExt;

const BASE: &str = "http://127.0.0.1:3001";

fn server() -> ToolServer {
    ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello"))
}

fn request(method: Method, path: &str, body: &str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(format!("{BASE}{path}"));
    request.header("content-type", "application/json").body(body.to_owned().into()).unwrap()
}

#[cfg(feature = "axum")]
mod in_an_app {
    use super::*;
    use axum::{
        Router,
        body::Body,
        http::StatusCode,
        middleware::map_response,
        routing::{any, get},
    };
    use http::Response;
    use http_body_util::BodyExt;

    /// The app's own answer for what it does not know.
    async fn missing() -> (StatusCode, &'static str) {
        (StatusCode::NOT_FOUND, "the app knows no such page")
    }

    async fn mark(mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert("x-layer", "ran".parse().unwrap());
        response
    }

    fn app<S: Clone + Send + Sync + 'static>() -> Router<S> {
        Router::new().route("/mine", get(async || "mine"))
    }

    #[derive(Clone)]
    struct App(&'static str);

    fn stateful() -> Router<App> {
        app().route("/state", get(async |state: axum::extract::State<App>| state.0.0))
    }

    /// Whether the tools lie inside a layer, and whether it lies around the app's own answer for unknown paths as well.
    #[derive(Clone, Copy, PartialEq)]
    enum Layer {
        None,
        Routes,
        All,
    }

    async fn text(response: Response<Body>) -> String {
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    type Build = fn(ToolService) -> Router;

    const APPS: &[(&str, Layer, Build)] = &[
        ("nest", Layer::None, |t| app().nest("/tools", t.into())),
        ("nest, then a fallback", Layer::None, |t| app().nest("/tools", t.into()).fallback(missing)),
        ("a fallback, then nest", Layer::None, |t| app().fallback(missing).nest("/tools", t.into())),
        ("nest, then a catch-all", Layer::None, |t| {
            app().nest("/tools", t.into()).route("/{*path}", any(missing))
        }),
        ("a catch-all, then nest", Layer::None, |t| {
            app().route("/{*path}", any(missing)).nest("/tools", t.into())
        }),
        ("nest and layer", Layer::All, |t| {
            app().nest("/tools", t.into()).fallback(missing).layer(map_response(mark))
        }),
        ("nest and route_layer", Layer::Routes, |t| {
            app().nest("/tools", t.into()).fallback(missing).route_layer(map_response(mark))
        }),
        ("nest in an app with a state", Layer::Routes, |t| {
            stateful().nest("/tools", t.into()).route_layer(map_response(mark)).with_state(App("mine"))
        }),
        ("merge", Layer::None, |t| app().merge(t)),
        ("merge, then a fallback", Layer::None, |t| app().merge(t).fallback(missing)),
        ("a fallback, then merge", Layer::None, |t| app().fallback(missing).merge(t)),
        ("a catch-all, then merge", Layer::None, |t| app().route("/{*path}", any(missing)).merge(t)),
        ("merge and layer", Layer::All, |t| app().merge(t).layer(map_response(mark))),
        ("merge and route_layer", Layer::Routes, |t| {
            app().merge(t).fallback(missing).route_layer(map_response(mark))
        }),
        ("merge in an app with a state", Layer::Routes, |t| {
            stateful().merge(t).fallback(missing).route_layer(map_response(mark)).with_state(App("mine"))
        }),
    ];

    /// Endpoints below the base, and the default one. What means something in a route of axum is a character here.
    const ENDPOINTS: [Option<&str>; 6] =
        [None, Some("/rpc"), Some(""), Some("/a//b"), Some("/{a}/x{{y}}"), Some("/v1/:call/*all/{*rest}")];

    async fn send(app: &Router, method: Method, path: &str, body: &str) -> Response<Body> {
        app.clone().oneshot(request(method, path, body).map(Body::new)).await.unwrap()
    }

    /// TLS-01, INV-01: found and called by what the toolset says, in every app; each layer of the app lies around the
    /// tools; what is not theirs is the app's to answer.
    #[tokio::test]
    async fn in_any_app() {
        for (what, layer, build) in APPS {
            for endpoint in ENDPOINTS {
                let what = format!("{what}, endpoint {endpoint:?}");
                let mut tools = server().public_url(format!("{BASE}/tools"));
                if let Some(endpoint) = endpoint {
                    tools = tools.endpoint_url(format!("{BASE}/tools{endpoint}"));
                }
                let tools = tools.into_service(true).unwrap();
                let handle = tools.handle();
                let app = build(tools);
                let layered = |response: &Response<Body>| response.headers().contains_key("x-layer");

                let found = send(&app, Method::GET, "/tools/.well-known/rap-toolset", "").await;
                assert_eq!(found.status(), 200, "{what}");
                assert_eq!(layered(&found), *layer != Layer::None, "{what}");
                let toolset: Value = serde_json::from_str(&text(found).await).unwrap();
                assert_eq!(toolset["endpoint"], handle.toolset().endpoint.as_str(), "{what}");

                // As a client writes it.
                let path = handle.toolset().endpoint.parsed().path().to_owned();
                let invocation = invocation("echo", json!({}), "t", "c").to_string();
                let called = send(&app, Method::POST, &path, &invocation).await;
                assert_eq!(called.status(), 200, "{what}");
                assert_eq!(layered(&called), *layer != Layer::None, "{what}");
                for notice in ["close_thread", "cancel_tool_call", "tool_call_status", "invoke", "choices/x"]
                {
                    let answer = send(&app, Method::GET, &format!("/tools/{notice}"), "").await;
                    assert_eq!(
                        (answer.status().as_u16(), layered(&answer)),
                        (405, *layer != Layer::None),
                        "{what}"
                    );
                }

                assert_eq!(text(send(&app, Method::GET, "/mine", "").await).await, "mine", "{what}");
                for unknown in ["/nothing", "/tools/nothing", "/tools/choices/a/b", "/.well-known/other"] {
                    let answer = send(&app, Method::POST, unknown, "{}").await;
                    assert_eq!(answer.status(), 404, "{what}: {unknown}");
                    assert_eq!(layered(&answer), *layer == Layer::All, "{what}: {unknown}");
                    let body = text(answer).await;
                    assert!(["", "the app knows no such page"].contains(&body.as_str()), "{what}: {body}");
                }
            }
        }
    }

    /// AUT-01: what is the app's own needs no token of the tools; what is theirs does, in a router as elsewhere.
    #[tokio::test]
    async fn authentication_is_the_tools_own() {
        let server = || server().public_url("https://example.com/tools").bearer_token("t");
        let nested: Router = app().nest("/tools", server().into_router().unwrap());
        let merged: Router<()> = app().merge(Router::try_from(server()).unwrap());
        for app in [nested, merged] {
            for (path, token, status) in [
                ("/tools/close_thread", Some("Bearer t"), 200),
                ("/tools/close_thread", None, 401),
                ("/tools/.well-known/rap-toolset", None, 401),
                ("/nothing", None, 404),
                ("/tools/nothing", None, 404),
            ] {
                let mut request = request(Method::POST, path, "{\"thread_id\":\"t\"}").map(Body::new);
                if let Some(token) = token {
                    request.headers_mut().insert("authorization", token.parse().unwrap());
                }
                assert_eq!(app.clone().oneshot(request).await.unwrap().status(), status, "{path}");
            }
        }
    }
}

async fn status(service: &ToolService, path: &str, body: &Value) -> u16 {
    let request = request(Method::POST, path, &body.to_string());
    service.clone().oneshot(request).await.unwrap().status().as_u16()
}

/// A proxy may take the base's path off or pass it on: an endpoint of its own is served both ways, and is no way past the
/// authentication because it looks like a question's without the prefix.
#[tokio::test]
async fn an_endpoint_without_the_prefix() {
    let call = |id: &str| invocation("echo", json!({}), "t", id);
    for (base, endpoint, paths) in [
        ("/tools", "/tools/rpc", ["/tools/rpc", "/rpc"]),
        ("/tools/", "/tools/rpc/", ["/tools/rpc/", "/rpc/"]),
        ("/tools", "/tools", ["/tools", "/"]),
        ("/tools", "/toolsmith", ["/toolsmith", "/invoke"]),
        ("", "/rpc", ["/rpc", "/invoke"]),
    ] {
        let server = server().public_url(format!("{BASE}{base}")).endpoint_url(format!("{BASE}{endpoint}"));
        let service = server.into_service(true).unwrap();
        for path in paths {
            assert_eq!(status(&service, path, &call(path)).await, 200, "{endpoint} of {base:?}: {path}");
        }
        for path in ["/smith", "/tools/nothing", "/rpc/rpc"] {
            assert_eq!(status(&service, path, &call(path)).await, 404, "{endpoint} of {base:?}: {path}");
        }
    }

    let server = server().bearer_token("t").public_url(format!("{BASE}/tools"));
    let service = server.endpoint_url(format!("{BASE}/tools/choices/x")).into_service(true).unwrap();
    for path in ["/tools/choices/x", "/choices/x"] {
        assert_eq!(status(&service, path, &call("c")).await, 401, "{path}");
    }
}

/// An endpoint takes nothing's place, with its prefix or without.
#[test]
fn an_endpoint_in_the_place_of_another() {
    for (base, endpoint, is_fault) in [
        ("/a", "/a/close_thread", true),
        ("/a", "/a/a/close_thread", true),
        ("/a", "/a/a/.well-known/rap-toolset", true),
        ("/a", "/a/a/a/close_thread", false),
        ("/a", "/a/a/invoke", false),
        ("/a", "/a/b/close_thread", false),
        ("", "/a/close_thread", false),
    ] {
        let server = server().public_url(format!("{BASE}{base}")).endpoint_url(format!("{BASE}{endpoint}"));
        let started = server.into_service(true).map(drop);
        let faults = started.err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(faults.contains("choose another path"), is_fault, "{endpoint} of {base:?}: {faults}");
    }
}
