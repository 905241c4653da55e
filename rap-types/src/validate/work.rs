//! What judging may cost: patterns and lists of allowed values are metered, each check has so much to spend.
//!
//! A pattern's cost grows with its size *and* with the string, a list's with its length and with how often it is
//! asked; neither can be bounded by looking at the schema alone. So both keywords are replaced by ones that take
//! what they are about to cost from the budget of the running check first, and do nothing when it is spent. What
//! such a check says then is worth nothing: see [`metered`].

use jsonschema::{Keyword, PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value, json};
use std::cell::Cell;

/// The largest compiled pattern, in bytes.
const PATTERN_BYTES: usize = 32 * 1024;
/// What one check may cost: states of a pattern × bytes of a string, and values compared with a list. At about
/// 30 ns each for the worst of patterns.
pub(super) const WORK: u64 = 10_000_000;

thread_local! {
    /// What the running check may still cost; nothing when it was not enough.
    static LEFT: Cell<Option<u64>> = const { Cell::new(Some(0)) };
}

/// Runs a check within a budget; nothing when it was not enough.
pub(super) fn metered<T>(check: impl FnOnce() -> T) -> Option<T> {
    LEFT.set(Some(WORK));
    let answer = check();
    LEFT.get().map(|_| answer)
}

fn spend(work: u64) -> bool {
    LEFT.set(LEFT.get().and_then(|left| left.checked_sub(work)));
    LEFT.get().is_some()
}

/// How patterns are compiled: matched in linear time, small.
pub(super) fn patterns() -> PatternOptions<jsonschema::Regex> {
    PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES)
}

/// A pattern that is not taken, in words that say why.
pub(super) fn check_pattern(pattern: &str) -> Result<(), String> {
    let compiles = |options| {
        let schema = json!({"pattern": pattern});
        jsonschema::options().with_pattern_options(options).build(&schema).is_ok()
    };
    if compiles(patterns()) {
        return Ok(());
    }
    Err(if compiles(PatternOptions::regex()) {
        "the pattern is too large when compiled; shorten its repetitions, or say it with `maxLength`"
            .to_owned()
    } else {
        "the pattern is not taken: it must be an ECMA-262 regular expression without look-around (`(?=`, `(?!`, \
         `(?<`) and back-references (`\\1`)"
            .to_owned()
    })
}

/// A keyword in the place of `pattern` and `enum`: the same, but paid for.
pub(super) struct Metered {
    inner: Validator,
    price: Price,
}

enum Price {
    Pattern { states: u64 },
    List { items: u64, parts: u64 },
}

/// A keyword as the validator asks for it.
pub(super) type Made<'a> = Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>>;

impl Metered {
    /// In the place of `pattern`.
    pub(super) fn pattern(value: &Value) -> Made<'_> {
        let states = value.as_str().map_or(1, states);
        Self::make("pattern", value, Price::Pattern { states })
    }

    /// In the place of `enum`.
    pub(super) fn list(value: &Value) -> Made<'_> {
        let items = value.as_array().map_or(1, Vec::len) as u64;
        Self::make("enum", value, Price::List { items, parts: parts(value) })
    }

    fn make<'a>(keyword: &str, value: &Value, price: Price) -> Made<'a> {
        let schema = Value::Object(Map::from_iter([(keyword.to_owned(), value.clone())]));
        let options = jsonschema::options().with_pattern_options(patterns());
        let inner = options.build(&schema).map_err(ValidationError::to_owned)?;
        Ok(Box::new(Self { inner, price }))
    }

    fn paid(&self, instance: &Value) -> bool {
        spend(match (&self.price, instance) {
            (Price::Pattern { states }, Value::String(text)) => states.saturating_mul(text.len() as u64 + 1),
            (Price::Pattern { .. }, _) => 0,
            (Price::List { parts, .. }, Value::Array(_) | Value::Object(_)) => *parts,
            (Price::List { items, .. }, _) => *items,
        })
    }
}

impl<'i> Keyword<'i> for Metered {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.paid(instance) {
            self.inner.validate(instance)
        } else {
            Err(ValidationError::custom("unpaid"))
        }
    }

    fn is_valid(&self, instance: &'i Value) -> bool {
        self.paid(instance) && self.inner.is_valid(instance)
    }
}

/// How many values a value is made of.
fn parts(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(parts).sum::<u64>() + 1,
        Value::Object(members) => members.values().map(parts).sum::<u64>() + 1,
        _ => 1,
    }
}

/// The bytes of all names of members.
pub(super) fn name_bytes(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(name_bytes).sum(),
        Value::Object(members) => members.iter().map(|(k, v)| k.len() as u64 + 1 + name_bytes(v)).sum(),
        _ => 0,
    }
}

/// About how many states a pattern has: its characters, those in repetitions as often as they may repeat.
pub(super) fn states(pattern: &str) -> u64 {
    // A class of Unicode, and whatever else is not a single byte.
    const WIDE: u64 = 100;
    const ANY: u64 = 5;
    let mut groups = vec![(0_u64, 0_u64)];
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        let mut atom = None;
        match c {
            '(' => groups.push((0, 0)),
            ')' if groups.len() > 1 => {
                let (before, last) = groups.pop().unwrap_or_default();
                atom = Some(before.saturating_add(last));
            }
            '\\' => atom = Some(if matches!(rest.next(), Some('p' | 'P')) { WIDE } else { 1 }),
            '[' => {
                let mut class = if rest.peek() == Some(&'^') { ANY } else { 1 };
                while let Some(c) = rest.next() {
                    match c {
                        ']' => break,
                        '\\' if matches!(rest.next(), Some('p' | 'P')) => class = WIDE,
                        c if !c.is_ascii() => class = class.max(ANY),
                        _ => {}
                    }
                }
                atom = Some(class);
            }
            '{' => {
                let bounds: String = rest.by_ref().take_while(|c| *c != '}').collect();
                let most = bounds.split(',').filter_map(|n| n.trim().parse::<u64>().ok()).max();
                if let Some((_, last)) = groups.last_mut() {
                    *last = last.saturating_mul(most.unwrap_or(1).max(1));
                }
            }
            '.' => atom = Some(ANY),
            '*' | '+' | '?' | '|' | '^' | '$' => {}
            _ => atom = Some(c.len_utf8() as u64),
        }
        if let (Some(atom), Some((before, last))) = (atom, groups.last_mut()) {
            *before = before.saturating_add(*last);
            *last = atom;
        }
    }
    groups.iter().fold(1, |all, (before, last)| all.saturating_add(*before).saturating_add(*last))
}

#[cfg(test)]
mod tests {
    use super::states;

    #[test]
    fn a_repetition_counts_as_often_as_it_may_repeat() {
        for (pattern, expected) in [
            ("^abc$", 4),
            ("[ab]*a[ab]{1000}c", 1004),
            ("((ab){10}c){2,100}", 2101),
            ("\\{3}", 4),
            ("[\\]a]{7}", 8),
            (".{2}", 11),
        ] {
            assert_eq!(states(pattern), expected, "{pattern}");
        }
    }
}
