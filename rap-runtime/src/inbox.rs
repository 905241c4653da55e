//! The gateway's inbox: what servers say becomes inputs, and 200 is answered when they are durable (TRN-09).

use crate::{Runtime, clock, session::nonce};
use rap_client::{Callback, Inbox, InboxError, Taken};
use rap_core::{Accepted, NewInput};
use rap_types::CallbackMessage;
use std::time::Duration;

/// When a server is asked to come again.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct CallbackInbox {
    runtime: Runtime,
}

impl CallbackInbox {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { runtime }
    }

    async fn accept(&self, input: NewInput) -> Result<Taken, InboxError> {
        let id = input.id.clone();
        let thread = input.thread.clone();
        let accepted =
            self.runtime.inner.store.accept(input, clock::now()).await.map_err(|e| InboxError::Failed(e.into()))?;
        Ok(match accepted {
            Accepted::Accepted => {
                self.runtime.inner.hub.ring();
                Taken::Accepted
            }
            Accepted::Duplicate => Taken::Duplicate,
            Accepted::Discarded(reason) => {
                tracing::info!(%thread, input = %id, reason, "a callback was discarded");
                Taken::Discarded
            }
            Accepted::UnknownThread => Taken::UnknownThread,
            Accepted::Ended => Taken::Ended,
            Accepted::Busy => return Err(InboxError::Busy { retry_after: AGAIN }),
        })
    }
}

#[async_trait::async_trait]
impl Inbox for CallbackInbox {
    async fn take(&self, callback: Callback) -> Result<Taken, InboxError> {
        let trace = callback.traceparent;
        match callback.message {
            CallbackMessage::ToolResult(result) => {
                let (thread, call) = (result.group_id.clone(), result.id.clone());
                let taken = self.accept(NewInput::result(result, trace)).await?;
                self.runtime.inner.hub.call_ended(&thread, &call);
                Ok(taken)
            }
            CallbackMessage::SubscriptionEvent(event) => {
                let nonce = nonce().map_err(|e| InboxError::Failed(e.into()))?;
                self.accept(NewInput::event(event, &nonce, trace)).await
            }
            _ => Ok(Taken::Discarded),
        }
    }
}
