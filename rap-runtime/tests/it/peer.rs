//! A tool server that a test holds in its hands: its toolset may change, its answers are said, and what it is sent is kept.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::IntoResponse,
};
use rap_types::HttpUrl;
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// A request that came.
#[derive(Debug)]
pub(crate) struct Came {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

pub(crate) struct Peer {
    pub(crate) base: HttpUrl,
    pub(crate) address: SocketAddr,
    pub(crate) seen: mpsc::UnboundedReceiver<Came>,
    pub(crate) state: Arc<Mutex<Answers>>,
    serving: JoinHandle<()>,
}

/// What it answers.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) toolset: Value,
    /// How often its toolset was asked for.
    pub(crate) discovered: usize,
    /// By path: status and body; 200 and nothing for others.
    pub(crate) by_path: HashMap<String, (u16, Value)>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Answers>>, mpsc::UnboundedSender<Came>);

/// An address at which nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub(crate) fn base_of(address: SocketAddr) -> HttpUrl {
    format!("http://{address}").parse().unwrap()
}

pub(crate) fn toolset(name: &str, endpoint: &str, tools: &[&str]) -> Value {
    let tools: Vec<Value> = tools
        .iter()
        .map(|tool| json!({"name": tool, "description": "x", "inputSchema": {"type": "object"}}))
        .collect();
    json!({"name": name, "endpoint": endpoint, "tools": tools})
}

impl Peer {
    /// Serves these tools, at `/invoke`, from an address of the system's choice.
    pub(crate) async fn start(name: &str, tools: &[&str]) -> Self {
        Self::at(nobody().await, name, tools).await
    }

    pub(crate) async fn at(address: SocketAddr, name: &str, tools: &[&str]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let answers = Answers {
            toolset: toolset(name, &format!("http://{address}/invoke"), tools),
            ..Answers::default()
        };
        let state = Arc::new(Mutex::new(answers));
        let (sender, seen) = mpsc::unbounded_channel();
        let router = Router::new().fallback(take).with_state(Shared(state.clone(), sender));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base: base_of(address), address, seen, state, serving }
    }

    pub(crate) fn answers(&self, path: &str, status: u16, body: Value) {
        self.state.lock().unwrap().by_path.insert(path.to_owned(), (status, body));
    }

    pub(crate) fn offers(&self, toolset: Value) {
        self.state.lock().unwrap().toolset = toolset;
    }

    /// The next request, but for questions about the toolset.
    pub(crate) async fn next(&mut self, what: &str) -> Came {
        crate::world::within(what, self.seen.recv()).await.expect("the server lives")
    }

    /// The next request to a path.
    pub(crate) async fn next_at(&mut self, path: &str) -> Came {
        loop {
            let came = self.next(path).await;
            if came.path == path {
                return came;
            }
        }
    }

    /// It is gone, and its address refuses connections.
    pub(crate) async fn stop(self) -> SocketAddr {
        self.serving.abort();
        let _ = self.serving.await;
        self.address
    }
}

async fn take(
    State(Shared(state, sender)): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> impl IntoResponse {
    let path = uri.path().to_owned();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut state = state.lock().unwrap();
    if path.ends_with("/.well-known/rap-toolset") {
        state.discovered += 1;
        return (StatusCode::OK, Json(state.toolset.clone()));
    }
    let (status, answer) = state.by_path.get(&path).cloned().unwrap_or((200, Value::Null));
    let _ = sender.send(Came { path, headers, body });
    (StatusCode::from_u16(status).unwrap(), Json(answer))
}

/// Sends the result of an invocation; the answer's status.
pub(crate) async fn answer(invocation: &Value, text: &str) -> u16 {
    Said::of(invocation).post(json!({"type": "tool_result", "text": text})).await
}

/// What a server says of an invocation.
pub(crate) struct Said<'i>(&'i Value);

impl<'i> Said<'i> {
    pub(crate) fn of(invocation: &'i Value) -> Self {
        Self(invocation)
    }

    /// Posts a callback message, with thread and call; the answer's status.
    pub(crate) async fn post(&self, mut message: Value) -> u16 {
        let url: HttpUrl = self.0["callback_url"].as_str().unwrap().parse().unwrap();
        message["group_id"] = self.0["group_id"].clone();
        message["id"] = self.0["id"].clone();
        let client = rap_http::GuardedClient::new(rap_http::AddressPolicy::public().allow_loopback());
        let body = message.to_string().into();
        client.post_json_reading(&url, body, Default::default(), 4096).await.unwrap().status.as_u16()
    }
}
