//! Watching a session: its committed events by number, and beside them what is live in this process.
//!
//! A watcher is a task that reads the store when it is rung for and writes into a small buffer. One that is slow
//! holds up nobody but itself: committed events wait in the store, chunks grow longer. One that reads nothing at all for
//! a while is told so and dropped; whatever it missed is in the store.

use crate::{HostError, Runtime, Watch, Watched, host::HostErrorKind};
use rap_core::Surface;
use rap_types::ThreadId;
use std::{collections::HashSet, convert::Infallible, time::Duration};
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio_stream::wrappers::ReceiverStream;

/// What a watcher may hold unread, in events.
const BUFFER: usize = 64;
/// How many events are read at once.
const BATCH: usize = 256;

pub(crate) async fn watch(runtime: &Runtime, session: &ThreadId, after: i64) -> Result<Watch, HostError> {
    if runtime.inner.store.session(session).await?.is_none() {
        return Err(unknown_session(session));
    }
    // One place more, for the last word.
    let (sender, receiver) = mpsc::channel(BUFFER + 1);
    let last = sender.clone().reserve_owned().await.expect("bug: the receiver is here");
    let (runtime, session) = (runtime.clone(), session.clone());
    tokio::spawn(async move {
        let stopping = runtime.inner.hub.stopping();
        let watched = sender.clone();
        let mut watcher = Watcher { sender, patience: runtime.inner.watch_patience, told: after };
        let ended = tokio::select! {
            biased;
            () = watched.closed() => Ended::Gone,
            () = stopping.cancelled() => Ended::Gone,
            ended = tell(&runtime, &session, &mut watcher) => ended,
        };
        let told = watcher.told;
        match ended {
            Ended::Gone => {}
            Ended::Failed(error) => drop(last.send(Err(error))),
            Ended::Slow => {
                tracing::info!(%session, told, "a watcher reads nothing and is dropped");
                let message = format!(
                    "nothing was read for {} s, so this watching ends; watch again after event {told}",
                    runtime.inner.watch_patience.as_secs()
                );
                drop(last.send(Err(HostError::new(HostErrorKind::Busy, message))));
            }
        }
    });
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// Why a watching ends.
enum Ended {
    /// Nobody watches any more.
    Gone,
    /// The watcher does not read.
    Slow,
    /// The store fails.
    Failed(HostError),
}

/// A watcher's end of the line.
struct Watcher {
    sender: mpsc::Sender<Result<Watched, HostError>>,
    patience: Duration,
    /// The number of the last event that it was given.
    told: i64,
}

impl Watcher {
    /// Gives the watcher something; waits for it as long as its patience lasts.
    async fn give(&mut self, watched: Watched) -> Result<(), Ended> {
        let number = match &watched {
            Watched::Committed(event) => Some(event.n),
            _ => None,
        };
        match self.sender.send_timeout(Ok(watched), self.patience).await {
            Ok(()) => {
                self.told = number.unwrap_or(self.told);
                Ok(())
            }
            Err(SendTimeoutError::Timeout(_)) => Err(Ended::Slow),
            Err(SendTimeoutError::Closed(_)) => Err(Ended::Gone),
        }
    }
}

pub(crate) fn unknown_session(session: &ThreadId) -> HostError {
    HostError::new(HostErrorKind::Unknown, format!("there is no session {session}; list them to find its id"))
}

/// Tells until the watcher is gone or too slow, or the store fails.
async fn tell(runtime: &Runtime, session: &ThreadId, watcher: &mut Watcher) -> Ended {
    match tell_all(runtime, session, watcher).await {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

async fn tell_all(runtime: &Runtime, session: &ThreadId, watcher: &mut Watcher) -> Result<Infallible, Ended> {
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
            let events = store.events(session, watcher.told, BATCH).await;
            let events = events.map_err(|error| Ended::Failed(error.into()))?;
            let more = events.len() == BATCH;
            for event in events {
                if matches!(event.event.what, Surface::Text { .. }) {
                    texts.insert(event.event.thread.clone());
                }
                watcher.give(Watched::Committed(event)).await?;
            }
            if !more {
                break;
            }
        }
        for watched in live.tell(moment, &texts) {
            watcher.give(watched).await?;
        }
        if !caught_up && texts.is_empty() {
            caught_up = true;
            watcher.give(Watched::CaughtUp).await?;
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
