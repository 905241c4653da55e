//! Slices in processes of their own: the owner of the database claims a thread, lends it to a child process, passes
//! on what a person does meanwhile, and gives the claim back when the child says that it is done.
//!
//! The two talk in lines of JSON: the errand and then [`News`] on the child's stdin, [`Told`] on its stdout. The end of
//! stdin means stop, so that a child never outlives its parent by much, however that ended. A child that says nothing for
//! a while hangs, and is killed. One that is gone without a word costs its uncommitted turn, and each time a longer wait;
//! a thread that loses its processes again and again gets an error in the place of its turn.

use super::{
    completion::Patience,
    held::{Held, Taken},
};
use crate::{
    Runtime, clock,
    hub::{Ends, Hub, News, RunningSlice},
};
use rap_core::{Claim, Millis, StoreError, Surface, SurfaceEvent};
use rap_store_sqlite::{Lease, SqliteStore};
use rap_types::ThreadId;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{
        OwnedSemaphorePermit,
        broadcast::{Receiver, error::RecvError},
    },
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

/// How long a thread is left alone after its process failed: the first time, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How many processes in a row a thread may lose before its turn counts as failed.
const TRIES: u32 = 4;
/// How long a process may say nothing, unless something else is set.
const SILENCE: Duration = Duration::from_secs(15);
/// A process says in this part of that time that it lives.
const BEATS: u32 = 3;
/// A program that is being started may take so many times as long.
const STARTING: u32 = 8;
/// How long a process that has closed its output may take to end.
const LAST_BREATH: Duration = Duration::from_secs(1);

/// How to run each slice in a process of its own: see [`RuntimeBuilder::slice_processes`](crate::RuntimeBuilder).
///
/// The program must call [`Runtime::run_slice`](crate::Runtime::run_slice) with a store that was
/// [joined](SqliteStore::join), and with the same models, keys, tools of its own and public URL.
///
/// A process that is gone before its slice is committed is followed by another, after 0.5 s, and each time twice as
/// long; after four in a row the thread's turn counts as failed: its inputs stay in its history, people are told, and it
/// rests until something new comes (ERR-01).
#[derive(Clone)]
pub struct SliceProcesses {
    store: Arc<SqliteStore>,
    program: Arc<dyn Fn() -> std::process::Command + Send + Sync>,
    silence: Duration,
    pause: Duration,
    /// How many processes in a row each thread has lost, and how the last one ended.
    lost: Arc<Mutex<HashMap<ThreadId, (u32, String)>>>,
}

impl std::fmt::Debug for SliceProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SliceProcesses").field("silence", &self.silence).finish_non_exhaustive()
    }
}

/// The first line that a child reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Errand {
    pub(crate) lease: Lease,
    /// How often the thread's completion was put off to a later time.
    pub(crate) put_off: u32,
    /// What time it is for the owner.
    pub(crate) now: Millis,
    /// How often the child says that it lives, in milliseconds.
    pub(crate) beat_ms: u64,
    /// The model is not asked any more: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) given_up: Option<String>,
}

/// A line that a child writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// It lives.
    Alive,
    /// Rows have changed.
    Changed,
    /// These requests are the owner's to send, from now on.
    Left(Vec<i64>),
    /// Calls are cancelled.
    Cancelled(Ends),
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
        Self { store, program: Arc::new(program), silence: SILENCE, pause: FIRST_PAUSE, lost: Arc::default() }
    }

    /// How long a process may say nothing before it counts as hung and is killed; 15 s unless set. It says every third of
    /// that that it lives, whatever it waits for: only one that is stopped, or does not come out of a piece of code, is
    /// silent. Until it says so for the first time, while it is being started, it has eight times as long.
    #[must_use]
    pub fn silence_limit(mut self, limit: Duration) -> Self {
        self.silence = limit.max(Duration::from_millis(30));
        self
    }

    /// How long a thread is left alone after it has lost a process, the first time; each further time in a row twice as
    /// long, up to 5 minutes, unless a person says something. 0.5 s unless set.
    #[must_use]
    pub fn pause_after_loss(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Has slices of a claimed thread run, and gives the claim back. Returns when the process is gone.
    pub(super) async fn run(
        &self,
        claim: Claim,
        held: Held,
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
                drop(place);
                rest(FIRST_PAUSE, &signals, ending).await;
                release(runtime, claim).await;
                return held.given_back();
            }
        };
        // From here on the guard of the lease knows of the claim as well.
        let lent = Held::new(runtime, Taken::Lent(self.store.clone(), Box::new(lease.clone())));
        held.given_back();
        signals.below(&lease.ancestors);
        // The process that runs the slice is gone before a server that is away has answered.
        let session = lease.ancestors.first().unwrap_or(&lease.thread);
        if let Ok(Some(session)) = runtime.inner.store.session(session).await {
            runtime.inner.servers.session_runs(&session);
        }
        let talk = Talk { processes: self, runtime, lease: &lease, signals: &signals, patience, ending };
        let mut ends = hub.ends();
        let (mut process, ended) = match self.start(&talk.errand()).await {
            Ok(mut process) => {
                tracing::info!(thread = %claim.thread, pid = process.pid, "a slice process runs");
                let ended = talk.until_ended(&mut process, &mut ends).await;
                (Some(process), ended)
            }
            Err(error) => {
                let why = format!("no process for a slice could be started: {error}");
                (None, Err(why))
            }
        };
        let (holds, failed) = match ended {
            Ok(ended) => ended,
            Err(why) => {
                let why = match process.take() {
                    Some(process) => process.end(why).await,
                    None => why,
                };
                drop(place);
                if !written("what a slice process left behind", ending, || self.store.slices_lost(&lease))
                    .await
                {
                    return;
                }
                hub.ring();
                if !ending.is_cancelled() {
                    let pause = self.has_lost(runtime, &lease.thread, why).await;
                    rest(pause, &signals, ending).await;
                }
                drop(signals);
                release(runtime, claim).await;
                lent.given_back();
                return hub.ring();
            }
        };
        let sending = Held::new(runtime, Taken::Elsewhere(self.store.clone(), holds.clone()));
        self.store.end_slices(&lease, &holds);
        drop(place);
        hub.ring();
        if failed {
            let pause = self.has_lost(runtime, &lease.thread, "a slice panicked".to_owned()).await;
            rest(pause, &signals, ending).await;
        } else {
            self.has_ended(&lease.thread);
        }
        drop(signals);
        release(runtime, claim).await;
        lent.given_back();
        hub.ring();
        if let Some(process) = process {
            process.until_gone(hub, ends, ending).await;
        }
        if written("what a slice process sent", ending, || self.store.end_sending(&holds)).await {
            sending.given_back();
        }
        hub.ring();
    }

    async fn start(&self, errand: &Errand) -> std::io::Result<Process> {
        let command = catch_unwind(AssertUnwindSafe(|| (self.program)()));
        let command =
            command.map_err(|_| std::io::Error::other("the program's own code for that panicked"))?;
        let mut command = Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // What a terminal sends is for the owner, which tells its children itself.
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let stdout = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
        let beat = self.silence / BEATS;
        let mut beats = interval_at(Instant::now() + beat, beat);
        // Where this process itself was stopped for a while, that is no silence.
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut process = Process {
            pid: child.id().unwrap_or_default(),
            child,
            stdin: Some(stdin),
            lines: BufReader::new(stdout).lines(),
            beats,
            missed: 0,
            heard: false,
            silence: self.silence,
        };
        process.say(errand).await.map_err(std::io::Error::other)?;
        Ok(process)
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, HashMap<ThreadId, (u32, String)>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's slices have ended as they should.
    fn has_ended(&self, thread: &ThreadId) {
        self.lost().remove(thread);
    }

    /// A thread has lost a process; how long it is to be left alone.
    async fn has_lost(&self, runtime: &Runtime, thread: &ThreadId, why: String) -> Duration {
        let times = {
            let mut lost = self.lost();
            let entry = lost.entry(thread.clone()).or_default();
            *entry = (entry.0 + 1, why.clone());
            entry.0
        };
        let pause = self.pause.saturating_mul(1 << (times - 1).min(16)).min(LONGEST_PAUSE);
        tracing::error!(%thread, times, why, ?pause, "a slice process was lost");
        if times == TRIES + 1 {
            // Not even an error could be committed.
            let text = format!(
                "no process can run this thread's slices ({why}); it is tried again from time to time: look at the runtime's log"
            );
            let event = SurfaceEvent { thread: thread.clone(), what: Surface::Error { text } };
            if let Err(error) = runtime.inner.store.show(&event, clock::now()).await {
                tracing::error!(%error, "that could not be shown");
            }
        }
        pause
    }

    /// Why the model is not asked any more.
    fn given_up(&self, thread: &ThreadId) -> Option<String> {
        let lost = self.lost();
        let (times, why) = lost.get(thread).filter(|(times, _)| *times >= TRIES)?;
        Some(format!(
            "the process of this thread's slices was lost {times} times before it could commit the model's turn ({why}); write again, or look at the runtime's log"
        ))
    }
}

/// Leaves a thread alone for a while, unless a person says something, or the program ends.
async fn rest(pause: Duration, signals: &RunningSlice, ending: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        _ = signals.news() => {}
        () = ending.cancelled() => {}
    }
}

async fn release(runtime: &Runtime, claim: Claim) {
    if let Err(error) = runtime.inner.store.release(claim).await {
        tracing::error!(%error, "a claim could not be given back");
    }
}

/// Writes something as soon as that is possible; false if the program ends first.
async fn written<W: Future<Output = Result<(), StoreError>>>(
    what: &str,
    ending: &CancellationToken,
    write: impl Fn() -> W,
) -> bool {
    let mut pause = FIRST_PAUSE;
    while let Err(error) = write().await {
        tracing::error!(%error, "{what} could not be written; trying again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ending.cancelled() => return false,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    true
}

/// A child.
struct Process {
    pid: u32,
    child: Child,
    /// Closed, it is told to stop.
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    beats: Interval,
    /// So many times in a row it should have said something, and did not.
    missed: u32,
    /// It has said something: it runs, and is not still being started.
    heard: bool,
    silence: Duration,
}

/// What becomes of one that says nothing more.
const GONE: &str = "it ended";

impl Process {
    /// The next thing that it says. An error says why there is none. Loses nothing when it is dropped and asked again.
    async fn told(&mut self) -> Result<Told, String> {
        loop {
            tokio::select! {
                biased;
                line = self.lines.next_line() => {
                    (self.missed, self.heard) = (0, true);
                    self.beats.reset();
                    let line = match line {
                        Ok(Some(line)) => line,
                        Ok(None) => return Err(GONE.to_owned()),
                        Err(error) => return Err(format!("it cannot be talked to: {error}")),
                    };
                    match serde_json::from_str(&line) {
                        Ok(told) => return Ok(told),
                        // Whatever printed that did not know better.
                        Err(_) => tracing::warn!(
                            pid = self.pid,
                            bytes = line.len(),
                            "a slice process has printed something on stdout, which is for its owner; it should go to stderr"
                        ),
                    }
                }
                _ = self.beats.tick() => {
                    self.missed += 1;
                    if self.missed >= BEATS * self.patience() {
                        return Err(self.silent());
                    }
                }
            }
        }
    }

    /// How many times the limit it may be silent.
    fn patience(&self) -> u32 {
        if self.heard { 1 } else { STARTING }
    }

    fn silent(&self) -> String {
        format!("it was silent for {:?} and was killed", self.silence * self.patience())
    }

    /// Says something to it; an error says why that cannot be.
    async fn say(&mut self, line: &impl Serialize) -> Result<(), String> {
        let mut text = serde_json::to_vec(line).map_err(|error| error.to_string())?;
        text.push(b'\n');
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        let write = async {
            stdin.write_all(&text).await?;
            stdin.flush().await
        };
        match tokio::time::timeout(self.silence, write).await {
            // One that is gone has perhaps said something before.
            Ok(_) => Ok(()),
            Err(_) => Err(self.silent()),
        }
    }

    /// Ends it, if it has not ended; how it did, or why it had to.
    async fn end(mut self, why: String) -> String {
        self.stdin = None;
        if why == GONE
            && let Ok(Ok(status)) = tokio::time::timeout(LAST_BREATH, self.child.wait()).await
        {
            return format!("it ended with {status}");
        }
        let _ = self.child.kill().await;
        why
    }

    /// Waits until it has sent what it still holds; asked to stop, it stops.
    async fn until_gone(mut self, hub: &Hub, mut ends: Receiver<Ends>, ending: &CancellationToken) {
        let why = loop {
            tokio::select! {
                told = self.told() => match told {
                    Ok(Told::Changed) => hub.ring(),
                    Ok(_) => {}
                    Err(why) => break why,
                },
                () = ending.cancelled(), if self.stdin.is_some() => self.stdin = None,
                ended = heard(&mut ends) => if let Err(why) = self.say(&cancelled(ended)).await { break why },
            }
        };
        let pid = self.pid;
        let ended = self.end(why).await;
        tracing::debug!(pid, ended, "a slice process has ended");
    }
}

/// What one talks of with a child.
struct Talk<'a> {
    processes: &'a SliceProcesses,
    runtime: &'a Runtime,
    lease: &'a Lease,
    signals: &'a RunningSlice,
    patience: &'a Patience,
    ending: &'a CancellationToken,
}

impl Talk<'_> {
    fn errand(&self) -> Errand {
        let beat = self.processes.silence / BEATS;
        Errand {
            lease: self.lease.clone(),
            put_off: self.patience.count(&self.lease.thread),
            now: clock::now(),
            beat_ms: u64::try_from(beat.as_millis()).unwrap_or(u64::MAX),
            given_up: self.processes.given_up(&self.lease.thread),
        }
    }

    /// Talks with a child until it runs no more slices: the requests that it still holds, and whether a slice panicked. An
    /// error says what became of it instead.
    async fn until_ended(
        &self,
        process: &mut Process,
        ends: &mut Receiver<Ends>,
    ) -> Result<(Vec<i64>, bool), String> {
        let (hub, thread) = (&self.runtime.inner.hub, &self.lease.thread);
        let mut stopping = false;
        loop {
            let told = tokio::select! {
                biased;
                () = self.ending.cancelled(), if !stopping => {
                    stopping = true;
                    process.say(&serde_json::json!({"stop": true})).await?;
                    continue;
                }
                told = process.told() => told?,
                news = self.signals.news() => {
                    process.say(&news).await?;
                    continue;
                }
                ended = heard(ends) => {
                    process.say(&cancelled(ended)).await?;
                    continue;
                }
            };
            match told {
                Told::Alive => {}
                Told::Changed => {
                    // It has committed something: whatever it dies of, it is not stuck.
                    self.processes.has_ended(thread);
                    hub.ring();
                    hub.check_below(thread);
                }
                Told::Left(requests) => {
                    self.processes.store.leaves(self.lease, &requests);
                    hub.ring();
                }
                Told::Cancelled(ended) => hub.cancelled(ended),
                Told::Ended { holds, put_off, failed } => {
                    self.patience.resume(thread, put_off);
                    return Ok((holds, failed));
                }
            }
        }
    }
}

/// The next calls that are cancelled.
async fn heard(ends: &mut Receiver<Ends>) -> Ends {
    loop {
        match ends.recv().await {
            Ok(ended) => return ended,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn cancelled(ended: Ends) -> News {
    News { cancelled: Some(ended), ..News::default() }
}

/// A line that a child reads after the first.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Heard {
    #[serde(default)]
    pub(crate) stop: bool,
    #[serde(flatten)]
    pub(crate) news: News,
}
