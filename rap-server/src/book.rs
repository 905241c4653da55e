//! The calls that the server knows: those that run or are owed, and the last that are over, so that an
//! invocation which is sent again does its work once (INV-10).
//!
//! There may be a hundred thousand of those that are over. Each is kept in as few pieces as can be, under a number
//! in the place of its names: memory that was last touched a hundred thousand calls ago is slow to come back.

use crate::call::CallInner;
use bytes::Bytes;
use rap_types::{CallId, ThreadId};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher, RandomState},
    sync::Arc,
};
use tokio::time::Instant;

/// How many cancellations of calls that were never seen are remembered; the oldest go first.
const EARLY_CANCELS: usize = 10_000;

/// How much is kept of calls that are over; the oldest go first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remembered {
    pub(crate) calls: usize,
    /// Of results, for delivering them again.
    pub(crate) result_bytes: usize,
}

/// A call of a thread, by numbers that nobody can choose: they are made with secrets of this process, 64 bits for
/// the thread and 64 for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    thread: u64,
    call: u64,
}

/// Makes keys.
#[derive(Default)]
pub(crate) struct Keys {
    threads: RandomState,
    calls: RandomState,
}

impl Keys {
    pub(crate) fn of(&self, thread: &ThreadId, call: &CallId) -> Key {
        Key { thread: self.of_thread(thread), call: self.calls.hash_one(call.as_str()) }
    }

    pub(crate) fn of_thread(&self, thread: &ThreadId) -> u64 {
        self.threads.hash_one(thread.as_str())
    }
}

/// Keys are random as they are.
#[derive(Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 ^= number;
    }
}

#[derive(Default)]
pub(crate) struct Book {
    open: BTreeMap<Key, Open>,
    over: HashMap<Key, Over, BuildHasherDefault<AsItIs>>,
    /// Those that are over, the oldest first.
    order: VecDeque<Key>,
    /// So many of the oldest have no outcome any more.
    without_outcome: usize,
    outcome_bytes: usize,
    /// Calls that were cancelled before they came, and until when that is remembered.
    early: HashMap<Key, Instant>,
    early_order: VecDeque<Key>,
}

struct Open {
    call: Arc<CallInner>,
    print: u64,
}

struct Over {
    print: u64,
    outcome: Option<Outcome>,
}

/// A result as it was sent, in one piece.
pub(crate) struct Outcome(Box<[u8]>);

impl Outcome {
    pub(crate) fn new(body: &[u8]) -> Self {
        Self(body.into())
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// What the book knows of an invocation that comes in.
pub(crate) enum Known {
    /// Nothing: it is new.
    New,
    /// It runs, or its result is on the way.
    Open(Arc<CallInner>),
    /// It is over.
    Over,
    /// The id was used by another call of the thread, which runs (`false`) or is over (`true`).
    Other(bool),
}

impl Book {
    pub(crate) fn find(&self, key: Key, print: u64) -> Known {
        if let Some(open) = self.open.get(&key) {
            return if open.print == print { Known::Open(open.call.clone()) } else { Known::Other(false) };
        }
        match self.over.get(&key) {
            None => Known::New,
            Some(over) if over.print != print => Known::Other(true),
            Some(_) => Known::Over,
        }
    }

    /// The result of a call that is over, if it is still kept.
    pub(crate) fn outcome(&self, key: Key) -> Option<Bytes> {
        let outcome = self.over.get(&key)?.outcome.as_ref()?;
        Some(Bytes::copy_from_slice(&outcome.0))
    }

    pub(crate) fn open(&mut self, call: Arc<CallInner>, print: u64) {
        self.open.insert(call.key, Open { call, print });
    }

    /// The thread's id as it is kept here, if it is: open calls of one thread share it.
    pub(crate) fn kept(&self, thread: &ThreadId, key: Key) -> Option<ThreadId> {
        self.of_thread(key.thread).next().map(|open| open.call.thread.clone()).filter(|kept| kept == thread)
    }

    fn of_thread(&self, thread: u64) -> impl Iterator<Item = &Open> {
        let all = Key { thread, call: 0 }..=Key { thread, call: u64::MAX };
        self.open.range(all).map(|(_, open)| open)
    }

    /// A call was cancelled. If it never came, it may still be on its way: it is remembered until then.
    pub(crate) fn cancelled(&mut self, key: Key, until: Instant) {
        if self.open.contains_key(&key) || self.over.contains_key(&key) {
            return;
        }
        if self.early.insert(key, until).is_none() {
            self.early_order.push_back(key);
        }
        if self.early_order.len() > EARLY_CANCELS
            && let Some(oldest) = self.early_order.pop_front()
        {
            self.early.remove(&oldest);
        }
    }

    /// Whether the call was cancelled before it came.
    pub(crate) fn take_cancelled(&mut self, key: Key, now: Instant) -> bool {
        if self.early.is_empty() {
            return false;
        }
        let Some(until) = self.early.remove(&key) else { return false };
        self.early_order.retain(|early| *early != key);
        now < until
    }

    /// The call is over: keeps what is needed to recognise it. None if it was not open; else what was forgotten for
    /// it, to be dropped when nobody waits.
    pub(crate) fn over(
        &mut self,
        key: Key,
        outcome: Option<Outcome>,
        remembered: Remembered,
    ) -> Option<Vec<Outcome>> {
        let open = self.open.remove(&key)?;
        self.outcome_bytes += outcome.as_ref().map_or(0, Outcome::bytes);
        self.over.insert(key, Over { print: open.print, outcome });
        self.order.push_back(key);
        let mut forgotten = Vec::new();
        while self.order.len() > remembered.calls
            && let Some(oldest) = self.order.pop_front()
        {
            self.without_outcome = self.without_outcome.saturating_sub(1);
            forgotten.extend(self.over.remove(&oldest).and_then(|over| self.uncount(over.outcome)));
        }
        while self.outcome_bytes > remembered.result_bytes
            && let Some(oldest) = self.order.get(self.without_outcome)
        {
            self.without_outcome += 1;
            let outcome = self.over.get_mut(oldest).and_then(|over| over.outcome.take());
            forgotten.extend(self.uncount(outcome));
        }
        Some(forgotten)
    }

    fn uncount(&mut self, outcome: Option<Outcome>) -> Option<Outcome> {
        self.outcome_bytes -= outcome.as_ref().map_or(0, Outcome::bytes);
        outcome
    }

    /// All open calls.
    pub(crate) fn open_calls(&self) -> Vec<Arc<CallInner>> {
        self.open.values().map(|open| open.call.clone()).collect()
    }

    /// The open calls of a thread.
    pub(crate) fn open_calls_of(&self, thread: &ThreadId, number: u64) -> Vec<Arc<CallInner>> {
        let of = self.of_thread(number).filter(|open| open.call.thread == *thread);
        of.map(|open| open.call.clone()).collect()
    }

    /// An open call.
    pub(crate) fn open_call(&self, key: Key) -> Option<Arc<CallInner>> {
        self.open.get(&key).map(|open| open.call.clone())
    }

    #[cfg(test)]
    pub(crate) fn kept_calls(&self) -> usize {
        self.over.len()
    }

    /// How many calls are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }
}

/// A fingerprint of what is asked, so that an id that is used twice for different things is noticed.
pub(crate) fn fingerprint(operation: &str, arguments: &Map<String, Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    operation.hash(&mut hasher);
    arguments.hash(&mut hasher);
    hasher.finish()
}
