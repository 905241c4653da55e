//! Slices in processes of their own: the owner of the database claims a thread, lends it to a child process, passes
//! on what a person does meanwhile, and gives the claim back when the child says that it is done.
//!
//! The two talk in lines of JSON: the lease and then [`News`] on the child's stdin, [`Told`] on its stdout. The end of
//! stdin means stop, so that a child never outlives its parent by much, however that ended.

use super::completion::Patience;
use crate::{
    Runtime,
    hub::{Hub, News},
};
use rap_core::{Claim, Store, StoreError};
use rap_store_sqlite::{Lease, SqliteStore};
use serde::{Deserialize, Serialize};
use std::{process::Stdio, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::OwnedSemaphorePermit,
};
use tokio_util::sync::CancellationToken;

/// How long a thread is left alone after its process failed, so that one that always fails does not spin.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How to run each slice in a process of its own: see [`RuntimeBuilder::slice_processes`](crate::RuntimeBuilder).
///
/// The program must call [`Runtime::run_slice`](crate::Runtime::run_slice) with a store that was
/// [joined](SqliteStore::join), and with the same models, keys and public URL.
#[derive(Clone)]
pub struct SliceProcesses {
    store: Arc<SqliteStore>,
    program: Arc<dyn Fn() -> std::process::Command + Send + Sync>,
}

impl std::fmt::Debug for SliceProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SliceProcesses").finish_non_exhaustive()
    }
}

/// The first line that a child reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) lease: Lease,
    /// How often the thread's completion was put off to a later time.
    pub(crate) put_off: u32,
}

/// A line that a child writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// Rows have changed.
    Changed,
    /// It runs no more slices and takes no more requests.
    Ended {
        /// The requests that it still sends.
        holds: Vec<i64>,
        put_off: u32,
        /// A slice could not be made.
        failed: bool,
    },
}

impl SliceProcesses {
    /// Slices on this store by processes of this program. Its arguments must lead to
    /// [`Runtime::run_slice`](crate::Runtime::run_slice); stdin and stdout are taken over, stderr is where it logs.
    pub fn new(
        store: Arc<SqliteStore>,
        program: impl Fn() -> std::process::Command + Send + Sync + 'static,
    ) -> Self {
        Self { store, program: Arc::new(program) }
    }

    /// Has slices of a claimed thread run, and gives the claim back. Returns when the process is gone.
    pub(super) async fn run(
        &self,
        claim: Claim,
        place: OwnedSemaphorePermit,
        runtime: &Runtime,
        patience: &Patience,
        ending: &CancellationToken,
    ) {
        let hub = &runtime.inner.hub;
        let signals = hub.slice_begins(&claim.thread);
        let lease = match self.store.lend(&claim).await {
            Ok(lease) => lease,
            Err(error) => {
                if !matches!(error, StoreError::Fenced) {
                    tracing::error!(thread = %claim.thread, %error, "a thread could not be lent");
                }
                return self.release(claim, Some(ending)).await;
            }
        };
        signals.below(&lease.ancestors);
        // The process that runs the slice is gone before a server that is away has answered.
        let session = lease.ancestors.first().unwrap_or(&lease.thread);
        if let Ok(Some(session)) = runtime.inner.store.session(session).await {
            runtime.inner.servers.session_runs(&session);
        }
        let errand = Errand { lease: lease.clone(), put_off: patience.count(&claim.thread) };
        let mut running = Running { holds: None, failed: false };
        match self.start(&errand).await {
            Ok((mut child, mut stdin)) => {
                let pid = child.id().unwrap_or_default();
                tracing::info!(thread = %claim.thread, pid, "a slice process runs");
                let talk = running.talk(&mut child, &mut stdin, (hub, &signals), (patience, &claim), ending);
                if let Err(error) = talk.await {
                    tracing::warn!(pid, %error, "a slice process cannot be talked to");
                }
                if running.holds.is_none() {
                    // Killed, or it never began: nothing of it is in the outbox but what it committed.
                    drop(stdin);
                    let _ = child.kill().await;
                    running.failed = !ending.is_cancelled();
                } else {
                    self.store.end_slices(&lease, running.holds.as_deref().unwrap_or_default());
                    hub.ring();
                    drop(signals);
                    let failed = running.failed.then_some(ending);
                    drop(place);
                    self.release(claim, failed).await;
                    hub.ring();
                    // It sends what it still holds; asked to stop, it stops.
                    tokio::select! {
                        _ = child.wait() => {}
                        () = ending.cancelled() => {
                            drop(stdin);
                            let _ = child.wait().await;
                        }
                    }
                    self.store.end_sending(running.holds.as_deref().unwrap_or_default());
                    hub.ring();
                    return;
                }
            }
            Err(error) => {
                tracing::error!(thread = %claim.thread, %error, "no process for a slice could be started");
                running.failed = true;
            }
        }
        self.store.end_slices(&lease, &[]);
        drop(signals);
        drop(place);
        self.release(claim, running.failed.then_some(ending)).await;
        hub.ring();
    }

    async fn start(&self, errand: &Errand) -> std::io::Result<(Child, ChildStdin)> {
        let mut command = Command::from((self.program)());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // What a terminal sends is for the owner, which tells its children itself.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        write_line(&mut stdin, errand).await?;
        Ok((child, stdin))
    }

    /// Gives a claim back, after a while where the thread's slices fail.
    async fn release(&self, claim: Claim, failed: Option<&CancellationToken>) {
        if let Some(ending) = failed {
            tokio::select! {
                () = tokio::time::sleep(AFTER_FAILURE) => {}
                () = ending.cancelled() => {}
            }
        }
        if let Err(error) = self.store.release(claim).await {
            tracing::error!(%error, "a claim could not be given back");
        }
    }
}

/// What is known of a child.
struct Running {
    /// The requests that it still holds, once it runs no more slices.
    holds: Option<Vec<i64>>,
    failed: bool,
}

impl Running {
    /// Talks with a child until it runs no more slices, or is gone.
    async fn talk(
        &mut self,
        child: &mut Child,
        stdin: &mut ChildStdin,
        (hub, signals): (&Arc<Hub>, &crate::hub::RunningSlice),
        (patience, claim): (&Patience, &Claim),
        ending: &CancellationToken,
    ) -> std::io::Result<()> {
        let stdout = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let mut lines = BufReader::new(stdout).lines();
        let mut stopping = false;
        loop {
            let line = tokio::select! {
                biased;
                () = ending.cancelled(), if !stopping => {
                    stopping = true;
                    stdin.write_all(b"{\"stop\":true}\n").await?;
                    continue;
                }
                line = lines.next_line() => line?,
                news = signals.news() => {
                    write_line(stdin, &news).await?;
                    continue;
                }
            };
            match line.as_deref().map(serde_json::from_str) {
                Some(Ok(Told::Changed)) => {
                    hub.ring();
                    hub.check_below(&claim.thread);
                }
                Some(Ok(Told::Ended { holds, put_off, failed })) => {
                    patience.resume(&claim.thread, put_off);
                    (self.holds, self.failed) = (Some(holds), failed);
                    return Ok(());
                }
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            }
        }
    }
}

async fn write_line(stdin: &mut ChildStdin, line: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    stdin.write_all(&text).await?;
    stdin.flush().await
}

/// A line that a child reads after the first.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Heard {
    #[serde(default)]
    pub(crate) stop: bool,
    #[serde(flatten)]
    pub(crate) news: News,
}
