//! The program as a child, tool servers beside it, and texts without what differs from run to run.

use rap_server::{State, ToolError, ToolServer, tool};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Nothing here takes longer, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// What configures real models.
const KEYS: [&str; 12] = [
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "GEMINI_API_KEY",
    "GOOGLE_API_KEY",
    "GEMINI_BASE_URL",
    "OLLAMA_HOST",
    "OLLAMA_API_KEY",
    "AWS_BEARER_TOKEN_BEDROCK",
    "AWS_ACCESS_KEY_ID",
    "RAP_MODEL",
];

/// How the program ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program with arguments, to be run.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rap"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_remove("RAP_LOG").env("NO_COLOR", "1").env("COLUMNS", "100");
    // Whoever runs the tests may have keys: no test spends anybody's money.
    for name in KEYS {
        command.env_remove(name);
    }
    command
}

/// `rap serve` that is ready.
pub(crate) fn serving(args: &[&str]) -> (Child, serde_json::Value) {
    let mut all = vec!["--json", "serve", "--stop-with-stdin"];
    all.extend(args);
    let mut child = command(&all).stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    match serde_json::from_str(&line) {
        Ok(ready) => (child, ready),
        Err(_) => panic!("{line:?}: {}", end_of(child).stderr),
    }
}

/// Runs the program.
pub(crate) fn rap(args: &[&str]) -> Ended {
    end_of(command(args).spawn().unwrap())
}

/// Waits for the program's end.
pub(crate) fn end_of(child: Child) -> Ended {
    let (send, receive) = mpsc::channel();
    let pid = child.id();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let output = receive.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        signal(pid, "KILL");
        panic!("the program did not end in {PATIENCE:?}")
    });
    let output = output.unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// Exit code and both outputs as one text.
    pub(crate) fn transcript(&self) -> String {
        let code = self.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        format!("exit {code}\n--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }

    /// Lines of JSON.
    pub(crate) fn records(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    #[track_caller]
    pub(crate) fn expect_success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.transcript());
        self
    }

    /// It failed, and said why in these words.
    #[track_caller]
    pub(crate) fn expect_failure(self, words: &str) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.transcript());
        assert!(self.stderr.contains(words), "{words:?} is not in\n{}", self.transcript());
        self
    }
}

/// A text with names in the place of what differs from run to run.
pub(crate) fn plain(text: &str, names: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    for (from, to) in names {
        text = text.replace(from, to);
    }
    // Ids have 20 characters of base32.
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            word.push(c);
            continue;
        }
        out.push_str(if word.len() == 20 { "ID" } else { &word });
        word.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// Sends a signal by name.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status();
}

/// Whether a process runs; one that has ended and was not waited for does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    if Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        return stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'));
    }
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8_lossy(&output.stdout);
    !state.trim().is_empty() && !state.starts_with('Z')
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server on loopback that ends with the value.
pub(crate) struct Server {
    pub(crate) base: String,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Serves a router that may need to know its own address, e.g. `http://127.0.0.1:4711`.
    pub(crate) fn start(router: impl FnOnce(&str) -> axum::Router) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let router = {
            let _inside = runtime.enter();
            router(&base)
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    served = axum::serve(listener, router) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { base, stop: Some(stop), thread: Some(thread) }
    }

    /// Serves tools.
    pub(crate) fn of(tools: ToolServer) -> Self {
        Self::start(|base| tools.public_url(base).into_service(true).unwrap().into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let served = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            assert!(served.is_none_or(|served| served.is_ok()), "the server panicked");
        }
    }
}

/// Current weather for a city.
#[tool(read_only)]
async fn get_weather(
    /// City name, e.g. Oslo
    city: String,
) -> String {
    format!("{city}: rain")
}

/// The time.
#[tool(read_only)]
async fn get_time() -> &'static str {
    "noon"
}

/// Deletes everything.
#[tool(destructive)]
async fn delete_all() -> &'static str {
    "all is gone"
}

/// Waits until the test says so.
#[tool]
async fn wait(#[cx] gate: State<Arc<Notify>>) -> &'static str {
    gate.notified().await;
    "it was worth it"
}

/// Asks a person.
#[tool]
async fn ask(#[cx] call: rap_server::Call) -> Result<String, ToolError> {
    Ok(call.choose("Tea or coffee?", ["tea", "coffee"], 1).await?.text)
}

/// A server with quick tools.
pub(crate) fn weather() -> ToolServer {
    ToolServer::new("weather").tool(get_weather).tool(get_time)
}

/// A server with a tool of each troublesome kind, and the gate that its slow tool waits at.
pub(crate) fn troublesome() -> (ToolServer, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    (ToolServer::new("troublesome").state(gate.clone()).tool(delete_all).tool(wait).tool(ask), gate)
}
