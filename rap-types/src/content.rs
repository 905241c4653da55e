//! What a result carries: content for the model, display segments for people.
//!
//! Both are open: a kind that this version does not know is kept whole and written back unchanged.

mod base64;

pub use base64::Base64;

use crate::{Fault, fault::read, object::Object};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// An image: base64 data and its media type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ImageContent {
    /// The image's bytes.
    pub data: Base64,
    /// The media type, e.g. `image/png`.
    #[serde(rename = "mediaType")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["image/png"])))]
    pub media_type: String,
}

impl ImageContent {
    /// An image of a media type.
    pub fn new(data: impl Into<Vec<u8>>, media_type: impl Into<String>) -> Self {
        Self { data: Base64::new(data), media_type: media_type.into() }
    }
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TextContent {
    /// The text.
    pub text: String,
}

impl TextContent {
    /// A piece of text.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

/// A part or segment of a kind that this version does not know: an object with a string `type`, kept whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct UnknownKind(Map<String, Value>);

impl UnknownKind {
    /// An object of a kind of its own; a member `type` is replaced.
    ///
    /// # Errors
    /// TRN-13: the kind is one that this version knows, which has a variant of its own.
    pub fn new(kind: impl Into<String>, mut members: Map<String, Value>) -> Result<Self, Fault> {
        let kind = kind.into();
        if matches!(kind.as_str(), "text" | "image" | "diff") {
            let message = format!("{kind:?} is a known kind; use its own variant");
            return Err(Fault::new("/type", "TRN-13", message));
        }
        members.insert("type".to_owned(), kind.into());
        Ok(Self(members))
    }

    /// The kind: the member `type`.
    pub fn kind(&self) -> &str {
        self.0.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// All members, `type` included.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }
}

/// One part of a result's `content`, for the model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ContentPart {
    /// Text.
    Text(TextContent),
    /// An image.
    Image(ImageContent),
    /// A kind that this version does not know, kept whole.
    Other(UnknownKind),
}

impl ContentPart {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextContent::new(text))
    }

    /// A part that is an image.
    pub fn image(data: impl Into<Vec<u8>>, media_type: impl Into<String>) -> Self {
        Self::Image(ImageContent::new(data, media_type))
    }
}

/// One way to show a result to people; the first kind that a client supports is shown (RES-06).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DisplaySegment {
    /// Text.
    Text(String),
    /// A change of a file, as a unified diff.
    Diff {
        /// The file's path.
        path: String,
        /// The unified diff.
        patch: String,
    },
    /// An image.
    Image(ImageContent),
    /// A kind that this version does not know, kept whole.
    Other(UnknownKind),
}

impl Serialize for ContentPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        enum Known<'a> {
            Text(&'a TextContent),
            Image(&'a ImageContent),
        }
        match self {
            Self::Text(text) => Known::Text(text).serialize(serializer),
            Self::Image(image) => Known::Image(image).serialize(serializer),
            Self::Other(other) => other.serialize(serializer),
        }
    }
}

impl Serialize for DisplaySegment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Diff<'a> {
            path: &'a str,
            patch: &'a str,
        }
        #[derive(Serialize)]
        #[serde(tag = "type", content = "content", rename_all = "snake_case")]
        enum Known<'a> {
            Text(&'a str),
            Diff(Diff<'a>),
            Image(&'a ImageContent),
        }
        match self {
            Self::Text(text) => Known::Text(text).serialize(serializer),
            Self::Diff { path, patch } => Known::Diff(Diff { path, patch }).serialize(serializer),
            Self::Image(image) => Known::Image(image).serialize(serializer),
            Self::Other(other) => other.serialize(serializer),
        }
    }
}

/// The members of a known kind, or the whole of another. A `match` on `type` instead of serde's tagged
/// enums: those would refuse an unknown kind, or hide what is wrong in a known one.
fn members<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let members = Map::deserialize(deserializer)?;
    match members.get("type") {
        Some(Value::String(_)) => Ok(members),
        Some(_) => Err(Fault::new("/type", "TRN-13", "`type` is not a string").into_error()),
        None => Err(Fault::new("", "TRN-13", "missing field `type`").into_error()),
    }
}

fn from<T: DeserializeOwned, E: serde::de::Error>(members: Map<String, Value>) -> Result<T, E> {
    let value = Value::Object(members);
    // Where a fault is costs more to track than a second look when there is one.
    T::deserialize(&value).or_else(|_| read(value, "TRN-13").map_err(Fault::into_error))
}

impl<'de> Deserialize<'de> for ContentPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let other = UnknownKind(members(deserializer)?);
        Ok(match other.kind() {
            "text" => Self::Text(from(other.0)?),
            "image" => Self::Image(from(other.0)?),
            _ => Self::Other(other),
        })
    }
}

impl<'de> Deserialize<'de> for DisplaySegment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Diff {
            path: String,
            patch: String,
        }
        #[derive(Deserialize)]
        struct Of<T> {
            content: T,
        }
        let other = UnknownKind(members(deserializer)?);
        Ok(match other.kind() {
            "text" => Self::Text(from::<Of<String>, D::Error>(other.0)?.content),
            "diff" => {
                let Of { content: Object(Diff { path, patch }) } = from(other.0)?;
                Self::Diff { path, patch }
            }
            "image" => Self::Image(from::<Of<Object<ImageContent>>, D::Error>(other.0)?.content.0),
            _ => Self::Other(other),
        })
    }
}

#[cfg(feature = "schema")]
mod schema {
    use super::{Base64, ContentPart, DisplaySegment, ImageContent};
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

    macro_rules! named {
        ($type:ty, $name:literal, |$generator:ident| $schema:expr) => {
            impl JsonSchema for $type {
                fn schema_name() -> Cow<'static, str> {
                    $name.into()
                }
                fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        };
    }

    fn kind(kind: &str) -> Schema {
        json_schema!({"type": "string", "const": kind})
    }

    struct TextPart;
    named!(TextPart, "TextPart", |_g| json_schema!({
        "type": "object", "description": "Text for the model.",
        "properties": {"type": kind("text"), "text": {"type": "string", "description": "The text.", "examples": ["12 °C, light rain"]}},
        "required": ["type", "text"], "examples": [{"type": "text", "text": "12 °C, light rain"}],
    }));

    struct ImagePart;
    named!(ImagePart, "ImagePart", |g| json_schema!({
        "type": "object", "description": "An image for the model.",
        "properties": {
            "type": kind("image"), "data": g.subschema_for::<Base64>(),
            "mediaType": {"type": "string", "description": "The media type, e.g. `image/png`.", "examples": ["image/png"]},
        },
        "required": ["type", "data", "mediaType"],
        "examples": [{"type": "image", "data": "iVBORw0KGgo=", "mediaType": "image/png"}],
    }));

    struct OtherPart;
    named!(OtherPart, "OtherPart", |_g| json_schema!({
        "type": "object", "description": "A kind of part that this version does not know; kept, never an error.",
        "properties": {"type": {"type": "string", "not": {"enum": ["text", "image"]}, "description": "The kind.", "examples": ["audio"]}}, "required": ["type"],
    }));

    named!(ContentPart, "ContentPart", |g| json_schema!({
        "description": "One part of a result's content, for the model.",
        "oneOf": [g.subschema_for::<TextPart>(), g.subschema_for::<ImagePart>(), g.subschema_for::<OtherPart>()],
    }));

    struct TextSegment;
    named!(TextSegment, "TextSegment", |_g| json_schema!({
        "type": "object", "description": "Text for people.",
        "properties": {"type": kind("text"), "content": {"type": "string", "description": "The text.", "examples": ["Weather in Oslo: 12 °C"]}},
        "required": ["type", "content"], "examples": [{"type": "text", "content": "Weather in Oslo: 12 °C"}],
    }));

    struct DiffSegment;
    named!(DiffSegment, "DiffSegment", |_g| json_schema!({
        "type": "object", "description": "A change of a file, for people.",
        "properties": {
            "type": kind("diff"),
            "content": {
                "type": "object", "required": ["path", "patch"], "description": "The file and its change.",
                "examples": [{"path": "a.txt", "patch": "@@ -1 +1 @@\n-a\n+b\n"}],
                "properties": {
                    "path": {"type": "string", "description": "The file's path.", "examples": ["a.txt"]},
                    "patch": {"type": "string", "description": "The change, as a unified diff.", "examples": ["@@ -1 +1 @@\n-a\n+b\n"]},
                },
            },
        },
        "required": ["type", "content"],
        "examples": [{"type": "diff", "content": {"path": "a.txt", "patch": "@@ -1 +1 @@\n-a\n+b\n"}}],
    }));

    struct ImageSegment;
    named!(ImageSegment, "ImageSegment", |g| json_schema!({
        "type": "object", "description": "An image for people.",
        "properties": {"type": kind("image"), "content": g.subschema_for::<ImageContent>()},
        "required": ["type", "content"],
        "examples": [{"type": "image", "content": {"data": "iVBORw0KGgo=", "mediaType": "image/png"}}],
    }));

    struct OtherSegment;
    named!(OtherSegment, "OtherSegment", |_g| json_schema!({
        "type": "object", "description": "A kind of segment that this version does not know; kept, never an error.",
        "properties": {"type": {"type": "string", "not": {"enum": ["text", "diff", "image"]}, "description": "The kind.", "examples": ["table"]}},
        "required": ["type"],
    }));

    named!(DisplaySegment, "DisplaySegment", |g| json_schema!({
        "description": "One way to show a result to people; the first kind that a client supports is shown.",
        "oneOf": [
            g.subschema_for::<TextSegment>(), g.subschema_for::<DiffSegment>(),
            g.subschema_for::<ImageSegment>(), g.subschema_for::<OtherSegment>(),
        ],
    }));
}
