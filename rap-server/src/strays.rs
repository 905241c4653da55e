//! Answers to invocations that no call in work stands behind: the outcome of a call that is over, delivered again
//! because its invocation was sent again (INV-10), and the error of an id that was used twice (INV-03).

use crate::{
    book::{Key, Known},
    call::{CallInner, What},
    engine::{Engine, json},
    letters::DeadLetter,
};
use bytes::Bytes;
use rap_types::{CallbackMessage, HttpUrl, ToolResult};
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
    /// An invocation came whose id is known.
    pub(crate) fn came_again(self: &Arc<Self>, call: &CallInner, known: Known, print: u64) {
        match known {
            // Whoever sends a call again knows best where its outcome is awaited.
            Known::Open(open) => open.send_to(call.callback_url.clone()),
            Known::Over => self.deliver_again(call, print),
            Known::Other(over) => self.id_used_twice(call, print, over),
        }
    }

    /// The outcome of a call that is over, once more: to the URL that was given last.
    fn deliver_again(self: &Arc<Self>, call: &CallInner, print: u64) {
        if !self.outbox.strays.may_begin(&(call.key, print), &call.callback_url) {
            return;
        }
        // It may have been forgotten.
        if let Some(body) = self.outcome(call.key) {
            self.send_stray(call, print, body);
        }
    }

    /// The id of a call was used again for something else (INV-03). While the first runs it keeps the id;
    /// afterwards the second is told.
    fn id_used_twice(self: &Arc<Self>, call: &CallInner, print: u64, over: bool) {
        tracing::warn!(thread = ?call.thread, call = ?call.id, "the id of a call was used twice");
        if !over || !self.outbox.strays.may_begin(&(call.key, print), &call.callback_url) {
            return;
        }
        let text = "the id of this call was used before in its thread, for another call; give each call an id of its own (INV-03)";
        let result = ToolResult::error(call.thread.clone(), call.id.clone(), text)
            .with_call_id(call.provider_call.clone());
        self.send_stray(call, print, json(&CallbackMessage::ToolResult(result)));
    }

    fn send_stray(self: &Arc<Self>, call: &CallInner, print: u64, body: Bytes) {
        let letter = DeadLetter {
            number: 0,
            thread: call.thread.clone(),
            call: call.id.clone(),
            what: What::Result,
            url: call.callback_url.clone(),
            body,
            trace: call.trace.clone(),
            attempts: 0,
            reason: "the server shut down before it was delivered".to_owned(),
        };
        let id = (call.key, print);
        let replaced = self.outbox.strays.begin(id, letter.clone());
        let underway = Underway { engine: self.clone(), id, replaced };
        tokio::spawn(async move {
            tokio::select! {
                () = underway.replaced.cancelled() => {}
                () = underway.engine.outbox.deliver_alone(letter) => {}
            }
        });
    }
}
