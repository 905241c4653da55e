//! What the runtime serves over HTTP: the gateway for servers, and the API that [`RemoteHost`](crate::RemoteHost)
//! talks to.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `POST /v1/sessions` | [`NewSession`](crate::NewSession) | 201, [`SessionOpened`](crate::SessionOpened) |
//! | `POST /v1/threads/{id}/messages` | `{"text", "key"}` | 200, `{"sent": "accepted"}` or `"duplicate"`, when it is durable; a `traceparent` header goes along |
//! | `POST /v1/threads/{id}/stop`, `…/close`, `…/compact` | `{}` | 200, `{}` |
//! | `POST /v1/threads/{id}/model` | `{"model"}`; null takes a choice back | 200, `{}`, when it is durable |
//! | `GET /v1/sessions/{id}/status` | | 200, [`SessionStatus`](crate::SessionStatus) |
//! | `GET /v1/sessions/{id}/questions` | | 200, a list of [`Asked`](crate::Asked) |
//! | `POST /v1/sessions/{id}/refresh` | `{}` | 200, [`SessionOpened`](crate::SessionOpened): all servers were asked again |
//! | `POST /v1/calls/{id}/answer` | `{"selected"}` | 200, `{}`, when it is durable; 409 where somebody has answered before |
//! | `POST /v1/calls/{id}/dismiss` | `{}` | as `…/answer`, with the question's default |
//! | `POST /v1/approvals/{id}` | `{"allow": true}`, or `false` | 200, `{}`, when it is durable; `id` is the call's |
//! | `GET /v1/dead-letters` | | 200, a list of [`DeadLetterView`](rap_core::DeadLetterView) |
//! | `POST /v1/dead-letters/{id}/resend` | `{}` | 200, `{}`; `id` is the letter's number |
//! | `GET /v1/sessions/{id}/events?after=N` | | 200, a [`Watched`](crate::Watched) a line, until the host stops |
//!
//! Errors are problem details. Every request carries the bearer token; a loopback listener refuses foreign
//! hosts and web pages.

use crate::{AgentHost, HostError, NewSession, Runtime, Sent, host::HostErrorKind};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Query, State, rejection::JsonRejection},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use rap_http::{Auth, Guard, Problem, Secret};
use rap_types::{CallId, ContentPart, ThreadId};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, time::Duration};

/// The slugs by which a remote host knows errors.
pub(crate) const SLUGS: &[(HostErrorKind, u16, &str, &str)] = &[
    (HostErrorKind::Unknown, 404, "unknown", "There is no such session or thread"),
    (HostErrorKind::Ended, 410, "ended", "The thread is closed"),
    (HostErrorKind::Already, 409, "already-answered", "Somebody has answered already"),
    (HostErrorKind::Busy, 503, "inbox-full", "The inbox is full"),
    (HostErrorKind::NoTools, 422, "no-tools", "No tool server can be used"),
    (HostErrorKind::Refused, 400, "refused", "The request was refused"),
    (HostErrorKind::Unreachable, 502, "unreachable", "Something needed does not answer"),
    (HostErrorKind::Failed, 500, "failed", "The host failed"),
];

/// Bytes of a request, at most: a message may hold images.
const LARGEST_BODY: usize = 16 << 20;

/// A message to a thread.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NewMessage {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Texts and images; counts before the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Vec<ContentPart>>,
    key: String,
}

impl NewMessage {
    /// A message of nothing but text is written as such: hosts of before there were others read it.
    pub(crate) fn new(key: &str, content: Vec<ContentPart>) -> Self {
        let key = key.to_owned();
        match &content[..] {
            [ContentPart::Text(text)] => Self { text: Some(text.text.clone()), content: None, key },
            _ => Self { text: None, content: Some(content), key },
        }
    }

    fn content(self) -> Vec<ContentPart> {
        let text = self.text.map(|text| vec![ContentPart::text(text)]);
        self.content.or(text).unwrap_or_default()
    }
}

/// What became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MessageSent {
    pub(crate) sent: Sent,
}

/// Which model is to answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ChosenModel {
    pub(crate) model: Option<String>,
}

/// What a person picked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Selection {
    pub(crate) selected: u64,
}

/// What a person says to a call that asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Word {
    pub(crate) allow: bool,
}

#[derive(Debug, Deserialize)]
struct Since {
    #[serde(default)]
    after: i64,
}

impl Runtime {
    /// The callback gateway, to be served where the public URL points. It needs no further authentication:
    /// each callback URL carries its own. Where the public URL is on this machine, requests of web pages
    /// and for other hosts are refused.
    pub fn gateway(&self) -> Router {
        let gateway = self.callbacks().into_router();
        if self.is_local() { gateway.layer(Guard::new(Auth::InUrl, true)) } else { gateway }
    }

    /// The API for programs that drive this runtime from elsewhere ([`RemoteHost`](crate::RemoteHost)): the bearer
    /// token is needed for everything (one that cannot be sent, [`Secret::bearer_header`], is told in the log). Where the public URL is on this machine, requests of web pages and for
    /// other hosts are refused. Merge it with the [`gateway`](Self::gateway), or serve it apart.
    pub fn api(&self, token: Secret) -> Router {
        let guard = Guard::new(Auth::bearer(token), self.is_local()).body_limit(LARGEST_BODY);
        Router::new()
            .route("/v1/sessions", post(create))
            .route("/v1/sessions/{id}/status", get(status))
            .route("/v1/sessions/{id}/events", get(events))
            .route("/v1/sessions/{id}/questions", get(questions))
            .route("/v1/sessions/{id}/refresh", post(refresh))
            .route("/v1/calls/{id}/answer", post(answer))
            .route("/v1/calls/{id}/dismiss", post(dismiss))
            .route("/v1/approvals/{id}", post(approve))
            .route("/v1/dead-letters", get(dead_letters))
            .route("/v1/dead-letters/{id}/resend", post(resend))
            .route("/v1/threads/{id}/messages", post(send))
            .route("/v1/threads/{id}/stop", post(stop))
            .route("/v1/threads/{id}/close", post(close))
            .route("/v1/threads/{id}/compact", post(compact))
            .route("/v1/threads/{id}/model", post(choose_model))
            .with_state(self.clone())
            .route_layer(guard)
            // The guard counts the bytes.
            .layer(axum::extract::DefaultBodyLimit::disable())
    }

    fn is_local(&self) -> bool {
        self.inner.public_url.is_loopback()
    }
}

async fn create(State(runtime): State<Runtime>, new: Result<Json<NewSession>, JsonRejection>) -> Response {
    let Json(new) = match new {
        Ok(new) => new,
        Err(rejection) => return invalid(&rejection),
    };
    match runtime.create(new).await {
        Ok(opened) => (StatusCode::CREATED, Json(opened)).into_response(),
        Err(error) => refused(&error),
    }
}

async fn send(
    State(runtime): State<Runtime>,
    Path(thread): Path<String>,
    headers: HeaderMap,
    message: Result<Json<NewMessage>, JsonRejection>,
) -> Response {
    let Json(message) = match message {
        Ok(message) => message,
        Err(rejection) => return invalid(&rejection),
    };
    if message.key.is_empty() || message.key.len() > 256 {
        return problem(Problem::invalid("`key` must have 1 to 256 bytes; make one up for each message"));
    }
    with_thread(thread, async |thread| {
        let trace = rap_client::gateway::traceparent(&headers);
        let key = message.key.clone();
        let sent = runtime.send_traced(&thread, &key, message.content(), trace).await?;
        Ok(Json(MessageSent { sent }))
    })
    .await
}

async fn stop(State(runtime): State<Runtime>, Path(thread): Path<String>) -> Response {
    with_thread(thread, async |thread| runtime.stop(&thread).await.map(|()| empty())).await
}

async fn close(State(runtime): State<Runtime>, Path(thread): Path<String>) -> Response {
    with_thread(thread, async |thread| runtime.close(&thread).await.map(|()| empty())).await
}

async fn compact(State(runtime): State<Runtime>, Path(thread): Path<String>) -> Response {
    with_thread(thread, async |thread| runtime.compact(&thread).await.map(|()| empty())).await
}

async fn choose_model(
    State(runtime): State<Runtime>,
    Path(thread): Path<String>,
    chosen: Result<Json<ChosenModel>, JsonRejection>,
) -> Response {
    let Json(ChosenModel { model }) = match chosen {
        Ok(chosen) => chosen,
        Err(rejection) => return invalid(&rejection),
    };
    with_thread(thread, async |thread| {
        runtime.choose_model(&thread, model.as_deref()).await.map(|()| empty())
    })
    .await
}

async fn status(State(runtime): State<Runtime>, Path(session): Path<String>) -> Response {
    with_thread(session, async |session| runtime.status(&session).await.map(Json)).await
}

async fn questions(State(runtime): State<Runtime>, Path(session): Path<String>) -> Response {
    with_thread(session, async |session| runtime.open_questions(&session).await.map(Json)).await
}

async fn answer(
    State(runtime): State<Runtime>,
    Path(call): Path<String>,
    selection: Result<Json<Selection>, JsonRejection>,
) -> Response {
    match selection {
        Ok(Json(Selection { selected })) => {
            with_call(call, async |call| runtime.answer(&call, selected).await).await
        }
        Err(rejection) => invalid(&rejection),
    }
}

async fn dismiss(State(runtime): State<Runtime>, Path(call): Path<String>) -> Response {
    with_call(call, async |call| runtime.dismiss(&call).await).await
}

async fn approve(
    State(runtime): State<Runtime>,
    Path(call): Path<String>,
    word: Result<Json<Word>, JsonRejection>,
) -> Response {
    match word {
        Ok(Json(Word { allow })) => with_call(call, async |call| runtime.approve(&call, allow).await).await,
        Err(rejection) => invalid(&rejection),
    }
}

async fn dead_letters(State(runtime): State<Runtime>) -> Response {
    match runtime.dead_letters().await {
        Ok(letters) => Json(letters).into_response(),
        Err(error) => refused(&error),
    }
}

async fn resend(State(runtime): State<Runtime>, Path(letter): Path<String>) -> Response {
    let Ok(letter) = letter.parse() else {
        return problem(Problem::invalid("a dead letter is named by its number"));
    };
    match runtime.resend(letter).await {
        Ok(()) => empty().into_response(),
        Err(error) => refused(&error),
    }
}

async fn refresh(State(runtime): State<Runtime>, Path(session): Path<String>) -> Response {
    with_thread(session, async |session| runtime.refresh(&session).await.map(Json)).await
}

async fn with_call(id: String, work: impl AsyncFnOnce(CallId) -> Result<(), HostError>) -> Response {
    let id = match CallId::new(id) {
        Ok(id) => id,
        Err(error) => return problem(Problem::invalid(error.to_string())),
    };
    match work(id).await {
        Ok(()) => empty().into_response(),
        Err(error) => refused(&error),
    }
}

async fn events(
    State(runtime): State<Runtime>,
    Path(session): Path<String>,
    Query(Since { after }): Query<Since>,
) -> Response {
    with_thread(session, async |session| {
        let watched = runtime.watch(&session, after).await?;
        let lines = watched.map(|watched| {
            let mut line = match watched {
                Ok(watched) => serde_json::to_vec(&watched),
                Err(error) => serde_json::to_vec(&serde_json::json!({
                    "error": error.to_string(), "type": slug(error.kind()).2,
                })),
            }
            .unwrap_or_else(|e| format!("{{\"error\":\"an event cannot be told: {e}\"}}").into_bytes());
            line.push(b'\n');
            Ok::<_, Infallible>(Bytes::from(line))
        });
        Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)))
    })
    .await
}

async fn with_thread<R: IntoResponse>(
    id: String,
    work: impl AsyncFnOnce(ThreadId) -> Result<R, HostError>,
) -> Response {
    let id = match ThreadId::new(id) {
        Ok(id) => id,
        Err(error) => return problem(Problem::invalid(error.to_string())),
    };
    match work(id).await {
        Ok(answer) => answer.into_response(),
        Err(error) => refused(&error),
    }
}

fn empty() -> Json<serde_json::Value> {
    Json(serde_json::json!({}))
}

fn invalid(rejection: &JsonRejection) -> Response {
    problem(Problem::invalid(rejection.body_text()))
}

fn slug(kind: HostErrorKind) -> &'static (HostErrorKind, u16, &'static str, &'static str) {
    SLUGS.iter().find(|(known, ..)| *known == kind).unwrap_or(&SLUGS[SLUGS.len() - 1])
}

fn refused(error: &HostError) -> Response {
    let (kind, status, slug, title) = *slug(error.kind());
    if kind == HostErrorKind::Failed {
        tracing::error!(%error, "a request to the API failed");
    }
    let answer = Problem::new(status, slug, title).detail(error.to_string());
    problem(if kind == HostErrorKind::Busy { answer.retry_after(Duration::from_secs(1)) } else { answer })
}

fn problem(problem: Problem) -> Response {
    problem.into_response().into_response()
}
