//! URLs as they are given.

use crate::fault::broken;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr, sync::Arc};

/// An absolute `http` or `https` URL with a host, kept exactly as it was written (TRN-07): two spellings
/// of one address stay two values, and nothing is normalised on the way out.
///
/// `Debug` shows origin and path but not the query, which may carry a secret (a callback capability).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpUrl(Arc<str>);

/// Why a string is not an [`HttpUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl HttpUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// When it is not absolute, not `http(s)`, or has no host.
    pub fn new(value: impl Into<Arc<str>>) -> Result<Self, UrlError> {
        let value = value.into();
        let parsed = url::Url::parse(&value).map_err(|e| UrlError(format!("not a URL: {e}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(UrlError(format!(
                "the URL's scheme is {:?}; http or https is needed",
                parsed.scheme()
            )));
        }
        if parsed.host_str().is_none_or(str::is_empty) {
            return Err(UrlError("the URL has no host".to_owned()));
        }
        Ok(Self(value))
    }

    /// The URL exactly as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parsed form.
    pub fn parsed(&self) -> url::Url {
        url::Url::parse(&self.0).expect("bug: an HttpUrl was checked when it was made")
    }

    /// Scheme, host and port, e.g. `http://127.0.0.1:3001`: the unit of back-pressure.
    pub fn origin(&self) -> String {
        self.parsed().origin().ascii_serialization()
    }

    /// The URL without user info, query and fragment, for logs and messages.
    pub fn redacted(&self) -> String {
        let mut url = self.parsed();
        url.set_query(None);
        url.set_fragment(None);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }

    /// Joins a relative path below this base URL, which may have a path prefix, with or without a
    /// trailing slash. A query or fragment of the base is dropped.
    ///
    /// # Errors
    /// When the result is not a URL.
    pub fn below(&self, path: &str) -> Result<Self, UrlError> {
        let mut base = self.parsed();
        base.set_query(None);
        base.set_fragment(None);
        let joined = format!("{}/{}", base.as_str().trim_end_matches('/'), path.trim_start_matches('/'));
        Self::new(joined)
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.redacted())
    }
}

impl FromStr for HttpUrl {
    type Err = UrlError;
    fn from_str(s: &str) -> Result<Self, UrlError> {
        Self::new(s)
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HttpUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = String::deserialize(deserializer)?;
        Self::new(value).map_err(|e| broken("INV-03", e))
    }
}
