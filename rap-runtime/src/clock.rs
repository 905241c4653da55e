//! The one place where this crate looks at the clock and throws dice.
//!
//! The clock of the machine may be set back. This one goes on instead: what was due when it was written stays due,
//! so that nobody waits for hours because somebody corrected the time (P9). A clock that is set forward, or a machine
//! that slept, is followed. When the program starts again it takes the machine's word, and
//! the store tells whatever waits by how much it was set back (`Store::clock_starts`). A process that runs slices for another
//! goes by the clock of that one, so that what is due there is due here.

use rap_core::{Millis, Moment};
use std::{
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A reading of the machine's clock, and when it was taken.
static READING: Mutex<Option<(i64, Instant)>> = Mutex::new(None);

pub(crate) fn now() -> Millis {
    let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
    Millis(onwards(&mut reading, machine(), Instant::now()))
}

fn machine() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// It is at least this late, by the clock of the process that this one works for.
#[cfg(feature = "sqlite")]
pub(crate) fn goes_on_from(now: Millis) {
    let mut reading = READING.lock().unwrap_or_else(PoisonError::into_inner);
    not_before(&mut reading, machine(), Instant::now(), now.0);
}

#[cfg(feature = "sqlite")]
fn not_before(reading: &mut Option<(i64, Instant)>, machine: i64, at: Instant, earliest: i64) {
    if onwards(reading, machine, at) < earliest {
        *reading = Some((earliest, at));
    }
}

/// The machine's time, or, where it has been set back, the time that has passed since it was last believed.
fn onwards(reading: &mut Option<(i64, Instant)>, machine: i64, at: Instant) -> i64 {
    let own = reading.map(|(millis, then)| {
        let passed = at.saturating_duration_since(then).as_millis();
        millis.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    });
    match own {
        Some(own) if own > machine => own,
        _ => {
            *reading = Some((machine, at));
            machine
        }
    }
}

pub(crate) fn dice() -> u64 {
    // Without randomness from the system the clock's last digits must do: dice only spread retries.
    getrandom::u64().unwrap_or_else(|_| now().0 as u64)
}

pub(crate) fn moment() -> Moment {
    Moment { now: now(), seed: dice() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// P9: a clock that is set back does not stop time; one that is set forward is followed.
    #[test]
    fn time_never_goes_back() {
        let start = Instant::now();
        let mut reading = None;
        for (passed, machine, expected) in [
            (0, 1_000, 1_000),
            (500, 1_500, 1_500),
            (1_000, 1_000 - 7_200_000, 2_000),
            (61_000, 60_000 - 7_200_000, 62_000),
            (62_000, 3_600_000, 3_600_000),
            (63_000, 70_000, 3_601_000),
        ] {
            let at = start + Duration::from_millis(passed);
            assert_eq!(onwards(&mut reading, machine, at), expected, "after {passed} ms");
        }
    }

    /// P9: a process goes by the clock of the one that it works for, where that is ahead of the machine's.
    #[cfg(feature = "sqlite")]
    #[test]
    fn time_goes_on_from_elsewhere() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        for (before, machine, earliest, expected) in [
            (None, 1_000, 7_201_000, 7_202_000),
            (None, 1_000, 500, 2_000),
            (Some((9_000, start)), 1_000, 7_000, 10_000),
        ] {
            let mut reading = before;
            not_before(&mut reading, machine, start, earliest);
            assert_eq!(onwards(&mut reading, machine + 1_000, later), expected, "{earliest}");
        }
    }
}
