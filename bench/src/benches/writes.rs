//! B4: what a turn writes: bytes at a history of 10,000 messages over bytes at 10, and flushes.

use crate::{
    agent::{said, seed, thread, turn},
    harness::{Bench, Gate, Plan, Report, Row},
    say,
};
use rap_store_sqlite::SqliteStore;
use std::{
    path::Path,
    process::{Command, Stdio},
};

pub(crate) struct Writes;

impl Bench for Writes {
    fn id(&self) -> &'static str {
        "B4"
    }

    fn title(&self) -> &'static str {
        "bytes and flushes per turn"
    }

    fn about(&self) -> &'static str {
        "What the process hands to the system per turn, a turn being a person's message accepted and the slice that answers \
         it, one after another; checkpoints included. Flushes are counted by strace where it is installed, over the same \
         turns: one for the accepted message, one for the slice."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let folder = tempfile::tempdir().map_err(said)?;
        let turns = plan.size(50, 1_000);
        let mut report = Report::default();
        let mut written = Vec::new();
        for messages in [10, 10_000] {
            let path = folder.path().join(format!("{messages}.db"));
            let runtime = tokio::runtime::Runtime::new().map_err(said)?;
            let bytes = runtime.block_on(async {
                let store = SqliteStore::open(&path).await.map_err(said)?;
                let root = seed(&store, "bench", messages).await?;
                // What the making left in the log belongs to no turn: the end of its owner moves it into the file.
                drop(store);
                let store = SqliteStore::open(&path).await.map_err(said)?;
                turn(&store, &root, "warm up").await?;
                let before = bytes_written();
                for round in 0..turns {
                    turn(&store, &root, &format!("turn {round}")).await?;
                }
                Ok::<_, String>(before.zip(bytes_written()).map(|(before, after)| (after - before) as f64))
            })?;
            match bytes {
                Some(bytes) => written.push(bytes / turns as f64),
                None => say("bytes are not measured: this system does not tell them"),
            }
            if messages == 10 {
                match flushes(&path, turns)? {
                    Some(flushes) => {
                        // One for what was accepted, one for what was decided.
                        let row = Row::new("flushes per turn", "", flushes / turns as f64).floor(2.0);
                        report.rows.push(row.gate(Gate::AtMost(2.05)));
                    }
                    None => say("flushes are not counted: strace is not installed"),
                }
            }
        }
        if let [short, long] = written.as_slice() {
            let row = Row::new("bytes written per turn, 10,000 messages beside 10", "B", *long).floor(*short);
            report.rows.push(row.gate(Gate::RatioAtMost(1.1)));
        }
        Ok(report)
    }
}

/// Bytes that this process has handed to `write` and its relatives.
fn bytes_written() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: "))?.trim().parse().ok()
}

/// Flushes of a process that makes this many turns, beyond those of one that makes none.
fn flushes(path: &Path, turns: usize) -> Result<Option<f64>, String> {
    let none = count(path, 0)?;
    let some = count(path, turns)?;
    Ok(none.zip(some).map(|(none, some)| some - none))
}

fn count(path: &Path, turns: usize) -> Result<Option<f64>, String> {
    let program = std::env::current_exe().map_err(said)?;
    let trace = path.with_extension("trace");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(program)
        .args(["serve", "turns"])
        .arg(path)
        .arg(turns.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let Ok(status) = status else { return Ok(None) };
    if !status.success() {
        return Err(format!("the traced process ended with {status}"));
    }
    let text = std::fs::read_to_string(&trace).map_err(said)?;
    // A call that another thread interrupts is told in two lines, of which one says so.
    let begun = text.lines().filter(|line| line.contains("sync(")).count();
    Ok(Some(begun as f64))
}

/// Makes turns on a database that has a thread already.
pub(crate) fn serve_turns(path: &str, turns: &str) -> Result<(), String> {
    let turns: usize = turns.parse().map_err(said)?;
    tokio::runtime::Runtime::new().map_err(said)?.block_on(async {
        let store = SqliteStore::open(path).await.map_err(said)?;
        for round in 0..turns {
            turn(&store, &thread("bench"), &format!("traced {round}")).await?;
        }
        Ok(())
    })
}
