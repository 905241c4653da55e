//! Callback messages: what a tool server POSTs to a callback URL, told apart by `type`.

use crate::{
    CallId, ContentPart, DisplaySegment, EventId, Fault, HttpUrl, Message, ProviderCallId, ThreadId,
    fault::{broken, read},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A message from a tool server to a callback URL.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallbackMessage {
    /// The outcome of a call.
    ToolResult(ToolResult),
    /// An event of a subscription.
    SubscriptionEvent(SubscriptionEvent),
    /// The user must authorize at a URL.
    #[serde(rename = "oauth")]
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
            Some(Value::String(kind)) => kind.clone(),
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
}

impl<'de> Deserialize<'de> for CallbackMessage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(|fault| broken(fault.obligation(), fault))
    }
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

/// The outcome of a call: at least one of text and content (RES-02).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ToolResult {
    /// The thread of the invocation.
    pub group_id: ThreadId,
    /// The call's id.
    pub id: CallId,
    /// The second id, echoed when it was given (RES-01).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ProviderCallId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Vec<ContentPart>>,
    /// How people may see the result, best first (RES-06); never changes what the model gets (RES-05).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_as: Option<Vec<DisplaySegment>>,
    /// The call made a subscription: events may follow (SUB-01).
    #[serde(skip_serializing_if = "is_false")]
    pub subscription: bool,
    /// The extension `is_error`: the call failed. The text's `Error: ` prefix stays (RES-07).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
}

impl ToolResult {
    /// A result of text.
    pub fn text(group_id: ThreadId, id: CallId, text: impl Into<String>) -> Self {
        Self {
            group_id,
            id,
            call_id: None,
            text: Some(text.into()),
            content: None,
            display_as: None,
            subscription: false,
            is_error: None,
        }
    }

    /// A result of content parts.
    pub fn content(group_id: ThreadId, id: CallId, content: Vec<ContentPart>) -> Self {
        Self { text: None, content: Some(content), ..Self::text(group_id, id, "") }
    }

    /// An error result: `Error: ` before the message (RES-07) and `is_error` set.
    pub fn error(group_id: ThreadId, id: CallId, message: impl std::fmt::Display) -> Self {
        let text = message.to_string();
        let text = if text.starts_with("Error: ") { text } else { format!("Error: {text}") };
        Self { is_error: Some(true), ..Self::text(group_id, id, text) }
    }

    /// Sets the second id.
    #[must_use]
    pub fn with_call_id(mut self, call_id: Option<ProviderCallId>) -> Self {
        self.call_id = call_id;
        self
    }

    /// Adds a text beside the content, for peers that read only text.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets how people may see it.
    #[must_use]
    pub fn with_display(mut self, segments: Vec<DisplaySegment>) -> Self {
        self.display_as = (!segments.is_empty()).then_some(segments);
        self
    }

    /// Marks the call as a subscription (SUB-01).
    #[must_use]
    pub fn with_subscription(mut self) -> Self {
        self.subscription = true;
        self
    }

    /// The text, if one was given.
    pub fn as_text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The content, if it was given; it supersedes the text for the model (RES-03).
    pub fn as_content(&self) -> Option<&[ContentPart]> {
        self.content.as_deref()
    }

    /// What the model is to see: the content, or the text as one part (RES-03).
    pub fn for_model(&self) -> Vec<ContentPart> {
        match (&self.content, &self.text) {
            (Some(content), _) => content.clone(),
            (None, Some(text)) => vec![ContentPart::text(text.as_str())],
            (None, None) => Vec::new(),
        }
    }

    /// Whether the result says that the call failed: `is_error`, or the prefix `Error: `.
    pub fn is_failure(&self) -> bool {
        self.is_error.unwrap_or_else(|| self.text.as_deref().is_some_and(|t| t.starts_with("Error: ")))
    }
}

impl<'de> Deserialize<'de> for ToolResult {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "ToolResult")]
        struct Wire {
            group_id: ThreadId,
            id: CallId,
            #[serde(default)]
            call_id: Option<ProviderCallId>,
            #[serde(default)]
            text: Option<String>,
            #[serde(default)]
            content: Option<Vec<ContentPart>>,
            #[serde(default)]
            display_as: Option<Vec<DisplaySegment>>,
            #[serde(default, deserialize_with = "null_default")]
            subscription: bool,
            #[serde(default)]
            is_error: Option<bool>,
        }
        let wire = Wire::deserialize(deserializer)?;
        if wire.text.is_none() && wire.content.is_none() {
            return Err(broken("RES-02", "neither `text` nor `content` is given"));
        }
        Ok(Self {
            group_id: wire.group_id,
            id: wire.id,
            call_id: wire.call_id,
            text: wire.text,
            content: wire.content,
            display_as: wire.display_as,
            subscription: wire.subscription,
            is_error: wire.is_error,
        })
    }
}

/// An event of a subscription, after the confirming result was answered (SUB-01).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionEvent {
    /// The thread that subscribed.
    pub group_id: ThreadId,
    /// The `id` of the subscribing call.
    pub tool_call_id: CallId,
    /// What happened.
    pub text: String,
    /// Into the subscribing thread instead of a thread of its own (SUB-05).
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub associative: bool,
    /// The last event: the subscription ends (SUB-06).
    #[serde(rename = "final", default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub is_final: bool,
    /// The extension `event_id`, for dropping duplicates (SUB-13).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<EventId>,
}

impl SubscriptionEvent {
    /// An event that gets a thread of its own and ends nothing.
    pub fn new(group_id: ThreadId, tool_call_id: CallId, text: impl Into<String>) -> Self {
        Self {
            group_id,
            tool_call_id,
            text: text.into(),
            associative: false,
            is_final: false,
            event_id: None,
        }
    }

    /// Sends it into the subscribing thread (SUB-05).
    #[must_use]
    pub fn associative(mut self, associative: bool) -> Self {
        self.associative = associative;
        self
    }

    /// Makes it the last event (SUB-06).
    #[must_use]
    pub fn last(mut self, is_final: bool) -> Self {
        self.is_final = is_final;
        self
    }

    /// Names it, so that a re-sent event has no second effect (SUB-13).
    #[must_use]
    pub fn event_id(mut self, event_id: EventId) -> Self {
        self.event_id = Some(event_id);
        self
    }
}

/// The user must authorize at a URL; the call stays pending (OAU-01).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OAuth {
    /// The thread of the invocation.
    pub group_id: ThreadId,
    /// The call's id.
    pub id: CallId,
    /// The second id, echoed when it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ProviderCallId>,
    /// Where the user authorizes: https, loopback excepted (OAU-03).
    pub auth_url: HttpUrl,
}

impl OAuth {
    /// A request to authorize.
    pub fn new(group_id: ThreadId, id: CallId, auth_url: HttpUrl) -> Self {
        Self { group_id, id, call_id: None, auth_url }
    }
}

/// The user must choose; the call stays pending (CHO-01).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UserChoice {
    /// The thread of the invocation.
    pub group_id: ThreadId,
    /// The call's id.
    pub id: CallId,
    /// The second id, echoed when it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ProviderCallId>,
    /// The question.
    pub prompt: String,
    choices: Vec<String>,
    default: u64,
    /// Where the answer goes.
    pub response_url: HttpUrl,
}

impl UserChoice {
    /// A question with its choices and the index of the default.
    ///
    /// # Errors
    /// CHO-02: no choices, or a default that is not one of them.
    pub fn new(
        group_id: ThreadId,
        id: CallId,
        prompt: impl Into<String>,
        choices: Vec<String>,
        default: u64,
        response_url: HttpUrl,
    ) -> Result<Self, Fault> {
        check_choices(&choices, default)?;
        Ok(Self { group_id, id, call_id: None, prompt: prompt.into(), choices, default, response_url })
    }

    /// Sets the second id.
    #[must_use]
    pub fn with_call_id(mut self, call_id: Option<ProviderCallId>) -> Self {
        self.call_id = call_id;
        self
    }

    /// The choices, at least one.
    pub fn choices(&self) -> &[String] {
        &self.choices
    }

    /// The index of the choice that a dismissal picks.
    pub fn default_index(&self) -> u64 {
        self.default
    }
}

fn check_choices(choices: &[String], default: u64) -> Result<(), Fault> {
    if choices.is_empty() {
        return Err(Fault::new("/choices", "CHO-02", "there is no choice"));
    }
    if usize::try_from(default).map_or(true, |d| d >= choices.len()) {
        let message = format!("the default {default} is no index of {} choices", choices.len());
        return Err(Fault::new("/default", "CHO-02", message));
    }
    Ok(())
}

impl<'de> Deserialize<'de> for UserChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename = "UserChoice")]
        struct Wire {
            group_id: ThreadId,
            id: CallId,
            #[serde(default)]
            call_id: Option<ProviderCallId>,
            prompt: String,
            choices: Vec<String>,
            default: u64,
            response_url: HttpUrl,
        }
        let wire = Wire::deserialize(deserializer)?;
        check_choices(&wire.choices, wire.default).map_err(|fault| broken("CHO-02", fault.message()))?;
        Ok(Self {
            group_id: wire.group_id,
            id: wire.id,
            call_id: wire.call_id,
            prompt: wire.prompt,
            choices: wire.choices,
            default: wire.default,
            response_url: wire.response_url,
        })
    }
}

/// The latest content of a view, replaced whole (VIW-01); empty content clears it (VIW-03).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ViewUpdate {
    /// The thread that shows the view.
    pub group_id: ThreadId,
    /// Which view.
    pub view_type: String,
    /// Its content, never interpreted by the runtime.
    pub content: Map<String, Value>,
}

impl ViewUpdate {
    /// New content for a view.
    pub fn new(group_id: ThreadId, view_type: impl Into<String>, content: Map<String, Value>) -> Self {
        Self { group_id, view_type: view_type.into(), content }
    }
}
