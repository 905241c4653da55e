//! The calls that the server knows: those that run or are owed, and the last that are over, so that an
//! invocation which is sent again does its work once (INV-10).
//!
//! Every invocation and every end of a call wants the one lock around it, so nothing large is made, copied or given
//! back under it.

use crate::{
    call::CallInner,
    past::{Block, Past, Remembered},
};
use bytes::Bytes;
use rap_types::{CallId, ThreadId};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    sync::Arc,
};
use tokio::time::Instant;

/// How many cancellations of calls that were never seen are remembered; the oldest go first.
const EARLY_CANCELS: usize = 10_000;

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

impl Key {
    /// As good as any hash of it.
    pub(crate) fn number(self) -> u64 {
        self.thread ^ self.call
    }
}

impl Keys {
    pub(crate) fn of(&self, thread: &ThreadId, call: &CallId) -> Key {
        Key { thread: self.of_thread(thread), call: self.calls.hash_one(call.as_str()) }
    }

    pub(crate) fn of_thread(&self, thread: &ThreadId) -> u64 {
        self.threads.hash_one(thread.as_str())
    }
}

#[derive(Default)]
pub(crate) struct Book {
    open: BTreeMap<Key, Open>,
    over: Past,
    /// Calls that were cancelled before they came, and until when that is remembered.
    early: HashMap<Key, Instant>,
    early_order: VecDeque<Key>,
}

struct Open {
    call: Arc<CallInner>,
    print: u64,
}

/// What the book knows of an invocation that came before.
pub(crate) enum Known {
    /// It runs, or its result is on the way.
    Open(Arc<CallInner>),
    /// It is over.
    Over,
    /// The id was used by another call of the thread, which runs (`false`) or is over (`true`).
    Other(bool),
}

impl Book {
    /// Nothing where the invocation is new.
    pub(crate) fn find(&self, key: Key, print: u64) -> Option<Known> {
        if let Some(open) = self.open.get(&key) {
            let same = open.print == print;
            return Some(if same { Known::Open(open.call.clone()) } else { Known::Other(false) });
        }
        let over = self.over.find(key)?;
        Some(if over == print { Known::Over } else { Known::Other(true) })
    }

    /// The result of a call that is over, if it is still kept.
    pub(crate) fn outcome(&self, key: Key) -> Option<Bytes> {
        self.over.result(key)
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
        if self.open.contains_key(&key) || self.over.find(key).is_some() {
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

    /// The call is over: keeps what is needed to recognise it, and its outcome. None if it was not open; else what was
    /// forgotten for it, to be dropped when nobody waits.
    pub(crate) fn over(&mut self, key: Key, outcome: Option<&Bytes>, room: Remembered) -> Option<Vec<Block>> {
        let open = self.open.remove(&key)?;
        Some(self.over.push(key, open.print, outcome, room))
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
