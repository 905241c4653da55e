//! Another process of this program: what a benchmark drives or looks at, killed when the benchmark is done.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// A process of its own.
pub(crate) struct Peer {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The first line that it printed.
    pub(crate) first: String,
    /// How long it took to print it, from before it was started.
    pub(crate) took: Duration,
}

impl Peer {
    /// Starts `serve <words>` and waits for its first line.
    pub(crate) fn start(words: &[&str]) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let began = Instant::now();
        let mut child = Command::new(program)
            .arg("serve")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{} cannot be started: {e}", words.join(" ")))?;
        let out = child.stdout.take().ok_or("bug: the output was piped")?;
        let mut peer = Self { child, out: BufReader::new(out), first: String::new(), took: Duration::ZERO };
        peer.first = peer.line()?;
        peer.took = began.elapsed();
        if peer.first.is_empty() {
            return Err(format!("{} ended before it said anything", words.join(" ")));
        }
        Ok(peer)
    }

    /// Starts a server, whose first line is its address.
    pub(crate) fn server(words: &[&str]) -> Result<(Self, SocketAddr), String> {
        let peer = Self::start(words)?;
        let address = peer.first.parse();
        let address =
            address.map_err(|_| format!("{} printed {:?}, no address", words.join(" "), peer.first))?;
        Ok((peer, address))
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.out.read_line(&mut line).map_err(|e| e.to_string())?;
        Ok(line.trim().to_owned())
    }

    /// Lets it go on: writes a line to its input.
    pub(crate) fn go_on(&mut self) -> Result<(), String> {
        let input = self.child.stdin.as_mut().ok_or("bug: the input was piped")?;
        input.write_all(b"\n").and_then(|()| input.flush()).map_err(|e| e.to_string())
    }

    /// Resident memory in megabytes, where the system tells.
    pub(crate) fn memory_mb(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes / 1024.0)
    }

    /// Processor time used so far, in seconds, where the system tells.
    pub(crate) fn processor_s(&self) -> Option<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let after_name: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        let ticks = |at: usize| after_name.get(at)?.parse::<f64>().ok();
        // In hundredths of a second on every Linux.
        Some((ticks(11)? + ticks(12)?) / 100.0)
    }

    /// How often any of its threads went to sleep of its own accord, where the system tells.
    pub(crate) fn naps(&self) -> Option<u64> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let naps = tasks.flatten().filter_map(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            status
                .lines()
                .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"))?
                .trim()
                .parse::<u64>()
                .ok()
        });
        Some(naps.sum())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In such a process: waits until the benchmark says [`go_on`](Peer::go_on); an error where it is gone.
pub(crate) fn wait_for_go() -> Result<(), String> {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(1..) => Ok(()),
        _ => Err("the benchmark is gone".to_owned()),
    }
}
