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
///
/// ```
/// use rap_types::{HttpUrl, UrlError};
///
/// let error: UrlError = HttpUrl::new("ftp://example.com/secret").unwrap_err();
/// assert_eq!(error.to_string(), "the URL's scheme is \"ftp\"; http or https is needed");
/// ```
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
        check(&value)?;
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
        let Some(plain) = Plain::of(&self.0) else { return self.parsed().origin().ascii_serialization() };
        let scheme = if plain.https { "https" } else { "http" };
        let port = plain.port.filter(|port| *port != if plain.https { 443 } else { 80 });
        match (plain.host, port) {
            (PlainHost::Address(ip), Some(port)) => format!("{scheme}://{ip}:{port}"),
            (PlainHost::Address(ip), None) => format!("{scheme}://{ip}"),
            (PlainHost::Name(name), Some(port)) => format!("{scheme}://{name}:{port}"),
            (PlainHost::Name(name), None) => format!("{scheme}://{name}"),
        }
    }

    /// Who is to be called, as the URL parser reads it; cheap for URLs that are written plainly.
    ///
    /// ```
    /// use rap_types::{Authority, HttpUrl};
    ///
    /// let authority: Authority = HttpUrl::new("http://127.0.0.1:3001/x?y")?.authority();
    /// assert_eq!((authority.port, authority.secure, authority.user_info), (3001, false, false));
    /// # Ok::<(), rap_types::UrlError>(())
    /// ```
    pub fn authority(&self) -> Authority {
        if let Some(plain) = Plain::of(&self.0) {
            let host = match plain.host {
                PlainHost::Address(ip) => url::Host::Ipv4(ip),
                PlainHost::Name(name) => url::Host::Domain(name.to_owned()),
            };
            let port = plain.port.unwrap_or(if plain.https { 443 } else { 80 });
            return Authority { secure: plain.https, host, port, user_info: false };
        }
        let parsed = self.parsed();
        Authority {
            secure: parsed.scheme() == "https",
            host: parsed.host().expect("bug: an HttpUrl has a host").to_owned(),
            port: parsed.port_or_known_default().unwrap_or_default(),
            user_info: !parsed.username().is_empty() || parsed.password().is_some(),
        }
    }

    /// Whether the scheme is https.
    pub fn is_https(&self) -> bool {
        self.authority().secure
    }

    /// Whether the host is `localhost` or a loopback address. Nothing is looked up.
    pub fn is_loopback(&self) -> bool {
        match self.authority().host {
            url::Host::Domain(name) => name.trim_end_matches('.') == "localhost",
            url::Host::Ipv4(address) => address.is_loopback(),
            url::Host::Ipv6(address) => address.is_loopback(),
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

fn check(value: &str) -> Result<(), UrlError> {
    let refuse = |message: &str| Err(UrlError(message.to_owned()));
    let is_plain = value.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if !is_plain && value.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return refuse("the URL holds white space, a control character or a backslash; encode it");
    }
    if Plain::of(value).is_some() {
        return Ok(());
    }
    let parsed = url::Url::parse(value).map_err(|e| UrlError(format!("not a URL: {e}")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        let message = format!("the URL's scheme is {:?}; http or https is needed", parsed.scheme());
        return Err(UrlError(message));
    }
    // The parser also takes `http:host` and `http:///host`; others would not.
    let after = value.get(parsed.scheme().len()..).unwrap_or_default();
    let host = after.strip_prefix("://").unwrap_or_default();
    if parsed.host_str().is_none_or(str::is_empty) || host.is_empty() || host.starts_with(['/', '?', '#']) {
        return refuse("the URL has no host; write it as https://host/path");
    }
    Ok(())
}

/// Who is called by a URL: [`HttpUrl::authority`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authority {
    /// Whether the scheme is https.
    pub secure: bool,
    /// A literal address, or a name in ASCII (IDNA) and lower case.
    pub host: url::Host<String>,
    /// The port, named or by scheme.
    pub port: u16,
    /// Whether a user name or a password stands before the host.
    pub user_info: bool,
}

/// Scheme and authority of a URL that is written so plainly that every reader takes it for the same and no
/// parser need be asked: in lower case, an IPv4 address or a name, perhaps a port, nothing else. What follows an
/// authority cannot make a URL wrong.
struct Plain<'a> {
    https: bool,
    host: PlainHost<'a>,
    /// The port that is written out.
    port: Option<u16>,
}

enum PlainHost<'a> {
    Address(std::net::Ipv4Addr),
    Name(&'a str),
}

impl<'a> Plain<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (https, rest) = match url.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => (true, url.strip_prefix("https://")?),
        };
        let end = rest.bytes().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let authority = &rest[..end];
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => {
                let digits = port.bytes().all(|b| b.is_ascii_digit());
                (host, Some(port.parse().ok().filter(|_| digits && !port.starts_with('0'))?))
            }
            None => (authority, None),
        };
        let host = match host.parse() {
            Ok(address) => PlainHost::Address(address),
            Err(_) if is_plain_name(host) => PlainHost::Name(host),
            Err(_) => return None,
        };
        Some(Self { https, host, port })
    }
}

/// A name of ordinary labels that no reader could take for an address.
fn is_plain_name(host: &str) -> bool {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.contains("--")
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.len() < 254 && last.starts_with(|c: char| c.is_ascii_alphabetic()) && host.split('.').all(label)
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
        crate::text::read(deserializer)
    }
}

impl crate::text::FromText for HttpUrl {
    fn from_text<E: serde::de::Error>(text: &str) -> Result<Self, E> {
        check(text).map_err(E::custom)?;
        Ok(Self(text.into()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is called plain, the parser takes, and for the same.
    fn agrees(text: &str) {
        let Some(plain) = Plain::of(text) else { return };
        let parsed = url::Url::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(parsed.scheme() == "https", plain.https, "{text}");
        let host = match plain.host {
            PlainHost::Address(ip) => url::Host::Ipv4(ip),
            PlainHost::Name(name) => url::Host::Domain(name),
        };
        assert_eq!(parsed.host(), Some(host), "{text}");
        assert_eq!(
            parsed.port_or_known_default(),
            plain.port.or(Some(if plain.https { 443 } else { 80 })),
            "{text}"
        );
        assert!(parsed.username().is_empty() && parsed.password().is_none(), "{text}");
        if let Ok(url) = HttpUrl::new(text) {
            let authority = url.authority();
            assert_eq!(Some(authority.host), parsed.host().map(|host| host.to_owned()), "{text}");
            assert_eq!(Some(authority.port), parsed.port_or_known_default(), "{text}");
            assert_eq!(authority.secure, parsed.scheme() == "https", "{text}");
            assert_eq!(url.origin(), parsed.origin().ascii_serialization(), "{text}");
        }
    }

    #[test]
    fn plain_ones() {
        let plain = [
            "http://127.0.0.1:3001/x",
            "https://example.com",
            "http://localhost:80?q",
            "https://a-b.c4.example:443/",
        ];
        for text in plain {
            assert!(Plain::of(text).is_some(), "{text}");
            agrees(text);
        }
        let others = [
            "http://127.1/",
            "http://0x7f.0.0.1/",
            "http://1.2.3.4.5/",
            "http://a@b.example/",
            "http://a.example:/",
            "http://a.example:99999/",
            "http://a.example:080/",
            "http://a.example:+8/",
            "http://xn--a.example/",
            "http://-a.example/",
            "http://a..example/",
            "http://a.example./",
            "http://[::1]/",
            "HTTP://a.example/",
            "http://A.example/",
            "http://\u{fc}.example/",
            "http:///x",
            "http://",
            "http://a_b/",
            "http://a.1/",
            "http://a%41/",
        ];
        for text in others {
            assert!(Plain::of(text).is_none(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

        #[test]
        fn nearly_plain(
            scheme in "(http|https|Http|ftp)", host in r"([a-z0-9\-.]{1,12}|[0-9]{1,3}(\.[0-9]{1,3}){1,4}|[!-~]{1,8})",
            port in "(|:[0-9]{1,6})", rest in r"(|[/?#]\PC{0,12})",
        ) {
            agrees(&format!("{scheme}://{host}{port}{rest}"));
        }
    }
}
