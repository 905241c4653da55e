//! Large strings, each kept once under the digest of its content: an image comes as an input, is a call's outcome, is
//! shown to people and stands in the history, and lies on the disk one time.
//!
//! What is stored is JSON. A string in it of over 64 KiB is cut out as it stands there, quotes included, and a mark takes
//! its place: U+0001, which no JSON holds outside a string and none of ours inside one, and the SHA-256 of the string in
//! hex. What comes back is the same to the byte. A string is never taken away again: histories are not.

use crate::fault::{Done, damaged};
use data_encoding::HEXLOWER;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Bytes from which on a string is large.
const LARGE: usize = 64 * 1024;
const MARK: char = '\u{1}';
/// Characters of a digest.
const HEX: usize = 64;

/// JSON with its large strings put away.
pub(crate) fn put_away(conn: &Connection, json: String) -> Done<String> {
    if json.len() <= LARGE {
        return Ok(json);
    }
    let mut slim = String::new();
    let mut copied = 0;
    for (from, upto) in large_strings(&json) {
        slim.push_str(&json[copied..from]);
        slim.push(MARK);
        slim.push_str(&keep(conn, &json[from..upto])?);
        copied = upto;
    }
    if copied == 0 {
        return Ok(json);
    }
    slim.push_str(&json[copied..]);
    Ok(slim)
}

/// Where the large strings of JSON are, quotes included.
fn large_strings(json: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(from) = json[at..].find('"').map(|offset| at + offset) {
        let upto = end_of_string(json, from);
        if upto - from > LARGE {
            found.push((from, upto));
        }
        at = upto;
    }
    found
}

/// Behind the closing quote of the string that begins at a place.
fn end_of_string(json: &str, from: usize) -> usize {
    let bytes = json.as_bytes();
    let mut at = from + 1;
    while let Some(quote) = json[at..].find('"').map(|offset| at + offset) {
        let backslashes = bytes[from + 1..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        at = quote + 1;
        if backslashes % 2 == 0 {
            return at;
        }
    }
    json.len()
}

/// Keeps a string, if it is not kept already; its name.
fn keep(conn: &Connection, text: &str) -> Done<String> {
    let hash = Sha256::digest(text);
    let known = conn.prepare_cached("SELECT 1 FROM bodies WHERE hash = ?1")?.exists([&hash[..]])?;
    if !known {
        conn.prepare_cached("INSERT INTO bodies (hash, body) VALUES (?1, ?2)")?
            .execute(params![&hash[..], text])?;
    }
    Ok(HEXLOWER.encode(&hash))
}

/// Stored JSON with its large strings in their places; `what` names it in the error.
pub(crate) fn whole<'a>(conn: &Connection, stored: &'a str, what: impl Fn() -> String) -> Done<Cow<'a, str>> {
    if !stored.as_bytes().contains(&(MARK as u8)) {
        return Ok(Cow::Borrowed(stored));
    }
    let mut pieces = stored.split(MARK);
    let mut json = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_at_checked(HEX).ok_or_else(|| damaged(what(), "a mark is cut off"))?;
        let hash = HEXLOWER.decode(name.as_bytes()).map_err(|e| damaged(what(), e))?;
        let kept: Option<String> = conn
            .prepare_cached("SELECT body FROM bodies WHERE hash = ?1")?
            .query_row([&hash], |row| row.get(0))
            .optional()?;
        let kept = kept.ok_or_else(|| damaged(what(), "a large text of it is missing"))?;
        if Sha256::digest(&kept)[..] != hash[..] {
            return Err(damaged(what(), "a large text of it is not what was written"));
        }
        json.push_str(&kept);
        json.push_str(rest);
    }
    Ok(Cow::Owned(json))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::{Value, json};

    fn database() -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        crate::schema::migrate(&conn, 0).unwrap();
        conn
    }

    fn kept(conn: &Connection) -> i64 {
        conn.query_row("SELECT count(*) FROM bodies", [], |row| row.get(0)).unwrap()
    }

    /// What is put away comes back to the byte, whatever stands in it, and lies there once.
    #[test]
    fn there_and_back() {
        let conn = database();
        let long = |text: &str| Value::from(text.repeat(LARGE / text.len() + 1));
        let cases = [
            (json!({"a": "short"}), 0),
            (json!({"a": long("x")}), 1),
            (json!([long("x"), {"again": long("x")}, 7, long("\\")]), 2),
            (json!({"quotes": long("\""), "both": long("\\\""), "lines": long("\n\u{1}\u{0}")}), 5),
            (json!({"wide": [long("ü🦀"), "", "\\"]}), 6),
            (long("z"), 7),
            (json!(vec!["many small ones"; 10_000]), 7),
            // As long as may be, and a byte more; a quote on each side counts.
            (json!("y".repeat(LARGE - 2)), 7),
            (json!("y".repeat(LARGE - 1)), 8),
        ];
        for (value, strings) in cases {
            let text = value.to_string();
            let stored = put_away(&conn, text.clone()).unwrap();
            assert_eq!(kept(&conn), strings);
            assert!(stored == text || stored.len() < text.len() / 2);
            assert_eq!(put_away(&conn, text.clone()).unwrap(), stored);
            assert_eq!(whole(&conn, &stored, String::new).unwrap(), text);
        }
    }

    /// A large string that is gone, or another one, is found where it is read (ERR-02).
    #[test]
    fn damage_is_found() {
        let conn = database();
        let stored = put_away(&conn, json!({"a": "x".repeat(2 * LARGE)}).to_string()).unwrap();
        for (sql, told) in [
            ("UPDATE bodies SET body = replace(body, 'xx', 'yy')", "not what was written"),
            ("DELETE FROM bodies", "missing"),
        ] {
            conn.execute_batch(sql).unwrap();
            let error = whole(&conn, &stored, || "it".into()).unwrap_err().into_error("agent.db").to_string();
            assert!(error.contains("it is damaged") && error.contains(told), "{error}");
        }
        for broken in ["{\u{1}", "{\u{1}zz", &format!("\u{1}{}", "z".repeat(64))] {
            assert!(whole(&conn, broken, String::new).is_err());
        }
    }
}
