//! Bytes in JSON.

use base64::Engine as _;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

/// The fastest way that the machine has, found out once.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn engine() -> &'static impl base64::Engine {
    use base64::engine::{general_purpose::PAD, simd::Simd};
    static ENGINE: std::sync::LazyLock<Simd> = std::sync::LazyLock::new(|| Simd::standard(PAD));
    &*ENGINE
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn engine() -> &'static impl base64::Engine {
    &base64::engine::general_purpose::STANDARD
}

/// Bytes written as standard base64 with padding (RFC 4648 §4). `Debug` shows how many, not which.
///
/// ```
/// use rap_types::Base64;
///
/// let bytes: Base64 = serde_json::from_str("\"iVBORw==\"")?;
/// assert_eq!(bytes.as_bytes(), b"\x89PNG");
/// assert_eq!(format!("{bytes:?}"), "<4 bytes>");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
        engine().encode(&self.0)
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
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Base64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Base64, E> {
                self.visit_bytes(text.as_bytes())
            }
            fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<Base64, E> {
                let bytes = engine().decode(text);
                bytes.map(Base64).map_err(|e| E::custom(format_args!("not base64: {e}")))
            }
        }
        if deserializer.is_human_readable() {
            // A JSON string as bytes: whatever is not ASCII is no base64 either, so nobody need look for UTF-8.
            deserializer.deserialize_bytes(Text)
        } else {
            deserializer.deserialize_str(Text)
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Base64 {
    /// Inline: code generators make of a referenced string as many aliases as there are references.
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Base64".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
            "description": "Bytes in standard base64 with padding (RFC 4648, section 4).",
            "examples": ["iVBORw0KGgo="],
        })
    }
}
