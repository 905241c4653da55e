//! The end of a server: no more calls, every function told, a last attempt for all that is owed, and what is owed
//! even then handed out, so that somebody can keep it.

use crate::{
    call::{Queue, What},
    engine::Engine,
    letters::DeadLetter,
    life::{Input, Stop},
    run::End,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

impl Engine {
    /// Ends everything: tells every function, waits for what is owed to be delivered until `limit` is over,
    /// and hands out what was not.
    pub(crate) async fn shut_down(self: &Arc<Self>, limit: Duration) -> Vec<DeadLetter> {
        let deadline = Instant::now() + limit;
        for call in self.close() {
            call.stop(Stop::ShutDown);
        }
        // Whoever is well again by now is not told in half an hour.
        self.outbox.hurry();
        loop {
            let done = self.done().notified();
            tokio::pin!(done);
            done.as_mut().enable();
            let underway = self.outbox.strays.count() + self.outbox.letters.underway();
            if self.open_calls() + underway == 0 {
                break;
            }
            tokio::select! {
                () = done => {}
                () = sleep_until(deadline) => break,
            }
        }
        self.hand_out()
    }

    /// All that is owed, to be kept by somebody else: nothing of it is sent from here any more.
    pub(crate) fn hand_out(self: &Arc<Self>) -> Vec<DeadLetter> {
        let mut owed = self.outbox.letters.take_all(self);
        let mut unsent = self.outbox.strays.take_all();
        for call in self.close() {
            // A function that has not returned by now ends here.
            self.ended(&call, End::Dropped);
            let mut core = call.core();
            let url = core.target.as_ref().map_or(&call.callback_url, |target| &target.url).clone();
            let core = &mut *core;
            let tried = core.sending.take().map(|queue| match queue {
                Queue::Urgent => (0, core.attempts),
                Queue::Events => (core.urgent.len(), core.attempts),
            });
            let parcels = core.urgent.drain(..).chain(core.events.drain(..));
            for (at, parcel) in parcels.enumerate() {
                let wanted = match &parcel.what {
                    What::Result | What::Event { .. } => true,
                    What::View { view_type, number } => self.is_newest_view(&call.thread, view_type, *number),
                    // Its answer could not be taken.
                    What::Question { .. } => false,
                };
                if !wanted {
                    continue;
                }
                let reason = "the server shut down before it was delivered";
                let mut letter = DeadLetter::new(&call, &url, parcel.what, parcel.body, reason);
                letter.attempts = tried.filter(|(first, _)| *first == at).map_or(0, |(_, attempts)| attempts);
                unsent.push(letter);
            }
            core.life.input(Input::UrlGone);
            core.gone = true;
            call.drop_events(core);
            core.nudge();
        }
        for call in self.close() {
            self.tidy(&call);
        }
        for letter in &mut unsent {
            letter.number = self.outbox.letters.number();
        }
        owed.append(&mut unsent);
        owed
    }
}
