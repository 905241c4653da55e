//! The summarising of a thread's history: a job beside its slices, which asks the model and puts what comes of it
//! into the thread's inbox. A kill in between costs one request to the model: the job is owed until its end is there.

use super::{
    Pauses,
    completion::{begin, next},
    slice::caught,
};
use crate::{Delta, ModelError, Retry, Runtime, clock, model::KnownModel};
use rap_core::{
    Accepted, Compactor, CompactorStep, InputBody, InputId, ModelRequest, ModelTurn, NewInput, StoreError,
    TurnOutcome,
};
use rap_types::ThreadId;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

/// Tries of one request.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A model that asks for more is not waited for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a job whose store failed keeps it, so that it does not spin.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Summarises a thread's history and gives the job back.
pub(super) async fn run(
    runtime: &Runtime,
    ending: &CancellationToken,
    thread: &ThreadId,
    place: OwnedSemaphorePermit,
) {
    let work = async {
        let done = caught(summarise(runtime, ending, thread, place)).await;
        let failed = match done {
            Some(Ok(()) | Err(StoreError::Owned { .. })) => return,
            Some(Err(error)) => error.to_string(),
            None => "bug: a compaction panicked".to_owned(),
        };
        tracing::error!(%thread, error = failed, "a history could not be summarised; trying again");
        tokio::time::sleep(AFTER_FAILURE).await;
    };
    tokio::select! {
        biased;
        () = ending.cancelled() => {}
        () = work => {}
    }
    if let Err(error) = runtime.inner.store.release_compaction(thread).await {
        tracing::error!(%error, "a compaction could not be given back");
    }
    runtime.inner.hub.ring();
}

async fn summarise(
    runtime: &Runtime,
    ending: &CancellationToken,
    thread: &ThreadId,
    place: OwnedSemaphorePermit,
) -> Result<(), StoreError> {
    let store = &runtime.inner.store;
    let Some(view) = store.recent_history(thread).await? else { return Ok(()) };
    let Some(session) = store.session(&view.thread.row.session).await? else { return Ok(()) };
    let model = runtime.model_for(view.thread.row.model.as_deref().or(session.model.as_deref()));
    let window = model.as_ref().ok().map(|model| model.card.context_window);
    let mut kept = Kept { runtime, ending, place: Some(place) };
    let mut compactor = Compactor::new(session, &view, window);
    loop {
        match compactor.step() {
            CompactorStep::Ask(request) => compactor.turn(match &model {
                Ok(model) => ask(runtime, model, &request).await,
                Err(why) => TurnOutcome::Failed { message: why.clone() },
            }),
            CompactorStep::Done(input) => {
                let again = InputId::control(&format!("compaction-again:{}", view.thread.row.version));
                let thread = input.thread.clone();
                // A thread that was closed meanwhile refuses it, and nothing is owed any more.
                if kept.accept(*input).await? == Accepted::Duplicate {
                    // The same summary has had its effect: nothing came of this one, and nobody waits for more.
                    let reason = "there is nothing new to summarise".to_owned();
                    let body = InputBody::NotCompacted { reason };
                    let source = "compaction".to_owned();
                    let input = NewInput { thread, id: again, source, body, traceparent: None };
                    kept.accept(input).await?;
                }
                return Ok(());
            }
        }
    }
}

/// What came of a summarising, until it is in its thread's inbox.
struct Kept<'a> {
    runtime: &'a Runtime,
    ending: &'a CancellationToken,
    place: Option<OwnedSemaphorePermit>,
}

impl Kept<'_> {
    /// The summary is paid for: it is written as soon as that is possible, never made again.
    async fn accept(&mut self, input: NewInput) -> Result<Accepted, StoreError> {
        let mut pauses = Pauses::new();
        loop {
            let error = match self.runtime.inner.store.accept(input.clone(), clock::now()).await {
                Err(error @ StoreError::Owned { .. }) => return Err(error),
                Err(error) => error,
                Ok(accepted) => return Ok(accepted),
            };
            tracing::error!(thread = %input.thread, %error, "a summary could not be written; trying again");
            // That may last: others need not wait for it.
            self.place = None;
            if !pauses.wait(self.ending).await {
                return Err(error);
            }
        }
    }
}

async fn ask(runtime: &Runtime, model: &KnownModel, request: &ModelRequest) -> TurnOutcome {
    let mut pause = FIRST_PAUSE;
    for tried in 1.. {
        let error = match attempt(runtime, model, request).await {
            Ok(turn) => return TurnOutcome::Turn(turn),
            Err(error) => error,
        };
        let wait = match error.retry {
            Retry::Never => return failed(error),
            _ if tried >= TRIES => return failed(error),
            Retry::At(wait) => wait.min(LONGEST_PAUSE),
            Retry::Soon => pause,
        };
        tokio::time::sleep(wait).await;
        pause *= 2;
    }
    unreachable!("the tries are limited")
}

fn failed(error: ModelError) -> TurnOutcome {
    match error.overflow {
        true => TurnOutcome::Overflow { message: error.message },
        false => TurnOutcome::Failed { message: error.message },
    }
}

async fn attempt(
    runtime: &Runtime,
    model: &KnownModel,
    request: &ModelRequest,
) -> Result<ModelTurn, ModelError> {
    let mut stream = begin(&model.provider, request)?;
    let mut limit = runtime.first_word_limit();
    let mut turn = ModelTurn { model: model.card.id.clone(), ..ModelTurn::default() };
    loop {
        let delta = next(&mut stream, limit).await?;
        limit = runtime.inner.model_idle;
        match delta {
            None | Some(Delta::Stop(_)) => return Ok(turn),
            Some(Delta::Text(piece)) => turn.text.push_str(&piece),
            Some(Delta::Usage(usage)) => turn.usage = usage,
            // It was told to write only the summary; what else it does is left aside.
            Some(Delta::Reasoning(_) | Delta::Call(_) | Delta::Alive) => {}
        }
    }
}
