//! What a store keeps: sessions, threads, calls, subscriptions, and the snapshot that a slice starts from.

use crate::{History, Input, InputBody, Millis, Outcome, Rules, Toolbox};
use rap_types::{CallId, ThreadId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A session: a root thread with all below it, its tools and its settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The session's id: that of its root thread.
    pub id: ThreadId,
    /// Who it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// On whose behalf tools are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// When it began.
    pub created_at: Millis,
    /// The model that it began with, as `provider/model`; none stands for the runtime's default. Threads may have
    /// been given others since ([`ThreadRow::model`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The system prompt.
    pub system: String,
    /// The tools, frozen.
    pub toolbox: Toolbox,
    /// The limits and policies.
    pub rules: Rules,
}

/// A part of a history that a thread takes over from an ancestor: its entries before `upto`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The ancestor.
    pub thread: ThreadId,
    /// The number of its first entry that is not seen.
    pub upto: u64,
}

/// How a thread came to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "made_for", rename_all = "snake_case")]
pub enum ThreadKind {
    /// It is the root of its session.
    Root,
    /// A model spawned it.
    Spawned {
        /// The call of `spawn_thread`.
        call: CallId,
        /// Its arguments.
        arguments: Value,
    },
    /// An event made it.
    Event {
        /// The subscribing call.
        call: CallId,
        /// The subscribing tool.
        name: String,
        /// The subscribing call's arguments.
        arguments: Value,
    },
}

/// A thread's row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ThreadRow {
    /// Its id; on the wire `group_id`.
    pub id: ThreadId,
    /// Its session.
    pub session: ThreadId,
    /// Its ancestors, root first, parent last; empty for a root.
    pub ancestors: Vec<ThreadId>,
    /// What it sees of its ancestors' histories, root first.
    pub chain: Vec<Segment>,
    /// How it came to be.
    pub kind: ThreadKind,
    /// Rises with every commit on it: the fence (P4).
    pub version: i64,
    /// The number of its next own entry.
    pub next_entry: u64,
    /// It is stopped: no slice until a person writes.
    pub paused: bool,
    /// It is closed for good.
    pub closed: bool,
    /// The model has something new to see.
    pub model_owed: bool,
    /// When the newest turn with open calls was committed: patience counts from here.
    pub turn_at: Option<Millis>,
    /// It has told its parent how it came to rest, and was asked for nothing since.
    pub reported: bool,
    /// The model failed and is to be asked again at this time; only a person's message brings that forward.
    pub retry_at: Option<Millis>,
    /// Whether its history is being summarised.
    pub compaction: Compaction,
    /// Events wait until fewer than so many threads of the session are open.
    pub waits_for_room: Option<usize>,
    /// The model that was chosen for it after its session began, as `provider/model`; a new thread has its parent's.
    /// None: the session's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The hash of its newest slice record; empty before the first.
    pub last_record: String,
}

/// Whether a thread's history is being summarised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compaction {
    /// It is not.
    #[default]
    Idle,
    /// It is to be, beside the thread's work.
    Asked,
    /// It is to be, and the model is not asked before: its request did not fit.
    Needed,
    /// It was, and no turn has come since.
    Fresh,
}

impl Compaction {
    /// Whether a summary is owed.
    pub fn is_owed(self) -> bool {
        matches!(self, Self::Asked | Self::Needed)
    }

    pub(crate) fn is_idle(&self) -> bool {
        *self == Self::Idle
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallRoute {
    /// To a tool server, by the outbox.
    Rap,
    /// Nowhere: it was answered in the decision itself.
    Instant,
    /// Nowhere: a due time answers it.
    Timer,
    /// To the program around the runtime, by the outbox.
    Embedded,
}

impl CallRoute {
    /// Whether calls of this route leave by the outbox and are answered later.
    pub fn is_sent(self) -> bool {
        matches!(self, Self::Rap | Self::Embedded)
    }
}

/// Where a call is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallState {
    /// A person must allow it; nothing was sent.
    AwaitingApproval,
    /// Sent or to be sent; its outcome becomes its result.
    Pending,
    /// We did not wait: its outcome comes as an event.
    Detached,
    /// We said ourselves that it is lost; an outcome may still come, as an event.
    PresumedLost,
    /// It never ran.
    Refused,
    /// It has its outcome.
    Done,
    /// It was cancelled; it may already have taken effect.
    Cancelled,
}

impl CallState {
    /// Whether an outcome is still awaited.
    pub fn is_open(self) -> bool {
        matches!(self, Self::AwaitingApproval | Self::Pending | Self::Detached)
    }
}

/// A call's row; also the dedupe key of its outcome, for the life of its thread.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallRow {
    /// The call.
    pub id: CallId,
    /// Its thread.
    pub thread: ThreadId,
    /// The number of its turn's entry.
    pub turn: u64,
    /// Its index in the turn.
    pub index: usize,
    /// The tool, as the model named it.
    pub name: String,
    /// The arguments, as the model gave them.
    pub arguments: Value,
    /// Where it goes.
    pub route: CallRoute,
    /// Where it is in its life.
    pub state: CallState,
    /// Nobody should wait for it.
    pub long_running: bool,
    /// When it was committed.
    pub created_at: Millis,
    /// When its timer fires.
    pub due_at: Option<Millis>,
    /// What came of it; known before history shows it when the turn's other calls are still open.
    pub outcome: Option<Outcome>,
}

impl CallRow {
    /// Whether it may still ask people something (see [`Interaction::is_welcome`](crate::Interaction)).
    pub fn may_ask(&self) -> bool {
        crate::Interaction::is_welcome(self.state, self.outcome.is_some())
    }
}

/// Whether a subscription lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Events are taken.
    Active,
    /// A final event came (SUB-06).
    Ended,
    /// It was cancelled (SUB-09).
    Cancelled,
}

/// A subscription's row: independent of what history still shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubscriptionRow {
    /// The subscribing call.
    pub call: CallId,
    /// The thread that made it.
    pub thread: ThreadId,
    /// The subscribing tool, as the model named it.
    pub name: String,
    /// The subscribing call's arguments.
    pub arguments: Value,
    /// Whether it lives.
    pub state: SubscriptionState,
    /// When it was confirmed.
    pub created_at: Millis,
}

/// What made a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChildKind {
    /// A call of `spawn_thread`.
    Spawned,
    /// An event.
    Event,
}

/// A direct child of a thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// The child.
    pub id: ThreadId,
    /// What made it.
    pub kind: ChildKind,
    /// It is not closed.
    pub open: bool,
}

/// The kinds of requests in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DeliveryKind {
    /// An invocation: 2 minutes, never again after a 4xx (TRN-03, TRN-04).
    Invocation,
    /// A notice that a call was cancelled: once (CAN-01).
    CancelToolCall,
    /// A notice that a thread was closed: once (CLS-01).
    CloseThread,
    /// The answer to a choice (CHO-01).
    ChoiceAnswer,
    /// All servers of the session are asked for their toolsets again, because a person wants it so. Its URL is the
    /// first one's; its body says since when that is wanted, as `asked_at`.
    Refresh,
}

/// States of a thread, as people see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThreadState {
    /// Due or claimed.
    Running,
    /// Calls, timers or approvals are open.
    Waiting,
    /// Nothing is open but subscriptions or children.
    Resting,
    /// Stopped.
    Paused,
    /// Closed.
    Closed,
}

/// What a slice starts from. It holds all that a decision may need and nothing of the outside.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The session.
    pub session: Arc<Session>,
    /// Completions of the session since a person last wrote: the runaway guard.
    pub completions: u64,
    /// Tokens of the session since a person last wrote, as commits have counted them ([`Commit::tokens`](crate::Commit)).
    pub tokens: u64,
    /// Open threads in the session.
    pub open_threads: usize,
    /// The thread.
    pub thread: ThreadRow,
    /// What the model is shown, oldest first: its chain's entries, then its own, or from the newest summary on.
    pub history: History,
    /// The calls that are open, those of the newest turn, and those that an input names: by turn and index. Others, of
    /// which there may be any number, are [asked for](crate::Store::call) where the model names them.
    pub calls: Vec<CallRow>,
    /// The thread's active subscriptions and those that an input names: by time, then by call.
    pub subscriptions: Vec<SubscriptionRow>,
    /// The calls that ask people something nobody has answered: they do not end soon.
    pub asking: Vec<CallId>,
    /// The thread's children, in the order in which they were made. A store may leave out old ones that are
    /// closed.
    pub children: Vec<Child>,
    /// Its unconsumed inputs, in order of arrival.
    pub inputs: Vec<Input>,
}

impl Snapshot {
    /// The model that answers the thread; none stands for the runtime's default.
    pub fn model(&self) -> Option<&str> {
        self.thread.model.as_deref().or(self.session.model.as_deref())
    }

    /// The model that a slice from here asks: what its inputs choose counts already. None stands for the runtime's
    /// default.
    pub fn next_model(&self) -> Option<&str> {
        let chosen = self.inputs.iter().rev().find_map(|input| match &input.body {
            InputBody::UseModel { model } => Some(model.as_deref()),
            _ => None,
        });
        chosen.unwrap_or(self.thread.model.as_deref()).or(self.session.model.as_deref())
    }

    /// The thread's parent.
    pub fn parent(&self) -> Option<&ThreadId> {
        self.thread.ancestors.last()
    }
}
