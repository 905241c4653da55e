//! Slices of one thread: claim in hand, load, decide, complete, commit, again while something is due, release.

use super::{
    Pauses,
    completion::{Completed, Completion, Patience},
};
use crate::{
    Runtime, clock,
    hub::{Ends, RunningSlice},
};
use futures_util::FutureExt;
use rap_core::{
    Claim, Commit, Committed, InstantTools, ModelRequest, Moment, SliceMachine, Snapshot, Step, StoreError,
    Surface, SurfaceEvent, TurnOutcome,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// How many slices of one thread run on one claim before others get their turn.
const IN_A_ROW: usize = 32;
/// A third of the lease: how often a claim is renewed while the model is waited for.
const RENEW: Duration = Duration::from_secs(5);
/// How long a thread is left alone after its state could not be read or written.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// A claim's worth of slices.
pub(super) struct Streak {
    pub(super) runtime: Runtime,
    pub(super) ending: CancellationToken,
    pub(super) patience: Arc<Patience>,
    /// The model is not asked; its turns have failed with this message.
    pub(super) given_up: Option<String>,
}

/// How a slice ended.
enum Ended {
    /// The thread is due again.
    Due,
    /// It is not due now.
    AtRest,
    /// Somebody else has the thread, or it is closed: nothing was written.
    Lost,
    /// The program ends: nothing was written.
    Stopping,
}

impl Streak {
    pub(super) async fn run(self, claim: Claim, place: OwnedSemaphorePermit) {
        let signals = self.runtime.inner.hub.slice_begins(&claim.thread);
        let mut place = Some(place);
        for _ in 0..IN_A_ROW {
            let ended = caught(self.slice(&claim, &signals, &mut place)).await;
            match ended.unwrap_or_else(|| Err(bug("a slice panicked"))) {
                Ok(Ended::Due) if place.is_some() && !self.ending.is_cancelled() => {}
                // A lost claim is given back as well: that is no error, and a store may have lost only the news.
                Err(StoreError::Fenced | StoreError::Owned { .. }) => {
                    let alone = self.patience.lost(&claim.thread);
                    drop((place.take(), signals));
                    self.leave_alone(alone).await;
                    return self.release(claim).await;
                }
                Ok(_) => break,
                Err(error) => {
                    // ERR-02: nothing has changed. The claim is kept for a while, so that the thread does not
                    // spin; its place is not.
                    tracing::error!(thread = %claim.thread, %error, "a slice could not be made");
                    drop((place.take(), signals));
                    self.leave_alone(AFTER_FAILURE).await;
                    return self.release(claim).await;
                }
            }
        }
        drop(signals);
        self.release(claim).await;
    }

    async fn leave_alone(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.ending.cancelled() => {}
        }
    }

    async fn release(&self, claim: Claim) {
        if let Err(error) = self.runtime.inner.store.release(claim).await {
            tracing::error!(%error, "a claim could not be given back");
        }
    }

    async fn slice(
        &self,
        claim: &Claim,
        signals: &RunningSlice,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Ended, StoreError> {
        let store = &self.runtime.inner.store;
        let snapshot = store.load(claim).await?;
        signals.loaded(&snapshot);
        self.runtime.inner.servers.session_runs(&snapshot.session);
        let moment = clock::moment();
        let window = self.window(&snapshot);
        let tools = self.runtime.inner.own.instants.clone();
        let mut machine = Machine::new(snapshot, moment, window, tools);
        let mut attempt = None;
        let ended = loop {
            match machine.next()? {
                Step::Complete(request) => match self.complete(claim, signals, &request).await? {
                    Completed { outcome: Some(outcome), streamed } => {
                        attempt = streamed;
                        let recalled = self.recall(claim, &mut machine.machine, &outcome, place).await;
                        if recalled.is_err()
                            && let Some(attempt) = attempt.take()
                        {
                            self.runtime.inner.hub.turn_ends(&machine.session, &claim.thread, attempt);
                        }
                        recalled?;
                        machine.turn(outcome)?;
                    }
                    Completed { outcome: None, .. } if self.ending.is_cancelled() => break Ended::Stopping,
                    Completed { outcome: None, .. } => break Ended::Lost,
                },
                Step::Commit(commit) => {
                    let committed = self.commit(claim, *commit, place).await;
                    if let Some(attempt) = attempt.take() {
                        self.runtime.inner.hub.turn_ends(&machine.session, &claim.thread, attempt);
                    }
                    let committed = committed?;
                    self.patience.written(&claim.thread);
                    machine.committed();
                    self.runtime.inner.hub.ring();
                    break if committed.due_at.is_some_and(|due| due <= clock::now()) {
                        Ended::Due
                    } else {
                        Ended::AtRest
                    };
                }
                Step::Done => break Ended::AtRest,
            }
        };
        Ok(ended)
    }

    /// The window of the model that the slice asks, in tokens.
    fn window(&self, snapshot: &Snapshot) -> Option<u64> {
        let model = self.runtime.model_for(snapshot.next_model()).ok()?;
        Some(model.card.context_window)
    }

    async fn complete(
        &self,
        claim: &Claim,
        signals: &RunningSlice,
        request: &ModelRequest,
    ) -> Result<Completed, StoreError> {
        if let Some(message) = self.given_up.clone() {
            return Ok(Completed { outcome: Some(TurnOutcome::Failed { message }), streamed: None });
        }
        let completion = Completion { runtime: &self.runtime, patience: &self.patience, signals, request };
        let mut work = std::pin::pin!(completion.run(claim));
        let mut renew = tokio::time::interval(RENEW);
        renew.tick().await;
        loop {
            tokio::select! {
                biased;
                () = self.ending.cancelled() => {
                    return Ok(Completed { outcome: None, streamed: None });
                }
                _ = renew.tick() => self.runtime.inner.store.renew(claim).await?,
                completed = &mut work => return completed,
            }
        }
    }

    /// Tells the machine of old calls that a turn names. The turn is paid for: what cannot be read is tried again.
    async fn recall(
        &self,
        claim: &Claim,
        machine: &mut SliceMachine,
        outcome: &TurnOutcome,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), StoreError> {
        let store = &self.runtime.inner.store;
        let mut pauses = Pauses::new();
        for id in machine.lacks(outcome) {
            let row = loop {
                let error = match store.call(&claim.thread, &id).await {
                    Ok(row) => break row,
                    Err(error) => error,
                };
                self.put_off(claim, error, &mut pauses, place).await?;
                // Nothing else tells that the thread is somebody else's by now.
                if let Err(lost @ (StoreError::Fenced | StoreError::Owned { .. })) = store.renew(claim).await
                {
                    return Err(lost);
                }
            };
            row.into_iter().for_each(|row| machine.knows(row));
        }
        Ok(())
    }

    /// Waits until a slice that is decided, or nearly, is tried again. Gives the error back where that is in vain.
    async fn put_off(
        &self,
        claim: &Claim,
        error: StoreError,
        pauses: &mut Pauses,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<(), StoreError> {
        if matches!(error, StoreError::Fenced | StoreError::Owned { .. }) {
            return Err(error);
        }
        tracing::error!(thread = %claim.thread, %error, "a slice could not be written; trying again");
        if matches!(error, StoreError::Damaged { .. }) && place.take().is_some() {
            // That may last: others need not wait for it, and people are told why nothing comes.
            self.tell(claim, &format!("the agent's answer cannot be written yet: {error}")).await;
        }
        if pauses.wait(&self.ending).await { Ok(()) } else { Err(error) }
    }

    /// Writes the slice. What it paused or closed below looks up at once.
    async fn commit(
        &self,
        claim: &Claim,
        commit: Commit,
        place: &mut Option<OwnedSemaphorePermit>,
    ) -> Result<Committed, StoreError> {
        let (pause, close) = (commit.pause, commit.close);
        let closed = close.then(|| claim.thread.clone());
        let ends = Ends { calls: commit.cancel.clone(), closed, heard: false };
        let mut pauses = Pauses::new();
        let committed = loop {
            match self.runtime.inner.store.commit(claim, commit.clone(), clock::now()).await {
                Ok(committed) => break committed,
                // The turn is paid for: it is written as soon as that is possible, never made again.
                Err(error) => self.put_off(claim, error, &mut pauses, place).await?,
            }
        };
        if ends != Ends::default() {
            self.runtime.inner.hub.cancelled(ends);
        }
        if pause || close {
            self.runtime.inner.hub.check_below(&claim.thread);
        }
        Ok(committed)
    }
}

impl Streak {
    /// Shows people an error that no slice can hold.
    async fn tell(&self, claim: &Claim, text: &str) {
        let what = Surface::Error { text: text.to_owned() };
        let event = SurfaceEvent { thread: claim.thread.clone(), what };
        if let Err(error) = self.runtime.inner.store.show(&event, clock::now()).await {
            tracing::error!(thread = %claim.thread, %error, "people cannot be told of it");
        }
        self.runtime.inner.hub.ring();
    }
}

/// The slice machine, whose panics become failed turns: a bug costs a turn, never the thread.
struct Machine {
    machine: SliceMachine,
    session: rap_types::ThreadId,
    snapshot: Option<Snapshot>,
    moment: Moment,
    window: Option<u64>,
    tools: InstantTools,
}

impl Machine {
    fn new(snapshot: Snapshot, moment: Moment, window: Option<u64>, tools: InstantTools) -> Self {
        Self {
            session: snapshot.session.id.clone(),
            snapshot: Some(snapshot.clone()),
            machine: SliceMachine::new(snapshot, moment)
                .with_window(window)
                .with_instant_tools(tools.clone()),
            moment,
            window,
            tools,
        }
    }

    fn next(&mut self) -> Result<Step, StoreError> {
        match catch_unwind(AssertUnwindSafe(|| self.machine.step())) {
            Ok(step) => Ok(step),
            Err(_) => Err(bug("the decisions of a slice panicked")),
        }
    }

    /// Takes in a turn. If that panics, the slice begins again from its snapshot and takes in a failure instead.
    fn turn(&mut self, outcome: TurnOutcome) -> Result<(), StoreError> {
        if catch_unwind(AssertUnwindSafe(|| self.machine.turn(outcome))).is_ok() {
            return Ok(());
        }
        tracing::error!("bug: the decisions about a turn panicked; the turn is dropped");
        let snapshot = self.snapshot.take().ok_or_else(|| bug("the decisions of a slice panicked twice"))?;
        self.machine = SliceMachine::new(snapshot, self.moment)
            .with_window(self.window)
            .with_instant_tools(self.tools.clone());
        let message = "the runtime could not make sense of the model's turn, which is a bug of the runtime; write again";
        match self.next()? {
            Step::Complete(_) => {
                let failed = TurnOutcome::Failed { message: message.to_owned() };
                catch_unwind(AssertUnwindSafe(|| self.machine.turn(failed)))
                    .map_err(|_| bug("the decisions of a slice panicked twice"))
            }
            _ => Err(bug("a slice decided otherwise the second time")),
        }
    }

    fn committed(&mut self) {
        self.machine.committed();
    }
}

fn bug(what: &str) -> StoreError {
    StoreError::Failed(format!("bug: {what}"))
}

/// Awaits something, and takes a panic for an error.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}
