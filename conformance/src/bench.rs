//! The world of a case: the server under judgement, the listener, the trace; calls, notices and fences.
//!
//! Waiting is by fence. What is owed and has not come is followed by another call, the simplest that the server
//! is known to answer; when that call's result is there and the owed message is still missing after the wait, it
//! is missing.

use crate::{
    case::Need,
    http::{Http, Request, Sent},
    listen::{Arrived, Given, Listener, Reaction},
    nonce::nonce,
    spawn::Spawned,
    toolset::Toolset,
    trace::{Exchange, Recorder},
    verdict::{Finding, Stop},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Where the server is; it moves when it is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The base URL, without a slash at its end.
    pub base: String,
    /// Where invocations go.
    pub endpoint: String,
}

/// What the cases share.
#[derive(Debug)]
pub struct World {
    /// Where the server is.
    pub place: Mutex<Place>,
    /// What it offers.
    pub toolset: Toolset,
    /// Whether that is the fixture toolset.
    pub fixture: bool,
    /// The call that is a fence: an operation and its arguments.
    pub fence: (String, Value),
    /// The names of the tools that may be called, with arguments that are valid for each.
    pub callable: Vec<(String, Value)>,
    /// The client.
    pub http: Http,
    /// The listener.
    pub listener: Listener,
    /// The trace.
    pub recorder: Recorder,
    /// Headers that every request to the server carries.
    pub headers: Vec<(String, String)>,
    /// Whether those headers authenticate.
    pub authenticated: bool,
    /// How long an owed message may be missing after a fence.
    pub wait: Duration,
    /// The server's process, where the judge started it.
    pub spawned: Option<tokio::sync::Mutex<Spawned>>,
}

/// The world as one case sees it; cheap to clone.
#[derive(Debug, Clone)]
pub struct Bench {
    world: Arc<World>,
    case: &'static str,
    findings: Arc<Mutex<Vec<Finding>>>,
}

impl std::ops::Deref for Bench {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// An invocation before it is sent.
#[derive(Debug, Clone)]
#[must_use = "it is not sent yet"]
pub struct Draft {
    bench: Bench,
    /// The message, to be altered at will.
    pub body: Map<String, Value>,
    given: Given,
}

/// An invocation that was sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// Its thread.
    pub thread: String,
    /// What was sent.
    pub body: Value,
    /// Its callback URL.
    pub given: Given,
    /// What came of the sending.
    pub sent: Sent,
}

impl Call {
    /// Whether it was acknowledged.
    pub fn acknowledged(&self) -> bool {
        self.sent.status().is_some_and(|s| (200..300).contains(&s))
    }

    /// The messages of a type that have arrived.
    pub fn messages(&self, kind: &str) -> Vec<Arrived> {
        self.given.arrived().into_iter().filter(|a| a.is(kind)).collect()
    }
}

/// Operations that nobody has begin so.
pub const UNKNOWN: &str = "rap_conformance_no_such_tool";

impl Bench {
    /// The world as a case sees it.
    pub fn new(world: Arc<World>, case: &'static str) -> Self {
        Self { world, case, findings: Arc::default() }
    }

    /// The id of the case.
    pub fn case(&self) -> &'static str {
        self.case
    }

    /// Whether the server has what a case needs.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::Tool(name) => self.fixture && self.toolset.tool(name).is_some(),
            Need::Spawn => self.spawned.is_some(),
            Need::AnyTool => !self.callable.is_empty(),
            Need::Extension(name) => self.toolset.speaks(name),
            Need::Migration => self.toolset.needs_migration(),
            Need::Authentication => self.authenticated,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a finding.
    pub fn fault(&self, obligation: &str, sentence: impl Into<String>, exchanges: &[u64]) {
        self.lock().push(Finding::new(obligation, sentence, exchanges));
    }

    /// Notes a finding after which the case makes no sense.
    ///
    /// # Errors
    /// Always [`Stop::Broken`], to be returned.
    pub fn broken<T>(
        &self,
        obligation: &str,
        sentence: impl Into<String>,
        exchanges: &[u64],
    ) -> Result<T, Stop> {
        self.fault(obligation, sentence, exchanges);
        Err(Stop::Broken)
    }

    /// What was found so far.
    pub fn findings(&self) -> Vec<Finding> {
        self.lock().clone()
    }

    /// Where the server is now.
    pub fn place(&self) -> Place {
        self.world.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The URL of a path under the base.
    pub fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.place().base)
    }

    /// Gives a callback URL.
    pub fn give(&self) -> Given {
        self.listener.give(self.case)
    }

    /// Sends a request with the headers that every request carries.
    pub async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Sent {
        let own = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let common = self.headers.iter().filter(|(n, _)| headers.iter().all(|(own, _)| own != n)).cloned();
        self.http
            .send(Request {
                case: self.case.to_owned(),
                method: method.to_owned(),
                url: url.to_owned(),
                headers: own.chain(common).collect(),
                body: body.into(),
            })
            .await
    }

    /// Posts JSON.
    pub async fn post(&self, url: &str, body: &Value) -> Sent {
        self.send("POST", url, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Posts a notice, e.g. `close_thread`.
    pub async fn notice(&self, path: &str, body: &Value) -> Sent {
        self.post(&self.at(path), body).await
    }

    /// Says that a call was cancelled.
    pub async fn cancel(&self, call: &Call) -> Sent {
        let body = json!({ "thread_id": call.thread, "tool_call_id": call.id });
        self.notice("cancel_tool_call", &body).await
    }

    /// Says that a thread was closed.
    pub async fn close(&self, thread: &str) -> Sent {
        self.notice("close_thread", &json!({ "thread_id": thread })).await
    }

    /// Prepares an invocation with fresh ids and a fresh callback URL.
    pub fn call(&self, operation: &str, arguments: Value) -> Draft {
        let given = self.give();
        let mut body = Map::new();
        body.insert("operation".to_owned(), operation.into());
        body.insert("arguments".to_owned(), arguments);
        body.insert("id".to_owned(), format!("call-{}", nonce()).into());
        body.insert("group_id".to_owned(), format!("thread-{}", nonce()).into());
        body.insert("callback_url".to_owned(), given.url.clone().into());
        Draft { bench: self.clone(), body, given }
    }

    /// Sends an invocation of a tool and waits for its result, for the sake of what comes after.
    ///
    /// # Errors
    /// Inconclusive where no result comes; that the result is owed is judged by a rule over the trace.
    pub async fn run(&self, operation: &str, arguments: Value) -> Result<(Call, Arrived), Stop> {
        let call = self.call(operation, arguments).send().await;
        let result = self.result(&call).await?;
        Ok((call, result))
    }

    /// The result of a call, for the sake of what comes after.
    ///
    /// # Errors
    /// Inconclusive where none comes; that it is owed is judged by a rule over the trace.
    pub async fn result(&self, call: &Call) -> Result<Arrived, Stop> {
        self.first(call, "tool_result").await
    }

    /// The first message of a type that arrives for a call, for the sake of what comes after.
    ///
    /// # Errors
    /// Inconclusive where none comes.
    pub async fn first(&self, call: &Call, kind: &str) -> Result<Arrived, Stop> {
        if !call.acknowledged() {
            let words = call.sent.words();
            return Err(Stop::Inconclusive(format!("the call of {} {words}", call.body["operation"])));
        }
        let pick = |all: &[Arrived]| all.iter().find(|a| a.is(kind)).cloned();
        self.owed(&call.given, pick).await.ok_or_else(|| {
            Stop::Inconclusive(format!("no {kind} came for the call of {}", call.body["operation"]))
        })
    }

    /// Waits for what is owed at a URL: some moments, then a fence, then the wait.
    pub async fn owed<T>(&self, given: &Given, pick: impl Fn(&[Arrived]) -> Option<T>) -> Option<T> {
        if let Some(found) = given.wait_for(Duration::from_millis(500), &pick).await {
            return Some(found);
        }
        self.fence().await;
        given.wait_for(self.wait, pick).await
    }

    /// Makes the call that is the fence and waits for its outcome: what the server had to say before that, it
    /// could have said. Returns whether the outcome came.
    pub async fn fence(&self) -> bool {
        let (operation, arguments) = &self.fence;
        let fence = self.call(operation, arguments.clone()).send().await;
        fence.acknowledged()
            && fence.given.wait_for(self.wait, |all| (!all.is_empty()).then_some(())).await.is_some()
    }

    /// An exchange of the trace.
    pub fn exchange(&self, n: u64) -> Option<Exchange> {
        self.recorder.get(n)
    }
}

impl Draft {
    /// Sets a member of the message.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a member out.
    pub fn without(mut self, name: &str) -> Self {
        self.body.remove(name);
        self
    }

    /// In this thread.
    pub fn thread(self, thread: &str) -> Self {
        self.with("group_id", thread)
    }

    /// What the callbacks of this call are answered.
    pub fn react(self, reactions: impl IntoIterator<Item = Reaction>) -> Self {
        self.given.react(reactions);
        self
    }

    /// Outcomes go to a URL that another call was given.
    pub fn to(mut self, given: &Given) -> Self {
        self.given = given.clone();
        let url = given.url.clone();
        self.with("callback_url", url)
    }

    /// Sends it and waits for the acknowledgement.
    pub async fn send(self) -> Call {
        let Self { bench, body, given } = self;
        let body = Value::Object(body);
        let sent = bench.post(&bench.place().endpoint, &body).await;
        let string = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Call { id: string("id"), thread: string("group_id"), given, sent, body }
    }
}
