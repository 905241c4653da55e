//! The calls that the server knows: those that run or are owed, and the last that are over, so that an
//! invocation which is sent again does its work once (INV-10).

use crate::call::CallInner;
use bytes::Bytes;
use rap_types::{CallId, HttpUrl, ThreadId};
use serde_json::{Map, Value};
use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
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

type Key = (ThreadId, CallId);

#[derive(Default)]
pub(crate) struct Book {
    threads: HashMap<ThreadId, HashMap<CallId, Entry>>,
    over: VecDeque<Key>,
    with_outcome: VecDeque<Key>,
    outcome_bytes: usize,
    open: usize,
    /// Calls that were cancelled before they came, and until when that is remembered.
    early: HashMap<Key, Instant>,
    early_order: VecDeque<Key>,
}

enum Entry {
    Open { call: Arc<CallInner>, print: u64 },
    Over { print: u64, outcome: Option<Outcome>, again: bool },
}

/// A result as it was sent, and where to.
#[derive(Clone)]
pub(crate) struct Outcome {
    pub(crate) url: HttpUrl,
    pub(crate) body: Bytes,
}

/// What the book knows of an invocation that comes in.
pub(crate) enum Known {
    /// Nothing: it is new.
    New,
    /// It runs, or its result is on the way.
    Open,
    /// It is over; its result, if it is still kept and not being delivered again already.
    Over(Option<Outcome>),
    /// The id was used by another call of the thread, which runs (`false`) or is over (`true`).
    Other(bool),
}

impl Book {
    pub(crate) fn find(&mut self, thread: &ThreadId, id: &CallId, print: u64) -> Known {
        let Some(entry) = self.threads.get_mut(thread).and_then(|calls| calls.get_mut(id)) else {
            return Known::New;
        };
        match entry {
            Entry::Open { print: known, .. } if *known != print => Known::Other(false),
            Entry::Open { .. } => Known::Open,
            Entry::Over { print: known, .. } if *known != print => Known::Other(true),
            Entry::Over { again: true, .. } => Known::Over(None),
            Entry::Over { outcome, again, .. } => {
                *again = outcome.is_some();
                Known::Over(outcome.clone())
            }
        }
    }

    pub(crate) fn open(&mut self, call: Arc<CallInner>, print: u64) {
        self.open += 1;
        let calls = self.threads.entry(call.thread.clone()).or_default();
        calls.insert(call.id.clone(), Entry::Open { call, print });
    }

    /// The thread's id as it is kept here, if it is: calls of one thread share it.
    pub(crate) fn kept(&self, thread: &ThreadId) -> Option<ThreadId> {
        self.threads.get_key_value(thread).map(|(kept, _)| kept.clone())
    }

    /// A call was cancelled. If it never came, it may still be on its way: it is remembered until then.
    pub(crate) fn cancelled(&mut self, thread: &ThreadId, id: &CallId, until: Instant) {
        if self.threads.get(thread).is_some_and(|calls| calls.contains_key(id)) {
            return;
        }
        let key = (thread.clone(), id.clone());
        if self.early.insert(key.clone(), until).is_none() {
            self.early_order.push_back(key);
        }
        if self.early_order.len() > EARLY_CANCELS
            && let Some(oldest) = self.early_order.pop_front()
        {
            self.early.remove(&oldest);
        }
    }

    /// Whether the call was cancelled before it came.
    pub(crate) fn take_cancelled(&mut self, thread: &ThreadId, id: &CallId, now: Instant) -> bool {
        if self.early.is_empty() {
            return false;
        }
        let key = (thread.clone(), id.clone());
        let Some(until) = self.early.remove(&key) else { return false };
        self.early_order.retain(|early| *early != key);
        now < until
    }

    /// The result was delivered again.
    pub(crate) fn delivered_again(&mut self, thread: &ThreadId, id: &CallId) {
        if let Some(Entry::Over { again, .. }) = self.threads.get_mut(thread).and_then(|c| c.get_mut(id)) {
            *again = false;
        }
    }

    /// The call is over: keeps what is needed to recognise it. Whether it was open until now.
    pub(crate) fn over(&mut self, call: &CallInner, outcome: Option<Bytes>, remembered: Remembered) -> bool {
        let key = (call.thread.clone(), call.id.clone());
        let Some(entry) = self.threads.get_mut(&key.0).and_then(|calls| calls.get_mut(&key.1)) else {
            return false;
        };
        let Entry::Open { print, .. } = entry else { return false };
        let outcome = outcome.map(|body| Outcome { url: call.callback_url.clone(), body });
        let bytes = outcome.as_ref().map_or(0, |o| o.body.len());
        *entry = Entry::Over { print: *print, outcome, again: false };
        self.open -= 1;
        self.outcome_bytes += bytes;
        if bytes > 0 {
            self.with_outcome.push_back(key.clone());
        }
        self.over.push_back(key);
        while self.outcome_bytes > remembered.result_bytes {
            let Some(oldest) = self.with_outcome.pop_front() else { break };
            self.forget_outcome(&oldest);
        }
        while self.over.len() > remembered.calls {
            let Some(oldest) = self.over.pop_front() else { break };
            self.forget_outcome(&oldest);
            if self.with_outcome.front() == Some(&oldest) {
                self.with_outcome.pop_front();
            }
            if let Some(calls) = self.threads.get_mut(&oldest.0) {
                calls.remove(&oldest.1);
                if calls.is_empty() {
                    self.threads.remove(&oldest.0);
                }
            }
        }
        true
    }

    fn forget_outcome(&mut self, key: &Key) {
        if let Some(Entry::Over { outcome, .. }) =
            self.threads.get_mut(&key.0).and_then(|calls| calls.get_mut(&key.1))
        {
            self.outcome_bytes -= outcome.take().map_or(0, |o| o.body.len());
        }
    }

    /// The open calls: all, those of a thread, or one.
    pub(crate) fn open_calls(&self, of: Option<(&ThreadId, Option<&CallId>)>) -> Vec<Arc<CallInner>> {
        let open = |entry: &Entry| match entry {
            Entry::Open { call, .. } => Some(call.clone()),
            Entry::Over { .. } => None,
        };
        match of {
            None => self.threads.values().flat_map(HashMap::values).filter_map(open).collect(),
            Some((thread, None)) => {
                self.threads.get(thread).into_iter().flat_map(HashMap::values).filter_map(open).collect()
            }
            Some((thread, Some(id))) => {
                self.threads.get(thread).and_then(|calls| calls.get(id)).and_then(open).into_iter().collect()
            }
        }
    }

    /// How many calls are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open
    }
}

/// A fingerprint of what is asked, so that an id that is used twice for different things is noticed.
pub(crate) fn fingerprint(operation: &str, arguments: &Map<String, Value>) -> u64 {
    let mut hasher = DefaultHasher::new();
    operation.hash(&mut hasher);
    arguments.hash(&mut hasher);
    hasher.finish()
}
