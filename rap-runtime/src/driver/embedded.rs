//! Calls of the program's own tools: taken from the outbox like any request, worked here, and settled together with their
//! outcome, in one transaction. Until then they are owed, so that a kill loses none of them; from then on none is worked
//! again.

use super::{outbox::gave_up, slice::caught};
use crate::{OwnCall, Runtime, clock};
use rap_core::{Delivery, InputBody, InputId, NewInput, Outcome, Settlement};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// Works a call; none where it was taken back, or the program ends first.
pub(super) async fn work(
    runtime: &Runtime,
    ending: &CancellationToken,
    delivery: &Delivery,
    call: OwnCall,
) -> Option<Settlement> {
    let store = &runtime.inner.store;
    let Some(work) = runtime.inner.own.calls.get(&call.tool).cloned() else {
        let tool = &call.tool;
        let reason =
            format!("the program does not have the tool {tool} any more; go on without it, or tell the user");
        return Some(gave_up(delivery, &reason, delivery.begun));
    };
    // Heard before it is begun: from then on a cancel does not take it back.
    let mut ends = runtime.inner.hub.ends();
    match store.begin(delivery.id).await {
        Ok(true) => {}
        Ok(false) => return None,
        Err(error) => {
            tracing::error!(%error, "a call could not be begun; it is tried again");
            return Some(Settlement::RetryAt(clock::now() + 1_000));
        }
    }
    let (id, tool) = (call.id.clone(), call.tool.clone());
    let (thread, ancestors, cancel) = (call.thread.clone(), call.ancestors.clone(), call.cancel.clone());
    let cancelled = async {
        loop {
            match ends.recv().await {
                Ok(ended) if ended.ends(&id, &thread, &ancestors) => cancel.cancel(),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    let worked = tokio::select! {
        biased;
        () = ending.cancelled() => return None,
        () = cancelled => None,
        worked = caught(async move { work(call).await }) => worked,
    };
    let outcome = worked.unwrap_or_else(|| {
        tracing::error!(call = %id, tool, "a tool of the program panicked");
        Outcome::error(format!("{tool} panicked, which is a bug in it; do not call it again, tell the user"))
    });
    let input = NewInput {
        thread: delivery.thread.clone(),
        id: InputId::outcome(&id),
        source: "program".to_owned(),
        // Nobody would send the events of a subscription.
        body: InputBody::Outcome { call: id, outcome: Outcome { subscription: false, ..outcome } },
        traceparent: delivery.traceparent.clone(),
    };
    Some(Settlement::Answered(Box::new(input)))
}
