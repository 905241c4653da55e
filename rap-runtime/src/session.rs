//! The runtime as a host: sessions are made, written to, stopped, answered and looked at.

use crate::{
    AgentHost, Asked, Choices, HostError, NewSession, Runtime, Sent, SessionOpened, SessionStatus,
    ThreadStatus, Watch, clock, host::HostErrorKind, toolsets, watch,
};
use rap_core::{
    Accepted, Answered, DeadLetterView, DestructivePolicy, InputBody, InputId, NewInput, Reply, Rules,
    Session,
};
use rap_types::{CallId, ContentPart, ThreadId};

#[async_trait::async_trait]
impl AgentHost for Runtime {
    async fn create(&self, new: NewSession) -> Result<SessionOpened, HostError> {
        self.model_for(new.model.as_deref()).map_err(|why| HostError::new(HostErrorKind::Refused, why))?;
        let configured =
            || self.inner.servers.configured.iter().map(|server| server.base().clone()).collect();
        let bases = new.toolsets.unwrap_or_else(configured);
        let (toolbox, problems) = self.discover(&bases).await;
        if toolbox.servers.is_empty() && !bases.is_empty() {
            let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let message = format!("no tool server can be used:\n{}", told.join("\n"));
            return Err(HostError::new(HostErrorKind::NoTools, message).with_problems(problems));
        }
        let session = Session {
            id: new_thread_id()?,
            owner: new.owner,
            user: None,
            created_at: clock::now(),
            model: new.model,
            system: self.inner.system_prompt.clone(),
            toolbox,
            rules: self.rules(),
        };
        self.inner.store.create(&session).await?;
        self.tell_news(&session.id, problems.iter().map(toolsets::told)).await?;
        self.inner.servers.session_runs(&session);
        self.inner.hub.ring();
        Ok(SessionOpened { tools: session.toolbox.tools.len(), session: session.id, problems })
    }

    async fn send_content(
        &self,
        thread: &ThreadId,
        key: &str,
        content: Vec<ContentPart>,
    ) -> Result<Sent, HostError> {
        self.send_traced(thread, key, content, None).await
    }

    async fn stop(&self, thread: &ThreadId) -> Result<(), HostError> {
        self.control(thread, InputBody::Stop).await
    }

    async fn close(&self, thread: &ThreadId) -> Result<(), HostError> {
        self.control(thread, InputBody::Close).await
    }

    async fn compact(&self, thread: &ThreadId) -> Result<(), HostError> {
        self.control(thread, InputBody::Compact).await
    }

    async fn refresh(&self, session: &ThreadId) -> Result<SessionOpened, HostError> {
        let Some(found) = self.inner.store.session(session).await? else {
            return Err(watch::unknown_session(session));
        };
        // Taken on before the control is in the inbox, so that the driver does not do it as well. It does if this is
        // cut off.
        let refresh = self.inner.servers.next_refresh(session).await;
        self.control(session, InputBody::Refresh).await?;
        let problems = self.ask_all_servers(&found, refresh).await?;
        let tools = match self.inner.store.session(session).await? {
            Some(now) => now.toolbox.tools.len(),
            None => 0,
        };
        Ok(SessionOpened { session: session.clone(), problems, tools })
    }

    async fn choose_model(&self, thread: &ThreadId, model: Option<&str>) -> Result<(), HostError> {
        self.model_for(model).map_err(|why| HostError::new(HostErrorKind::Refused, why))?;
        self.control(thread, InputBody::UseModel { model: model.map(str::to_owned) }).await
    }

    async fn watch(&self, session: &ThreadId, after: i64) -> Result<Watch, HostError> {
        watch::watch(self, session, after).await
    }

    async fn status(&self, session: &ThreadId) -> Result<SessionStatus, HostError> {
        let threads = self.inner.store.threads(session).await?;
        let Some(row) = self.inner.store.session(session).await? else {
            return Err(watch::unknown_session(session));
        };
        let threads = threads.into_iter().map(|view| ThreadStatus {
            model: view.row.model.or_else(|| row.model.clone()),
            id: view.row.id,
            parent: view.row.ancestors.last().cloned(),
            state: view.state,
            open_calls: view.open_calls,
            subscriptions: view.subscriptions,
        });
        Ok(SessionStatus { session: session.clone(), threads: threads.collect() })
    }

    async fn open_questions(&self, session: &ThreadId) -> Result<Vec<Asked>, HostError> {
        if self.inner.store.session(session).await?.is_none() {
            return Err(watch::unknown_session(session));
        }
        let open = self.inner.store.interactions(session).await?;
        Ok(open
            .into_iter()
            .map(|open| Asked { thread: open.thread, interaction: open.interaction })
            .collect())
    }

    async fn answer(&self, call: &CallId, selected: u64) -> Result<(), HostError> {
        self.reply(call, Reply::Pick(selected), "asks nothing").await
    }

    async fn dismiss(&self, call: &CallId) -> Result<(), HostError> {
        self.reply(call, Reply::Dismiss, "asks nothing").await
    }

    async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, HostError> {
        self.letters().await
    }

    async fn resend(&self, letter: i64) -> Result<(), HostError> {
        self.send_letter_again(letter).await
    }

    async fn approve(&self, call: &CallId, allow: bool) -> Result<(), HostError> {
        self.reply(call, Reply::Allow(allow), "waits for nobody's word").await
    }
}

impl Runtime {
    /// The limits and policies of a new session. With nobody to ask, the policy decides at once: deny.
    fn rules(&self) -> Rules {
        let mut rules = self.inner.rules.clone();
        if self.inner.choices == Choices::Dismiss && rules.destructive == DestructivePolicy::Ask {
            rules.destructive = DestructivePolicy::Deny;
        }
        rules
    }

    /// A person's word on what a call asks; `otherwise`: what is so of a call that does not ask it.
    async fn reply(&self, call: &CallId, reply: Reply, otherwise: &str) -> Result<(), HostError> {
        let (kind, message) = match self.inner.store.reply(call, reply, clock::now()).await? {
            Answered::Accepted => {
                self.inner.hub.ring();
                return Ok(());
            }
            Answered::Already => (HostErrorKind::Already, "somebody has answered already".to_owned()),
            Answered::NoQuestion => (HostErrorKind::Unknown, format!("the call {call} {otherwise}")),
            Answered::NoSuchChoice(choices) => (
                HostErrorKind::Refused,
                format!("there are {choices} choices, counted from 0; pick one of them"),
            ),
        };
        Err(HostError::new(kind, message))
    }

    /// A person's message, with the W3C trace that it belongs to.
    pub(crate) async fn send_traced(
        &self,
        thread: &ThreadId,
        key: &str,
        content: Vec<ContentPart>,
        traceparent: Option<String>,
    ) -> Result<Sent, HostError> {
        if content.is_empty() {
            let message = "the message is empty: give it a text, or an image";
            return Err(HostError::new(HostErrorKind::Refused, message));
        }
        if content.iter().any(|part| matches!(part, ContentPart::Other(_))) {
            let message =
                "the message has a part that is neither a text nor an image; send what it says as text";
            return Err(HostError::new(HostErrorKind::Refused, message));
        }
        let input = NewInput::message(thread.clone(), key, content, self.source());
        self.enter(NewInput { traceparent, ..input }).await
    }

    fn source(&self) -> &'static str {
        "person"
    }

    async fn control(&self, thread: &ThreadId, body: InputBody) -> Result<(), HostError> {
        let id = InputId::control(&nonce()?);
        let source = self.source().to_owned();
        let input = NewInput { thread: thread.clone(), id, source, body, traceparent: None };
        self.enter(input).await.map(|_| ())
    }

    async fn enter(&self, input: NewInput) -> Result<Sent, HostError> {
        let (thread, id, urgent) = (input.thread.clone(), input.id.clone(), input.body.is_by_person());
        match self.inner.store.accept(input, clock::now()).await? {
            Accepted::Accepted => {
                // Everything else waits for the turn's end.
                if urgent {
                    self.inner.hub.interrupt(&thread, &id);
                }
                self.inner.hub.ring();
                Ok(Sent::Accepted)
            }
            Accepted::Duplicate => Ok(Sent::Duplicate),
            Accepted::UnknownThread => {
                Err(HostError::new(HostErrorKind::Unknown, format!("there is no thread {thread}")))
            }
            Accepted::Ended => Err(HostError::new(
                HostErrorKind::Ended,
                format!("the thread {thread} is closed; begin a session"),
            )),
            Accepted::Discarded(reason) => Err(HostError::new(HostErrorKind::Refused, reason)),
            Accepted::Busy => {
                let message = format!("the inbox of thread {thread} is full; write again later");
                Err(HostError::new(HostErrorKind::Busy, message))
            }
        }
    }
}

/// 20 characters of lower-case base32, as derived ids have.
fn new_thread_id() -> Result<ThreadId, HostError> {
    let mut id = nonce()?;
    id.truncate(20);
    ThreadId::new(id).map_err(|e| HostError::new(HostErrorKind::Failed, e.to_string()))
}

/// 26 random characters.
pub(crate) fn nonce() -> Result<String, HostError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| {
        HostError::new(HostErrorKind::Failed, format!("the system gives no random bytes: {e}"))
    })?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}
