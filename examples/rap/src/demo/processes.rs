//! The demo's processes: children that cannot outlive it. Each reads a pipe that closes when the demo ends,
//! however it ends, and is killed and waited for when its handle is dropped.

use crate::failure::Failure;
use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long a child may take until its first line.
const START: Duration = Duration::from_secs(10);

/// How long a child may take to stop cleanly.
const STOP: Duration = Duration::from_secs(3);

/// A child process in one of the program's other roles.
#[derive(Debug)]
pub(crate) struct Process {
    role: &'static str,
    child: Child,
    log: PathBuf,
    /// The first line that it wrote on stdout.
    pub(crate) first_line: serde_json::Value,
}

impl Process {
    /// Starts this program with other arguments and waits for its first line, a JSON object. What it logs is
    /// added to `log`.
    pub(crate) async fn start(role: &'static str, log: &Path, args: &[&str]) -> Result<Self, Failure> {
        let wrong = |e: std::io::Error| Failure::new(format!("cannot start {role}: {e}"));
        let program = std::env::current_exe().map_err(wrong)?;
        let file = OpenOptions::new().append(true).create(true).open(log).map_err(wrong)?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file);
        own_group(&mut command);
        let mut child = command.spawn().map_err(wrong)?;
        let stdout = child.stdout.take();
        let mut process = Self { role, child, log: log.to_owned(), first_line: serde_json::Value::Null };
        let (send, first) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let Some(stdout) = stdout else { return };
            let mut lines = BufReader::new(stdout).lines();
            let _ = send.send(lines.next());
            // Reads on, so that the child never writes into a closed pipe.
            lines.for_each(drop);
        });
        let line = match tokio::time::timeout(START, first).await {
            Ok(Ok(Some(Ok(line)))) => line,
            Ok(_) => return Err(process.did_not_start("it ended")),
            Err(_) => return Err(process.did_not_start("it took longer than 10 s")),
        };
        process.first_line = serde_json::from_str(&line)
            .map_err(|_| process.did_not_start(&format!("its first line is {line:?}")))?;
        Ok(process)
    }

    /// The process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the process is for.
    pub(crate) fn role(&self) -> &'static str {
        self.role
    }

    /// Kills it, without a chance to say or write anything more, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Tells it to stop, by the end of its stdin, and waits; kills it when that takes too long.
    pub(crate) async fn stop(mut self) {
        drop(self.child.stdin.take());
        let deadline = tokio::time::Instant::now() + STOP;
        while self.is_alive() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn did_not_start(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let said = log.lines().rfind(|line| !line.is_empty()).unwrap_or("nothing").to_owned();
        Failure::new(format!("{} did not start: {what}; the last thing it logged: {said}", self.role))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ctrl-C on the terminal is for the demo: it ends its children itself.
#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) {}

/// The system's own word on which children this process has: their numbers, without the dead ones.
pub(crate) fn children() -> Vec<u32> {
    children_of(std::process::id())
}

/// The system's own word on which children a process has.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    from_proc(parent).or_else(|| from_ps(parent)).unwrap_or_default()
}

fn from_proc(parent: u32) -> Option<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // `pid (name) state parent …`, where the name may hold anything.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let state = fields.next();
        if state != Some("Z") && fields.next() == Some(parent.to_string().as_str()) {
            pids.push(pid);
        }
    }
    (!pids.is_empty() || Path::new("/proc/self/stat").exists()).then_some(pids)
}

fn from_ps(parent: u32) -> Option<Vec<u32>> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat="]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        let (pid, ppid) = (fields.next()?.parse().ok()?, fields.next()?.parse::<u32>().ok()?);
        let alive = !fields.next().unwrap_or_default().starts_with('Z');
        (ppid == parent && alive).then_some(pid)
    };
    Some(text.lines().filter_map(row).collect())
}
