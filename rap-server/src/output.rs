//! What a tool's function may return: text, anything that serialises, content parts for models that see,
//! display segments for people, a subscription, or an error. All of them become one [`Reply`].

use crate::{ToolError, subscription::Subscribed};
use rap_types::{ContentPart, DisplaySegment, ImageContent};
use serde::Serialize;
use serde_json::Value;

/// What a call ends in, made by [`IntoToolResult`].
#[derive(Debug)]
pub struct Reply {
    pub(crate) output: ToolOutput,
    /// The call that the subscription belongs to, when this is the confirmation of one.
    pub(crate) subscription: Option<crate::subscription::Ticket>,
}

/// Markers that tell the ways into a result apart; nobody needs to name them.
pub mod by {
    /// The type says itself how it becomes a result.
    #[derive(Debug)]
    pub struct Itself;
    /// The type serialises: a string as it is, anything else as JSON.
    #[derive(Debug)]
    pub struct Serializing;
    /// A `Result` whose good side becomes a result.
    #[derive(Debug)]
    pub struct Trying<M>(std::marker::PhantomData<M>);
}

/// What a tool's function may return.
///
/// | a function returns | the model reads |
/// |---|---|
/// | `String`, `&str` | the text |
/// | anything that is `Serialize` | its JSON |
/// | [`Json<T>`](Json) | the same, said aloud |
/// | [`ToolOutput`] | text, images, and how people see them |
/// | [`Subscribed`] | the confirmation of a subscription |
/// | `Result<any of these, E>` | the good side, or the error's public text |
///
/// An `E` is a [`ToolError`], any `std::error::Error` (its words stay private; a boxed one needs words, by
/// [`ToolError::caused_by`]), or a string, which is public.
///
/// ```
/// use rap_server::{IntoToolResult, Reply, ToolError, ToolOutput};
///
/// struct Chart(Vec<u8>);
///
/// /// A type of one's own that a tool may return.
/// impl IntoToolResult for Chart {
///     fn into_tool_result(self) -> Result<Reply, ToolError> {
///         ToolOutput::text("a chart").image(self.0, "image/png").into_tool_result()
///     }
/// }
/// assert!(Chart(vec![1]).into_tool_result().is_ok());
/// ```
#[diagnostic::on_unimplemented(
    message = "a tool cannot return `{Self}`",
    label = "this cannot become a tool's result",
    note = "return a `String`, a type that is `serde::Serialize`, a `ToolOutput`, a `Subscribed`, or a `Result` of one of these",
    note = "the error of a `Result` is a `ToolError` or any `std::error::Error`"
)]
pub trait IntoToolResult<M = by::Itself> {
    /// Makes it the end of a call.
    ///
    /// # Errors
    /// The error that the call ends in.
    fn into_tool_result(self) -> Result<Reply, ToolError>;
}

/// A value that the model reads as JSON.
///
/// ```
/// use rap_server::{Json, tool};
///
/// /// The primes below ten.
/// #[tool(read_only)]
/// async fn primes() -> Json<Vec<u8>> {
///     Json(vec![2, 3, 5, 7])
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The outcome of a call in full: what the model reads, and how people may see it.
///
/// Built so that it cannot be wrong: there is always a text, an image always has a text before it, and the
/// way people see it ends with a text (RES-02, RES-12).
///
/// ```
/// use rap_server::ToolOutput;
///
/// let output = ToolOutput::text("Oslo: rain").image(b"\x89PNG...", "image/png").display_diff("a.txt", "-a\n+b\n");
/// assert_eq!(output.as_text(), "Oslo: rain");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ToolOutput {
    text: String,
    more: Vec<ContentPart>,
    display: Vec<DisplaySegment>,
}

impl ToolOutput {
    /// Text. It comes first in the content, and last among the ways to show it.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), more: Vec::new(), display: Vec::new() }
    }

    /// Adds a text to the content.
    #[must_use]
    pub fn and_text(mut self, text: impl Into<String>) -> Self {
        self.more.push(ContentPart::text(text));
        self
    }

    /// Adds an image to the content; models that see no images read the text before it.
    #[must_use]
    pub fn image(mut self, bytes: impl Into<Vec<u8>>, media_type: impl Into<String>) -> Self {
        self.more.push(ContentPart::image(bytes, media_type));
        self
    }

    /// Adds a way in which people may see the result, better ones first (RES-06). A text stands last
    /// without being asked for.
    #[must_use]
    pub fn display(mut self, segment: DisplaySegment) -> Self {
        self.display.push(segment);
        self
    }

    /// Shows people a unified diff of a file.
    #[must_use]
    pub fn display_diff(self, path: impl Into<String>, patch: impl Into<String>) -> Self {
        self.display(DisplaySegment::Diff { path: path.into(), patch: patch.into() })
    }

    /// Shows people an image.
    #[must_use]
    pub fn display_image(self, bytes: impl Into<Vec<u8>>, media_type: impl Into<String>) -> Self {
        self.display(DisplaySegment::Image(ImageContent::new(bytes, media_type)))
    }

    /// The text that comes first.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    /// Puts the output into a result message.
    pub(crate) fn fill(self, message: impl FnOnce(String) -> rap_types::ToolResult) -> rap_types::ToolResult {
        let Self { text, more, mut display } = self;
        let mut result = if more.is_empty() {
            message(text.clone())
        } else {
            let plain = message(text.clone());
            let mut content = vec![ContentPart::text(text.clone())];
            content.extend(more);
            let mut full = rap_types::ToolResult::content(plain.group_id, plain.id, content);
            full.call_id = plain.call_id;
            full.with_text(text.clone())
        };
        if !display.is_empty() {
            if !matches!(display.last(), Some(DisplaySegment::Text(_))) {
                display.push(DisplaySegment::Text(text));
            }
            result = result.with_display(display);
        }
        result
    }
}

impl<S: Into<String>> From<S> for ToolOutput {
    fn from(text: S) -> Self {
        Self::text(text)
    }
}

impl IntoToolResult for ToolOutput {
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        Ok(Reply { output: self, subscription: None })
    }
}

impl IntoToolResult for Reply {
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        Ok(self)
    }
}

impl IntoToolResult for Subscribed {
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        let (output, ticket) = self.into_parts();
        Ok(Reply { output, subscription: Some(ticket) })
    }
}

impl<T: Serialize> IntoToolResult for Json<T> {
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        text_of(&self.0).and_then(|text| ToolOutput::text(text).into_tool_result())
    }
}

impl<T: Serialize> IntoToolResult<by::Serializing> for T {
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        let name = std::any::type_name::<T>();
        if name == "()" {
            return ToolOutput::text("done").into_tool_result();
        }
        // A `Result` whose error only serialises, e.g. `Result<String, String>`, comes this way as well.
        if name.starts_with("core::result::Result<") {
            let value = serde_json::to_value(&self).map_err(unserializable)?;
            return match value {
                Value::Object(mut sides) if sides.contains_key("Err") => {
                    Err(ToolError::new(text(sides.remove("Err").unwrap_or_default())))
                }
                Value::Object(mut sides) => {
                    ToolOutput::text(text(sides.remove("Ok").unwrap_or_default())).into_tool_result()
                }
                other => ToolOutput::text(text(other)).into_tool_result(),
            };
        }
        text_of(&self).and_then(|text| ToolOutput::text(text).into_tool_result())
    }
}

impl<R, E, M> IntoToolResult<by::Trying<M>> for Result<R, E>
where
    R: IntoToolResult<M>,
    E: Into<ToolError>,
{
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        self.map_err(Into::into)?.into_tool_result()
    }
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The text of a value: a string as it is, everything else as JSON.
fn text_of<T: Serialize>(value: &T) -> Result<String, ToolError> {
    let json = serde_json::to_string(value).map_err(unserializable)?;
    if json.starts_with('"') { serde_json::from_str(&json).map_err(unserializable) } else { Ok(json) }
}

fn unserializable(error: serde_json::Error) -> ToolError {
    ToolError::new("the tool's result cannot be written as JSON; the reason is in the server's log")
        .caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn end<M>(value: impl IntoToolResult<M>) -> Result<String, String> {
        value.into_tool_result().map(|r| r.output.text).map_err(|e| e.to_string())
    }

    #[derive(Serialize)]
    struct Weather {
        sky: &'static str,
    }

    /// RES-02: whatever a function returns, there is a text.
    #[test]
    fn texts() {
        let rain = Weather { sky: "rain" };
        assert_eq!(end("plain \"text\""), Ok("plain \"text\"".into()));
        assert_eq!(end(String::from("text")), Ok("text".into()));
        assert_eq!(end(Json(&rain)), Ok(r#"{"sky":"rain"}"#.into()));
        assert_eq!(end(rain), Ok(r#"{"sky":"rain"}"#.into()));
        assert_eq!(end(7), Ok("7".into()));
        assert_eq!(end(()), Ok("done".into()));
        assert_eq!(end(None::<u8>), Ok("null".into()));
        assert_eq!(end(Ok::<_, ToolError>(Weather { sky: "sun" })), Ok(r#"{"sky":"sun"}"#.into()));
        assert_eq!(end(Ok::<_, std::io::Error>(ToolOutput::text("x"))), Ok("x".into()));
    }

    /// RES-07: an error is an error on every way in, and words that were not meant for the public stay here.
    #[test]
    fn errors() {
        assert_eq!(end(Err::<String, String>("no such city".into())), Err("no such city".into()));
        assert_eq!(end(Ok::<String, String>("Oslo".into())), Ok("Oslo".into()));
        assert_eq!(end(Err::<Weather, _>(ToolError::new("no"))), Err("no".into()));
        let secret = std::io::Error::other("password=hunter2");
        let public = end(Err::<Weather, _>(secret)).unwrap_err();
        assert!(!public.contains("hunter2"), "{public}");
        let broken = std::collections::HashMap::from([(Some(vec![1]), 1)]);
        assert!(end(Json(broken)).unwrap_err().contains("JSON"));
    }

    /// RES-12: an image has a text before it, and the ways to show it end with a text.
    #[test]
    fn text_first_and_last() {
        let ids = ("t".parse().unwrap(), "c".parse().unwrap());
        let result = ToolOutput::text("a cat")
            .image(b"cat", "image/png")
            .display_diff("cat.txt", "+cat")
            .fill(|text| rap_types::ToolResult::text(ids.0, ids.1, text));
        let wire = serde_json::to_value(rap_types::CallbackMessage::ToolResult(result)).unwrap();
        assert_eq!(wire["content"][0], json!({"type": "text", "text": "a cat"}));
        assert_eq!(wire["content"][1]["type"], "image");
        assert_eq!(wire["text"], "a cat");
        assert_eq!(wire["display_as"][1], json!({"type": "text", "content": "a cat"}));

        // Several parts in their order; an own last text is not doubled; the model's text is not what is shown.
        let output = ToolOutput::text("a cat")
            .and_text("and a dog")
            .image(b"dog", "image/png")
            .display_image(b"both", "image/webp")
            .display(DisplaySegment::Text("pets".into()));
        assert_eq!(output.as_text(), "a cat");
        let ids = ("t".parse().unwrap(), "c".parse().unwrap());
        let result = output
            .fill(|text| rap_types::ToolResult::text(ids.0, ids.1, text).with_call_id("p".parse().ok()));
        let wire = serde_json::to_value(rap_types::CallbackMessage::ToolResult(result)).unwrap();
        let kinds: Vec<_> = wire["content"].as_array().unwrap().iter().map(|part| &part["type"]).collect();
        assert_eq!(kinds, ["text", "text", "image"]);
        assert_eq!(wire["content"][1]["text"], "and a dog");
        assert_eq!(
            wire["display_as"],
            json!([{"type": "image", "content": {"data": "Ym90aA==", "mediaType": "image/webp"}},
                {"type": "text", "content": "pets"}])
        );
        assert_eq!(wire["call_id"], "p", "RES-01");
    }
}
