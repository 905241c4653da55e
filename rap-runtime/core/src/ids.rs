//! Ids that follow from what they name: the same decision taken twice names the same thing (P6).

use rap_types::{CallId, ThreadId};
use sha2::{Digest, Sha256};

/// The wire id of a call: from its thread, the number of its message and its index in that message.
/// 20 characters of lower-case base32 (100 bits), unique everywhere.
pub fn derive_call_id(thread: &ThreadId, message: u64, index: usize) -> CallId {
    CallId::new(derive(&["call", thread.as_str(), &message.to_string(), &index.to_string()]))
        .expect("bug: a derived id has 20 characters")
}

/// The id of a child thread: from its parent and what made it (a spawning call's id, an event's input id).
pub fn derive_thread_id(parent: &ThreadId, cause: &str) -> ThreadId {
    ThreadId::new(derive(&["thread", parent.as_str(), cause])).expect("bug: a derived id has 20 characters")
}

fn derive(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut text = data_encoding::BASE32_NOPAD.encode(&hash.finalize()).to_ascii_lowercase();
    text.truncate(20);
    text
}
