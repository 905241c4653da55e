//! The slice record: what a slice saw and decided, chained by hashes (P12).

use super::kit;
use crate::{
    Commit, DECISIONS_VERSION, InputId, ModelRequest, Moment, Session, SliceFacts, SliceRecord, Snapshot,
    TurnOutcome,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

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

    pub(crate) fn saw_window(&mut self, window: Option<u64>) {
        self.facts.window = window;
    }

    /// An empty record, for a commit that is about to be hashed.
    pub(crate) fn blank(&self) -> SliceRecord {
        SliceRecord {
            moment: self.moment,
            inputs: self.inputs.clone(),
            request: None,
            turn: None,
            instants: Vec::new(),
            decisions: DECISIONS_VERSION,
            facts: Some(self.facts.clone()),
            commit: String::new(),
            previous: self.previous.clone(),
            hash: String::new(),
        }
    }
}

/// Writes the record of a commit into it.
pub(crate) fn seal(
    commit: &mut Commit,
    session: &Arc<Session>,
    request: Option<&ModelRequest>,
    turn: Option<TurnOutcome>,
) {
    commit.record.request = request.map(|request| hash_request(request, session));
    commit.record.turn = turn;
    commit.record.commit = hash_commit(commit);
    commit.record.hash = hash_record(&commit.record);
}

/// The SHA-256 of a commit but for its record, in hex.
pub(crate) fn hash_commit(commit: &Commit) -> String {
    Hashing::of(commit)
}

/// The SHA-256 of a record without its own hash, in hex.
pub(crate) fn hash_record(record: &SliceRecord) -> String {
    Hashing::of(&SliceRecord { hash: String::new(), ..record.clone() })
}

/// What is the same for all requests of a session comes first.
fn beginning(request: &ModelRequest, session: &Arc<Session>) -> Hashing {
    let kit = kit::of(session);
    let mut hash = kit.hash.clone();
    if request.model != kit.model {
        hash.add(&request.model);
    }
    hash.add(&request.thread);
    hash
}

/// The history is its digest, so that the cost is the same for a history of any length.
fn hash_request(request: &ModelRequest, session: &Arc<Session>) -> String {
    let mut hash = beginning(request, session);
    // It is known: whoever made the request has seen to that.
    let digest = request.history.known_digest().unwrap_or_else(|| request.history.clone().digest());
    hash.sha.update(digest.as_bytes());
    hash.hex()
}

/// The hash of a request as it was made before histories had digests: of every entry.
pub(crate) fn hash_request_of_old(request: &ModelRequest, session: &Arc<Session>) -> String {
    let mut hash = beginning(request, session);
    request.history.iter().for_each(|entry| hash.add(&**entry));
    hash.hex()
}

/// Values are hashed whole: piece by piece, as they are serialised, costs several times as much.
#[derive(Clone, Default)]
pub(super) struct Hashing {
    sha: Sha256,
    json: Vec<u8>,
}

impl Hashing {
    fn of<T: serde::Serialize>(value: &T) -> String {
        let mut hash = Self::default();
        hash.add(value);
        hash.hex()
    }

    pub(super) fn add<T: serde::Serialize>(&mut self, value: &T) {
        self.json.clear();
        serde_json::to_writer(&mut self.json, value).expect("bug: records are plain data");
        self.sha.update(&self.json);
    }

    fn hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.sha.finalize())
    }
}
