//! A store's state in memory, without a runtime around it: what tests and simulations run on.
//!
//! It keeps the store contract to the letter but for durability: nothing of it survives its process. Every
//! operation is one synchronous step, so that a caller decides what runs beside what.

mod commit;
mod interact;
mod views;

use crate::{
    Accepted, Admission, AdmissionFacts, CallRow, Claim, Delivery, DeliveryKind, EVENT_IDS_KEPT,
    EVENT_IDS_KEPT_MS, Entry, Input, InputBody, InputId, Interaction, Millis, NewInput, Numbered, Rules,
    Session, Settlement, Snapshot, StoreError, SubscriptionRow, SubscriptionState, ThreadKind, ThreadRow,
    Toolbox, admit, history::shown_to_model,
};
use crate::{CallState, Child, ChildKind, Compaction, DeadLetterView, SliceView, Surface, SurfaceEvent};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde_json::Value;
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
    dead_letters: Vec<DeadLetterView>,
    surface: Vec<(ThreadId, Numbered)>,
    /// With the number of its last update.
    views: BTreeMap<(ThreadId, String), (i64, Interaction)>,
    questions: BTreeMap<CallId, Question>,
    names: BTreeMap<String, String>,
    last_number: i64,
}

#[derive(Debug, Clone)]
struct SessionState {
    session: Arc<Session>,
    completions: u64,
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
}

#[derive(Debug, Clone)]
struct OutboxRow {
    kind: DeliveryKind,
    thread: ThreadId,
    session: ThreadId,
    call: Option<CallId>,
    url: HttpUrl,
    body: Value,
    attempts: u32,
    first_attempt: Option<Millis>,
    due_at: Millis,
    taken: bool,
    begun: bool,
    traceparent: Option<String>,
}

impl OutboxRow {
    fn delivery(&self, id: i64) -> Delivery {
        Delivery {
            id,
            kind: self.kind,
            thread: self.thread.clone(),
            session: self.session.clone(),
            call: self.call.clone(),
            url: self.url.clone(),
            body: self.body.clone(),
            attempts: self.attempts,
            first_attempt: self.first_attempt,
            begun: self.begun,
            traceparent: self.traceparent.clone(),
        }
    }
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
        let state = SessionState { session: Arc::new(session.clone()), completions: 0 };
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
    pub fn update_toolbox(&mut self, id: &ThreadId, toolbox: &Toolbox) {
        if let Some(state) = self.sessions.get_mut(id) {
            Arc::make_mut(&mut state.session).toolbox = toolbox.clone();
        }
    }

    /// See [`Store::accept`](crate::Store::accept).
    pub fn accept(&mut self, new: NewInput, now: Millis) -> Accepted {
        let facts = self.facts(&new);
        let parked_limit = self.rules_of(&new.thread).map_or(0, |session| session.rules.parked_events);
        match admit(&new.body, &facts, parked_limit) {
            Admission::Accept => {
                self.enter(new, now);
                Accepted::Accepted
            }
            Admission::Duplicate => Accepted::Duplicate,
            Admission::Discard(reason) => {
                if let InputBody::Outcome { call, outcome } = &new.body
                    && outcome.subscription
                    && facts.call == Some(CallState::Cancelled)
                {
                    // The server has a subscription that nobody wants: it is told once more.
                    self.cancel(&call.clone(), now);
                }
                self.bury(&new.thread, new.id.as_str(), &reason, &new.body, now);
                Accepted::Discarded(reason)
            }
            Admission::UnknownThread => Accepted::UnknownThread,
            Admission::Ended => Accepted::Ended,
            Admission::Busy => Accepted::Busy,
        }
    }

    fn rules_of(&self, thread: &ThreadId) -> Option<&Session> {
        let session = &self.threads.get(thread)?.row.session;
        self.sessions.get(session).map(|state| &*state.session)
    }

    fn facts(&self, new: &NewInput) -> AdmissionFacts {
        let thread = self.threads.get(&new.thread);
        let call = new.body.call();
        let row = call.and_then(|id| self.calls.get(id)).filter(|call| call.row.thread == new.thread);
        let subscription = call.and_then(|id| self.subscriptions.get(id));
        let unconsumed = || self.inbox.values().filter(|pending| pending.thread == new.thread);
        let names_call =
            |body: &InputBody| matches!(body, InputBody::Event { call: c, .. } if Some(c) == call);
        let answered =
            matches!(new.body, InputBody::Outcome { .. }) && row.is_some_and(|call| call.outcome_accepted);
        AdmissionFacts {
            thread_exists: thread.is_some(),
            thread_closed: thread.is_some_and(|thread| thread.row.closed),
            seen: answered || self.seen.contains(&(new.thread.clone(), new.id.as_str().to_owned())),
            call: row.map(|call| call.row.state),
            subscription: subscription.filter(|s| s.row.thread == new.thread).map(|s| s.row.state),
            final_accepted: unconsumed().any(|pending| {
                matches!(&pending.input.body, InputBody::Event { call: c, is_final: true, .. } if Some(c) == call)
            }),
            parked: unconsumed().filter(|pending| names_call(&pending.input.body)).count(),
            inbox: unconsumed().count(),
        }
    }

    fn enter(&mut self, new: NewInput, now: Millis) {
        let seq = self.number();
        self.seen.insert((new.thread.clone(), new.id.as_str().to_owned()));
        if let InputBody::Outcome { call, .. } = &new.body
            && let Some(call) = self.calls.get_mut(call)
        {
            call.outcome_accepted = true;
        }
        if let InputBody::Event { call, .. } = &new.body {
            self.events.entry(call.clone()).or_default().push_back((now, new.id.clone()));
            self.forget_events(&new.thread, call, now);
        }
        let by_person = new.body.is_by_person();
        let is_message = matches!(new.body, InputBody::Message { .. });
        if let Some(thread) = self.threads.get_mut(&new.thread) {
            if by_person || !thread.row.paused {
                thread.due_at = Some(thread.due_at.map_or(now, |due| due.min(now)));
            }
            if is_message && let Some(session) = self.sessions.get_mut(&thread.row.session) {
                session.completions = 0;
            }
        }
        let (body, traceparent) = (new.body, new.traceparent);
        let input = Input { seq, id: new.id, accepted_at: now, body, traceparent };
        self.inbox.insert(seq, Pending { thread: new.thread, input });
    }

    /// Forgets the old events of a subscription, by which one that is sent again would be known (P2).
    fn forget_events(&mut self, thread: &ThreadId, call: &CallId, now: Millis) {
        let Some(events) = self.events.get_mut(call) else { return };
        while let Some((at, id)) = events.front() {
            let old = now - *at > EVENT_IDS_KEPT_MS || events.len() > EVENT_IDS_KEPT;
            if !old || self.inbox.values().any(|pending| pending.input.id == *id) {
                return;
            }
            self.seen.remove(&(thread.clone(), id.as_str().to_owned()));
            events.pop_front();
        }
    }

    fn bury(&mut self, thread: &ThreadId, what: &str, reason: &str, body: &InputBody, now: Millis) {
        let body = serde_json::to_value(body).unwrap_or(Value::Null);
        self.keep_dead(thread, what.to_owned(), reason.to_owned(), body, now);
    }

    /// Keeps a dead letter; at the limit, the oldest of its thread goes.
    fn keep_dead(&mut self, thread: &ThreadId, what: String, reason: String, body: Value, now: Millis) {
        let limit =
            self.rules_of(thread).map_or(Rules::default().dead_letters, |session| session.rules.dead_letters);
        let (id, thread_id) = (self.number(), thread.to_string());
        self.dead_letters.push(DeadLetterView { id, at: now, thread: thread_id, what, reason, body });
        let of_thread = |letter: &DeadLetterView| letter.thread == thread.as_str();
        if self.dead_letters.iter().filter(|letter| of_thread(letter)).count() > limit
            && let Some(oldest) = self.dead_letters.iter().position(of_thread)
        {
            self.dead_letters.remove(oldest);
        }
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

    /// Forgets all claims and takes: what a crash of every worker leaves.
    pub fn crash(&mut self) {
        self.threads.values_mut().for_each(|thread| {
            thread.claim = None;
            thread.compacting = false;
        });
        for row in self.outbox.values_mut() {
            row.taken = false;
            row.first_attempt = None;
        }
    }

    /// See [`Store::load`](crate::Store::load).
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the claim is lost.
    pub fn load(&self, claim: &Claim) -> Result<Snapshot, StoreError> {
        self.check(claim)?;
        let thread = self.threads.get(&claim.thread).ok_or(StoreError::Fenced)?;
        let state = self.sessions.get(&thread.row.session).ok_or(StoreError::Fenced)?;
        let inputs: Vec<Input> = self
            .inbox
            .values()
            .filter(|pending| pending.thread == claim.thread)
            .map(|pending| pending.input.clone())
            .collect();
        let named: HashSet<&CallId> = inputs.iter().filter_map(|input| input.body.call()).collect();
        let own = |row: &&CallRow| row.thread == claim.thread;
        let newest = self.calls.values().map(|call| &call.row).filter(own).map(|row| row.turn).max();
        let needed = |row: &&CallRow| {
            row.state.is_open()
                || row.state == CallState::PresumedLost
                || Some(row.turn) == newest
                || named.contains(&row.id)
        };
        let mut calls: Vec<CallRow> =
            self.calls.values().map(|call| &call.row).filter(own).filter(needed).cloned().collect();
        calls.sort_by_key(|row| (row.turn, row.index));
        let mut subscriptions: Vec<SubscriptionRow> = self
            .subscriptions
            .values()
            .map(|s| &s.row)
            .filter(|row| row.thread == claim.thread)
            .filter(|row| row.state == SubscriptionState::Active || named.contains(&row.call))
            .cloned()
            .collect();
        subscriptions.sort_by_key(|row| row.created_at);
        Ok(Snapshot {
            session: state.session.clone(),
            completions: state.completions,
            open_threads: self.open_threads(&thread.row.session),
            thread: thread.row.clone(),
            history: shown_to_model(&thread.row.chain, &thread.row.id, &self.visible(thread)).into(),
            calls,
            subscriptions,
            asking: self.asking(&claim.thread),
            children: self.children(&claim.thread),
            inputs,
        })
    }

    fn asking(&self, thread: &ThreadId) -> Vec<CallId> {
        let open = self.questions.iter().filter(|(_, question)| !question.answered);
        let of_thread = |call: &CallId| {
            self.calls.get(call).is_some_and(|data| data.row.thread == *thread && data.row.may_ask())
        };
        open.map(|(call, _)| call).filter(|call| of_thread(call)).cloned().collect()
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

    fn open_threads(&self, session: &ThreadId) -> usize {
        self.threads.values().filter(|t| t.row.session == *session && !t.row.closed).count()
    }

    fn visible(&self, thread: &ThreadData) -> Vec<Arc<Entry>> {
        let inherited = thread.row.chain.iter().flat_map(|segment| {
            let upto = usize::try_from(segment.upto).unwrap_or(usize::MAX);
            self.threads
                .get(&segment.thread)
                .into_iter()
                .flat_map(move |t| t.entries.iter().take(upto).cloned())
        });
        inherited.chain(thread.entries.iter().cloned()).collect()
    }

    fn children(&self, parent: &ThreadId) -> Vec<Child> {
        let mut children: Vec<_> = self
            .threads
            .values()
            .filter(|thread| thread.row.ancestors.last() == Some(parent))
            .map(|thread| {
                let kind = match thread.row.kind {
                    ThreadKind::Event { .. } => ChildKind::Event,
                    _ => ChildKind::Spawned,
                };
                (thread.order, Child { id: thread.row.id.clone(), kind, open: !thread.row.closed })
            })
            .collect();
        children.sort_by_key(|(order, _)| *order);
        children.into_iter().map(|(_, child)| child).collect()
    }

    /// See [`Store::take`](crate::Store::take).
    pub fn take(&mut self, now: Millis, limit: usize) -> Vec<Delivery> {
        let due = self.sendable().filter(|(_, row)| row.due_at <= now).map(|(id, _)| *id);
        let ids: Vec<i64> = due.take(limit).collect();
        ids.into_iter().filter_map(|id| self.taken(id, now)).collect()
    }

    /// Deliveries that may be taken once they are due: not taken, and not behind an earlier one of their call.
    fn sendable(&self) -> impl Iterator<Item = (&i64, &OutboxRow)> {
        let mut invoked: HashSet<&CallId> = HashSet::new();
        self.outbox.iter().filter(move |(_, row)| {
            let Some(call) = &row.call else { return !row.taken };
            let first = row.kind == DeliveryKind::Invocation || !invoked.contains(call);
            if row.kind == DeliveryKind::Invocation {
                invoked.insert(call);
            }
            first && !row.taken
        })
    }

    fn taken(&mut self, id: i64, now: Millis) -> Option<Delivery> {
        let row = self.outbox.get_mut(&id)?;
        row.taken = true;
        let delivery = row.delivery(id);
        row.first_attempt.get_or_insert(now);
        Some(delivery)
    }

    /// See [`Store::begin`](crate::Store::begin).
    pub fn begin(&mut self, delivery: i64) -> bool {
        let row = self.outbox.get_mut(&delivery).filter(|row| row.taken);
        row.is_some_and(|row| {
            row.begun = true;
            true
        })
    }

    /// See [`Store::settle`](crate::Store::settle).
    pub fn settle(&mut self, delivery: i64, settlement: Settlement, now: Millis) {
        let Some(row) = self.outbox.get_mut(&delivery) else { return };
        match settlement {
            Settlement::Delivered => {
                self.outbox.remove(&delivery);
            }
            Settlement::RetryAt(at) => {
                row.taken = false;
                row.attempts += u32::from(row.begun);
                row.due_at = at;
            }
            Settlement::GaveUp { reason, input } => {
                let row = self.outbox.remove(&delivery);
                if let Some(row) = row {
                    let what = DeadLetterView::name_of(row.kind, row.call.as_ref());
                    self.keep_dead(&row.thread, what, reason, row.body, now);
                }
                if let Some(input) = input {
                    self.accept(*input, now);
                }
            }
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
