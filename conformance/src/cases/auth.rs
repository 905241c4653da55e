//! Authentication: what an invocation needs, everything else needs too.

use crate::{
    bench::{Bench, UNKNOWN},
    case::{Case, Need, Outcome, Tier, case},
    http::Sent,
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};

pub(super) const CASES: &[Case] = &[
    case!(
        "auth/notices",
        "close_thread, cancel_tool_call, migrate and tool_call_status need authentication as invocations do",
        ["AUT-01"],
        Tier::Unknown,
        [Need::Authentication],
        notices
    ),
    case!(
        "auth/no-effect",
        "a notice without authentication ends nothing",
        ["AUT-01"],
        Tier::Fixture,
        [Need::Authentication, Need::Tool("gate")],
        no_effect
    ),
];

const WRONG: [(&str, Option<&str>); 4] = [
    ("without authentication", None),
    ("with a wrong token", Some("Bearer wrong-token")),
    ("with an empty token", Some("Bearer ")),
    ("with another scheme", Some("Basic d3Jvbmc6d3Jvbmc=")),
];

fn refused(sent: &Sent) -> bool {
    matches!(sent.status(), Some(401 | 403))
}

async fn notices(bench: Bench) -> Outcome {
    let invocation = || {
        json!({
            "operation": UNKNOWN, "arguments": {}, "id": nonce(), "group_id": nonce(), "callback_url": bench.give().url,
        })
    };
    let endpoint = bench.place().endpoint;
    let wanted = bench.anonymous(&endpoint, None, &invocation()).await;
    if !refused(&wanted) {
        return Err(Stop::Unimplemented(format!(
            "authentication: an invocation without it {}",
            wanted.words()
        )));
    }
    let call = json!({ "thread_id": nonce(), "tool_call_id": nonce() });
    let migrate = json!({ "session_id": nonce(), "destination_url": "http://127.0.0.1:9/" });
    let mut paths: Vec<(&str, &Value)> = vec![("close_thread", &call), ("cancel_tool_call", &call)];
    if bench.toolset.needs_migration() {
        paths.push(("migrate", &migrate));
    }
    if bench.toolset.speaks("status") {
        paths.push(("tool_call_status", &call));
    }
    for (path, body) in paths {
        let control = bench.notice(path, body).await;
        if matches!(control.status(), Some(401 | 403 | 404 | 405 | 501)) {
            continue;
        }
        for (how, authorization) in WRONG {
            let sent = bench.anonymous(&bench.at(path), authorization, body).await;
            if !refused(&sent) {
                let why =
                    format!("{path} {how} {}; an invocation without it {}", sent.words(), wanted.words());
                bench.fault("AUT-01", why, &[wanted.n, sent.n]);
            }
        }
    }
    for (how, authorization) in WRONG {
        let sent = bench.anonymous(&endpoint, authorization, &invocation()).await;
        if !refused(&sent) {
            bench.fault("AUT-01", format!("an invocation {how} {}", sent.words()), &[wanted.n, sent.n]);
        }
    }
    Ok(())
}

async fn no_effect(bench: Bench) -> Outcome {
    let key = nonce();
    let call = bench.call("gate", json!({ "key": key })).send().await;
    bench.waiting(&key, 1).await?;
    let cancel = json!({ "thread_id": call.thread, "tool_call_id": call.id });
    let first = bench.anonymous(&bench.at("cancel_tool_call"), None, &cancel).await;
    let second = bench.anonymous(&bench.at("close_thread"), None, &cancel).await;
    bench.fence().await;
    if bench.ask("waiting", json!({ "key": key })).await? != "1" {
        bench.fault(
            "AUT-01",
            "a notice without authentication ended a call",
            &[call.sent.n, first.n, second.n],
        );
    }
    bench.run("open", json!({ "key": key })).await?;
    Ok(())
}
