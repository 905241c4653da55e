//! Traffic that no honest runtime sends, as data: refused or answered, and the server goes on.

use crate::{
    bench::{Bench, first_result},
    case::{Case, Outcome, Tier, case},
    http::{Sent, path_and_query},
    listen::Gate,
    nonce::nonce,
    verdict::Stop,
};
use bytes::Bytes;
use serde_json::json;
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case!(
        "hostile/malformed",
        "what is no invocation is refused by 4xx, or by an error result, and never by a failure of the server",
        ["INV-06"],
        Tier::Unknown,
        [],
        malformed
    ),
    case!(
        "hostile/goes-on",
        "after malformed traffic calls are still answered, also one that was refused and is mended",
        ["INV-07"],
        Tier::Unknown,
        [],
        goes_on
    ),
    case!(
        "hostile/huge",
        "what is larger than it takes is answered 413, however its length is told, in invocations and in notices",
        ["LIM-01"],
        Tier::Unknown,
        [],
        huge
    ),
    case!(
        "hostile/slow",
        "a body that comes slowly, or never ends, holds up nobody else",
        ["LIM-02"],
        Tier::Unknown,
        [],
        slow,
        apart
    ),
];

/// Bodies that are no invocation. `CALLBACK` becomes a callback URL, `ID` a fresh id.
const BODIES: &[(&str, &str)] = &[
    ("nothing", ""),
    ("no JSON", "{\"operation\":"),
    ("a text", "hello"),
    ("an array", "[]"),
    ("a number", "7"),
    ("null", "null"),
    ("an empty object", "{}"),
    (
        "a number as operation",
        r#"{"operation":7,"arguments":{},"id":"ID","group_id":"ID","callback_url":"CALLBACK"}"#,
    ),
    ("no operation", r#"{"arguments":{},"id":"ID","group_id":"ID","callback_url":"CALLBACK"}"#),
    ("no id", r#"{"operation":"x","arguments":{},"group_id":"ID","callback_url":"CALLBACK"}"#),
    (
        "a number as id",
        r#"{"operation":"x","arguments":{},"id":1,"group_id":"ID","callback_url":"CALLBACK"}"#,
    ),
    ("an empty id", r#"{"operation":"x","arguments":{},"id":"","group_id":"ID","callback_url":"CALLBACK"}"#),
    ("no group_id", r#"{"operation":"x","arguments":{},"id":"ID","callback_url":"CALLBACK"}"#),
    (
        "null as group_id",
        r#"{"operation":"x","arguments":{},"id":"ID","group_id":null,"callback_url":"CALLBACK"}"#,
    ),
    ("no callback_url", r#"{"operation":"x","arguments":{},"id":"ID","group_id":"ID"}"#),
    (
        "a relative callback_url",
        r#"{"operation":"x","arguments":{},"id":"ID","group_id":"ID","callback_url":"/cb"}"#,
    ),
    (
        "a callback_url by ftp",
        r#"{"operation":"x","arguments":{},"id":"ID","group_id":"ID","callback_url":"ftp://127.0.0.1/"}"#,
    ),
    (
        "a callback_url that is no URL",
        r#"{"operation":"x","arguments":{},"id":"ID","group_id":"ID","callback_url":"http://"}"#,
    ),
    (
        "a number beyond all",
        r#"{"operation":"x","arguments":{"n":1e999},"id":"ID","group_id":"ID","callback_url":"CALLBACK"}"#,
    ),
    (
        "ancestors that are a text",
        r#"{"operation":"x","arguments":{},"id":"ID","group_id":"ID","callback_url":"CALLBACK","thread_ancestors":"root"}"#,
    ),
    (
        "a lone surrogate",
        r#"{"operation":"\ud800","arguments":{},"id":"ID","group_id":"ID","callback_url":"CALLBACK"}"#,
    ),
];

async fn throw(bench: &Bench) -> Vec<(String, Sent)> {
    let endpoint = bench.place().endpoint;
    let mut sent = Vec::new();
    for (what, body) in BODIES {
        let body = body.replace("CALLBACK", &bench.give().url).replace("ID", &nonce());
        sent.push(((*what).to_owned(), post(bench, &endpoint, body.into()).await));
    }
    let deep = format!(
        r#"{{"operation":"x","arguments":{{"a":{}{}}},"id":"{}","group_id":"{}","callback_url":"{}"}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000),
        nonce(),
        nonce(),
        bench.give().url
    );
    sent.push(("20000 levels of nesting".to_owned(), post(bench, &endpoint, deep.into()).await));
    let not_utf8 = Bytes::from_static(b"{\"operation\":\"\xff\xfe\",\"arguments\":{}}");
    sent.push(("bytes that are not UTF-8".to_owned(), post(bench, &endpoint, not_utf8).await));
    sent
}

async fn post(bench: &Bench, url: &str, body: Bytes) -> Sent {
    bench.send("POST", url, &[("content-type", "application/json")], body).await
}

async fn malformed(bench: Bench) -> Outcome {
    for (what, sent) in throw(&bench).await {
        if sent.status().is_none_or(|status| status >= 500) {
            let why = format!(
                "an invocation that is {what} {}; it should be 4xx, or 200 and an error result",
                sent.words()
            );
            bench.fault("INV-06", why, &[sent.n]);
        }
    }
    Ok(())
}

async fn goes_on(bench: Bench) -> Outcome {
    let thrown = throw(&bench).await;
    if !bench.fence().await && !bench.fence().await {
        let last = thrown.last().map_or(0, |(_, sent)| sent.n);
        bench.fault(
            "INV-07",
            "after malformed traffic a call that was answered before is not answered",
            &[last],
        );
        return Ok(());
    }
    // What was refused was never a call: its sender mends it and keeps the id.
    let draft = bench.simplest();
    let mut broken = draft.body.clone();
    broken["arguments"] = json!("no object");
    let refused = post(&bench, &bench.place().endpoint, json!(broken).to_string().into()).await;
    if !refused.status().is_some_and(|status| (400..500).contains(&status)) {
        return Ok(());
    }
    let call = draft.send().await;
    if call.acknowledged() && bench.owed(&call.given, first_result).await.is_none() {
        let why =
            "an invocation that was refused as malformed, mended and sent again with its id got no result";
        bench.fault("INV-07", why, &[refused.n, call.sent.n]);
    }
    Ok(())
}

/// More than anybody takes: 8 MiB.
const HUGE: usize = 8 * 1024 * 1024;

/// Of each further form of it, so much: a trace keeps them all.
const LARGE: usize = 4 * 1024 * 1024;

async fn huge(bench: Bench) -> Outcome {
    let invocation = |bytes: usize| {
        let body = json!({
            "operation": bench.fence.0, "arguments": { "text": "x".repeat(bytes) },
            "id": nonce(), "group_id": nonce(), "callback_url": bench.give().url,
        });
        Bytes::from(body.to_string())
    };
    let endpoint = bench.place().endpoint;
    let body = invocation(HUGE);
    let head_of = head(&bench, &endpoint, Some(body.len()), &body);
    let sent = bench.http.raw(bench.case(), &endpoint, &[head_of, body], Duration::ZERO).await;
    judge_huge(&bench, &format!("an invocation of {} MiB", HUGE / 1024 / 1024), &[], &sent);

    let body = invocation(LARGE);
    let mut pieces = vec![head(&bench, &endpoint, None, &body)];
    pieces.extend(chunked(&body));
    let sent = bench.http.raw(bench.case(), &endpoint, &pieces, Duration::ZERO).await;
    // Not everybody takes chunks at all.
    let what = format!("an invocation of {} MiB in chunks", LARGE / 1024 / 1024);
    judge_huge(&bench, &what, &[400, 411, 501], &sent);

    let url = bench.at("close_thread");
    let plain = bench.close(&nonce()).await;
    if plain.status() == Some(200) {
        let body = Bytes::from(json!({ "thread_id": nonce(), "reason": "x".repeat(LARGE) }).to_string());
        let head = head(&bench, &url, Some(body.len()), &body);
        let sent = bench.http.raw(bench.case(), &url, &[head, body], Duration::ZERO).await;
        judge_huge(&bench, &format!("a close_thread of {} MiB", LARGE / 1024 / 1024), &[], &sent);
    }
    Ok(())
}

/// 413, or 200 of who takes more than it must.
fn judge_huge(bench: &Bench, what: &str, also: &[u16], sent: &Sent) {
    let right = |status: u16| [200, 413].contains(&status) || also.contains(&status);
    if !sent.status().is_some_and(right) {
        bench.fault("LIM-01", format!("{what} {}, not 413", sent.words()), &[sent.n]);
    }
}

/// A body in chunks of 64 KiB.
fn chunked(body: &Bytes) -> Vec<Bytes> {
    let chunks = body.chunks(64 * 1024).map(|chunk| {
        let size = format!("{:x}\r\n", chunk.len());
        Bytes::from([size.as_bytes(), chunk, b"\r\n"].concat())
    });
    chunks.chain([Bytes::from_static(b"0\r\n\r\n")]).collect()
}

/// The head of a message that announces a body of some length, or one in chunks; `body` is what is signed.
fn head(bench: &Bench, url: &str, length: Option<usize>, body: &[u8]) -> Bytes {
    let authority = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or_default();
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n",
        path_and_query(url)
    );
    head.push_str(&match length {
        Some(length) => format!("content-length: {length}\r\n"),
        None => "transfer-encoding: chunked\r\n".to_owned(),
    });
    for (name, value) in bench.shown_to(url, body) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into()
}

const CONNECTIONS: usize = 16;

async fn slow(bench: Bench) -> Outcome {
    if !bench.fence().await {
        return Err(Stop::Inconclusive("calls are not answered even before".to_owned()));
    }
    let endpoint = bench.place().endpoint;
    let mut slow = tokio::task::JoinSet::new();
    let written: [Gate; CONNECTIONS] = Default::default();
    for written in written.clone() {
        let (bench, endpoint) = (bench.clone(), endpoint.clone());
        slow.spawn(async move {
            let pieces =
                [head(&bench, &endpoint, Some(100_000), b""), "{\"operation\":".into(), "\"x".into()];
            let pause = Duration::from_millis(200);
            // They stay longer than a call may take, and end with this case.
            let http = bench.http.within(Duration::from_secs(60));
            http.raw_until(bench.case(), &endpoint, &pieces, pause, &written).await
        });
    }
    let all = async {
        for gate in &written {
            gate.wait().await;
        }
    };
    if tokio::time::timeout(bench.wait, all).await.is_err() {
        return Err(Stop::Inconclusive(format!("{CONNECTIONS} slow bodies could not be begun")));
    }
    // What was sent may have been read late, but a server that is held up by it stays so: one of several calls
    // finds it out.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let call = bench.simplest().send().await;
        if !call.acknowledged() {
            let why = format!("while {CONNECTIONS} bodies come slowly, an invocation {}", call.sent.words());
            bench.fault("LIM-02", why, &[call.sent.n]);
            break;
        }
    }
    slow.shutdown().await;
    // What comes next finds the server as it was, as far as it gets over this at all.
    bench.until(|| async { Ok(bench.fence().await) }).await?;
    Ok(())
}
