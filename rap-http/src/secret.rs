//! Secrets: never shown, compared in constant time.

use serde::{Deserialize, Deserializer};
use std::{fmt, sync::Arc};
use subtle::ConstantTimeEq;

/// A secret text: a token, a key, a password. `Debug` hides it, there is no `Display` and no `Serialize`, and
/// comparing takes the same time wherever two secrets of one length differ.
///
/// ```
/// use rap_http::Secret;
///
/// let token = Secret::from("hunter2");
/// assert!(token.is(b"hunter2"));
/// assert!(!format!("{token:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// The secret itself. Costs nothing; call it only where the secret is used.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares with bytes from outside, in constant time for equal lengths.
    pub fn is(&self, candidate: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(candidate).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0.as_bytes())
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}
