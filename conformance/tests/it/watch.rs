//! The proxy: it changes what leads through it and nothing else, and the rules see what passes.

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
