//! The slice record: what a slice saw and decided, chained by hashes (P12).

use crate::{
    Commit, DECISIONS_VERSION, InputId, ModelRequest, Moment, SliceFacts, SliceRecord, Snapshot, TurnOutcome,
};
use sha2::{Digest, Sha256};
use std::io;

/// What a record takes over from the slice's beginning.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    moment: Moment,
    inputs: Vec<InputId>,
    facts: SliceFacts,
    previous: String,
}

impl Beginning {
    pub(crate) fn of(snapshot: &Snapshot, moment: Moment) -> Self {
        Self {
            moment,
            inputs: snapshot.inputs.iter().map(|input| input.id.clone()).collect(),
            facts: SliceFacts::of(snapshot),
            previous: snapshot.thread.last_record.clone(),
        }
    }

    /// An empty record, for a commit that is about to be hashed.
    pub(crate) fn blank(&self) -> SliceRecord {
        SliceRecord {
            moment: self.moment,
            inputs: self.inputs.clone(),
            request: None,
            turn: None,
            decisions: DECISIONS_VERSION,
            facts: Some(self.facts.clone()),
            commit: String::new(),
            previous: self.previous.clone(),
            hash: String::new(),
        }
    }
}

/// Writes the record of a commit into it.
pub(crate) fn seal(commit: &mut Commit, request: Option<&ModelRequest>, turn: Option<TurnOutcome>) {
    commit.record.request = request.map(hash_request);
    commit.record.turn = turn;
    commit.record.commit = hash_commit(commit);
    commit.record.hash = hash_record(&commit.record);
}

/// The SHA-256 of a commit but for its record, in hex.
pub(crate) fn hash_commit(commit: &Commit) -> String {
    let mut hash = Hashing(Sha256::new());
    write(&mut hash, commit);
    hash.hex()
}

/// The SHA-256 of a record without its own hash, in hex.
pub(crate) fn hash_record(record: &SliceRecord) -> String {
    let mut hash = Hashing(Sha256::new());
    write(&mut hash, &SliceRecord { hash: String::new(), ..record.clone() });
    hash.hex()
}

fn hash_request(request: &ModelRequest) -> String {
    let mut hash = Hashing(Sha256::new());
    write(&mut hash, &(&request.thread, &request.model, &*request.system));
    for tool in request.tools.iter() {
        write(&mut hash, tool);
    }
    for entry in &request.history {
        write(&mut hash, &**entry);
    }
    hash.hex()
}

fn write<T: serde::Serialize>(hash: &mut Hashing, value: &T) {
    serde_json::to_writer(&mut *hash, value).expect("bug: records are plain data, and hashing never fails");
}

struct Hashing(Sha256);

impl Hashing {
    fn hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0.finalize())
    }
}

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
