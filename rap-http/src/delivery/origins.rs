//! Back-pressure per origin: one that is in trouble is probed by one delivery at a time.

use super::Attempt;
use std::{collections::HashMap, time::Duration};

/// The pause after an origin's first failure; doubled with each probe that fails.
const FIRST_PAUSE_MS: u64 = 250;
/// The longest pause between probes, unless `Retry-After` asks for a longer one.
const LONGEST_PAUSE_MS: u64 = 60_000;
/// The longest pause that `Retry-After` can bring a whole origin: one peer must not silence it for days.
const LONGEST_ASKED_MS: u64 = 3_600_000;
/// A probe of which nothing was heard for so long is taken for lost.
const PROBE_LOST_MS: u64 = 180_000;
/// How many origins in trouble are remembered; beyond it the one that is due first is forgotten.
const REMEMBERED: usize = 10_000;

/// Which origins are in trouble, and since when; origins that answer take no room.
///
/// Ask [`may_start`](Self::may_start) before an attempt and tell [`finished`](Self::finished) what came of it
/// (or [`abandoned`](Self::abandoned)). Times are milliseconds of any clock that does not run backwards; one
/// that does only makes pauses longer.
///
/// ```
/// use rap_http::{Attempt, Origins, delivery::{Permit, Start}};
///
/// let mut origins = Origins::new();
/// let Start::Now(permit) = origins.may_start("http://127.0.0.1:4000", 0) else { panic!("it is in no trouble") };
/// let permit: Permit = permit;
/// origins.finished("http://127.0.0.1:4000", 5, permit, &Attempt::Refused);
/// assert!(matches!(origins.may_start("http://127.0.0.1:4000", 6), Start::WaitUntil(255)));
/// ```
#[derive(Debug, Default)]
pub struct Origins {
    troubled: HashMap<String, Trouble>,
    /// Numbers probes, so that a late one is not taken for its successor.
    probes: u64,
}

#[derive(Debug)]
struct Trouble {
    /// No attempt before.
    until: u64,
    /// Probes that failed in a row.
    failures: u32,
    /// When the probe on its way started, and its number.
    probe: Option<(u64, u64)>,
}

/// Whether an attempt may start.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Start {
    /// Now. Hand the permit back with the outcome.
    Now(Permit),
    /// Not before this time in milliseconds; ask again then.
    WaitUntil(u64),
    /// Another delivery is probing the origin: ask again when [`Origins::finished`] has returned `true` for
    /// it, at the latest at this time in milliseconds.
    WaitForProbe {
        /// When the probe is taken for lost.
        at_latest: u64,
    },
}

/// The right to make one attempt, handed back with its outcome.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    probe: Option<u64>,
}

impl Permit {
    /// Whether this attempt is the one that finds out whether the origin is back.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

impl Origins {
    /// No origin in trouble.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an attempt at `origin` may start at `now_ms`.
    pub fn may_start(&mut self, origin: &str, now_ms: u64) -> Start {
        let Some(trouble) = self.troubled.get_mut(origin) else {
            return Start::Now(Permit { probe: None });
        };
        if let Some((started, _)) = trouble.probe {
            let lost_at = started.saturating_add(PROBE_LOST_MS);
            if now_ms < lost_at {
                return Start::WaitForProbe { at_latest: lost_at };
            }
            trouble.probe = None;
        }
        if now_ms < trouble.until {
            return Start::WaitUntil(trouble.until);
        }
        self.probes += 1;
        trouble.probe = Some((now_ms, self.probes));
        Start::Now(Permit { probe: Some(self.probes) })
    }

    /// What came of an attempt. Returns whether deliveries that wait for this origin should ask again:
    /// the origin is back, or its probe has ended.
    ///
    /// When the origin is back ([`is_troubled`](Self::is_troubled) says no), a delivery that waits for its own
    /// next attempt may go out at once if its last attempt was [`Attempt::Refused`]. That early attempt should
    /// not count for its schedule, or an origin that comes and goes uses it up. After any other failure the
    /// schedule holds: the fault may be the delivery's own, and others' success says nothing of it.
    pub fn finished(&mut self, origin: &str, now_ms: u64, permit: Permit, attempt: &Attempt) -> bool {
        let down = matches!(attempt, Attempt::Refused | Attempt::TimedOut | Attempt::Failed(_));
        if matches!(attempt, Attempt::Blocked(_)) {
            return self.abandoned(origin, permit);
        }
        if !down && !attempt.slows_origin() {
            // Any other answer, an error too, shows an origin that works.
            return self.troubled.remove(origin).is_some();
        }
        let asked = match attempt {
            Attempt::Status { retry_after: Some(asked), .. } => millis(*asked).min(LONGEST_ASKED_MS),
            _ => 0,
        };
        match self.troubled.get_mut(origin) {
            None => {
                self.make_room();
                let until = now_ms.saturating_add(FIRST_PAUSE_MS.max(asked));
                self.troubled.insert(origin.to_owned(), Trouble { until, failures: 1, probe: None });
                false
            }
            Some(trouble) => {
                let was_probe = permit.probe.is_some() && trouble.probe.map(|(_, n)| n) == permit.probe;
                let mut pause = asked;
                if was_probe {
                    trouble.probe = None;
                    trouble.failures = trouble.failures.saturating_add(1);
                    let grown = FIRST_PAUSE_MS << (trouble.failures - 1).min(20);
                    pause = pause.max(grown.min(LONGEST_PAUSE_MS));
                }
                // Attempts that were on their way when the trouble began count as one failure together.
                trouble.until = trouble.until.max(now_ms.saturating_add(pause));
                was_probe
            }
        }
    }

    /// The attempt was never made, or cut short, and says nothing of the origin. Returns whether waiting deliveries should ask again.
    pub fn abandoned(&mut self, origin: &str, permit: Permit) -> bool {
        match self.troubled.get_mut(origin) {
            Some(trouble) if permit.probe.is_some() && trouble.probe.map(|(_, n)| n) == permit.probe => {
                trouble.probe = None;
                true
            }
            _ => false,
        }
    }

    /// Every origin in trouble may be probed now, however long its pause: for a last attempt before an end. Tell
    /// deliveries that wait to ask again.
    pub fn probe_now(&mut self) {
        for trouble in self.troubled.values_mut() {
            trouble.until = 0;
            trouble.failures = 1;
        }
    }

    /// Whether the origin is in trouble.
    pub fn is_troubled(&self, origin: &str) -> bool {
        self.troubled.contains_key(origin)
    }

    /// How many origins are in trouble.
    pub fn troubled(&self) -> usize {
        self.troubled.len()
    }

    fn make_room(&mut self) {
        if self.troubled.len() >= REMEMBERED {
            let first = self.troubled.iter().min_by_key(|(_, t)| t.until).map(|(origin, _)| origin.clone());
            if let Some(first) = first {
                self.troubled.remove(&first);
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
