//! A runtime that is served and driven, tool servers, and a watcher with a deadline.

use futures_util::StreamExt;
use rap_runtime::{
    AgentHost, KeyRing, LocalFiles, MemoryStore, ModelProvider, NewSession, Runtime, RuntimeBuilder, Secret,
    SessionOpened, Watch, Watched,
    core::{
        Accepted, CallState, Entry, Millis, ModelCall, ModelTurn, Moment, NewInput, Numbered, OfferedTool,
        Rules, ServerCard, SliceMachine, Step, Store, Surface, SurfaceEvent, Toolbox, TurnOutcome,
    },
};
use rap_server::{Call, Subscribed, ToolError, ToolServer, tool};
use rap_types::{CallId, ContentPart, HttpUrl, ThreadId};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// No test waits longer for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(done) => done,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// A runtime with its gateway and its API served and its driver running, until it is dropped or stopped.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) base: HttpUrl,
    stop: CancellationToken,
    driver: Option<JoinHandle<()>>,
    server: JoinHandle<()>,
}

pub(crate) const TOKEN: &str = "a-token-for-tests";

impl World {
    /// On a fresh memory store.
    pub(crate) async fn new(configure: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder) -> Self {
        Self::on(Arc::new(MemoryStore::new()), KeyRing::generate().unwrap(), "127.0.0.1:0", configure).await
    }

    pub(crate) async fn on(
        store: Arc<dyn Store>,
        keys: KeyRing,
        address: &str,
        configure: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder,
    ) -> Self {
        let mut world = Self::idle(store, keys, address, configure).await;
        world.drive();
        world
    }

    /// Served, but not driven.
    pub(crate) async fn idle(
        store: Arc<dyn Store>,
        keys: KeyRing,
        address: &str,
        configure: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let base: HttpUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let builder = Runtime::builder().shared_store(store).keys(keys).public_url(base.clone());
        let runtime = configure(builder).build().await.unwrap();
        let router = runtime.gateway().merge(runtime.api(Secret::from(TOKEN)));
        let stop = CancellationToken::new();
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let server = tokio::spawn(async move { served.await.unwrap() });
        Self { runtime, base, stop, driver: None, server }
    }

    pub(crate) fn drive(&mut self) {
        let (runtime, stop) = (self.runtime.clone(), self.stop.clone());
        self.driver =
            Some(tokio::spawn(async move { runtime.run_until(stop.cancelled_owned()).await.unwrap() }));
    }

    /// Cuts the driver off in whatever it does; the process lives on.
    pub(crate) fn kill_driver(&mut self) {
        self.driver.take().expect("a driver").abort();
    }

    /// Stops as a program does at the end.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(driver) = self.driver.take() {
            within("the driver ends", driver).await.unwrap();
        }
        within("the server ends", &mut self.server).await.unwrap();
    }

    pub(crate) async fn session(&self) -> SessionOpened {
        within("a session", self.runtime.create(NewSession::new())).await.unwrap()
    }

    pub(crate) async fn story(&self, session: &ThreadId) -> Story {
        Story { watch: self.runtime.watch(session, 0).await.unwrap(), told: Vec::new() }
    }

    /// Begins a session, says something and gives back the session and its story.
    pub(crate) async fn told(&self, text: &str) -> (ThreadId, Story) {
        let session = self.session().await.session;
        let story = self.story(&session).await;
        self.runtime.send(&session, "first", text).await.unwrap();
        (session, story)
    }

    /// The texts of the model in a thread's history, and what it was shown, one line each.
    pub(crate) async fn history(&self, thread: &ThreadId) -> Vec<String> {
        let view = self.runtime.store().history(thread).await.unwrap().expect("a thread");
        view.entries.iter().flat_map(|entry| lines_of(entry)).collect()
    }

    /// Resolves when every thread of a session rests.
    pub(crate) async fn at_rest(&self, session: &ThreadId, story: &mut Story) {
        // A thread that has told its last is still claimed for a moment, whose end is told to nobody.
        let a_moment = Duration::from_millis(20);
        within("the rest", async {
            while !self.runtime.status(session).await.unwrap().is_at_rest() {
                let _ = tokio::time::timeout(a_moment, story.next()).await;
            }
        })
        .await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(driver) = &self.driver {
            driver.abort();
        }
        self.server.abort();
    }
}

/// An entry of a history in words.
pub(crate) fn lines_of(entry: &Entry) -> Vec<String> {
    let text = |content: &[rap_types::ContentPart]| {
        let parts: Vec<String> = content
            .iter()
            .map(|part| match part {
                rap_types::ContentPart::Text(text) => text.text.clone(),
                other => format!("{other:?}"),
            })
            .collect();
        parts.join("|")
    };
    match entry {
        Entry::User(user) => vec![format!("{:?}: {}", user.author, text(&user.content))],
        Entry::Turn(turn) => {
            let cut = if turn.interrupted { " [interrupted]" } else { "" };
            let mut lines = vec![format!("model: {}{cut}", turn.text)];
            lines.extend(turn.calls.iter().map(|call| format!("call: {} {}", call.name, call.arguments)));
            lines
        }
        Entry::Results { results } => {
            results.iter().map(|result| format!("result: {}", text(&result.content))).collect()
        }
        Entry::Event(event) => {
            vec![format!("event of {}: {}", event.original_tool_name, text(&event.content))]
        }
        other => vec![format!("{other:?}")],
    }
}

/// A session as a watcher sees it.
pub(crate) struct Story {
    pub(crate) watch: Watch,
    pub(crate) told: Vec<Watched>,
}

impl Story {
    pub(crate) async fn next(&mut self) -> Watched {
        let next = within("something happens", self.watch.next()).await.expect("the story goes on").unwrap();
        self.told.push(next.clone());
        next
    }

    /// The next committed event of which `want` makes something.
    pub(crate) async fn until<T>(&mut self, what: &str, want: impl Fn(&SurfaceEvent) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Watched::Committed(Numbered { event, .. }) = self.next().await
                    && let Some(found) = want(&event)
                {
                    return found;
                }
            }
        };
        match tokio::time::timeout(DEADLINE, found).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}; there were: {:#?}", self.told),
        }
    }

    /// The next text of the model that contains a word.
    pub(crate) async fn text(&mut self, word: &str) -> String {
        self.until(&format!("text with {word:?}"), |event| match &event.what {
            Surface::Text { text, .. } if text.contains(word) => Some(text.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn resting(&mut self, thread: &ThreadId) {
        self.until("rest", |event| (event.thread == *thread && event.what == Surface::Resting).then_some(()))
            .await;
    }

    /// How many committed events fit.
    #[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
    pub(crate) fn count(&self, fits: impl Fn(&Surface) -> bool) -> usize {
        let committed = self.told.iter().filter_map(|watched| match watched {
            Watched::Committed(numbered) => Some(&numbered.event.what),
            _ => None,
        });
        committed.filter(|what| fits(what)).count()
    }
}

/// What a test holds in its hands of a tool server.
#[derive(Default)]
pub(crate) struct Bench {
    /// One permit lets one call of `slow` go on.
    pub(crate) gate: Gate,
    /// Calls of `slow` that have begun.
    pub(crate) begun: AtomicUsize,
    /// Calls of `quick` that have run.
    pub(crate) quick: AtomicUsize,
}

pub(crate) struct Gate(pub(crate) Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

/// Answers at once.
#[tool(read_only)]
async fn quick(#[cx] bench: rap_server::State<Bench>, word: Option<String>) -> String {
    bench.quick.fetch_add(1, Ordering::SeqCst);
    format!("quick {}", word.unwrap_or_default())
}

/// Answers when the gate opens.
#[tool]
async fn slow(#[cx] bench: rap_server::State<Bench>) -> String {
    bench.begun.fetch_add(1, Ordering::SeqCst);
    bench.gate.0.acquire().await.unwrap().forget();
    "slow at last".to_owned()
}

/// Fails.
#[tool]
async fn broken() -> Result<String, ToolError> {
    Err(ToolError::new("it is broken; call something else"))
}

/// One event each time the gate opens, `count` in all.
#[tool]
async fn ticks(
    #[cx] call: Call,
    #[cx] bench: rap_server::State<Bench>,
    count: u32,
    inside: Option<bool>,
) -> Subscribed {
    let (subscribed, events) = call.subscribe().confirm("ticking");
    let events = if inside == Some(true) { events.associative() } else { events };
    tokio::spawn(async move {
        for n in 1..count {
            bench.gate.0.acquire().await.unwrap().forget();
            if events.emit(format!("tick {n}")).await.is_err() {
                return;
            }
        }
        bench.gate.0.acquire().await.unwrap().forget();
        let _ = events.finish(format!("tick {count}, the last")).await;
    });
    subscribed
}

/// Asks a person.
#[tool]
async fn ask(#[cx] call: Call) -> Result<String, ToolError> {
    let picked = call.choose("Red or blue?", ["red", "blue"], 1).await?;
    Ok(format!("picked {}", picked.text))
}

/// A tool server for tests, served until the test ends.
pub(crate) async fn tools() -> (HttpUrl, Arc<Bench>) {
    let bench = Arc::new(Bench::default());
    let bound = ToolServer::new("bench")
        .shared_state(bench.clone())
        .tool(quick)
        .tool(slow)
        .tool(broken)
        .tool(ticks)
        .tool(ask)
        .bind("127.0.0.1:0")
        .await
        .unwrap();
    let base = format!("http://{}", bound.local_addr()).parse().unwrap();
    tokio::spawn(bound.run_until(std::future::pending()));
    (base, bench)
}

/// Rules under which nothing is waited for in vain: a turn goes on as soon as one of its calls is answered, and
/// events come in at once.
pub(crate) fn impatient() -> Rules {
    let mut rules = Rules::default();
    rules.patience_ms = 0;
    rules.hold_ms = 0;
    rules
}

#[cfg_attr(not(feature = "sqlite"), allow(dead_code))]
pub(crate) fn files(folder: &tempfile::TempDir) -> LocalFiles {
    LocalFiles::beside(folder.path().join("agent.db"))
}

pub(crate) fn scripted(script: &str) -> impl ModelProvider {
    rap_runtime::ScriptedModel::from_toml(script).unwrap()
}

/// Makes one call of a thread by hand, as a worker would that dies before it sends anything: `tool` of the session's
/// toolset, or one that is put there.
pub(crate) async fn a_call_of(store: &dyn Store, thread: &ThreadId, tool: &str) -> CallId {
    let input = NewInput::message(thread.clone(), "by hand", vec![ContentPart::text("go")], "test");
    assert_eq!(store.accept(input, Millis(1)).await.unwrap(), Accepted::Accepted);
    let claim = store.claim(Millis(1)).await.unwrap().expect("the thread is due");
    let mut machine =
        SliceMachine::new(store.load(&claim).await.unwrap(), Moment { now: Millis(1), seed: 1 });
    assert!(matches!(machine.step(), Step::Complete(_)));
    let call = ModelCall { name: tool.into(), arguments: serde_json::json!({}), provider_id: None };
    machine.turn(TurnOutcome::Turn(ModelTurn { calls: vec![call], ..ModelTurn::default() }));
    let Step::Commit(commit) = machine.step() else { panic!("a commit was due") };
    let id = commit.calls[0].id.clone();
    assert_eq!(commit.calls[0].state, CallState::Pending, "{:?}", commit.calls[0].outcome);
    store.commit(&claim, *commit, Millis(1)).await.unwrap();
    store.release(claim).await.unwrap();
    id
}

/// [`a_call_of`] a tool of a server that is not there.
pub(crate) async fn a_call(store: &dyn Store, thread: &ThreadId) -> CallId {
    let base: HttpUrl = "http://127.0.0.1:1".parse().unwrap();
    let schema = serde_json::json!({"type": "object"}).as_object().unwrap().clone();
    let toolbox = Toolbox {
        tools: vec![OfferedTool {
            name: "tool".into(),
            operation: "tool".parse().unwrap(),
            server: 0,
            description: "x".into(),
            input_schema: schema,
            long_running: false,
            destructive: false,
            display_script: None,
        }],
        servers: vec![ServerCard { name: "x".into(), base: base.clone(), endpoint: base }],
        ..Toolbox::default()
    };
    let before = store.session(thread).await.unwrap().unwrap().toolbox.clone();
    assert!(store.update_toolbox(thread, &before, &toolbox).await.unwrap());
    a_call_of(store, thread, "tool").await
}
