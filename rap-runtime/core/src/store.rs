//! The store contract: what a database must do so that nothing is lost and nothing happens twice.
//!
//! A store decides nothing: whether an input enters is [`admit`](crate::admit)'s word, what a slice does is
//! the [`SliceMachine`](crate::SliceMachine)'s. Times that decide what is due are given by the caller;
//! leases run on the store's own clock.

use crate::{
    Answered, CallRoute, CallRow, CallState, Commit, DeliveryKind, Entry, Input, Interaction, Millis,
    NewInput, Numbered, OpenInteraction, Reply, Session, SliceRecord, Snapshot, SubscriptionRow,
    SurfaceEvent, ThreadRow, ThreadState,
};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The store contract. Every operation is one transaction.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Makes a session and its root thread. A session of that id that is there already stays as it is.
    async fn create(&self, session: &Session) -> Result<(), StoreError>;

    /// A session, or none.
    async fn session(&self, id: &ThreadId) -> Result<Option<Arc<Session>>, StoreError>;

    /// Replaces a session's toolbox, for what is live in it: base URLs and endpoints, servers that joined. False: it is
    /// not `from` any more, somebody else has learned something, and nothing was written; read it and look again. False
    /// too where there is no such session.
    async fn update_toolbox(
        &self,
        id: &ThreadId,
        from: &crate::Toolbox,
        to: &crate::Toolbox,
    ) -> Result<bool, StoreError>;

    /// Says that somebody begins to drive what is here, and what time it is; the answer says by how many milliseconds
    /// the clock was set back meanwhile, if it was by a second or more: everything here was written before `now`, so
    /// what was written later tells. Then, in the same transaction, requests of the outbox that wait for their next try
    /// wait for as much less, and every open thread that is due at some time, or paused, is given an
    /// [`InputBody::ClockSetBack`](crate::InputBody): what was due is due, and nothing waits longer from now on than the
    /// whole span for which it was to (P7, P9). It is refused by no thread, and its id is [`InputId::clock_set_back`](crate::InputId::clock_set_back).
    ///
    /// Nobody can know of a clock that was set back by less than the time for which nothing was written.
    async fn clock_starts(&self, now: Millis) -> Result<Option<i64>, StoreError>;

    /// Admits an input by [`admit`](crate::admit) and stores it. A discarded outcome of a cancelled call that says
    /// `subscription: true` makes the cancel notices go out once more. When this returns, the answer is durable
    /// (P1). An accepted input makes its thread due at `now`, unless the thread is paused; a person's word
    /// ([`is_by_person`](crate::InputBody::is_by_person)) makes it due even then.
    async fn accept(&self, input: NewInput, now: Millis) -> Result<Accepted, StoreError>;

    /// Claims one thread that is due at `now` and not claimed, the one due longest first; none if there is
    /// none (P4).
    async fn claim(&self, now: Millis) -> Result<Option<Claim>, StoreError>;

    /// Extends a claim's lease.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the claim is lost.
    async fn renew(&self, claim: &Claim) -> Result<(), StoreError>;

    /// All that a slice of the claimed thread needs.
    async fn load(&self, claim: &Claim) -> Result<Snapshot, StoreError>;

    /// Writes a slice, whole, if the claim still holds and the thread's version is the one that was loaded.
    /// The claim stays.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when somebody else has, or had, the thread: nothing was written.
    async fn commit(&self, claim: &Claim, commit: Commit, now: Millis) -> Result<Committed, StoreError>;

    /// Gives a claim back. A lost one is no error.
    async fn release(&self, claim: Claim) -> Result<(), StoreError>;

    /// Takes up to `limit` deliveries that are due at `now`, each not taken by another and not behind the
    /// invocation of its call: that has to settle first, whatever else the call has in the outbox goes side by
    /// side (CLS-06). An invocation that may have been sent and whose call has its outcome by now has arrived: it is
    /// settled here and not taken. They stay taken until settled, or until their taker is gone. An invocation that an earlier owner put
    /// off to a later time is due at once for the next: it takes up what is owed without waiting (P6).
    async fn take(&self, now: Millis, limit: usize) -> Result<Vec<Delivery>, StoreError>;

    /// Marks a taken delivery as being sent, right before its first byte goes out: until then a cancel takes an
    /// invocation back. False: it was taken back, and must not be sent. This need not be durable: once its taker
    /// is gone, every delivery that it may have had counts as begun.
    async fn begin(&self, delivery: i64) -> Result<bool, StoreError>;

    /// Settles a taken delivery; one that was not begun has had no try. What was delivered or is tried again may become
    /// durable later than it returns: what is lost is sent again, with the same id. The others are durable, together with
    /// their input.
    ///
    /// # Errors
    /// When nothing was written: the delivery stays taken, to be settled again.
    async fn settle(&self, delivery: i64, settlement: Settlement, now: Millis) -> Result<(), StoreError>;

    /// The earliest time at which [`claim`](Self::claim) or [`take`](Self::take) would find something: what is
    /// claimed or taken does not count, nor does a delivery behind an earlier one of its call. None: never.
    async fn next_due(&self) -> Result<Option<Millis>, StoreError>;

    /// Resolves after something may have become due or visible since the last call: a hint, never a promise.
    /// One at a time waits here, the driver: of two, each would take hints away from the other.
    async fn changed(&self);

    /// Keeps what a tool shows or asks beside the conversation, and shows it as a surface event. It wakes no
    /// thread, but one whose inputs wait for the call that now asks: it is due at once. Of views a thread keeps
    /// [`Rules::views`](crate::Rules::views). Unknown threads, closed threads and calls that may no longer ask are answered as
    /// [`accept`](Self::accept) would answer an outcome; the same question again is a duplicate.
    async fn interact(
        &self,
        thread: &ThreadId,
        interaction: Interaction,
        now: Millis,
    ) -> Result<Accepted, StoreError>;

    /// Takes on the summarising of one thread's history that is owed ([`Compaction::is_owed`](crate::Compaction)),
    /// that nobody does already and whose end is not in the inbox yet; none if there is none. It is held until it
    /// is released, or until its holder is gone: then it is owed again.
    async fn claim_compaction(&self) -> Result<Option<ThreadId>, StoreError>;

    /// Gives the summarising of a thread's history back, done or not.
    async fn release_compaction(&self, thread: &ThreadId) -> Result<(), StoreError>;

    /// Takes what a person says to what a call asks. An answer to a choice goes into the outbox, once (CHO-01, CHO-04). The
    /// question whether a call may run is answered by one of [`APPROVAL_CHOICES`](crate::APPROVAL_CHOICES): as an
    /// [`approval`](crate::approval) that is accepted; dismissed, it is declined.
    async fn reply(&self, call: &CallId, reply: Reply, now: Millis) -> Result<Answered, StoreError>;

    /// Answers a question by the index of a choice: [`reply`](Self::reply) with [`Reply::Pick`].
    async fn answer(&self, call: &CallId, selected: u64, now: Millis) -> Result<Answered, StoreError> {
        self.reply(call, Reply::Pick(selected), now).await
    }

    /// The open questions and the latest views of a session, oldest first; of calls that have ended, none. Calls
    /// that await approval ask, each by its row.
    async fn interactions(&self, session: &ThreadId) -> Result<Vec<OpenInteraction>, StoreError>;

    /// A value under a name, for the program around the runtime (its address, say).
    async fn get(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Sets a value under a name, durably.
    async fn put(&self, name: &str, value: &str) -> Result<(), StoreError>;

    /// All sessions, newest first.
    async fn sessions(&self) -> Result<Vec<SessionView>, StoreError>;

    /// The threads of a session, in the order in which they were made.
    async fn threads(&self, session: &ThreadId) -> Result<Vec<ThreadView>, StoreError>;

    /// What a thread sees, oldest first; none if there is no such thread.
    async fn history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError>;

    /// Up to `limit` slices of a thread that committed a version above `after`, oldest first, each with the inputs
    /// that it saw (P12). None where there is no such thread. What a [replay](crate::replay) is fed with.
    async fn slices(&self, thread: &ThreadId, after: i64, limit: usize)
    -> Result<Vec<SliceView>, StoreError>;

    /// The row of a thread's call; none if it has no such call. What a [snapshot](Snapshot::calls) leaves out is asked for
    /// by this, one at a time: [`SliceMachine::lacks`](crate::SliceMachine::lacks). As it is provided it reads all calls: to
    /// be replaced by a look at one row.
    async fn call(&self, thread: &ThreadId, id: &CallId) -> Result<Option<CallRow>, StoreError> {
        let calls = self.calls(false).await?.into_iter().map(|view| view.row);
        Ok(calls.into_iter().find(|row| row.thread == *thread && row.id == *id))
    }

    /// Calls, oldest first; only the open ones, or all.
    async fn calls(&self, only_open: bool) -> Result<Vec<CallView>, StoreError>;

    /// The active subscriptions, oldest first. What a driver asks servers about (P11).
    async fn subscriptions(&self) -> Result<Vec<SubscriptionView>, StoreError>;

    /// Up to `limit` things that servers owe, in an order of the store's own, after another one: outcomes of open calls
    /// that were taken, and events of active subscriptions. None when there are no more. What a driver asks servers about
    /// (P11), page by page: there may be very many. Unless a store does better, the first page holds them all.
    async fn owed(&self, after: Option<&Owed>, limit: usize) -> Result<Vec<Owed>, StoreError> {
        let _ = limit;
        if after.is_some() {
            return Ok(Vec::new());
        }
        let calls = self.calls(true).await?;
        let mut owed: Vec<Owed> = calls.into_iter().filter_map(Owed::outcome).collect();
        owed.extend(self.subscriptions().await?.into_iter().map(Owed::events));
        Ok(owed)
    }

    /// Shows people something that no slice has decided, as the next event of its thread's session: what became of its
    /// servers, say. It wakes no thread. Of a thread that is not there nothing is kept.
    async fn show(&self, event: &SurfaceEvent, now: Millis) -> Result<(), StoreError>;

    /// Up to `limit` surface events of a session after number `after`, in order.
    async fn events(&self, session: &ThreadId, after: i64, limit: usize)
    -> Result<Vec<Numbered>, StoreError>;

    /// What a compaction reads of a thread: what the model is sent, from the newest summary's position on, whole
    /// ([`HistoryView::left_out`] counts what lies before). None if there is no such thread.
    async fn recent_history(&self, thread: &ThreadId) -> Result<Option<HistoryView>, StoreError>;

    /// Takes a dead letter away: it was sent again. False if there is none of that number.
    async fn drop_dead_letter(&self, id: i64) -> Result<bool, StoreError>;

    /// Dead letters, oldest first: all inputs that were accepted and could not be used (P1), and of what was not accepted
    /// as many of a thread as [`Rules::dead_letters`](crate::Rules::dead_letters) says, the newest.
    async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, StoreError>;
}

/// The right to run slices of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The thread.
    pub thread: ThreadId,
    /// The fence: who holds the claim.
    pub fence: i64,
}

/// What became of an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accepted {
    /// It is in the inbox.
    Accepted,
    /// It had its effect already.
    Duplicate,
    /// It is a dead letter.
    Discarded(String),
    /// There is no such thread.
    UnknownThread,
    /// The thread is closed, or the subscription over.
    Ended,
    /// The inbox is full.
    Busy,
}

/// What a commit led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The thread's new version.
    pub version: i64,
    /// The thread is due again at this time.
    pub due_at: Option<Millis>,
}

/// A request of the outbox, taken to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Its number.
    pub id: i64,
    /// Its kind.
    pub kind: DeliveryKind,
    /// Its thread.
    pub thread: ThreadId,
    /// Its session.
    pub session: ThreadId,
    /// Its call.
    pub call: Option<CallId>,
    /// Where it goes.
    pub url: HttpUrl,
    /// Its body, but for an invocation's `callback_url`.
    pub body: Value,
    /// Tries that were settled before this one.
    pub attempts: u32,
    /// When it was first taken by this owner of the store: the window of an invocation counts from here, so that
    /// no time passes while nobody is there to send it.
    pub first_attempt: Option<Millis>,
    /// A try was made before, or may have been.
    pub begun: bool,
    /// W3C trace context that goes along.
    pub traceparent: Option<String>,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Settlement {
    /// It was taken.
    Delivered,
    /// Again at this time.
    RetryAt(Millis),
    /// It was worked here, and this came of it: both are written in one transaction, so that what has its outcome is
    /// never worked again.
    Answered(Box<NewInput>),
    /// Never again; the reason is kept. `input` tells its thread, for an invocation.
    GaveUp {
        /// Why, for people.
        reason: String,
        /// What its thread is told.
        input: Option<Box<NewInput>>,
    },
}

/// A session in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub id: ThreadId,
    /// When it began.
    pub created_at: Millis,
    /// Its first message's text, cut short.
    pub title: String,
    /// The state of its root thread.
    pub state: ThreadState,
    /// Its threads that are not closed.
    pub open_threads: usize,
    /// Its open calls.
    pub open_calls: usize,
}

/// A thread in a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadView {
    /// Its row.
    pub row: ThreadRow,
    /// Its state.
    pub state: ThreadState,
    /// When it was made.
    pub created_at: Millis,
    /// Its open calls.
    pub open_calls: usize,
    /// Its active subscriptions.
    pub subscriptions: usize,
}

/// What a thread sees.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryView {
    /// The thread.
    pub thread: ThreadView,
    /// Its history, oldest first: the chain's entries, then its own.
    pub entries: Vec<Arc<Entry>>,
    /// How many of the entries are its ancestors'.
    pub inherited: usize,
    /// How many entries come before the first one and were left out; none but for
    /// [`Store::recent_history`].
    pub left_out: usize,
}

/// A slice that was committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceView {
    /// The thread's version after it.
    pub version: i64,
    /// Its record.
    pub record: SliceRecord,
    /// The inputs that it saw, in order of arrival; fewer than the record names where they are no longer kept.
    pub inputs: Vec<Input>,
    /// The inputs that it used up, by `seq`.
    pub consumed: Vec<i64>,
}

/// A call in a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct CallView {
    /// Its row.
    pub row: CallRow,
    /// Its session.
    pub session: ThreadId,
    /// Tries to deliver its invocation that were settled.
    pub attempts: u32,
    /// Its invocation is still in the outbox.
    pub undelivered: bool,
}

/// A subscription in a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscriptionView {
    /// Its row.
    pub row: SubscriptionRow,
    /// Its session.
    pub session: ThreadId,
}

/// Something that a server owes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The call, or the one that subscribed.
    pub call: CallId,
    /// Its thread.
    pub thread: ThreadId,
    /// Its session.
    pub session: ThreadId,
    /// The tool, by its name before the model.
    pub tool: String,
    /// When the call was made.
    pub since: Millis,
    /// Not the call's outcome, but the events of its subscription.
    pub subscription: bool,
}

impl Owed {
    /// The outcome of a call; none where its server does not have it, or it is known.
    pub fn outcome(view: CallView) -> Option<Self> {
        let waited_for = matches!(view.row.state, CallState::Pending | CallState::Detached);
        let owed =
            view.row.route == CallRoute::Rap && waited_for && !view.undelivered && view.row.outcome.is_none();
        owed.then_some(Self {
            call: view.row.id,
            thread: view.row.thread,
            session: view.session,
            tool: view.row.name,
            since: view.row.created_at,
            subscription: false,
        })
    }

    /// The events of a subscription.
    pub fn events(view: SubscriptionView) -> Self {
        Self {
            call: view.row.call,
            thread: view.row.thread,
            session: view.session,
            tool: view.row.name,
            since: view.row.created_at,
            subscription: true,
        }
    }
}

/// A dead letter in a listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeadLetterView {
    /// Its number, rising.
    #[serde(default)]
    pub id: i64,
    /// When it was put away.
    pub at: Millis,
    /// The thread it was for.
    pub thread: String,
    /// What it was: an input's id, or a delivery's kind and call.
    pub what: String,
    /// Why: for a request, its last error.
    pub reason: String,
    /// How often it was tried, for a request.
    #[serde(default)]
    pub attempts: u32,
    /// Its content, as JSON.
    pub body: Value,
}

/// What requests of the outbox are called in listings.
const REQUESTS: [(DeliveryKind, &str); 5] = [
    (DeliveryKind::Invocation, "invocation"),
    (DeliveryKind::CancelToolCall, "cancel notice"),
    (DeliveryKind::CloseThread, "close notice"),
    (DeliveryKind::ChoiceAnswer, "answer to a choice"),
    (DeliveryKind::Refresh, "look at the tool servers"),
];

impl DeadLetterView {
    /// What a request that was given up is called.
    pub fn name_of(kind: DeliveryKind, call: Option<&CallId>) -> String {
        let name = REQUESTS.iter().find(|(known, _)| *known == kind).map_or("request", |(_, name)| name);
        call.map_or_else(|| name.to_owned(), |call| format!("{name} of call {call}"))
    }

    /// The request that it was, with its call; none for an input.
    pub fn request(&self) -> Option<(DeliveryKind, Option<CallId>)> {
        REQUESTS.iter().find_map(|(kind, name)| {
            let rest = self.what.strip_prefix(name)?;
            if rest.is_empty() {
                return Some((*kind, None));
            }
            Some((*kind, Some(CallId::new(rest.strip_prefix(" of call ")?).ok()?)))
        })
    }
}

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else has, or had, the thread; nothing was written.
    #[error("another worker has this thread")]
    Fenced,
    /// What is stored cannot be read; nothing was changed (ERR-02).
    #[error("{what} is damaged: {detail}; restore the database from a copy")]
    Damaged {
        /// What.
        what: String,
        /// How.
        detail: String,
    },
    /// The database was written by a newer version.
    #[error(
        "the database {path} was written by a newer version (format {found}, this program knows {known}); use that version"
    )]
    Newer {
        /// The file, or the database's name.
        path: String,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Another process owns the database.
    #[error("the database {path} is in use by {owner}; stop that process, or use another file")]
    Owned {
        /// The file, or the database's name.
        path: String,
        /// Who owns it, e.g. `process 4711`.
        owner: String,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Failed(String),
}
