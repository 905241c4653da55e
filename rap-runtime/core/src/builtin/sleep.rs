//! When the timed sleeps end.

/// The longest sleep: ten years of 365.25 days, in seconds.
pub(crate) const LONGEST_SECONDS: i64 = 315_576_000;
