//! The way in, as a layer of an axum router.

use axum::{
    Router,
    body::Body,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use rap_http::{
    Auth, Guard, Listener, Secret,
    webhooks::{self, Keys},
};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tower::Service;

struct App {
    router: Router,
    reached: Arc<AtomicUsize>,
}

impl App {
    fn new(guard: Guard) -> Self {
        let reached = Arc::new(AtomicUsize::new(0));
        let count = reached.clone();
        let echo = move |body: Bytes| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { body }
        };
        let router = Router::new()
            .route("/", post(echo.clone()).merge(get(echo.clone())))
            .route("/open/{*x}", post(echo));
        Self { router: router.layer(guard), reached }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().call(request).await.unwrap()
    }

    /// Sends, and checks that a refusal is a problem with this slug and reaches no handler.
    async fn check(&self, request: Request<Body>, expected: u16, slug: &str) {
        let before = self.reached.load(Ordering::SeqCst);
        let response = self.send(request).await;
        assert_eq!(response.status(), expected);
        let reached = self.reached.load(Ordering::SeqCst) - before;
        if expected == 200 {
            assert_eq!(reached, 1);
            return;
        }
        assert_eq!(reached, 0, "a refused request reached the handler");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["type"], format!("urn:rap:problem:{slug}"));
        assert_eq!(problem["status"], expected);
        assert!(problem["detail"].is_string());
    }
}

fn post_with(headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(Method::POST).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from("{}")).unwrap()
}

const JSON: (&str, &str) = ("content-type", "application/json");
const HERE: (&str, &str) = ("host", "127.0.0.1:4000");

#[tokio::test]
async fn a_loopback_listener_refuses_foreign_hosts() {
    let app = App::new(Guard::new(Auth::None, true).allow_host("Agent.Example"));
    let ours = [
        "127.0.0.1",
        "127.0.0.1:4000",
        "127.1.2.3:1",
        "localhost",
        "LOCALHOST:80",
        "[::1]:4000",
        "[::1]",
        "agent.example",
        "AGENT.example:443",
    ];
    for host in ours {
        app.check(post_with(&[JSON, ("host", host)]), 200, "").await;
    }
    let foreign = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "192.168.0.1",
        "2130706433",
        "0x7f000001",
        "",
        " ",
        "a b",
        "localhost,evil.example",
        "agent.example.evil",
    ];
    for host in foreign {
        app.check(post_with(&[JSON, ("host", host)]), 403, "forbidden").await;
    }
    app.check(post_with(&[JSON]), 403, "forbidden").await;
    app.check(post_with(&[JSON, HERE, ("host", "evil.example")]), 403, "forbidden").await;
    // HTTP/2 and absolute-form requests name the host in the URI.
    let absolute = |uri: &str, host: Option<&str>| {
        let mut request =
            Request::builder().method("POST").uri(uri).header("content-type", "application/json");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        request.body(Body::from("{}")).unwrap()
    };
    app.check(absolute("http://localhost:4000/", None), 200, "").await;
    app.check(absolute("http://evil.example/", None), 403, "forbidden").await;
    app.check(absolute("http://evil.example/", Some("localhost")), 403, "forbidden").await;
    app.check(absolute("http://localhost/", Some("evil.example")), 403, "forbidden").await;
}

#[tokio::test]
async fn a_loopback_listener_refuses_web_pages() {
    let app = App::new(Guard::new(Auth::None, true));
    for origin in ["https://evil.example", "http://127.0.0.1:4000", "null", ""] {
        app.check(post_with(&[JSON, HERE, ("origin", origin)]), 403, "forbidden").await;
        let get = Request::builder().uri("/").header("host", "localhost").header("origin", origin);
        app.check(get.body(Body::empty()).unwrap(), 403, "forbidden").await;
    }
}

#[tokio::test]
async fn elsewhere_host_and_origin_are_the_authentications_affair() {
    let app = App::new(Guard::new(Auth::bearer("token"), false));
    let token = ("authorization", "Bearer token");
    app.check(post_with(&[JSON, token, ("host", "tools.example"), ("origin", "https://x")]), 200, "").await;
}

/// TRN-01.
#[tokio::test]
async fn only_json_is_taken() {
    let app = App::new(Guard::new(Auth::None, true));
    for ok in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json;charset=\"UTF-8\"",
    ] {
        app.check(post_with(&[HERE, ("content-type", ok)]), 200, "").await;
    }
    let wrong = [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json-patch+json",
        "application/jsonx",
        "text/json",
        "application/json; charset=utf-16",
        "",
        "json",
        "application/json, text/plain",
    ];
    for kind in wrong {
        app.check(post_with(&[HERE, ("content-type", kind)]), 415, "not-json").await;
    }
    app.check(post_with(&[HERE]), 415, "not-json").await;
    app.check(post_with(&[HERE, JSON, ("content-type", "text/plain")]), 415, "not-json").await;
    let get = Request::builder().uri("/").header("host", "localhost").body(Body::empty()).unwrap();
    app.check(get, 200, "").await;
}

/// Nothing that grows when it is read is taken, whatever it would say.
#[tokio::test]
async fn compressed_bodies_are_not_taken() {
    let app = App::new(Guard::new(Auth::None, true));
    for coding in ["gzip", "br", "deflate", "zstd", "gzip, identity", "x", ""] {
        app.check(post_with(&[HERE, JSON, ("content-encoding", coding)]), 415, "encoded").await;
    }
    let twice = post_with(&[HERE, JSON, ("content-encoding", "identity"), ("content-encoding", "gzip")]);
    let response = app.send(twice).await;
    assert_eq!(response.status(), 415);
    assert_eq!(response.headers()["accept-encoding"], "identity");
    app.check(post_with(&[HERE, JSON, ("content-encoding", "Identity")]), 200, "").await;
}

#[tokio::test]
async fn a_bearer_token_is_needed_where_one_is_configured() {
    let app = App::new(Guard::new(Auth::Bearer(vec!["old".into(), "new".into()]), true).open("/open"));
    for ok in ["Bearer old", "bearer new", "BEARER  new "] {
        app.check(post_with(&[HERE, JSON, ("authorization", ok)]), 200, "").await;
    }
    let wrong = [
        "Bearer",
        "Bearer ",
        "Bearer olde",
        "Bearer ol",
        "Basic old",
        "old",
        "",
        "Bearer old,new",
        "Bearerold",
    ];
    for value in wrong {
        app.check(post_with(&[HERE, JSON, ("authorization", value)]), 401, "unauthorized").await;
    }
    app.check(post_with(&[HERE, JSON]), 401, "unauthorized").await;
    let twice = post_with(&[HERE, JSON, ("authorization", "Bearer old"), ("authorization", "Bearer old")]);
    app.check(twice, 401, "unauthorized").await;
    let response = app.send(post_with(&[HERE, JSON])).await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    // AUT-01: a GET needs it too; a path that was opened does not; a path that only begins like it does.
    let at = |method: &str, uri: &str| {
        Request::builder()
            .method(method)
            .uri(uri)
            .header("host", "localhost")
            .header("content-type", "application/json")
    };
    app.check(at("GET", "/").body(Body::empty()).unwrap(), 401, "unauthorized").await;
    app.check(at("POST", "/open/x").body(Body::from("{}")).unwrap(), 200, "").await;
    app.check(at("POST", "/opened").body(Body::from("{}")).unwrap(), 401, "unauthorized").await;
    // An empty token that somebody configured lets nobody in.
    let app = App::new(Guard::new(Auth::bearer(""), true));
    app.check(post_with(&[HERE, JSON, ("authorization", "Bearer ")]), 401, "unauthorized").await;
}

#[tokio::test]
async fn signatures_are_checked_where_keys_are_configured() {
    let keys = Keys::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
    let app = App::new(Guard::new(Auth::Signed(keys.clone()), true).open("/open"));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let signed = |headers: HeaderMap, body: &'static str| {
        let mut request = post_with(&[HERE, JSON]);
        request.headers_mut().extend(headers);
        *request.body_mut() = Body::from(body);
        request
    };
    let good = keys.sign("m", now, b"{\"a\":1}").unwrap();
    app.check(signed(good.clone(), "{\"a\":1}"), 200, "").await;
    app.check(signed(good.clone(), "{\"a\":2}"), 401, "unauthorized").await;
    app.check(signed(keys.sign("m", now - 1000, b"{}").unwrap(), "{}"), 401, "unauthorized").await;
    // A header that is merely absent is no pass.
    let mut missing = good.clone();
    missing.remove(webhooks::SIGNATURE);
    app.check(signed(missing, "{\"a\":1}"), 401, "unauthorized").await;
    app.check(signed(HeaderMap::new(), "{}"), 401, "unauthorized").await;
    let get = Request::builder().uri("/").header("host", "localhost").body(Body::empty()).unwrap();
    app.check(get, 200, "").await;
    let delete =
        Request::builder().method("DELETE").uri("/").header("host", "localhost").body(Body::empty()).unwrap();
    app.check(delete, 401, "unauthorized").await;
}

/// A body that comes in pieces, the last of which never comes if it is slow.
fn pieces(pieces: usize, size: usize, slow: bool) -> Body {
    let stream = futures_util::stream::unfold(0, move |n| async move {
        if n < pieces {
            Some((Ok::<_, Infallible>(Bytes::from(vec![b' '; size])), n + 1))
        } else if slow {
            std::future::pending().await
        } else {
            None
        }
    });
    Body::from_stream(stream)
}

fn streaming(body: Body) -> Request<Body> {
    let mut request = post_with(&[HERE, JSON]);
    *request.body_mut() = body;
    request
}

/// LIM-01.
#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let app = App::new(Guard::new(Auth::None, true).body_limit(100));
    app.check(streaming(pieces(1, 100, false)), 200, "").await;
    app.check(streaming(pieces(10, 10, false)), 200, "").await;
    app.check(streaming(pieces(11, 10, false)), 413, "body-too-large").await;
    app.check(streaming(pieces(1, 101, false)), 413, "body-too-large").await;
    // One that only announces it is refused before it is read.
    let mut announced = streaming(pieces(0, 0, true));
    announced.headers_mut().insert("content-length", 101.into());
    app.check(announced, 413, "body-too-large").await;
    let response = app.send(streaming(pieces(7, 9, false))).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 63, "put together whole");
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_408() {
    let app = App::new(Guard::new(Auth::None, true).body_timeout(Duration::from_secs(3)));
    let start = tokio::time::Instant::now();
    app.check(streaming(pieces(2, 10, true)), 408, "body-too-slow").await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn all_bodies_together_are_bounded_and_the_room_comes_back() {
    let app = App::new(Guard::new(Auth::None, true).body_budget(100));
    let router = app.router.clone();
    let slow =
        tokio::spawn(async move { router.clone().call(streaming(pieces(8, 10, true))).await.unwrap() });
    tokio::task::yield_now().await;
    let response = app.send(streaming(pieces(3, 10, false))).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    app.check(streaming(pieces(2, 10, false)), 200, "").await;
    assert_eq!(slow.await.unwrap().status(), 408);
    for _ in 0..10 {
        app.check(streaming(pieces(10, 10, false)), 200, "").await;
    }
}

#[tokio::test]
async fn a_guard_takes_its_listeners_rules() {
    let listener = Listener::bind("127.0.0.1:0", Auth::bearer("t")).await.unwrap();
    let app = App::new(Guard::for_listener(&listener));
    app.check(post_with(&[JSON, HERE]), 401, "unauthorized").await;
    app.check(post_with(&[JSON, ("host", "evil.example")]), 403, "forbidden").await;
}

/// The same limits for a service that judges a URL first and reads the body itself.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_read_apart_has_the_same_limits() {
    let read = |body: Body| rap_http::guard::read_body(body, 100, Duration::from_secs(3));
    assert_eq!(read(pieces(10, 10, false)).await.unwrap().len(), 100);
    assert!(read(Body::empty()).await.unwrap().is_empty());
    for (body, status) in
        [(pieces(11, 10, false), 413), (pieces(1, 101, false), 413), (pieces(1, 10, true), 408)]
    {
        assert_eq!(read(body).await.unwrap_err().status(), status);
    }
    let broken = futures_util::stream::iter([Ok(Bytes::from_static(b"{")), Err("the peer is gone")]);
    assert_eq!(read(Body::from_stream(broken)).await.unwrap_err().status(), 400);
}

/// What can be said before the body, alone: host, origin and token, and not what the body is.
#[tokio::test]
async fn the_caller_is_judged_apart() {
    let guard = Guard::new(Auth::bearer("right"), true).open("/open").allow_host("tools.example.com");
    let judge = |uri: &str, headers: &[(&str, &str)]| {
        let (mut parts, _) = post_with(headers).into_parts();
        parts.uri = uri.parse().unwrap();
        guard.check_caller(&parts).map_err(|problem| problem.status().as_u16())
    };
    let right = ("authorization", "Bearer right");
    assert_eq!(judge("/", &[HERE, right]), Ok(()));
    assert_eq!(judge("/", &[("host", "tools.example.com"), right]), Ok(()));
    assert_eq!(judge("/open/x", &[HERE]), Ok(()));
    assert_eq!(judge("/", &[HERE]), Err(401));
    assert_eq!(judge("/", &[HERE, ("authorization", "Bearer wrong")]), Err(401));
    assert_eq!(judge("/", &[("host", "evil.example"), right]), Err(403));
    assert_eq!(judge("/open/x", &[("host", "evil.example")]), Err(403));
    assert_eq!(judge("/", &[HERE, right, ("origin", "http://localhost")]), Err(403));
    assert_eq!(judge("/", &[right]), Err(403));
}

/// Peers that send a part of a body and then nothing, one task each.
fn stalling(app: &App, peers: usize, uri: &str, size: usize) -> tokio::task::JoinSet<u16> {
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..peers {
        let mut request = streaming(pieces(1, size, true));
        *request.uri_mut() = uri.parse().unwrap();
        let mut router = app.router.clone();
        set.spawn(async move { router.call(request).await.unwrap().status().as_u16() });
    }
    set
}

/// Lets all that can run do so.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// How many answers of each status came so far.
fn answers(set: &mut tokio::task::JoinSet<u16>) -> Vec<u16> {
    let mut came: Vec<u16> = std::iter::from_fn(|| set.try_join_next()).map(Result::unwrap).collect();
    came.sort_unstable();
    came
}

/// Strangers on a path that is open take nothing from callers with a token, nor from each other, however many hold
/// on to a body that never ends; what they may send is little, and what they hold together is bounded.
#[tokio::test(start_paused = true)]
async fn strangers_on_an_open_path_keep_nobody_out() {
    let guard = Guard::new(Auth::bearer("token"), true).open("/open").open_body_limit(100);
    let app = App::new(guard.body_budget(1000).stranger_budget(1000));
    let open = |body| {
        let mut request = streaming(body);
        *request.uri_mut() = "/open/x".parse().unwrap();
        request
    };
    let known = |body| {
        let mut request = streaming(body);
        request.headers_mut().insert("authorization", "Bearer token".parse().unwrap());
        request
    };
    app.check(open(pieces(1, 101, false)), 413, "body-too-large").await;
    app.check(known(pieces(1, 101, false)), 200, "").await;

    let mut attack = stalling(&app, 30, "/open/x", 90);
    settle().await;
    assert_eq!(answers(&mut attack), [503; 19], "11 of 90 bytes have room");
    app.check(known(pieces(10, 100, false)), 200, "").await;
    for _ in 0..20 {
        app.check(open(pieces(2, 50, false)), 200, "").await;
    }
    settle().await;
    assert_eq!(answers(&mut attack), [503], "one made room for the others, who were quick");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(answers(&mut attack), [408; 10]);
    // All the room is back.
    let mut attack = stalling(&app, 10, "/open/x", 100);
    settle().await;
    assert!(answers(&mut attack).is_empty());
}

/// Where requests are signed nobody is known before his body is there: who holds on to one keeps nobody out.
#[tokio::test(start_paused = true)]
async fn strangers_before_their_signature_keep_nobody_out() {
    let keys = Keys::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
    let guard = Guard::new(Auth::Signed(keys.clone()), true).body_budget(1000).stranger_budget(1000);
    let app = App::new(guard);
    let mut attack = stalling(&app, 30, "/", 400);
    settle().await;
    assert_eq!(answers(&mut attack).len(), 28);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    for _ in 0..20 {
        let mut signed = streaming(pieces(3, 300, false));
        signed.headers_mut().extend(keys.sign("m", now, &[b' '; 900]).unwrap());
        app.check(signed, 200, "").await;
    }
    // One that is too large for the room is told so, and takes nothing with it.
    app.check(streaming(pieces(2, 600, false)), 503, "busy").await;
    app.check(streaming(pieces(1, 1000, false)), 401, "unauthorized").await;
    // A drop more now and then does not make a peer younger: the first two are the first to go.
    let drops = |size| {
        let stream = futures_util::stream::unfold(0, move |n| async move {
            tokio::time::sleep(Duration::from_secs(u64::from(n > 0))).await;
            Some((Ok::<_, Infallible>(Bytes::from(vec![b' '; if n == 0 { size } else { 1 }])), n + 1))
        });
        streaming(Body::from_stream(stream))
    };
    let mut slow = tokio::task::JoinSet::new();
    let mut router = app.router.clone();
    slow.spawn(async move { router.call(drops(400)).await.unwrap().status().as_u16() });
    settle().await;
    let mut silent = stalling(&app, 1, "/", 400);
    settle().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    app.check(streaming(pieces(1, 300, false)), 401, "unauthorized").await;
    settle().await;
    assert_eq!((answers(&mut slow), answers(&mut silent)), (vec![503], vec![]));
}

/// What is open can be said by whoever routes.
#[tokio::test]
async fn what_is_open_goes_by_what_is_routed() {
    let guard = Guard::new(Auth::bearer("token"), true).open_where(|path| path == "/open/x");
    let app = App::new(guard);
    for (uri, status, slug) in
        [("/open/x", 200, ""), ("/open/y", 401, "unauthorized"), ("/", 401, "unauthorized")]
    {
        let mut request = post_with(&[HERE, JSON]);
        *request.uri_mut() = uri.parse().unwrap();
        app.check(request, status, slug).await;
    }
}
