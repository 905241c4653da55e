//! The HTTP face: a few paths (`routes`), each answer decided at once. A tower service, so that it nests anywhere.

use crate::{
    ServerHandle, ToolServer,
    engine::{Came, Engine},
    questions::Answered,
    routes::{Path, Routes},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Either, Full};
use rap_http::{Guard, Problem, TraceContext, guard::Guarded};
use rap_types::{
    CancelToolCall, CloseThread, HttpUrl, Invocation, Message, ToolCallAlive, ToolCallStatus, limits,
};
use serde_json::Value;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::{Layer, Service};

/// The path of the endpoint below the base.
pub(crate) const INVOKE: &str = "invoke";

/// Room for the rest of an invocation beside its arguments (LIM-01).
const BODY_BYTES: usize = limits::ARGUMENTS_BYTES * 4;

/// Room for a person's answer: the id of a call, escaped, and a number.
const CHOICE_BYTES: usize = 4 << 10;

type Answer = Response<Full<Bytes>>;

/// A tool server as a tower service over `http` types. Cheap to clone; clones share everything.
///
/// ```
/// use rap_server::{ToolServer, tool};
/// use tower::ServiceExt;
///
/// /// Says hello.
/// #[tool]
/// async fn hello() -> &'static str {
///     "hello"
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let service = ToolServer::new("greeter").tool(hello).public_url("http://127.0.0.1:3001").into_service(true)?;
/// let request = http::Request::get("http://127.0.0.1:3001/.well-known/rap-toolset")
///     .body(http_body_util::Full::<bytes::Bytes>::default())
///     .unwrap();
/// assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
/// # Ok::<(), rap_server::StartError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ToolService {
    guarded: Guarded<Inner>,
    engine: Arc<Engine>,
}

/// What is behind the guard.
#[derive(Clone)]
struct Inner {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    routes: Arc<Routes>,
    toolset: Bytes,
    /// Whether a proxy's word for the public URL counts, and whether the endpoint follows it.
    forwarded: bool,
    endpoint_follows: bool,
}

impl ToolService {
    pub(crate) fn new(engine: Arc<Engine>, server: &ToolServer, loopback: bool) -> Self {
        let mut guard = Guard::new(server.auth.clone(), loopback).body_limit(BODY_BYTES);
        for host in server.hosts.iter().cloned().chain(public_host(server)) {
            guard = guard.allow_host(host);
        }
        let toolset = engine.toolset.toolset();
        let routes = Arc::new(Routes::of(&engine));
        // What is open is what is routed to a person's answer, and nothing that only looks like it.
        let opened = routes.clone();
        guard = guard
            .open_where(move |path| matches!(opened.route(path), Some(Path::Choice(_))))
            .open_body_limit(CHOICE_BYTES);
        let shared = Shared {
            routes,
            toolset: serde_json::to_vec(toolset).map(Bytes::from).expect("bug: a toolset is plain data"),
            engine: engine.clone(),
            forwarded: server.forwarded,
            endpoint_follows: server.endpoint_url.is_none(),
        };
        Self { guarded: guard.layer(Inner { shared: Arc::new(shared) }), engine }
    }

    /// A look into the server.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle { engine: self.engine().clone() }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// The host of the configured public URL: a proxy may pass it on to a server on loopback.
fn public_host(server: &ToolServer) -> Option<String> {
    let url = rap_types::HttpUrl::new(server.public_url.as_deref()?).ok()?;
    url.parsed().host_str().map(str::to_owned)
}

impl std::fmt::Debug for ToolService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolService").field("handle", &self.handle()).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for ToolService
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Either<Full<Bytes>, Full<Bytes>>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut self.guarded, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.guarded.call(request)
    }
}

impl Service<Request<Full<Bytes>>> for Inner {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let (parts, body) = request.into_parts();
        // A full body is there at once.
        let body = body.collect();
        let body = futures_util::FutureExt::now_or_never(body)
            .and_then(Result::ok)
            .map(|collected| collected.to_bytes())
            .unwrap_or_default();
        ready(Ok(self.shared.answer(&parts, &body).unwrap_or_else(Problem::into_response)))
    }
}

impl Shared {
    fn answer(&self, parts: &http::request::Parts, body: &Bytes) -> Result<Answer, Problem> {
        let Some(known) = self.routes.route(parts.uri.path()) else {
            return Err(Problem::not_found(
                "there is nothing here; the toolset at .well-known/rap-toolset names the endpoint",
            ));
        };
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        if matches!(known, Path::Toolset) && !is_read {
            return Err(Problem::method_not_allowed("ask for the toolset with GET").allow("GET, HEAD"));
        }
        if !matches!(known, Path::Toolset) && parts.method != Method::POST {
            return Err(Problem::method_not_allowed("send a JSON object with POST").allow("POST"));
        }
        match known {
            Path::Toolset => Ok(self.toolset(&parts.headers)),
            Path::Invoke => {
                let invocation: Invocation = read(body)?;
                let trace = TraceContext::of(&parts.headers).map(Box::new);
                self.engine.invoke(invocation, Came { trace, base: self.base(&parts.headers) })?;
                Ok(empty())
            }
            Path::Close => {
                let notice: CloseThread = read(body)?;
                self.engine.stop(&notice.thread_id, None);
                Ok(empty())
            }
            Path::Cancel => {
                let notice: CancelToolCall = read(body)?;
                self.engine.stop(&notice.thread_id, Some(&notice.tool_call_id));
                Ok(empty())
            }
            Path::Status => {
                let question: ToolCallStatus = read(body)?;
                let alive = self.engine.is_alive(&question.thread_id, &question.tool_call_id);
                let answer =
                    serde_json::to_vec(&ToolCallAlive::new(alive)).expect("bug: an answer is plain data");
                Ok(json(answer.into()))
            }
            Path::Choice(token) => self.choice(token, body),
        }
    }

    /// The public URL as a trusted proxy tells it.
    fn base(&self, headers: &HeaderMap) -> Option<HttpUrl> {
        if self.forwarded { crate::forwarded::base(headers) } else { None }
    }

    fn toolset(&self, headers: &HeaderMap) -> Answer {
        let endpoint =
            self.base(headers).filter(|_| self.endpoint_follows).and_then(|b| b.below(INVOKE).ok());
        let Some(endpoint) = endpoint else { return json(self.toolset.clone()) };
        let mut toolset = self.engine.toolset.toolset().clone();
        toolset.endpoint = endpoint;
        let mut answer = json(serde_json::to_vec(&toolset).expect("bug: a toolset is plain data").into());
        // It is for whoever came this way.
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    /// A person's answer. `selected` is judged by the call, not here: whatever is no index of a choice ends
    /// the call in an error result (CHO-03).
    fn choice(&self, token: &str, body: &Bytes) -> Result<Answer, Problem> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|e| Problem::invalid(format!("the body is not JSON: {e}")))?;
        let (Some(call), Some(selected)) = (value.get("id").and_then(Value::as_str), value.get("selected"))
        else {
            return Err(Problem::invalid(
                "send {\"id\": the call's id, \"selected\": the index of the choice}",
            ));
        };
        if !selected.is_number() {
            return Err(Problem::invalid("/selected is the index of the choice, a number from 0"));
        }
        // 1.0 is an integer in JSON.
        let whole = |n: f64| (n.fract() == 0.0 && (0.0..1e9).contains(&n)).then_some(n as u64);
        let index = selected.as_u64().or_else(|| selected.as_f64().and_then(whole));
        match self.engine.questions.answer(token, call, index) {
            Answered::Taken => Ok(empty()),
            Answered::Closed => Err(Problem::new(409, "already-answered", "The question is not open")
                .detail("it was answered before, or is not asked any more")),
            Answered::Foreign => Err(Problem::invalid("/id is not the id of the call that asked")),
            Answered::Unknown => Err(Problem::not_found("there is no such question")),
        }
    }
}

fn read<M: Message>(body: &Bytes) -> Result<M, Problem> {
    // The short way for what is right; the long one knows how to say what is wrong.
    if body.trim_ascii_start().first() == Some(&b'{')
        && let Ok(message) = serde_json::from_slice(body)
    {
        return Ok(message);
    }
    rap_types::parse(body).map_err(|fault| Problem::invalid(fault.to_string()))
}

fn empty() -> Answer {
    Response::new(Full::default())
}

fn json(body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
