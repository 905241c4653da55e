//! What a slice decides: everything it changes, to be written in one transaction.

use crate::{
    CallRow, Compaction, DeliveryKind, Entry, HistoryDigest, InputId, Millis, Moment, NewInput, Outcome,
    Snapshot, SubscriptionRow, SurfaceEvent, ThreadRow, TurnOutcome,
};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One slice's changes. A store writes all of it or nothing, and only if the thread's version is still
/// the one that the slice loaded (P4).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Commit {
    /// The thread.
    pub thread: ThreadId,
    /// The thread's version that the slice loaded; the commit makes it one more.
    pub version: i64,
    /// The newest input (by `seq`) that the slice has seen. If a newer one is there, the thread is due now.
    pub seen: i64,
    /// Inputs that are used up, by `seq`.
    pub consumed: Vec<i64>,
    /// Inputs that could not be used, with the reason; used up as well.
    pub dead_letters: Vec<DeadLetter>,
    /// New entries of the thread's history, numbered from its `next_entry`.
    pub entries: Vec<Entry>,
    /// Call rows, new or changed, whole.
    pub calls: Vec<CallRow>,
    /// Subscription rows, new or changed, whole.
    pub subscriptions: Vec<SubscriptionRow>,
    /// New threads, each due at once.
    pub threads: Vec<NewThread>,
    /// Inputs for other threads, to be admitted like any others.
    pub inputs: Vec<NewInput>,
    /// Requests to the outside.
    pub outbox: Vec<NewDelivery>,
    /// Calls to cancel at their servers. An invocation that was never begun leaves the outbox instead;
    /// otherwise a notice goes to every server of the session, after the invocation has settled (CAN-01).
    pub cancel: Vec<CallId>,
    /// Close the thread and all below it, in the same transaction: every claim in the subtree is fenced
    /// off, invocations never begun leave the outbox, open calls become cancelled, subscriptions end,
    /// unconsumed inputs become dead letters, each closed thread shows a [`Surface::Closed`](crate::Surface),
    /// then one notice per thread and server (CLS-01).
    pub close: bool,
    /// Pause the thread and its open descendants. A slice that runs in a descendant is fenced off.
    pub pause: bool,
    /// The stop that pauses, by `seq`. A descendant in whose inbox a person's word lies that came after it is due at once
    /// all the same: its slice lifts the pause there (P9). It follows from the inputs, and is no part of what is compared.
    #[serde(skip)]
    pub stopped_by: Option<i64>,
    /// Lift the pause of the thread and its descendants. Each descendant that was paused is due at once, so
    /// that its inputs and timers are looked at again.
    pub resume: bool,
    /// A completion was made: counts against the runaway guard.
    pub completed: bool,
    /// Tokens that the model has read and written and that count against the session's budget
    /// ([`Rules::tokens`](crate::Rules::tokens)). It follows from the recorded turn and inputs, and is no part of what
    /// is compared.
    #[serde(skip)]
    pub tokens: u64,
    /// What people see.
    pub surface: Vec<SurfaceEvent>,
    /// The thread's new flags and due time.
    pub update: ThreadUpdate,
    /// The digest of what the model is shown from now on, where it is known: a store may keep it and hand it back with
    /// the [next snapshot's history](crate::History::with_digest), so that nobody has to read all entries for it. It
    /// follows from history and entries, and is no part of what is compared.
    #[serde(skip)]
    pub shown: Option<HistoryDigest>,
    /// The record of the slice (P12).
    #[serde(skip)]
    pub record: SliceRecord,
}

/// The thread's row after the commit; the store adds version and entry number.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ThreadUpdate {
    /// The model has something new to see.
    pub model_owed: bool,
    /// When the newest turn with open calls was committed.
    pub turn_at: Option<Millis>,
    /// It has told its parent how it came to rest, and was asked for nothing since.
    pub reported: bool,
    /// The model failed and is to be asked again at this time, not before, unless a person writes.
    pub retry_at: Option<Millis>,
    /// Whether its history is to be summarised.
    pub compaction: Compaction,
    /// The model that was chosen for it ([`ThreadRow::model`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Events wait for room: the thread is due as soon as fewer than so many threads of its session are open, at
    /// once if they are so already when this is written.
    pub waits_for_room: Option<usize>,
    /// When it is due again, if nothing arrives; none: never.
    pub due_at: Option<Millis>,
}

/// An input that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The input, by `seq`.
    pub seq: i64,
    /// Why, for people.
    pub reason: String,
}

/// A thread to be made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewThread {
    /// Its row.
    pub row: ThreadRow,
    /// Its first entries, numbered from 0.
    pub entries: Vec<Entry>,
    /// What people see of it.
    pub surface: Vec<SurfaceEvent>,
}

/// A request to be put into the outbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewDelivery {
    /// Its kind.
    pub kind: DeliveryKind,
    /// The thread it belongs to.
    pub thread: ThreadId,
    /// The call it belongs to; deliveries of one call go out one after another.
    pub call: Option<CallId>,
    /// The URL it goes to.
    pub url: HttpUrl,
    /// Its body, but for what only the sender knows: an invocation's `callback_url`.
    pub body: Value,
    /// W3C trace context that goes along; it follows from the slice, and is no part of what was decided.
    #[serde(skip)]
    pub traceparent: Option<String>,
}

/// Why a slice did what it did: re-run on the same snapshot, it gives the same commit (P12).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceRecord {
    /// When, and the dice.
    pub moment: Moment,
    /// The inputs that were there, by name.
    pub inputs: Vec<InputId>,
    /// The SHA-256 of the request that the model got, in hex: of system prompt, tools, thread and the digest of its
    /// [history](crate::History::digest); none if no completion was made.
    pub request: Option<String>,
    /// How the completion ended.
    pub turn: Option<TurnOutcome>,
    /// [`DECISIONS_VERSION`](crate::DECISIONS_VERSION).
    pub decisions: u32,
    /// What [instant tools](crate::InstantTools) of the program answered, in call order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instants: Vec<Outcome>,
    /// What the slice saw that no other row tells later; none in records of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<SliceFacts>,
    /// The SHA-256 of the commit but for this record, in hex; empty in records of before this was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub commit: String,
    /// The hash of the record before; empty for the first.
    pub previous: String,
    /// The SHA-256 of this record without this field, in hex.
    pub hash: String,
}

/// What a slice saw when it began, as far as it changes without leaving a trace: with these, the records before it,
/// history and inputs, its snapshot can be made again (P12).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SliceFacts {
    /// The thread's version.
    pub version: i64,
    /// The number of its next own entry.
    pub next_entry: u64,
    /// The model had something new to see.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub model_owed: bool,
    /// When its newest turn with open calls was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_at: Option<Millis>,
    /// It was stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// It had told its parent how it came to rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reported: bool,
    /// When the model was to be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Millis>,
    /// Whether its history was being summarised.
    #[serde(default, skip_serializing_if = "Compaction::is_idle")]
    pub compaction: Compaction,
    /// Events waited until fewer than so many threads of the session were open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for_room: Option<usize>,
    /// The calls that asked people something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asking: Vec<CallId>,
    /// Completions of the session since a person last wrote.
    pub completions: u64,
    /// Tokens of the session since a person last wrote.
    #[serde(default, skip_serializing_if = "is_no_token")]
    pub tokens: u64,
    /// The window of the model that it asks, in tokens; none where it was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Open threads of the session.
    pub open_threads: usize,
    /// Its children, as many as were loaded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub children: usize,
    /// Those of its children that were open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_children: Vec<ThreadId>,
    /// The model that the session named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The model that was chosen for the thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_model: Option<String>,
    /// Which toolbox the session had: [`Toolbox::fingerprint`](crate::Toolbox::fingerprint).
    pub toolbox: String,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

fn is_no_token(tokens: &u64) -> bool {
    *tokens == 0
}

impl SliceFacts {
    /// What a snapshot holds of them.
    pub fn of(snapshot: &Snapshot) -> Self {
        let thread = &snapshot.thread;
        let open = snapshot.children.iter().filter(|child| child.open);
        Self {
            version: thread.version,
            next_entry: thread.next_entry,
            model_owed: thread.model_owed,
            turn_at: thread.turn_at,
            paused: thread.paused,
            reported: thread.reported,
            retry_at: thread.retry_at,
            compaction: thread.compaction,
            waits_for_room: thread.waits_for_room,
            asking: snapshot.asking.clone(),
            completions: snapshot.completions,
            tokens: snapshot.tokens,
            window: None,
            open_threads: snapshot.open_threads,
            children: snapshot.children.len(),
            open_children: open.map(|child| child.id.clone()).collect(),
            model: snapshot.session.model.clone(),
            thread_model: thread.model.clone(),
            toolbox: crate::machine::toolbox_fingerprint(&snapshot.session),
        }
    }
}
