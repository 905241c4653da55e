//! Is what we wait for still alive? After a restart of ours or of a server, and then from time to time where it has been
//! open for long (P11), each open call that its server had taken is asked about, at that server alone (STA-02). Only
//! `alive: false` ends a call, with an error result (STA-03, STA-04); everything else means that nothing is known, and the
//! call stays open.

use crate::{Runtime, clock, servers::key};
use futures_util::{StreamExt, stream};
use rap_client::CallStatus;
use rap_core::{CallRoute, CallState, CallView, InputBody, InputId, Millis, NewInput, Outcome};
use rap_types::{HttpUrl, ToolCallStatus};

/// Questions on their way at once.
const AT_ONCE: usize = 8;

/// Asks about all open calls that were delivered before this process began, and later about those that are as old as
/// the time between two askings.
pub(super) async fn ask_again_and_again(runtime: Runtime) {
    let every = runtime.inner.ask_every;
    let age = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    ask_about_open_calls(&runtime, Millis(i64::MAX), None).await;
    loop {
        tokio::time::sleep(every).await;
        ask_about_open_calls(&runtime, clock::now() + -age, None).await;
    }
}

/// Asks about all open calls that servers had taken which were away for a while.
pub(super) async fn ask_about_calls_at(runtime: &Runtime, bases: &[HttpUrl]) {
    ask_about_open_calls(runtime, Millis(i64::MAX), Some(bases)).await;
}

/// Asks about the open calls that were made before a time, at all servers or at some.
async fn ask_about_open_calls(runtime: &Runtime, before: Millis, at: Option<&[HttpUrl]>) {
    let open = match runtime.inner.store.calls(true).await {
        Ok(open) => open,
        Err(error) => {
            tracing::error!(%error, "open calls cannot be read, so nobody is asked about them");
            return;
        }
    };
    let delivered = open.into_iter().filter(|call| {
        let waited_for = matches!(call.row.state, CallState::Pending | CallState::Detached);
        call.row.route == CallRoute::Rap
            && waited_for
            && !call.undelivered
            && call.row.outcome.is_none()
            && call.row.created_at <= before
    });
    stream::iter(delivered)
        .for_each_concurrent(AT_ONCE, async |call| {
            ask(runtime, &call, at).await;
        })
        .await;
}

async fn ask(runtime: &Runtime, call: &CallView, at: Option<&[HttpUrl]>) {
    let Some((name, base)) = server_of(runtime, call).await else { return };
    if at.is_some_and(|at| !at.iter().any(|at| key(at) == key(&base))) {
        return;
    }
    let question = ToolCallStatus::new(call.row.thread.clone(), call.row.id.clone());
    match runtime.inner.net.to(&base).status(&base, &question).await {
        CallStatus::Alive => {}
        CallStatus::Unknown { reason, .. } => {
            tracing::info!(call = %call.row.id, server = name, reason, "nothing is known of an open call");
        }
        CallStatus::Gone => {
            let text = format!(
                "the server {name} no longer knows this call: its work was lost, whole or in part; look at what was done before you call again"
            );
            let input = NewInput {
                thread: call.row.thread.clone(),
                id: InputId::outcome(&call.row.id),
                source: "runtime".to_owned(),
                body: InputBody::Outcome { call: call.row.id.clone(), outcome: Outcome::error(text) },
                traceparent: None,
            };
            match runtime.inner.store.accept(input, clock::now()).await {
                Ok(_) => runtime.inner.hub.ring(),
                Err(error) => tracing::error!(%error, "a lost call could not be ended"),
            }
        }
    }
}

/// The server that got the call: its name and its base.
async fn server_of(runtime: &Runtime, call: &CallView) -> Option<(String, HttpUrl)> {
    let session = runtime.inner.store.session(&call.session).await.ok()??;
    let tool = session.toolbox.tool(&call.row.name)?;
    let card = session.toolbox.servers.get(tool.server)?;
    Some((card.name.clone(), card.base.clone()))
}
