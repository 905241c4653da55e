//! Admission: whether an input may enter its thread's inbox. Decided inside the transaction that stores
//! it, from the rows that it touches, so that what a peer is told is what happened.

use crate::{CallState, InputBody, SubscriptionState};

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

/// Unconsumed inputs that a thread holds at most. What servers send never fills the room of the people: a
/// message has some of its own, and a stop or a close is always taken.
pub(crate) const INBOX: usize = 10_000;
const ROOM_FOR_PEOPLE: usize = 1_000;

/// The events of a subscription, by which one that is sent again is known, are kept for so many milliseconds, 30 days
/// (P2, SUB-13)...
pub const EVENT_IDS_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// ...and at most so many of them. A store may keep more for a while; those that no slice has used yet it keeps for
/// as long as they wait. Outcomes and messages are known for the life of their thread.
pub const EVENT_IDS_KEPT: usize = 100_000;

/// Decides about an input.
pub fn admit(body: &InputBody, facts: &AdmissionFacts, parked_limit: usize) -> Admission {
    if facts.seen {
        return Admission::Duplicate;
    }
    match body {
        InputBody::Outcome { .. } | InputBody::Undelivered { .. } => outcome(facts),
        InputBody::Event { .. } => event(facts, parked_limit),
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
            } else if facts.inbox >= room(body) {
                Admission::Busy
            } else {
                Admission::Accept
            }
        }
    }
}

fn room(body: &InputBody) -> usize {
    match body {
        InputBody::Stop
        | InputBody::Close
        | InputBody::Summary { .. }
        | InputBody::NotCompacted { .. }
        | InputBody::ClockSetBack { .. } => usize::MAX,
        InputBody::Message { .. } => INBOX + ROOM_FOR_PEOPLE,
        _ => INBOX,
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

fn event(facts: &AdmissionFacts, parked_limit: usize) -> Admission {
    if !facts.thread_exists {
        return Admission::Discard("no such thread".into());
    }
    if facts.thread_closed {
        return Admission::Ended;
    }
    match (facts.subscription, facts.call) {
        (Some(SubscriptionState::Ended | SubscriptionState::Cancelled), _) => Admission::Ended,
        (_, Some(CallState::Cancelled)) => Admission::Ended,
        _ if facts.final_accepted => Admission::Ended,
        (Some(SubscriptionState::Active), _) if facts.inbox >= INBOX => Admission::Busy,
        (Some(SubscriptionState::Active), _) => Admission::Accept,
        (None, Some(CallState::Pending | CallState::Detached | CallState::PresumedLost)) => {
            // SUB-01 was broken, or the result is on its way: it waits for the confirmation.
            if facts.parked >= parked_limit { Admission::Busy } else { Admission::Accept }
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
                admit(&an_outcome(), &AdmissionFacts { call: state, ..facts() }, 64),
                expected,
                "{state:?}"
            );
        }
        assert_eq!(admit(&an_outcome(), &AdmissionFacts::default(), 64), discard("no such thread"));
        let seen = AdmissionFacts { seen: true, call: Some(CallState::Pending), ..facts() };
        assert_eq!(admit(&an_outcome(), &seen, 64), Admission::Duplicate);
    }

    /// What becomes of a person's word on a call: the first counts, and only while the call awaits one.
    #[test]
    fn approvals() {
        let word = InputBody::Approval { call: call(), allowed: true };
        let of = |facts: AdmissionFacts| admit(&word, &facts, 64);
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
        assert_eq!(admit(&an_event(), &active, 64), Admission::Accept);
        let seen = AdmissionFacts { seen: true, final_accepted: true, ..active.clone() };
        assert_eq!(admit(&an_event(), &seen, 64), Admission::Duplicate, "a re-sent final is a duplicate");
        let over = AdmissionFacts { final_accepted: true, ..active.clone() };
        assert_eq!(admit(&an_event(), &over, 64), Admission::Ended);
        for state in [SubscriptionState::Ended, SubscriptionState::Cancelled] {
            let over = AdmissionFacts { subscription: Some(state), ..active.clone() };
            assert_eq!(admit(&an_event(), &over, 64), Admission::Ended);
        }
        let closed = AdmissionFacts { thread_closed: true, ..active };
        assert_eq!(admit(&an_event(), &closed, 64), Admission::Ended);
        let early = AdmissionFacts { call: Some(CallState::Pending), parked: 63, ..facts() };
        assert_eq!(admit(&an_event(), &early, 64), Admission::Accept, "parked with its call");
        let full = AdmissionFacts { parked: 64, ..early };
        assert_eq!(admit(&an_event(), &full, 64), Admission::Busy);
        let none = AdmissionFacts { call: Some(CallState::Done), ..facts() };
        assert!(matches!(admit(&an_event(), &none, 64), Admission::Discard(_)));
    }

    #[test]
    fn messages() {
        let message = InputBody::Message { content: vec![] };
        assert_eq!(admit(&message, &facts(), 64), Admission::Accept);
        assert_eq!(admit(&message, &AdmissionFacts::default(), 64), Admission::UnknownThread);
        assert_eq!(admit(&message, &AdmissionFacts { thread_closed: true, ..facts() }, 64), Admission::Ended);
        let full = AdmissionFacts { inbox: INBOX, ..facts() };
        assert_eq!(admit(&InputBody::FromParent { text: "x".into() }, &full, 64), Admission::Busy);
        assert_eq!(admit(&message, &full, 64), Admission::Accept, "P9: people still get in");
        let fuller = AdmissionFacts { inbox: INBOX + ROOM_FOR_PEOPLE, ..facts() };
        assert_eq!(admit(&message, &fuller, 64), Admission::Busy);
        assert_eq!(admit(&InputBody::Stop, &fuller, 64), Admission::Accept);
        assert_eq!(admit(&InputBody::Close, &fuller, 64), Admission::Accept);
    }
}
