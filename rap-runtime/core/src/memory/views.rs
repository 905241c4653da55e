//! Reading for people.

use super::{Memory, ThreadData};
use crate::{
    CallRow, CallState, CallView, Claim, DeadLetterView, Delivery, DeliveryKind, Entry, HistoryView,
    InputBody, Millis, Numbered, SessionView, SliceRecord, SliceView, SubscriptionState, SubscriptionView,
    SurfaceEvent, ThreadState, ThreadView, UserAuthor,
    history::{first_shown, text_of},
};
use rap_types::{CallId, ThreadId};

impl Memory {
    /// See [`Store::sessions`](crate::Store::sessions).
    pub fn sessions(&self) -> Vec<SessionView> {
        let mut sessions: Vec<SessionView> = self
            .sessions
            .values()
            .filter_map(|state| {
                let root = self.threads.get(&state.session.id)?;
                Some(SessionView {
                    id: state.session.id.clone(),
                    created_at: state.session.created_at,
                    title: title(root),
                    state: self.state(root),
                    open_threads: self.open_threads(&state.session.id),
                    open_calls: self
                        .calls
                        .values()
                        .filter(|c| c.session == root.row.id && c.row.state.is_open())
                        .count(),
                })
            })
            .collect();
        sessions.sort_by(|a, b| b.created_at.cmp(&a.created_at).then(a.id.cmp(&b.id)));
        sessions
    }

    fn state(&self, thread: &ThreadData) -> ThreadState {
        let waits =
            self.calls.values().any(|call| call.row.thread == thread.row.id && call.row.state.is_open());
        if thread.row.closed {
            ThreadState::Closed
        } else if thread.row.paused {
            ThreadState::Paused
        } else if thread.claim.is_some() || thread.row.model_owed || self.has_unseen_inputs(thread) {
            ThreadState::Running
        } else if waits || thread.row.waits_for_room.is_some() {
            ThreadState::Waiting
        } else {
            ThreadState::Resting
        }
    }

    /// What a slice has seen and left in the inbox waits for something else.
    fn has_unseen_inputs(&self, thread: &ThreadData) -> bool {
        self.inbox.range(thread.seen + 1..).any(|(_, pending)| pending.thread == thread.row.id)
    }

    /// See [`Store::threads`](crate::Store::threads).
    pub fn threads(&self, session: &ThreadId) -> Vec<ThreadView> {
        let mut threads: Vec<&ThreadData> =
            self.threads.values().filter(|t| t.row.session == *session).collect();
        threads.sort_by_key(|thread| thread.order);
        threads.into_iter().map(|thread| self.thread_view(thread)).collect()
    }

    fn thread_view(&self, thread: &ThreadData) -> ThreadView {
        let id = &thread.row.id;
        let active = |state: SubscriptionState| state == SubscriptionState::Active;
        ThreadView {
            row: thread.row.clone(),
            state: self.state(thread),
            created_at: thread.created_at,
            open_calls: self.calls.values().filter(|c| c.row.thread == *id && c.row.state.is_open()).count(),
            subscriptions: self
                .subscriptions
                .values()
                .filter(|s| s.row.thread == *id && active(s.row.state))
                .count(),
        }
    }

    /// See [`Store::history`](crate::Store::history).
    pub fn history(&self, thread: &ThreadId) -> Option<HistoryView> {
        let thread = self.threads.get(thread)?;
        let entries = self.visible(thread);
        let inherited = entries.len() - thread.entries.len();
        Some(HistoryView { thread: self.thread_view(thread), entries, inherited, left_out: 0 })
    }

    /// See [`Store::recent_history`](crate::Store::recent_history).
    pub fn recent_history(&self, thread: &ThreadId) -> Option<HistoryView> {
        let mut view = self.history(thread)?;
        let row = &view.thread.row;
        view.left_out = first_shown(&row.chain, &row.id, &view.entries);
        view.entries.drain(..view.left_out);
        view.inherited = view.inherited.saturating_sub(view.left_out);
        Some(view)
    }

    /// See [`Store::drop_dead_letter`](crate::Store::drop_dead_letter).
    pub fn drop_dead_letter(&mut self, id: i64) -> bool {
        let before = self.dead_letters.len();
        self.dead_letters.retain(|letter| letter.view.id != id);
        self.dead_letters.len() < before
    }

    /// See [`Store::call`](crate::Store::call).
    pub fn call(&self, thread: &ThreadId, id: &CallId) -> Option<CallRow> {
        self.calls.get(id).map(|call| &call.row).filter(|row| row.thread == *thread).cloned()
    }

    /// See [`Store::calls`](crate::Store::calls).
    pub fn calls(&self, only_open: bool) -> Vec<CallView> {
        let mut calls: Vec<CallView> = self
            .calls
            .values()
            .filter(|call| !only_open || call.row.state.is_open())
            .map(|call| {
                let invocation = self.outbox.values().find(|row| {
                    row.kind == DeliveryKind::Invocation && row.call.as_ref() == Some(&call.row.id)
                });
                CallView {
                    row: call.row.clone(),
                    session: call.session.clone(),
                    attempts: invocation.map_or(0, |row| row.attempts),
                    undelivered: invocation.is_some(),
                }
            })
            .collect();
        calls.sort_by_key(|call| {
            (call.row.created_at, call.row.thread.clone(), call.row.turn, call.row.index)
        });
        calls
    }

    /// See [`Store::subscriptions`](crate::Store::subscriptions).
    pub fn subscriptions(&self) -> Vec<SubscriptionView> {
        let active = self.subscriptions.values().filter(|s| s.row.state == SubscriptionState::Active);
        let mut active: Vec<SubscriptionView> = active
            .filter_map(|s| {
                let session = self.threads.get(&s.row.thread)?.row.session.clone();
                Some(SubscriptionView { row: s.row.clone(), session })
            })
            .collect();
        active.sort_by(|a, b| (a.row.created_at, &a.row.call).cmp(&(b.row.created_at, &b.row.call)));
        active
    }

    /// See [`Store::show`](crate::Store::show).
    pub fn show_event(&mut self, event: &SurfaceEvent, now: Millis) {
        self.show(event.clone(), now);
    }

    /// See [`Store::events`](crate::Store::events).
    pub fn events(&self, session: &ThreadId, after: i64, limit: usize) -> Vec<Numbered> {
        let of_session = self.surface.iter().filter(|(id, event)| id == session && event.n > after);
        of_session.take(limit).map(|(_, event)| event.clone()).collect()
    }

    /// See [`Store::dead_letters`](crate::Store::dead_letters).
    pub fn dead_letters(&self) -> Vec<DeadLetterView> {
        self.dead_letters.iter().map(|letter| letter.view.clone()).collect()
    }

    /// See [`Store::slices`](crate::Store::slices).
    pub fn slices(&self, thread: &ThreadId, after: i64, limit: usize) -> Vec<SliceView> {
        let slices = self.threads.get(thread).map_or(&[][..], |thread| &thread.slices);
        slices
            .iter()
            .filter(|slice| slice.version > after)
            .take(limit)
            .map(|slice| (**slice).clone())
            .collect()
    }

    /// The slice records of a thread, oldest first (P12).
    pub fn records(&self, thread: &ThreadId) -> Vec<SliceRecord> {
        let slices = self.threads.get(thread).map(|thread| &thread.slices);
        slices.map_or_else(Vec::new, |slices| slices.iter().map(|slice| slice.record.clone()).collect())
    }
}

fn title(root: &ThreadData) -> String {
    let first = root.entries.iter().find_map(|entry| match &**entry {
        Entry::User(user) if user.author == UserAuthor::Person => Some(text_of(&user.content)),
        _ => None,
    });
    first.unwrap_or_default().chars().take(60).collect()
}

impl Memory {
    /// Who holds a thread's claim, and the thread's version.
    pub fn holder(&self, thread: &ThreadId) -> Option<(Claim, i64)> {
        let data = self.threads.get(thread)?;
        Some((Claim { thread: thread.clone(), fence: data.claim? }, data.row.version))
    }

    /// Whether there is a call of an id.
    pub fn has_call(&self, id: &str) -> bool {
        self.calls.contains_key(id)
    }

    /// The state of a call.
    pub fn call_state(&self, id: &CallId) -> Option<CallState> {
        self.calls.get(id).map(|call| call.row.state)
    }

    /// A delivery that is in the outbox.
    pub fn delivery(&self, id: i64) -> Option<Delivery> {
        self.outbox.get(&id).map(|row| row.delivery(id))
    }

    /// Whether a person's message newer than an input is in a thread's inbox.
    pub fn has_newer_message(&self, thread: &ThreadId, seq: i64) -> bool {
        let newer = self.inbox.range(seq + 1..).filter(|(_, pending)| pending.thread == *thread);
        newer.into_iter().any(|(_, pending)| matches!(pending.input.body, InputBody::Message { .. }))
    }
}
