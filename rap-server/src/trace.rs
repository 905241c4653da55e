//! The W3C trace context of a call: taken in with its invocation, kept in its span, sent with its callbacks.

use http::HeaderValue;

/// The trace and the span of a well-formed `traceparent`, else nothing: it goes into logs and further requests.
pub(crate) fn ids(value: &HeaderValue) -> Option<(&str, &str)> {
    let text = value.to_str().ok()?;
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        parts.next().filter(|part| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let (version, trace, span, _flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let zero = |id: &str| id.bytes().all(|b| b == b'0');
    // A later version may say more; the first one does not.
    let whole = parts.next().is_none() || version != "00";
    (whole && version != "ff" && !zero(trace) && !zero(span)).then_some((trace, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let good = format!("00-{trace}-{span}-01");
        let table = [
            (good.clone(), true),
            (format!("cc-{trace}-{span}-01-what-the-future-will-be"), true),
            (format!("00-{trace}-{span}-01-more"), false),
            (format!("ff-{trace}-{span}-01"), false),
            (format!("00-{}-{span}-01", "0".repeat(32)), false),
            (format!("00-{trace}-{}-01", "0".repeat(16)), false),
            (good.to_uppercase(), false),
            (good.replace('-', ""), false),
            ("00".to_owned(), false),
            (String::new(), false),
        ];
        for (text, expected) in table {
            let value = HeaderValue::from_str(&text).unwrap();
            assert_eq!(ids(&value), expected.then_some((trace, span)), "{text}");
        }
    }
}
