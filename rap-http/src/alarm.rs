//! A time limit that is put off often and reached seldom: one for each connection, for all that happens on it.
//!
//! The runtime's timers are kept behind a lock that every core wants. A limit of half a minute which is set, and taken
//! away unreached, ten thousand times a second is most of what that lock is taken for. So the timer is left where it
//! is when the limit moves on; when it goes off, at most once in the time of a limit, it looks at what the limit is by
//! then.

use hyper::rt::{Sleep, Timer};
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;

/// A timer for limits that move on.
pub(crate) struct Alarm(Pin<Box<tokio::time::Sleep>>);

impl Alarm {
    pub(crate) fn new(limit: Instant) -> Self {
        Self(Box::pin(tokio::time::sleep_until(limit)))
    }

    /// Ready when the limit is reached; the limit may be another one each time.
    pub(crate) fn poll_until(&mut self, limit: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.deadline() > limit || self.0.is_elapsed() {
            self.0.as_mut().reset(limit);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if Instant::now() >= limit {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(limit);
        }
    }
}

/// The timer of one connection for hyper, which has one limit at a time there: for the next head.
#[derive(Clone, Default)]
pub(crate) struct OneAlarm(Arc<Mutex<Option<Alarm>>>);

impl Timer for OneAlarm {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, limit: std::time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Until { alarm: self.clone(), limit: limit.into() })
    }

    fn now(&self) -> std::time::Instant {
        Instant::now().into()
    }
}

struct Until {
    alarm: OneAlarm,
    limit: Instant,
}

impl Future for Until {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.0.lock().unwrap_or_else(PoisonError::into_inner);
        alarm.get_or_insert_with(|| Alarm::new(self.limit)).poll_until(self.limit, cx)
    }
}

impl Sleep for Until {}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::poll_fn;

    /// Whatever the limit was before, later or sooner, an alarm goes off at the one that is asked for.
    #[tokio::test(start_paused = true)]
    async fn at_the_limit_of_now() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut alarm = Alarm::new(after(30));
        for (before, limit) in [(30, 40), (100, 50), (51, 52), (52, 52), (300, 200), (200, 900)] {
            let earlier = poll_fn(|cx| alarm.poll_until(after(before), cx)).now_or_never();
            assert_eq!(earlier.is_some(), after(before) <= Instant::now(), "{before}");
            poll_fn(|cx| alarm.poll_until(after(limit), cx)).await;
            assert_eq!(Instant::now(), after(limit));
        }
    }

    /// Hyper's limits on one connection follow each other; one that was dropped does not end the next.
    #[tokio::test(start_paused = true)]
    async fn one_after_the_other() {
        let began = Instant::now();
        let timer = OneAlarm::default();
        let mut first = timer.sleep(Duration::from_secs(30));
        assert!((&mut first).now_or_never().is_none());
        drop(first);
        tokio::time::advance(Duration::from_secs(20)).await;
        timer.sleep(Duration::from_secs(30)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(50));
    }
}
