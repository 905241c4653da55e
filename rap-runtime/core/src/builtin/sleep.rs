//! The timed sleeps: when they end, and what the model is told of that.

use crate::{CallRow, Millis, Outcome, machine::Resolution};
use jiff::{Timestamp, civil};
use serde_json::{Map, Value};

/// The longest sleep: ten years of 365.25 days, in seconds.
pub(crate) const LONGEST_SECONDS: i64 = 315_576_000;

/// `sleep(seconds)`.
pub(crate) fn sleep(now: Millis, arguments: &Map<String, Value>) -> Result<Resolution, String> {
    let seconds = match arguments.get("seconds") {
        Some(Value::Number(number)) => number.as_f64().unwrap_or(f64::NAN),
        Some(_) => return Err("`seconds` must be a number".to_owned()),
        None => return Err("`seconds` is missing".to_owned()),
    };
    if !seconds.is_finite() || seconds <= 0.0 || seconds > LONGEST_SECONDS as f64 {
        return Err(format!("`seconds` must be more than 0 and at most {LONGEST_SECONDS} (ten years)"));
    }
    let millis = (seconds * 1000.0).ceil() as i64;
    Ok(Resolution::Timer(now + millis))
}

/// `sleep_until(date, time, timezone)`. In a gap of the clock: the next valid moment; in a fold: the first.
pub(crate) fn sleep_until(now: Millis, arguments: &Map<String, Value>) -> Result<Resolution, String> {
    let date: civil::Date = super::string(arguments, "date")?
        .parse()
        .map_err(|_| "`date` must be a day of the calendar, as YYYY-MM-DD".to_owned())?;
    let time = super::string(arguments, "time")?;
    let time = parse_time(time).ok_or("`time` must be HH:MM or HH:MM:SS, from 00:00 to 23:59:59")?;
    let name = super::string(arguments, "timezone")?;
    let zone = jiff::tz::TimeZone::get(name)
        .map_err(|_| format!("there is no time zone {name:?}; use an IANA name, e.g. Europe/Oslo or UTC"))?;
    let ambiguous = zone.to_ambiguous_zoned(date.to_datetime(time));
    let at = match ambiguous.offset() {
        jiff::tz::AmbiguousOffset::Gap { .. } => after_gap(ambiguous)?,
        _ => ambiguous.earlier().map_err(|e| format!("that moment cannot be reached: {e}"))?.timestamp(),
    };
    let at = Millis(at.as_millisecond());
    if at <= now {
        return Ok(Resolution::Instant(Outcome::text("That time has passed already.")));
    }
    if at - now > LONGEST_SECONDS * 1000 {
        return Err("that is more than ten years away".to_owned());
    }
    Ok(Resolution::Timer(at))
}

/// The moment in which a gap of the clock ends.
fn after_gap(ambiguous: jiff::tz::AmbiguousZoned) -> Result<Timestamp, String> {
    let unreachable = |e: jiff::Error| format!("that moment cannot be reached: {e}");
    let zone = ambiguous.time_zone().clone();
    let before = ambiguous.earlier().map_err(unreachable)?.timestamp();
    let transition = zone.following(before).next().map(|transition| transition.timestamp());
    Ok(transition.unwrap_or(before))
}

/// HH:MM or HH:MM:SS, and nothing else.
fn parse_time(text: &str) -> Option<civil::Time> {
    let parts: Vec<&str> = text.split(':').collect();
    if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.len() != 2) {
        return None;
    }
    let number =
        |part: &str| part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse::<i8>().ok()).flatten();
    let (hour, minute) = (number(parts[0])?, number(parts[1])?);
    let second = parts.get(2).map_or(Some(0), |part| number(part))?;
    civil::Time::new(hour, minute, second, 0).ok()
}

/// What a timer says when it fires.
pub(crate) fn ended(row: &CallRow) -> Outcome {
    Outcome::text(format!("The wait of {} is over.", seconds(row, row.due_at.unwrap_or(row.created_at))))
}

/// What stands in a timer's place when something else came first.
pub(crate) fn interrupted(row: &CallRow, now: Millis) -> Outcome {
    let whole = seconds(row, row.due_at.unwrap_or(now));
    let slept = (now - row.created_at) / 1000;
    Outcome::text(format!(
        "Something came first: slept {slept} s of {whole}. The wait goes on, and its end comes as an event."
    ))
}

fn seconds(row: &CallRow, until: Millis) -> String {
    format!("{} s", (until - row.created_at + 999) / 1000)
}
