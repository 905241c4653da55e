//! Slices in processes of their own that hang, die, or go by another clock. The processes are this very binary, started
//! again with one test and with what it is to do in its environment.

use crate::{
    own::{a_result, history},
    world::{Story, files, impatient, scripted, within},
};
use futures_util::stream::BoxStream;
use rap_runtime::{
    AgentHost, Delta, ModelCard, ModelError, ModelProvider, NewSession, Runtime, RuntimeBuilder, SliceErrand,
    SliceProcesses,
    core::{ModelRequest, Outcome, OwnTool, Surface},
    sqlite::SqliteStore,
};
use rap_types::ThreadId;
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    task::JoinHandle,
};

const DB: &str = "RAP_TEST_SLICE_DB";
const HOW: &str = "RAP_TEST_SLICE_HOW";
const HOUR: i64 = 3_600_000;
/// Longer than a process takes to start on a machine that has a lot to do.
const SILENCE: Duration = Duration::from_secs(5);

const SCRIPT: &str = r#"
[[rule]]
when = { user = "go" }
calls = [{ name = "greet" }, { name = "job" }]

[[rule]]
text = "well: ${text}"
"#;

/// The process of the tests below. Where nobody talks to it, it says so.
#[test]
fn a_slice_process() {
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let Some(db) = std::env::var_os(DB).map(PathBuf::from) else {
        let nobody = tokio.block_on(SliceErrand::read(tokio::io::empty()));
        assert_eq!(nobody.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        return;
    };
    // What the test's frame has printed is no line of ours.
    println!();
    let how = std::env::var(HOW).unwrap();
    let first = note(&db, "processes") == 1;
    tokio.block_on(async {
        match how.as_str() {
            "hangs" if first => std::future::pending().await,
            "sleeps" if first => std::thread::sleep(Duration::from_secs(3600)),
            _ => work(&db, &how, first).await,
        }
    });
    std::process::exit(0)
}

async fn work(db: &Path, how: &str, first: bool) {
    let mut input = BufReader::new(tokio::io::stdin());
    let mut line = String::new();
    input.read_line(&mut line).await.unwrap();
    if how == "ahead" {
        let mut errand: Value = serde_json::from_str(&line).unwrap();
        errand["now"] = (errand["now"].as_i64().unwrap() + HOUR).into();
        line = errand.to_string();
    }
    let line = format!("{}\n", line.trim()).into_bytes();
    let errand = SliceErrand::read(std::io::Cursor::new(line).chain(input)).await.unwrap();
    let store = Arc::new(SqliteStore::join(db, errand.lease().clone()).await.unwrap());
    let mut builder = with_tools(Runtime::builder(), db).shared_store(store.clone());
    builder = match (how, first) {
        ("dies", _) | ("is stuck", true) => {
            builder.model(Deadly { db: db.to_owned(), stuck: how == "is stuck" })
        }
        _ => builder.model(scripted(SCRIPT)),
    };
    let runtime = builder.public_url(nowhere()).build().await.unwrap();
    runtime.run_slice(errand, &store, tokio::io::stdout()).await.unwrap();
}

/// A model that ends its process, or holds it up.
struct Deadly {
    db: PathBuf,
    stuck: bool,
}

impl ModelProvider for Deadly {
    fn card(&self) -> ModelCard {
        scripted(SCRIPT).card()
    }

    fn complete(&self, _request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        note(&self.db, "completions");
        if self.stuck {
            std::thread::sleep(Duration::from_secs(3600));
        }
        std::process::exit(7)
    }
}

/// Writes down that something happened in a process; how often it has by now.
fn note(db: &Path, what: &str) -> u64 {
    let path = db.with_extension(what);
    let mut file = std::fs::File::options().append(true).create(true).open(&path).unwrap();
    file.write_all(b".").unwrap();
    noted(db, what)
}

fn noted(db: &Path, what: &str) -> u64 {
    std::fs::metadata(db.with_extension(what)).map_or(0, |file| file.len())
}

/// `greet`, answered at once, and `job`, which goes on until it is told to, or cancelled.
fn with_tools(builder: RuntimeBuilder, db: &Path) -> RuntimeBuilder {
    let any = json!({"type": "object"}).as_object().unwrap().clone();
    let db = db.to_owned();
    builder.instant_tool(OwnTool::new("greet", "Greets.", any.clone()), |_| Outcome::text("hello")).own_tool(
        OwnTool::new("job", "Works.", any),
        move |call| {
            let db = db.clone();
            async move {
                std::fs::write(db.with_extension("worker"), std::process::id().to_string()).unwrap();
                tokio::select! {
                    () = call.cancelled() => {
                        note(&db, "cancelled");
                        Outcome::error("cancelled")
                    }
                    () = until(|| noted(&db, "permit") > 0) => Outcome::text("worked"),
                }
            }
        },
    )
}

async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn nowhere() -> rap_types::HttpUrl {
    "http://127.0.0.1:1".parse().unwrap()
}

/// The owner of a database whose slices are processes.
struct Owner {
    runtime: Runtime,
    db: PathBuf,
    driver: JoinHandle<()>,
    _folder: TempDir,
}

fn process(db: &Path, how: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // On two threads the name of a test is printed when it is over.
    command.args(["--exact", "slices::a_slice_process", "--nocapture", "--test-threads=2"]);
    command.env(DB, db).env(HOW, how);
    command
}

impl Owner {
    async fn new(how: &'static str) -> Self {
        Self::with(how, SILENCE, |_, command| command).await
    }

    async fn with(
        how: &'static str,
        silence: Duration,
        start: impl Fn(usize, Command) -> Command + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("agent.db");
        let keys = files(&folder).keys().unwrap();
        let store = Arc::new(SqliteStore::open(&db).await.unwrap());
        let (of, starts) = (db.clone(), AtomicUsize::new(0));
        let processes = SliceProcesses::new(store.clone(), move || {
            start(starts.fetch_add(1, Ordering::SeqCst), process(&of, how))
        });
        let processes = processes.silence_limit(silence).pause_after_loss(Duration::from_millis(10));
        let builder = with_tools(Runtime::builder(), &db).shared_store(store).keys(keys);
        let builder = builder.public_url(nowhere()).rules(impatient()).slice_processes(processes);
        let builder = builder.model(rap_runtime::ScriptedModel::demo());
        let runtime = builder.build().await.unwrap();
        let driver = drive(&runtime);
        Self { runtime, db, driver, _folder: folder }
    }

    async fn told(&self, text: &str) -> (ThreadId, Story) {
        let session = self.runtime.create(NewSession::new()).await.unwrap().session;
        let story = Story { watch: self.runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
        self.runtime.send(&session, "first", text).await.unwrap();
        (session, story)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

fn drive(runtime: &Runtime) -> JoinHandle<()> {
    let runtime = runtime.clone();
    tokio::spawn(async move { runtime.run_until(std::future::pending()).await.unwrap() })
}

/// P9: a process that hangs, before it has read anything or in the middle of a slice, is killed, and its thread goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_hangs() {
    for how in ["hangs", "sleeps", "is stuck"] {
        let owner = Owner::new(how).await;
        let (_, mut story) = owner.told("hello").await;
        story.text("well").await;
        assert_eq!(noted(&owner.db, "processes"), 2, "{how}");
    }
}

/// ERR-01: a process that dies after its completion, again and again, costs four completions: then the thread rests
/// with an error, and what comes next is tried anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_always_dies() {
    let owner = Owner::new("dies").await;
    let (session, mut story) = owner.told("hello").await;
    let is_lost = |event: &rap_runtime::core::SurfaceEvent| match &event.what {
        Surface::Error { text } if text.contains("was lost 4 times") => Some(text.clone()),
        _ => None,
    };
    let error = story.until("an error", is_lost).await;
    assert!(error.contains("it ended with exit status: 7"), "{error}");
    story.resting(&session).await;
    assert_eq!(noted(&owner.db, "completions"), 4);
    assert_eq!(history(&owner.runtime, &session).await, ["Person: hello"]);
    owner.runtime.send(&session, "second", "still there?").await.unwrap();
    story.until("an error again", is_lost).await;
    assert_eq!(noted(&owner.db, "completions"), 8);
}

/// A program that panics when it is to say what to start, and one that is not there, leave the thread as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_start() {
    let owner = Owner::with("works", SILENCE, |n, command| match n {
        0 => panic!("on purpose"),
        1 => Command::new("/nowhere/rap"),
        _ => command,
    });
    let owner = owner.await;
    let (_, mut story) = owner.told("hello").await;
    story.text("well").await;
    assert_eq!(noted(&owner.db, "processes"), 1);
}

/// People are told where no process ever starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_never_starts() {
    let owner = Owner::with("works", SILENCE, |_, _| Command::new("/nowhere/rap")).await;
    let (_, mut story) = owner.told("hello").await;
    let told = story.until("an error", |event| match &event.what {
        Surface::Error { text } => Some(text.clone()),
        _ => None,
    });
    let told = told.await;
    assert!(told.contains("no process for a slice could be started"), "{told}");
}

/// P6: a driver that is dropped while a process runs kills it and gives its thread back: the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_driver_is_dropped() {
    let mut owner = Owner::with("hangs", Duration::from_secs(600), |_, command| command).await;
    let (_, mut story) = owner.told("hello").await;
    within("a process", until(|| noted(&owner.db, "processes") == 1)).await;
    owner.driver.abort();
    owner.driver = drive(&owner.runtime);
    story.text("well").await;
}

/// P9: a process goes by its owner's clock, where that is ahead of the machine's.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead() {
    let owner = Owner::new("ahead").await;
    let (session, mut story) = owner.told("hello").await;
    story.text("well").await;
    let slices = owner.runtime.store().slices(&session, 0, 1).await.unwrap();
    let machine = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let ahead = slices[0].record.moment.now.0 - machine;
    assert!(ahead > HOUR / 2, "{ahead} ms");
}

/// The program's own tools work in slice processes: the instant one in the decision, the other until it is done, in the
/// process whose slice called it.
#[tokio::test(flavor = "multi_thread")]
async fn own_tools() {
    let owner = Owner::new("works").await;
    let (session, mut story) = owner.told("go").await;
    a_result(&mut story, "hello").await;
    within("a worker", until(|| owner.db.with_extension("worker").exists())).await;
    note(&owner.db, "permit");
    a_result(&mut story, "worked").await;
    story.resting(&session).await;
    let worker = std::fs::read_to_string(owner.db.with_extension("worker")).unwrap();
    assert_ne!(worker, std::process::id().to_string());
}

/// A call of the program's own that is cancelled is told so, wherever it is worked: here by a slice in another process.
#[tokio::test(flavor = "multi_thread")]
async fn an_own_call_is_cancelled() {
    let owner = Owner::new("works").await;
    let (session, mut story) = owner.told("go").await;
    a_result(&mut story, "hello").await;
    within("a worker", until(|| owner.db.with_extension("worker").exists())).await;
    owner.runtime.stop(&session).await.unwrap();
    within("it is told", until(|| noted(&owner.db, "cancelled") == 1)).await;
}
