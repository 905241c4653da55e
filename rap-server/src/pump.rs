//! How the messages of a call leave: one after the other, results and questions before events, events only
//! when the call's life says so and not faster than their rate.

use crate::{
    call::{CallInner, Parcel, What},
    engine::Engine,
    life::{Act, Input},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

impl Engine {
    /// There may be something to deliver.
    pub(crate) fn wake(self: &Arc<Self>, call: &Arc<CallInner>) {
        if start_pump(call) {
            tokio::spawn(pump(call.clone()).instrument(call.span.clone()));
        }
    }

    /// What came of a delivery, for the life of the call.
    fn settle(&self, call: &Arc<CallInner>, parcel: &Parcel, delivered: crate::outbox::Delivered) {
        use crate::outbox::Delivered as D;
        let gone = matches!(delivered, D::Gone);
        let mut core = call.core();
        core.gone |= gone;
        let input = match &parcel.what {
            What::Result if delivered == D::Taken => Some(Input::ResultTaken),
            What::Result => Some(Input::ResultLost),
            What::Event { .. } if gone => Some(Input::UrlGone),
            What::Event { last: true } => Some(Input::LastSettled),
            What::Event { .. } => None,
            What::View { view_type, number } => {
                self.forget_view(&call.thread, view_type, *number);
                gone.then_some(Input::UrlGone)
            }
            What::Question { token } => {
                if delivered != D::Taken {
                    self.questions.lost(token);
                }
                None
            }
        };
        if let Some(Act::DropEvents) = input.map(|input| core.life.input(input)) {
            call.drop_events(&mut core);
        }
    }
}

/// Whether the caller is to pump: nobody else does.
pub(crate) fn start_pump(call: &CallInner) -> bool {
    let mut core = call.core();
    if core.pumping {
        return false;
    }
    core.pumping = true;
    true
}

/// Delivers what a call has to say, in order, until there is nothing more.
pub(crate) async fn pump(call: Arc<CallInner>) {
    let engine = call.engine.clone();
    loop {
        let parcel = {
            let mut core = call.core();
            let next = match core.urgent.pop_front() {
                Some(parcel) => Some(parcel),
                None if core.life.may_send_events() => core.events.pop_front(),
                None => None,
            };
            match next {
                Some(parcel) => parcel,
                None => {
                    core.pumping = false;
                    break;
                }
            }
        };
        if matches!(parcel.what, What::Event { .. }) {
            wait_for_slot(&call).await;
        }
        let delivered = engine.outbox.deliver(&call, &parcel).await;
        engine.settle(&call, &parcel, delivered);
    }
    engine.tidy(&call);
}

/// The rate limit of events (SUB-11): so many a second, so many at once.
async fn wait_for_slot(call: &CallInner) {
    let settings = &call.engine.settings;
    let step = Duration::from_secs(1) / settings.events_per_second.max(1);
    let burst = step * settings.event_burst.saturating_sub(1);
    let slot = {
        let now = Instant::now();
        let mut core = call.core();
        let slot = core.event_slot.map_or(now, |slot| slot.max(now));
        core.event_slot = Some(slot + step);
        slot
    };
    let Some(at) = slot.checked_sub(burst) else { return };
    tokio::select! {
        () = sleep_until(at) => {}
        () = call.token.cancelled() => {}
    }
}
