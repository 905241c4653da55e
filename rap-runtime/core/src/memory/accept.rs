//! Inputs on their way in: the facts, the core's word, the inbox, and what nobody can use.

use super::{Letter, Memory, Pending};
use crate::{
    Accepted, Admission, AdmissionFacts, CallState, DeadLetterView, EVENT_IDS_KEPT, EVENT_IDS_KEPT_MS, Input,
    InputBody, Millis, NewInput, Rules, Session, admit,
};
use rap_types::{CallId, ThreadId};
use serde_json::Value;

impl Memory {
    /// See [`Store::accept`](crate::Store::accept).
    pub fn accept(&mut self, new: NewInput, now: Millis) -> Accepted {
        let facts = self.facts(&new);
        self.accept_by(facts, new, now)
    }

    /// As [`accept`](Self::accept), what nobody would bring again.
    pub(super) fn accept_once(&mut self, new: NewInput, now: Millis) -> Accepted {
        let facts = AdmissionFacts { brought_once: true, ..self.facts(&new) };
        self.accept_by(facts, new, now)
    }

    fn accept_by(&mut self, facts: AdmissionFacts, new: NewInput, now: Millis) -> Accepted {
        let rules = self.rules_of(&new.thread).map_or_else(Rules::default, |session| session.rules.clone());
        match admit(&new.body, &facts, &rules) {
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

    pub(super) fn rules_of(&self, thread: &ThreadId) -> Option<&Session> {
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
            inbox_bytes: unconsumed().map(|pending| pending.bytes).sum(),
            brought_once: false,
        }
    }

    fn enter(&mut self, new: NewInput, now: Millis) {
        let seq = self.number();
        self.accepted_at = Some(now);
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
                (session.completions, session.tokens) = (0, 0);
            }
        }
        let (body, traceparent) = (new.body, new.traceparent);
        let bytes = serde_json::to_string(&body).map_or(0, |json| json.len() as u64);
        let input = Input { seq, id: new.id, accepted_at: now, body, traceparent };
        self.inbox.insert(seq, Pending { thread: new.thread, input, bytes });
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

    pub(super) fn bury(
        &mut self,
        thread: &ThreadId,
        what: &str,
        reason: &str,
        body: &InputBody,
        now: Millis,
    ) {
        let body = serde_json::to_value(body).unwrap_or(Value::Null);
        self.keep_dead(thread, what.to_owned(), reason.to_owned(), 0, body, now);
    }

    /// Puts an input away that was accepted: nothing takes it away again but a person (P1).
    pub(super) fn bury_input(&mut self, pending: Pending, reason: &str, now: Millis) {
        let Pending { thread, input, .. } = pending;
        let body = serde_json::to_value(&input.body).unwrap_or(Value::Null);
        let id = self.number();
        let (what, reason) = (input.id.as_str().to_owned(), reason.to_owned());
        let view =
            DeadLetterView { id, at: now, thread: thread.to_string(), what, reason, attempts: 0, body };
        self.dead_letters.push(Letter { accepted: true, view });
    }

    /// Keeps a dead letter of what was not accepted; at the limit, the oldest of these goes.
    pub(super) fn keep_dead(
        &mut self,
        thread: &ThreadId,
        what: String,
        reason: String,
        attempts: u32,
        body: Value,
        now: Millis,
    ) {
        let limit =
            self.rules_of(thread).map_or(Rules::default().dead_letters, |session| session.rules.dead_letters);
        let (id, thread_id) = (self.number(), thread.to_string());
        let view = DeadLetterView { id, at: now, thread: thread_id, what, reason, attempts, body };
        self.dead_letters.push(Letter { accepted: false, view });
        let of_thread = |letter: &Letter| !letter.accepted && letter.view.thread == thread.as_str();
        if self.dead_letters.iter().filter(|letter| of_thread(letter)).count() > limit
            && let Some(oldest) = self.dead_letters.iter().position(of_thread)
        {
            self.dead_letters.remove(oldest);
        }
    }
}
