//! The one place where this crate looks at the clock and throws dice.

use rap_core::{Millis, Moment};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

pub(crate) fn dice() -> u64 {
    // Without randomness from the system the clock's last digits must do: dice only spread retries.
    getrandom::u64().unwrap_or_else(|_| now().0 as u64)
}

pub(crate) fn moment() -> Moment {
    Moment { now: now(), seed: dice() }
}
