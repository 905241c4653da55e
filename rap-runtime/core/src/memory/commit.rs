//! Writing a slice: all of it, or nothing.

use super::{CallData, Memory, OutboxRow, SubscriptionData};
use crate::{
    Accepted, CallRoute, CallState, Claim, Commit, Committed, DeliveryKind, Millis, NewDelivery, NewThread,
    SliceView, StoreError, SubscriptionState, Surface, SurfaceEvent,
};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde_json::json;
use std::sync::Arc;

impl Memory {
    /// See [`Store::commit`](crate::Store::commit).
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the claim is lost or the thread has changed.
    pub fn commit(&mut self, claim: &Claim, commit: Commit, now: Millis) -> Result<Committed, StoreError> {
        self.check(claim)?;
        let thread = self.threads.get(&commit.thread).ok_or(StoreError::Fenced)?;
        if thread.row.version != commit.version || claim.thread != commit.thread {
            return Err(StoreError::Fenced);
        }
        if let Some(twice) = commit.threads.iter().find(|new| self.threads.contains_key(&new.row.id)) {
            return Err(StoreError::Failed(format!("there is a thread {} already", twice.row.id)));
        }
        let Some(thread) = self.threads.get_mut(&commit.thread) else { return Err(StoreError::Fenced) };
        thread.row.version += 1;
        thread.row.next_entry += commit.entries.len() as u64;
        thread.entries.extend(commit.entries.iter().cloned().map(Arc::new));
        thread.row.model_owed = commit.update.model_owed;
        thread.row.turn_at = commit.update.turn_at;
        thread.row.reported = commit.update.reported;
        thread.row.retry_at = commit.update.retry_at;
        thread.row.compaction = commit.update.compaction;
        thread.row.model.clone_from(&commit.update.model);
        thread.row.waits_for_room = commit.update.waits_for_room;
        thread.seen = thread.seen.max(commit.seen);
        thread.row.last_record = commit.record.hash.clone();
        let seen =
            |pending: &&super::Pending| pending.thread == commit.thread && pending.input.seq <= commit.seen;
        let inputs = self.inbox.values().filter(seen).map(|pending| pending.input.clone()).collect();
        thread.slices.push(Arc::new(SliceView {
            version: commit.version + 1,
            record: commit.record.clone(),
            inputs,
            consumed: commit.consumed.clone(),
        }));
        thread.due_at = commit.update.due_at;
        let session = thread.row.session.clone();
        let version = thread.row.version;

        if let Some(state) = self.sessions.get_mut(&session) {
            state.completions += u64::from(commit.completed);
            state.tokens = state.tokens.saturating_add(commit.tokens);
        }
        self.write_rows(&commit, &session);
        for letter in &commit.dead_letters {
            if let Some(pending) = self.inbox.remove(&letter.seq) {
                self.bury_input(pending, &letter.reason, now);
            }
        }
        for seq in &commit.consumed {
            self.inbox.remove(seq);
        }
        for event in commit.surface {
            self.show(event, now);
        }
        for NewThread { row, entries, surface } in commit.threads {
            self.add_thread(row, entries, Some(now), now);
            surface.into_iter().for_each(|event| self.show(event, now));
        }
        for delivery in commit.outbox {
            self.send(delivery, now);
        }
        for call in &commit.cancel {
            self.cancel(call, now);
        }
        for input in commit.inputs {
            let (thread, id, body) = (input.thread.clone(), input.id.clone(), input.body.clone());
            match self.accept(input, now) {
                Accepted::Accepted | Accepted::Duplicate | Accepted::Discarded(_) => {}
                refused => self.bury(
                    &thread,
                    id.as_str(),
                    &format!("its thread refused it: {refused:?}"),
                    &body,
                    now,
                ),
            }
        }
        if commit.pause || commit.resume {
            self.pause_subtree(&commit.thread, commit.pause, commit.stopped_by, now);
        }
        if commit.close {
            self.close_subtree(&commit.thread, now);
        }
        if commit.close || commit.update.waits_for_room.is_some() {
            self.wake_for_room(&session, now);
        }
        if !commit.close {
            self.wake_for_unseen(&commit.thread, commit.seen, now);
        }
        let due_at = self.threads.get(&commit.thread).and_then(|thread| thread.due_at);
        Ok(Committed { version, due_at })
    }

    fn write_rows(&mut self, commit: &Commit, session: &ThreadId) {
        for row in &commit.calls {
            let data = self.calls.entry(row.id.clone()).or_insert_with(|| CallData {
                row: row.clone(),
                session: session.clone(),
                outcome_accepted: false,
                invoked: false,
            });
            data.row = row.clone();
        }
        for row in &commit.subscriptions {
            self.subscriptions.insert(row.call.clone(), SubscriptionData { row: row.clone() });
        }
    }

    /// An input that came while the slice ran makes the thread due at once.
    fn wake_for_unseen(&mut self, id: &ThreadId, seen: i64, now: Millis) {
        let unseen = |from: i64| self.inbox.range(from..).filter(|(_, pending)| pending.thread == *id);
        let any = unseen(seen + 1).next().is_some();
        let by_person = unseen(seen + 1).any(|(_, pending)| pending.input.body.is_by_person());
        if let Some(thread) = self.threads.get_mut(id)
            && (by_person || (any && !thread.row.paused))
        {
            thread.due_at = Some(now);
        }
    }

    /// Threads whose events wait for room are due when there is some.
    fn wake_for_room(&mut self, session: &ThreadId, now: Millis) {
        let open = self.open_threads(session);
        for thread in self.threads.values_mut() {
            let waits = !thread.row.closed && !thread.row.paused && thread.row.session == *session;
            if waits && thread.row.waits_for_room.is_some_and(|room| open < room) {
                thread.due_at = Some(now);
            }
        }
    }

    pub(super) fn send(&mut self, delivery: NewDelivery, now: Millis) {
        let NewDelivery { kind, thread, call, url, body, traceparent } = delivery;
        let Some(session) = self.threads.get(&thread).map(|thread| thread.row.session.clone()) else {
            return;
        };
        if kind == DeliveryKind::Invocation
            && let Some(data) = call.as_ref().and_then(|call| self.calls.get_mut(call))
        {
            data.invoked = true;
        }
        let id = self.number();
        self.outbox.insert(
            id,
            OutboxRow {
                kind,
                thread,
                session,
                call,
                url,
                body,
                traceparent,
                attempts: 0,
                first_attempt: None,
                due_at: now,
                taken: false,
                begun: false,
            },
        );
    }

    /// Whether the invocation of a call left the outbox before anybody began to send it.
    fn withdraw(&mut self, call: &CallId) -> bool {
        let unsent = self.outbox.iter().find(|(_, row)| {
            row.kind == DeliveryKind::Invocation && row.call.as_ref() == Some(call) && !row.begun
        });
        let Some(id) = unsent.map(|(id, _)| *id) else { return false };
        self.outbox.remove(&id);
        if let Some(call) = self.calls.get_mut(call) {
            call.invoked = false;
        }
        true
    }

    pub(super) fn cancel(&mut self, call: &CallId, now: Millis) {
        if self.withdraw(call) {
            return;
        }
        // Nobody is told of a call that was never sent.
        let was_sent = |call: &&CallData| call.row.route == CallRoute::Rap && call.invoked;
        let Some(thread) = self.calls.get(call).filter(was_sent).map(|call| call.row.thread.clone()) else {
            return;
        };
        for base in self.bases(&thread) {
            let body = json!({"thread_id": thread, "tool_call_id": call});
            if let Ok(url) = base.below("cancel_tool_call") {
                let (kind, call) = (DeliveryKind::CancelToolCall, Some(call.clone()));
                let thread = thread.clone();
                self.send(NewDelivery { kind, thread, call, url, body, traceparent: None }, now);
            }
        }
    }

    fn bases(&self, thread: &ThreadId) -> Vec<HttpUrl> {
        let session = self.threads.get(thread).and_then(|thread| self.sessions.get(&thread.row.session));
        session.map_or_else(Vec::new, |s| s.session.toolbox.bases().cloned().collect())
    }

    fn subtree(&self, root: &ThreadId) -> Vec<ThreadId> {
        let mut threads: Vec<_> = self
            .threads
            .values()
            .filter(|thread| !thread.row.closed)
            .filter(|thread| thread.row.id == *root || thread.row.ancestors.contains(root))
            .map(|thread| (thread.order, thread.row.id.clone()))
            .collect();
        threads.sort();
        threads.into_iter().map(|(_, id)| id).collect()
    }

    fn pause_subtree(&mut self, root: &ThreadId, pause: bool, stopped_by: Option<i64>, now: Millis) {
        for id in self.subtree(root) {
            // What a person said after the stop is answered.
            let after = self.inbox.range(stopped_by.map_or(i64::MAX, |seq| seq + 1)..);
            let awake = after
                .into_iter()
                .any(|(_, pending)| pending.thread == id && pending.input.body.is_by_person());
            let Some(thread) = self.threads.get_mut(&id) else { continue };
            let was_paused = std::mem::replace(&mut thread.row.paused, pause);
            if id == *root {
                continue;
            }
            if pause {
                // A slice that runs in a descendant loses its turn.
                thread.row.version += 1;
                thread.claim = None;
                thread.due_at = awake.then_some(now);
            } else if was_paused {
                // Its inputs and timers are looked at again. A slice that runs in it thinks that it is
                // paused, and loses its turn.
                thread.row.version += 1;
                thread.claim = None;
                thread.due_at = Some(now);
            }
        }
    }

    fn close_subtree(&mut self, root: &ThreadId, now: Millis) {
        for id in self.subtree(root) {
            if let Some(thread) = self.threads.get_mut(&id) {
                thread.row.closed = true;
                thread.due_at = None;
                if id != *root {
                    thread.row.version += 1;
                    thread.claim = None;
                }
            }
            let calls: Vec<CallId> = self
                .calls
                .values()
                .filter(|call| call.row.thread == id && call.row.state.is_open())
                .map(|call| call.row.id.clone())
                .collect();
            let invoked: Vec<CallId> = self
                .outbox
                .values()
                .filter(|row| row.thread == id && row.kind == DeliveryKind::Invocation)
                .filter_map(|row| row.call.clone())
                .collect();
            for call in invoked {
                self.withdraw(&call);
            }
            for call in calls {
                if let Some(call) = self.calls.get_mut(&call) {
                    call.row.state = CallState::Cancelled;
                }
            }
            for subscription in self.subscriptions.values_mut() {
                if subscription.row.thread == id && subscription.row.state == SubscriptionState::Active {
                    subscription.row.state = SubscriptionState::Cancelled;
                }
            }
            let left: Vec<i64> =
                self.inbox.iter().filter(|(_, pending)| pending.thread == id).map(|(seq, _)| *seq).collect();
            for seq in left {
                if let Some(pending) = self.inbox.remove(&seq) {
                    self.bury_input(pending, "its thread was closed", now);
                }
            }
            self.show(SurfaceEvent { thread: id.clone(), what: Surface::Closed }, now);
            for base in self.bases(&id) {
                if let Ok(url) = base.below("close_thread") {
                    let (kind, thread, body) =
                        (DeliveryKind::CloseThread, id.clone(), json!({"thread_id": id}));
                    self.send(NewDelivery { kind, thread, call: None, url, body, traceparent: None }, now);
                }
            }
        }
    }
}
