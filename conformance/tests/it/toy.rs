//! A small server for the judge to look at: it has one tool that nobody may call, takes notices, and ends every call
//! in an error result. It can be told to answer no invocation any more, and to speak TLS.

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rap_conformance::{
    http::{Http, Request},
    trace::Recorder,
};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// What the server is like.
#[derive(Clone)]
pub(crate) struct Toy {
    /// Its base URL.
    pub(crate) base: String,
    /// So many invocations are still answered; each one takes one away.
    pub(crate) answers: Arc<AtomicUsize>,
}

impl Toy {
    /// One that is reached at a base URL.
    pub(crate) fn new(base: String) -> Self {
        Self { base, answers: Arc::new(AtomicUsize::new(usize::MAX)) }
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
        let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let tool = json!({ "name": "deploy", "description": "d", "inputSchema": { "type": "object" } });
        let toolset = json!({ "name": "toy", "endpoint": format!("{}/rap", self.base), "tools": [tool] });
        let answer = match path.as_str() {
            "/.well-known/rap-toolset" => toolset.to_string(),
            "/rap" => {
                let left = |n: usize| n.checked_sub(1);
                if self.answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_err() {
                    std::future::pending::<()>().await;
                }
                tokio::spawn(refuse(body));
                String::new()
            }
            _ => String::new(),
        };
        let response = http::Response::builder().header("content-type", "application/json");
        Ok(response.body(Full::from(answer)).expect("a response"))
    }
}

/// Ends a call.
async fn refuse(call: Value) {
    let result = json!({
        "type": "tool_result", "group_id": call["group_id"], "id": call["id"], "call_id": call["call_id"],
        "text": "Error: there is no such tool; fetch the toolset again",
    });
    let request = Request {
        case: String::new(),
        method: "POST".to_owned(),
        url: call["callback_url"].as_str().unwrap_or_default().to_owned(),
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: result.to_string().into(),
    };
    Http::new(Recorder::default(), Duration::from_secs(5)).send(request).await;
}
