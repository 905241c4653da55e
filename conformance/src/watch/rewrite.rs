//! A URL in a message replaced by another, and not a byte besides: numbers, order, doubled members and white space
//! stay as they were written.

use std::ops::Range;

/// The bytes with the URL that is a member of the object replaced by what `through` makes of it, wherever the member
/// stands at the top; none where it is no object, or there is nothing to replace.
pub(super) fn rewritten(body: &[u8], member: &str, through: impl Fn(&str) -> String) -> Option<Vec<u8>> {
    // What follows takes it for JSON.
    serde_json::from_slice::<serde::de::IgnoredAny>(body).ok()?;
    let mut made = Vec::with_capacity(body.len() + 64);
    let mut copied = 0;
    for span in values(body, member)? {
        let Ok(url) = serde_json::from_slice::<String>(&body[span.clone()]) else { continue };
        if url.contains("://") {
            made.extend_from_slice(&body[copied..span.start]);
            made.extend(serde_json::to_vec(&through(&url)).ok()?);
            copied = span.end;
        }
    }
    if copied == 0 {
        return None;
    }
    made.extend_from_slice(&body[copied..]);
    Some(made)
}

/// Where the values of a member stand in an object; none where the JSON is no object.
fn values(body: &[u8], member: &str) -> Option<Vec<Range<usize>>> {
    let mut found = Vec::new();
    let mut at = space(body, 0);
    if *body.get(at)? != b'{' {
        return None;
    }
    at = space(body, at + 1);
    while *body.get(at)? == b'"' {
        let end = string(body, at)?;
        let name = serde_json::from_slice::<String>(&body[at..end]);
        // Over the colon.
        let start = space(body, space(body, end) + 1);
        at = value(body, start)?;
        if name.is_ok_and(|name| name == member) {
            found.push(start..at);
        }
        at = space(body, at);
        if *body.get(at)? == b',' {
            at = space(body, at + 1);
        }
    }
    Some(found)
}

fn space(body: &[u8], from: usize) -> usize {
    let rest = body.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|b| b" \t\r\n".contains(b)).count()
}

/// The end of the string that begins here.
fn string(body: &[u8], from: usize) -> Option<usize> {
    let mut at = from + 1;
    loop {
        match *body.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The end of the value that begins here.
fn value(body: &[u8], from: usize) -> Option<usize> {
    let (mut at, mut depth) = (from, 0_usize);
    loop {
        match *body.get(at)? {
            b'"' => at = string(body, at)?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            // A comma, a colon or white space inside of it, or a number or a word, which ends before one of these.
            _ if depth > 0 => at += 1,
            _ => {
                let ends = |b: &u8| b",}] \t\r\n".contains(b);
                return Some(at + body[at..].iter().position(ends).unwrap_or(body.len() - at));
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_url_is_changed() {
        let through = |url: &str| format!("http://p/{}", url.len());
        for (body, expected) in [
            (r#"{"u":"http://a/"}"#, Some(r#"{"u":"http://p/9"}"#)),
            (
                "\n{ \"z\" : 12345678901234567890123 ,\t\"u\" : \"http:\\/\\/a/\" , \"a\":1e2,\"a\":-0.10 }\r\n",
                Some(
                    "\n{ \"z\" : 12345678901234567890123 ,\t\"u\" : \"http://p/9\" , \"a\":1e2,\"a\":-0.10 }\r\n",
                ),
            ),
            // Under another spelling, twice, and where others look like it.
            (
                r#"{"a":{"u":"http://k/","x":["}",{"u":"http://k/"}]},"\u0075":"http://b","s":"\"u\":\\","u":"ftp://ab"}"#,
                Some(
                    r#"{"a":{"u":"http://k/","x":["}",{"u":"http://k/"}]},"\u0075":"http://p/8","s":"\"u\":\\","u":"http://p/8"}"#,
                ),
            ),
            (
                r#"{"v":true,"w":null,"n":7,"u":"http://a/","e":{},"l":[]}"#,
                Some(r#"{"v":true,"w":null,"n":7,"u":"http://p/9","e":{},"l":[]}"#),
            ),
            (r#"{"u":7,"u":null,"u":"/rap","u":["http://a/"],"u":"\ud800://"}"#, None),
            ("{}", None),
            ("[]", None),
            ("7", None),
            ("", None),
            (r#"{"u":"http://a/""#, None),
            (r#"{"u":"http://a/"}}"#, None),
        ] {
            let made = rewritten(body.as_bytes(), "u", through);
            assert_eq!(made.as_deref(), expected.map(str::as_bytes), "{body}");
        }
        // Deeper than any reader goes.
        let deep = format!(r#"{{"d":{}{},"u":"http://a/"}}"#, "[".repeat(50_000), "]".repeat(50_000));
        let made = rewritten(deep.as_bytes(), "u", through).expect("replaced");
        assert_eq!(made.len(), deep.len() + 1);
    }
}
