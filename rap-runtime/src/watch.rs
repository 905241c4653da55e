//! Watching a session: its committed events by number, and beside them what is live in this process.
//!
//! A watcher is a task that reads the store when it is rung for and writes into a small buffer. One that is slow
//! holds up nobody but itself: committed events wait in the store, chunks grow longer.

use crate::{HostError, Runtime, Watch, Watched, host::HostErrorKind};
use rap_core::Surface;
use rap_types::ThreadId;
use std::collections::HashSet;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// What a watcher may hold unread, in events.
const BUFFER: usize = 64;
/// How many events are read at once.
const BATCH: usize = 256;

pub(crate) async fn watch(runtime: &Runtime, session: &ThreadId, after: i64) -> Result<Watch, HostError> {
    if runtime.inner.store.session(session).await?.is_none() {
        return Err(unknown_session(session));
    }
    let (sender, receiver) = mpsc::channel(BUFFER);
    let (runtime, session) = (runtime.clone(), session.clone());
    tokio::spawn(async move {
        let stopping = runtime.inner.hub.stopping();
        tokio::select! {
            biased;
            () = sender.closed() => {}
            () = stopping.cancelled() => {}
            () = tell(&runtime, &session, after, &sender) => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

pub(crate) fn unknown_session(session: &ThreadId) -> HostError {
    HostError::new(HostErrorKind::Unknown, format!("there is no session {session}; list them to find its id"))
}

/// Tells until the watcher is gone or the store fails.
async fn tell(
    runtime: &Runtime,
    session: &ThreadId,
    mut after: i64,
    sender: &mpsc::Sender<Result<Watched, HostError>>,
) {
    let (store, hub) = (&runtime.inner.store, &runtime.inner.hub);
    let mut changes = hub.changes();
    let mut live = hub.attach(session);
    let mut caught_up = false;
    loop {
        changes.mark_unchanged();
        // First looked at, last told: whatever was committed before a piece of text was streamed comes before it.
        let moment = live.look();
        let mut texts = HashSet::new();
        loop {
            let events = match store.events(session, after, BATCH).await {
                Ok(events) => events,
                Err(error) => {
                    let _ = sender.send(Err(error.into())).await;
                    return;
                }
            };
            let more = events.len() == BATCH;
            for event in events {
                after = event.n;
                if matches!(event.event.what, Surface::Text { .. }) {
                    texts.insert(event.event.thread.clone());
                }
                if sender.send(Ok(Watched::Committed(event))).await.is_err() {
                    return;
                }
            }
            if !more {
                break;
            }
        }
        for watched in live.tell(moment, &texts) {
            if sender.send(Ok(watched)).await.is_err() {
                return;
            }
        }
        if !caught_up && texts.is_empty() {
            caught_up = true;
            if sender.send(Ok(Watched::CaughtUp)).await.is_err() {
                return;
            }
        }
        if !texts.is_empty() {
            // A piece may have been held back.
            continue;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = live.changed() => {}
        }
    }
}
