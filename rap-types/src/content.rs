//! What a result carries: content for the model, display segments for people.
//!
//! Both are open: a kind that this version does not know is kept whole and written back unchanged.

mod base64;

pub use base64::Base64;

use crate::{
    Fault,
    fault::read,
    object::Object,
    tagged::{Key, Rest},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::{borrow::Cow, fmt, marker::PhantomData};

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
    ///
    /// ```
    /// use rap_types::ImageContent;
    ///
    /// let image = ImageContent::new(*b"\x89PNG", "image/png");
    /// assert_eq!(serde_json::to_value(&image)?, serde_json::json!({"data": "iVBORw==", "mediaType": "image/png"}));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(data: impl Into<Vec<u8>>, media_type: impl Into<String>) -> Self {
        Self { data: Base64::new(data), media_type: media_type.into() }
    }
}

/// A piece of text.
///
/// ```
/// use rap_types::{ContentPart, TextContent};
///
/// assert_eq!(ContentPart::Text(TextContent::new("rain")), ContentPart::text("rain"));
/// ```
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
/// `Of` is what it stands among, [`ContentPart`] or [`DisplaySegment`]: what is unknown to the one may be known
/// to the other, so that neither can be put into the place of the other.
///
/// ```
/// use rap_types::ContentPart;
///
/// // A kind of a later version is read, kept whole, and written back as it was.
/// let wire = serde_json::json!({"type": "audio", "seconds": 3});
/// let part: ContentPart = serde_json::from_value(wire.clone())?;
/// assert!(matches!(&part, ContentPart::Other(unknown) if unknown.kind() == "audio"));
/// assert_eq!(serde_json::to_value(&part)?, wire);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A diff is no part of content; as a segment it would need members that are not here:
///
/// ```compile_fail
/// use rap_types::{ContentPart, DisplaySegment};
///
/// fn moved(part: ContentPart) -> Option<DisplaySegment> {
///     match part {
///         ContentPart::Other(unknown) => Some(DisplaySegment::Other(unknown)),
///         _ => None,
///     }
/// }
/// ```
pub struct UnknownKind<Of>(Map<String, Value>, PhantomData<fn() -> Of>);

impl<Of> UnknownKind<Of> {
    fn whole(members: Map<String, Value>) -> Self {
        Self(members, PhantomData)
    }

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
        Ok(Self::whole(members))
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

impl<Of> fmt::Debug for UnknownKind<Of> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnknownKind").field(&self.0).finish()
    }
}

impl<Of> Clone for UnknownKind<Of> {
    fn clone(&self) -> Self {
        Self::whole(self.0.clone())
    }
}

impl<Of> PartialEq for UnknownKind<Of> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<Of> Serialize for UnknownKind<Of> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
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
    Other(UnknownKind<Self>),
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
///
/// ```
/// use rap_types::DisplaySegment;
///
/// let segment = DisplaySegment::Diff { path: "a.txt".into(), patch: "-a\n+b\n".into() };
/// assert_eq!(serde_json::to_value(&segment)?["content"]["path"], "a.txt");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    Other(UnknownKind<Self>),
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

/// A kind with a variant of its own, or the whole of another. A `match` on `type` instead of serde's tagged
/// enums: those would refuse an unknown kind, or hide what is wrong in a known one.
trait Kinds: Sized {
    /// Reads what follows the `type`.
    fn after_type<'de, A: MapAccess<'de>>(kind: Key<'de>, rest: Rest<A>) -> Result<Self, A::Error>;

    /// Reads the whole, of which the kind is known and a string.
    fn of<E: Error>(whole: UnknownKind<Self>) -> Result<Self, E>;
}

fn tagged<'de, T: Kinds, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Members<T>(PhantomData<T>);
    impl<'de, T: Kinds> Visitor<'de> for Members<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }
        fn visit_unit<E: Error>(self) -> Result<T, E> {
            Err(untyped())
        }
        fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<T, A::Error> {
            let Some(Key(first)) = members.next_key()? else { return Err(untyped()) };
            let mut whole = Map::new();
            if first == "type" {
                match members.next_value()? {
                    Kind::Text(kind) => return T::after_type(Key(kind), Rest::new(members)),
                    Kind::Other(value) => whole.insert(first.into_owned(), value),
                };
            } else {
                whole.insert(first.into_owned(), members.next_value()?);
            }
            while let Some((name, value)) = members.next_entry()? {
                whole.insert(name, value);
            }
            match whole.get("type") {
                Some(Value::String(_)) => T::of(UnknownKind::whole(whole)),
                Some(_) => Err(Fault::new("/type", "TRN-13", "`type` is not a string").into_error()),
                None => Err(untyped()),
            }
        }
    }
    deserializer.deserialize_map(Members(PhantomData))
}

/// What stands at `type`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Kind<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(Value),
}

fn untyped<E: Error>() -> E {
    Fault::new("", "TRN-13", "missing field `type`").into_error()
}

/// An object of another kind, whose `type` came first.
fn unknown<'de, Of, A: MapAccess<'de>>(
    kind: Cow<'de, str>,
    rest: Rest<A>,
) -> Result<UnknownKind<Of>, A::Error> {
    let mut members: Map<String, Value> = rest.read()?;
    members.insert("type".to_owned(), kind.into_owned().into());
    Ok(UnknownKind::whole(members))
}

fn from<T: DeserializeOwned, E: Error>(members: Map<String, Value>) -> Result<T, E> {
    let value = Value::Object(members);
    // Where a fault is costs more to track than a second look when there is one.
    T::deserialize(&value).or_else(|_| read(value, "TRN-13").map_err(Fault::into_error))
}

impl Kinds for ContentPart {
    fn after_type<'de, A: MapAccess<'de>>(Key(kind): Key<'de>, rest: Rest<A>) -> Result<Self, A::Error> {
        Ok(match &*kind {
            "text" => Self::Text(rest.read()?),
            "image" => Self::Image(rest.read()?),
            _ => Self::Other(unknown(kind, rest)?),
        })
    }

    fn of<E: Error>(whole: UnknownKind<Self>) -> Result<Self, E> {
        Ok(match whole.kind() {
            "text" => Self::Text(from(whole.0)?),
            "image" => Self::Image(from(whole.0)?),
            _ => Self::Other(whole),
        })
    }
}

impl<'de> Deserialize<'de> for ContentPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        tagged(deserializer)
    }
}

/// The `content` of a display segment.
#[derive(Deserialize)]
struct Of<T> {
    content: T,
}

#[derive(Deserialize)]
struct Diff {
    path: String,
    patch: String,
}

impl From<Of<String>> for DisplaySegment {
    fn from(Of { content }: Of<String>) -> Self {
        Self::Text(content)
    }
}

impl From<Of<Object<Diff>>> for DisplaySegment {
    fn from(Of { content: Object(Diff { path, patch }) }: Of<Object<Diff>>) -> Self {
        Self::Diff { path, patch }
    }
}

impl From<Of<Object<ImageContent>>> for DisplaySegment {
    fn from(Of { content: Object(image) }: Of<Object<ImageContent>>) -> Self {
        Self::Image(image)
    }
}

impl Kinds for DisplaySegment {
    fn after_type<'de, A: MapAccess<'de>>(Key(kind): Key<'de>, rest: Rest<A>) -> Result<Self, A::Error> {
        Ok(match &*kind {
            "text" => rest.read::<Of<String>>()?.into(),
            "diff" => rest.read::<Of<Object<Diff>>>()?.into(),
            "image" => rest.read::<Of<Object<ImageContent>>>()?.into(),
            _ => Self::Other(unknown(kind, rest)?),
        })
    }

    fn of<E: Error>(whole: UnknownKind<Self>) -> Result<Self, E> {
        Ok(match whole.kind() {
            "text" => from::<Of<String>, E>(whole.0)?.into(),
            "diff" => from::<Of<Object<Diff>>, E>(whole.0)?.into(),
            "image" => from::<Of<Object<ImageContent>>, E>(whole.0)?.into(),
            _ => Self::Other(whole),
        })
    }
}

impl<'de> Deserialize<'de> for DisplaySegment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        tagged(deserializer)
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
