//! `cargo xtask torture`: a real runtime on a real database file and a tool server with a journal, both killed (SIGKILL)
//! at random instants, round after round.
//!
//! Each round has one to three kills. Before each of them `rap serve` is started and, where it is gone, the tool server,
//! and a session is begun that calls tools, subscribes and gets events and reports; the runtime is killed a moment later,
//! whatever it is doing (the second and third time it may be at making up for the one before), and in two of three the tool
//! server at another moment; every other runtime's slices are processes of their own. The next one starts on the same files,
//! and the person sends again what got no answer, under the same key. At the end of each round all is left to come to
//! rest, and `rap proof` holds the tool server's ledger against the history, exactly; after every ten rounds and at the end
//! `rap replay` makes every decision again. Last it is measured how soon after its start a runtime does what its
//! predecessor owed.

mod tools;

pub(crate) use tools::serve as serve_tools;

use crate::say;
use serde_json::Value;
use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The runtime is killed so many times in a round, at most.
const KILLS: u64 = 3;
/// Rounds between two replays of everything.
const REPLAYED: u64 = 10;
/// The runtime is killed within this time after its start, in milliseconds.
const KILLED_WITHIN: u64 = 700;
/// The tool server is killed within this time, in milliseconds.
const TOOLS_KILLED_WITHIN: u64 = 1_500;
/// How often the first owed act is measured.
const OWED: usize = 5;
/// Half of the first owed acts come within this time of the runtime's start, where the program is given: that is for a
/// release build to keep.
const OWED_WITHIN: Duration = Duration::from_millis(100);
/// The same for the debug build that is made here, on a machine that does other things as well: longer means that
/// something waits which should not.
const OWED_WITHIN_DEBUG: Duration = Duration::from_millis(1_000);
/// How often in a row everything has to be at rest, and how long after one look comes the next.
const RESTED: u32 = 5;
const LOOK: Duration = Duration::from_millis(20);
/// Nothing takes longer to come to rest.
const REST: Duration = Duration::from_secs(120);
const SCRIPT: &str = include_str!("../../examples/rap/src/demo/script.toml");

/// Runs rounds until one does not agree.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let usage = || "usage: cargo xtask torture [--rounds N] [--seed S] [--program RAP]".to_owned();
    let (mut rounds, mut seed, mut program) = (100, None, None);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let value = options.next().ok_or_else(usage)?;
        let number = || value.parse::<u64>().map_err(|_| usage());
        match *option {
            "--rounds" => rounds = number()?,
            "--seed" => seed = Some(number()?),
            "--program" => program = Some(PathBuf::from(value)),
            _ => return Err(usage()),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = seed.unwrap_or(now.as_secs() ^ u64::from(now.subsec_nanos()));
    let owed_within = if program.is_some() { OWED_WITHIN } else { OWED_WITHIN_DEBUG };
    let program = program.map_or_else(build, Ok)?;
    let folder = std::env::temp_dir().join(format!("rap-torture-{seed}-{}", std::process::id()));
    std::fs::create_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    say(&format!("seed {seed}, {rounds} rounds in {}", folder.display()));
    let mut torture = Torture::begin(program, folder.clone(), seed)?;
    let result = torture.rounds(rounds, owed_within);
    drop(torture);
    match result {
        Ok(told) => {
            say(&told);
            std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))
        }
        Err(error) => Err(format!("{error}\nseed {seed}; the folder is kept: {}", folder.display())),
    }
}

fn build() -> Result<PathBuf, String> {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "rap-cli"])
        .status()
        .map_err(|e| format!("cargo cannot be started: {e}"))?;
    if !status.success() {
        return Err("rap does not build".to_owned());
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    Ok(target.join("debug").join("rap"))
}

/// A child that does not outlive its handle.
struct Process {
    child: Child,
    first_line: Value,
}

impl Process {
    fn start(program: &Path, log: &Path, args: &[&str]) -> Result<Self, String> {
        let wrong = |e: std::io::Error| format!("{} {args:?}: {e}", program.display());
        let log = OpenOptions::new().append(true).create(true).open(log).map_err(wrong)?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = Self { child: command.spawn().map_err(wrong)?, first_line: Value::Null };
        let mut line = String::new();
        let stdout = process.child.stdout.take().ok_or("bug: the output was piped")?;
        BufReader::new(stdout).read_line(&mut line).map_err(wrong)?;
        process.first_line =
            serde_json::from_str(&line).map_err(|_| format!("{args:?} did not start: {line:?}"))?;
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Torture {
    program: PathBuf,
    folder: PathBuf,
    tools: Option<Process>,
    /// Where the tool server listens, whoever it is.
    port: String,
    dice: u64,
    sessions: Vec<String>,
    /// Sessions whose message got no answer yet.
    unsaid: Vec<String>,
    kills: u64,
    kills_of_tools: u64,
    slowest_start: Duration,
}

impl Torture {
    fn begin(program: PathBuf, folder: PathBuf, seed: u64) -> Result<Self, String> {
        std::fs::write(folder.join("script.toml"), SCRIPT).map_err(|e| e.to_string())?;
        let (sessions, unsaid) = (Vec::new(), Vec::new());
        let slowest_start = Duration::ZERO;
        let (tools, port) = (None, "0".to_owned());
        let (kills, kills_of_tools) = (0, 0);
        let mut torture = Self {
            program,
            folder,
            tools,
            port,
            dice: seed,
            sessions,
            unsaid,
            kills,
            kills_of_tools,
            slowest_start,
        };
        torture.start_tools()?;
        Ok(torture)
    }

    /// Starts the tool server where there is none, on the address that the one before had.
    fn start_tools(&mut self) -> Result<(), String> {
        if self.tools.is_some() {
            return Ok(());
        }
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let args = ["torture-tools", &*self.folder.to_string_lossy(), &self.port, "300"];
        let tools = Process::start(&own, &self.folder.join("tools.log"), &args)?;
        self.port = tools.first_line["port"].to_string();
        self.tools = Some(tools);
        Ok(())
    }

    /// SplitMix64.
    fn throw(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn rounds(&mut self, rounds: u64, owed_within: Duration) -> Result<String, String> {
        let began = Instant::now();
        for round in 1..=rounds {
            for _ in 0..=self.throw() % KILLS {
                self.start_tools()?;
                let runtime = self.start(self.kills % 2 == 1)?;
                let after = Duration::from_millis(self.throw() % KILLED_WITHIN);
                self.speak_and_kill(runtime, after)?;
            }
            self.prove(round, round % REPLAYED == 0 || round == rounds)?;
        }
        let took = began.elapsed().as_secs();
        let owed = self.owed(owed_within)?;
        Ok(format!(
            "{rounds} rounds, {} kills of the runtime and {} of the tool server in {took} s: after every round ledger and \
             history agree, every commit replays; slowest start {} ms; first owed act {} ms after the start of the runtime \
             (half of {OWED}; limit {} ms), at most {} ms",
            self.kills,
            self.kills_of_tools,
            self.slowest_start.as_millis(),
            owed[OWED / 2].as_millis(),
            owed_within.as_millis(),
            owed[OWED - 1].as_millis(),
        ))
    }

    fn start(&mut self, exec_slices: bool) -> Result<Process, String> {
        let (db, script) = (self.folder.join("agent.db"), self.folder.join("script.toml"));
        let (db, script) = (db.to_string_lossy(), script.to_string_lossy());
        let server = format!("http://127.0.0.1:{}", self.port);
        let mut args = vec!["--json", "serve", "--stop-with-stdin", "--db", &db, "--server", &server];
        args.extend(["--script", &*script]);
        if exec_slices {
            args.push("--exec-slices");
        }
        let began = Instant::now();
        let runtime = Process::start(&self.program, &self.folder.join("runtime.log"), &args)?;
        self.slowest_start = self.slowest_start.max(began.elapsed());
        Ok(runtime)
    }

    /// Says what got no answer and begins one more session; the runtime is killed in the middle of it, or after it.
    fn speak_and_kill(&mut self, mut runtime: Process, after: Duration) -> Result<(), String> {
        let door = Door::of(&runtime, &self.folder)?;
        let tools_after = Duration::from_millis(self.throw() % TOOLS_KILLED_WITHIN);
        let tools = if self.throw().is_multiple_of(3) { None } else { self.tools.take() };
        self.kills += 1;
        self.kills_of_tools += u64::from(tools.is_some());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(after);
                let _ = runtime.child.kill();
                let _ = runtime.child.wait();
            });
            scope.spawn(move || {
                std::thread::sleep(tools_after);
                drop(tools);
            });
            self.speak(&door);
        });
        Ok(())
    }

    /// A runtime that is gone gives no answer: what it was told is said again later, under the same key.
    fn speak(&mut self, door: &Door) {
        if let Some(opened) = door.ask("POST", "/v1/sessions", "{}")
            && let Some(session) = opened["session"].as_str()
        {
            self.sessions.push(session.to_owned());
            self.unsaid.push(session.to_owned());
        }
        self.say_all(door);
    }

    fn say_all(&mut self, door: &Door) {
        let message = r#"{"key":"only","text":"How is the weather? Build shop-api and deploy it."}"#;
        self.unsaid.retain(|session| {
            let answer = door.ask("POST", &format!("/v1/threads/{session}/messages"), message);
            answer.is_none_or(|answer| answer["sent"].is_null())
        });
    }

    /// Lets everything come to rest, then holds everything against everything.
    fn prove(&mut self, round: u64, replay: bool) -> Result<(), String> {
        self.start_tools()?;
        let runtime = self.start(false)?;
        let door = Door::of(&runtime, &self.folder)?;
        let deadline = Instant::now() + REST;
        // What has been told and not yet arrived is nowhere to be seen for a moment: rest has to last.
        let mut rested = 0;
        while rested < RESTED {
            self.speak_again(&door);
            let at_rest = self.unsaid.is_empty() && self.sessions.iter().all(|session| door.rests(session));
            rested = if at_rest && self.is_told()? { rested + 1 } else { 0 };
            if Instant::now() > deadline {
                return Err(format!("round {round}: it does not come to rest within {} s", REST.as_secs()));
            }
            std::thread::sleep(LOOK);
        }
        stop(runtime);
        if !self.sessions.is_empty() {
            self.command(round, &["proof", &self.folder.to_string_lossy()])?;
        }
        if replay && !self.sessions.is_empty() {
            let db = self.folder.join("agent.db");
            self.command(round, &["replay", "--db", &db.to_string_lossy()])?;
        }
        say(&format!("round {round}: {} sessions, all agrees", self.sessions.len()));
        Ok(())
    }

    /// How soon after its start a runtime does what the one before it owed, in order: calls that were decided and could
    /// not be sent, since the tool server was gone as well.
    fn owed(&mut self, within: Duration) -> Result<Vec<Duration>, String> {
        let mut owed = Vec::with_capacity(OWED);
        for n in 0..OWED {
            self.start_tools()?;
            let mut runtime = self.start(false)?;
            let door = Door::of(&runtime, &self.folder)?;
            let opened = door.ask("POST", "/v1/sessions", "{}").ok_or("no session can be opened")?;
            let session = opened["session"].as_str().ok_or("a session without a name")?.to_owned();
            drop(self.tools.take());
            self.unsaid.push(session);
            self.say_all(&door);
            std::thread::sleep(Duration::from_millis(200));
            let _ = runtime.child.kill();
            let _ = runtime.child.wait();
            self.start_tools()?;
            let before = self.journal()?;
            let began = Instant::now();
            let runtime = self.start(false)?;
            while self.journal()? == before {
                if began.elapsed() > REST {
                    return Err(format!("restart {n}: what was owed is not done"));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            owed.push(began.elapsed());
            stop(runtime);
        }
        owed.sort();
        if owed[OWED / 2] > within {
            return Err(format!(
                "half of what was owed at a restart is done later than {within:?} after it: {owed:?}"
            ));
        }
        Ok(owed)
    }

    fn journal(&self) -> Result<u64, String> {
        let file = std::fs::metadata(self.folder.join("journal.jsonl")).map_err(|e| e.to_string())?;
        Ok(file.len())
    }

    fn speak_again(&mut self, door: &Door) {
        if !self.unsaid.is_empty() {
            self.speak(door);
        }
    }

    /// Every subscription has told its two events.
    fn is_told(&self) -> Result<bool, String> {
        let ledger = std::fs::read_to_string(self.folder.join("ledger.jsonl")).map_err(|e| e.to_string())?;
        let count = |what: &str| ledger.lines().filter(|line| line.contains(what)).count();
        Ok(count(r#""did":"emitted""#) == 2 * count(r#""tool":"watch_deployment""#))
    }

    fn command(&self, round: u64, args: &[&str]) -> Result<(), String> {
        let output = Command::new(&self.program).args(args).output().map_err(|e| e.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        Err(format!("round {round}: rap {} failed:\n{}", args.join(" "), told.concat()))
    }
}

/// Ends a runtime as a person would.
fn stop(mut runtime: Process) {
    drop(runtime.child.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(10);
    while matches!(runtime.child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The API of a runtime.
struct Door {
    address: String,
    token: String,
}

impl Door {
    fn of(runtime: &Process, folder: &Path) -> Result<Self, String> {
        let address = runtime.first_line["listen"].as_str().ok_or("the runtime listens nowhere")?.to_owned();
        let token = std::fs::read_to_string(folder.join("agent.db.token")).map_err(|e| e.to_string())?;
        Ok(Self { address, token: token.trim().to_owned() })
    }

    /// An answer, or none where nobody gave one.
    fn ask(&self, method: &str, path: &str, body: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
        let (address, token, length) = (&self.address, &self.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 2").then(|| serde_json::from_str(body).ok())?
    }

    fn rests(&self, session: &str) -> bool {
        let status = self.ask("GET", &format!("/v1/sessions/{session}/status"), "").unwrap_or_default();
        let threads = status["threads"].as_array();
        threads.is_some_and(|threads| {
            threads.iter().all(|thread| {
                let over = matches!(thread["state"].as_str(), Some("resting" | "closed"));
                over && thread["subscriptions"] == 0
            })
        })
    }
}
