//! The tool server of the torture: small, and with a journal, so that it can be killed as well.
//!
//! A call is on disk before it is answered 200, is worked once however often it is sent (INV-10), and whatever it came
//! to is posted until somebody takes it, across any number of kills (ERR-03, SUB-10). Its ledger is what `rap proof`
//! reads: one line for each thing done, on disk before anybody is told of it. The journal holds what only the server
//! needs: where callbacks go, and which of them were taken.

use crate::say;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

const EVENTS: [&str; 2] =
    ["the first of 3 instances runs the new version", "all 3 instances run the new version"];
const EVENTS_APART: Duration = Duration::from_millis(400);
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A file of JSON lines, each on disk before `write` returns.
struct Lines(Mutex<File>);

impl Lines {
    /// Opens the file and gives back its whole lines; half a line at its end is what a kill left, and is cut off.
    fn open(path: &Path) -> Result<(Self, Vec<Value>), String> {
        let wrong = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(wrong)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(wrong)?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(wrong)?;
        let parsed: Result<Vec<Value>, _> = text[..whole].lines().map(serde_json::from_str).collect();
        let lines = parsed.map_err(|e| format!("{}: {e}", path.display()))?;
        Ok((Self(Mutex::new(file)), lines))
    }

    fn write(&self, line: &Value) -> Result<(), String> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{line}\n").as_bytes()).map_err(|e| e.to_string())?;
        file.sync_data().map_err(|e| e.to_string())
    }
}

/// What is known of a call.
#[derive(Default)]
struct Job {
    invocation: Value,
    started: bool,
    ended: bool,
    emitted: usize,
    /// Callbacks that were taken: the result, then the events.
    delivered: u64,
}

struct Server {
    journal: Lines,
    ledger: Lines,
    jobs: Mutex<BTreeMap<String, Job>>,
    build: Duration,
    port: u16,
}

/// Serves until it is killed. `options`: folder, port (0: any), milliseconds that a build takes.
pub(crate) fn serve(options: &[&str]) -> Result<(), String> {
    let usage = || "usage: cargo xtask torture-tools FOLDER PORT BUILD_MS".to_owned();
    let [folder, port, build] = options else { return Err(usage()) };
    let (folder, wanted) = (PathBuf::from(folder), port.parse::<u16>().map_err(|_| usage())?);
    let build = Duration::from_millis(build.parse().map_err(|_| usage())?);
    let listener = listen(wanted)?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let (journal, taken) = Lines::open(&folder.join("journal.jsonl"))?;
    let (ledger, done) = Lines::open(&folder.join("ledger.jsonl"))?;
    let jobs = Mutex::new(remember(taken, &done));
    let server = Arc::new(Server { journal, ledger, jobs, build, port });
    let calls: Vec<String> = server.jobs().keys().cloned().collect();
    calls.into_iter().for_each(|call| go_on(&server, call));
    say(&json!({"port": port}).to_string());
    for stream in listener.incoming().flatten() {
        let server = server.clone();
        std::thread::spawn(move || server.answer(stream));
    }
    Ok(())
}

/// A port that a killed server had may take a moment to be free.
fn listen(port: u16) -> Result<TcpListener, String> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match TcpListener::bind(("127.0.0.1", port)) {
            Err(e) if Instant::now() > until => return Err(format!("port {port}: {e}")),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
            Ok(listener) => return Ok(listener),
        }
    }
}

/// What journal and ledger say of each call.
fn remember(taken: Vec<Value>, done: &[Value]) -> BTreeMap<String, Job> {
    let name = |line: &Value| line["call"].as_str().unwrap_or_default().to_owned();
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    for line in taken {
        let job = jobs.entry(name(&line)).or_default();
        match line["delivered"].as_u64() {
            Some(n) => job.delivered = n,
            None => job.invocation = line["invocation"].clone(),
        }
    }
    for line in done {
        let Some(job) = jobs.get_mut(&name(line)) else { continue };
        match line["did"].as_str() {
            Some("started") => job.started = true,
            Some("ended") => job.ended = true,
            _ => job.emitted += 1,
        }
    }
    jobs
}

fn go_on(server: &Arc<Server>, call: String) {
    let server = server.clone();
    std::thread::spawn(move || {
        if let Err(error) = server.work(&call) {
            say(&format!("{call}: {error}"));
            std::process::exit(1);
        }
    });
}

impl Server {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<String, Job>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what is left of a call, from wherever a kill has left it.
    fn work(&self, call: &str) -> Result<(), String> {
        let (invocation, started, ended, emitted, delivered) = {
            let jobs = self.jobs();
            let Some(job) = jobs.get(call) else { return Ok(()) };
            (job.invocation.clone(), job.started, job.ended, job.emitted, job.delivered)
        };
        let tool = invocation["operation"].as_str().unwrap_or_default();
        let arguments = &invocation["arguments"];
        if !started {
            self.did(&invocation, json!({"did": "started", "tool": tool, "arguments": arguments}))?;
        }
        let subscribes = tool == "watch_deployment";
        let text = match tool {
            "build_project" => format!("{} is built, 128 tests passed", word(arguments, "project")),
            "watch_deployment" => format!("watching the deployment of {}", word(arguments, "service")),
            _ => format!("{}: light rain, 7 degrees", word(arguments, "city")),
        };
        if !ended {
            std::thread::sleep(if tool == "build_project" { self.build } else { Duration::ZERO });
            self.did(&invocation, json!({"did": "ended", "text": text}))?;
        }
        let (id, group) = (&invocation["id"], &invocation["group_id"]);
        if delivered == 0 {
            let result = json!({
                "type": "tool_result", "group_id": group, "id": id, "call_id": invocation["call_id"],
                "text": text, "subscription": subscribes,
            });
            self.deliver(&invocation, &result, 1)?;
        }
        for (n, what) in EVENTS.iter().enumerate().filter(|_| subscribes) {
            let text = format!("{}: {what}", word(arguments, "service"));
            if n >= emitted {
                std::thread::sleep(EVENTS_APART);
                self.did(&invocation, json!({"did": "emitted", "text": text}))?;
            }
            if delivered < n as u64 + 2 {
                let event = json!({
                    "type": "subscription_event", "group_id": group, "tool_call_id": id, "text": text,
                    "event_id": n.to_string(), "final": n + 1 == EVENTS.len(),
                });
                self.deliver(&invocation, &event, n as u64 + 2)?;
            }
        }
        Ok(())
    }

    fn did(&self, invocation: &Value, deed: Value) -> Result<(), String> {
        let mut line = json!({"at": now(), "call": invocation["id"], "thread": invocation["group_id"]});
        if let (Some(line), Value::Object(deed)) = (line.as_object_mut(), deed) {
            line.extend(deed);
        }
        self.ledger.write(&line)
    }

    /// Posts a callback until it is taken, and writes that down.
    fn deliver(&self, invocation: &Value, message: &Value, n: u64) -> Result<(), String> {
        let url = invocation["callback_url"].as_str().unwrap_or_default();
        loop {
            match post(url, message) {
                Some(200) => break,
                // Nobody is there, or is not ready.
                None | Some(408 | 425 | 429 | 500..) => std::thread::sleep(AGAIN_AFTER),
                Some(status) => return Err(format!("the callback {message} was answered {status}")),
            }
        }
        self.journal.write(&json!({"call": invocation["id"], "delivered": n}))
    }

    fn answer(self: Arc<Self>, mut stream: TcpStream) {
        let Some((head, body)) = read(&mut stream) else { return };
        let mut words = head.split(' ');
        let (status, answer) = match (words.next(), words.next()) {
            (Some("GET"), Some("/.well-known/rap-toolset")) => ("200 OK", toolset(self.port).to_string()),
            (Some("POST"), Some("/invoke")) => match self.take(&body) {
                Ok(()) => ("200 OK", String::new()),
                Err(error) => ("500 Internal Server Error", error),
            },
            (Some("POST"), Some("/close_thread" | "/cancel_tool_call")) => ("200 OK", String::new()),
            _ => ("404 Not Found", String::new()),
        };
        let length = answer.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{answer}"
        );
    }

    /// Takes an invocation: on disk before it is answered, and worked once.
    fn take(self: &Arc<Self>, body: &[u8]) -> Result<(), String> {
        let invocation: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let call = invocation["id"].as_str().ok_or("an invocation without id")?.to_owned();
        {
            let mut jobs = self.jobs();
            if jobs.contains_key(&call) {
                return Ok(());
            }
            self.journal.write(&json!({"at": now(), "call": call, "invocation": invocation}))?;
            jobs.insert(call.clone(), Job { invocation, ..Job::default() });
        }
        go_on(self, call);
        Ok(())
    }
}

fn word<'a>(arguments: &'a Value, name: &str) -> &'a str {
    arguments[name].as_str().unwrap_or_default()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The first line of a request, and its body.
fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0);
            if bytes.len() >= whole {
                return Some((head.lines().next()?.to_owned(), bytes[end + 4..whole].to_vec()));
            }
        }
        match stream.read(&mut part).ok()? {
            0 => return None,
            n => bytes.extend_from_slice(&part[..n]),
        }
    }
}

/// The status of a POST; none where nobody answered.
fn post(url: &str, message: &Value) -> Option<u16> {
    let rest = url.strip_prefix("http://")?;
    let (address, path) = rest.split_at(rest.find('/')?);
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let body = message.to_string();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn toolset(port: u16) -> Value {
    let tool = |name: &str, argument: &str, long_running: bool| {
        json!({
            "name": name,
            "description": name,
            "inputSchema": {
                "type": "object",
                "properties": {argument: {"type": "string"}},
                "required": [argument],
            },
            "annotations": {"longRunning": long_running},
        })
    };
    json!({
        "name": "torture",
        "endpoint": format!("http://127.0.0.1:{port}/invoke"),
        "tools": [
            tool("get_weather", "city", false),
            tool("build_project", "project", true),
            tool("watch_deployment", "service", false),
        ],
    })
}
