//! Secrets: never shown, compared in constant time; and which of them can be sent as bearer tokens.

use http::HeaderValue;
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

    /// The `Authorization` header that carries this secret as a bearer token, marked as sensitive.
    ///
    /// # Errors
    /// [`TokenError`]: what it holds cannot stand in that header, so that nobody could ever show it.
    ///
    /// ```
    /// use rap_http::{Secret, TokenError};
    ///
    /// let read = "hunter2\n"; // as a file holds it
    /// assert_eq!(Secret::from(read).bearer_header().unwrap_err(), TokenError::Untrimmed);
    /// assert_eq!(Secret::from(read.trim()).bearer_header()?, "Bearer hunter2");
    /// # Ok::<(), TokenError>(())
    /// ```
    pub fn bearer_header(&self) -> Result<HeaderValue, TokenError> {
        let token = self.expose();
        if token.trim().is_empty() {
            return Err(TokenError::Empty);
        }
        if token.trim() != token {
            return Err(TokenError::Untrimmed);
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unsendable);
        }
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| TokenError::Unsendable)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// Why a secret is no bearer token: one sentence that says what to do, and nothing of the secret.
///
/// ```
/// use rap_http::{Secret, TokenError};
///
/// let error: TokenError = Secret::from(" hunter2").bearer_header().unwrap_err();
/// assert!(error.to_string().ends_with("trim it"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// There is nothing in it but perhaps white space.
    #[error("the bearer token is empty; give a long random one")]
    Empty,
    /// White space before or after it: mostly the line break at the end of a file.
    #[error(
        "the bearer token begins or ends with white space, as what is read from a file does, and so it fits no header; \
         trim it"
    )]
    Untrimmed,
    /// Something within that is not visible ASCII.
    #[error(
        "the bearer token holds a character that fits no header: white space, or none of ASCII; \
         give one of letters, digits and the signs of ASCII alone"
    )]
    Unsendable,
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
