//! Callback messages: what a tool server POSTs to a callback URL, told apart by `type`.

mod asking;
mod subscription_event;
mod tool_result;
mod view_update;

pub use asking::{OAuth, UserChoice};
pub use subscription_event::SubscriptionEvent;
pub use tool_result::ToolResult;
pub use view_update::ViewUpdate;

use crate::{
    CallId, Fault, Message, ThreadId,
    fault::read,
    strict,
    tagged::{Key, Rest},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use serde_json::Value;
use std::{borrow::Cow, fmt};

/// A message from a tool server to a callback URL: one of five, told apart by its `type`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transform = one_of))]
#[non_exhaustive]
pub enum CallbackMessage {
    /// The outcome of a call.
    ToolResult(ToolResult),
    /// An event of a subscription.
    SubscriptionEvent(SubscriptionEvent),
    /// The user must authorize at a URL.
    OAuth(OAuth),
    /// The user must choose.
    UserChoice(UserChoice),
    /// The latest content of a view.
    ViewUpdate(ViewUpdate),
}

impl CallbackMessage {
    /// The thread that the message names.
    pub fn group_id(&self) -> &ThreadId {
        match self {
            Self::ToolResult(m) => &m.group_id,
            Self::SubscriptionEvent(m) => &m.group_id,
            Self::OAuth(m) => &m.group_id,
            Self::UserChoice(m) => &m.group_id,
            Self::ViewUpdate(m) => &m.group_id,
        }
    }

    /// The call that the message is about; a view update has none.
    pub fn tool_call_id(&self) -> Option<&CallId> {
        match self {
            Self::ToolResult(m) => Some(&m.id),
            Self::SubscriptionEvent(m) => Some(&m.tool_call_id),
            Self::OAuth(m) => Some(&m.id),
            Self::UserChoice(m) => Some(&m.id),
            Self::ViewUpdate(_) => None,
        }
    }
}

impl Message for CallbackMessage {
    const OBLIGATION: &'static str = "TRN-13";

    fn from_value(value: Value) -> Result<Self, Fault> {
        let kind = match value.get("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(Fault::new("/type", Self::OBLIGATION, "`type` is not a string")),
            None => return Err(Fault::new("", Self::OBLIGATION, "missing field `type`")),
        };
        Ok(match kind.as_str() {
            "tool_result" => Self::ToolResult(read(value, Self::OBLIGATION)?),
            "subscription_event" => Self::SubscriptionEvent(read(value, Self::OBLIGATION)?),
            "oauth" => Self::OAuth(read(value, Self::OBLIGATION)?),
            "user_choice" => Self::UserChoice(read(value, Self::OBLIGATION)?),
            "view_update" => Self::ViewUpdate(read(value, Self::OBLIGATION)?),
            other => {
                let message = format!(
                    "unknown type {other:?}; one of tool_result, subscription_event, oauth, user_choice, view_update is expected"
                );
                return Err(Fault::new("/type", Self::OBLIGATION, message));
            }
        })
    }

    fn from_object(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
        }
        if let Some(message) = tag_first(body) {
            return Some(message);
        }
        let Kind { kind } = serde_json::from_slice(body).ok()?;
        Some(match &*kind {
            "tool_result" => Self::ToolResult(strict::read(body)?),
            "subscription_event" => Self::SubscriptionEvent(strict::read(body)?),
            "oauth" => Self::OAuth(strict::read(body)?),
            "user_choice" => Self::UserChoice(strict::read(body)?),
            "view_update" => Self::ViewUpdate(strict::read(body)?),
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for CallbackMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(Fault::into_error)
    }
}

/// A message whose `type` is its first member, read in one go; nothing when it is not, or when it is wrong.
fn tag_first(body: &[u8]) -> Option<CallbackMessage> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = CallbackMessage;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<CallbackMessage, A::Error> {
            use CallbackMessage as M;
            let kind = match members.next_key::<Key<'de>>()? {
                Some(Key(key)) if key == "type" => members.next_value::<Key<'de>>()?,
                _ => return Err(A::Error::custom("`type` is not the first member")),
            };
            let rest = Rest::new(members);
            Ok(match &*kind.0 {
                "tool_result" => M::ToolResult(rest.read()?),
                "subscription_event" => M::SubscriptionEvent(rest.read()?),
                "oauth" => M::OAuth(rest.read()?),
                "user_choice" => M::UserChoice(rest.read()?),
                "view_update" => M::ViewUpdate(rest.read()?),
                other => return Err(A::Error::unknown_variant(other, &[])),
            })
        }
    }
    strict::whole(body, |deserializer| deserializer.deserialize_map(Members))
}

/// `null` reads as the default, as absence does.
fn null_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The kinds exclude each other by their `type`.
#[cfg(feature = "schema")]
fn one_of(schema: &mut schemars::Schema) {
    if let Some(kinds) = schema.remove("anyOf") {
        schema.insert("oneOf".to_owned(), kinds);
    }
}
