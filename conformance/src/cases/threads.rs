//! Notices: closing a thread, cancelling a call, and what they may not do.

use super::{invocation::control, transport::acknowledged};
use crate::{
    bench::{Bench, first_result},
    case::{Case, Need, Outcome, Tier, case},
    http::Sent,
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) const CASES: &[Case] = &[
    case!("threads/close-served", "close_thread is served", ["CLS-05"], Tier::Look, [], close_served),
    case!("threads/cancel-served", "cancel_tool_call is served", ["CAN-04"], Tier::Look, [], cancel_served),
    case!(
        "threads/close-unknown",
        "close_thread is answered 200 for an unknown thread, and again when repeated",
        ["CLS-02"],
        Tier::Look,
        [],
        close_unknown
    ),
    case!(
        "threads/cancel-unknown",
        "cancel_tool_call is answered 200 for an unknown call, and again when repeated",
        ["CAN-02"],
        Tier::Look,
        [],
        cancel_unknown
    ),
    case!(
        "threads/odd-ids",
        "ids that look like paths, patterns, commands or SQL are ids like any other",
        ["CLS-04"],
        Tier::Look,
        [],
        odd_ids
    ),
    case!(
        "threads/patterns-match-nothing",
        "a notice with an id that is a pattern for another id does not touch that other",
        ["CLS-04"],
        Tier::Fixture,
        [Need::Tool("gate")],
        patterns_match_nothing
    ),
    case!(
        "threads/close-known",
        "close_thread is answered 200 for a thread with a waiting call, and again when repeated",
        ["CLS-02"],
        Tier::Fixture,
        [Need::Tool("gate")],
        close_known
    ),
    case!(
        "threads/cancel-known",
        "cancel_tool_call is answered 200 for a waiting call, a finished one, and repeats",
        ["CAN-02"],
        Tier::Fixture,
        [Need::Tool("gate")],
        cancel_known
    ),
    case!(
        "threads/close-releases-calls",
        "closing a thread releases its waiting calls, and no others",
        ["CLS-03"],
        Tier::Fixture,
        [Need::Tool("gate")],
        close_releases_calls
    ),
    case!(
        "threads/close-ends-subscriptions",
        "closing a thread ends its subscriptions, and no others",
        ["CLS-03"],
        Tier::Fixture,
        [Need::Tool("subscribe"), Need::Tool("emit")],
        close_ends_subscriptions
    ),
    case!(
        "threads/notices-tell-nothing",
        "the answer to a notice is the same for known and unknown ids",
        ["AUT-02"],
        Tier::Fixture,
        [Need::Tool("gate")],
        notices_tell_nothing
    ),
];

fn thread() -> String {
    format!("thread-{}", nonce())
}

/// A notice is well-formed; where it is not served at all, that is for another case.
fn served(sent: &Sent, what: &str) -> Outcome {
    if matches!(sent.status(), Some(404 | 405 | 501)) {
        return Err(Stop::Unimplemented(what.to_owned()));
    }
    Ok(())
}

async fn close_served(bench: Bench) -> Outcome {
    let sent = bench.close(&thread()).await;
    if matches!(sent.status(), Some(404 | 405 | 501)) {
        bench.fault("CLS-05", format!("close_thread {}", sent.words()), &[sent.n]);
    }
    Ok(())
}

async fn unknown_call(bench: &Bench) -> Sent {
    bench.notice("cancel_tool_call", &json!({ "thread_id": thread(), "tool_call_id": nonce() })).await
}

async fn cancel_served(bench: Bench) -> Outcome {
    let sent = unknown_call(&bench).await;
    if matches!(sent.status(), Some(404 | 405 | 501)) {
        bench.fault("CAN-04", format!("cancel_tool_call {}", sent.words()), &[sent.n]);
    }
    Ok(())
}

async fn close_unknown(bench: Bench) -> Outcome {
    let thread = thread();
    for again in ["for an unknown thread", "again for an unknown thread"] {
        let sent = bench.close(&thread).await;
        served(&sent, "close_thread")?;
        taken(&bench, "CLS-02", "close_thread", again, &sent);
    }
    Ok(())
}

fn taken(bench: &Bench, obligation: &str, what: &str, when: &str, sent: &Sent) {
    if sent.status() != Some(200) {
        bench.fault(obligation, format!("{what} {when} {}, not 200", sent.words()), &[sent.n]);
    }
}

async fn cancel_unknown(bench: Bench) -> Outcome {
    let body = json!({ "thread_id": thread(), "tool_call_id": nonce() });
    for again in ["for an unknown call", "again for an unknown call"] {
        let sent = bench.notice("cancel_tool_call", &body).await;
        served(&sent, "cancel_tool_call")?;
        taken(&bench, "CAN-02", "cancel_tool_call", again, &sent);
    }
    Ok(())
}

/// Ids that have meant more than an id to somebody.
const ODD: &[&str] = &[
    "../../../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "/etc/passwd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    ".",
    "..",
    "a/../b",
    "con",
    "nul\u{0}byte",
    "line\nbreak\r\nX-Header: 1",
    "' OR '1'='1",
    "'; DROP TABLE calls; --",
    "\"; rm -rf ./nothing; \"",
    "$(sleep 9)",
    "`sleep 9`",
    "| sleep 9",
    "%s%n%x",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "*",
    "%",
    "_",
    "[a-z]*",
    "__proto__",
    "constructor",
    "ünï/🦀",
    "\u{202e}txt.exe",
    " ",
    "-rf",
    "~root",
];

async fn odd_ids(bench: Bench) -> Outcome {
    let plain = bench.close(&thread()).await;
    let plain_call = unknown_call(&bench).await;
    let expected = |sent: &Sent| sent.status() == Some(200);
    if !expected(&plain) && !expected(&plain_call) {
        return Err(Stop::Unimplemented("close_thread or cancel_tool_call that answers 200".to_owned()));
    }
    let long = "x".repeat(256);
    let mut odd: Vec<&str> = ODD.to_vec();
    odd.push(&long);
    for id in odd {
        let close = json!({ "thread_id": id });
        let cancel = json!({ "thread_id": id, "tool_call_id": id });
        for (path, body, control) in
            [("close_thread", close, &plain), ("cancel_tool_call", cancel, &plain_call)]
        {
            if !expected(control) {
                continue;
            }
            let sent = bench.notice(path, &body).await;
            let said = sent.answer.as_ref().map(|a| a.body.text()).unwrap_or_default();
            if !expected(&sent) {
                let why = format!(
                    "{path} for the id {id:?} {}; for an ordinary unknown id it was 200",
                    sent.words()
                );
                bench.fault("CLS-04", why, &[control.n, sent.n]);
            } else if said.contains("root:") || said.contains("[fonts]") {
                let why = format!("{path} for the id {id:?} was answered with the contents of a file");
                bench.fault("CLS-04", why, &[sent.n]);
            }
        }
    }
    Ok(())
}

async fn patterns_match_nothing(bench: Bench) -> Outcome {
    let (key, thread) = (nonce(), thread());
    let call = bench.call("gate", json!({ "key": key })).thread(&thread).send().await;
    acknowledged!(call);
    bench.waiting(&key, 1).await?;
    let upper = thread.to_uppercase();
    let patterns = [
        "%".to_owned(),
        "*".to_owned(),
        format!("{thread}%"),
        thread.replace('-', "_"),
        format!("{thread}/"),
        format!("x/../{thread}"),
        format!("./{thread}"),
        format!(" {thread} "),
        format!("' OR group_id = '{thread}"),
        format!("{thread}\u{0}"),
        upper,
    ];
    for pattern in &patterns {
        bench.close(pattern).await;
        let own = json!({ "thread_id": pattern, "tool_call_id": call.id });
        bench.notice("cancel_tool_call", &own).await;
        let other = json!({ "thread_id": thread, "tool_call_id": pattern });
        bench.notice("cancel_tool_call", &other).await;
        bench.fence().await;
        if bench.ask("waiting", json!({ "key": key })).await? != "1" {
            let why = format!("notices for the id {pattern:?} ended a call of the thread {thread:?}");
            return bench.broken("CLS-04", why, &[call.sent.n]);
        }
    }
    bench.cancel(&call).await;
    let ended =
        bench.until(|| async { Ok(bench.ask("waiting", json!({ "key": key })).await? == "0") }).await?;
    bench.run("open", json!({ "key": key })).await?;
    control(ended, "the ids themselves do not end the call either")
}

async fn close_known(bench: Bench) -> Outcome {
    let (key, thread) = (nonce(), thread());
    let call = bench.call("gate", json!({ "key": key })).thread(&thread).send().await;
    acknowledged!(call);
    bench.waiting(&key, 1).await?;
    for when in ["for a thread with a waiting call", "again"] {
        let sent = bench.close(&thread).await;
        served(&sent, "close_thread")?;
        taken(&bench, "CLS-02", "close_thread", when, &sent);
    }
    // Where a known thread is answered, 404 for an unknown one does not mean that nothing is served.
    let unknown = bench.close(&self::thread()).await;
    taken(&bench, "CLS-02", "close_thread", "for an unknown thread", &unknown);
    Ok(())
}

async fn cancel_known(bench: Bench) -> Outcome {
    let key = nonce();
    let call = bench.call("gate", json!({ "key": key })).send().await;
    acknowledged!(call);
    bench.waiting(&key, 1).await?;
    for when in ["for a waiting call", "again for a cancelled call"] {
        let sent = bench.cancel(&call).await;
        served(&sent, "cancel_tool_call")?;
        taken(&bench, "CAN-02", "cancel_tool_call", when, &sent);
    }
    let finished = bench.simplest().send().await;
    bench.result(&finished).await?;
    let sent = bench.cancel(&finished).await;
    taken(&bench, "CAN-02", "cancel_tool_call", "for a finished call", &sent);
    let unknown = unknown_call(&bench).await;
    taken(&bench, "CAN-02", "cancel_tool_call", "for an unknown call", &unknown);
    Ok(())
}

async fn close_releases_calls(bench: Bench) -> Outcome {
    let (key, counter, thread) = (nonce(), nonce(), thread());
    let arguments = json!({ "key": key, "count": counter });
    let closed = bench.call("gate", arguments.clone()).thread(&thread).send().await;
    let other = bench.call("gate", arguments).send().await;
    acknowledged!(closed);
    acknowledged!(other);
    bench.waiting(&key, 2).await?;
    let notice = bench.close(&thread).await;
    served(&notice, "close_thread")?;
    let numbers = [closed.sent.n, notice.n];
    let released =
        bench.until(|| async { Ok(bench.ask("waiting", json!({ "key": key })).await? != "2") }).await?;
    if !released {
        bench.fault("CLS-03", "a call still waits after its thread was closed", &numbers);
    }
    bench.run("open", json!({ "key": key })).await?;
    if bench.owed(&other.given, first_result).await.is_none() {
        bench.fault("CLS-03", "closing a thread ended a call of another thread", &[other.sent.n, notice.n]);
    }
    bench.fence().await;
    let value = bench.ask("count", json!({ "key": counter })).await?;
    if released && value == "2" {
        bench.fault("CLS-03", "a call went on with its work after its thread was closed", &numbers);
    }
    Ok(())
}

async fn close_ends_subscriptions(bench: Bench) -> Outcome {
    let (name, other, thread) = (nonce(), nonce(), thread());
    let call = bench.call("subscribe", json!({ "name": name })).thread(&thread).send().await;
    bench.result(&call).await?;
    let (control, _) = bench.run("subscribe", json!({ "name": other })).await?;
    let notice = bench.close(&thread).await;
    served(&notice, "close_thread")?;
    super::subscriptions::silent(&bench, "CLS-03", "its thread was closed", &name, &call, &notice).await?;
    bench.run("emit", json!({ "name": other, "texts": ["control"] })).await?;
    bench.first(&control, "subscription_event").await?;
    Ok(())
}

async fn notices_tell_nothing(bench: Bench) -> Outcome {
    let key = nonce();
    let waiting = bench.call("gate", json!({ "key": key })).send().await;
    let closed = bench.call("gate", json!({ "key": key })).send().await;
    acknowledged!(waiting);
    acknowledged!(closed);
    bench.waiting(&key, 2).await?;
    let (mut closes, mut cancels) = (Told::default(), Told::default());
    closes.known.push(("waiting", bench.close(&closed.thread).await));
    let finished = bench.simplest().send().await;
    bench.result(&finished).await?;
    for (what, call) in [("waiting", &waiting), ("finished", &finished)] {
        cancels.known.push((what, bench.cancel(call).await));
        closes.known.push((what, bench.close(&call.thread).await));
    }
    // What changes from one answer to the next by itself shows in several about ids that nobody knows.
    for _ in 0..4 {
        cancels.unknown.push(unknown_call(&bench).await);
        closes.unknown.push(bench.close(&thread()).await);
    }
    for (path, told) in [("close_thread", &closes), ("cancel_tool_call", &cancels)] {
        if let Some((kind, what, known, unknown)) = told.difference() {
            let why = format!(
                "the answer to {path} differs between a {kind} call and ones that nobody knows, in its {what}"
            );
            bench.fault("AUT-02", why, &[known, unknown]);
        }
    }
    Ok(())
}

/// Answers to one kind of notice: about calls, and about what nobody knows.
#[derive(Default)]
struct Told {
    known: Vec<(&'static str, Sent)>,
    unknown: Vec<Sent>,
}

impl Told {
    /// An answer about a call that differs, in something in which those about what nobody knows are all alike.
    fn difference(&self) -> Option<(&'static str, String, u64, u64)> {
        let unknown: Vec<BTreeMap<String, Value>> = self.unknown.iter().map(said).collect();
        let first = unknown.first()?;
        for (kind, sent) in &self.known {
            let known = said(sent);
            let names = known.keys().chain(first.keys());
            let alike = |name: &&String| unknown.iter().all(|said| said.get(*name) == first.get(*name));
            let told = names.filter(alike).find(|name| known.get(*name) != first.get(*name));
            if let Some(name) = told {
                return Some((kind, name.clone(), sent.n, self.unknown[0].n));
            }
        }
        None
    }
}

/// Whether a header tells of when and by whom a request was answered. Most such headers show by themselves that they
/// change; of the coarse ones several may be alike by chance.
fn passing(header: &str) -> bool {
    let pieces = [
        "time",
        "timing",
        "duration",
        "runtime",
        "request-id",
        "correlation",
        "trace",
        "ratelimit",
        "rate-limit",
    ];
    ["date", "age", "expires", "connection", "keep-alive", "cf-ray"].contains(&header)
        || pieces.iter().any(|piece| header.contains(piece))
}

/// What an answer says, piece by piece: its status, each header, each member of its body.
fn said(sent: &Sent) -> BTreeMap<String, Value> {
    let Ok(answer) = &sent.answer else { return BTreeMap::from([("status".to_owned(), Value::Null)]) };
    let mut said = BTreeMap::from([("status".to_owned(), json!(answer.status))]);
    for (name, value) in &answer.headers {
        if !passing(name) {
            said.insert(format!("header {name}"), json!(value));
        }
    }
    match answer.body.json() {
        Ok(Value::Object(members)) => {
            // Its length follows from its members, of which some may pass.
            said.remove("header content-length");
            said.extend(members.into_iter().map(|(name, value)| (format!("member {name:?}"), value)));
        }
        _ => {
            said.insert("body".to_owned(), json!(answer.body.text()));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Answer, Body};

    fn sent(status: u16, headers: &[(&str, &str)], body: &str) -> Sent {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let body = Body(bytes::Bytes::from(body.to_owned()));
        Sent { n: 1, answer: Ok(Answer { status, headers, body }) }
    }

    /// AUT-02: what differs from answer to answer anyway tells nothing; what differs only for known ids does.
    #[test]
    fn only_what_depends_on_the_ids_tells_something() {
        let plain = |at: &str| sent(200, &[("x-node", at), ("x-process-time", at)], "");
        let body = |at: &str, ended: u8| sent(200, &[], &format!(r#"{{"at":"{at}","ended":{ended}}}"#));
        let cases = [
            ("changing headers", plain("k"), vec![plain("a"), plain("b")], None),
            ("the same headers", plain("a"), vec![plain("a"), plain("a")], None),
            ("a header for the known", plain("k"), vec![plain("a"), plain("a")], Some("header x-node")),
            ("a status", sent(204, &[], ""), vec![sent(200, &[], ""), sent(200, &[], "")], Some("status")),
            ("a body", sent(200, &[], "yes"), vec![sent(200, &[], "no"), sent(200, &[], "no")], Some("body")),
            ("a changing member", body("k", 0), vec![body("a", 0), body("b", 0)], None),
            ("another member", body("k", 1), vec![body("a", 0), body("b", 0)], Some("member \"ended\"")),
        ];
        for (name, known, unknown, expected) in cases {
            let told = Told { known: vec![("waiting", known)], unknown };
            let found = told.difference().map(|(_, what, ..)| what);
            assert_eq!(found.as_deref(), expected, "{name}");
        }
    }
}
