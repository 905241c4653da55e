//! A server that speaks one wire and enforces what its provider publishes: a request that the strict checker refuses is
//! answered as the provider answers it, and remembered.

use crate::{
    plans::dialect,
    spoken::{Spoken, content_type, stream},
    strict::{Known, check, ensure},
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Response, StatusCode, Uri},
};
use futures_util::{StreamExt, stream as futures};
use rap_models::{Auth, HttpModel, Wire};
use rap_runtime::ModelCard;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

/// The key that the server knows.
pub(crate) const KEY: &str = "sk-very-secret";

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Makes a turn.
    Say(Spoken),
    /// Makes a turn and breaks the connection after so many hundredths of its bytes.
    Cut(Spoken, usize),
    /// Makes a turn and falls silent after so many hundredths of its bytes; the connection stays.
    Stall(Spoken, usize),
    /// Makes a turn, so many bytes at a time.
    Drip(Spoken, usize),
    /// Answers with a status, headers and a body.
    Status(u16, Vec<(&'static str, &'static str)>, Value),
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) bodies: Vec<Value>,
    pub(crate) uris: Vec<String>,
    pub(crate) headers: Vec<HeaderMap>,
    pub(crate) refused: Vec<String>,
    acts: VecDeque<Act>,
    known: Known,
}

/// The server, as a test holds it.
#[derive(Clone)]
pub(crate) struct Provider {
    pub(crate) wire: Wire,
    pub(crate) base: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

impl Provider {
    pub(crate) async fn new(wire: Wire, known: Known, acts: Vec<Act>) -> Self {
        let seen = Seen { acts: acts.into(), known, ..Seen::default() };
        let seen = Arc::new(Mutex::new(seen));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state((wire, seen.clone()));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { wire, base, seen }
    }

    pub(crate) fn model(&self, card: ModelCard) -> HttpModel {
        HttpModel::builder("p/m", self.wire, self.base.parse().unwrap())
            .effort(
                (card.reasoning != rap_runtime::ReasoningPolicy::Dropped).then_some(rap_models::Effort::Low),
            )
            .dialect(dialect(self.wire, &card))
            .card(card)
            .auth(Auth::Key(KEY.into()))
            .key_variable("P_API_KEY")
            .build()
    }

    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }
}

/// What a provider calls a bad request.
fn refusal(wire: Wire, why: &str) -> Value {
    match wire {
        Wire::Anthropic => {
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": why}})
        }
        Wire::Bedrock => json!({ "message": why }),
        Wire::Ollama => json!({ "error": why }),
        Wire::Gemini => json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": why}}),
        _ => json!({"error": {"type": "invalid_request_error", "message": why}}),
    }
}

/// Whether a request goes where its API has it, and says who asks in the way that its API wants.
fn addressed(wire: Wire, model: &str, uri: &Uri, headers: &HeaderMap) -> Result<(), String> {
    let path = match wire {
        Wire::Anthropic => "/v1/messages".to_owned(),
        Wire::OpenAiChat => "/chat/completions".to_owned(),
        Wire::OpenAiResponses => "/responses".to_owned(),
        Wire::Gemini => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
        Wire::Ollama => "/api/chat".to_owned(),
        Wire::Bedrock => format!("/model/{model}/converse-stream"),
    };
    ensure!(*uri == path.as_str(), "there is nothing at {uri}");
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(header("content-type") == "application/json", "the content type is {:?}", header("content-type"));
    let keys = ["authorization", "x-api-key", "x-goog-api-key"].map(header);
    match wire {
        Wire::Anthropic => {
            ensure!(keys == ["", KEY, ""], "x-api-key header is required: {keys:?}");
            ensure!(header("anthropic-version") == "2023-06-01", "anthropic-version: header is required");
            let bound = ["claude-fable-5-2", "claude-opus-5-5"].contains(&model);
            let beta = header("anthropic-beta") == "thinking-binding-controls-2026-08-01";
            ensure!(beta == bound, "block_binding: extra inputs are not permitted");
        }
        Wire::Gemini => ensure!(keys == ["", "", KEY], "the key is not where it belongs: {keys:?}"),
        Wire::Bedrock if keys[0].starts_with("AWS4") => {
            let time = header("x-amz-date");
            let day = time.split('T').next().unwrap_or_default();
            ensure!(time.len() == 16 && day.len() == 8 && time.ends_with('Z'), "x-amz-date is {time:?}");
            let begins = format!(
                "AWS4-HMAC-SHA256 Credential=AKID/{day}/eu-north-1/bedrock/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
            );
            let signature = keys[0].strip_prefix(&begins).unwrap_or_default();
            let is_hex = signature.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            ensure!(signature.len() == 64 && is_hex, "IncompleteSignature: {}", keys[0]);
            ensure!(header("x-amz-security-token") == "token", "the token is missing");
        }
        _ => {
            let bearer = format!("Bearer {KEY}");
            ensure!(keys == [bearer.as_str(), "", ""], "the key is not where it belongs: {keys:?}");
        }
    }
    Ok(())
}

async fn answer(
    State((wire, seen)): State<(Wire, Arc<Mutex<Seen>>)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut seen = seen.lock().unwrap();
    let model = match wire {
        Wire::Gemini | Wire::Bedrock => {
            uri.path().split(['/', ':']).nth(if wire == Wire::Gemini { 3 } else { 2 })
        }
        _ => body["model"].as_str(),
    };
    let model = model.unwrap_or_default().to_owned();
    let addressed = addressed(wire, &model, &uri, &headers);
    let checked = addressed.and_then(|()| check(wire, &body, &seen.known.of(&model)));
    seen.bodies.push(body);
    seen.uris.push(uri.to_string());
    seen.headers.push(headers);
    let json = |status: u16, body: Value| {
        Response::builder()
            .status(StatusCode::from_u16(status).unwrap())
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))
            .unwrap()
    };
    if let Err(why) = checked {
        seen.refused.push(why.clone());
        return json(400, refusal(wire, &why));
    }
    let Some(act) = seen.acts.pop_front() else {
        return json(400, refusal(wire, "the test has nothing more to say"));
    };
    if let Act::Say(spoken) | Act::Cut(spoken, _) | Act::Stall(spoken, _) | Act::Drip(spoken, _) = &act {
        let signatures = spoken.thoughts().into_iter().map(|(_, signature)| signature.to_owned());
        for signature in signatures.collect::<Vec<_>>() {
            seen.known.given_by.insert(signature.clone(), model.clone());
            seen.known.signatures.insert(signature);
        }
        seen.known.turns.push(spoken.labels(wire));
    }
    let streamed =
        |body: Body| Response::builder().header("content-type", content_type(wire)).body(body).unwrap();
    match act {
        Act::Say(spoken) => streamed(Body::from(stream(wire, &spoken))),
        Act::Cut(spoken, hundredths) => {
            let mut bytes = stream(wire, &spoken);
            bytes.truncate(bytes.len() * hundredths / 100);
            // What was said goes out before the connection breaks.
            let pieces = futures::unfold(Some(bytes), async |bytes| match bytes {
                Some(bytes) if !bytes.is_empty() => Some((Ok(Bytes::from(bytes)), Some(Vec::new()))),
                Some(_) => {
                    tokio::task::yield_now().await;
                    Some((Err(std::io::Error::other("cut")), None))
                }
                None => None,
            });
            streamed(Body::from_stream(pieces))
        }
        Act::Drip(spoken, size) => {
            let bytes = stream(wire, &spoken);
            let pieces: Vec<_> = bytes
                .chunks(size)
                .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
                .collect();
            streamed(Body::from_stream(futures::iter(pieces)))
        }
        Act::Stall(spoken, hundredths) => {
            let mut bytes = stream(wire, &spoken);
            bytes.truncate(bytes.len() * hundredths / 100);
            let said = futures::once(async { Ok::<_, std::io::Error>(Bytes::from(bytes)) });
            streamed(Body::from_stream(said.chain(futures::pending())))
        }
        Act::Status(status, headers, body) => {
            let mut response = json(status, body);
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
    }
}
