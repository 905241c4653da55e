//! Delivery, decided: what an attempt means, when the next one is due, and when an origin is left in peace.
//!
//! Nothing here has a clock, dice or a socket. Whoever keeps an outbox makes one attempt, asks [`judge`]
//! what it means, and asks [`Origins`] whether the next one may start. Time comes in as milliseconds of
//! whatever clock the caller keeps, dice as a seed.
//!
//! The contract: **callbacks and answers** go out at once and again after ¼, ½, 1, 2, 4, 8, 15, 30 s, 1, 5,
//! 30 min, 2, 5, 10, 14, 20 and 24 h (over 75 h in all), each delay longer by 0 to 20 %. **Invocations** are
//! tried for two minutes from ½ s on, and never again after any 4xx (TRN-03, TRN-04). **Notices** go out
//! once (CLS-01, CAN-01).

mod origins;

pub use origins::{Origins, Permit, Start};

use std::time::Duration;

/// What is being delivered: it decides the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Runtime to server: a tool call. Two minutes, never again after a 4xx (TRN-03, TRN-04).
    Invocation,
    /// Server to runtime: a result, an event, a question. Over 75 hours (TRN-05, TRN-06).
    Callback,
    /// Runtime to server: a thread was closed, a call was cancelled. Once (CLS-01, CAN-01).
    Notice,
    /// Runtime to server: what a person picked (CHO-01). Over 75 hours; a 4xx is final.
    Answer,
}

/// What came of one attempt.
///
/// ```
/// use rap_http::Attempt;
///
/// assert!(Attempt::status(204).is_delivered());
/// assert!(Attempt::status(503).slows_origin());
/// assert!(!Attempt::Refused.may_have_arrived());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The peer answered.
    Status {
        /// The status code.
        code: u16,
        /// The `Retry-After` of the answer, if it had one.
        retry_after: Option<Duration>,
    },
    /// No connection could be made (refused, unreachable, no such name, or not in time): nothing was sent.
    Refused,
    /// The connection stood, but no answer came in time.
    TimedOut,
    /// The connection broke, or what came was not HTTP. Says what, without secrets.
    Failed(String),
    /// We refused to send, e.g. because of the address policy. Final; says why, without secrets.
    Blocked(String),
}

impl Attempt {
    /// An answer without `Retry-After`.
    pub fn status(code: u16) -> Self {
        Self::Status { code, retry_after: None }
    }

    /// Whether the peer took what was sent: any 2xx.
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Status { code: 200..=299, .. })
    }

    /// Whether the peer may have acted on what was sent although it was not acknowledged: an answer that
    /// never came, a broken connection, a 5xx or a 2xx.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Status { code, .. } => !(300..500).contains(code),
            Self::TimedOut | Self::Failed(_) => true,
            Self::Refused | Self::Blocked(_) => false,
        }
    }

    /// Whether the whole origin is asked to be left in peace: `Retry-After` beside an error, 429, 502–504.
    pub fn slows_origin(&self) -> bool {
        match self {
            Self::Status { code, retry_after } => {
                !self.is_delivered() && (retry_after.is_some() || matches!(code, 429 | 502..=504))
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status { code, .. } if (300..400).contains(code) => {
                write!(f, "the peer answered {code}; redirects are not followed")
            }
            Self::Status { code, .. } => write!(f, "the peer answered {code}"),
            Self::Refused => f.write_str("no connection could be made"),
            Self::TimedOut => f.write_str("no answer came in time"),
            Self::Failed(what) => write!(f, "the exchange failed: {what}"),
            Self::Blocked(why) => write!(f, "not sent: {why}"),
        }
    }
}

/// What to do after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The peer took it.
    Delivered,
    /// Try again.
    Retry {
        /// The time from this attempt's end to the next attempt.
        after: Duration,
        /// The whole origin is to be slowed down ([`Origins`] does it).
        slow_origin: bool,
    },
    /// Never again: a dead letter.
    GiveUp(GiveUp),
}

/// Why a delivery was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GiveUp {
    /// One sentence without secrets: the last error and why it is final.
    pub reason: String,
    /// Whether the **last** attempt may have been acted on ([`Attempt::may_have_arrived`]). Whoever records
    /// attempts joins this with those before it.
    pub may_have_arrived: bool,
    /// The peer answered 410: nothing more is to be sent to this URL.
    pub gone: bool,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
const fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}
const fn hours(h: u64) -> Duration {
    Duration::from_secs(h * 3600)
}

/// The delays before the attempts of a callback or an answer; the first attempt goes out at once.
pub const CALLBACK_DELAYS: [Duration; 18] = [
    Duration::ZERO,
    ms(250),
    ms(500),
    secs(1),
    secs(2),
    secs(4),
    secs(8),
    secs(15),
    secs(30),
    secs(60),
    secs(300),
    secs(1800),
    hours(2),
    hours(5),
    hours(10),
    hours(14),
    hours(20),
    hours(24),
];

/// How long an invocation is tried: no attempt starts later than this after the first.
pub const INVOCATION_WINDOW: Duration = secs(120);

/// The first delay of an invocation; each further one is twice as long.
pub const INVOCATION_FIRST_DELAY: Duration = ms(500);

/// The longest `Retry-After` that is honoured. A longer one counts as this much.
pub const RETRY_AFTER_MAX: Duration = hours(24);

/// What an attempt means.
///
/// `attempts_made` counts this attempt too (1 after the first). `since_first` is the time from the start of
/// the first attempt to the end of this one. `seed` is dice for the jitter, the same for all attempts of
/// one delivery or not, as the caller likes.
pub fn judge(
    traffic: Traffic,
    attempts_made: u32,
    since_first: Duration,
    attempt: &Attempt,
    seed: u64,
) -> Verdict {
    if attempt.is_delivered() {
        return Verdict::Delivered;
    }
    if let Some(why) = is_final(traffic, attempt) {
        return give_up(attempt, why);
    }
    let scheduled = match traffic {
        Traffic::Notice => return give_up(attempt, "a notice is sent once"),
        Traffic::Callback | Traffic::Answer => match CALLBACK_DELAYS.get(attempts_made.max(1) as usize) {
            Some(delay) => *delay,
            None => return give_up(attempt, "the schedule of attempts is used up"),
        },
        Traffic::Invocation => {
            if since_first >= INVOCATION_WINDOW {
                return give_up(attempt, "the two minutes for an invocation are over");
            }
            INVOCATION_FIRST_DELAY * (1 << (attempts_made.max(1) - 1).min(16))
        }
    };
    let mut after = scheduled + jitter(scheduled, seed, attempts_made);
    if let Attempt::Status { retry_after: Some(asked), .. } = attempt {
        after = after.max((*asked).min(RETRY_AFTER_MAX));
    }
    if traffic == Traffic::Invocation {
        // The last attempt comes at the end of the window, however long the delay would be.
        after = after.min(INVOCATION_WINDOW - since_first);
    }
    Verdict::Retry { after, slow_origin: attempt.slows_origin() }
}

fn is_final(traffic: Traffic, attempt: &Attempt) -> Option<&'static str> {
    match attempt {
        Attempt::Blocked(_) => Some("this will not change by itself"),
        Attempt::Status { code: 410, .. } => Some("nothing more is taken there"),
        Attempt::Status { code: 408 | 425 | 429, .. } if traffic == Traffic::Callback => None,
        Attempt::Status { code: 400..=499, .. } => Some("a 4xx is final"),
        _ => None,
    }
}

fn give_up(attempt: &Attempt, why: &str) -> Verdict {
    Verdict::GiveUp(GiveUp {
        reason: format!("{attempt}; {why}"),
        may_have_arrived: attempt.may_have_arrived(),
        gone: matches!(attempt, Attempt::Status { code: 410, .. }),
    })
}

/// 0 to 20 % of the delay.
fn jitter(delay: Duration, seed: u64, attempts_made: u32) -> Duration {
    let dice = splitmix(seed ^ (u64::from(attempts_made) << 32)) >> 11;
    let share = dice as f64 / (1u64 << 53) as f64;
    delay.mul_f64(share * 0.2)
}

/// SplitMix64: spreads nearby seeds, so that counters serve as dice.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
