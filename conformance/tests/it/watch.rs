//! The proxy: it changes what leads through it and nothing else, and the rules see what passes.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rap_conformance::{
    http::{Http, Request},
    listen::Listener,
    trace::{Exchange, Recorder},
    watch::{Proxy, Watch},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A server that answers `GET` with a toolset and remembers every message; it does nothing by itself.
async fn server(got: Arc<Mutex<Vec<(String, Value)>>>) -> String {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}/base", socket.local_addr().expect("an address"));
    let endpoint = format!("{base}/rap?x=a%2Fb");
    tokio::spawn(async move {
        loop {
            let (stream, _) = socket.accept().await.expect("a connection");
            let (got, endpoint) = (got.clone(), endpoint.clone());
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (got, endpoint) = (got.clone(), endpoint.clone());
                async move {
                    let path = request.uri().path_and_query().expect("a path").to_string();
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
                    got.lock().expect("the list").push((path, body));
                    let tool =
                        json!({ "name": "o", "description": "d", "inputSchema": { "type": "object" } });
                    let toolset = json!({ "name": "n", "endpoint": endpoint, "tools": [tool], "extra": 1.0 });
                    Ok::<_, std::convert::Infallible>(http::Response::new(Full::<bytes::Bytes>::from(
                        toolset.to_string(),
                    )))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    base
}

async fn post(url: &str, body: &Value) -> (u16, Value) {
    send("POST", url, body.to_string()).await
}

async fn send(method: &str, url: &str, body: String) -> (u16, Value) {
    let http = Http::new(Recorder::default(), Duration::from_secs(10));
    let request = Request {
        case: String::new(),
        method: method.to_owned(),
        url: url.to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.into(),
    };
    let answer = http.send(request).await.answer.expect("an answer");
    (answer.status, answer.body.json().unwrap_or(Value::Null))
}

#[tokio::test]
async fn calls_callbacks_and_answers_lead_through_it_and_all_else_is_left_alone() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let base = server(got.clone()).await;
    let runtime = Listener::bind("127.0.0.1:0", None, Recorder::default()).await.expect("a listener");
    let given = runtime.give("runtime");
    let seen: Arc<Mutex<Vec<Exchange>>> = Arc::default();
    let shown = seen.clone();
    let watch = Watch { to: base.clone(), listen: "127.0.0.1:0".to_owned(), ..Watch::default() };
    let proxy =
        Proxy::start(watch, move |e| shown.lock().expect("the list").push(e.clone())).await.expect("a proxy");

    let (status, toolset) =
        send("GET", &format!("{}/.well-known/rap-toolset", proxy.base), String::new()).await;
    assert_eq!((status, &toolset["extra"]), (200, &json!(1.0)));
    let endpoint = toolset["endpoint"].as_str().expect("an endpoint").to_owned();
    assert!(endpoint.starts_with(&proxy.base) && endpoint.ends_with("/base/rap?x=a%2Fb"), "{endpoint}");

    let call = json!({ "operation": "o", "id": "c", "group_id": "g", "arguments": { "callback_url": "http://kept/" },
        "callback_url": given.url });
    assert_eq!(post(&endpoint, &call).await.0, 200);
    let (path, received) = got.lock().expect("the list").last().cloned().expect("the call");
    assert_eq!(path, "/base/rap?x=a%2Fb");
    assert_eq!(received["arguments"], call["arguments"]);
    let callback_url = received["callback_url"].as_str().expect("a URL").to_owned();
    assert!(callback_url.starts_with(&proxy.base), "{callback_url}");

    let question = json!({ "type": "user_choice", "id": "c", "group_id": "g", "prompt": "?", "choices": ["a"],
        "default": 0, "response_url": format!("{base}/answers/1?k=2") });
    assert_eq!(post(&callback_url, &question).await.0, 200);
    let arrived = given.arrived().pop().expect("the question");
    let response_url = arrived.member("response_url").as_str().expect("a URL").to_owned();
    assert!(response_url.starts_with(&proxy.base), "{response_url}");
    assert_eq!(arrived.member("prompt"), "?");

    assert_eq!(post(&response_url, &json!({ "id": "c", "selected": 0 })).await.0, 200);
    let (path, answer) = got.lock().expect("the list").last().cloned().expect("the answer");
    assert_eq!((path.as_str(), &answer["selected"]), ("/base/answers/1?k=2", &json!(0)));

    assert_eq!(seen.lock().expect("the list").len(), 4, "every exchange was shown");
    let faults: Vec<_> = proxy.report().cases.into_iter().filter(|c| c.verdict.is_fault()).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[tokio::test]
async fn a_message_to_a_spoiled_url_is_seen_as_such_by_both() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let base = server(got.clone()).await;
    let runtime = Listener::bind("127.0.0.1:0", None, Recorder::default()).await.expect("a listener");
    let given = runtime.give("runtime");
    let watch = Watch { to: base, listen: "127.0.0.1:0".to_owned(), ..Watch::default() };
    let proxy = Proxy::start(watch, |_| {}).await.expect("a proxy");
    let call =
        json!({ "operation": "o", "id": "c", "group_id": "g", "arguments": {}, "callback_url": given.url });
    post(&format!("{}/rap", proxy.base), &call).await;
    let received = got.lock().expect("the list").last().cloned().expect("the call").1;
    let url = received["callback_url"].as_str().expect("a URL");
    let spoiled = url.split('?').next().expect("a path");
    post(spoiled, &json!({ "type": "tool_result", "id": "c", "group_id": "g", "text": "t" })).await;

    let report = proxy.report();
    let broken: Vec<&str> =
        report.cases.iter().flat_map(|c| &c.findings).map(|finding| finding.obligation.as_str()).collect();
    assert_eq!(broken, ["TRN-07"]);
}

/// Answers every request with the same, and remembers the bytes of each.
async fn echoes(head: &'static str, body: String, got: Arc<Mutex<Vec<(String, bytes::Bytes)>>>) -> String {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base = format!("http://{}", socket.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let (got, body) = (got.clone(), body.clone());
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (got, body) = (got.clone(), body.clone());
                async move {
                    let path = request.uri().path_and_query().expect("a path").to_string();
                    let bytes = request.into_body().collect().await.expect("a body").to_bytes();
                    got.lock().expect("the list").push((path, bytes));
                    let mut response = http::Response::new(Full::<bytes::Bytes>::from(body));
                    if let Some((name, value)) = head.split_once(": ") {
                        response.headers_mut().insert(name, value.parse().expect("a value"));
                    }
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    base
}

async fn proxy(to: &str, listen: &str) -> Proxy {
    let watch = || Watch { to: to.to_owned(), listen: listen.to_owned(), ..Watch::default() };
    for _ in 0..400 {
        if let Ok(proxy) = Proxy::start(watch(), |_| {}).await {
            return proxy;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{listen} is never free");
}

/// TRN-10, INV-10: what passes is what was sent, to the byte, but for the URL.
#[tokio::test]
async fn nothing_but_the_url_is_changed_in_what_passes() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let toolset = "{ \"tools\":[], \"n\": 1e2, \"endpoint\" : \"http:\\/\\/127.0.0.1:1\\/rap\", \"a\":1, \"a\":12345678901234567890123 }\n";
    let base = echoes("x-a: b", toolset.to_owned(), got.clone()).await;
    let proxy = proxy(&base, "127.0.0.1:0").await;
    let http = Http::new(Recorder::default(), Duration::from_secs(10));
    let request = |method: &str, url: String, body: &str| Request {
        case: String::new(),
        method: method.to_owned(),
        url,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: body.to_owned().into(),
    };
    let fetch = request("GET", format!("{}/.well-known/rap-toolset", proxy.base), "");
    let answer = http.send(fetch).await.answer.expect("a toolset").body.text();
    let (before, rest) = toolset.split_once("\"http").expect("a URL");
    let (_, after) = rest.split_once("rap\"").expect("its end");
    assert!(answer.starts_with(before) && answer.ends_with(after), "{answer}");
    let endpoint = answer[before.len()..answer.len() - after.len()].trim_matches('"');
    assert!(endpoint.starts_with(&proxy.base) && endpoint.ends_with("/rap"), "{endpoint}");

    let call = "{\"z\":-0.10, \"callback_url\":\"http://127.0.0.1:2/cb\",\"arguments\":{\"big\":12345678901234567890123,\"b\":1,\"a\":1e2},\"id\":\"\\u00e9\"}";
    http.send(request("POST", format!("{}/rap", proxy.base), call)).await.answer.expect("an answer");
    let received = got.lock().expect("the list").last().cloned().expect("the call").1;
    let received = String::from_utf8(received.to_vec()).expect("UTF-8");
    let (before, after) = call.split_once("http://127.0.0.1:2/cb").expect("a URL");
    assert!(received.starts_with(before) && received.ends_with(after), "{received}");
    assert!(received[before.len()..].starts_with(&proxy.base), "{received}");
}

/// A subscription lives longer than a proxy: its URL leads to the same place when the proxy is started again, and
/// nobody is blamed for what was not seen.
#[tokio::test]
async fn a_url_leads_to_the_same_place_after_a_restart() {
    let server_got = Arc::new(Mutex::new(Vec::new()));
    let base = echoes("x-a: b", String::new(), server_got.clone()).await;
    let (first, second) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let urls = [
        echoes("x-a: b", String::new(), first.clone()).await,
        echoes("x-a: b", String::new(), second.clone()).await,
    ];
    let call = |n: usize| json!({ "operation": "o", "id": format!("c{n}"), "group_id": "g", "arguments": {}, "callback_url": format!("{}/cb?n={n}", urls[n]) });
    let given = || {
        let got = server_got.lock().expect("the list").last().cloned().expect("the call").1;
        let body: Value = serde_json::from_slice(&got).expect("JSON");
        body["callback_url"].as_str().expect("a URL").to_owned()
    };
    let before = proxy(&base, "127.0.0.1:0").await;
    let local = before.local.to_string();
    post(&format!("{}/rap", before.base), &call(0)).await;
    let old = given();
    drop(before);

    let after = proxy(&base, &local).await;
    // Another origin is the first that this one sees.
    post(&format!("{}/rap", after.base), &call(1)).await;
    let event = json!({ "type": "subscription_event", "tool_call_id": "c0", "group_id": "g", "text": "t" });
    assert_eq!(post(&old, &event).await.0, 200);
    assert_eq!(first.lock().expect("the list").last().expect("the event").0, "/cb?n=0");
    assert!(second.lock().expect("the list").is_empty(), "nothing came to a stranger");
    let report = after.report();
    let faults: Vec<_> = report.cases.iter().filter(|c| c.verdict.is_fault()).collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert!(report.notes.iter().any(|note| note.contains("an earlier run")), "{:?}", report.notes);
    // What no proxy gives is none of its URLs.
    for path in ["/~rap/s0/cb", "/~rap/sx.aHR0cDovL2EvYg/cb", "/~rap/sx.!/cb", "/~rap/sx.ZnRwOi8vYQ/cb"] {
        assert_eq!(post(&format!("{}{path}", after.base), &event).await.0, 404, "{path}");
    }
}

/// Sends a request with one more header.
async fn send_with(url: &str, header: (&str, &str), body: &Value) -> u16 {
    let http = Http::new(Recorder::default(), Duration::from_secs(10));
    let request = Request {
        case: String::new(),
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers: vec![(header.0.to_owned(), header.1.to_owned())],
        body: body.to_string().into(),
    };
    http.send(request).await.answer.expect("an answer").status
}

/// It is no way to anywhere: what another run gave leads only to where something of this one does.
#[tokio::test]
async fn what_another_run_gave_leads_nowhere_that_this_one_does_not() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let base = echoes("x-a: b", String::new(), got.clone()).await;
    let elsewhere = Arc::new(Mutex::new(Vec::new()));
    let other = echoes("x-a: b", String::new(), elsewhere.clone()).await;
    // Not on loopback alone, so that loopback is a place like others.
    let watch = Watch { to: base.clone(), listen: "0.0.0.0:0".to_owned(), ..Watch::default() };
    let proxy = Proxy::start(watch, |_| {}).await.expect("a proxy");
    let at = format!("http://127.0.0.1:{}", proxy.local.port());
    let label = |sender: char, origin: &str| {
        format!("{at}/~rap/{sender}earlier.{}/cb", URL_SAFE_NO_PAD.encode(origin))
    };
    let event = json!({ "type": "subscription_event", "tool_call_id": "c", "group_id": "g", "text": "t" });
    assert_eq!(post(&label('s', &other), &event).await.0, 404);
    assert!(elsewhere.lock().expect("the list").is_empty(), "nothing was passed on");
    // The server's own origin is known from the start.
    assert_eq!(post(&label('r', &base), &json!({ "id": "c", "selected": 0 })).await.0, 200);
    let call = json!({ "operation": "o", "id": "c", "group_id": "g", "arguments": {}, "callback_url": format!("{other}/cb") });
    assert_eq!(post(&format!("{at}/rap"), &call).await.0, 200);
    assert_eq!(post(&label('s', &other), &event).await.0, 200);
    assert_eq!(elsewhere.lock().expect("the list").len(), 1);

    // From a machine's own loopback to no other place.
    let near = self::proxy(&base, "127.0.0.1:0").await;
    let far = URL_SAFE_NO_PAD.encode("http://192.0.2.1");
    assert_eq!(post(&format!("{}/~rap/searlier.{far}/cb", near.base), &event).await.0, 404);
    // And no web page sends anything through it.
    for url in [format!("{}/rap", near.base), label('s', &other)] {
        assert_eq!(send_with(&url, ("origin", "http://127.0.0.1"), &event).await, 403, "{url}");
    }
    assert_eq!(elsewhere.lock().expect("the list").len(), 1);
}

/// What cannot be read cannot be changed, and that is said.
#[tokio::test]
async fn a_compressed_toolset_passes_and_is_told() {
    let base = echoes("content-encoding: gzip", "\u{1f}".to_owned(), Arc::default()).await;
    let proxy = proxy(&base, "127.0.0.1:0").await;
    send("GET", &format!("{}/.well-known/rap-toolset", proxy.base), String::new()).await;
    assert!(proxy.report().notes.iter().any(|note| note.contains("a toolset came compressed (gzip)")));
}

/// What passes is kept in part, and that is said.
#[tokio::test]
async fn a_watch_without_end_keeps_so_much_and_no_more() {
    let base = echoes("x-a: b", "x".repeat(10_000), Arc::default()).await;
    let watch = Watch { to: base, listen: "127.0.0.1:0".to_owned(), keep: Some(50_000), ..Watch::default() };
    let proxy = Proxy::start(watch, |_| {}).await.expect("a proxy");
    for _ in 0..10 {
        let (status, _) = send("GET", &format!("{}/x", proxy.base), String::new()).await;
        assert_eq!(status, 200);
    }
    let kept = proxy.trace().len();
    assert!((4..=6).contains(&kept), "{kept}");
    assert!(proxy.report().notes.iter().any(|note| note.contains("not judged")), "{:?}", proxy.notes());
}
