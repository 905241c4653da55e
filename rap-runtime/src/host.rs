//! How people's programs talk to a runtime: one trait, whether the runtime is in this process
//! ([`Runtime`](crate::Runtime)) or behind HTTP ([`RemoteHost`](crate::RemoteHost)).

use futures_util::stream::BoxStream;
use rap_core::{DeadLetterView, Interaction, Numbered, ThreadState};
use rap_types::{CallId, ContentPart, HttpUrl, ThreadId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A host of agents: sessions are made, written to, watched and stopped here.
#[async_trait::async_trait]
pub trait AgentHost: Send + Sync {
    /// Makes a session. All its servers are asked for their toolsets afresh and at once (TLS-12); what cannot
    /// be used is reported and the rest goes on.
    ///
    /// # Errors
    /// When servers are configured and none of them is usable ([`HostError::is_no_tools`]), or the host fails.
    async fn create(&self, new: NewSession) -> Result<SessionOpened, HostError>;

    /// Writes to a thread as a person. When this returns, the message is durable (P1). `key` names the
    /// message: sent twice under one key it counts once (P2).
    ///
    /// # Errors
    /// Unknown thread, closed thread, full inbox, or the host fails.
    async fn send(&self, thread: &ThreadId, key: &str, text: &str) -> Result<Sent, HostError> {
        self.send_content(thread, key, vec![ContentPart::text(text)]).await
    }

    /// Writes to a thread as a person, texts and images. A model that takes no images reads a note in the place of each
    /// (RES-04).
    ///
    /// # Errors
    /// As [`send`](Self::send); and where there is no content ([`HostError::is_refused`]). Over HTTP a message has 16 MiB at
    /// most, images in base64.
    async fn send_content(
        &self,
        thread: &ThreadId,
        key: &str,
        content: Vec<ContentPart>,
    ) -> Result<Sent, HostError>;

    /// Stops a thread and all below it: open calls are cancelled, and nothing goes on until a person writes.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    async fn stop(&self, thread: &ThreadId) -> Result<(), HostError>;

    /// Closes a thread and all below it for good.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    async fn close(&self, thread: &ThreadId) -> Result<(), HostError>;

    /// Has a thread's older history summarised, as it is by itself when the model's window fills up. Nothing is
    /// deleted; the model sees the summary in its place.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    async fn compact(&self, thread: &ThreadId) -> Result<(), HostError>;

    /// Asks all tool servers of a session again, now, whether or not they could be used before. One that was absent joins
    /// with its tools, which take no name from others; of one that is known only where it listens is taken over. What
    /// cannot be used is reported, and watchers see all that is new ([`Surface::Server`](rap_core::Surface::Server)). It
    /// is a control like [`compact`](Self::compact), durable before anybody is asked: what a kill cuts off is done after the
    /// next start.
    ///
    /// # Errors
    /// Unknown session; closed session, full inbox; or the host fails.
    async fn refresh(&self, session: &ThreadId) -> Result<SessionOpened, HostError>;

    /// Lets a thread and the open threads below it go on with another model from their next turns; none stands for the
    /// one that its session began with. New threads begin with their parent's. Any model takes over what another began.
    /// When this returns, the choice is durable. It wakes a thread that waits until its model may be asked again.
    ///
    /// # Errors
    /// When the host has no such model ([`HostError::is_refused`]; the sentence says what to do), and as
    /// [`send`](Self::send).
    async fn choose_model(&self, thread: &ThreadId, model: Option<&str>) -> Result<(), HostError>;

    /// What happened in a session after event number `after` (0 for all), then what happens. The stream ends
    /// when the host stops. Watching changes nothing. A watcher that reads nothing holds up nobody: what it may hold
    /// unread is bounded, and after a while its stream ends with an error ([`HostError::is_busy`]) that names the number
    /// after which it may come again.
    ///
    /// # Errors
    /// Unknown session, or the host fails.
    async fn watch(&self, session: &ThreadId, after: i64) -> Result<Watch, HostError>;

    /// The session's threads and what is open in them.
    ///
    /// # Errors
    /// Unknown session, or the host fails.
    async fn status(&self, session: &ThreadId) -> Result<SessionStatus, HostError>;

    /// What tools ask people in a session and nobody has answered yet, and the latest content of its views,
    /// oldest first. This is where an authorization's URL is found (OAU-01); events never hold it (OAU-04).
    ///
    /// # Errors
    /// Unknown session, or the host fails.
    async fn open_questions(&self, session: &ThreadId) -> Result<Vec<Asked>, HostError>;

    /// Picks one of the choices of a call, by its index from 0; the first answer wins (CHO-01). Where the agent
    /// itself asks whether a call may run ([`Interaction::Approval`], CON-02), 0 declines and 1 allows.
    ///
    /// # Errors
    /// No question ([`HostError::is_unknown`]), answered before ([`HostError::is_already`]), no such choice
    /// ([`HostError::is_refused`]), or the host fails.
    async fn answer(&self, call: &CallId, selected: u64) -> Result<(), HostError>;

    /// Answers the question of a call with none of its choices: its server is told the default (CHO-01). A call that waits
    /// for a person's word is declined (CON-02).
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    async fn dismiss(&self, call: &CallId) -> Result<(), HostError>;

    /// What could not be delivered or used, oldest first, of all sessions.
    ///
    /// # Errors
    /// When the host fails.
    async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, HostError>;

    /// Sends what could not be delivered once more, by its [number](DeadLetterView::id); it is a dead letter no more (P1).
    /// An invocation goes out under its old id, to where its server is now, and what comes of it reaches the model as an
    /// event (P10). That is so even where the server has refused it with a 4xx: the runtime never sends such a one again by
    /// itself (TRN-04), and a person's order is a new act, which watchers see as
    /// [`Surface::Resent`](rap_core::Surface::Resent); refused again, it is a dead letter again. A notice goes to every server of its session. An answer to a
    /// question goes to its server once more, if its call still waits for it and asks nothing else by now. An input that was
    /// never taken in is.
    ///
    /// # Errors
    /// No such letter ([`HostError::is_unknown`]), its thread is closed ([`HostError::is_ended`]), it cannot be of use
    /// any more ([`HostError::is_refused`]), a server did not take a notice ([`HostError::is_unreachable`]), or the host
    /// fails. Then it stays a dead letter.
    async fn resend(&self, letter: i64) -> Result<(), HostError>;

    /// Allows or declines a call that needs a person's word (CON-02); the first word wins.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    async fn approve(&self, call: &CallId, allow: bool) -> Result<(), HostError> {
        self.answer(call, u64::from(allow)).await
    }
}

/// Something that a tool asks or shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Asked {
    /// The thread.
    pub thread: ThreadId,
    /// What it is.
    #[serde(flatten)]
    pub interaction: Interaction,
}

/// A stream of what happens in a session.
pub type Watch = BoxStream<'static, Result<Watched, HostError>>;

/// A session to be made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NewSession {
    /// The base URLs of its tool servers; none stands for those that the runtime was configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub toolsets: Option<Vec<HttpUrl>>,
    /// The model; none stands for the runtime's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Who it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

impl NewSession {
    /// A session as the runtime is configured.
    pub fn new() -> Self {
        Self::default()
    }

    /// With these tool servers instead of the configured ones.
    #[must_use]
    pub fn toolsets(mut self, bases: impl IntoIterator<Item = HttpUrl>) -> Self {
        self.toolsets = Some(bases.into_iter().collect());
        self
    }

    /// With this model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }
}

/// A session that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionOpened {
    /// The session's id: that of its root thread.
    pub session: ThreadId,
    /// What cannot be used, to be shown to people.
    pub problems: Vec<ToolsetProblem>,
    /// How many tools of servers are offered to the model.
    pub tools: usize,
}

/// A toolset or a tool that is not offered, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ToolsetProblem {
    /// The server's base URL without query and credentials.
    pub server: String,
    /// What kind of problem it is.
    pub kind: ToolsetProblemKind,
    /// The whole story in a sentence that says what to do.
    pub message: String,
}

impl fmt::Display for ToolsetProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Kinds of [`ToolsetProblem`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolsetProblemKind {
    /// No answer, or "not now" (TLS-13).
    Unreachable,
    /// No answer, but its tools are known from before and are offered as they were (TLS-06).
    Stale,
    /// It wants credentials.
    Unauthorized,
    /// Something answers there, but no RAP server.
    NotAServer,
    /// The toolset is invalid as a whole (TLS-03, SUB-04).
    Invalid,
    /// Several toolsets define the tool, and none of them is heard (TLS-04).
    DoubledTool,
    /// The tool has the name of a built-in one.
    BuiltInName,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// It is in the thread's inbox.
    Accepted,
    /// A message of this key was sent before: nothing changed.
    Duplicate,
}

/// One thing that a watcher sees.
///
/// Chunks are provisional: the text of a turn as it comes, without a number. The turn's own
/// [`Surface::Text`](rap_core::Surface) comes as [`Committed`](Self::Committed) and holds the whole text, of which
/// a watcher may have seen the beginning as chunks of the same thread. A watcher that is slow gets fewer and
/// longer chunks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "watched", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Watched {
    /// Durable, and will be seen again by whoever watches from before its number.
    Committed(Numbered),
    /// A piece of the running turn's text.
    Chunk {
        /// The thread.
        thread: ThreadId,
        /// Which attempt at the turn; a new attempt begins at offset 0.
        attempt: u64,
        /// Where the piece begins, in bytes of the turn's text.
        offset: usize,
        /// The piece.
        text: String,
    },
    /// The attempt failed or was dropped: its text is to be erased.
    Dropped {
        /// The thread.
        thread: ThreadId,
        /// The attempt.
        attempt: u64,
    },
    /// Everything that had happened when the watching began has been told.
    CaughtUp,
}

/// The threads of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionStatus {
    /// The session.
    pub session: ThreadId,
    /// Its threads, in the order in which they were made; the root first.
    pub threads: Vec<ThreadStatus>,
}

impl SessionStatus {
    /// Whether nothing is going on: every thread rests, is paused or is closed. Subscriptions may live.
    pub fn is_at_rest(&self) -> bool {
        self.threads.iter().all(|thread| {
            matches!(thread.state, ThreadState::Resting | ThreadState::Paused | ThreadState::Closed)
        })
    }
}

/// A thread of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ThreadStatus {
    /// Its id.
    pub id: ThreadId,
    /// Its parent; none for the root.
    pub parent: Option<ThreadId>,
    /// What it is doing.
    pub state: ThreadState,
    /// The model that answers it, as `provider/model`; none stands for the host's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its open calls.
    pub open_calls: usize,
    /// Its active subscriptions.
    pub subscriptions: usize,
}

/// Why a host did not do what was asked: a sentence that says what to do, with predicates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    kind: HostErrorKind,
    message: String,
    problems: Vec<ToolsetProblem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostErrorKind {
    Unknown,
    Ended,
    Already,
    Busy,
    NoTools,
    Refused,
    Unreachable,
    Failed,
}

impl HostError {
    pub(crate) fn new(kind: HostErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), problems: Vec::new() }
    }

    pub(crate) fn with_problems(mut self, problems: Vec<ToolsetProblem>) -> Self {
        self.problems = problems;
        self
    }

    pub(crate) fn kind(&self) -> HostErrorKind {
        self.kind
    }

    /// There is no such session or thread.
    pub fn is_unknown(&self) -> bool {
        self.kind == HostErrorKind::Unknown
    }

    /// The thread is closed.
    pub fn is_ended(&self) -> bool {
        self.kind == HostErrorKind::Ended
    }

    /// Somebody has answered before: the first answer wins (CHO-01).
    pub fn is_already(&self) -> bool {
        self.kind == HostErrorKind::Already
    }

    /// The thread's inbox is full, and later it may not be; or this watcher was too slow, and may watch again.
    pub fn is_busy(&self) -> bool {
        self.kind == HostErrorKind::Busy
    }

    /// Servers are configured and none of them is usable.
    pub fn is_no_tools(&self) -> bool {
        self.kind == HostErrorKind::NoTools
    }

    /// The host does not know us (a wrong token), or the request was wrong.
    pub fn is_refused(&self) -> bool {
        self.kind == HostErrorKind::Refused
    }

    /// The host does not answer.
    pub fn is_unreachable(&self) -> bool {
        self.kind == HostErrorKind::Unreachable
    }

    /// What could not be used, where [`is_no_tools`](Self::is_no_tools).
    pub fn problems(&self) -> &[ToolsetProblem] {
        &self.problems
    }
}

impl From<rap_core::StoreError> for HostError {
    fn from(error: rap_core::StoreError) -> Self {
        Self::new(HostErrorKind::Failed, error.to_string())
    }
}
