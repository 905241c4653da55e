//! What a tool's function may return: text, anything that serialises, content parts for models that see,
//! display segments for people, a subscription, or an error. All of them become one [`Reply`].

use crate::{
    ToolError,
    said::{json, said},
    subscription::Subscribed,
};
use rap_types::{ContentPart, DisplaySegment, ImageContent};
use serde::Serialize;

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
    /// A `Result` whose good side says itself how it becomes a result, and whose bad side is a string.
    #[derive(Debug)]
    pub struct Saying;

    /// A string, which is public when it is the error of a `Result`.
    pub trait Words: Into<String> {}
    impl Words for String {}
    impl Words for &'static str {}
    impl Words for std::borrow::Cow<'static, str> {}
}

/// What a tool's function may return.
///
/// | a function returns | the model reads |
/// |---|---|
/// | `String`, `&str` | the text |
/// | `()` | `done` |
/// | anything else that is `Serialize` | its JSON |
/// | [`Json<T>`](Json) | the same, said aloud |
/// | [`ToolOutput`] | text, images, and how people see them |
/// | [`Subscribed`] | the confirmation of a subscription |
/// | `Result<any of these, E>` | the good side, or the error's public text |
///
/// An `E` is a [`ToolError`], any `std::error::Error` (its words stay private; a boxed one needs words, by
/// [`ToolError::caused_by`]), or a string, which is public. So is the JSON of an `E` that is no error but
/// `Serialize`.
///
/// An `E` that is both, an error and `Serialize`, is not clear beside a good side that is `Serialize`: shall the
/// model read its JSON, or nothing of it? The compiler then says "type annotations needed". Say which:
///
/// ```
/// use rap_server::{Json, ToolError, tool};
///
/// #[derive(Debug, serde::Serialize)]
/// enum Failure { NoSuchCity }
/// # impl std::fmt::Display for Failure {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("no such city") }
/// # }
/// impl std::error::Error for Failure {}
///
/// fn degrees(city: &str) -> Result<f64, Failure> {
///     if city == "Oslo" { Ok(7.0) } else { Err(Failure::NoSuchCity) }
/// }
///
/// /// Degrees in a city; the failure stays in the server's log.
/// #[tool]
/// async fn private(city: String) -> Result<Json<f64>, Failure> {
///     Ok(Json(degrees(&city)?))
/// }
///
/// /// Degrees in a city; the model reads what went wrong.
/// #[tool]
/// async fn public(city: String) -> Result<f64, ToolError> {
///     degrees(&city).map_err(|failure| ToolError::new(failure.to_string()).caused_by(failure))
/// }
/// ```
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
        json(&self.0).and_then(|text| ToolOutput::text(text).into_tool_result())
    }
}

impl<T: Serialize> IntoToolResult<by::Serializing> for T {
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        // A `Result` whose error only serialises, e.g. `Result<String, String>`, comes this way as well.
        said(&self).and_then(|text| ToolOutput::text(text).into_tool_result())
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

impl<R: IntoToolResult, E: by::Words> IntoToolResult<by::Saying> for Result<R, E> {
    fn into_tool_result(self) -> Result<Reply, ToolError> {
        self.map_err(ToolError::new)?.into_tool_result()
    }
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

    /// A type of an author, with a variant like one of `Result`.
    #[derive(Serialize)]
    enum Sky {
        Clear,
        Ok(u8),
    }

    /// RES-02: whatever a function returns, there is a text.
    #[test]
    fn texts() {
        let rain = Weather { sky: "rain" };
        assert_eq!(end("plain \"text\""), Ok("plain \"text\"".into()));
        assert_eq!(end(String::from("text")), Ok("text".into()));
        assert_eq!(end(Json(())), Ok("null".into()));
        assert_eq!(end(Json(&rain)), Ok(r#"{"sky":"rain"}"#.into()));
        assert_eq!(end(rain), Ok(r#"{"sky":"rain"}"#.into()));
        assert_eq!(end(7), Ok("7".into()));
        assert_eq!(end(()), Ok("done".into()));
        assert_eq!(end(Ok::<(), String>(())), Ok("done".into()));
        assert_eq!(end(Ok::<(), ToolError>(())), Ok("done".into()));
        assert_eq!(end(Ok::<Option<()>, String>(None)), Ok("null".into()));
        assert_eq!(end(Some(())), Ok("null".into()));
        assert_eq!(end(vec![Some("x"), None]), Ok(r#"["x",null]"#.into()));
        assert_eq!(end(('a', "b", 1.5, true, -1_i8)), Ok(r#"["a","b",1.5,true,-1]"#.into()));
        assert_eq!(end(Sky::Clear), Ok("Clear".into()));
        assert_eq!(end(Sky::Ok(7)), Ok(r#"{"Ok":7}"#.into()));
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
        // A string is public whatever stands on the good side.
        assert_eq!(end(Err::<ToolOutput, _>("no".to_owned())), Err("no".into()));
        assert_eq!(end(Err::<Subscribed, &str>("no")), Err("no".into()));
        assert_eq!(end(Err::<Json<u8>, _>(std::borrow::Cow::from("no"))), Err("no".into()));
        assert_eq!(end(Ok::<_, String>(ToolOutput::text("x"))), Ok("x".into()));
        assert_eq!(end(Ok::<_, String>(Json(7))), Ok("7".into()));
        assert_eq!(end(Err::<(), _>("no")), Err("no".into()));
        assert_eq!(end(Ok::<Result<u8, &str>, String>(Err("no"))), Err("no".into()));
        assert_eq!(end(Err::<String, _>(json!({"code": 7}))), Err(r#"{"code":7}"#.into()));
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
