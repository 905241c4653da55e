//! What is wrong with a document: where (a JSON pointer), which obligation it breaks, and what to do.
//!
//! serde's errors are strings. A value that breaks an obligation says so in a marker at the end of its
//! message (`… [CHO-02/default]`), written by [`broken`] and read back here, so that an obligation survives the
//! trip through any deserializer.

use crate::strict;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

/// A document that is not what the protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message} ({obligation})", at(pointer))]
pub struct Fault {
    pointer: String,
    obligation: &'static str,
    message: String,
}

fn at(pointer: &str) -> String {
    if pointer.is_empty() { String::new() } else { format!("at {pointer}: ") }
}

impl Fault {
    /// A fault at a JSON pointer (RFC 6901; empty for the whole document).
    pub fn new(pointer: impl Into<String>, obligation: &'static str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), obligation, message: message.into() }
    }

    /// Where: a JSON pointer (RFC 6901), empty for the whole document.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The ID of the obligation that the document breaks.
    pub fn obligation(&self) -> &'static str {
        self.obligation
    }

    /// What is wrong, in words, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fault as a deserializer's error, from which [`read`] makes a fault again.
    pub(crate) fn into_error<E: serde::de::Error>(self) -> E {
        broken(&self.pointer, self.obligation, self.message)
    }
}

/// A message of the protocol that can be read from a body.
///
/// ```
/// use rap_types::{CloseThread, Message, parse};
///
/// /// Reads any message, and says what to do when it is wrong.
/// fn read<M: Message>(body: &[u8]) -> Result<M, String> {
///     parse(body).map_err(|fault| format!("{}: {}", M::OBLIGATION, fault))
/// }
///
/// assert!(read::<CloseThread>(br#"{"thread_id": "thread-1"}"#).is_ok());
/// assert!(read::<CloseThread>(b"{}").unwrap_err().contains("thread_id"));
/// ```
pub trait Message: DeserializeOwned {
    /// The obligation that a document breaks when it is not of this message's form.
    const OBLIGATION: &'static str;

    /// Reads the message from a JSON value.
    ///
    /// # Errors
    /// A [`Fault`] with the pointer and the obligation.
    fn from_value(value: Value) -> Result<Self, Fault> {
        read(value, Self::OBLIGATION)
    }

    /// Reads the message straight from the bytes of an object, or gives up without saying why: what is wrong
    /// is found by [`from_value`](Self::from_value), which is slower.
    #[doc(hidden)]
    fn from_object(body: &[u8]) -> Option<Self> {
        strict::read(body)
    }
}

/// Reads a message from the bytes of a body: UTF-8 JSON, an object (TRN-01), of the message's form.
/// Unknown members are ignored (TRN-10).
///
/// # Errors
/// A [`Fault`] with the pointer and the obligation.
pub fn parse<M: Message>(body: &[u8]) -> Result<M, Fault> {
    if body.trim_ascii_start().first() == Some(&b'{')
        && let Some(message) = M::from_object(body)
    {
        return Ok(message);
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| Fault::new("", "TRN-01", format!("the body is not JSON: {e}")))?;
    if !value.is_object() {
        return Err(Fault::new("", "TRN-01", "the body is not a JSON object"));
    }
    M::from_value(value)
}

/// Reads any type from a value, with the pointer of what is wrong.
pub(crate) fn read<T: DeserializeOwned>(value: Value, otherwise: &'static str) -> Result<T, Fault> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let pointer = pointer(e.path());
        let message = e.into_inner().to_string();
        let mark = unmark(&message);
        Fault::new(pointer + mark.pointer, mark.obligation.unwrap_or(otherwise), mark.message)
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => out.push_str(&format!("/{index}")),
            Segment::Map { key } => out.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    out
}

/// The obligations that a value can break by itself, whatever message it stands in.
const MARKED: &[&str] = &[
    "CHO-02", "INV-03", "LIM-01", "OAU-03", "RES-02", "STA-01", "STA-03", "TLS-07", "TLS-08", "TLS-11",
    "TRN-01", "TRN-13", "TRN-14",
];

/// The error of a value that breaks an obligation, at a pointer within the value.
pub(crate) fn broken<E: serde::de::Error>(
    pointer: &str,
    obligation: &'static str,
    message: impl fmt::Display,
) -> E {
    debug_assert!(MARKED.contains(&obligation), "bug: {obligation} would be lost on the way");
    E::custom(format_args!("{message} [{obligation}{pointer}]"))
}

/// What [`broken`] put into a message.
struct Mark<'a> {
    message: &'a str,
    obligation: Option<&'static str>,
    pointer: &'a str,
}

fn unmark(message: &str) -> Mark<'_> {
    let marked = || {
        let (words, mark) = message.strip_suffix(']')?.rsplit_once(" [")?;
        let obligation = MARKED.iter().find(|id| mark.starts_with(**id))?;
        let pointer = &mark[obligation.len()..];
        (pointer.is_empty() || pointer.starts_with('/')).then_some(Mark {
            message: words,
            obligation: Some(obligation),
            pointer,
        })
    };
    marked().unwrap_or(Mark { message, obligation: None, pointer: "" })
}
