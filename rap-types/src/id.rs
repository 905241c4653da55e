//! Names on the wire: ids of threads, calls, events and users, and the names of tools.

use crate::{fault::broken, limits};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr, sync::Arc};

/// Why a string cannot be an id or a name.
///
/// ```
/// use rap_types::{NameError, ToolName};
///
/// let error: NameError = ToolName::new("get weather").unwrap_err();
/// assert_eq!(error.obligation(), "TLS-07");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({obligation})")]
pub struct NameError {
    message: String,
    obligation: &'static str,
}

impl NameError {
    /// The obligation that the string breaks.
    pub fn obligation(&self) -> &'static str {
        self.obligation
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:ident, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a string and makes it the name.
            ///
            /// # Errors
            /// When the string is not allowed here; the error names the obligation.
            pub fn new(value: impl Into<Arc<str>>) -> Result<Self, NameError> {
                let value = value.into();
                $check(&value)?;
                Ok(Self(value))
            }

            /// The name as it stands on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text::read(deserializer)
            }
        }

        impl crate::text::FromText for $name {
            fn from_text<E: serde::de::Error>(text: &str) -> Result<Self, E> {
                $check(text).map_err(|e| broken("", e.obligation, e.message))?;
                Ok(Self(text.into()))
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            /// Inline: code generators make of a referenced string as many aliases as there are references.
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

name!(
    /// A conversation thread; on the wire `group_id` or `thread_id`. 1 to 256 bytes (LIM-01).
    ThreadId,
    check_id,
    {
        "type": "string", "minLength": 1, "maxLength": 256, "examples": ["thread-7"],
        "description": "A conversation thread: 1 to 256 bytes of UTF-8."
    }
);
name!(
    /// A tool call; on the wire `id` or `tool_call_id`. 1 to 256 bytes (LIM-01).
    CallId,
    check_id,
    {
        "type": "string", "minLength": 1, "maxLength": 256, "examples": ["call-1"],
        "description": "A tool call, unique in its thread: 1 to 256 bytes of UTF-8."
    }
);
name!(
    /// The second id that some models need for a call; on the wire `call_id`. At most 256 bytes (LIM-01); some
    /// peers write an empty one where there is none.
    ProviderCallId,
    check_optional_id,
    {
        "type": "string", "maxLength": 256, "examples": ["fc_68a1"],
        "description": "A second id that some models need for a call: at most 256 bytes of UTF-8."
    }
);
name!(
    /// An event of a subscription, unique in it: the extension `event_id` (SUB-13). 1 to 256 bytes.
    EventId,
    check_id,
    {
        "type": "string", "minLength": 1, "maxLength": 256, "examples": ["ev-42"],
        "description": "An event, unique in its subscription: 1 to 256 bytes of UTF-8."
    }
);
name!(
    /// The end user on whose behalf a call is made; on the wire `user_id`. At most 256 bytes (LIM-01).
    UserId,
    check_optional_id,
    {
        "type": "string", "maxLength": 256, "examples": ["user-3"],
        "description": "The end user on whose behalf a call is made: at most 256 bytes of UTF-8."
    }
);
name!(
    /// The name of a tool: 1 to 128 characters, each an ASCII letter, digit or one of `_ - . / :` (TLS-07).
    ToolName,
    check_tool_name,
    {
        "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9_./:-]+$",
        "description": "The name of a tool: letters, digits and _ - . / :, unique in its toolset, case-sensitive.",
        "examples": ["get_weather"]
    }
);

impl ToolName {
    /// Whether the name uses only `A-Za-z0-9_-`, which every model takes (TLS-14).
    pub fn is_portable(&self) -> bool {
        self.0.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    }
}

fn check_id(value: &str) -> Result<(), NameError> {
    let message = match value.len() {
        0 => "the id is empty".to_owned(),
        1..=limits::ID_BYTES => return Ok(()),
        n => format!("the id has {n} bytes; at most {} are taken", limits::ID_BYTES),
    };
    Err(NameError { message, obligation: "LIM-01" })
}

fn check_optional_id(value: &str) -> Result<(), NameError> {
    if value.is_empty() { Ok(()) } else { check_id(value) }
}

fn check_tool_name(value: &str) -> Result<(), NameError> {
    let length = value.chars().count();
    let message = if length == 0 {
        "the tool name is empty".to_owned()
    } else if length > limits::NAME_CHARS {
        format!("the tool name has {length} characters; at most {} are allowed", limits::NAME_CHARS)
    } else if let Some(c) = value.chars().find(|c| !(c.is_ascii_alphanumeric() || "_-./:".contains(*c))) {
        format!("the tool name {value:?} contains {c:?}; letters, digits and _ - . / : are allowed")
    } else {
        return Ok(());
    };
    Err(NameError { message, obligation: "TLS-07" })
}
