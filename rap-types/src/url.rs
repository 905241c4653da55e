//! URLs as they are given.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr, sync::Arc};

/// What a regular expression can tell of an [`HttpUrl`]. Spelt out: engines differ in what `\s` is.
#[cfg(feature = "schema")]
pub(crate) const PATTERN: &str = r"^[Hh][Tt][Tt][Pp][Ss]?://[^\x00-\x20\x7f/?#\\][^\x00-\x20\x7f\\]*$";

/// An absolute `http` or `https` URL with a host, kept exactly as it was written (TRN-07): two spellings
/// of one address stay two values, and nothing is normalised on the way out.
///
/// `Debug` shows the origin alone: path and query may carry a secret (a callback capability).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpUrl(Arc<str>);

/// Why a string is not an [`HttpUrl`]. Never shows the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl HttpUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// When it is not absolute, not `http(s)`, has no host, or holds white space, a control character or a
    /// backslash, which readers of URLs disagree about.
    pub fn new(value: impl Into<Arc<str>>) -> Result<Self, UrlError> {
        let value = value.into();
        let refuse = |message: &str| Err(UrlError(message.to_owned()));
        if value.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
            return refuse("the URL holds white space, a control character or a backslash; encode it");
        }
        let parsed = url::Url::parse(&value).map_err(|e| UrlError(format!("not a URL: {e}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            let message = format!("the URL's scheme is {:?}; http or https is needed", parsed.scheme());
            return Err(UrlError(message));
        }
        // The parser also takes `http:host` and `http:///host`; others would not.
        let after = value.get(parsed.scheme().len()..).unwrap_or_default();
        let host = after.strip_prefix("://").unwrap_or_default();
        if parsed.host_str().is_none_or(str::is_empty) || host.is_empty() || host.starts_with(['/', '?', '#'])
        {
            return refuse("the URL has no host; write it as https://host/path");
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

    /// Scheme, host and port, e.g. `http://127.0.0.1:3001`: the unit of back-pressure, and what may be
    /// logged of a URL that carries a secret.
    pub fn origin(&self) -> String {
        self.parsed().origin().ascii_serialization()
    }

    /// Whether the scheme is https.
    pub fn is_https(&self) -> bool {
        self.parsed().scheme() == "https"
    }

    /// Whether the host is `localhost` or a loopback address. Nothing is looked up.
    pub fn is_loopback(&self) -> bool {
        match self.parsed().host() {
            Some(url::Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    /// The URL without user info, query and fragment, for logs and messages about base URLs and endpoints.
    /// A callback URL may carry its secret in the path: log its [`origin`](Self::origin).
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
        write!(f, "\"{}/…\"", self.origin())
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
        Self::new(value).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for HttpUrl {
    /// Inline: code generators make of a referenced string as many aliases as there are references.
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HttpUrl".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": PATTERN,
            "description": "An absolute http or https URL.",
            "examples": ["https://example.com/rap"],
        })
    }
}
