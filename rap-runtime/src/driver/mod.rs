//! The local driver: one loop that hands due threads to slices and due deliveries to senders, and sleeps until
//! the next due time or a bell.
//!
//! Everything owed is a row with a due time, so starting after a kill is nothing special: the first round finds
//! what the last process left. Idle, the loop waits for a bell and nothing else (P7).

mod alive;
mod compact;
mod completion;
#[cfg(feature = "sqlite")]
mod elsewhere;
mod embedded;
#[cfg(feature = "sqlite")]
mod guest;
mod held;
mod live;
mod outbox;
mod sight;
mod slice;

pub use alive::{NOTHING_KNOWN, NothingKnown, nothing_known};
#[cfg(feature = "sqlite")]
pub use elsewhere::SliceProcesses;
#[cfg(feature = "sqlite")]
pub use guest::SliceErrand;

use crate::{Runtime, clock};
use held::{Held, Taken};
use rap_core::{Millis, StoreError};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// The longest sleep: after it the clock on the wall is read again, which may have jumped.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// When something is due and cannot be had (an earlier delivery of its call is on its way), it is looked for
/// again after this time, if no bell rings before.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Histories that are summarised at once.
const COMPACTIONS: usize = 4;
/// How long running work may take to end after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(5);

impl Runtime {
    /// Drives the runtime until `shutdown` resolves: slices of due threads, due timers, the outbox. What an earlier
    /// process left undone is taken up at once, and servers are asked about the calls that they had taken (STA-02), now and from time to
    /// time ([`ask_every`](crate::RuntimeBuilder::ask_every)).
    ///
    /// On shutdown nothing new begins; a running completion is dropped (its thread is due again at the next
    /// start), requests on their way get 5 s to end. Watchers' streams end. Whatever is cut off is repeated after
    /// the next start, with the same ids. Dropping the future is a kill: nothing is lost either, and what was on its
    /// way may be sent again. Where the process lives on, the next `run_until` on the same store takes it up.
    ///
    /// # Errors
    /// [`StoreError::Owned`] when another process has taken the database over: nothing more is asked, sent or written
    /// here, and whatever was under way is the other's. No other failure of the store ends it: it tries again.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()>) -> Result<(), StoreError> {
        self.inner.hub.start();
        let ending = CancellationToken::new();
        let driver = Driver::new(self.clone(), ending.clone());
        let mut shutdown = pin!(shutdown);
        let mut tasks = JoinSet::new();
        // The store's own hint, for what others write into it.
        let mut beside = JoinSet::new();
        beside.spawn({
            let runtime = self.clone();
            async move {
                loop {
                    runtime.inner.store.changed().await;
                    runtime.inner.hub.ring();
                }
            }
        });
        // Asked beside everything else: a server that does not answer holds nothing up.
        beside.spawn(alive::ask_again_and_again(self.clone()));
        beside.spawn(live::ask_again_and_again(self.clone()));
        let mut changes = self.inner.hub.changes();
        let ended = loop {
            changes.mark_unchanged();
            let pause = match driver.round(&mut tasks).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "the runtime stops: it has lost its database");
                    break Err(error);
                }
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                _ = changes.changed() => {}
                () = driver.freed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            while let Some(ended) = tasks.try_join_next() {
                report(ended);
            }
        };
        ending.cancel();
        beside.abort_all();
        let rest = async {
            while let Some(ended) = tasks.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(GRACE, rest).await.is_err() {
            tracing::warn!("some requests did not end in time; they will be repeated after the next start");
        }
        self.inner.hub.stop();
        ended
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("bug: a task of the driver panicked; what it worked on is taken up again");
    }
}

/// The pauses before what could not be written is written again: 0.5 s, doubled up to 30 s.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(Duration::from_millis(500))
    }

    /// Waits for the next try; false where the program ends first.
    async fn wait(&mut self, ending: &CancellationToken) -> bool {
        let pause = self.0;
        self.0 = (pause * 2).min(Duration::from_secs(30));
        tokio::select! {
            biased;
            () = ending.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}

/// What slices and senders share.
struct Driver {
    runtime: Runtime,
    ending: CancellationToken,
    /// Places for slices.
    slices: Arc<Semaphore>,
    /// Places for compactions.
    compactions: Arc<Semaphore>,
    senders: Arc<outbox::Senders>,
    patience: Arc<completion::Patience>,
    /// The store knows what time it is.
    started: AtomicBool,
    /// Rung when a slice or a sender has ended: there may be room, or something due.
    freed: Arc<Notify>,
}

impl Driver {
    fn new(runtime: Runtime, ending: CancellationToken) -> Self {
        let slices = Arc::new(Semaphore::new(runtime.inner.slices_at_once));
        Self {
            senders: Arc::new(outbox::Senders::new(runtime.clone(), ending.clone(), false)),
            compactions: Arc::new(Semaphore::new(COMPACTIONS)),
            patience: Arc::default(),
            freed: Arc::default(),
            started: AtomicBool::new(false),
            runtime,
            ending,
            slices,
        }
    }

    /// Starts whatever is due and says how long nothing more will be; an error where the store is another's.
    async fn round(&self, tasks: &mut JoinSet<()>) -> Result<Duration, StoreError> {
        let begun = Instant::now();
        let asked = clock::now();
        Ok(match self.start_all(tasks).await {
            Ok(Some(due)) => {
                let wait = match u64::try_from(due - clock::now()) {
                    Ok(wait) if wait > 0 => Duration::from_millis(wait),
                    // It fell due after this round asked: the next one finds it.
                    _ if due > asked => Duration::ZERO,
                    _ => LOOK_AGAIN,
                };
                wait.min(LONGEST_SLEEP)
            }
            Ok(None) => LONGEST_SLEEP,
            Err(error @ StoreError::Owned { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(%error, took = ?begun.elapsed(), "the store failed; trying again");
                LOOK_AGAIN
            }
        })
    }

    async fn start_all(&self, tasks: &mut JoinSet<()>) -> Result<Option<Millis>, StoreError> {
        let store = &self.runtime.inner.store;
        if !self.started.load(Ordering::Relaxed) {
            if let Some(by) = store.clock_starts(clock::now()).await? {
                tracing::warn!(
                    by_ms = by,
                    "the clock was set back while nothing ran; what waits is looked at again"
                );
            }
            self.started.store(true, Ordering::Relaxed);
        }
        while let Ok(place) = self.slices.clone().try_acquire_owned() {
            let Some(claim) = store.claim(clock::now()).await? else { break };
            #[cfg(feature = "sqlite")]
            if let Some(elsewhere) = self.runtime.inner.elsewhere.clone() {
                let (runtime, patience) = (self.runtime.clone(), self.patience.clone());
                let (ending, freed) = (self.ending.clone(), self.freed.clone());
                let held = Held::new(&runtime, Taken::Claim(claim.clone()));
                tasks.spawn(async move {
                    elsewhere.run(claim, held, place, &runtime, &patience, &ending).await;
                    freed.notify_one();
                });
                continue;
            }
            let streak = slice::Streak {
                runtime: self.runtime.clone(),
                ending: self.ending.clone(),
                patience: self.patience.clone(),
                given_up: None,
            };
            let freed = self.freed.clone();
            let held = Held::new(&self.runtime, Taken::Claim(claim.clone()));
            tasks.spawn(async move {
                streak.run(claim, place).await;
                held.given_back();
                freed.notify_one();
            });
        }
        while let Ok(place) = self.compactions.clone().try_acquire_owned() {
            let Some(thread) = store.claim_compaction().await? else { break };
            let (runtime, ending, freed) = (self.runtime.clone(), self.ending.clone(), self.freed.clone());
            let held = Held::new(&runtime, Taken::Compaction(thread.clone()));
            tasks.spawn(async move {
                compact::run(&runtime, &ending, &thread, place).await;
                held.given_back();
                freed.notify_one();
            });
        }
        loop {
            let room = self.senders.room();
            if room == 0 {
                break;
            }
            let taken = store.take(clock::now(), room).await?;
            let all = taken.len() < room;
            for delivery in taken {
                let (senders, freed) = (self.senders.clone(), self.freed.clone());
                // The program's own tools need no connection: however many run, they keep no request waiting.
                let place = delivery.embedded_tool().is_none().then(|| senders.enter());
                let held = Held::new(&self.runtime, Taken::Delivery(delivery.id));
                tasks.spawn(async move {
                    if senders.send(delivery).await {
                        held.given_back();
                    }
                    drop(place);
                    freed.notify_one();
                });
            }
            if all {
                break;
            }
        }
        store.next_due().await
    }
}
