//! The summarising of a thread's history: a job beside its slices, which asks the model and puts what comes of it
//! into the thread's inbox. A kill in between costs one request to the model: the job is owed until its end is there.

use super::{completion::silent, slice::caught};
use crate::{Delta, ModelError, ModelProvider, Retry, Runtime, clock};
use futures_util::StreamExt;
use rap_core::{
    Accepted, Compactor, CompactorStep, InputBody, InputId, ModelRequest, ModelTurn, NewInput, StoreError,
    TurnOutcome,
};
use rap_types::ThreadId;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Tries of one request.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A model that asks for more is not waited for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a job whose store failed keeps it, so that it does not spin.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Summarises a thread's history and gives the job back.
pub(super) async fn run(runtime: &Runtime, ending: &CancellationToken, thread: &ThreadId) {
    let work = async {
        let done = caught(summarise(runtime, thread)).await;
        let failed = match done {
            Some(Ok(())) => return,
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

async fn summarise(runtime: &Runtime, thread: &ThreadId) -> Result<(), StoreError> {
    let store = &runtime.inner.store;
    let Some(view) = store.recent_history(thread).await? else { return Ok(()) };
    let Some(session) = store.session(&view.thread.row.session).await? else { return Ok(()) };
    let provider = runtime.model_for(view.thread.row.model.as_deref().or(session.model.as_deref()));
    let window = provider.as_ref().ok().map(|provider| provider.card().context_window);
    let mut compactor = Compactor::new(session, &view, window);
    loop {
        match compactor.step() {
            CompactorStep::Ask(request) => compactor.turn(match &provider {
                Ok(provider) => ask(runtime, provider, &request).await,
                Err(why) => TurnOutcome::Failed { message: why.clone() },
            }),
            CompactorStep::Done(input) => {
                let again = InputId::control(&format!("compaction-again:{}", view.thread.row.version));
                let thread = input.thread.clone();
                // A thread that was closed meanwhile refuses it, and nothing is owed any more.
                if store.accept(*input, clock::now()).await? == Accepted::Duplicate {
                    // The same summary has had its effect: nothing came of this one, and nobody waits for more.
                    let reason = "there is nothing new to summarise".to_owned();
                    let body = InputBody::NotCompacted { reason };
                    let source = "compaction".to_owned();
                    let input = NewInput { thread, id: again, source, body, traceparent: None };
                    store.accept(input, clock::now()).await?;
                }
                return Ok(());
            }
        }
    }
}

async fn ask(runtime: &Runtime, provider: &Arc<dyn ModelProvider>, request: &ModelRequest) -> TurnOutcome {
    let mut pause = FIRST_PAUSE;
    for tried in 1.. {
        let error = match attempt(runtime, provider, request).await {
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
    provider: &Arc<dyn ModelProvider>,
    request: &ModelRequest,
) -> Result<ModelTurn, ModelError> {
    let mut stream = provider.complete(request);
    let mut limit = runtime.first_word_limit();
    let mut turn = ModelTurn { model: provider.card().id, ..ModelTurn::default() };
    loop {
        let next = tokio::time::timeout(limit, stream.next()).await.map_err(|_| silent(limit))?;
        limit = runtime.inner.model_idle;
        match next {
            None | Some(Ok(Delta::Stop(_))) => return Ok(turn),
            Some(Err(error)) => return Err(error),
            Some(Ok(Delta::Text(piece))) => turn.text.push_str(&piece),
            Some(Ok(Delta::Usage(usage))) => turn.usage = usage,
            // It was told to write only the summary; what else it does is left aside.
            Some(Ok(Delta::Reasoning(_) | Delta::Call(_) | Delta::Alive)) => {}
        }
    }
}
