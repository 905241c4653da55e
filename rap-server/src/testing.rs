//! A runtime side for tests: calls tools, receives what they send, answers their questions. In memory, with
//! no socket, so that it works under tokio's paused time.
//!
//! ```
//! use rap_server::{ToolServer, testing::TestServer, tool};
//! use serde_json::json;
//!
//! /// Current weather for a city.
//! #[tool(read_only)]
//! async fn get_weather(city: String) -> String {
//!     format!("rain in {city}")
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let server = TestServer::new(ToolServer::new("weather").tool(get_weather));
//! assert_eq!(server.call("get_weather", json!({"city": "Oslo"})).await.text(), "rain in Oslo");
//! assert!(server.call("get_weather", json!({"town": "Oslo"})).await.is_error());
//! # });
//! ```

use crate::{ServerHandle, ToolServer, ToolService, engine::Engine, outbox::Courier};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use rap_http::{Attempt, Auth};
use rap_types::{CallbackMessage, HttpUrl, SubscriptionEvent, ToolResult, UserChoice, ViewUpdate};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;
use tower::ServiceExt;

/// How long a test waits for something that ought to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a test waits for something that ought not to come.
const SILENCE: Duration = Duration::from_millis(200);

/// A tool server under test, with a runtime side that calls it.
///
/// ```
/// use rap_server::{ToolServer, testing::{Arrived, TestCall, TestQuestion, TestResult, TestServer}, tool, Call, ToolError};
/// use serde_json::json;
///
/// /// Deletes a file.
/// #[tool]
/// async fn delete(#[cx] call: Call, path: String) -> Result<String, ToolError> {
///     let pick = call.choose(format!("Delete {path}?"), ["Yes", "No"], 1).await?;
///     Ok(format!("{path}: {}", pick.text))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let server = TestServer::new(ToolServer::new("files").tool(delete));
/// let mut call: TestCall = server.start("delete", json!({"path": "a.txt"})).await;
/// let question: TestQuestion = call.question().await;
/// question.pick(0).await;
/// let result: TestResult = call.result().await;
/// assert_eq!(result.text(), "a.txt: Yes");
///
/// // A call that is wrong ends in an error result; here it is looked at as it arrived.
/// let mut call = server.start("delete", json!({})).await;
/// let arrived: Arrived = call.any().await;
/// assert_eq!(arrived.json["is_error"], true);
/// # });
/// ```
#[derive(Debug)]
pub struct TestServer {
    service: ToolService,
    auth: Auth,
    runtime: Arc<Runtime>,
    calls: AtomicU64,
}

/// A message that arrived, with the URL it was POSTed to and its headers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Arrived {
    /// The URL, exactly as it was called.
    pub url: String,
    /// The message as it was sent.
    pub json: Value,
    /// The message as it is read.
    pub message: CallbackMessage,
    /// The request's headers.
    pub headers: HeaderMap,
}

/// The runtime side: answers callbacks as told, and keeps what it took.
#[derive(Debug, Default)]
struct Runtime {
    calls: Mutex<HashMap<String, mpsc::UnboundedSender<Arrived>>>,
    answers: Mutex<Vec<Attempt>>,
    attempts: AtomicU64,
}

/// One call as the runtime sees it.
///
/// ```
/// use rap_server::{Call, Subscribed, ToolServer, testing::TestServer, tool};
/// use serde_json::json;
///
/// /// Counts down.
/// #[tool]
/// async fn countdown(#[cx] call: Call, from: u32) -> Subscribed {
///     let (subscribed, events) = call.subscribe().confirm("counting down");
///     tokio::spawn(async move {
///         for n in (1..=from).rev() {
///             let _ = events.emit(n.to_string()).await;
///         }
///         let _ = events.finish("lift-off").await;
///     });
///     subscribed
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let server = TestServer::new(ToolServer::new("rocket").tool(countdown));
/// let mut call = server.start("countdown", json!({"from": 2})).await;
/// assert_eq!(call.result().await.text(), "counting down");
/// for text in ["2", "1", "lift-off"] {
///     assert_eq!(call.event().await.text, text);
/// }
/// call.silence().await;
/// # });
/// ```
#[derive(Debug)]
pub struct TestCall {
    service: ToolService,
    auth: Auth,
    thread: String,
    id: String,
    url: String,
    arrivals: mpsc::UnboundedReceiver<Arrived>,
    early: Vec<Arrived>,
    status: StatusCode,
    /// What came with the status: a problem, when the invocation was refused.
    answer: Value,
    patience: Duration,
}

/// The result of a call, with what tests ask of it.
#[derive(Debug, Clone)]
pub struct TestResult(pub ToolResult);

/// A question to a person, to be answered.
#[derive(Debug)]
pub struct TestQuestion {
    /// The question as it came.
    pub choice: UserChoice,
    service: ToolService,
}

impl Courier for Arc<Runtime> {
    fn post<'a>(&'a self, url: &'a HttpUrl, body: Bytes, headers: HeaderMap) -> BoxFuture<'a, Attempt> {
        Box::pin(async move {
            // As a socket does, lets others work in between.
            tokio::task::yield_now().await;
            self.attempts.fetch_add(1, Ordering::Relaxed);
            let scripted = {
                let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
                if answers.is_empty() { None } else { Some(answers.remove(0)) }
            };
            let answer = scripted.unwrap_or_else(|| Attempt::status(200));
            if answer.is_delivered() {
                let json: Value = serde_json::from_slice(&body).expect("a callback is JSON");
                let message = rap_types::parse(&body).expect("a callback conforms to its schema (TRN-13)");
                let arrived = Arrived { url: url.as_str().to_owned(), json, message, headers };
                let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(call) = calls.get(url.as_str()) {
                    let _ = call.send(arrived);
                }
            }
            answer
        })
    }
}

impl TestServer {
    /// Starts a server in memory, as on `127.0.0.1:3001`; a public URL stays what it is. The runtime side has what
    /// the server asks for: the bearer token, or a key to sign with.
    ///
    /// # Panics
    /// When the server cannot start; the message lists the faults.
    #[track_caller]
    pub fn new(server: ToolServer) -> Self {
        let runtime = Arc::new(Runtime::default());
        let mut faults = Vec::new();
        let base = server.base(Some(([127, 0, 0, 1], 3001).into()), &mut faults);
        let started = server.start(base, true, Some(Box::new(runtime.clone())), faults);
        let (engine, server) = match started {
            Ok(started) => started,
            Err(error) => panic!("{error}"),
        };
        let service = ToolService::new(engine, &server, true);
        Self { service, auth: server.auth, runtime, calls: AtomicU64::new(0) }
    }

    /// A look into the server.
    pub fn handle(&self) -> ServerHandle {
        self.service.handle()
    }

    fn engine(&self) -> &Arc<Engine> {
        self.service.engine()
    }

    /// The toolset as a runtime gets it.
    pub async fn toolset(&self) -> Value {
        let (status, body) = self.get("/.well-known/rap-toolset").await;
        assert_eq!(status, StatusCode::OK, "the toolset is served (TLS-01)");
        body
    }

    /// Calls a tool and waits for its result.
    pub async fn call(&self, tool: &str, arguments: Value) -> TestResult {
        self.start(tool, arguments).await.result().await
    }

    /// Calls a tool, on a thread of its own.
    pub async fn start(&self, tool: &str, arguments: Value) -> TestCall {
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let id = format!("call-{number}");
        self.invoke(json!({
            "operation": tool,
            "arguments": arguments,
            "id": id,
            "callback_url": format!("http://127.0.0.1:4000/callbacks/{number}?capability=secret"),
            "group_id": format!("thread-{number}"),
        }))
        .await
    }

    /// Sends an invocation as it is, authorised as the server asks for. What it was answered is the call's
    /// [`status`](TestCall::status).
    ///
    /// ```
    /// # use rap_server::{Tool, ToolServer, testing::TestServer};
    /// # use serde_json::json;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let hello = Tool::new("hello", "Greets.", async || "hello");
    /// let server = TestServer::new(ToolServer::new("greeter").tool(hello));
    /// let mut call = server
    ///     .invoke(json!({
    ///         "operation": "hello",
    ///         "arguments": {},
    ///         "id": "call-1",
    ///         "call_id": "of the model",
    ///         "callback_url": "http://127.0.0.1:4000/callback",
    ///         "group_id": "thread-1",
    ///     }))
    ///     .await;
    /// assert_eq!(call.any().await.json["call_id"], "of the model"); // RES-01
    /// # });
    /// ```
    pub async fn invoke(&self, invocation: Value) -> TestCall {
        let text = |name: &str| invocation.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let url = text("callback_url");
        self.runtime.calls.lock().unwrap_or_else(PoisonError::into_inner).insert(url.clone(), sender);
        let (status, answer) = self.post("/invoke", &invocation).await;
        TestCall {
            service: self.service.clone(),
            auth: self.auth.clone(),
            thread: text("group_id"),
            id: text("id"),
            url,
            arrivals,
            early: Vec::new(),
            status,
            answer,
            patience: PATIENCE,
        }
    }

    /// Answers the next callbacks so, one attempt each, instead of 200.
    ///
    /// ```
    /// # use rap_server::{Tool, ToolServer, rap_http::Attempt, testing::TestServer};
    /// # use serde_json::json;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
    /// let hello = Tool::new("hello", "Greets.", async || "hello");
    /// let server = TestServer::new(ToolServer::new("greeter").tool(hello));
    /// server.answer_next([Attempt::status(503), Attempt::TimedOut]);
    /// assert_eq!(server.call("hello", json!({})).await.text(), "hello"); // TRN-05: it is sent again
    /// assert_eq!(server.attempts(), 3);
    ///
    /// server.answer_next(vec![Attempt::Refused; 1000]);
    /// let mut call = server.start("hello", json!({})).await;
    /// call.silence().await;
    /// server.answer_well(); // the runtime is back
    /// assert_eq!(call.result().await.text(), "hello");
    /// # });
    /// ```
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Attempt>) {
        self.runtime.answers.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// Answers 200 from now on, whatever was said before.
    pub fn answer_well(&self) {
        self.runtime.answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many callbacks were attempted so far.
    pub fn attempts(&self) -> u64 {
        self.runtime.attempts.load(Ordering::Relaxed)
    }

    /// Shuts the server down within a limit; what it still owed comes back.
    pub async fn shut_down(&self, limit: Duration) -> crate::Undelivered {
        crate::Undelivered(self.engine().shut_down(limit).await)
    }

    /// POSTs JSON to a path of the server, authorised as it asks for.
    ///
    /// ```
    /// # use rap_server::{Tool, ToolServer, testing::TestServer};
    /// # use serde_json::json;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let hello = Tool::new("hello", "Greets.", async || "hello");
    /// let server = TestServer::new(ToolServer::new("greeter").tool(hello).bearer_token("a-token"));
    /// assert_eq!(server.toolset().await["name"], "greeter");
    /// assert_eq!(server.get("/nowhere").await.0, 404);
    /// assert_eq!(server.post("/close_thread", &json!({"thread_id": "any"})).await.0, 200); // CLS-02
    /// let (status, problem) = server.post_text("/invoke", "no JSON").await;
    /// assert_eq!((status.as_u16(), &problem["status"]), (400, &json!(400)));
    ///
    /// // Nothing is added to this one, no token either (AUT-01).
    /// let stranger = http::Request::get("http://127.0.0.1:3001/.well-known/rap-toolset");
    /// assert_eq!(server.send(stranger.body(Default::default())?).await.0, 401);
    /// # Ok::<(), http::Error>(())
    /// # })?;
    /// # Ok::<(), http::Error>(())
    /// ```
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        post(&self.service, &self.auth, path, body.to_string()).await
    }

    /// POSTs any text as JSON, authorised as the server asks for.
    pub async fn post_text(&self, path: &str, body: &str) -> (StatusCode, Value) {
        post(&self.service, &self.auth, path, body.to_owned()).await
    }

    /// GETs a path of the server, authorised as it asks for.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = Request::get(format!("http://127.0.0.1:3001{path}")).body(Full::default());
        let mut request = request.expect("a path");
        authorise(&self.auth, request.headers_mut(), b"");
        send(&self.service, request).await
    }

    /// Sends any request, with nothing added to it.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
        send(&self.service, request).await
    }
}

async fn post(service: &ToolService, auth: &Auth, path: &str, body: String) -> (StatusCode, Value) {
    let mut request = Request::post(format!("http://127.0.0.1:3001{path}"))
        .header("content-type", "application/json")
        .body(Full::default())
        .expect("a path");
    authorise(auth, request.headers_mut(), body.as_bytes());
    *request.body_mut() = Full::from(body);
    send(service, request).await
}

/// Adds what lets a runtime in.
fn authorise(auth: &Auth, headers: &mut HeaderMap, body: &[u8]) {
    match auth {
        Auth::Bearer(tokens) => {
            let token = tokens.first().map_or("", |token| token.expose());
            let value = HeaderValue::try_from(format!("Bearer {token}")).expect("a token fits into a header");
            headers.insert(header::AUTHORIZATION, value);
        }
        Auth::Signed(keys) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = now.map_or(0, |now| now.as_secs() as i64);
            headers.extend(keys.sign("test", now, body).expect("bug: the id fits into a header"));
        }
        _ => {}
    }
}

async fn send(service: &ToolService, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
    let response = match service.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let status = response.status();
    let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

impl TestCall {
    /// What the server answered to the invocation.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The callback URL of the call.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The next message of the kind that `pick` takes; others are kept for later.
    ///
    /// # Panics
    /// When none comes in 10 s, and at once when the invocation was refused, with what the server said.
    pub async fn next<T>(&mut self, what: &str, pick: impl Fn(&Arrived) -> Option<T>) -> T {
        if let Some(at) = self.early.iter().position(|a| pick(a).is_some()) {
            let arrived = self.early.remove(at);
            return pick(&arrived).expect("bug: it was picked before");
        }
        loop {
            let arrived = if self.status.is_success() {
                tokio::time::timeout(self.patience, self.arrivals.recv()).await.ok().flatten()
            } else {
                self.arrivals.try_recv().ok()
            };
            let Some(arrived) = arrived else {
                assert!(
                    self.status.is_success(),
                    "no {what} of call {} comes: the invocation was refused with {}: {}",
                    self.id,
                    self.status,
                    self.answer
                );
                panic!(
                    "no {what} of call {} came in {:?}; there came: {:?}",
                    self.id, self.patience, self.early
                );
            };
            match pick(&arrived) {
                Some(picked) => return picked,
                None => self.early.push(arrived),
            }
        }
    }

    /// The next message, whatever it is.
    pub async fn any(&mut self) -> Arrived {
        self.next("message", |a| Some(a.clone())).await
    }

    /// The result of the call.
    pub async fn result(&mut self) -> TestResult {
        self.next("result", |a| match &a.message {
            CallbackMessage::ToolResult(result) => Some(TestResult(result.clone())),
            _ => None,
        })
        .await
    }

    /// The result of the call, which may take as long as this.
    pub async fn result_within(&mut self, patience: Duration) -> TestResult {
        self.patience = patience;
        self.result().await
    }

    /// The next event of the call's subscription.
    pub async fn event(&mut self) -> SubscriptionEvent {
        self.next("event", |a| match &a.message {
            CallbackMessage::SubscriptionEvent(event) => Some(event.clone()),
            _ => None,
        })
        .await
    }

    /// The next view of the call.
    pub async fn view(&mut self) -> ViewUpdate {
        self.next("view", |a| match &a.message {
            CallbackMessage::ViewUpdate(view) => Some(view.clone()),
            _ => None,
        })
        .await
    }

    /// The next question of the call.
    pub async fn question(&mut self) -> TestQuestion {
        let choice = self
            .next("question", |a| match &a.message {
                CallbackMessage::UserChoice(choice) => Some(choice.clone()),
                _ => None,
            })
            .await;
        TestQuestion { choice, service: self.service.clone() }
    }

    /// Nothing more comes for a while.
    ///
    /// # Panics
    /// When something comes.
    pub async fn silence(&mut self) {
        if let Some(arrived) = self.early.first() {
            panic!("call {} was to be silent, and said {}", self.id, arrived.json);
        }
        if let Ok(Some(arrived)) = tokio::time::timeout(SILENCE, self.arrivals.recv()).await {
            panic!("call {} was to be silent, and said {}", self.id, arrived.json);
        }
    }

    /// Cancels the call.
    pub async fn cancel(&self) -> StatusCode {
        let body = json!({"thread_id": self.thread, "tool_call_id": self.id});
        post(&self.service, &self.auth, "/cancel_tool_call", body.to_string()).await.0
    }

    /// Closes the call's thread.
    pub async fn close_thread(&self) -> StatusCode {
        post(&self.service, &self.auth, "/close_thread", json!({"thread_id": self.thread}).to_string())
            .await
            .0
    }

    /// Whether the server says that the call is alive (STA-01).
    pub async fn is_alive(&self) -> bool {
        let body = json!({"thread_id": self.thread, "tool_call_id": self.id});
        post(&self.service, &self.auth, "/tool_call_status", body.to_string()).await.1["alive"] == true
    }
}

impl TestResult {
    /// What the model reads: the texts of the content, or the text.
    pub fn text(&self) -> String {
        let parts = self.0.for_model();
        let texts = parts.iter().filter_map(|part| match part {
            rap_types::ContentPart::Text(text) => Some(text.text.as_str()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }

    /// The text as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("the result is no JSON ({e}): {text}"))
    }

    /// Whether the call failed.
    pub fn is_error(&self) -> bool {
        self.0.is_failure()
    }
}

impl TestQuestion {
    /// Picks a choice by its index, as the person does.
    pub async fn pick(&self, index: i64) -> StatusCode {
        self.answer(json!({"id": self.choice.id, "selected": index})).await.0
    }

    /// Sends any answer, as the person's side does: without the server's authentication, by the URL alone.
    pub async fn answer(&self, body: Value) -> (StatusCode, Value) {
        post(&self.service, &Auth::None, self.choice.response_url.parsed().path(), body.to_string()).await
    }
}
