//! A tool server made of canned answers, with a record of what it was sent.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
};
use http::HeaderMap;
use rap_client::Caller;
use rap_http::{AddressPolicy, GuardedClient};
use rap_types::HttpUrl;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Clone)]
enum Canned {
    Answer(Vec<(u16, String)>),
    Silence,
}

type Shared = Arc<Mutex<(HashMap<String, Canned>, Vec<Seen>)>>;

/// Serves until it is dropped. Unknown paths are 404.
pub(crate) struct Peer {
    port: u16,
    shared: Shared,
    news: News,
    task: tokio::task::JoinHandle<()>,
}

impl Peer {
    pub(crate) async fn start() -> Self {
        let shared = Shared::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let news = Arc::new(tokio::sync::watch::Sender::new(0));
        let app = Router::new().fallback(answer).with_state((shared.clone(), news.clone()));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { port, shared, news, task }
    }

    /// Answers a path always so.
    pub(crate) fn answer(self, path: &str, status: u16, body: impl Into<String>) -> Self {
        self.answers(path, vec![(status, body.into())])
    }

    /// Answers a path one after the other; the last answer stays.
    pub(crate) fn answers(self, path: &str, answers: Vec<(u16, String)>) -> Self {
        self.shared.lock().unwrap().0.insert(path.to_owned(), Canned::Answer(answers));
        self
    }

    /// Takes requests for a path and never answers.
    pub(crate) fn silent(self, path: &str) -> Self {
        self.shared.lock().unwrap().0.insert(path.to_owned(), Canned::Silence);
        self
    }

    pub(crate) fn url(&self, rest: &str) -> HttpUrl {
        crate::url(&format!("http://127.0.0.1:{}{rest}", self.port))
    }

    /// Returns when so many requests have come.
    pub(crate) async fn has_seen(&self, count: usize) {
        let mut news = self.news.subscribe();
        news.wait_for(|seen| *seen >= count).await.unwrap();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.lock().unwrap().1.clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type News = Arc<tokio::sync::watch::Sender<usize>>;

async fn answer(State((shared, news)): State<(Shared, News)>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let target = parts.uri.path_and_query().unwrap().to_string();
    let canned = {
        let mut shared = shared.lock().unwrap();
        shared.1.push(Seen { target, headers: parts.headers, body });
        match shared.0.get_mut(parts.uri.path()) {
            Some(Canned::Answer(answers)) if answers.len() > 1 => Canned::Answer(vec![answers.remove(0)]),
            Some(canned) => canned.clone(),
            None => Canned::Answer(vec![(404, "nothing here".to_owned())]),
        }
    };
    news.send_modify(|seen| *seen += 1);
    match canned {
        Canned::Answer(mut answers) => {
            let (status, body) = answers.remove(0);
            Response::builder().status(status).body(Body::from(body)).unwrap()
        }
        Canned::Silence => std::future::pending().await,
    }
}

/// A caller that may speak to loopback.
pub(crate) fn caller() -> Caller {
    Caller::new(GuardedClient::new(AddressPolicy::public().allow_loopback()))
}

/// The same with a time limit, for peers that never answer.
pub(crate) fn caller_within(limit: Duration) -> Caller {
    let policy = AddressPolicy::public().allow_loopback();
    Caller::new(GuardedClient::builder(policy).total_timeout(limit).build())
}
