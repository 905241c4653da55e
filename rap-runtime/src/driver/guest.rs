//! The child's side of a slice in a process of its own: run the slices of the lent thread, send what they commit, say
//! what happens, and end. What cannot be delivered at the first try is left to the owner at once, so that it is not held up
//! by the completions that follow.

use super::{
    completion::Patience,
    elsewhere::{Errand, Heard, Told},
    outbox::Senders,
    slice::Streak,
};
use crate::{Runtime, clock};
use rap_core::{Store, StoreError};
use rap_store_sqlite::{Lease, SqliteStore};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, Lines},
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The errand of a process that was started to run slices of one thread: what it reads first.
///
/// ```no_run
/// # async fn slice(builder: impl Fn() -> rap_runtime::RuntimeBuilder) -> Result<(), Box<dyn std::error::Error>> {
/// use rap_runtime::{SliceErrand, sqlite::SqliteStore};
/// use std::sync::Arc;
///
/// let errand = SliceErrand::read(tokio::io::BufReader::new(tokio::io::stdin())).await?;
/// let store = Arc::new(SqliteStore::join("agent.db", errand.lease().clone()).await?);
/// let runtime = builder().shared_store(store.clone()).build().await?; // models, keys and public URL as ever
/// runtime.run_slice(errand, &store, tokio::io::stdout()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SliceErrand<R> {
    errand: Errand,
    lines: Lines<R>,
}

impl<R: AsyncBufRead + Unpin> SliceErrand<R> {
    /// Reads the errand from stdin.
    ///
    /// # Errors
    /// When stdin ends, or holds something else.
    pub async fn read(input: R) -> io::Result<Self> {
        let mut lines = input.lines();
        let line = lines.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let errand: Errand = serde_json::from_str(&line)?;
        clock::goes_on_from(errand.now);
        Ok(Self { errand, lines })
    }

    /// What was lent.
    pub fn lease(&self) -> &Lease {
        &self.errand.lease
    }
}

impl Runtime {
    /// Runs the slices of a lent thread, sends what they put into the outbox, once each, and returns: the whole work of
    /// a process that [`SliceProcesses`](crate::SliceProcesses) has started. What could not be delivered at the first
    /// try is left to the owner of the database. When the errand's input ends, everything stops, and nothing more is
    /// committed.
    ///
    /// # Errors
    /// When the parent cannot be talked to.
    pub async fn run_slice<R: AsyncBufRead + Unpin>(
        &self,
        errand: SliceErrand<R>,
        store: &SqliteStore,
        mut output: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let SliceErrand { errand: Errand { lease, put_off, beat_ms, given_up, .. }, mut lines } = errand;
        let (thread, ending) = (lease.thread.clone(), CancellationToken::new());
        let patience = Arc::new(Patience::default());
        patience.resume(&thread, put_off);
        let place = Arc::new(Semaphore::new(1));
        let place = place.try_acquire_owned().expect("bug: a fresh semaphore has room");
        let (mut changes, mut ends) = (self.inner.hub.changes(), self.inner.hub.ends());
        let senders = Arc::new(Senders::new(self.clone(), ending.clone(), true));
        let mut sending = JoinSet::new();
        let streak =
            Streak { runtime: self.clone(), ending: ending.clone(), patience: patience.clone(), given_up };
        let (every, pulse) = (Duration::from_millis(beat_ms.max(1)), Arc::new(Notify::new()));
        let mut slices = tokio::spawn(beating(streak.run(lease.claim(), place), every, pulse.clone()));
        let failed = loop {
            tokio::select! {
                biased;
                ended = &mut slices => break ended.is_err(),
                () = pulse.notified() => tell(&mut output, &Told::Alive).await?,
                () = changed(&mut changes, store) => {
                    tell(&mut output, &Told::Changed).await?;
                    take(&senders, &mut sending).await;
                    leave(&mut output, store).await?;
                }
                Ok(ended) = ends.recv() => if !ended.heard {
                    tell(&mut output, &Told::Cancelled(ended)).await?;
                },
                line = lines.next_line(), if !ending.is_cancelled() => self.hear(&thread, line, &ending),
            }
        };
        if !ending.is_cancelled() {
            take(&senders, &mut sending).await;
            leave(&mut output, store).await?;
        }
        while let Ok(ended) = ends.try_recv() {
            if !ended.heard {
                tell(&mut output, &Told::Cancelled(ended)).await?;
            }
        }
        let ended = Told::Ended { holds: store.in_hand(), put_off: patience.count(&thread), failed };
        tell(&mut output, &ended).await?;
        let mut beats = tokio::time::interval(every);
        loop {
            tokio::select! {
                biased;
                sent = sending.join_next() => if sent.is_none() { return Ok(()) },
                _ = beats.tick() => tell(&mut output, &Told::Alive).await?,
                () = changed(&mut changes, store) => tell(&mut output, &Told::Changed).await?,
                line = lines.next_line(), if !ending.is_cancelled() => self.hear(&thread, line, &ending),
            }
        }
    }

    fn hear(
        &self,
        thread: &rap_types::ThreadId,
        line: io::Result<Option<String>>,
        ending: &CancellationToken,
    ) {
        match line.ok().flatten().map(|line| serde_json::from_str::<Heard>(&line)) {
            Some(Ok(heard)) if !heard.stop => self.inner.hub.hear(thread, heard.news),
            _ => ending.cancel(),
        }
    }
}

/// Does the work, and says from inside that it goes on: where the work does not come back from a piece of code, nobody
/// says so.
async fn beating<T>(work: impl Future<Output = T>, every: Duration, pulse: Arc<Notify>) -> T {
    let (mut work, mut beats) = (std::pin::pin!(work), tokio::time::interval(every));
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = beats.tick() => pulse.notify_one(),
        }
    }
}

/// Resolves when rows have changed: what was decided, and what of it is on the disk.
async fn changed(changes: &mut watch::Receiver<u64>, store: &SqliteStore) {
    tokio::select! {
        changed = changes.changed() => if changed.is_err() { std::future::pending::<()>().await },
        () = store.changed() => {}
    }
}

/// Leaves to the owner what is not sent here.
async fn leave(output: &mut (impl AsyncWrite + Unpin), store: &SqliteStore) -> io::Result<()> {
    match store.leave() {
        left if left.is_empty() => Ok(()),
        left => tell(output, &Told::Left(left)).await,
    }
}

/// Sends what is due and was not sent before.
async fn take(senders: &Arc<Senders>, sending: &mut JoinSet<()>) {
    match senders.take(clock::now()).await {
        Ok(taken) => {
            for delivery in taken {
                let senders = senders.clone();
                sending.spawn(async move {
                    senders.send(delivery).await;
                });
            }
        }
        Err(StoreError::Fenced) => {}
        Err(error) => tracing::error!(%error, "the outbox cannot be read; its owner sends what is in it"),
    }
}

async fn tell(output: &mut (impl AsyncWrite + Unpin), told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    output.write_all(&line).await?;
    output.flush().await
}
