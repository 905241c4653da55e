//! Slices in processes of their own: killed, outlived, interrupted and replayed.

use crate::support::{Server, command, end_of, is_alive, rap, signal, until, weather};
use axum::{
    Json,
    http::{StatusCode, Uri},
    routing::get,
};
use rap_runtime::{AgentHost, LocalFiles, NewSession, RemoteHost, core::ThreadState, sqlite::SqliteReader};
use rap_types::ThreadId;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
};

/// The model takes its time over `slowly`, and answers everything else at once.
const SCRIPT: &str = r#"
[[rule]]
when = { user = "slowly*" }
text = "word by word this takes a while and in the end it is all there"
delay_ms = 1500

[[rule]]
when = { user = "at length*" }
text = "word by word by word by word by word this takes long"
delay_ms = 15000

[[rule]]
when = { user = "move at once" }
calls = [{ name = "move" }]

[[rule]]
when = { user = "quickly" }
text = "done"

[[rule]]
when = { user = "move*" }
text = "this takes a while and then there is a call"
calls = [{ name = "move" }]
delay_ms = 1500

[[rule]]
when = { result = "move", says = "*moved its endpoint*" }
text = "again, then"
calls = [{ name = "move" }]
"#;

struct Owner {
    child: Child,
    host: RemoteHost,
    log: Arc<Mutex<Vec<String>>>,
}

struct Place {
    folder: tempfile::TempDir,
    tools: Server,
    tokio: tokio::runtime::Runtime,
}

/// A tool server with one tool, `move`, whose answers and whose endpoint a test decides.
#[derive(Clone, Default)]
struct Mover(Arc<Mutex<Moves>>);

#[derive(Default)]
struct Moves {
    /// Where the toolset says that the endpoint is.
    endpoint: String,
    /// The path that does not know itself any more.
    gone: Option<&'static str>,
    /// Every call is turned away for now.
    busy: bool,
    /// What came: paths, and the ids of the calls.
    came: Vec<(String, String)>,
}

impl Mover {
    fn serve(&self) -> Server {
        let (toolset, invoked) = (self.clone(), self.clone());
        Server::start(|base| {
            let mut state = self.0.lock().unwrap();
            if state.endpoint.is_empty() {
                state.endpoint = format!("{base}/invoke");
            }
            axum::Router::new()
                .route("/.well-known/rap-toolset", get(move || async move { toolset.offers() }))
                .fallback(move |uri: Uri, body: axum::body::Bytes| async move { invoked.take(&uri, &body) })
        })
    }

    fn offers(&self) -> Json<Value> {
        let endpoint = self.0.lock().unwrap().endpoint.clone();
        let tool = json!({"name": "move", "description": "x", "inputSchema": {"type": "object"}});
        Json(json!({"name": "mover", "endpoint": endpoint, "tools": [tool]}))
    }

    fn take(&self, uri: &Uri, body: &[u8]) -> StatusCode {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut state = self.0.lock().unwrap();
        if body["operation"] == "move" {
            state.came.push((uri.path().to_owned(), body["id"].as_str().unwrap().to_owned()));
            if state.busy {
                return StatusCode::SERVICE_UNAVAILABLE;
            }
            if state.gone == Some(uri.path()) {
                return StatusCode::NOT_FOUND;
            }
        }
        StatusCode::OK
    }

    fn moves_to(&self, endpoint: String, gone: Option<&'static str>) {
        let mut state = self.0.lock().unwrap();
        (state.endpoint, state.gone) = (endpoint, gone);
    }

    fn came(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().came.clone()
    }
}

impl Place {
    fn new() -> Self {
        Self::with(Server::of(weather()))
    }

    fn with(tools: Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("script.toml"), SCRIPT).unwrap();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder, tools, tokio }
    }

    fn db(&self) -> PathBuf {
        self.folder.path().join("agent.db")
    }

    /// `rap serve --exec-slices`, ready.
    fn serve(&self) -> Owner {
        let (db, script) = (self.db(), self.folder.path().join("script.toml"));
        let args = ["--json", "serve", "--exec-slices", "--stop-with-stdin", "--server", &self.tools.base];
        let mut command = command(&args);
        command.arg("--db").arg(&db).arg("--script").arg(&script).env("RAP_LOG", "warn,rap_runtime=debug");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).expect(&line);
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (log.clone(), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line));
        });
        let token = LocalFiles::beside(&db).token().unwrap();
        let host = RemoteHost::new(ready["url"].as_str().unwrap().parse().unwrap(), token);
        Owner { child, host, log }
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.tokio.block_on(work)
    }

    fn open(&self, owner: &Owner) -> ThreadId {
        self.block(owner.host.create(NewSession::new())).unwrap().session
    }

    fn say(&self, owner: &Owner, session: &ThreadId, key: &str, text: &str) {
        self.block(owner.host.send(session, key, text)).unwrap();
    }

    fn at_rest(&self, owner: &Owner, session: &ThreadId) {
        until("rest", || {
            let status = self.block(owner.host.status(session)).unwrap();
            status.threads.iter().all(|thread| thread.state == ThreadState::Resting)
        });
    }

    /// What the model said, as `rap show` tells it.
    fn said(&self, session: &ThreadId) -> String {
        let db = self.db();
        rap(&["show", session.as_str(), "--db", db.to_str().unwrap()]).expect_success().stdout
    }

    fn slices(&self, session: &ThreadId) -> usize {
        let read = async {
            let reader = SqliteReader::open(self.db()).await.unwrap();
            reader.slices(session, 0, usize::MAX).await.unwrap().len()
        };
        self.block(read)
    }

    fn replays(&self) {
        let db = self.db();
        let told = rap(&["replay", "--db", db.to_str().unwrap()]).expect_success();
        assert!(told.stdout.contains("every commit comes out the same"), "{}", told.stdout);
    }
}

impl Owner {
    /// The slice processes so far, by the owner's log.
    fn started(&self) -> Vec<u32> {
        let log = self.log.lock().unwrap();
        let pid = |line: &String| {
            line.contains("a slice process runs").then(|| line.rsplit("pid=").next()?.trim().parse().ok())?
        };
        log.iter().filter_map(pid).collect()
    }

    fn nth(&self, n: usize) -> u32 {
        until("a slice process", || self.started().len() >= n);
        self.started()[n - 1]
    }

    /// Waits for the first word of the model in a slice process.
    fn speaks(&self, slice: u32) {
        let pid = format!("pid={slice}");
        until("the model speaks", || {
            let log = self.log.lock().unwrap();
            log.iter().any(|line| line.contains("the model speaks") && line.ends_with(&pid))
        });
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        until("the end of serve", || self.child.try_wait().unwrap().is_some());
    }
}

/// P6, P7: a slice process is killed in the middle of a completion: the next one makes it again, and nothing is there
/// twice. Between slices there is no process.
#[test]
fn a_slice_process_is_killed() {
    let place = Place::new();
    let owner = place.serve();
    let session = place.open(&owner);
    place.say(&owner, &session, "1", "slowly, please");
    let first = owner.nth(1);
    signal(first, "KILL");
    let second = owner.nth(2);
    assert_ne!(first, second);
    place.at_rest(&owner, &session);
    until("the last slice process is gone", || !is_alive(second));
    assert_eq!(place.said(&session).matches("in the end it is all there").count(), 1);
    assert_eq!((owner.started().len(), place.slices(&session)), (2, 1), "one was lost, one was committed");
    owner.stop();
    place.replays();
}

/// P4, P6: the owner is killed while a slice runs: the slice ends with it and commits nothing, and the next owner goes
/// on.
#[test]
fn the_owner_is_killed() {
    let place = Place::new();
    let mut owner = place.serve();
    let session = place.open(&owner);
    place.say(&owner, &session, "1", "slowly, please");
    let slice = owner.nth(1);
    owner.child.kill().unwrap();
    owner.child.wait().unwrap();
    until("the slice ends", || !is_alive(slice));
    assert_eq!(place.slices(&session), 0);
    let owner = place.serve();
    place.at_rest(&owner, &session);
    assert_eq!(place.said(&session).matches("in the end it is all there").count(), 1);
    owner.stop();
    place.replays();
}

/// P9: what a person writes reaches the model's stream in the other process, and cuts it short.
#[test]
fn a_person_interrupts() {
    let place = Place::new();
    let owner = place.serve();
    let session = place.open(&owner);
    place.say(&owner, &session, "1", "slowly, please");
    let slice = owner.nth(1);
    // It speaks once it has loaded; before that the message would simply be there.
    owner.speaks(slice);
    place.say(&owner, &session, "2", "quickly");
    place.at_rest(&owner, &session);
    let said = place.said(&session);
    assert!(said.contains("(interrupted)") && said.contains("done"), "{said}");
    assert!(!said.contains("in the end it is all there"), "{said}");
    owner.stop();
    place.replays();
}

/// INV-11, TRN-04: an endpoint that moves while a slice runs elsewhere, and says so to whoever comes: the call is not sent
/// again, the model makes it anew, and that one arrives.
#[test]
fn an_endpoint_moves_beside_a_slice() {
    let mover = Mover::default();
    let place = Place::with(mover.serve());
    let owner = place.serve();
    let session = place.open(&owner);
    place.say(&owner, &session, "1", "move, please");
    owner.speaks(owner.nth(1));
    mover.moves_to(format!("{}/elsewhere", place.tools.base), Some("/invoke"));
    until("the second call", || mover.came().len() >= 2);
    let came = mover.came();
    assert_eq!((came[0].0.as_str(), came[1].0.as_str()), ("/invoke", "/elsewhere"));
    assert_ne!(came[0].1, came[1].1, "never again after a 4xx");
    owner.stop();
    assert_eq!(mover.came().len(), 2);
    place.replays();
}

/// INV-11: an endpoint whose move the owner sees while a slice runs elsewhere: the slice's call goes where it is.
#[test]
fn the_owner_sees_a_move_beside_a_slice() {
    let mover = Mover::default();
    let place = Place::with(mover.serve());
    let owner = place.serve();
    let session = place.open(&owner);
    place.say(&owner, &session, "1", "move, please");
    owner.speaks(owner.nth(1));
    mover.moves_to(format!("{}/elsewhere", place.tools.base), Some("/invoke"));
    assert!(place.block(owner.host.refresh(&session)).unwrap().problems.is_empty());
    until("the call", || !mover.came().is_empty());
    assert_eq!(mover.came()[0].0, "/elsewhere");
    owner.stop();
    place.replays();
}

/// INV-10, INV-11: an endpoint that is gone when a slice elsewhere sends its call: the owner takes the request over and
/// brings it, under its id, to where the server is.
#[test]
fn a_refused_call_of_a_slice_follows_its_server() {
    let mover = Mover::default();
    let old = mover.serve();
    let place = Place::with(mover.serve());
    let owner = place.serve();
    let session = place.open(&owner);
    place.say(&owner, &session, "1", "move, please");
    owner.speaks(owner.nth(1));
    mover.moves_to(format!("{}/elsewhere", place.tools.base), None);
    drop(old);
    until("the call", || !mover.came().is_empty());
    assert_eq!(mover.came()[0].0, "/elsewhere");
    owner.stop();
    assert_eq!(mover.came().len(), 1);
    place.replays();
}

/// TRN-03, P11: what is to be tried again is tried again in its time, while the thread's next slice is at a long
/// completion in another process.
#[test]
fn what_is_owed_is_sent_beside_a_completion() {
    let mover = Mover::default();
    mover.0.lock().unwrap().busy = true;
    let place = Place::with(mover.serve());
    let owner = place.serve();
    let session = place.open(&owner);
    place.say(&owner, &session, "1", "move at once");
    until("the first try", || !mover.came().is_empty());
    place.say(&owner, &session, "2", "at length, please");
    owner.speaks(owner.nth(2));
    let before = mover.came().len();
    until("three tries more", || mover.came().len() >= before + 3);
    assert_eq!(place.slices(&session), 1, "the completion goes on");
    assert!(mover.came().iter().all(|(_, call)| *call == mover.came()[0].1), "always the same call");
    owner.stop();
    place.replays();
}

/// A slice process that nobody talks to says what it is for.
#[test]
fn by_hand() {
    let child =
        command(&["slice", "--db", "/nowhere/agent.db", "--public-url", "http://127.0.0.1:1"]).spawn();
    end_of(child.unwrap()).expect_failure("this is for rap serve --exec-slices");
}
