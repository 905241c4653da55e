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
const REMEMBERED: usize = 10_000;

/// When each user's allowance is whole again. Callers without a user share one.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<Option<UserId>, Instant>>);

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
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= REMEMBERED {
            users.retain(|_, whole| *whole > now);
        }
        let whole = users.get(&user.cloned()).map_or(now, |whole| (*whole).max(now));
        let wait = (whole - now).saturating_sub(room);
        if !wait.is_zero() {
            return Err(wait);
        }
        users.insert(user.cloned(), whole + step);
        Ok(())
    }
}
