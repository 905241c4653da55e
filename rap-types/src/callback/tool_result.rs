//! `tool_result`: the outcome of a call.

use super::{is_false, null_default};
use crate::{CallId, ContentPart, DisplaySegment, ProviderCallId, ThreadId, fault::broken};
use serde::{Deserialize, Deserializer, Serialize};

/// The outcome of a call: at least one of text and content (RES-02).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename = "tool_result")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "ToolResult", transform = schema::tool_result))]
#[non_exhaustive]
pub struct ToolResult {
    /// The thread of the invocation.
    pub group_id: ThreadId,
    /// The call's id.
    pub id: CallId,
    /// The second id, echoed when it was given (RES-01).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ProviderCallId>,
    /// The outcome as text; begins with `Error: ` when the call failed (RES-07).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["12 °C, light rain", "Error: no city of that name; check the spelling"])))]
    text: Option<String>,
    /// The outcome as parts; supersedes the text for the model (RES-03).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [[{"type": "text", "text": "12 °C, light rain"}]])))]
    content: Option<Vec<ContentPart>>,
    /// How people may see the result, best first (RES-06); never changes what the model gets (RES-05).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [[{"type": "text", "content": "Weather in Oslo: 12 °C"}]])))]
    pub display_as: Option<Vec<DisplaySegment>>,
    /// The call made a subscription: events may follow (SUB-01).
    #[serde(skip_serializing_if = "is_false")]
    #[cfg_attr(feature = "schema", schemars(default, with = "Option<bool>", extend("examples" = [true])))]
    pub subscription: bool,
    /// The extension `is_error`: the call failed. The text's `Error: ` prefix stays (RES-07).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [true])))]
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
            return Err(broken("", "RES-02", "neither `text` nor `content` is given"));
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

#[cfg(feature = "schema")]
mod schema {
    use schemars::Schema;
    use serde_json::json;

    /// RES-02: not both of them null, where `null` is absence. Said by `not`, since code generators make two
    /// types of `anyOf` and pass over `not`.
    pub(super) fn tool_result(schema: &mut Schema) {
        crate::schema::tag(schema, "tool_result");
        let nothing = json!({"properties": {"text": {"type": "null"}, "content": {"type": "null"}}});
        schema.insert("not".to_owned(), nothing);
    }
}
