//! Numbers as JSON means them: `1` and `1.0` are one integer.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Unexpected, Visitor},
};
use std::fmt;

/// 2^53: beyond it a float no longer tells integers apart.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// The place of a choice in its question, counted from 0: an integer that is not negative, however it is
/// written on the wire (`1` and `1.0` are the same).
///
/// Whether a question has a choice at that place is the question's to say:
/// [`UserChoice::pick`](crate::UserChoice::pick) gives only such places, and
/// [`UserChoice::new`](crate::UserChoice::new) refuses a default that is none (CHO-02). An answer from elsewhere
/// may hold any index; the tool server ends the call in an error result where it is none (CHO-03).
///
/// ```
/// use rap_types::ChoiceIndex;
///
/// let index: ChoiceIndex = serde_json::from_str("1.0")?;
/// assert_eq!(index.of(&["Yes", "No"]), Some(&"No"));
/// assert!(serde_json::from_str::<ChoiceIndex>("-1").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ChoiceIndex(u64);

impl ChoiceIndex {
    /// The place, counted from 0.
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// The place, counted from 0.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The element at this place, if there is one.
    pub fn of<T>(self, choices: &[T]) -> Option<&T> {
        choices.get(usize::try_from(self.0).ok()?)
    }
}

impl From<u64> for ChoiceIndex {
    fn from(index: u64) -> Self {
        Self(index)
    }
}

impl From<ChoiceIndex> for u64 {
    fn from(index: ChoiceIndex) -> Self {
        index.0
    }
}

impl PartialEq<u64> for ChoiceIndex {
    fn eq(&self, other: &u64) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for ChoiceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ChoiceIndex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Index;
        impl Visitor<'_> for Index {
            type Value = ChoiceIndex;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer of at least 0")
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<ChoiceIndex, E> {
                Ok(ChoiceIndex(value))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<ChoiceIndex, E> {
                let index = u64::try_from(value);
                index.map(ChoiceIndex).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<ChoiceIndex, E> {
                if value.fract() == 0.0 && (0.0..=EXACT).contains(&value) {
                    Ok(ChoiceIndex(value as u64))
                } else {
                    Err(E::invalid_value(Unexpected::Float(value), &self))
                }
            }
        }
        deserializer.deserialize_any(Index)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for ChoiceIndex {
    /// Inline: code generators make of a referenced number as many aliases as there are references.
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ChoiceIndex".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "integer", "minimum": 0, "examples": [0, 1],
            "description": "The place of a choice in its question, counted from 0.",
        })
    }
}
