//! Admission: whether an input may enter its thread's inbox. Decided inside the transaction that stores
//! it, from the rows that it touches, so that what a peer is told is what happened.

use crate::{CallState, InputBody, Rules, SubscriptionState};

/// The rows that decide about an input, read in the same transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdmissionFacts {
    /// The thread is there.
    pub thread_exists: bool,
    /// The thread is closed.
    pub thread_closed: bool,
    /// An input of this id was accepted before (consumed or not).
    pub seen: bool,
    /// The state of the call that the input names, if that call is this thread's.
    pub call: Option<CallState>,
    /// The state of the subscription that the input names, if it is this thread's.
    pub subscription: Option<SubscriptionState>,
    /// A final event of that subscription was accepted.
    pub final_accepted: bool,
    /// Events that are parked with the named call.
    pub parked: usize,
    /// Unconsumed inputs of the thread.
    pub inbox: usize,
    /// Their bytes, as JSON.
    pub inbox_bytes: u64,
    /// Nobody would bring it again: the outcome of a tool of the program's own.
    pub brought_once: bool,
}

/// What is done with an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Store it; the thread is due (unless it is paused).
    Accept,
    /// It had its effect already: nothing changes, the sender is told that it was taken.
    Duplicate,
    /// Keep it as a dead letter with this reason; the sender is told that it was taken (RES-08, SUB-08).
    Discard(String),
    /// Refuse it: there is no such thread (VIW-02).
    UnknownThread,
    /// Refuse it: the thread is closed or the subscription over; the sender may stop (410).
    Ended,
    /// Refuse it for now: the inbox is full.
    Busy,
}

/// Messages of people that find room when the inbox is full of other things: what servers send never fills that.
const ROOM_FOR_PEOPLE: usize = 1_000;

/// The events of a subscription, by which one that is sent again is known, are kept for so many milliseconds, 30 days
/// (P2, SUB-13)...
pub const EVENT_IDS_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// ...and at most so many of them. A store may keep more for a while; those that no slice has used yet it keeps for
/// as long as they wait. Outcomes and messages are known for the life of their thread.
pub const EVENT_IDS_KEPT: usize = 100_000;

/// Decides about an input, by the rules of its session.
pub fn admit(body: &InputBody, facts: &AdmissionFacts, rules: &Rules) -> Admission {
    if facts.seen {
        return Admission::Duplicate;
    }
    match body {
        InputBody::Outcome { .. } => match outcome(facts) {
            // Of its own as much again as all others have: an inbox of events that wait shuts no outcome out. It is
            // asked for again, as one of 503 is; what nobody would bring again is taken.
            Admission::Accept
                if !facts.brought_once && facts.inbox_bytes >= rules.inbox_bytes.saturating_mul(2) =>
            {
                Admission::Busy
            }
            admission => admission,
        },
        InputBody::Undelivered { .. } => outcome(facts),
        InputBody::Event { .. } => event(facts, rules),
        InputBody::Approval { .. } => match facts.call {
            _ if !facts.thread_exists => Admission::UnknownThread,
            _ if facts.thread_closed => Admission::Ended,
            Some(CallState::AwaitingApproval) => Admission::Accept,
            _ => Admission::Duplicate,
        },
        InputBody::Resend { .. } => match facts.call {
            _ if !facts.thread_exists => Admission::UnknownThread,
            None => Admission::UnknownThread,
            _ if facts.thread_closed => Admission::Ended,
            Some(CallState::Refused | CallState::PresumedLost) => Admission::Accept,
            _ => Admission::Duplicate,
        },
        InputBody::Message { .. }
        | InputBody::UseModel { .. }
        | InputBody::Refresh
        | InputBody::Compact
        | InputBody::Summary { .. }
        | InputBody::NotCompacted { .. }
        | InputBody::Report { .. }
        | InputBody::FromParent { .. }
        | InputBody::ClockSetBack { .. }
        | InputBody::Stop
        | InputBody::Close => {
            if !facts.thread_exists {
                Admission::UnknownThread
            } else if facts.thread_closed {
                Admission::Ended
            } else if !has_room(body, facts, rules) {
                Admission::Busy
            } else {
                Admission::Accept
            }
        }
    }
}

/// Whether one more fits into the inbox. The one that fills it may be as large as it likes.
fn has_room(body: &InputBody, facts: &AdmissionFacts, rules: &Rules) -> bool {
    match body {
        InputBody::Stop
        | InputBody::Close
        | InputBody::Summary { .. }
        | InputBody::NotCompacted { .. }
        | InputBody::ClockSetBack { .. } => true,
        InputBody::Message { .. } => facts.inbox < rules.inbox.saturating_add(ROOM_FOR_PEOPLE),
        // What a parent or a child says is said once; it is small beside what servers send.
        _ => facts.inbox < rules.inbox,
    }
}

fn outcome(facts: &AdmissionFacts) -> Admission {
    if !facts.thread_exists {
        return Admission::Discard("no such thread".into());
    }
    match facts.call {
        None => Admission::Discard("no such call in this thread".into()),
        Some(CallState::Cancelled) => Admission::Discard("the call was cancelled".into()),
        Some(_) if facts.thread_closed => Admission::Discard("the thread is closed".into()),
        Some(CallState::AwaitingApproval) => Admission::Discard("the call was never sent".into()),
        Some(CallState::Refused | CallState::Done) => Admission::Duplicate,
        Some(CallState::Pending | CallState::Detached | CallState::PresumedLost) => Admission::Accept,
    }
}

fn event(facts: &AdmissionFacts, rules: &Rules) -> Admission {
    if !facts.thread_exists {
        return Admission::Discard("no such thread".into());
    }
    if facts.thread_closed {
        return Admission::Ended;
    }
    let full = facts.inbox >= rules.inbox || facts.inbox_bytes >= rules.inbox_bytes;
    match (facts.subscription, facts.call) {
        (Some(SubscriptionState::Ended | SubscriptionState::Cancelled), _) => Admission::Ended,
        (_, Some(CallState::Cancelled)) => Admission::Ended,
        _ if facts.final_accepted => Admission::Ended,
        (Some(SubscriptionState::Active), _) if full => Admission::Busy,
        (Some(SubscriptionState::Active), _) => Admission::Accept,
        (None, Some(CallState::Pending | CallState::Detached | CallState::PresumedLost)) => {
            // SUB-01 was broken, or the result is on its way: it waits for the confirmation.
            if full || facts.parked >= rules.parked_events { Admission::Busy } else { Admission::Accept }
        }
        (None, _) => Admission::Discard("no such subscription".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_types::CallId;

    fn facts() -> AdmissionFacts {
        AdmissionFacts { thread_exists: true, ..AdmissionFacts::default() }
    }

    fn call() -> CallId {
        CallId::new("c").unwrap()
    }

    fn an_outcome() -> InputBody {
        InputBody::Outcome { call: call(), outcome: crate::Outcome::text("x") }
    }

    fn an_event() -> InputBody {
        InputBody::Event { call: call(), text: "x".into(), associative: false, is_final: false }
    }

    /// RES-08, RES-09, CAN-03: what becomes of an outcome, by the state of its call.
    #[test]
    fn outcomes() {
        let discard = |reason: &str| Admission::Discard(reason.into());
        for (state, expected) in [
            (None, discard("no such call in this thread")),
            (Some(CallState::AwaitingApproval), discard("the call was never sent")),
            (Some(CallState::Pending), Admission::Accept),
            (Some(CallState::Detached), Admission::Accept),
            (Some(CallState::PresumedLost), Admission::Accept),
            (Some(CallState::Refused), Admission::Duplicate),
            (Some(CallState::Done), Admission::Duplicate),
            (Some(CallState::Cancelled), discard("the call was cancelled")),
        ] {
            assert_eq!(
                admit(&an_outcome(), &AdmissionFacts { call: state, ..facts() }, &Rules::default()),
                expected,
                "{state:?}"
            );
        }
        assert_eq!(
            admit(&an_outcome(), &AdmissionFacts::default(), &Rules::default()),
            discard("no such thread")
        );
        let seen = AdmissionFacts { seen: true, call: Some(CallState::Pending), ..facts() };
        assert_eq!(admit(&an_outcome(), &seen, &Rules::default()), Admission::Duplicate);
    }

    /// What becomes of a person's word on a call: the first counts, and only while the call awaits one.
    #[test]
    fn approvals() {
        let word = InputBody::Approval { call: call(), allowed: true };
        let of = |facts: AdmissionFacts| admit(&word, &facts, &Rules::default());
        let waits = AdmissionFacts { call: Some(CallState::AwaitingApproval), ..facts() };
        assert_eq!(of(waits.clone()), Admission::Accept);
        assert_eq!(of(AdmissionFacts { seen: true, ..waits.clone() }), Admission::Duplicate);
        assert_eq!(of(AdmissionFacts { thread_closed: true, ..waits }), Admission::Ended);
        assert_eq!(of(AdmissionFacts { call: Some(CallState::Pending), ..facts() }), Admission::Duplicate);
        assert_eq!(of(AdmissionFacts::default()), Admission::UnknownThread);
    }

    /// SUB-07, SUB-08, SUB-12: what becomes of an event.
    #[test]
    fn events() {
        let active = AdmissionFacts {
            call: Some(CallState::Done),
            subscription: Some(SubscriptionState::Active),
            ..facts()
        };
        assert_eq!(admit(&an_event(), &active, &Rules::default()), Admission::Accept);
        let seen = AdmissionFacts { seen: true, final_accepted: true, ..active.clone() };
        assert_eq!(
            admit(&an_event(), &seen, &Rules::default()),
            Admission::Duplicate,
            "a re-sent final is a duplicate"
        );
        let over = AdmissionFacts { final_accepted: true, ..active.clone() };
        assert_eq!(admit(&an_event(), &over, &Rules::default()), Admission::Ended);
        for state in [SubscriptionState::Ended, SubscriptionState::Cancelled] {
            let over = AdmissionFacts { subscription: Some(state), ..active.clone() };
            assert_eq!(admit(&an_event(), &over, &Rules::default()), Admission::Ended);
        }
        let closed = AdmissionFacts { thread_closed: true, ..active };
        assert_eq!(admit(&an_event(), &closed, &Rules::default()), Admission::Ended);
        let early = AdmissionFacts { call: Some(CallState::Pending), parked: 63, ..facts() };
        assert_eq!(admit(&an_event(), &early, &Rules::default()), Admission::Accept, "parked with its call");
        let full = AdmissionFacts { parked: 64, ..early };
        assert_eq!(admit(&an_event(), &full, &Rules::default()), Admission::Busy);
        let none = AdmissionFacts { call: Some(CallState::Done), ..facts() };
        assert!(matches!(admit(&an_event(), &none, &Rules::default()), Admission::Discard(_)));
    }

    #[test]
    fn messages() {
        let message = InputBody::Message { content: vec![] };
        assert_eq!(admit(&message, &facts(), &Rules::default()), Admission::Accept);
        assert_eq!(admit(&message, &AdmissionFacts::default(), &Rules::default()), Admission::UnknownThread);
        assert_eq!(
            admit(&message, &AdmissionFacts { thread_closed: true, ..facts() }, &Rules::default()),
            Admission::Ended
        );
        let rules = Rules { inbox: 5, inbox_bytes: 500, ..Rules::default() };
        let admit = |body: &InputBody, facts: &AdmissionFacts| super::admit(body, facts, &rules);
        let full = AdmissionFacts { inbox: 5, ..facts() };
        let note = InputBody::FromParent { text: "x".into() };
        assert_eq!(admit(&note, &full), Admission::Busy);
        assert_eq!(admit(&message, &full), Admission::Accept, "P9: people still get in");
        let fuller = AdmissionFacts { inbox: 5 + ROOM_FOR_PEOPLE, ..facts() };
        assert_eq!(admit(&message, &fuller), Admission::Busy);
        assert_eq!(admit(&InputBody::Stop, &fuller), Admission::Accept);
        assert_eq!(admit(&InputBody::Close, &fuller), Admission::Accept);
        let heavy = |inbox_bytes| AdmissionFacts { inbox: 4, inbox_bytes, ..facts() };
        assert_eq!(admit(&note, &heavy(u64::MAX)), Admission::Accept, "a report is made once");
        assert_eq!(admit(&message, &heavy(u64::MAX)), Admission::Accept, "P9: people still get in");
        let pending = |inbox_bytes| AdmissionFacts { call: Some(CallState::Pending), ..heavy(inbox_bytes) };
        assert_eq!(admit(&an_event(), &pending(500)), Admission::Busy);
        assert_eq!(admit(&an_outcome(), &pending(999)), Admission::Accept);
        assert_eq!(admit(&an_outcome(), &pending(1_000)), Admission::Busy);
        let own = AdmissionFacts { brought_once: true, ..pending(1_000) };
        assert_eq!(admit(&an_outcome(), &own), Admission::Accept);
    }
}
