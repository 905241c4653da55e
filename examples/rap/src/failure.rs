//! What a person reads when something does not work: one sentence, and a hint that says what to do.

use std::fmt;

/// The exit code after Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// Why a command ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// A failure with nothing to advise.
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { message: sentence(message), hint: None, code: 1 }
    }

    /// What the person can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(sentence(hint));
        self
    }

    /// An error of the libraries: they say what happened, a semicolon, and what to do.
    pub(crate) fn of(error: impl fmt::Display) -> Self {
        let text = error.to_string();
        match text.rsplit_once("; ") {
            Some((message, hint)) => Self::new(message).hint(hint),
            None => Self::new(text),
        }
    }

    /// The person pressed Ctrl-C, or a parent said stop.
    pub(crate) fn interrupted() -> Self {
        Self { code: INTERRUPTED, ..Self::new("interrupted") }
    }

    /// The message, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// The hint.
    pub(crate) fn as_hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The exit code: 1, or 130 after an interrupt; a wrong command line (2) is clap's.
    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

/// Messages end without a full stop.
fn sentence(text: impl fmt::Display) -> String {
    text.to_string().trim_end().trim_end_matches('.').to_owned()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<rap_runtime::core::StoreError> for Failure {
    fn from(error: rap_runtime::core::StoreError) -> Self {
        Self::of(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_of_a_library_becomes_the_hint() {
        let failure = Failure::of("the port is taken; stop that program, or choose another port.");
        assert_eq!(failure.message(), "the port is taken");
        assert_eq!(failure.as_hint(), Some("stop that program, or choose another port"));
    }
}
