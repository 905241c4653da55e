//! Answers to invocations that no call in work stands behind: the outcome of a call that is over, delivered again
//! because its invocation was sent again (INV-10), and the error of an id that was used twice (INV-03).

use crate::{
    book::Key,
    call::What,
    engine::{Engine, json},
    letters::DeadLetter,
    trace::Trace,
};
use bytes::Bytes;
use rap_types::{CallbackMessage, HttpUrl, Invocation, ToolResult};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// How many may be on their way at once; who is left out is answered when it sends again.
const STRAYS: usize = 1000;

/// A call, and the fingerprint of what was asked.
type Id = (Key, u64);

/// Those that are on their way.
#[derive(Default)]
pub(crate) struct Strays(Mutex<HashMap<Id, Stray>>);

struct Stray {
    letter: DeadLetter,
    /// Cancelled when another goes in its place.
    replaced: CancellationToken,
}

impl Strays {
    fn map(&self) -> MutexGuard<'_, HashMap<Id, Stray>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are on their way.
    pub(crate) fn count(&self) -> usize {
        self.map().len()
    }

    /// Whether one may begin, to this URL: not if one is on its way there. One that is on its way elsewhere makes
    /// room, the newest URL wins.
    fn may_begin(&self, id: &Id, url: &HttpUrl) -> bool {
        let map = self.map();
        map.get(id).map_or(map.len() < STRAYS, |underway| underway.letter.url != *url)
    }

    fn begin(&self, id: Id, letter: DeadLetter) -> CancellationToken {
        let replaced = CancellationToken::new();
        let stray = Stray { letter, replaced: replaced.clone() };
        let mut map = self.map();
        if let Some(before) = map.insert(id, stray) {
            before.replaced.cancel();
        }
        drop(map);
        replaced
    }

    /// What is on its way, to be kept by somebody else.
    pub(crate) fn take_all(&self) -> Vec<DeadLetter> {
        let all = std::mem::take(&mut *self.map());
        let take = |stray: Stray| {
            stray.replaced.cancel();
            stray.letter
        };
        all.into_values().map(take).collect()
    }
}

/// One on its way; dropped, it is no longer.
struct Underway {
    engine: Arc<Engine>,
    id: Id,
    replaced: CancellationToken,
}

impl Drop for Underway {
    fn drop(&mut self) {
        {
            // One that replaces this one does so, and says so, under the same lock.
            let mut map = self.engine.outbox.strays.map();
            if !self.replaced.is_cancelled() {
                map.remove(&self.id);
            }
        }
        self.engine.done().notify_waiters();
    }
}

impl Engine {
    /// The outcome of a call that is over, once more: to the URL that was given last.
    pub(crate) fn deliver_again(
        self: &Arc<Self>,
        invocation: &Invocation,
        key: Key,
        print: u64,
        trace: Option<Box<Trace>>,
    ) {
        if !self.outbox.strays.may_begin(&(key, print), &invocation.callback_url) {
            return;
        }
        // It may have been forgotten.
        if let Some(body) = self.outcome(key) {
            self.send_stray(invocation, (key, print), body, trace);
        }
    }

    /// The id of a call was used again for something else (INV-03). While the first runs it keeps the id;
    /// afterwards the second is told.
    pub(crate) fn id_used_twice(
        self: &Arc<Self>,
        invocation: &Invocation,
        key: Key,
        print: u64,
        over: bool,
        trace: Option<Box<Trace>>,
    ) {
        tracing::warn!(thread = ?invocation.group_id, call = ?invocation.id, "the id of a call was used twice");
        if !over || !self.outbox.strays.may_begin(&(key, print), &invocation.callback_url) {
            return;
        }
        let text = "the id of this call was used before in its thread, for another call; give each call an id of its own (INV-03)";
        let result = ToolResult::error(invocation.group_id.clone(), invocation.id.clone(), text)
            .with_call_id(invocation.call_id.clone());
        self.send_stray(invocation, (key, print), json(&CallbackMessage::ToolResult(result)), trace);
    }

    fn send_stray(self: &Arc<Self>, invocation: &Invocation, id: Id, body: Bytes, trace: Option<Box<Trace>>) {
        let letter = DeadLetter {
            number: 0,
            thread: invocation.group_id.clone(),
            call: invocation.id.clone(),
            what: What::Result,
            url: invocation.callback_url.clone(),
            body,
            attempts: 0,
            reason: "the server shut down before it was delivered".to_owned(),
        };
        let replaced = self.outbox.strays.begin(id, letter.clone());
        let underway = Underway { engine: self.clone(), id, replaced };
        tokio::spawn(async move {
            tokio::select! {
                () = underway.replaced.cancelled() => {}
                () = underway.engine.outbox.deliver_alone(letter, trace.as_deref()) => {}
            }
        });
    }
}
