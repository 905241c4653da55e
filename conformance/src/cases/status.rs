//! `tool_call_status`, an extension: whether a call is alive, and nothing more.

use super::transport::acknowledged;
use crate::{
    bench::{Bench, Call, text},
    case::{Case, Need, Outcome, Tier, case},
    listen::{Gate, Reaction},
    nonce::nonce,
    verdict::Stop,
};
use serde_json::json;

const STATUS: Need = Need::Extension("status");

pub(super) const CASES: &[Case] = &[
    case!("status/unknown", "an unknown call is not alive", ["STA-01"], Tier::Look, [STATUS], unknown),
    case!(
        "status/waiting",
        "a call is alive while it waits, and not after its result was taken",
        ["STA-01"],
        Tier::Fixture,
        [STATUS, Need::Tool("gate")],
        waiting
    ),
    case!(
        "status/result-owed",
        "a call is alive while its result has not been answered",
        ["STA-01"],
        Tier::Unknown,
        [STATUS],
        result_owed
    ),
    case!(
        "status/subscription",
        "a call is alive while its subscription lives, and not after its end",
        ["STA-01"],
        Tier::Fixture,
        [STATUS, Need::Tool("subscribe"), Need::Tool("emit")],
        subscription
    ),
];

async fn alive(bench: &Bench, thread: &str, call: &str) -> Result<(bool, u64), Stop> {
    let sent = bench.notice("tool_call_status", &json!({ "thread_id": thread, "tool_call_id": call })).await;
    if sent.status() != Some(200) {
        return bench.broken("STA-01", format!("tool_call_status {}, not 200", sent.words()), &[sent.n]);
    }
    let body = sent.answer.as_ref().map_err(Clone::clone).and_then(|a| a.body.json());
    match body {
        Ok(body) if body == json!({ "alive": true }) => Ok((true, sent.n)),
        Ok(body) if body == json!({ "alive": false }) => Ok((false, sent.n)),
        Ok(body) => {
            let why = format!(
                "tool_call_status says {body}; it should say whether the call is alive, nothing more"
            );
            bench.broken("STA-01", why, &[sent.n])
        }
        Err(why) => bench.broken("STA-01", format!("the answer of tool_call_status is {why}"), &[sent.n]),
    }
}

async fn expect(bench: &Bench, call: &Call, expected: bool, when: &str) -> Outcome {
    let (is, n) = alive(bench, &call.thread, &call.id).await?;
    if is != expected {
        let words = if is { "alive" } else { "not alive" };
        bench.fault("STA-01", format!("{when} a call is said to be {words}"), &[call.sent.n, n]);
    }
    Ok(())
}

async fn eventually_dead(bench: &Bench, call: &Call, when: &str) -> Outcome {
    let dead = bench.until(|| async { Ok(!alive(bench, &call.thread, &call.id).await?.0) }).await?;
    if !dead {
        bench.fault("STA-01", format!("{when} a call is still said to be alive"), &[call.sent.n]);
    }
    Ok(())
}

async fn unknown(bench: Bench) -> Outcome {
    let (is, n) = alive(&bench, &nonce(), &nonce()).await?;
    if is {
        bench.fault("STA-01", "a call that nobody made is said to be alive", &[n]);
    }
    Ok(())
}

async fn waiting(bench: Bench) -> Outcome {
    let key = nonce();
    let call = bench.call("gate", json!({ "key": key })).send().await;
    acknowledged!(call);
    bench.waiting(&key, 1).await?;
    expect(&bench, &call, true, "while it waits at a gate").await?;
    let (is, n) = alive(&bench, &nonce(), &call.id).await?;
    if is {
        bench.fault(
            "STA-01",
            "a call of another thread with the id of a waiting one is said to be alive",
            &[n],
        );
    }
    bench.run("open", json!({ "key": key })).await?;
    let result = bench.result(&call).await?;
    if text(&result) != "passed" {
        let why = format!(
            "a call whose status was asked for ended in {:?}; the question only reads",
            text(&result)
        );
        return bench.broken("STA-01", why, &[call.sent.n, n, result.n]);
    }
    eventually_dead(&bench, &call, "after its result was taken").await
}

async fn result_owed(bench: Bench) -> Outcome {
    let gate = Gate::default();
    let call = bench.simplest().react([Reaction::Hold(gate.clone(), 200)]).send().await;
    bench.result(&call).await?;
    let said = expect(&bench, &call, true, "while its result has not been answered").await;
    gate.open();
    said?;
    eventually_dead(&bench, &call, "after its result was taken").await
}

async fn subscription(bench: Bench) -> Outcome {
    let name = nonce();
    let (call, _) = bench.run("subscribe", json!({ "name": name })).await?;
    bench.run("emit", json!({ "name": name, "texts": ["one"] })).await?;
    bench.first(&call, "subscription_event").await?;
    expect(&bench, &call, true, "while its subscription lives").await?;
    bench.run("emit", json!({ "name": name, "texts": ["last"], "final": true })).await?;
    eventually_dead(&bench, &call, "after the final event of its subscription").await
}
