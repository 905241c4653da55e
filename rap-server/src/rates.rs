//! A limit for the calls of each user, off unless configured: so many a minute, so many at once. What is over
//! the limit is answered 200 and ends in an error result, because the model can act on that.

use rap_types::UserId;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How many users are remembered before those who have been quiet are forgotten.
const SWEPT_AT: usize = 10_000;
/// How many users have an allowance of their own at once; more share that of callers without a name.
const USERS: usize = 100_000;

/// When each user's allowance is whole again. Callers without a user share one.
#[derive(Default)]
pub(crate) struct Rates(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    whole: HashMap<Option<UserId>, Instant>,
    /// When it is swept again at the earliest.
    next_sweep: Option<Instant>,
}

impl Inner {
    /// Forgets those whose allowance is whole; seldom, since it looks at all of them.
    fn sweep(&mut self, now: Instant) {
        if self.whole.len() >= SWEPT_AT && self.next_sweep.is_none_or(|next| now >= next) {
            self.whole.retain(|_, whole| *whole > now);
            self.next_sweep = Some(now + Duration::from_secs(1));
        }
    }
}

impl Rates {
    /// Takes one call from a user's allowance.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn take(
        &self,
        user: Option<&UserId>,
        per_minute: u32,
        burst: u32,
        now: Instant,
    ) -> Result<(), Duration> {
        let step = Duration::from_secs(60) / per_minute.max(1);
        let room = step * burst.saturating_sub(1);
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.sweep(now);
        let mut user = user.cloned();
        if inner.whole.len() >= USERS && !inner.whole.contains_key(&user) {
            user = None;
        }
        let whole = inner.whole.get(&user).map_or(now, |whole| (*whole).max(now));
        let wait = (whole - now).saturating_sub(room);
        if !wait.is_zero() {
            return Err(wait);
        }
        inner.whole.insert(user, whole + step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many users call, few are remembered: those who have been quiet are forgotten, and beyond the limit
    /// strangers share one allowance.
    #[test]
    fn bounded() {
        let (rates, start) = (Rates::default(), Instant::now());
        let user = |n: usize| UserId::new(format!("user-{n}")).unwrap();
        let size = || rates.0.lock().unwrap().whole.len();
        for n in 0..50_000 {
            let now = start + Duration::from_millis(n as u64);
            assert_eq!(rates.take(Some(&user(n)), 60, 1, now), Ok(()));
            assert!(size() <= SWEPT_AT, "{n}");
        }
        let now = start + Duration::from_secs(3600);
        for n in 0..USERS {
            assert_eq!(rates.take(Some(&user(n)), 60, 1, now), Ok(()));
        }
        assert_eq!(rates.take(Some(&user(USERS)), 60, 1, now), Ok(()));
        assert!(rates.take(Some(&user(USERS + 1)), 60, 1, now).is_err(), "the common allowance is used up");
        assert!(rates.take(Some(&user(7)), 60, 1, now).is_err(), "whoever has one keeps it");
        assert!(size() <= USERS + 1);
        assert_eq!(rates.take(Some(&user(USERS + 1)), 60, 1, now + Duration::from_secs(2)), Ok(()));
        assert!(size() <= 2);
    }
}
