//! The slice record: what a slice saw and decided, chained by hashes (P12).

use super::Draft;
use crate::{DECISIONS_VERSION, ModelRequest, SliceRecord, TurnOutcome};
use sha2::{Digest, Sha256};
use std::io;

pub(crate) fn record(
    draft: &Draft,
    request: Option<&ModelRequest>,
    turn: Option<TurnOutcome>,
) -> SliceRecord {
    let mut record = SliceRecord {
        moment: draft.moment,
        inputs: draft.snapshot.inputs.iter().map(|input| input.id.clone()).collect(),
        request: request.map(hash_request),
        turn,
        decisions: DECISIONS_VERSION,
        previous: draft.snapshot.thread.last_record.clone(),
        hash: String::new(),
    };
    let mut hash = Hashing(Sha256::new());
    write(&mut hash, &record);
    record.hash = hash.hex();
    record
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
