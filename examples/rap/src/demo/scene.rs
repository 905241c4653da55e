//! The scene of the demo: its processes, and what happens to them, step by step.

use super::{
    DB, ledger,
    processes::{self, Process},
    story::Story,
};
use crate::{
    failure::Failure,
    inspect::count,
    output::{DIM, paint},
    run::{key, short},
};
use futures_util::StreamExt;
use rap_runtime::{
    AgentHost, LocalFiles, NewSession, RemoteHost, Watch, Watched,
    core::{Numbered, Surface},
};
use rap_types::{HttpUrl, ThreadId};
use serde_json::json;
use std::{path::Path, time::Duration};

/// How long any step of the story may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(20);
/// How often files and processes are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long the agent is left asleep before its runtime is killed.
const NAP: Duration = Duration::from_secs(1);
/// The line of the tool server's log that tells of a callback that did not arrive.
const RETRIED: &str = "is to be tried again";
/// The line of the runtime's log that tells of a slice's process.
const SLICE: &str = "a slice process runs";
/// How often the callback is refused before the runtime comes back.
const REFUSALS: usize = 3;
/// Events that the subscription tells, each of which gets a thread and makes a report.
const EVENTS: usize = 2;

const MESSAGE: &str = "How is the weather in Oslo? And build shop-api, then deploy it.";

/// The processes and the conversation.
pub(crate) struct Scene<'a> {
    story: &'a Story<'a>,
    folder: &'a Path,
    /// Dropped before the tool server, so that it is not told of cancelled calls.
    runtime: Process,
    tools: Process,
    host: RemoteHost,
    session: ThreadId,
    watch: Watch,
    seen: i64,
}

impl<'a> Scene<'a> {
    /// Starts the processes and makes a session.
    pub(crate) async fn set(folder: &'a Path, story: &'a Story<'a>) -> Result<Self, Failure> {
        story.chapter("Two processes");
        let ledger = folder.join(ledger::FILE);
        let tools = Process::start(
            "tool server",
            &folder.join("tools.log"),
            &["demo-tools", "--port", "0", "--stop-with-stdin", "--ledger", text(&ledger)?],
        )
        .await?;
        story.tell(
            "tool server",
            format_args!("process {} offers get_weather, build_project, watch_deployment", tools.pid()),
            "tools_started",
            json!({"pid": tools.pid()}),
        );
        std::fs::write(folder.join("script.toml"), include_str!("script.toml"))
            .map_err(|e| Failure::new(format!("cannot write the script of the model: {e}")))?;
        let runtime = start_runtime(folder, &tools).await?;
        let listen = runtime.first_line["listen"].as_str().unwrap_or_default().to_owned();
        story.tell(
            "runtime",
            format_args!("process {} listens on {listen}, with its database in a file", runtime.pid()),
            "runtime_started",
            json!({"pid": runtime.pid(), "listen": listen}),
        );
        let host = host(folder, &runtime)?;
        let opened = host.create(NewSession::new()).await.map_err(Failure::of)?;
        if let Some(problem) = opened.problems.first() {
            return Err(Failure::of(problem));
        }
        let watch = host.watch(&opened.session, 0).await.map_err(Failure::of)?;
        Ok(Self { story, folder, runtime, tools, host, session: opened.session, watch, seen: 0 })
    }

    /// A person asks, the model calls two tools, one of them is slow: the agent sleeps.
    pub(crate) async fn ask(&mut self) -> Result<(), Failure> {
        self.story.chapter("A message, two calls at once, and sleep");
        self.story.tell("person", MESSAGE, "message", json!({"text": MESSAGE}));
        self.host.send(&self.session, &key()?, MESSAGE).await.map_err(Failure::of)?;
        let mut detached = false;
        self.follow("the agent is at work,", |event| {
            detached |= matches!(event, Surface::Detached { .. });
            detached && matches!(event, Surface::Waiting { .. })
        })
        .await?;
        let started =
            self.ledger()?.iter().filter(|line| matches!(line.deed, ledger::Deed::Started { .. })).count();
        if started != 2 {
            return Err(Failure::new(format!("the tools started {started} calls instead of 2")));
        }
        self.story.tell(
            "runtime",
            "is idle: both calls were acknowledged at once, and nothing of the agent is due",
            "idle",
            json!({}),
        );
        self.slices_are_gone().await?;
        self.process_table();
        self.pause("the agent sleeps,").await;
        Ok(())
    }

    /// The runtime is killed while the slow tool works, and the tool's answer finds nobody.
    pub(crate) async fn sleep_and_die(&mut self) -> Result<(), Failure> {
        self.story.chapter("Killed in the middle");
        let pid = self.runtime.pid();
        if self.ended()? > 1 {
            return Err(Failure::new(
                "this machine is so busy that build_project was done before the runtime could be killed",
            )
            .hint("run the demo again when it is less busy"));
        }
        self.runtime.kill();
        self.story.tell(
            "runtime",
            format_args!("process {pid} is killed (SIGKILL) while build_project works"),
            "killed",
            json!({"pid": pid}),
        );
        self.process_table();
        if self.runtime.is_alive() || processes::children().contains(&pid) {
            return Err(Failure::new(format!("process {pid} survived SIGKILL")));
        }
        let log = self.folder.join("tools.log");
        self.until("build_project works,", || Ok((self.ended()? > 1).then_some(()))).await?;
        self.story.tell(
            "tool server",
            "build_project is done, and there is nobody to tell",
            "tool_done",
            json!({}),
        );
        for n in 1..=REFUSALS {
            self.until("the callback is refused,", || {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                Ok((log.lines().filter(|line| line.contains(RETRIED)).count() >= n).then_some(()))
            })
            .await?;
            self.story.tell(
                "tool server",
                format_args!("callback refused, attempt {n}; it will be tried again"),
                "callback_refused",
                json!({"attempt": n}),
            );
        }
        Ok(())
    }

    /// The runtime starts again on the same file, and everything goes on.
    pub(crate) async fn wake(&mut self) -> Result<(), Failure> {
        self.story.chapter("Started again on the same file");
        let before = self.runtime.first_line["listen"].clone();
        self.runtime = start_runtime(self.folder, &self.tools).await?;
        let listen = self.runtime.first_line["listen"].clone();
        if listen != before {
            return Err(Failure::new(format!("the runtime listens on {listen} instead of {before}")));
        }
        self.story.tell(
            "runtime",
            format_args!("process {} listens where callbacks expect it", self.runtime.pid()),
            "runtime_started",
            json!({"pid": self.runtime.pid(), "listen": listen}),
        );
        self.process_table();
        self.host = host(self.folder, &self.runtime)?;
        self.watch = self.host.watch(&self.session, self.seen).await.map_err(Failure::of)?;
        let mut reports = 0;
        self.follow("the agent is at work,", |event| {
            reports += usize::from(matches!(event, Surface::Report { .. }));
            reports == EVENTS && matches!(event, Surface::Resting)
        })
        .await?;
        let deadline = tokio::time::Instant::now() + STUCK;
        // A thread that has told that it rests may still be claimed for a moment.
        while !self.host.status(&self.session).await.map_err(Failure::of)?.is_at_rest() {
            if tokio::time::Instant::now() > deadline {
                return Err(stuck("the agent comes to rest,"));
            }
            tokio::time::sleep(LOOK).await;
        }
        self.slices_are_gone().await?;
        self.story.tell("runtime", "everything rests", "at_rest", json!({}));
        self.process_table();
        let log = std::fs::read_to_string(self.folder.join("runtime.log")).unwrap_or_default();
        let slices = log.lines().filter(|line| line.contains(SLICE)).count();
        self.story.tell(
            "runtime",
            format_args!("{slices} slices of the agent ran, each in a process of its own, gone after it"),
            "slices",
            json!({"processes": slices}),
        );
        Ok(())
    }

    /// Between slices nothing of the agent runs: the last slice's process may take a moment to end.
    async fn slices_are_gone(&self) -> Result<(), Failure> {
        self.until("the last slice ends,", || {
            Ok(processes::children_of(self.runtime.pid()).is_empty().then_some(()))
        })
        .await
    }

    /// Ends the processes.
    pub(crate) async fn end(self) {
        let Self { runtime, tools, watch, .. } = self;
        drop(watch);
        runtime.stop().await;
        tools.stop().await;
    }

    /// Tells what happens until something has happened.
    async fn follow(
        &mut self,
        waiting: &str,
        mut enough: impl FnMut(&Surface) -> bool,
    ) -> Result<(), Failure> {
        let _waiting = self.story.waiting(waiting);
        let deadline = tokio::time::Instant::now() + STUCK;
        loop {
            match tokio::time::timeout_at(deadline, self.watch.next()).await {
                Ok(Some(Ok(Watched::Committed(event)))) => {
                    self.seen = event.n;
                    self.tell(&event);
                    if enough(&event.event.what) {
                        return Ok(());
                    }
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(Failure::of(error)),
                Ok(None) => return Err(Failure::new("the runtime stopped telling what happens")),
                Err(_) => return Err(stuck(waiting)),
            }
        }
    }

    /// Lets the person who watches see that nothing happens.
    async fn pause(&self, waiting: &str) {
        let _waiting = self.story.waiting(waiting);
        tokio::time::sleep(NAP).await;
    }

    /// Looks again and again until there is something to see.
    async fn until<T>(
        &self,
        waiting: &str,
        look: impl Fn() -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let _waiting = self.story.waiting(waiting);
        let deadline = tokio::time::Instant::now() + STUCK;
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            if tokio::time::Instant::now() > deadline {
                return Err(stuck(waiting));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn ledger(&self) -> Result<Vec<ledger::Line>, Failure> {
        ledger::read(&self.folder.join(ledger::FILE))
    }

    /// How many calls the tools have ended.
    fn ended(&self) -> Result<usize, Failure> {
        let ledger = self.ledger()?;
        Ok(ledger.iter().filter(|line| matches!(line.deed, ledger::Deed::Ended { .. })).count())
    }

    /// Who runs, by the system's own word.
    fn process_table(&self) {
        let alive = processes::children();
        let mut told = Vec::new();
        for process in [&self.tools, &self.runtime] {
            let runs = alive.contains(&process.pid());
            told.push(json!({"role": process.role(), "pid": process.pid(), "alive": runs}));
            let word = if runs { "running" } else { "gone" };
            self.story.detail(paint(DIM, format!("{:>8}  {:<12} {word}", process.pid(), process.role())));
        }
        if alive.contains(&self.runtime.pid()) {
            let slices = processes::children_of(self.runtime.pid());
            for pid in &slices {
                told.push(json!({"role": "slice", "pid": pid, "alive": true}));
                self.story.detail(paint(DIM, format!("{pid:>8}  {:<12} running", "slice")));
            }
            if slices.is_empty() {
                self.story.detail(paint(DIM, format!("{:>8}  {:<12} none", "-", "slice")));
            }
        }
        self.story.record("processes", json!({"processes": told}));
    }

    fn tell(&self, event: &Numbered) {
        let root = event.event.thread == self.session;
        let whose = if root { "agent".to_owned() } else { format!("thread {}", short(&event.event.thread)) };
        let (step, text) = match &event.event.what {
            Surface::Text { text, .. } => ("text", format!("says: {text}")),
            // Its report is told where it arrives.
            Surface::Call { name, .. } if name == "close_thread" => {
                ("call", "reports and closes itself".to_owned())
            }
            Surface::Call { name, arguments, .. } => ("call", format!("calls {name} {arguments}")),
            Surface::Result { name, .. } if name == "close_thread" => return,
            Surface::Result { name, text, late: true, .. } => {
                ("late_result", format!("wakes, for {name} answered: {text}"))
            }
            Surface::Result { name, text, .. } => ("result", format!("hears from {name}: {text}")),
            Surface::Detached { name, .. } => ("detached", format!("does not wait for {name}")),
            Surface::Event { name, text, handled_by: Some(thread), .. } => {
                ("event", format!("hears from {name}: {text}; thread {} is made for it", short(thread)))
            }
            Surface::Event { name, text, .. } => ("event", format!("hears from {name}: {text}")),
            Surface::Report { child, text } => {
                ("report", format!("gets the report of thread {}: {text}", short(child)))
            }
            Surface::Closed => ("closed", "is closed".to_owned()),
            Surface::Waiting { open } => ("waiting", format!("waits for {}", count(*open, "call"))),
            Surface::Resting => ("resting", "rests".to_owned()),
            Surface::Error { text } => ("error", format!("error: {text}")),
            _ => return,
        };
        let data = serde_json::to_value(event).unwrap_or_default();
        self.story.tell(&whose, text, step, json!({"event": data}));
    }
}

async fn start_runtime(folder: &Path, tools: &Process) -> Result<Process, Failure> {
    let port = tools.first_line["port"].as_u64().unwrap_or_default();
    let (db, script) = (folder.join(DB), folder.join("script.toml"));
    let server = format!("http://127.0.0.1:{port}");
    let args = [
        "--json",
        "serve",
        "--exec-slices",
        "--stop-with-stdin",
        "--db",
        text(&db)?,
        "--listen",
        "127.0.0.1:0",
        "--server",
        &server,
        "--script",
        text(&script)?,
    ];
    Process::start("runtime", &folder.join("runtime.log"), &args).await
}

fn host(folder: &Path, runtime: &Process) -> Result<RemoteHost, Failure> {
    let url = runtime.first_line["url"].as_str().unwrap_or_default();
    let url = HttpUrl::new(url).map_err(Failure::of)?;
    let token = LocalFiles::beside(folder.join(DB)).token().map_err(Failure::of)?;
    Ok(RemoteHost::new(url, token))
}

fn stuck(waiting: &str) -> Failure {
    let what = waiting.trim_end_matches(',');
    Failure::new(format!("the story is stuck: for {} s nothing came of \"{what}\"", STUCK.as_secs()))
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| Failure::new(format!("the path {} is not Unicode", path.display())))
}
