//! Authentication: what an invocation needs, everything else needs too.

use super::invocation::control;
use crate::{
    bench::{Bench, UNKNOWN},
    case::{Case, Need, Outcome, Tier, case},
    credentials::Stranger,
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
    let wanted = bench.post_as(Stranger::Nobody, &endpoint, &invocation()).await;
    if !refused(&wanted) {
        return Err(Stop::Unimplemented(format!(
            "authentication: an invocation without it {}",
            wanted.words()
        )));
    }
    // What a stranger may not do by an invocation, it may not do by a notice.
    let mut strangers = Vec::new();
    for stranger in bench.credentials.strangers() {
        let sent = bench.post_as(stranger, &endpoint, &invocation()).await;
        match stranger {
            _ if refused(&sent) => strangers.push(stranger),
            // How old a signature may be is the server's to say, as long as it says so everywhere.
            Stranger::Replay => {}
            _ => {
                let why = format!("an invocation {} {}", stranger.words(), sent.words());
                bench.fault("AUT-01", why, &[wanted.n, sent.n]);
            }
        }
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
        for stranger in &strangers {
            let sent = bench.post_as(*stranger, &bench.at(path), body).await;
            if !refused(&sent) {
                let (how, refusal) = (stranger.words(), wanted.words());
                let why =
                    format!("{path} {how} {}; an invocation without authentication {refusal}", sent.words());
                bench.fault("AUT-01", why, &[wanted.n, sent.n]);
            }
        }
    }
    Ok(())
}

async fn no_effect(bench: Bench) -> Outcome {
    let key = nonce();
    let call = bench.call("gate", json!({ "key": key })).send().await;
    bench.waiting(&key, 1).await?;
    let cancel = json!({ "thread_id": call.thread, "tool_call_id": call.id });
    let first = bench.post_as(Stranger::Nobody, &bench.at("cancel_tool_call"), &cancel).await;
    let second = bench.post_as(Stranger::Nobody, &bench.at("close_thread"), &cancel).await;
    bench.fence().await;
    if bench.ask("waiting", json!({ "key": key })).await? != "1" {
        bench.fault(
            "AUT-01",
            "a notice without authentication ended a call",
            &[call.sent.n, first.n, second.n],
        );
    }
    bench.cancel(&call).await;
    let ended =
        bench.until(|| async { Ok(bench.ask("waiting", json!({ "key": key })).await? == "0") }).await?;
    bench.run("open", json!({ "key": key })).await?;
    control(ended, "with authentication the notice does not end it either")
}
