//! The world of a case: the server under judgement, the listener, the trace; calls, notices and fences.
//!
//! Waiting is by fence. What is owed and has not come is followed by another call, the simplest that the server
//! is known to answer; when that call's result is there and the owed message is still missing after the wait, it
//! is missing.

use crate::{
    case::Need,
    credentials::{Credentials, Headers, Stranger},
    http::{Http, Request, Sent},
    listen::{Arrived, Closed, Given, Listener},
    nonce::nonce,
    rendezvous::Rendezvous,
    spawn::Spawned,
    toolset::Toolset,
    trace::{Exchange, Recorder},
    verdict::{Finding, Stop},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet};

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
    /// The names of those whose arguments were given, and stay as they are.
    pub fixed: Vec<String>,
    /// The client.
    pub http: Http,
    /// The listener.
    pub listener: Listener,
    /// The trace.
    pub recorder: Recorder,
    /// What every request to the server carries, and none to anybody else.
    pub credentials: Credentials,
    /// How long an owed message may be missing after a fence.
    pub wait: Duration,
    /// Whether the server was started with a directory that outlives a restart.
    pub restartable: bool,
    /// Where cases that want the server killed meet.
    pub meeting: Rendezvous,
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

pub use crate::call::{Call, Draft, failed, first_result, given, text};

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
            Need::Durable(name) => {
                let kept =
                    |tool: crate::toolset::Tool<'_>| tool.raw["annotations"]["x-fixture-durable"] == true;
                self.fixture && self.restartable && self.toolset.tool(name).is_some_and(kept)
            }
            Need::Spawn => self.spawned.is_some(),
            Need::AnyTool => !self.callable.is_empty(),
            Need::Extension(name) => self.toolset.speaks(name),
            Need::Migration => self.toolset.needs_migration(),
            Need::Authentication => self.credentials.authenticate(),
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

    /// Whether a URL leads to the server, as far as its base URL and its endpoint tell.
    pub fn owns(&self, url: &str) -> bool {
        let origin = |url: &str| url::Url::parse(url).ok().map(|url| url.origin());
        let place = self.place();
        origin(url).is_some_and(|it| [origin(&place.base), origin(&place.endpoint)].contains(&Some(it)))
    }

    /// What a request to this URL carries to show who sends it; nothing where it leads elsewhere.
    pub fn shown_to(&self, url: &str, body: &[u8]) -> Headers {
        if self.owns(url) { self.credentials.headers(body) } else { Vec::new() }
    }

    /// Sends a request with what shows the server who sends it.
    pub async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Sent {
        let body = body.into();
        let own = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let common = self.shown_to(url, &body);
        let common = common.into_iter().filter(|(n, _)| headers.iter().all(|(own, _)| own != n));
        self.http
            .send(Request {
                case: self.case.to_owned(),
                method: method.to_owned(),
                url: url.to_owned(),
                headers: own.chain(common).collect(),
                body,
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
        if let Some(found) = given.wait_for(self.wait.min(Duration::from_millis(500)), &pick).await {
            return Some(found);
        }
        self.fence().await;
        given.wait_for(self.wait, pick).await
    }

    /// The same at several URLs, beside each other: silence is waited for once.
    pub async fn all_owed(
        &self,
        given: Vec<Given>,
        pick: fn(&[Arrived]) -> Option<Arrived>,
    ) -> Vec<Option<Arrived>> {
        let owed = |given: Given| {
            let bench = self.clone();
            async move { bench.owed(&given, pick).await }
        };
        beside(given.into_iter().map(owed).collect()).await
    }

    /// Makes the call that is the fence and waits for its outcome: what the server had to say before that, it
    /// could have said. Returns whether the outcome came.
    pub async fn fence(&self) -> bool {
        let (operation, arguments) = &self.fence;
        let fence = self.call(operation, arguments.clone()).send().await;
        let outcome = |all: &[Arrived]| all.iter().any(|message| !message.is("view_update")).then_some(());
        fence.acknowledged() && fence.given.wait_for(self.wait, outcome).await.is_some()
    }

    /// The tools that may be called, with arguments that are valid and, where they were made, new.
    pub fn tools(&self) -> Vec<(String, Value)> {
        let fresh = |(name, arguments): &(String, Value)| {
            let tool = self.toolset.tool(name).filter(|_| !self.fixed.contains(name));
            let made = tool.and_then(|tool| crate::arguments::valid(tool.schema()).ok());
            (name.clone(), made.unwrap_or_else(|| arguments.clone()))
        };
        self.callable.iter().map(fresh).collect()
    }

    /// Prepares the call that is the fence: one whose outcome the server is known to deliver.
    pub fn simplest(&self) -> Draft {
        let (operation, arguments) = &self.fence;
        self.call(operation, arguments.clone())
    }

    /// Posts JSON as somebody whom the server does not know.
    pub async fn post_as(&self, stranger: Stranger, url: &str, body: &Value) -> Sent {
        let body = Bytes::from(body.to_string());
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        headers.extend(self.credentials.of(stranger, &body));
        let (case, method, url) = (self.case.to_owned(), "POST".to_owned(), url.to_owned());
        self.http.send(Request { case, method, url, headers, body }).await
    }

    /// Follows a link as a browser does, which knows nothing of tokens and keys.
    pub async fn browse(&self, url: &str) -> Sent {
        let (case, method, url) = (self.case.to_owned(), "GET".to_owned(), url.to_owned());
        self.http.send(Request { case, method, url, headers: Vec::new(), body: Bytes::new() }).await
    }

    /// Asks again and again until the answer is right, for as long as an owed message may take.
    pub async fn until<F: Future<Output = Result<bool, Stop>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> Result<bool, Stop> {
        let deadline = Instant::now() + self.wait;
        loop {
            if ask().await? {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// The text of the result of a fixture tool.
    ///
    /// # Errors
    /// Inconclusive where no result comes.
    pub async fn ask(&self, operation: &str, arguments: Value) -> Result<String, Stop> {
        let (_, result) = self.run(operation, arguments).await?;
        Ok(text(&result).to_owned())
    }

    /// Waits until so many calls wait at a gate of the fixture.
    ///
    /// # Errors
    /// Inconclusive where the number is not reached.
    pub async fn waiting(&self, key: &str, count: usize) -> Result<(), Stop> {
        let wanted = count.to_string();
        let reached =
            self.until(|| async { Ok(self.ask("waiting", json!({ "key": key })).await? == wanted) }).await?;
        if reached {
            return Ok(());
        }
        Err(Stop::Inconclusive(format!(
            "the gate never had {count} waiting calls, so nothing can be tried on them"
        )))
    }

    /// A listener of its own port, for answers that slow down a whole origin.
    ///
    /// # Errors
    /// Inconclusive where the server may not reach any port but one; or it cannot be bound.
    pub async fn own_listener(&self) -> Result<Listener, Stop> {
        let address = std::net::SocketAddr::new(self.own_host()?, 0);
        Listener::bind(&address.to_string(), None, self.recorder.clone())
            .await
            .map_err(|e| Stop::Harness(format!("no further port can be listened on: {e}")))
    }

    /// A port that refuses connections until it is opened.
    ///
    /// # Errors
    /// As [`Bench::own_listener`].
    pub fn closed_port(&self) -> Result<Closed, Stop> {
        Listener::closed(self.own_host()?, self.recorder.clone())
            .map_err(|e| Stop::Harness(format!("no further port can be taken: {e}")))
    }

    /// The address at which further ports can be reached.
    fn own_host(&self) -> Result<std::net::IpAddr, Stop> {
        let host = self.listener.local().ip();
        if !self.listener.is_direct() || host.is_unspecified() {
            let why = "this wants a port of its own, and the server may reach but the one of --public-url; hint: \
                       --listen with an address that the server can reach, without --public-url";
            return Err(Stop::Inconclusive(why.to_owned()));
        }
        Ok(host)
    }

    /// Kills the server and starts it again, once for all cases that want it now.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&self) -> Result<(), Stop> {
        self.meeting.meet(|| self.kill_and_start()).await.map_err(Stop::Harness)
    }

    async fn kill_and_start(&self) -> Result<(), String> {
        let Some(spawned) = &self.spawned else { return Err(Need::Spawn.words()) };
        let mut spawned = spawned.lock().await;
        let before = spawned.port;
        spawned.restart().await.map_err(|e| format!("after a kill: {e}"))?;
        let mut place = self.world.place.lock().unwrap_or_else(PoisonError::into_inner);
        let (old, new) = (format!(":{before}"), format!(":{}", spawned.port));
        place.base = place.base.replacen(&old, &new, 1);
        place.endpoint = place.endpoint.replacen(&old, &new, 1);
        Ok(())
    }

    /// An exchange of the trace.
    pub fn exchange(&self, n: u64) -> Option<Exchange> {
        self.recorder.get(n)
    }
}

/// So many things are waited for at a time.
const BESIDE: usize = 64;

/// Does all of them beside each other and returns what came of them, in their order. None of them outlives this.
pub async fn beside<T: Send + 'static>(all: Vec<impl Future<Output = T> + Send + 'static>) -> Vec<T> {
    let slots = Arc::new(Semaphore::new(BESIDE));
    let mut doing = JoinSet::new();
    for (at, one) in all.into_iter().enumerate() {
        let slots = slots.clone();
        doing.spawn(async move {
            let _slot = slots.acquire().await;
            (at, one.await)
        });
    }
    let mut done = doing.join_all().await;
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}
