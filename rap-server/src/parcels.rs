//! What changes in a call, and what it has to say: two queues, and what of them is on its way.

use crate::{
    life::{Life, Stop},
    outbox::Target,
    subscription::EmitterCore,
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    task::Waker,
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// What changes in a call.
pub(crate) struct Core {
    pub(crate) life: Life,
    pub(crate) stop: Option<Stop>,
    /// Results, questions and views, in order.
    pub(crate) urgent: VecDeque<Parcel>,
    /// Events, in order; they go out when the life says so.
    pub(crate) events: VecDeque<Parcel>,
    pub(crate) pumping: bool,
    /// The queue whose first parcel is on its way.
    pub(crate) sending: Option<Queue>,
    /// How often that parcel was tried in vain.
    pub(crate) attempts: u32,
    /// Who waits for its next attempt, to be told when something changes.
    pub(crate) waiting: Option<Waker>,
    /// Where messages go since the call was sent again with another callback URL.
    pub(crate) target: Option<Arc<Target>>,
    /// A 410 was answered: nothing more goes to the URL.
    pub(crate) gone: bool,
    /// The result as it was sent, for a re-sent invocation.
    pub(crate) outcome: Option<Bytes>,
    pub(crate) emitter: Weak<EmitterCore>,
    /// When the next event may go, as far as the rate limit goes (SUB-11).
    pub(crate) event_slot: Option<Instant>,
}

/// The queues of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    Urgent,
    Events,
}

impl Core {
    /// Something changed: whoever waits for an attempt looks whether it still should.
    pub(crate) fn nudge(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// What waits behind what is on its way.
    pub(crate) fn behind(&self) -> impl Iterator<Item = &Parcel> {
        self.urgent.iter().skip(usize::from(self.sending == Some(Queue::Urgent)))
    }

    /// Whether a result or a question waits.
    pub(crate) fn matters_more_waits(&self) -> bool {
        self.behind().any(|p| matches!(p.what, What::Result | What::Question { .. }))
    }

    /// What matters more first, in order, and then the views.
    pub(crate) fn views_last(&mut self) {
        let is_view = |parcel: &Parcel| matches!(parcel.what, What::View { .. });
        let (views, rest): (VecDeque<_>, VecDeque<_>) = self.urgent.drain(..).partition(is_view);
        self.urgent.extend(rest);
        self.urgent.extend(views);
    }

    /// Leaves out what waits, and is not on its way.
    pub(crate) fn leave_out(&mut self, which: impl Fn(&What) -> bool) {
        let mut on_its_way = self.sending == Some(Queue::Urgent);
        self.urgent.retain(|p| std::mem::take(&mut on_its_way) || !which(&p.what));
    }
}

/// Something to be delivered.
pub(crate) struct Parcel {
    pub(crate) what: What,
    pub(crate) body: Bytes,
    /// The event's share of the queue, given back when the parcel is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Result,
    Event { last: bool },
    View { view_type: Arc<str>, number: u64 },
    Question { token: Arc<str> },
}
