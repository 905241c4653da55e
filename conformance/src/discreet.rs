//! What was seen between strangers may be written down, and the URLs in it may still be worth something: whoever has a
//! callback URL can speak as the server, who has a `response_url` can answer for the user, and an `auth_url` carries the
//! state of somebody's sign-in. Before a trace is judged or written, each such URL keeps its origin and becomes a hash
//! for the rest, the same wherever it occurs, so that every rule finds the same of it.

use crate::trace::{Exchange, Party};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Included, Unbounded},
};

/// Members of messages whose values are such URLs.
const MEMBERS: [&str; 3] = ["callback_url", "response_url", "auth_url"];

/// What the path of a hashed URL begins with.
const MARK: &str = "/~hidden-";

/// The same trace with the URLs that are worth something hashed.
pub fn discreet(trace: &[Exchange]) -> Vec<Exchange> {
    let secrets = secrets(trace);
    let mut trace = trace.to_vec();
    if secrets.is_empty() {
        return trace;
    }
    for exchange in &mut trace {
        clean(&mut exchange.url, &secrets);
        clean_body(&mut exchange.body.0, &secrets);
        exchange.failure.iter_mut().for_each(|why| clean(why, &secrets));
        exchange.headers.iter_mut().for_each(|(_, value)| clean(value, &secrets));
        if let Some(answer) = &mut exchange.answer {
            clean_body(&mut answer.body.0, &secrets);
            answer.headers.iter_mut().for_each(|(_, value)| clean(value, &secrets));
        }
    }
    trace
}

/// The URLs, and what they become.
type Secrets = BTreeMap<String, String>;

fn secrets(trace: &[Exchange]) -> Secrets {
    let mut urls = BTreeSet::new();
    let mut destinations = Vec::new();
    let bodies: Vec<Option<Value>> = trace.iter().map(|e| e.body.json().ok()).collect();
    for body in bodies.iter().flatten() {
        urls.extend(MEMBERS.iter().filter_map(|name| body.get(*name)?.as_str()).map(str::to_owned));
        // To a destination a server sends what is no callback, and the rules know it by its URL.
        destinations.extend(body.get("destination_url").and_then(Value::as_str).map(str::to_owned));
    }
    for (exchange, body) in trace.iter().zip(&bodies) {
        let moved = destinations.iter().any(|to| exchange.url.starts_with(to.as_str()));
        // Also where the URL was spoiled on its way.
        let answer = body.as_ref().is_some_and(|body| body.get("selected").is_some());
        if (exchange.from == Party::Server && !moved) || answer {
            urls.insert(exchange.url.clone());
        }
    }
    urls.into_iter().filter_map(|url| Some((url.clone(), hashed(&url)?))).collect()
}

/// Origin and hash; none where nothing follows the origin, or it was hashed before.
fn hashed(url: &str) -> Option<String> {
    let start = url.find("://")? + 3;
    let end = start + url[start..].find(['/', '?', '#'])?;
    if url[end..].len() <= 1 || url[end..].starts_with(MARK) {
        return None;
    }
    let digest = Sha256::digest(url.as_bytes());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    // Who is named in front of the host is as secret as what follows it.
    let host = url[start..end].rsplit('@').next().unwrap_or_default();
    Some(format!("{}{host}{MARK}{short}", &url[..start]))
}

/// Replaces every URL of these in a text, also where more follows it.
fn clean(text: &mut String, secrets: &Secrets) {
    let mut cleaned = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("://") {
        let scheme = rest[..at].bytes().rev().take_while(u8::is_ascii_alphanumeric).count();
        let (before, url) = rest.split_at(at - scheme);
        let end = url.find(|c: char| c.is_whitespace() || "\"<>\\".contains(c)).unwrap_or(url.len());
        let nearest = secrets.range::<str, _>((Unbounded, Included(&url[..end]))).next_back();
        let known = nearest.filter(|(known, _)| url.starts_with(known.as_str()));
        let (length, shown) = match known {
            Some((known, hash)) => (known.len(), hash.as_str()),
            // Another one may begin right behind it, in its query.
            None => (scheme + 3, &url[..scheme + 3]),
        };
        cleaned.push_str(before);
        cleaned.push_str(shown);
        rest = &url[length..];
    }
    if !cleaned.is_empty() {
        cleaned.push_str(rest);
        *text = cleaned;
    }
}

fn clean_body(body: &mut Bytes, secrets: &Secrets) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let mut cleaned = text.to_owned();
    clean(&mut cleaned, secrets);
    // Written with escapes, a URL is not found as it is.
    if cleaned.contains('\\')
        && let Ok(Value::Object(mut message)) = serde_json::from_str::<Value>(&cleaned)
    {
        let mut changed = false;
        for name in MEMBERS {
            if let Some(Value::String(url)) = message.get_mut(name) {
                let before = url.clone();
                clean(url, secrets);
                changed |= *url != before;
            }
        }
        if changed {
            cleaned = Value::Object(message).to_string();
        }
    }
    if cleaned != text {
        *body = cleaned.into();
    }
}
