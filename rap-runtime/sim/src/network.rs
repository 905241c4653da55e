//! What is on its way: a queue of happenings in time, with dice for what the network does to them.

use rap_core::{Millis, Settlement};
use rap_types::{CallId, CallbackMessage, ThreadId};
use serde_json::Value;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

/// Something that happens at a time.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// An invocation reaches its server. The answer goes back to the runtime's incarnation that sent it.
    Invocation { delivery: i64, life: u32, body: Value },
    /// A notice that a call was cancelled reaches the servers.
    Cancel { call: CallId },
    /// A notice that a thread was closed reaches the servers.
    ThreadClosed { thread: ThreadId },
    /// A delivery's answer, or its absence, reaches the runtime.
    Answer { delivery: i64, life: u32, answer: Answer },
    /// A server has done a call's work.
    WorkDone { call: CallId },
    /// A subscription emits its next event.
    Emit { call: CallId, n: u32 },
    /// A callback reaches the gateway, for the nth time.
    Callback { message: Box<CallbackMessage>, attempt: u32 },
    /// A worker's model has said all it says.
    ModelDone { worker: u64 },
    /// A person writes.
    Message { n: u32 },
    /// A person stops the root.
    Stop,
    /// A person has the root's history summarised.
    Compact,
    /// A person has the session's servers asked again.
    LookAgain,
    /// The servers were asked again, because a person wanted that at a time of the runtime's clock.
    LookedAgain { delivery: i64, life: u32, asked_at: i64 },
    /// A person has another model answer, for the nth time.
    Choose { n: u32 },
    /// A person has made up their mind about a question.
    Word { call: CallId },
    /// The answer to a question reaches its server.
    Chosen { delivery: i64, life: u32, call: CallId, selected: u64 },
    /// The model has written a summary.
    Summarised { job: u64 },
    /// The end of a delivery is written down after all: the store had failed.
    Settle { delivery: i64, life: u32, settlement: Settlement },
    /// The toolbox changes: a server has moved, or joins.
    Refresh,
    /// The clock of the machine jumps, forwards or back.
    ClockJumps { by: i64 },
    /// The runtime dies.
    Crash,
    /// The runtime dies, and is gone for hours or days.
    Outage { ms: i64 },
    /// The runtime starts again.
    Start,
    /// A callback that was answered before it was accepted is accepted.
    AcceptLate { message: Box<CallbackMessage>, life: u32 },
}

/// How a delivery ended, as the runtime sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 2xx.
    Taken,
    /// 4xx: final.
    Refused,
    /// Nothing came back; it may have arrived.
    Silence,
}

/// What is on its way, the earliest first; happenings of one time in the order in which they were sent.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Millis, u64)>>,
    waiting: HashMap<u64, T>,
    next: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), waiting: HashMap::new(), next: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, at: Millis, what: T) {
        self.next += 1;
        self.heap.push(Reverse((at, self.next)));
        self.waiting.insert(self.next, what);
    }

    pub(crate) fn next_at(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let Reverse((_, id)) = self.heap.pop()?;
        self.waiting.remove(&id)
    }
}
