//! The ledger: the tools' own list of what they did, one JSON object a line, each on disk before the tool
//! goes on. Nobody but the tools writes it, and nobody but the proof reads it.

use crate::failure::Failure;
use rap_types::{CallId, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// The ledger's name in the folder of the demo.
pub(crate) const FILE: &str = "ledger.jsonl";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// When, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// The call.
    pub(crate) call: CallId,
    /// The thread that called.
    pub(crate) thread: ThreadId,
    /// What was done.
    #[serde(flatten)]
    pub(crate) deed: Deed,
}

/// What a tool did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub(crate) enum Deed {
    /// It began to work.
    Started {
        /// The tool.
        tool: String,
        /// Its arguments.
        arguments: Value,
    },
    /// It was done, and this is what it answered.
    Ended {
        /// The answer.
        text: String,
    },
    /// It told an event of its subscription.
    Emitted {
        /// What happened.
        text: String,
    },
}

/// The ledger as a tool server writes it.
#[derive(Debug)]
pub(crate) struct Ledger(Mutex<File>);

impl Ledger {
    /// Opens the file, or makes it; lines are added at its end.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new().append(true).create(true).open(path).map_err(|e| {
            Failure::new(format!("cannot write the ledger {}: {e}", path.display()))
                .hint("give a file in a folder that you may write to")
        })?;
        Ok(Self(Mutex::new(file)))
    }

    /// Adds a line; when this returns it is on disk.
    pub(crate) fn write(&self, call: &CallId, thread: &ThreadId, deed: Deed) -> std::io::Result<()> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            at: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
            call: call.clone(),
            thread: thread.clone(),
            deed,
        };
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text)?;
        file.sync_data()
    }
}

/// Reads a ledger whole.
pub(crate) fn read(path: &Path) -> Result<Vec<Line>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::new(format!("cannot read the ledger {}: {e}", path.display())))?;
    text.lines()
        .enumerate()
        .map(|(n, line)| {
            serde_json::from_str(line).map_err(|e| {
                Failure::new(format!("line {} of the ledger {} is damaged: {e}", n + 1, path.display()))
            })
        })
        .collect()
}
