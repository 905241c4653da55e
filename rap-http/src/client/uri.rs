//! What a request asks for: host and port from the target that was checked, path and query byte for byte as they
//! were written (TRN-07).

use crate::policy::{Host, Target};
use bytes::Bytes;
use http::Uri;
use rap_types::HttpUrl;
use std::net::IpAddr;

/// The URI to send: host and port from the target that was checked, path and query as they were written.
pub(super) fn uri(url: &HttpUrl, target: &Target) -> Result<Uri, String> {
    let path = written_path(url);
    let parsed = |path| Uri::from_maybe_shared(Bytes::from(text(target, path)));
    if path.is_ascii()
        && let Ok(uri) = parsed(path)
    {
        return Ok(uri);
    }
    parsed(&encoded(path)).map_err(|_| "the URL cannot be sent".to_owned())
}

fn text(target: &Target, path: &str) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(path.len() + 32);
    text.push_str(if target.secure { "https://" } else { "http://" });
    let _ = match &target.host {
        Host::Address(IpAddr::V4(ip)) => write!(text, "{ip}"),
        Host::Address(IpAddr::V6(ip)) => write!(text, "[{ip}]"),
        Host::Name(name) => write!(text, "{name}"),
    };
    if target.port != if target.secure { 443 } else { 80 } {
        let _ = write!(text, ":{}", target.port);
    }
    if !path.starts_with('/') {
        text.push('/');
    }
    text.push_str(path);
    text
}

/// Path and query byte for byte as they were written: no dot segment is folded and no escape rewritten.
fn written_path(url: &HttpUrl) -> &str {
    let (_, rest) = url.as_str().split_once("://").unwrap_or_default();
    let rest = rest.split('#').next().unwrap_or_default();
    rest.find(['/', '?']).map_or("/", |start| &rest[start..])
}

/// With what cannot stand in a request line percent-encoded.
fn encoded(written: &str) -> String {
    let mut encoded = String::with_capacity(written.len() + 16);
    for byte in written.bytes() {
        if byte <= b' ' || byte >= 0x7f || b"\"<>\\^`{|}".contains(&byte) {
            encoded.push_str(&format!("%{byte:02X}"));
        } else {
            encoded.push(char::from(byte));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressPolicy;
    use proptest::prelude::*;

    /// The host that is asked for is the host that was judged, whatever the URL looks like, and what is sent
    /// stays on one line.
    fn agree(text: &str) {
        let Ok(url) = HttpUrl::new(text) else { return };
        let policy = AddressPolicy::public().allow_loopback().allow_plain_http();
        let Ok(target) = policy.check_url(&url) else { return };
        // A host that cannot stand in a request, such as `"`, is not sent to.
        let Ok(uri) = uri(&url, &target) else { return };
        let bare = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        match &target.host {
            Host::Address(ip) => assert_eq!(bare.parse(), Ok(*ip), "{text}"),
            Host::Name(name) => {
                assert_eq!(bare, name, "{text}");
                assert!(
                    bare.parse::<IpAddr>().is_err(),
                    "{text}: a name that the connector takes for an address"
                );
            }
        }
        let default = if target.secure { 443 } else { 80 };
        assert_eq!(uri.port_u16().unwrap_or(default), target.port, "{text}");
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        assert!(path.starts_with('/') && path.bytes().all(|b| b > b' ' && b < 0x7f && b != b'#'), "{text}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_text(text in r"https?:(//)?\PC{0,40}") {
            agree(&text);
        }

        #[test]
        fn nearly_urls(
            scheme in "(http|https|HTTP)",
            host in r"(\[[0-9a-f:.]{2,20}\]|[0-9x.]{1,20}|[a-z0-9.\-_%～。]{1,20}|127\.0\.0\.[0-9]{1,4})",
            port in "(|:[0-9]{0,6})",
            rest in r"(|[/?#][ -~]{0,20}|/\PC{0,10})",
        ) {
            agree(&format!("{scheme}://{host}{port}{rest}"));
        }
    }
}
