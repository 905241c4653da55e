//! Dead letters: what could not be delivered or used, and what a person may have done with it.
//!
//! A server that has refused an invocation with a 4xx is never sent it again by the runtime (TRN-04). A person's order is
//! another matter: it is a new act, made in the knowledge of the refusal, once, and shown as such.

use crate::{HostError, Runtime, clock, host::HostErrorKind, session::nonce};
use rap_client::Notice;
use rap_core::{
    Accepted, Answered, DeadLetterView, DeliveryKind, InputBody, InputId, NewInput, Reply, Surface,
    SurfaceEvent,
};
use rap_types::{CallId, CancelToolCall, CloseThread, ThreadId};

impl Runtime {
    pub(crate) async fn letters(&self) -> Result<Vec<DeadLetterView>, HostError> {
        Ok(self.inner.store.dead_letters().await?)
    }

    pub(crate) async fn send_letter_again(&self, id: i64) -> Result<(), HostError> {
        let letter = self.letters().await?.into_iter().find(|letter| letter.id == id);
        let letter = letter.ok_or_else(|| {
            HostError::new(HostErrorKind::Unknown, format!("there is no dead letter {id}; list them"))
        })?;
        let thread = ThreadId::new(letter.thread.clone()).map_err(|e| refused(e.to_string()))?;
        match letter.request() {
            Some((DeliveryKind::Invocation, Some(call))) => {
                let name = letter.body["operation"].as_str().unwrap_or("a tool").to_owned();
                self.invoke_again(&thread, call, name).await?;
            }
            Some((DeliveryKind::Refresh, _)) => {
                let message = "refresh the session: its servers are asked then";
                return Err(refused(message));
            }
            Some((DeliveryKind::CloseThread, _)) => {
                self.tell_again(&thread, &Notice::CloseThread(CloseThread::new(thread.clone()))).await?;
            }
            Some((DeliveryKind::CancelToolCall, Some(call))) => {
                let notice = CancelToolCall::new(thread.clone(), call);
                self.tell_again(&thread, &Notice::CancelToolCall(notice)).await?;
            }
            Some((DeliveryKind::ChoiceAnswer, Some(call))) => self.answer_again(&letter, &call).await?,
            Some(_) => return Err(refused("it names no call; nobody knows any more what it was for")),
            None => self.take_again(&letter, thread).await?,
        }
        self.inner.store.drop_dead_letter(id).await?;
        Ok(())
    }

    /// An invocation goes back into the outbox, with what its thread's next slice commits.
    async fn invoke_again(&self, thread: &ThreadId, call: CallId, name: String) -> Result<(), HostError> {
        let input = NewInput {
            thread: thread.clone(),
            id: InputId::control(&nonce()?),
            source: "person".to_owned(),
            body: InputBody::Resend { call: call.clone() },
            traceparent: None,
        };
        match self.inner.store.accept(input, clock::now()).await? {
            Accepted::Accepted => {
                let event = SurfaceEvent { thread: thread.clone(), what: Surface::Resent { call, name } };
                self.inner.store.show(&event, clock::now()).await?;
                self.inner.hub.ring();
                Ok(())
            }
            Accepted::Duplicate => {
                Err(refused(format!("the call {call} has its outcome already, or was cancelled")))
            }
            Accepted::Ended => Err(HostError::new(
                HostErrorKind::Ended,
                format!("the thread {thread} is closed: nobody would see what comes of the call"),
            )),
            _ => Err(HostError::new(HostErrorKind::Unknown, format!("there is no call {call} any more"))),
        }
    }

    /// An answer goes to where its question says, as long as the call waits for that answer and for no other (CHO-04).
    async fn answer_again(&self, letter: &DeadLetterView, call: &CallId) -> Result<(), HostError> {
        let selected = letter.body["selected"].as_u64().ok_or_else(|| refused("it cannot be read"))?;
        match self.inner.store.reply(call, Reply::PickAgain(selected), clock::now()).await? {
            Answered::Accepted => {
                self.inner.hub.ring();
                Ok(())
            }
            Answered::Already => Err(refused(format!("another answer for the call {call} is on its way"))),
            Answered::NoQuestion | Answered::NoSuchChoice(_) => Err(refused(format!(
                "the call {call} waits for it no more; if it asks something now, answer that"
            ))),
        }
    }

    /// A notice is sent to every server of the session, now and once: those that had it before say 200 again (CLS-02,
    /// CAN-02).
    async fn tell_again(&self, thread: &ThreadId, notice: &Notice) -> Result<(), HostError> {
        let gone = || HostError::new(HostErrorKind::Unknown, format!("there is no thread {thread} any more"));
        let view = self.inner.store.recent_history(thread).await?.ok_or_else(gone)?;
        let session = self.inner.store.session(&view.thread.row.session).await?.ok_or_else(gone)?;
        let bases = session.toolbox.bases().map(|base| self.inner.servers.configured_base(&session, base));
        let told = bases
            .map(|at| async move { self.inner.net.to(&at).notify(std::slice::from_ref(&at), notice).await });
        let told = futures_util::future::join_all(told).await;
        let missed: Vec<String> = told
            .into_iter()
            .flatten()
            .filter(|told| !told.attempt.is_delivered())
            .map(|told| format!("{}: {}", told.base.redacted(), told.attempt))
            .collect();
        if missed.is_empty() {
            return Ok(());
        }
        let message = format!("it was not taken by {}; try again when they are there", missed.join(", by "));
        Err(HostError::new(HostErrorKind::Unreachable, message))
    }

    /// An input is taken in again, if it never was.
    async fn take_again(&self, letter: &DeadLetterView, thread: ThreadId) -> Result<(), HostError> {
        let body: InputBody = serde_json::from_value::<InputBody>(letter.body.clone())
            .map_err(|e| refused(format!("it cannot be read: {e}")))?;
        let id = InputId::from_stored(letter.what.clone());
        let input = NewInput { thread, id, source: "person".to_owned(), body, traceparent: None };
        match self.inner.store.accept(input, clock::now()).await? {
            Accepted::Accepted => {
                self.inner.hub.ring();
                Ok(())
            }
            // The store has put it away anew, under another number.
            Accepted::Discarded(why) => {
                self.inner.store.drop_dead_letter(letter.id).await?;
                Err(refused(format!("it cannot be used now either: {why}")))
            }
            Accepted::Duplicate => Err(refused(format!(
                "it was taken in once and had its effect, which was to be put away: {}",
                letter.reason
            ))),
            Accepted::Busy => {
                Err(HostError::new(HostErrorKind::Busy, "the inbox of its thread is full; try again later"))
            }
            Accepted::Ended => {
                Err(HostError::new(HostErrorKind::Ended, "its thread is closed, or its subscription is over"))
            }
            Accepted::UnknownThread => {
                Err(HostError::new(HostErrorKind::Unknown, "its thread is not there any more"))
            }
        }
    }
}

fn refused(message: impl Into<String>) -> HostError {
    HostError::new(HostErrorKind::Refused, message)
}
