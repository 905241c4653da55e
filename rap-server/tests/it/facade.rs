//! What whoever runs a server sees of it: metrics, log and trace, its URL behind a proxy.

use crate::{invocation, traced};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder};
use rap_server::{
    Args, Call, Tool, ToolError, ToolServer, ToolService, rap_http::Attempt, testing::TestServer,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// A recorder that adds up, by name and labels.
#[derive(Clone, Default)]
struct Sums(Arc<Mutex<BTreeMap<String, f64>>>);

struct Sum(String, Sums);

impl Sum {
    fn add(&self, value: f64) {
        *self.1.0.lock().unwrap().entry(self.0.clone()).or_default() += value;
    }
}

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }
    fn absolute(&self, _: u64) {}
}
impl GaugeFn for Sum {
    fn increment(&self, value: f64) {
        self.add(value);
    }
    fn decrement(&self, value: f64) {
        self.add(-value);
    }
    fn set(&self, _: f64) {}
}
impl HistogramFn for Sum {
    fn record(&self, _: f64) {
        self.add(1.0);
    }
}

impl Sums {
    fn sum(&self, key: &Key) -> Arc<Sum> {
        let labels: Vec<String> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        Arc::new(Sum(format!("{}{{{}}}", key.name(), labels.join(",")), self.clone()))
    }
}

impl Recorder for Sums {
    fn describe_counter(&self, _: KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.sum(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.sum(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.sum(key))
    }
}

fn tools() -> ToolServer {
    let work = async |Args(how): Args<serde_json::Map<String, Value>>| match how.get("fail") {
        Some(_) => Err(ToolError::new("no").caused_by(std::io::Error::other("the disk is full"))),
        None => Ok("done"),
    };
    let ask = async |call: Call| call.choose("Go?", ["yes", "no"], 1).await.map(|pick| pick.text);
    ToolServer::new("test")
        .tool(Tool::new("work", "d", work).input_schema(json!({"type": "object"})))
        .tool(Tool::new("ask.person", "d", ask))
}

/// Calls by tool and outcome, their time, what is open, attempts and dead letters; nothing a stranger sent
/// becomes a label.
#[tokio::test(start_paused = true)]
async fn metrics_are_told_through_the_facade() {
    let sums = Sums::default();
    let _here = metrics::set_default_local_recorder(&sums);
    let server = TestServer::new(tools());
    server.call("work", json!({})).await;
    server.call("work", json!({"fail": 1})).await;
    server.call("x\"} evil{", json!({})).await;
    server.answer_next([Attempt::status(403)]);
    server.start("work", json!({})).await.silence().await;
    let asking = server.start("ask.person", json!({})).await;
    tokio::task::yield_now().await;
    let told: Vec<(String, f64)> = sums.0.lock().unwrap().clone().into_iter().collect();
    let expected = [
        ("rap_server_call_duration_seconds{tool=(unknown)}", 1.0),
        ("rap_server_call_duration_seconds{tool=work}", 3.0),
        ("rap_server_callback_attempts_total{outcome=failed}", 1.0),
        ("rap_server_callback_attempts_total{outcome=taken}", 3.0),
        ("rap_server_calls_total{tool=(unknown),outcome=error}", 1.0),
        ("rap_server_calls_total{tool=work,outcome=error}", 1.0),
        ("rap_server_calls_total{tool=work,outcome=ok}", 2.0),
        ("rap_server_dead_letters_total{type=tool_result}", 1.0),
        ("rap_server_open_calls{}", 1.0),
    ];
    for (name, value) in expected {
        let got = told.iter().find(|(told, _)| told == name).map(|(_, value)| *value);
        // The question of the open call may be on its way.
        let right = if name.contains("taken") { got >= Some(value) } else { got == Some(value) };
        assert!(right, "{name}: {got:?} in {told:?}");
    }
    drop(asking);
}

/// Everything that is logged, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// W3C context: in the span of the call, with all that is logged in it, and on the way out. RES-07: the private
/// cause is in the log and not in the message. No capability is in the log. TLS-14: a name that not every model
/// takes is warned of when the server starts.
#[tokio::test(start_paused = true)]
async fn log_and_trace() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With a single subscriber, whatever another test logs first is asked of that test's thread alone, and then taken
    // as unwanted everywhere.
    let _second = tracing::Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish());
    let _here = tracing::subscriber::set_default(subscriber);
    let server = TestServer::new(tools());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = async |id: &str, trace: &str| {
        let mut sent = invocation("work", json!({"fail": 1}), "t", id);
        sent["callback_url"] = json!("http://127.0.0.1:4000/cb?capability=very-secret");
        // So that the runtime side knows the URL.
        let mut call = server.invoke(sent.clone()).await;
        let first = call.any().await;
        assert!(!first.json.to_string().contains("disk"));
        sent["id"] = json!(format!("{id}-traced"));
        traced(&server, &sent, trace, None).await;
        call.any().await.headers
    };
    assert_eq!(call("a", trace).await["traceparent"], trace);
    for malformed in ["", "garbage", "00-x-y-01", &format!("{trace}-more")] {
        assert_eq!(call(&format!("b{}", malformed.len()), malformed).await.get("traceparent"), None);
    }
    server.answer_next([Attempt::status(403)]);
    server.start("work", json!({})).await.silence().await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let traced = "trace_id=\"0af7651916cd43dd8448eb211c80319c\" parent_span_id=\"b7ad6b7169203331\"";
    assert!(text.lines().any(|l| l.contains("the disk is full") && l.contains(traced)), "{text}");
    assert!(text.contains("a callback was given up"), "{text}");
    assert!(!text.contains("very-secret") && !text.contains("capability"), "{text}");
    let warned: Vec<_> = text.lines().filter(|l| l.contains("TLS-14")).collect();
    assert!(warned.len() == 1 && warned[0].contains("ask.person"), "{warned:?}");
}

async fn send(
    service: &ToolService,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::get(format!("http://127.0.0.1{path}"));
    if body.is_some() {
        request = Request::post(format!("http://127.0.0.1{path}")).header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::from(body.map(|b| b.to_string()).unwrap_or_default());
    let response = tower::ServiceExt::oneshot(service.clone(), request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// TLS-01, TLS-11: the endpoint is the configured one; a proxy's word counts only where it is trusted, a Host
/// header never.
#[tokio::test]
async fn endpoint_behind_a_proxy() {
    let told: &[(&str, &str)] = &[
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "tools.example"),
        ("x-forwarded-prefix", "/x"),
    ];
    let evil: &[(&str, &str)] = &[("host", "evil.example")];
    let base = || tools().public_url("https://fallback.example/base").allow_host("evil.example");
    for (server, headers, endpoint) in [
        (base(), told, "https://fallback.example/base/invoke"),
        (base(), evil, "https://fallback.example/base/invoke"),
        (base().trust_forwarded(), told, "https://tools.example/x/invoke"),
        (base().trust_forwarded(), evil, "https://fallback.example/base/invoke"),
        (base().trust_forwarded(), &told[..1], "https://fallback.example/base/invoke"),
        (
            base().trust_forwarded().endpoint_url("https://fixed.example/rpc"),
            told,
            "https://fixed.example/rpc",
        ),
    ] {
        let service = server.into_service(true).unwrap();
        let (status, _, toolset) = send(&service, "/.well-known/rap-toolset", headers, None).await;
        assert_eq!((status, &toolset["endpoint"]), (StatusCode::OK, &json!(endpoint)), "{headers:?}");
    }
}

/// CHO-02: an answer comes back by the way that the call came.
#[tokio::test(start_paused = true)]
async fn response_url_behind_a_proxy() {
    let server = TestServer::new(tools().trust_forwarded());
    let sent = invocation("ask.person", json!({}), "t", "first");
    let mut call = server.invoke(sent.clone()).await;
    let direct = call.question().await;
    assert!(direct.choice.response_url.as_str().starts_with("http://127.0.0.1:3001/choices/"));
    let mut sent = sent;
    sent["id"] = json!("second");
    let request = Request::post("http://127.0.0.1:3001/invoke")
        .header("content-type", "application/json")
        .header("forwarded", "proto=https;host=tools.example")
        .body(Full::from(sent.to_string()))
        .unwrap();
    assert_eq!(server.send(request).await.0, 200);
    let through = call.question().await;
    assert!(through.choice.response_url.as_str().starts_with("https://tools.example/choices/"));
    assert_eq!(through.pick(0).await, 200);
}

/// As the whole server: every path and method has an answer, a problem that says what is served.
#[tokio::test]
async fn every_path_and_method_has_an_answer() {
    let service = tools().public_url("http://127.0.0.1:1").into_service(true).unwrap();
    for (method, path, status, allow) in [
        ("GET", "/nowhere", 404, None),
        ("DELETE", "/", 404, None),
        ("GET", "/invoke", 405, Some("POST")),
        ("OPTIONS", "/close_thread", 405, Some("POST")),
        ("TRACE", "/cancel_tool_call", 405, Some("POST")),
        ("DELETE", "/tool_call_status", 405, Some("POST")),
        ("DELETE", "/.well-known/rap-toolset", 405, Some("GET, HEAD")),
    ] {
        let request = Request::builder().method(method).uri(format!("http://127.0.0.1{path}"));
        let request = request.body(Full::<bytes::Bytes>::default()).unwrap();
        let response = tower::ServiceExt::oneshot(service.clone(), request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers().get("allow").map(|v| v.to_str().unwrap()), allow, "{method} {path}");
    }
    let (status, _, _) = send(&service, "/invoke", &[("content-encoding", "gzip")], Some(json!({}))).await;
    assert_eq!(status, 415);
}
