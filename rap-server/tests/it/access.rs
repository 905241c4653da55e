//! Who is let in: what is open and what is not, whatever paths a server has; strangers who attack; kinds of
//! authentication that are none.

use crate::invocation;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use rap_server::{
    Tool, ToolServer, ToolService,
    rap_http::{Auth, Secret, webhooks::Keys},
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};
use tower::ServiceExt;

const BASE: &str = "http://127.0.0.1:3001";

fn server() -> ToolServer {
    ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello"))
}

fn keys() -> Keys {
    Keys::new(&[Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]).unwrap()
}

type LetsIn = fn(&Value) -> HeaderMap;

/// Both kinds of authentication, and what lets a body in.
fn kinds() -> [(Auth, LetsIn); 2] {
    let bearer =
        |_: &Value| [(http::header::AUTHORIZATION, "Bearer right".parse().unwrap())].into_iter().collect();
    let signed = |body: &Value| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
        keys().sign("m", now, body.to_string().as_bytes()).unwrap()
    };
    [(Auth::bearer("right"), bearer), (Auth::Signed(keys()), signed)]
}

async fn post(service: &ToolService, path: &str, headers: HeaderMap, body: &Value) -> u16 {
    let mut request = Request::post(format!("{BASE}{path}"))
        .header("content-type", "application/json")
        .body(Full::<Bytes>::from(body.to_string()))
        .unwrap();
    request.headers_mut().extend(headers);
    service.clone().oneshot(request).await.unwrap().status().as_u16()
}

/// AUT-01: only the answers to questions are open, whose URL is the secret. What is open goes by what is served, so that a
/// base or an endpoint whose path looks like a question's opens nothing.
#[tokio::test]
async fn what_is_open() {
    let urls: [(&str, Option<&str>); 4] = [
        ("https://example.com", None),
        ("https://example.com/choices", None),
        ("https://example.com/choices/choices", None),
        ("https://example.com/tools", Some("https://example.com/choices")),
    ];
    for (auth, right) in kinds() {
        for (public, endpoint) in urls {
            let mut server = server().auth(auth.clone()).public_url(public);
            if let Some(endpoint) = endpoint {
                server = server.endpoint_url(endpoint);
            }
            let service = server.into_service(true).unwrap();
            let base = public.strip_prefix("https://example.com").unwrap();
            let notice = json!({"thread_id": "t", "tool_call_id": "c"});
            let good = invocation("echo", json!({}), "t", "c");
            let endpoint = endpoint.map(|_| "/choices".to_owned());
            let mut closed: Vec<(String, &Value)> = endpoint.into_iter().map(|path| (path, &good)).collect();
            for before in ["", base, "/", "//"] {
                closed.push((format!("{before}/invoke"), &good));
                for path in ["close_thread", "cancel_tool_call", "tool_call_status"] {
                    closed.push((format!("{before}/{path}"), &notice));
                }
            }
            for (path, body) in closed {
                let what = format!("{path} of {public} with {auth:?}");
                assert_eq!(post(&service, &path, HeaderMap::new(), body).await, 401, "{what}");
                assert_eq!(post(&service, &path, right(body), body).await, 200, "{what}");
            }
            let answer = json!({"id": "c", "selected": 0});
            for before in ["", base] {
                let path = format!("{before}/choices/nosuch");
                assert_eq!(post(&service, &path, HeaderMap::new(), &answer).await, 404, "{path} of {public}");
            }
            for path in ["/choices.", "/choice/x", "/x/choices/x"] {
                assert_eq!(post(&service, path, HeaderMap::new(), &answer).await, 401, "{path} of {public}");
            }
        }
    }
}

/// CHO-02: a question's URL reaches the question also where the base has the path of questions, whether a proxy passes
/// that path on or takes it off.
#[tokio::test]
async fn an_answer_below_a_base_of_that_name() {
    for before in ["/choices", ""] {
        let ask = Tool::new("ask", "d", async |call: rap_server::Call| {
            call.choose("Which?", ["a", "b"], 0).await.map(|pick| pick.text)
        });
        let server = ToolServer::new("test").tool(ask).bearer_token("right");
        let server = server.public_url("https://example.com/choices");
        let server = rap_server::testing::TestServer::new(server);
        let mut call = server.start("ask", json!({})).await;
        let question = call.question().await.choice;
        let path =
            question.response_url.as_str().strip_prefix("https://example.com/choices").unwrap().to_owned();
        let request = Request::post(format!("{BASE}{before}{path}"))
            .header("content-type", "application/json")
            .body(Full::from(json!({"id": question.id, "selected": 1}).to_string()))
            .unwrap();
        assert_eq!(server.send(request).await.0, 200, "{before}{path}");
        assert_eq!(call.result().await.text(), "b");
    }
}

/// An endpoint in the place of the toolset or of a notice would take it away from runtimes.
#[test]
fn an_endpoint_in_the_place_of_another() {
    for (endpoint, fits) in [
        ("https://example.com/tools/close_thread", false),
        ("https://example.com/cancel_tool_call", false),
        ("https://other.example/tool_call_status", false),
        ("https://example.com/.well-known/rap-toolset", false),
        ("https://example.com/tools/invoke", true),
        ("https://example.com/choices/x", true),
        ("https://example.com/", true),
    ] {
        let server = server().public_url("https://example.com/tools").endpoint_url(endpoint);
        let started = server.into_service(true);
        let said = started.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(started.is_ok(), fits, "{endpoint}: {said}");
        assert!(fits || said.contains("choose another path"), "{said}");
    }
}

/// What looks like authentication and is none keeps a server from starting, on loopback as elsewhere.
#[tokio::test]
async fn no_authentication_in_disguise() {
    for (auth, word) in [(Auth::InUrl, "InUrl"), (Auth::bearer(""), "empty"), (Auth::Bearer(vec![]), "empty")]
    {
        let server = || server().auth(auth.clone()).public_url("https://example.com");
        for error in [
            server().into_service(true).map(drop).unwrap_err(),
            server().into_service(false).map(drop).unwrap_err(),
            server().bind("127.0.0.1:0").await.map(drop).unwrap_err(),
            server().bind("0.0.0.0:0").await.map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().contains(word) && error.to_string().contains("give "), "{error}");
        }
    }
}

/// A token that can stand in no header, as one with the line break of its file, keeps a server from starting: nobody could
/// call it. It is told with all other faults, once, and not shown.
#[tokio::test]
async fn tokens_that_nobody_can_send() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let table = [
        ("hunter2\n", "trim it"),
        (" hunter2", "trim it"),
        ("hunter2ä", "letters, digits and the signs of ASCII"),
    ];
    for (token, says) in table {
        for auth in [Auth::bearer(token), Auth::Bearer(vec!["good".into(), token.into()])] {
            let server =
                || server().auth(auth.clone()).public_url("https://example.com").allow_target("10.x");
            for (error, faults) in [
                (server().into_service(true).map(drop).unwrap_err(), 2),
                (server().into_service(false).map(drop).unwrap_err(), 2),
                (server().bind("127.0.0.1:0").await.map(drop).unwrap_err(), 2),
                (server().bind("0.0.0.0:0").await.map(drop).unwrap_err(), 2),
                (server().bind(&taken).await.map(drop).unwrap_err(), 3),
            ] {
                assert_eq!(error.faults().len(), faults, "{error}");
                assert_eq!(error.faults().iter().filter(|fault| fault.contains(says)).count(), 1, "{error}");
                assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
            }
        }
    }
    // As the word of a file is meant to be used.
    server().bearer_token("hunter2\n".trim()).bind("127.0.0.1:0").await.unwrap();
}

/// Sends the beginning of a body and holds on.
fn stall(service: &ToolService, path: &str, size: usize) -> tokio::task::JoinHandle<u16> {
    static ZEROS: [u8; 1 << 20] = [b' '; 1 << 20];
    let first = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(&ZEROS[..size])))]);
    let request = Request::post(format!("{BASE}{path}"))
        .header("content-type", "application/json")
        .body(StreamBody::new(first.chain(stream::pending())))
        .unwrap();
    let service = service.clone();
    tokio::spawn(async move { service.oneshot(request).await.unwrap().status().as_u16() })
}

/// During an attack memory stays flat and no legitimate request is refused: strangers hold on to bodies without end, and
/// beside them invocations are taken and people answered.
#[tokio::test(start_paused = true)]
async fn slow_strangers() {
    for (auth, right) in kinds() {
        let service = server().auth(auth.clone()).public_url(BASE).into_service(true).unwrap();
        let mut attack = Vec::new();
        for n in 0..20_000 {
            // 300 MiB on paths that need authentication, 80 MiB on the one that is open.
            let large = n < 300;
            attack.push(match large {
                true => stall(&service, "/invoke", 1 << 20),
                false => stall(&service, "/choices/x", 4 << 10),
            });
            attack.push(stall(&service, "/choices/x", 5 << 10));
        }
        // Time stands still until nobody has anything to do.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for n in 0..10 {
            let good = invocation("echo", json!({"x": "y".repeat(200_000)}), "t", &n.to_string());
            assert_eq!(post(&service, "/invoke", right(&good), &good).await, 200, "{auth:?}");
            let answer = json!({"id": "c", "selected": 0});
            assert_eq!(post(&service, "/choices/x", HeaderMap::new(), &answer).await, 404, "{auth:?}");
        }
        let mut held = 0;
        for (n, peer) in attack.into_iter().enumerate() {
            let size = match n {
                n if n % 2 == 1 => 5 << 10,
                n if n < 600 => 1 << 20,
                _ => 4 << 10,
            };
            if !peer.is_finished() {
                held += size;
                continue;
            }
            let status = peer.await.unwrap();
            assert!([401, 413, 503].contains(&status), "{status}");
            assert!(n % 2 == 0 || status == 413, "{status} for a body that is too large for an answer");
        }
        assert!(held <= 64 << 20, "{held} bytes are held");
        assert!(held > 32 << 20, "the attack was none: {held} bytes");
    }
}
