//! Something that happens once, for whoever waits for it. Every call has one, and most are never waited for, so it
//! stands in the call itself.

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
    use std::sync::Arc;

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

    /// However giving and beginning to wait fall together, nobody waits for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn at_the_same_instant() {
        for _ in 0..2000 {
            let signal = Arc::new(Signal::default());
            let waits = signal.clone();
            let waiting = tokio::spawn(async move { waits.given().await });
            signal.give();
            waiting.await.unwrap();
        }
    }
}
