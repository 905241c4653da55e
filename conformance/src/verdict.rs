//! What can be said of an obligation, and how the level of the obligation weighs a fault.

use rap_spec::{Level, Origin};
use serde::{Deserialize, Serialize};

/// What is said of a case or of an obligation; the later, the graver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It holds, as far as was tried.
    Pass,
    /// The server lacks the capability that it is about.
    Unimplemented,
    /// It could not be judged; the reason says why.
    Inconclusive,
    /// An extension does not hold; that weighs nothing.
    Informational,
    /// A SHOULD, or a derived obligation, does not hold.
    NonStrict,
    /// The judge itself failed.
    HarnessError,
    /// Two tries differed.
    Flaky,
    /// A MUST does not hold.
    Fail,
}

impl Verdict {
    /// How a fault in an obligation weighs: a broken MUST fails, a SHOULD or a derived row is non-strict, an
    /// extension or a MAY informational.
    pub fn of_fault(level: Level, origin: Origin) -> Self {
        match (origin, level) {
            (Origin::Ext, _) | (_, Level::May) => Self::Informational,
            (Origin::Derived, _) | (_, Level::Should) => Self::NonStrict,
            (Origin::Published, Level::Must) => Self::Fail,
        }
    }

    /// How a fault in the obligation of an id weighs; an id that nobody knows fails.
    pub fn of_id(id: &str) -> Self {
        rap_spec::requirement(id).map_or(Self::Fail, |r| Self::of_fault(r.level, r.origin))
    }

    /// Whether it says that something was found wrong.
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Fail | Self::NonStrict | Self::Informational | Self::Flaky)
    }

    /// The word for it, as in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Unimplemented => "unimplemented",
            Self::Inconclusive => "inconclusive",
            Self::Informational => "informational",
            Self::NonStrict => "non-strict",
            Self::HarnessError => "harness-error",
            Self::Flaky => "flaky",
            Self::Fail => "fail",
        }
    }
}

/// Characters of a sentence, at most.
const LONGEST_SENTENCE: usize = 1000;

/// Something found wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The obligation that does not hold.
    pub obligation: String,
    /// What was seen, in a sentence.
    pub sentence: String,
    /// The exchanges that show it, by number.
    #[serde(default)]
    pub exchanges: Vec<u64>,
}

impl Finding {
    /// A finding. A sentence that quotes the other side at length is cut off.
    pub fn new(obligation: &str, sentence: impl Into<String>, exchanges: &[u64]) -> Self {
        let mut sentence = sentence.into();
        if let Some((at, _)) = sentence.char_indices().nth(LONGEST_SENTENCE) {
            sentence.truncate(at);
            sentence.push('…');
        }
        Self { obligation: obligation.to_owned(), sentence, exchanges: exchanges.to_vec() }
    }
}

/// Why a case stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// What follows makes no sense after what was found; the finding is already noted.
    Broken,
    /// The server lacks a capability, which is named.
    Unimplemented(String),
    /// It cannot be judged, for this reason.
    Inconclusive(String),
    /// The judge failed.
    Harness(String),
}
