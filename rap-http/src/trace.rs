//! Where a request stands in its trace: the W3C trace context, taken in with a request, kept with what comes of it, and
//! sent with that. One reading for both sides.

use http::{HeaderMap, HeaderValue};

/// The longest `traceparent` that is passed on, in bytes; W3C's has 55.
const PARENT_BYTES: usize = 128;
/// The longest `tracestate` that is passed on, in bytes: what W3C asks everybody to pass on.
const STATE_BYTES: usize = 512;

/// Where a request stands in its trace, by its `traceparent` and `tracestate` ([W3C Trace Context]).
///
/// ```
/// use rap_http::TraceContext;
///
/// let mut headers = http::HeaderMap::new();
/// assert_eq!(TraceContext::of(&headers), None);
/// let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// headers.insert("traceparent", parent.parse()?);
/// let trace = TraceContext::of(&headers).expect("it is well-formed");
/// assert_eq!((trace.parent(), trace.state()), (parent, None));
/// let mut further = http::HeaderMap::new();
/// trace.put(&mut further);
/// assert_eq!(further, headers);
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
///
/// [W3C Trace Context]: https://www.w3.org/TR/trace-context/
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Well-formed.
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

impl TraceContext {
    /// What the headers of a request say. What is not well-formed, or longer than 128 bytes (of states, 512), is left out:
    /// it would go into records and further requests. A `tracestate` without a good `traceparent` means nothing.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
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
        Some(Self { parent: parent.clone(), state })
    }

    /// The ids of the trace and of the span, for logs.
    pub fn ids(&self) -> (&str, &str) {
        ids(&self.parent).expect("bug: a trace context was well-formed when it was read")
    }

    /// The `traceparent`.
    pub fn parent(&self) -> &str {
        self.parent.to_str().expect("bug: a trace context was well-formed when it was read")
    }

    /// The `tracestate`, where there is one: what tracing systems note for themselves.
    pub fn state(&self) -> Option<&str> {
        self.state.as_ref()?.to_str().ok()
    }

    /// Writes it into the headers of a request.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert("traceparent", self.parent.clone());
        if let Some(state) = &self.state {
            headers.insert("tracestate", state.clone());
        }
    }
}

/// The trace and the span of a well-formed `traceparent`, else nothing.
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
            TraceContext::of(&headers)?.put(&mut out);
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
