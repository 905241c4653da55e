//! Something that happens once, for whoever waits for it. Every call has one, so it stands in the call itself and
//! takes no memory of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Signal {
    given: AtomicBool,
    waiting: Notify,
}

impl Signal {
    pub(crate) fn give(&self) {
        if !self.given.swap(true, Ordering::SeqCst) {
            self.waiting.notify_waiters();
        }
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.load(Ordering::SeqCst)
    }

    /// Done when it was given.
    pub(crate) async fn given(&self) {
        // Told of what happens from here on, so only what was before is to be looked for.
        let told = self.waiting.notified();
        if !self.is_given() {
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    /// Everybody who waits is told, and who comes later does not wait.
    #[tokio::test]
    async fn told_once_for_all() {
        let signal = Signal::default();
        let (mut one, mut other) = (Box::pin(signal.given()), Box::pin(signal.given()));
        assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        assert!(!signal.is_given());
        signal.give();
        signal.give();
        assert!(signal.is_given());
        assert!(one.now_or_never().is_some() && other.now_or_never().is_some());
        assert!(signal.given().now_or_never().is_some());
    }
}
