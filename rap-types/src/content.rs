//! What a result carries: content for the model, display segments for people.
//!
//! Both are open: a kind that this version does not know is kept whole and written back unchanged.

use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};
use serde_json::{Map, Value};

/// Bytes written as standard base64 with padding (RFC 4648 §4).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Base64(Vec<u8>);

impl Base64 {
    /// Wraps bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The base64 text.
    pub fn encode(&self) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&self.0)
    }
}

impl std::fmt::Debug for Base64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        base64::engine::general_purpose::STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(|e| serde::de::Error::custom(format_args!("not base64: {e}")))
    }
}

/// An image: base64 data and its media type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageContent {
    /// The image's bytes.
    pub data: Base64,
    /// The media type, e.g. `image/png`.
    #[serde(rename = "mediaType")]
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

/// One part of a result's `content`, for the model.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ContentPart {
    /// Text.
    Text(TextContent),
    /// An image.
    Image(ImageContent),
    /// A kind that this version does not know, kept whole.
    Other(Map<String, Value>),
}

impl ContentPart {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextContent { text: text.into() })
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
    Other(Map<String, Value>),
}

fn tagged<S: Serializer>(serializer: S, kind: &str, members: Value) -> Result<S::Ok, S::Error> {
    let mut map = Map::new();
    map.insert("type".into(), kind.into());
    if let Value::Object(members) = members {
        map.extend(members);
    }
    map.serialize(serializer)
}

/// Takes `type` from a map; the map stays whole.
fn kind<E: serde::de::Error>(map: &Map<String, Value>) -> Result<String, E> {
    map.get("type")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| E::custom("`type` is not a string"))
}

fn to_value<T: Serialize, E: serde::ser::Error>(value: &T) -> Result<Value, E> {
    serde_json::to_value(value).map_err(E::custom)
}

fn from_map<T: serde::de::DeserializeOwned, E: serde::de::Error>(map: Map<String, Value>) -> Result<T, E> {
    serde_json::from_value(Value::Object(map)).map_err(E::custom)
}

impl Serialize for ContentPart {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => tagged(serializer, "text", to_value(text)?),
            Self::Image(image) => tagged(serializer, "image", to_value(image)?),
            Self::Other(map) => map.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for ContentPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::deserialize(deserializer)?;
        Ok(match kind(&map)?.as_str() {
            "text" => Self::Text(from_map(map)?),
            "image" => Self::Image(from_map(map)?),
            _ => Self::Other(map),
        })
    }
}

impl Serialize for DisplaySegment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (kind, content) = match self {
            Self::Text(text) => ("text", Value::from(text.as_str())),
            Self::Diff { path, patch } => ("diff", serde_json::json!({"path": path, "patch": patch})),
            Self::Image(image) => ("image", to_value(image)?),
            Self::Other(map) => return map.serialize(serializer),
        };
        serde_json::json!({"type": kind, "content": content}).serialize(serializer).map_err(S::Error::custom)
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
        let map = Map::deserialize(deserializer)?;
        Ok(match kind(&map)?.as_str() {
            "text" => Self::Text(from_map::<Of<String>, D::Error>(map)?.content),
            "diff" => {
                let Of { content: Diff { path, patch } } = from_map(map)?;
                Self::Diff { path, patch }
            }
            "image" => Self::Image(from_map::<Of<ImageContent>, D::Error>(map)?.content),
            _ => Self::Other(map),
        })
    }
}
