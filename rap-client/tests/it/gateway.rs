//! The answer table of the gateway, row by row, and every way for a message to be wrong (TRN-08, TRN-12).

use crate::{call, thread, url};
use axum::body::Body;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use rap_client::{Callback, Gateway, GatewayService, Inbox, InboxError, KeyRing, Taken};
use rap_types::CallbackMessage;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::ServiceExt;

/// Remembers what it was given and answers from a list, then always "accepted".
#[derive(Default)]
struct Box_ {
    got: Mutex<Vec<Callback>>,
    answers: Mutex<VecDeque<Result<Taken, InboxError>>>,
}

#[async_trait::async_trait]
impl Inbox for Box_ {
    async fn take(&self, callback: Callback) -> Result<Taken, InboxError> {
        self.got.lock().unwrap().push(callback);
        self.answers.lock().unwrap().pop_front().unwrap_or(Ok(Taken::Accepted))
    }
}

struct World {
    service: GatewayService,
    inbox: Arc<Box_>,
    gateway: Gateway,
}

impl World {
    fn new() -> Self {
        Self::with(|gateway| gateway)
    }

    fn with(set: impl FnOnce(Gateway) -> Gateway) -> Self {
        let inbox = Arc::new(Box_::default());
        let keys = KeyRing::generate().unwrap();
        let gateway = set(Gateway::new(keys, url("http://127.0.0.1:4000"), inbox.clone()));
        Self { service: gateway.clone().into_service(), inbox, gateway }
    }

    fn path(&self, t: &str, c: &str) -> String {
        self.gateway.callback_url(&thread(t), &call(c)).unwrap().parsed().path().to_owned()
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.service.clone().oneshot(request).await.unwrap().map(Body::new)
    }

    /// Posts a body to the URL of (thread-1, call-1).
    async fn post(&self, body: impl Into<Body>) -> Response<Body> {
        self.send(post(&self.path("thread-1", "call-1"), body)).await
    }

    fn count(&self) -> usize {
        self.inbox.got.lock().unwrap().len()
    }
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    let request =
        Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
    request.body(body.into()).unwrap()
}

/// Every refusal is a problem with this slug.
async fn refused(response: Response<Body>, status: u16, slug: &str) -> Value {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(parts.status, status, "{}", String::from_utf8_lossy(&body));
    assert_eq!(parts.headers["content-type"], "application/problem+json");
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["type"], format!("urn:rap:problem:{slug}"));
    assert_eq!(problem["status"], status);
    problem
}

fn messages() -> [Value; 5] {
    [
        json!({"type": "tool_result", "group_id": "thread-1", "id": "call-1", "text": "done"}),
        json!({"type": "subscription_event", "group_id": "thread-1", "tool_call_id": "call-1", "text": "e"}),
        json!({"type": "oauth", "group_id": "thread-1", "id": "call-1", "auth_url": "https://a.example/"}),
        json!({"type": "user_choice", "group_id": "thread-1", "id": "call-1", "prompt": "p",
               "choices": ["a", "b"], "default": 0, "response_url": "https://s.example/r"}),
        json!({"type": "view_update", "group_id": "thread-1", "view_type": "v", "content": {}}),
    ]
}

#[tokio::test]
async fn every_type_of_message_is_taken() {
    let world = World::new();
    for message in messages() {
        let response = world.post(message.to_string()).await;
        assert_eq!(response.status(), 200);
        let got = world.inbox.got.lock().unwrap().pop().unwrap();
        assert_eq!(serde_json::to_value(&got.message).unwrap()["type"], message["type"]);
        assert_eq!((got.capability.thread, got.capability.call), (thread("thread-1"), call("call-1")));
    }
}

/// What the inbox says decides the answer; refusals carry `Retry-After` where the sender is to come again.
#[tokio::test]
async fn the_inbox_decides_between_200_404_410_429_and_503() {
    let world = World::new();
    let body = || messages()[1].to_string();
    let say = |answer| world.inbox.answers.lock().unwrap().push_back(answer);
    for taken in [Taken::Accepted, Taken::Duplicate, Taken::Discarded] {
        say(Ok(taken));
        assert_eq!(world.post(body()).await.status(), 200);
    }
    say(Ok(Taken::UnknownThread));
    refused(world.post(body()).await, 404, "unknown-thread").await;
    say(Ok(Taken::Ended));
    refused(world.post(body()).await, 410, "gone").await;
    say(Err(InboxError::TooMany { retry_after: Duration::from_secs(3) }));
    let response = world.post(body()).await;
    assert_eq!(response.headers()["retry-after"], "3");
    refused(response, 429, "too-many-requests").await;
    say(Err(InboxError::Busy { retry_after: Duration::from_secs(4) }));
    let response = world.post(body()).await;
    assert_eq!(response.headers()["retry-after"], "4");
    refused(response, 503, "busy").await;
    say(Err(InboxError::Failed("disk /var/secret is full".into())));
    let response = world.post(body()).await;
    assert!(response.headers().contains_key("retry-after"));
    let problem = refused(response, 503, "busy").await;
    assert!(!problem.to_string().contains("secret"), "no internals in an answer");
}

#[tokio::test]
async fn no_forged_altered_or_foreign_capability_is_taken() {
    let world = World::new();
    let body = messages()[0].to_string();
    let good = world.path("thread-1", "call-1");
    let token = good.strip_prefix("/callback/").unwrap();
    let foreign = World::new().path("thread-1", "call-1");
    let mut tokens = vec![
        "x".to_owned(),
        "%20".to_owned(),
        "%00".to_owned(),
        "..".to_owned(),
        "%FF".to_owned(),
        "A".repeat(2000),
        format!("{token}A"),
        format!("{token}="),
        format!("{token}%3D"),
        token[1..].to_owned(),
        token[..token.len() - 1].to_owned(),
        token.to_lowercase(),
        foreign.strip_prefix("/callback/").unwrap().to_owned(),
    ];
    for at in (0..token.len()).step_by(7) {
        let mut altered = token.to_owned().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        tokens.push(String::from_utf8(altered).unwrap());
    }
    for token in tokens {
        let response = world.send(post(&format!("/callback/{token}"), body.clone())).await;
        refused(response, 401, "bad-capability").await;
    }
    // The capability comes first: who has none learns nothing, and no body is read for them.
    let request = Request::builder().method("POST").uri("/callback/x").body(Body::from("x")).unwrap();
    refused(world.send(request).await, 401, "bad-capability").await;
    assert_eq!(world.count(), 0);
}

/// A capability speaks for its own thread and call only; a view update for its thread.
#[tokio::test]
async fn a_capability_speaks_for_nobody_else() {
    let world = World::new();
    for message in messages() {
        let mut other = message.clone();
        other["group_id"] = json!("thread-2");
        refused(world.post(other.to_string()).await, 403, "wrong-thread").await;
        for id in ["id", "tool_call_id"] {
            if message.get(id).is_some() {
                let mut other = message.clone();
                other[id] = json!("call-2");
                refused(world.post(other.to_string()).await, 403, "wrong-call").await;
            }
        }
    }
    assert_eq!(world.count(), 0);
    let response = world.send(post(&world.path("thread-1", "call-2"), messages()[4].to_string())).await;
    assert_eq!(response.status(), 200, "any call of the thread may update its views");
}

/// Each type of message in each way to be wrong: 400, and the inbox is not touched.
#[tokio::test]
async fn every_way_to_be_wrong_is_refused_and_changes_nothing() {
    let world = World::new();
    let mut bad: Vec<String> = vec![];
    for message in messages() {
        let members: Vec<String> = message.as_object().unwrap().keys().cloned().collect();
        for member in &members {
            let mut missing = message.clone();
            missing.as_object_mut().unwrap().remove(member);
            bad.push(missing.to_string());
            for wrong in [json!(null), json!([[]]), json!({"a": 1}), json!(-1.5), json!(true), json!("")] {
                let harmless = match member.as_str() {
                    "content" => wrong.is_object(),
                    // Any text is a text, and a prompt.
                    "text" | "prompt" | "view_type" => wrong == json!(""),
                    _ => false,
                };
                if !harmless {
                    let mut other = message.clone();
                    other[member] = wrong;
                    bad.push(other.to_string());
                }
            }
        }
        for long in ["group_id", "id", "tool_call_id"] {
            if message.get(long).is_some() {
                let mut other = message.clone();
                other[long] = json!("x".repeat(257));
                bad.push(other.to_string());
            }
        }
    }
    let patched = |n: usize, patch: Value| {
        let mut message = messages()[n].clone();
        for (key, value) in patch.as_object().unwrap() {
            message[key] = value.clone();
        }
        message.to_string()
    };
    bad.extend([
        patched(0, json!({"content": "text"})),
        patched(0, json!({"content": [{"type": "image", "data": "no base64!", "mediaType": "image/png"}]})),
        patched(0, json!({"subscription": "yes"})),
        patched(1, json!({"final": 1})),
        patched(1, json!({"associative": "x"})),
        patched(2, json!({"auth_url": "javascript:alert(1)"})),
        patched(2, json!({"auth_url": "http://evil.example/"})),
        patched(3, json!({"choices": []})),
        patched(3, json!({"choices": [1]})),
        patched(3, json!({"default": 2})),
        patched(3, json!({"default": -1})),
        patched(3, json!({"response_url": "/relative"})),
        patched(4, json!({"content": []})),
        patched(0, json!({"type": "tool_results"})),
        patched(0, json!({"type": "TOOL_RESULT"})),
    ]);
    for body in &bad {
        let response = world.post(body.clone()).await;
        assert_eq!(response.status(), 400, "{body}");
        let problem = refused(response, 400, "invalid-message").await;
        assert!(problem["detail"].is_string(), "{body}");
    }
    assert!(bad.len() > 150, "{}", bad.len());
    assert_eq!(world.count(), 0);
}

/// Not JSON at all, or JSON that is made to hurt.
#[tokio::test]
async fn hostile_bodies_are_400() {
    let world = World::new();
    let good = messages()[0].to_string();
    let deep = |open: &str, close: &str| {
        let n = 100_000;
        format!(
            r#"{{"type":"view_update","group_id":"thread-1","view_type":"v","content":{{"a":{}1{}}}}}"#,
            open.repeat(n),
            close.repeat(n)
        )
    };
    let mut utf8 = good.clone().into_bytes();
    let at = good.find("done").unwrap();
    utf8[at] = 0xff;
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b" ".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"7".to_vec(),
        b"{".to_vec(),
        b"{}".to_vec(),
        format!("[{good}]").into_bytes(),
        format!("{good}{good}").into_bytes(),
        format!("{good},").into_bytes(),
        format!("\u{feff}{good}").into_bytes(),
        good.replace('"', "'").into_bytes(),
        utf8,
        good.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        deep("[", "]").into_bytes(),
        deep("{\"a\":", "}").into_bytes(),
        good.replace("\"done\"", "1e999999999").into_bytes(),
        good.replace("\"done\"", &"9".repeat(100_000)).into_bytes(),
        good.replace("done", "\\ud800").into_bytes(),
        b"type=tool_result&group_id=thread-1".to_vec(),
    ];
    for body in bodies {
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let response = world.post(body).await;
        assert_eq!(response.status(), 400, "{start}");
        refused(response, 400, "invalid-message").await;
    }
    assert_eq!(world.count(), 0);
}

#[tokio::test]
async fn the_rest_of_the_table() {
    let world = World::with(|gateway| gateway.body_limit(200).body_timeout(Duration::from_millis(50)));
    let path = world.path("thread-1", "call-1");
    let body = messages()[0].to_string();
    // 405
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request = Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
        let response = world.send(request).await;
        assert_eq!(response.headers()["allow"], "POST");
        refused(response, 405, "method-not-allowed").await;
    }
    // 415
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let request = Request::builder().method("POST").uri(&path).header("content-type", kind);
        refused(world.send(request.body(Body::from(body.clone())).unwrap()).await, 415, "not-json").await;
    }
    let request = Request::builder().method("POST").uri(&path).body(Body::from(body.clone())).unwrap();
    refused(world.send(request).await, 415, "not-json").await;
    let mut request = post(&path, body.clone());
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    refused(world.send(request).await, 415, "encoded").await;
    // 413, whether announced or not
    let long = body.replace("done", &"x".repeat(200));
    refused(world.post(long.clone()).await, 413, "body-too-large").await;
    let pieces: Vec<_> = long.into_bytes().chunks(10).map(|c| Ok::<_, Infallible>(c.to_vec())).collect();
    refused(world.post(Body::from_stream(futures_util::stream::iter(pieces))).await, 413, "body-too-large")
        .await;
    // 408
    let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, Infallible>>());
    refused(world.post(never).await, 408, "body-too-slow").await;
    assert_eq!(world.count(), 0);
    assert_eq!(world.post(body).await.status(), 200);
}

/// LIM-01: a result of 1 MiB is taken by default, and 16 MiB is the end.
#[tokio::test]
async fn a_result_of_a_mebibyte_is_taken() {
    let world = World::new();
    let sized = |bytes: usize| messages()[0].to_string().replace("done", &"x".repeat(bytes - 73));
    assert_eq!(world.post(sized(1 << 20)).await.status(), 200);
    refused(world.post(sized((16 << 20) + 100)).await, 413, "body-too-large").await;
}

/// TRN-10, and `null` for absent.
#[tokio::test]
async fn unknown_members_are_ignored() {
    let world = World::new();
    let mut message = messages()[0].clone();
    message["x-new"] = json!({"deep": [1, 2]});
    message["call_id"] = json!(null);
    assert_eq!(world.post(message.to_string()).await.status(), 200);
    let got = world.inbox.got.lock().unwrap();
    assert!(matches!(&got[0].message, CallbackMessage::ToolResult(r) if r.as_text() == Some("done")));
}

#[tokio::test]
async fn a_trace_is_passed_on_when_it_is_one() {
    let world = World::new();
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (value, passed) in [
        (good, true),
        ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", false),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x", true),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
        ("'; drop table", false),
        ("", false),
    ] {
        let mut request = post(&world.path("thread-1", "call-1"), messages()[0].to_string());
        request.headers_mut().insert("traceparent", value.parse().unwrap());
        assert_eq!(world.send(request).await.status(), 200, "a bad trace is no bad message");
        let got = world.inbox.got.lock().unwrap().pop().unwrap();
        assert_eq!(got.traceparent.is_some(), passed, "{value}");
    }
}

/// TRN-09: 200 only after the inbox has taken it; and a server that hangs up does not stop the taking.
#[tokio::test]
async fn the_answer_waits_for_the_inbox_and_the_inbox_does_not_wait_for_the_server() {
    struct Gate {
        entered: tokio::sync::Notify,
        open: tokio::sync::Notify,
        done: tokio::sync::Notify,
    }
    #[async_trait::async_trait]
    impl Inbox for Gate {
        async fn take(&self, _: Callback) -> Result<Taken, InboxError> {
            self.entered.notify_one();
            self.open.notified().await;
            self.done.notify_one();
            Ok(Taken::Accepted)
        }
    }
    let gate =
        Arc::new(Gate { entered: Default::default(), open: Default::default(), done: Default::default() });
    let gateway = Gateway::new(KeyRing::generate().unwrap(), url("http://h/"), gate.clone());
    let path = gateway.callback_url(&thread("thread-1"), &call("call-1")).unwrap().parsed().path().to_owned();
    let service = gateway.into_service();
    let send = || tokio::spawn(service.clone().oneshot(post(&path, messages()[0].to_string())));

    let answer = send();
    gate.entered.notified().await;
    assert!(!answer.is_finished());
    gate.open.notify_one();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    gate.done.notified().await;

    let answer = send();
    gate.entered.notified().await;
    answer.abort();
    assert!(answer.await.unwrap_err().is_cancelled());
    gate.open.notify_one();
    gate.done.notified().await;
}

#[tokio::test]
async fn a_panic_of_the_inbox_is_a_503_and_the_door_stays_open() {
    struct Fragile;
    #[async_trait::async_trait]
    impl Inbox for Fragile {
        async fn take(&self, callback: Callback) -> Result<Taken, InboxError> {
            assert!(!matches!(callback.message, CallbackMessage::OAuth(_)), "boom");
            Ok(Taken::Accepted)
        }
    }
    let gateway = Gateway::new(KeyRing::generate().unwrap(), url("http://h/"), Arc::new(Fragile));
    let path = gateway.callback_url(&thread("thread-1"), &call("call-1")).unwrap().parsed().path().to_owned();
    let service = gateway.into_service();
    let response = service.clone().oneshot(post(&path, messages()[2].to_string())).await.unwrap();
    refused(response.map(Body::new), 503, "busy").await;
    let response = service.oneshot(post(&path, messages()[0].to_string())).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[test]
fn the_public_url_may_have_a_prefix() {
    for (public, starts) in [
        ("https://agent.example", "https://agent.example/callback/"),
        ("https://agent.example/", "https://agent.example/callback/"),
        ("https://agent.example/rap/v1/", "https://agent.example/rap/v1/callback/"),
    ] {
        let gateway = Gateway::new(KeyRing::generate().unwrap(), url(public), Arc::new(Box_::default()));
        let minted = gateway.callback_url(&thread("t"), &call("c")).unwrap();
        assert!(minted.as_str().starts_with(starts), "{minted}");
        let token = minted.as_str().strip_prefix(starts).unwrap();
        assert!(!format!("{gateway:?} {minted:?}").contains(token), "a capability is a secret");
    }
}

/// A gateway on loopback turns away web pages and rebound names, and lets its public name in.
#[tokio::test]
async fn a_guarded_gateway_refuses_foreign_hosts_and_web_pages() {
    let guard = rap_http::Guard::new(rap_http::Auth::InUrl, true).allow_host("agent.example");
    let world = World::with(|gateway| gateway.guarded(guard));
    for (header, value, status) in [
        ("host", "127.0.0.1:4000", 200),
        ("host", "agent.example", 200),
        ("host", "evil.example", 403),
        ("origin", "https://evil.example", 403),
    ] {
        let mut request = post(&world.path("thread-1", "call-1"), messages()[0].to_string());
        request.headers_mut().insert("host", "localhost".parse().unwrap());
        request.headers_mut().insert(header, value.parse().unwrap());
        assert_eq!(world.send(request).await.status(), status, "{header}: {value}");
    }
    assert_eq!(world.count(), 2);
}

/// Found with the public URL's path and without, as what is in front passes it on or takes it off; nothing else is.
#[tokio::test]
async fn the_service_below_a_prefix() {
    for public in ["http://h", "http://h/rap/v1", "http://h/callback/"] {
        let inbox = Arc::new(Box_::default());
        let gateway = Gateway::new(KeyRing::generate().unwrap(), url(public), inbox.clone());
        let minted = gateway.callback_url(&thread("thread-1"), &call("call-1")).unwrap().parsed();
        let (_, token) = minted.path().rsplit_once('/').unwrap();
        let service = gateway.into_service();
        let status = async |path: &str| {
            let request = post(path, messages()[0].to_string());
            service.clone().oneshot(request).await.unwrap().status().as_u16()
        };
        assert_eq!(status(minted.path()).await, 200, "{public}");
        assert_eq!(status(&format!("/callback/{token}")).await, 200, "{public}");
        for path in
            ["/", "/callback", "/callback/", "/other/callback/x", "/callback/x/y", "/rap/v1callback/x"]
        {
            assert_eq!(status(path).await, 404, "{public}: {path}");
        }
        assert_eq!(inbox.got.lock().unwrap().len(), 2);
    }
}

/// In an axum app of any state, merged or nested, beside its own catch-all and inside its layers.
#[cfg(feature = "axum")]
#[tokio::test]
async fn in_an_axum_app() {
    use axum::{Router, http::StatusCode, middleware::map_response, routing::any};
    #[derive(Clone)]
    struct App;
    async fn mark(mut response: Response<Body>) -> Response<Body> {
        response.headers_mut().insert("x-layer", "ran".parse().unwrap());
        response
    }
    let app = || Router::<App>::new().route("/{*page}", any(async || StatusCode::NOT_FOUND));
    for (public, build) in [
        ("http://h", (|app, service| app.merge(service)) as fn(Router<App>, GatewayService) -> Router<App>),
        ("http://h/rap", |app, service| app.nest("/rap", service.into())),
    ] {
        let gateway = Gateway::new(KeyRing::generate().unwrap(), url(public), Arc::new(Box_::default()));
        let path =
            gateway.callback_url(&thread("thread-1"), &call("call-1")).unwrap().parsed().path().to_owned();
        let app = build(app(), gateway.into_service()).route_layer(map_response(mark)).with_state(App);
        for (path, status) in [(path.as_str(), 200), ("/other", 404), ("/rap/other", 404)] {
            let response = app.clone().oneshot(post(path, messages()[0].to_string())).await.unwrap();
            assert_eq!(response.status(), status, "{public}: {path}");
            assert!(response.headers().contains_key("x-layer"), "{public}: {path}");
        }
    }
}
