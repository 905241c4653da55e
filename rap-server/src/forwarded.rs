//! The public URL as a trusted proxy tells it: `Forwarded` (RFC 7239), or `X-Forwarded-Proto`, `-Host` and
//! `-Prefix`. Of several values the last counts, which the nearest proxy has written. A `Host` header says
//! nothing: anybody can send one.

use http::HeaderMap;
use rap_types::HttpUrl;

/// The base URL that a proxy names; nothing when it does not say both scheme and host, or says nonsense.
pub(crate) fn base(headers: &HeaderMap) -> Option<HttpUrl> {
    let (scheme, host) = match last(headers, "forwarded") {
        Some(element) => {
            let of = |wanted: &str| {
                element.split(';').find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    let value = value.trim().trim_matches('"');
                    name.trim().eq_ignore_ascii_case(wanted).then_some(value)
                })
            };
            (of("proto")?, of("host")?)
        }
        None => (last(headers, "x-forwarded-proto")?, last(headers, "x-forwarded-host")?),
    };
    let scheme = ["http", "https"].into_iter().find(|s| s.eq_ignore_ascii_case(scheme))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if host.is_empty() || !host.chars().all(|c| plain(c) || "[]:".contains(c)) {
        return None;
    }
    let prefix = last(headers, "x-forwarded-prefix").unwrap_or_default().trim_end_matches('/');
    let right =
        |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.chars().all(plain);
    if !prefix.is_empty() && !prefix.strip_prefix('/').is_some_and(|path| path.split('/').all(right)) {
        return None;
    }
    HttpUrl::new(format!("{scheme}://{host}{prefix}")).ok()
}

fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    Some(value.rsplit(',').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken and what is not, each as header lines.
    #[test]
    fn bases() {
        let table: &[(&str, Option<&str>)] = &[
            ("x-forwarded-proto: https\nx-forwarded-host: a.example", Some("https://a.example")),
            (
                "x-forwarded-proto: HTTP\nx-forwarded-host: a.example:81\nx-forwarded-prefix: /x/y/",
                Some("http://a.example:81/x/y"),
            ),
            (
                "x-forwarded-proto: http, https\nx-forwarded-host: evil.example, a.example",
                Some("https://a.example"),
            ),
            (
                "x-forwarded-proto: https\nx-forwarded-host: evil.example\nx-forwarded-host: a.example",
                Some("https://a.example"),
            ),
            ("forwarded: for=1.2.3.4;Proto=https;host=\"a.example:8443\"", Some("https://a.example:8443")),
            ("forwarded: host=b.example;proto=http, host=a.example;proto=https", Some("https://a.example")),
            ("forwarded: host=\"[2001:db8::1]\";proto=https", Some("https://[2001:db8::1]")),
            ("host: a.example", None),
            ("x-forwarded-host: a.example", None),
            ("x-forwarded-proto: https", None),
            ("forwarded: for=1.2.3.4", None),
            ("x-forwarded-proto: file\nx-forwarded-host: a.example", None),
            ("x-forwarded-proto: https\nx-forwarded-host: ", None),
            ("x-forwarded-proto: https\nx-forwarded-host: user@a.example", None),
            ("x-forwarded-proto: https\nx-forwarded-host: a.example/path", None),
            ("x-forwarded-proto: https\nx-forwarded-host: a b", None),
            ("x-forwarded-proto: https\nx-forwarded-host: a.example\nx-forwarded-prefix: /../x", None),
            ("x-forwarded-proto: https\nx-forwarded-host: a.example\nx-forwarded-prefix: //evil", None),
            ("x-forwarded-proto: https\nx-forwarded-host: a.example\nx-forwarded-prefix: x", None),
            ("x-forwarded-proto: https\nx-forwarded-host: a.example\nx-forwarded-prefix: /x?y", None),
        ];
        for (lines, expected) in table {
            let mut headers = HeaderMap::new();
            for line in lines.lines() {
                let (name, value) = line.split_once(": ").unwrap();
                let name: http::HeaderName = name.parse().unwrap();
                headers.append(name, value.parse().unwrap());
            }
            assert_eq!(base(&headers).as_ref().map(HttpUrl::as_str), *expected, "{lines}");
        }
    }
}
