//! A store's state in memory, without a runtime around it: what tests and simulations run on.
//!
//! It keeps the store contract to the letter but for durability: nothing of it survives its process. Every
//! operation is one synchronous step, so that a caller decides what runs beside what.

mod accept;
mod clock;
mod commit;
mod interact;
mod outbox;
mod snapshot;
mod views;

use crate::{
    CallRow, Claim, Compaction, DeadLetterView, DeliveryKind, Entry, Input, InputId, Interaction, Millis,
    Numbered, Session, SliceView, StoreError, SubscriptionRow, Surface, SurfaceEvent, ThreadKind, ThreadRow,
    Toolbox,
};
use outbox::OutboxRow;
use rap_types::{CallId, ThreadId};
use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

/// The state of a store in memory.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    sessions: BTreeMap<ThreadId, SessionState>,
    threads: BTreeMap<ThreadId, ThreadData>,
    calls: BTreeMap<CallId, CallData>,
    subscriptions: BTreeMap<CallId, SubscriptionData>,
    inbox: BTreeMap<i64, Pending>,
    seen: HashSet<(ThreadId, String)>,
    /// The names of each subscription's events that are known again, oldest first.
    events: BTreeMap<CallId, VecDeque<(Millis, InputId)>>,
    outbox: BTreeMap<i64, OutboxRow>,
    dead_letters: Vec<Letter>,
    surface: Vec<(ThreadId, Numbered)>,
    /// With the number of its last update.
    views: BTreeMap<(ThreadId, String), (i64, Interaction)>,
    questions: BTreeMap<CallId, Question>,
    names: BTreeMap<String, String>,
    last_number: i64,
    /// When the newest input was accepted.
    accepted_at: Option<Millis>,
}

#[derive(Debug, Clone)]
struct SessionState {
    session: Arc<Session>,
    completions: u64,
    tokens: u64,
}

#[derive(Debug, Clone)]
struct ThreadData {
    row: ThreadRow,
    entries: Vec<Arc<Entry>>,
    slices: Vec<Arc<SliceView>>,
    due_at: Option<Millis>,
    created_at: Millis,
    order: i64,
    /// Somebody summarises its history.
    compacting: bool,
    /// The newest input that a slice has seen.
    seen: i64,
    claim: Option<i64>,
}

#[derive(Debug, Clone)]
struct CallData {
    row: CallRow,
    session: ThreadId,
    outcome_accepted: bool,
    /// Its invocation was put into the outbox and not taken back.
    invoked: bool,
}

#[derive(Debug, Clone)]
struct SubscriptionData {
    row: SubscriptionRow,
}

#[derive(Debug, Clone)]
struct Question {
    asked: Interaction,
    answered: bool,
}

#[derive(Debug, Clone)]
struct Pending {
    thread: ThreadId,
    input: Input,
    /// As JSON.
    bytes: u64,
}

#[derive(Debug, Clone)]
struct Letter {
    /// It was an input that was accepted.
    accepted: bool,
    view: DeadLetterView,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn number(&mut self) -> i64 {
        self.last_number += 1;
        self.last_number
    }

    /// See [`Store::create`](crate::Store::create).
    pub fn create(&mut self, session: &Session) {
        if self.sessions.contains_key(&session.id) {
            return;
        }
        let state = SessionState { session: Arc::new(session.clone()), completions: 0, tokens: 0 };
        self.sessions.insert(session.id.clone(), state);
        let row = ThreadRow {
            id: session.id.clone(),
            session: session.id.clone(),
            ancestors: Vec::new(),
            chain: Vec::new(),
            kind: ThreadKind::Root,
            version: 0,
            next_entry: 0,
            paused: false,
            closed: false,
            model_owed: false,
            turn_at: None,
            reported: false,
            retry_at: None,
            compaction: Compaction::Idle,
            waits_for_room: None,
            model: None,
            last_record: String::new(),
        };
        self.add_thread(row, Vec::new(), None, session.created_at);
        let what = Surface::Opened { parent: None, reason: "session".into() };
        self.show(SurfaceEvent { thread: session.id.clone(), what }, session.created_at);
    }

    fn add_thread(&mut self, row: ThreadRow, entries: Vec<Entry>, due_at: Option<Millis>, now: Millis) {
        let order = self.number();
        let data = ThreadData {
            entries: entries.into_iter().map(Arc::new).collect(),
            slices: Vec::new(),
            due_at,
            created_at: now,
            order,
            compacting: false,
            seen: 0,
            claim: None,
            row,
        };
        self.threads.insert(data.row.id.clone(), data);
    }

    fn show(&mut self, event: SurfaceEvent, now: Millis) {
        let Some(session) = self.threads.get(&event.thread).map(|thread| thread.row.session.clone()) else {
            return;
        };
        let n = self.number();
        self.surface.push((session, Numbered { n, at: now, event }));
    }

    /// See [`Store::session`](crate::Store::session).
    pub fn session(&self, id: &ThreadId) -> Option<Arc<Session>> {
        self.sessions.get(id).map(|state| state.session.clone())
    }

    /// See [`Store::update_toolbox`](crate::Store::update_toolbox).
    pub fn update_toolbox(&mut self, id: &ThreadId, from: &Toolbox, to: &Toolbox) -> bool {
        let known = self.sessions.get_mut(id).filter(|state| state.session.toolbox == *from);
        known.is_some_and(|state| {
            Arc::make_mut(&mut state.session).toolbox = to.clone();
            true
        })
    }

    /// See [`Store::claim`](crate::Store::claim).
    pub fn claim(&mut self, now: Millis) -> Option<Claim> {
        let (_, id) = self
            .threads
            .values()
            .filter(|thread| thread.claim.is_none() && !thread.row.closed)
            .filter_map(|thread| Some(((thread.due_at?, thread.order), thread.row.id.clone())))
            .filter(|((due, _), _)| *due <= now)
            .min()?;
        let fence = self.number();
        self.threads.get_mut(&id)?.claim = Some(fence);
        Some(Claim { thread: id, fence })
    }

    /// Whether a claim still holds.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when it does not.
    pub fn check(&self, claim: &Claim) -> Result<(), StoreError> {
        let holds = self.threads.get(&claim.thread).is_some_and(|thread| thread.claim == Some(claim.fence));
        if holds { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// See [`Store::release`](crate::Store::release).
    pub fn release(&mut self, claim: &Claim) {
        if self.check(claim).is_ok()
            && let Some(thread) = self.threads.get_mut(&claim.thread)
        {
            thread.claim = None;
        }
    }

    /// Forgets all claims and takes: what a crash of every worker leaves. What one of them may have begun to send counts as
    /// begun, and invocations that were put off are due at once: whoever comes takes up what is owed (P6).
    pub fn crash(&mut self) {
        self.threads.values_mut().for_each(|thread| {
            thread.claim = None;
            thread.compacting = false;
        });
        for row in self.outbox.values_mut() {
            row.begun |= row.taken;
            row.taken = false;
            row.first_attempt = None;
            if row.kind == DeliveryKind::Invocation {
                row.due_at = row.due_at.min(Millis(0));
            }
        }
    }

    /// See [`Store::claim_compaction`](crate::Store::claim_compaction).
    pub fn claim_compaction(&mut self) -> Option<ThreadId> {
        let answered = |id: &ThreadId| {
            self.inbox.values().any(|pending| pending.thread == *id && pending.input.body.ends_compaction())
        };
        let owed = |thread: &&ThreadData| {
            thread.row.compaction.is_owed()
                && !thread.row.closed
                && !thread.compacting
                && !answered(&thread.row.id)
        };
        let found = self.threads.values().filter(owed).min_by_key(|thread| thread.order)?.row.id.clone();
        self.threads.get_mut(&found)?.compacting = true;
        Some(found)
    }

    /// See [`Store::release_compaction`](crate::Store::release_compaction).
    pub fn release_compaction(&mut self, thread: &ThreadId) {
        if let Some(thread) = self.threads.get_mut(thread) {
            thread.compacting = false;
        }
    }

    /// See [`Store::next_due`](crate::Store::next_due).
    pub fn next_due(&self) -> Option<Millis> {
        let threads = self
            .threads
            .values()
            .filter(|t| t.claim.is_none() && !t.row.closed)
            .filter_map(|thread| thread.due_at);
        let deliveries = self.sendable().map(|(_, row)| row.due_at);
        threads.chain(deliveries).min()
    }

    /// See [`Store::get`](crate::Store::get).
    pub fn get(&self, name: &str) -> Option<String> {
        self.names.get(name).cloned()
    }

    /// See [`Store::put`](crate::Store::put).
    pub fn put(&mut self, name: &str, value: &str) {
        self.names.insert(name.to_owned(), value.to_owned());
    }
}
