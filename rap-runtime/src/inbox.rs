//! The gateway's inbox: what servers say becomes inputs, and 200 is answered when they are durable (TRN-09).

use crate::{Choices, Runtime, clock, session::nonce};
use rap_client::{Callback, Inbox, InboxError, Taken};
use rap_core::{Accepted, Interaction, NewInput, StoreError};
use rap_types::{CallbackMessage, ThreadId, ViewUpdate};
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
        let (thread, id) = (input.thread.clone(), input.id.to_string());
        let accepted = self.runtime.inner.store.accept(input, clock::now()).await.map_err(failed)?;
        self.taken(accepted, &thread, &id)
    }

    /// Views and questions are kept beside the conversation and wake no thread.
    async fn interact(&self, thread: &ThreadId, interaction: Interaction) -> Result<Taken, InboxError> {
        let store = &self.runtime.inner.store;
        let question = match &interaction {
            Interaction::Choice { call, default, .. } => Some((call.clone(), *default)),
            _ => None,
        };
        let accepted = store.interact(thread, interaction, clock::now()).await.map_err(failed)?;
        if let Some((call, default)) = question
            && self.runtime.inner.choices == Choices::Dismiss
            && matches!(accepted, Accepted::Accepted | Accepted::Duplicate)
        {
            // Nobody is there to ask: a dismissal, which picks the default (CHO-01). The answer is in the outbox
            // before the question is acknowledged; a kill in between has the question sent again.
            store.answer(&call, default, clock::now()).await.map_err(failed)?;
        }
        self.taken(accepted, thread, "interaction")
    }

    fn taken(&self, accepted: Accepted, thread: &ThreadId, what: &str) -> Result<Taken, InboxError> {
        Ok(match accepted {
            Accepted::Accepted => {
                self.runtime.inner.hub.ring();
                Taken::Accepted
            }
            Accepted::Duplicate => Taken::Duplicate,
            Accepted::Discarded(reason) => {
                // RES-08, SUB-08.
                tracing::info!(%thread, what, reason, "a callback was discarded");
                Taken::Discarded
            }
            Accepted::UnknownThread => Taken::UnknownThread,
            Accepted::Ended => Taken::Ended,
            Accepted::Busy => return Err(InboxError::Busy { retry_after: AGAIN }),
        })
    }
}

fn failed(error: StoreError) -> InboxError {
    InboxError::Failed(error.into())
}

#[async_trait::async_trait]
impl Inbox for CallbackInbox {
    async fn take(&self, callback: Callback) -> Result<Taken, InboxError> {
        let trace = callback.traceparent;
        match callback.message {
            CallbackMessage::ToolResult(result) => self.accept(NewInput::result(result, trace)).await,
            CallbackMessage::SubscriptionEvent(event) => {
                let nonce = nonce().map_err(|e| InboxError::Failed(e.into()))?;
                self.accept(NewInput::event(event, &nonce, trace)).await
            }
            CallbackMessage::ViewUpdate(ViewUpdate { group_id, view_type, content, .. }) => {
                self.interact(&group_id, Interaction::View { view_type, content }).await
            }
            CallbackMessage::UserChoice(asked) => {
                let choice = Interaction::Choice {
                    call: asked.id.clone(),
                    prompt: asked.prompt.clone(),
                    choices: asked.choices().to_vec(),
                    default: asked.default_index().get(),
                    response_url: asked.response_url.clone(),
                };
                self.interact(&asked.group_id, choice).await
            }
            CallbackMessage::OAuth(asked) => {
                let url = asked.auth_url().clone();
                self.interact(&asked.group_id, Interaction::Authorize { call: asked.id, url }).await
            }
            other => {
                tracing::info!(thread = %other.group_id(), "a callback of an unknown kind was discarded");
                Ok(Taken::Discarded)
            }
        }
    }
}
