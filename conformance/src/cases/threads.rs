//! Notices: closing a thread, cancelling a call, and what they may not do.

use super::transport::acknowledged;
use crate::{
    bench::{Bench, first_result},
    case::{Case, Need, Outcome, Tier, case},
    http::Sent,
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};

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
    // The control: the ids themselves do end it.
    bench.cancel(&call).await;
    bench.run("open", json!({ "key": key })).await?;
    Ok(())
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
    let known = bench.close(&closed.thread).await;
    same(&bench, "close_thread", "waiting", &known, &bench.close(&thread()).await);
    let finished = bench.simplest().send().await;
    bench.result(&finished).await?;
    for (what, call) in [("waiting", &waiting), ("finished", &finished)] {
        let known = bench.cancel(call).await;
        let unknown = unknown_call(&bench).await;
        same(&bench, "cancel_tool_call", what, &known, &unknown);
        let known = bench.close(&call.thread).await;
        let unknown = bench.close(&thread()).await;
        same(&bench, "close_thread", what, &known, &unknown);
    }
    Ok(())
}

/// What an answer tells: its status, its body, and the headers that do not change by themselves.
fn told(sent: &Sent) -> Value {
    let Ok(answer) = &sent.answer else { return Value::Null };
    let changing = ["date", "connection", "keep-alive", "x-request-id", "traceparent", "server-timing"];
    let headers: Vec<&(String, String)> =
        answer.headers.iter().filter(|(name, _)| !changing.contains(&name.as_str())).collect();
    json!([answer.status, answer.body.text(), headers])
}

fn same(bench: &Bench, what: &str, kind: &str, known: &Sent, unknown: &Sent) {
    if told(known) != told(unknown) {
        let why = format!("the answer to {what} differs between a {kind} call and one that nobody knows");
        bench.fault("AUT-02", why, &[known.n, unknown.n]);
    }
}
