//! The two ways in which things go wrong: a tool that fails while it runs, and a server that is not fit
//! to start. A tool's error has two faces, a text that the model and the user see and a source that only
//! the server's own log sees.

use std::{error::Error, fmt};

/// Why a call failed: a public text, and a private source that never leaves the process (RES-07).
///
/// The public text goes to the model, behind `Error: `. It says what to do, in words for somebody who has
/// never seen the server's code. The source goes to the log and nowhere else.
///
/// Any error turns into a `ToolError` by `?`. Its own words stay private then: the public text only says
/// that the tool failed. Give it better words with [`ToolError::caused_by`]:
///
/// ```
/// use rap_server::ToolError;
///
/// fn port(text: &str) -> Result<u16, ToolError> {
///     text.parse().map_err(|e| ToolError::new("the port is a number from 0 to 65535").caused_by(e))
/// }
/// let error = port("/etc/secret").unwrap_err();
/// assert_eq!(error.to_string(), "the port is a number from 0 to 65535");
/// ```
pub struct ToolError {
    public: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    cancelled: bool,
}

/// What everybody may know of an error that was not given public words.
const PRIVATE: &str =
    "the tool failed for a reason of its own, which is in the server's log; trying again may help";

impl ToolError {
    /// An error with its public text: what went wrong and what to do about it.
    pub fn new(public: impl Into<String>) -> Self {
        Self { public: public.into(), source: None, cancelled: false }
    }

    /// Keeps the cause for the server's log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The user, or whoever was asked, said no.
    pub fn declined(public: impl Into<String>) -> Self {
        Self::new(public)
    }

    /// The call was cancelled, its thread closed, or the server is shutting down.
    pub(crate) fn stopped(public: impl Into<String>) -> Self {
        Self { cancelled: true, ..Self::new(public) }
    }

    /// Whether the call ended because it was cancelled, its thread closed, or the server is shutting down.
    pub fn is_stopped(&self) -> bool {
        self.cancelled
    }

    /// The private cause, for the server's own log.
    pub fn private_source(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }
}

/// The public text alone.
impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public)
    }
}

impl fmt::Debug for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToolError")
            .field("public", &self.public)
            .field("has_source", &self.source.is_some())
            .finish()
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for ToolError {
    fn from(source: E) -> Self {
        Self::new(PRIVATE).caused_by(source)
    }
}

/// Why a server does not start: every fault that was found, at once.
///
/// `Debug` says the same as `Display`, so that a `main` which returns it prints sentences.
#[derive(thiserror::Error)]
#[error("the tool server cannot start:{}", self.lines())]
#[non_exhaustive]
pub struct StartError {
    faults: Vec<String>,
    #[source]
    io: Option<std::io::Error>,
}

impl StartError {
    pub(crate) fn new(mut faults: Vec<String>) -> Self {
        // The same fault in two places is one to mend.
        let mut seen = std::collections::HashSet::new();
        faults.retain(|fault| seen.insert(fault.clone()));
        Self { faults, io: None }
    }

    pub(crate) fn io(what: impl Into<String>, io: std::io::Error) -> Self {
        Self { faults: vec![format!("{}: {io}", what.into())], io: Some(io) }
    }

    /// The faults, each a sentence that says what to do.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    fn lines(&self) -> String {
        self.faults.iter().map(|fault| format!("\n- {fault}")).collect()
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RES-07: what is public is public, what is private stays private however the error is made or printed.
    #[test]
    fn two_faces() {
        let io = || std::io::Error::other("hunter2");
        let table = [
            (ToolError::new("ask for less"), "ask for less", false, false),
            (ToolError::new("ask for less").caused_by(io()), "ask for less", true, false),
            (ToolError::declined("the user said no"), "the user said no", false, false),
            (ToolError::stopped("the call was cancelled"), "the call was cancelled", false, true),
            (io().into(), PRIVATE, true, false),
        ];
        for (error, public, has_source, stopped) in table {
            assert_eq!(error.to_string(), public);
            assert_eq!(error.is_stopped(), stopped, "{public}");
            let source = error.private_source().map(ToString::to_string);
            assert_eq!(source, has_source.then(|| "hunter2".to_owned()), "{public}");
            assert!(!format!("{error:?} {error:#?}").contains("hunter2"), "{error:?}");
        }
    }

    /// A `main` that returns it prints sentences, one for each fault.
    #[test]
    fn start() {
        let error = StartError::new(vec!["one".into(), "two".into()]);
        assert_eq!(error.to_string(), "the tool server cannot start:\n- one\n- two");
        assert_eq!(format!("{error:?}"), error.to_string());
        let io = StartError::io("cannot write", std::io::Error::other("full"));
        assert_eq!(io.faults(), ["cannot write: full"]);
        assert!(std::error::Error::source(&io).is_some() && std::error::Error::source(&error).is_none());
    }
}
