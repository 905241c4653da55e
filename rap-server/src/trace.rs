//! The W3C trace context of a call: taken in with its invocation, kept in its span, sent with its callbacks.

use http::{HeaderMap, HeaderValue};

/// The longest `traceparent` that is passed on, in bytes; W3C's has 55.
const PARENT_BYTES: usize = 128;
/// The longest `tracestate` that is passed on, in bytes: what W3C asks everybody to pass on.
const STATE_BYTES: usize = 512;

/// Where a call stands in its trace.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// Well-formed.
    pub(crate) parent: HeaderValue,
    pub(crate) state: Option<HeaderValue>,
}

impl Trace {
    /// What the headers of an invocation say. A `tracestate` without a good `traceparent` means nothing.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Box<Self>> {
        let parent = headers.get("traceparent")?;
        if parent.len() > PARENT_BYTES || ids(parent).is_none() {
            return None;
        }
        // Several are one list.
        let states: Result<Vec<&str>, _> =
            headers.get_all("tracestate").iter().map(HeaderValue::to_str).collect();
        let state = states.map(|states| states.join(",")).unwrap_or_default();
        let fits = (1..=STATE_BYTES).contains(&state.len());
        let state = HeaderValue::try_from(state).ok().filter(|_| fits);
        Some(Box::new(Self { parent: parent.clone(), state }))
    }

    /// The trace and the span, for logs.
    pub(crate) fn ids(&self) -> Option<(&str, &str)> {
        ids(&self.parent)
    }

    /// Writes it into the headers of a callback.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        headers.insert("traceparent", self.parent.clone());
        if let Some(state) = &self.state {
            headers.insert("tracestate", state.clone());
        }
    }
}

/// The trace and the span of a well-formed `traceparent`, else nothing: it goes into logs and further requests.
fn ids(value: &HeaderValue) -> Option<(&str, &str)> {
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
    fn states() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let state = |parent: &str, states: &[&str]| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", parent.parse().unwrap());
            for state in states {
                headers.append("tracestate", state.parse().unwrap());
            }
            let mut out = HeaderMap::new();
            Trace::of(&headers)?.put(&mut out);
            Some(out.get("tracestate").map(|state| state.to_str().unwrap().to_owned()))
        };
        assert_eq!(state(parent, &[]), Some(None));
        assert_eq!(state(parent, &["a=1,b=2"]), Some(Some("a=1,b=2".into())));
        assert_eq!(state(parent, &["a=1", "b=2"]), Some(Some("a=1,b=2".into())));
        assert_eq!(state(parent, &[&"a".repeat(512)]), Some(Some("a".repeat(512))));
        assert_eq!(state(parent, &[&"a".repeat(513)]), Some(None));
        assert_eq!(state(parent, &["é"]), Some(None));
        assert_eq!(state("nothing", &["a=1"]), None);
    }

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
