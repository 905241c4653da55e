#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod callback;
mod content;
mod fault;
mod id;
mod invocation;
mod notice;
mod number;
mod object;
#[cfg(feature = "schema")]
mod schema;
mod strict;
mod tagged;
mod text;
mod toolset;
mod url;
#[cfg(feature = "validate")]
pub mod validate;

pub use callback::{CallbackMessage, OAuth, SubscriptionEvent, ToolResult, UserChoice, ViewUpdate};
pub use content::{Base64, ContentPart, DisplaySegment, ImageContent, TextContent, UnknownKind};
pub use fault::{Fault, Message, parse};
pub use id::{CallId, EventId, NameError, ProviderCallId, ThreadId, ToolName, UserId};
pub use invocation::Invocation;
pub use notice::{CancelToolCall, ChoiceResponse, CloseThread, Migrate, ToolCallAlive, ToolCallStatus};
pub use number::ChoiceIndex;
pub use toolset::{Annotations, Tool, Toolset};
pub use url::{Authority, HttpUrl, UrlError};

#[cfg(feature = "schema")]
pub use schemars;

/// The path of the toolset document below a server's base URL (TLS-01).
pub const WELL_KNOWN_TOOLSET: &str = ".well-known/rap-toolset";

/// The reserved name under which a runtime shows an event to its model (SUB-04, SUB-14).
pub const RECEIVE_EVENT: &str = "receive_event";

/// Sizes that every peer takes (LIM-01). What is larger may be answered 413.
pub mod limits {
    /// The longest id, in bytes.
    pub const ID_BYTES: usize = 256;
    /// The largest arguments object, in bytes of JSON.
    pub const ARGUMENTS_BYTES: usize = 256 * 1024;
    /// The largest tool result, in bytes of JSON.
    pub const RESULT_BYTES: usize = 1024 * 1024;
    /// The largest subscription event, in bytes of JSON.
    pub const EVENT_BYTES: usize = 256 * 1024;
    /// The largest toolset document, in bytes of JSON.
    pub const TOOLSET_BYTES: usize = 1024 * 1024;
    /// The longest tool or toolset name, in characters (TLS-07, TLS-11).
    pub const NAME_CHARS: usize = 128;
}
