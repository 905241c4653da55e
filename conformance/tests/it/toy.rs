//! A small server for the judge to look at: it has one tool that nobody may call, takes notices, and ends every call
//! in an error result. It can be told to answer no invocation any more, to speak TLS, and to be wrong in one thing.

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rap_conformance::{
    credentials::Key,
    http::{Http, Request},
    trace::Recorder,
};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// What the server is like.
#[derive(Clone)]
pub(crate) struct Toy {
    /// Its base URL.
    pub(crate) base: String,
    /// So many invocations are still answered; each one takes one away.
    pub(crate) answers: Arc<AtomicUsize>,
    /// Requests that came, but for the fetches of the toolset.
    pub(crate) requests: Arc<AtomicUsize>,
    /// The ids of calls that subscribed, and have not been cancelled.
    pub(crate) live: Arc<Mutex<HashSet<String>>>,
    /// How often its tool was called.
    pub(crate) calls: Arc<AtomicUsize>,
    /// How often the toolset was fetched.
    fetches: Arc<AtomicUsize>,
    manner: Manner,
}

/// How it behaves; by default well.
#[derive(Clone, Default)]
pub(crate) struct Manner {
    /// What the result of a call says, in the place of an error text.
    pub(crate) says: Option<String>,
    /// Results go to a path of its own choice at the origin of the callback URL.
    pub(crate) elsewhere: bool,
    /// Nothing is ever sent to anybody.
    pub(crate) mute: bool,
    /// Every second fetch of the toolset is HTML.
    pub(crate) moody: bool,
    /// Results are sent again and again, whatever they are answered.
    pub(crate) floods: bool,
    /// The result of its tool says that a subscription lives.
    pub(crate) subscribes: bool,
    /// Its tool may be called: it is annotated `readOnly`.
    pub(crate) may_be_called: bool,
    /// Its tool asks the user first, and gives no result.
    pub(crate) asks: bool,
    /// What is said of an operation that it does not have.
    pub(crate) of_unknown: OfUnknown,
    /// What is not signed with this key is refused.
    pub(crate) key: Option<Key>,
    /// A view comes before each result.
    pub(crate) views: bool,
    /// One connection at a time is served, to its end.
    pub(crate) single: bool,
    /// What calls of its tool are answered, in the place of 200.
    pub(crate) refuses: Option<u16>,
    /// A result that is not taken is sent again after these pauses, in milliseconds from and to, by dice.
    pub(crate) pauses: Vec<(u64, u64)>,
}

/// What becomes of a call of an operation that it does not have.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OfUnknown {
    /// 200, then an error result.
    #[default]
    Result,
    /// 200, and nothing.
    Nothing,
    /// 404.
    Refusal,
}

impl Toy {
    /// One that is reached at a base URL.
    pub(crate) fn new(base: String) -> Self {
        let answers = Arc::new(AtomicUsize::new(usize::MAX));
        Self {
            base,
            answers,
            requests: Arc::default(),
            live: Arc::default(),
            calls: Arc::default(),
            fetches: Arc::default(),
            manner: Manner::default(),
        }
    }

    /// One on loopback that behaves so.
    pub(crate) async fn start(manner: Manner) -> Self {
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", socket.local_addr().expect("an address"));
        let toy = Self { manner, ..Self::new(base) };
        let serving = toy.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let served = tokio::spawn(serving.clone().serve(stream));
                if serving.manner.single {
                    let _ = served.await;
                }
            }
        });
        toy
    }

    fn knows(&self, headers: &http::HeaderMap, body: &[u8]) -> bool {
        let Some(key) = &self.manner.key else { return true };
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let at: u64 = text("webhook-timestamp").parse().unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        now.abs_diff(at) <= 300 && text("webhook-signature") == key.signature(text("webhook-id"), at, body)
    }

    /// Serves on a socket that was accepted.
    pub(crate) async fn serve(self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = hyper::service::service_fn(move |request| self.clone().answer(request));
        let http = hyper::server::conn::http1::Builder::new();
        let _ = http.serve_connection(TokioIo::new(socket), service).await;
    }

    async fn answer(
        self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<Full<bytes::Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        let headers = request.headers().clone();
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let response = http::Response::builder();
        let html = if path == "/.well-known/rap-toolset" {
            self.fetches.fetch_add(1, Ordering::SeqCst) % 2 == 1 && self.manner.moody
        } else {
            self.requests.fetch_add(1, Ordering::SeqCst);
            if !self.knows(&headers, &body) {
                return Ok(response.status(401).body(Full::default()).expect("a response"));
            }
            false
        };
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut tool = json!({ "name": "deploy", "description": "d", "inputSchema": { "type": "object" } });
        if self.manner.may_be_called {
            tool["annotations"] = json!({ "readOnly": true });
        }
        let toolset = json!({ "name": "toy", "endpoint": format!("{}/rap", self.base), "tools": [tool] });
        let answer = match path.as_str() {
            "/.well-known/rap-toolset" => toolset.to_string(),
            "/rap" if body["operation"] != "deploy" && self.manner.of_unknown == OfUnknown::Refusal => {
                return Ok(response.status(404).body(Full::default()).expect("a response"));
            }
            "/rap" if self.manner.refuses.is_some() && body["operation"] == "deploy" => {
                let status = self.manner.refuses.unwrap_or(500);
                return Ok(response.status(status).body(Full::default()).expect("a response"));
            }
            "/rap" => {
                if body["operation"] == "deploy" {
                    self.calls.fetch_add(1, Ordering::SeqCst);
                }
                let left = |n: usize| n.checked_sub(1);
                if self.answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_err() {
                    std::future::pending::<()>().await;
                }
                if self.manner.floods {
                    // Before the answer, so that all of it has come when the judge goes on.
                    self.clone().refuse(body).await;
                } else {
                    tokio::spawn(self.clone().refuse(body));
                }
                String::new()
            }
            "/cancel_tool_call" => {
                let id = body["tool_call_id"].as_str().unwrap_or_default();
                self.live.lock().expect("the list").remove(id);
                String::new()
            }
            _ => String::new(),
        };
        let media = if html { "text/html" } else { "application/json" };
        Ok(response.header("content-type", media).body(Full::from(answer)).expect("a response"))
    }

    /// Ends a call.
    async fn refuse(self, call: Value) {
        let known = call["operation"] == "deploy";
        if self.manner.mute || !known && self.manner.of_unknown == OfUnknown::Nothing {
            return;
        }
        let subscribes = self.manner.subscribes && call["operation"] == "deploy";
        if subscribes {
            let id = call["id"].as_str().unwrap_or_default().to_owned();
            self.live.lock().expect("the list").insert(id);
        }
        let right = if known { "deployed" } else { "Error: there is no such tool; fetch the toolset again" };
        let result = json!({
            "type": "tool_result", "group_id": call["group_id"], "id": call["id"], "call_id": call["call_id"],
            "text": self.manner.says.as_deref().unwrap_or(if subscribes { "subscribed" } else { right }),
            "subscription": subscribes,
        });
        let question = json!({
            "type": "user_choice", "group_id": call["group_id"], "id": call["id"], "prompt": "?", "choices": ["a"],
            "default": 0, "response_url": format!("{}/answers/{}", self.base, call["id"].as_str().unwrap_or_default()),
        });
        let result = if self.manner.asks && known { question } else { result };
        let given = call["callback_url"].as_str().unwrap_or_default();
        let origin = given.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
        let request = Request {
            case: String::new(),
            method: "POST".to_owned(),
            url: if self.manner.elsewhere { format!("{origin}/results") } else { given.to_owned() },
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: result.to_string().into(),
        };
        let http = Http::new(Recorder::nothing(), Duration::from_secs(5));
        if self.manner.views {
            let view = json!({ "type": "view_update", "group_id": call["group_id"], "view_type": "v", "content": {} });
            http.send(Request { body: view.to_string().into(), ..request.clone() }).await;
        }
        for _ in 0..if self.manner.floods { 250 } else { 1 } {
            let mut pauses = self.manner.pauses.iter();
            while http.send(request.clone()).await.status().is_none_or(|status| status >= 500) {
                let Some((from, to)) = pauses.next() else { break };
                tokio::time::sleep(Duration::from_millis(dice(*from, *to))).await;
            }
        }
    }
}

/// A number from a range, by dice that are the same in every run.
fn dice(from: u64, to: u64) -> u64 {
    static STATE: AtomicUsize = AtomicUsize::new(1);
    let mut n = STATE.fetch_add(1, Ordering::SeqCst) as u64;
    n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    from + (n >> 16) % (to - from + 1)
}
