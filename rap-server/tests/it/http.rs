//! The HTTP face: what is refused, with which status, and that nothing happens then.

use crate::invocation;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use rap_server::{
    Tool, ToolServer,
    rap_http::{Auth, Secret, webhooks::Keys},
    testing::TestServer,
};
use serde_json::{Value, json};

fn server() -> ToolServer {
    ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello"))
}

fn good() -> Value {
    invocation("echo", json!({}), "t", "c")
}

async fn send(server: &TestServer, change: impl FnOnce(&mut Request<Full<Bytes>>)) -> (StatusCode, Value) {
    let mut request = Request::post("http://127.0.0.1:3001/invoke")
        .header("content-type", "application/json")
        .body(Full::from(good().to_string()))
        .unwrap();
    change(&mut request);
    server.send(request).await
}

/// TRN-01, TRN-14, LIM-01: each way for an invocation to be wrong is a 4xx problem, and nothing is worked.
#[tokio::test(start_paused = true)]
async fn malformed_invocations() {
    let server = TestServer::new(server());
    let mut bodies = vec![
        ("", "TRN-01"),
        ("{", "TRN-01"),
        ("[]", "TRN-01"),
        ("null", "TRN-01"),
        ("\"text\"", "TRN-01"),
        ("[\"echo\", {}, \"c\", null, \"http://127.0.0.1:4000/\", \"t\", null, null]", "TRN-01"),
        ("{}", "operation"),
    ]
    .into_iter()
    .map(|(body, word)| (body.to_owned(), word.to_owned()))
    .collect::<Vec<_>>();
    let id = "x".repeat(257);
    for (member, wrong) in [
        ("operation", vec![json!(null), json!(7)]),
        ("arguments", vec![json!(null), json!([]), json!("{}")]),
        ("id", vec![json!(null), json!(""), json!(7), json!(id)]),
        ("callback_url", vec![json!(null), json!(""), json!("/relative"), json!(7)]),
        ("group_id", vec![json!(null), json!(""), json!(id), json!(["t"])]),
        ("call_id", vec![json!(7), json!(id)]),
        ("thread_ancestors", vec![json!("t"), json!([7]), json!([""])]),
        ("user_id", vec![json!(7)]),
    ] {
        let mut without = good();
        for value in wrong {
            let mut body = good();
            body[member] = value;
            bodies.push((body.to_string(), member.to_owned()));
        }
        without.as_object_mut().unwrap().remove(member);
        if !["call_id", "thread_ancestors", "user_id"].contains(&member) {
            bodies.push((without.to_string(), member.to_owned()));
        }
    }
    for (body, word) in bodies {
        let (status, problem) = server.post_text("/invoke", &body).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(problem["status"], 400);
        assert!(problem["detail"].as_str().unwrap().contains(&word), "{word} in {problem} for {body}");
    }
    let invalid_utf8 =
        send(&server, |r| *r.body_mut() = Full::from(b"{\"operation\":\"\xff\"}".to_vec())).await;
    assert_eq!(invalid_utf8.0, 400);
    let deep = format!("{{\"arguments\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(server.post_text("/invoke", &deep).await.0, 400);
    let large = json!({"arguments": {"x": "y".repeat(3 << 20)}}).to_string();
    assert_eq!(server.post_text("/invoke", &large).await.0, 413);
    assert_eq!((server.handle().open_calls(), server.attempts()), (0, 0));
    // LIM-01: 256 KiB of arguments are taken.
    let mut sent = good();
    sent["arguments"] = json!({"x": "y".repeat(256 * 1024 - 8)});
    assert_eq!(server.invoke(sent).await.result().await.text(), "hello");
}

/// TRN-14, CLS-02, CAN-02: malformed notices are 400, an object with what is needed is 200.
#[tokio::test(start_paused = true)]
async fn malformed_notices() {
    let server = TestServer::new(server());
    for (path, body) in [
        ("/close_thread", json!({})),
        ("/close_thread", json!({"thread_id": 7})),
        ("/close_thread", json!([])),
        ("/cancel_tool_call", json!({"thread_id": "t"})),
        ("/cancel_tool_call", json!({"tool_call_id": "c"})),
        ("/tool_call_status", json!({"thread_id": "t", "tool_call_id": null})),
    ] {
        assert_eq!(server.post(path, &body).await.0, 400, "{path} {body}");
    }
}

/// Paths and methods: CLS-05 and CAN-04 are served by POST; what is not there is 404, another method 405.
#[tokio::test(start_paused = true)]
async fn paths() {
    let server = TestServer::new(server());
    for (method, path, status) in [
        (Method::GET, "/", 404),
        (Method::GET, "/invoke", 405),
        (Method::PUT, "/invoke", 405),
        (Method::DELETE, "/close_thread", 405),
        (Method::POST, "/.well-known/rap-toolset", 405),
        (Method::GET, "/.well-known/rap-toolset", 200),
        (Method::HEAD, "/.well-known/rap-toolset", 200),
        (Method::GET, "/.well-known/rap-toolset?x=1", 200),
        (Method::POST, "/migrate", 404),
        (Method::POST, "/invoke/../close_thread", 404),
        (Method::GET, "/choices/x", 405),
    ] {
        let got = send(&server, |r| {
            *r.method_mut() = method.clone();
            *r.uri_mut() = format!("http://127.0.0.1:3001{path}").parse().unwrap();
        })
        .await;
        assert_eq!(got.0, status, "{method} {path}");
    }
    assert_eq!(server.handle().open_calls(), 0);
}

/// A web page cannot drive a server on loopback: foreign hosts, any origin, and what forms can send are refused.
#[tokio::test(start_paused = true)]
async fn web_pages() {
    let server = TestServer::new(server());
    let header = async |name: &'static str, value: &'static str| {
        send(&server, |r| {
            r.headers_mut().insert(name, value.parse().unwrap());
        })
        .await
        .0
        .as_u16()
    };
    assert_eq!(header("host", "evil.example.com").await, 403);
    assert_eq!(header("host", "127.0.0.1.evil.example.com").await, 403);
    assert_eq!(header("origin", "http://127.0.0.1:3001").await, 403);
    assert_eq!(header("origin", "null").await, 403);
    assert_eq!(header("content-type", "text/plain").await, 415);
    assert_eq!(header("content-type", "application/x-www-form-urlencoded").await, 415);
    assert_eq!(server.handle().open_calls(), 0);
    assert_eq!(header("host", "localhost:3001").await, 200);
}

/// AUT-01: with authentication configured everything needs it, the answer to a question excepted, whose URL is
/// the secret.
#[tokio::test(start_paused = true)]
async fn bearer() {
    let server = TestServer::new(server().bearer_token("right"));
    let bodies = [
        ("/invoke", good()),
        ("/close_thread", json!({"thread_id": "t"})),
        ("/cancel_tool_call", json!({"thread_id": "t", "tool_call_id": "c"})),
        ("/tool_call_status", json!({"thread_id": "t", "tool_call_id": "c"})),
    ];
    for (path, body) in bodies {
        for (header, status) in [
            (None, 401),
            (Some("Bearer wrong"), 401),
            (Some("Basic right"), 401),
            (Some("Bearer right"), 200),
        ] {
            let got = send(&server, |r| {
                *r.uri_mut() = format!("http://127.0.0.1:3001{path}").parse().unwrap();
                *r.body_mut() = Full::from(body.to_string());
                if let Some(value) = header {
                    r.headers_mut().insert("authorization", value.parse().unwrap());
                }
            })
            .await;
            assert_eq!(got.0, status, "{path} {header:?}");
        }
    }
    let answer = send(&server, |r| {
        *r.uri_mut() = "http://127.0.0.1:3001/choices/x".parse().unwrap();
        *r.body_mut() = Full::from(json!({"id": "c", "selected": 0}).to_string());
    });
    assert_eq!(answer.await.0, 404);
}

/// AUT-01: where keys are configured requests are signed; a header that is merely absent is no pass. Discovery, which
/// has no body, is open, and so are answers to questions, whose URL is the secret.
#[tokio::test]
async fn signed() {
    let keys = Keys::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap();
    let server = TestServer::new(server().auth(Auth::Signed(keys.clone())));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let notice = json!({"thread_id": "t", "tool_call_id": "c"});
    for (path, body) in [
        ("/invoke", good()),
        ("/close_thread", notice.clone()),
        ("/cancel_tool_call", notice.clone()),
        ("/tool_call_status", notice),
    ] {
        let signature = keys.sign("m", now, body.to_string().as_bytes()).unwrap();
        let mut missing = signature.clone();
        missing.remove("webhook-signature");
        let stale = keys.sign("m", now - 3600, body.to_string().as_bytes()).unwrap();
        let foreign = keys.sign("m", now, b"{}").unwrap();
        for (headers, status) in
            [(signature, 200), (missing, 401), (stale, 401), (foreign, 401), (Default::default(), 401)]
        {
            let got = send(&server, |r| {
                *r.uri_mut() = format!("http://127.0.0.1:3001{path}").parse().unwrap();
                *r.body_mut() = Full::from(body.to_string());
                r.headers_mut().extend(headers.clone());
            })
            .await;
            assert_eq!(got.0, status, "{path} {headers:?}");
        }
    }
    let get = Request::get("http://127.0.0.1:3001/.well-known/rap-toolset").body(Full::default()).unwrap();
    assert_eq!(server.send(get).await.0, 200);
    let answer = send(&server, |r| {
        *r.uri_mut() = "http://127.0.0.1:3001/choices/x".parse().unwrap();
        *r.body_mut() = Full::from(json!({"id": "c", "selected": 0}).to_string());
    });
    assert_eq!(answer.await.0, 404);
}

/// Where callbacks may go is what the author said and no more: a network of one's own, plain http to the public.
#[tokio::test(start_paused = true)]
async fn targets() {
    type Allow = fn(ToolServer) -> ToolServer;
    let table: [(&str, Allow, u16); 8] = [
        ("http://10.1.2.3/cb", |s| s, 400),
        ("http://10.1.2.3/cb", |s| s.allow_target("10.1.0.0/16"), 200),
        ("http://10.2.2.3/cb", |s| s.allow_target("10.1.0.0/16"), 400),
        ("http://10.2.2.3/cb", |s| s.allow_target("10.1.0.0/16").allow_target("10.2.2.3"), 200),
        ("http://93.184.216.34/cb", |s| s, 400),
        ("http://93.184.216.34/cb", ToolServer::allow_plain_http, 200),
        ("http://10.1.2.3/cb", ToolServer::allow_plain_http, 400),
        ("http://169.254.169.254/cb", ToolServer::allow_plain_http, 400),
    ];
    for (number, (url, allow, status)) in table.into_iter().enumerate() {
        let server = TestServer::new(allow(server()));
        let mut sent = good();
        sent["callback_url"] = json!(url);
        assert_eq!(server.invoke(sent).await.status(), status, "{number}: {url}");
    }
}
