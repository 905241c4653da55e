//! Requests on their way out: taken, sent, settled.

use super::Memory;
use crate::{DeadLetterView, Delivery, DeliveryKind, Millis, Settlement};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde_json::Value;
use std::collections::HashSet;

#[derive(Debug, Clone)]
pub(super) struct OutboxRow {
    pub(super) kind: DeliveryKind,
    pub(super) thread: ThreadId,
    pub(super) session: ThreadId,
    pub(super) call: Option<CallId>,
    pub(super) url: HttpUrl,
    pub(super) body: Value,
    pub(super) attempts: u32,
    pub(super) first_attempt: Option<Millis>,
    pub(super) due_at: Millis,
    pub(super) taken: bool,
    pub(super) begun: bool,
    pub(super) traceparent: Option<String>,
}

impl OutboxRow {
    pub(super) fn delivery(&self, id: i64) -> Delivery {
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
    /// See [`Store::take`](crate::Store::take).
    pub fn take(&mut self, now: Millis, limit: usize) -> Vec<Delivery> {
        let due = self.sendable().filter(|(_, row)| row.due_at <= now).map(|(id, _)| *id);
        let (answered, ids): (Vec<i64>, Vec<i64>) = due.partition(|id| self.is_answered(*id));
        answered.iter().for_each(|id| drop(self.outbox.remove(id)));
        ids.into_iter().take(limit).filter_map(|id| self.taken(id, now)).collect()
    }

    /// Whether an invocation that may have been sent has arrived for certain.
    fn is_answered(&self, id: i64) -> bool {
        let row = self.outbox.get(&id).filter(|row| row.kind == DeliveryKind::Invocation && row.begun);
        let call = row.and_then(|row| self.calls.get(row.call.as_ref()?));
        call.is_some_and(|call| call.outcome_accepted)
    }

    /// Deliveries that may be taken once they are due: not taken, and not behind an earlier one of their call.
    pub(super) fn sendable(&self) -> impl Iterator<Item = (&i64, &OutboxRow)> {
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
            Settlement::Answered(input) => {
                self.outbox.remove(&delivery);
                self.accept_once(*input, now);
            }
            Settlement::GaveUp { reason, input } => {
                let row = self.outbox.remove(&delivery);
                if let Some(row) = row {
                    let what = DeadLetterView::name_of(row.kind, row.call.as_ref());
                    let attempts = row.attempts + u32::from(row.begun);
                    self.keep_dead(&row.thread, what, reason, attempts, row.body, now);
                }
                if let Some(input) = input {
                    self.accept(*input, now);
                }
            }
        }
    }
}
