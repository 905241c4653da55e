//! What outlives a kill: the server is killed without warning and started again, and keeps its word.

use super::{invocation::control, oauth, transport::acknowledged};
use crate::{
    bench::{Bench, Call, failed, first_result, text},
    case::{Case, Need, Outcome, Tier, case},
    listen::{Arrived, Gate, Reaction},
    nonce::nonce,
};
use serde_json::json;

pub(super) const CASES: &[Case] = &[
    case!(
        "durable/waiting-call",
        "a call that waited when the server was killed still ends in a result",
        ["ERR-03"],
        Tier::Fixture,
        [Need::Durable("gate")],
        waiting_call,
        alone
    ),
    case!(
        "durable/result-owed",
        "a result that had not been taken when the server was killed is delivered afterwards",
        ["ERR-03"],
        Tier::Fixture,
        [Need::Durable("count")],
        result_owed,
        alone
    ),
    case!(
        "durable/sent-again-after-restart",
        "a call that is sent again after a restart does its work once",
        ["INV-10"],
        Tier::Fixture,
        [Need::Durable("count")],
        sent_again_after_restart,
        alone
    ),
    case!(
        "durable/question",
        "a question that was open when the server was killed can still be answered",
        ["ERR-03"],
        Tier::Fixture,
        [Need::Durable("choose")],
        question,
        alone
    ),
    case!(
        "durable/sign-in",
        "a sign-in that was open when the server was killed can still be finished",
        ["ERR-03"],
        Tier::Fixture,
        [Need::Durable("sign_in")],
        sign_in,
        alone
    ),
    case!(
        "durable/subscription",
        "a subscription goes on after a restart, and one that had ended stays ended",
        ["SUB-10", "SUB-07"],
        Tier::Fixture,
        [Need::Durable("subscribe"), Need::Tool("emit")],
        subscription,
        alone
    ),
    case!(
        "durable/event-owed",
        "an event that had not been taken when the server was killed is delivered afterwards",
        ["SUB-10"],
        Tier::Fixture,
        [Need::Durable("subscribe"), Need::Tool("emit")],
        event_owed,
        alone
    ),
];

async fn waiting_call(bench: Bench) -> Outcome {
    let key = nonce();
    let call = bench.call("gate", json!({ "key": key })).send().await;
    acknowledged!(call);
    bench.waiting(&key, 1).await?;
    bench.restart().await?;
    bench.run("open", json!({ "key": key })).await?;
    if bench.owed(&call.given, first_result).await.is_none() {
        let why = "a call that was acknowledged before a kill got no result after the restart";
        bench.fault("ERR-03", why, &[call.sent.n]);
    }
    Ok(())
}

async fn result_owed(bench: Bench) -> Outcome {
    let key = nonce();
    let draft = bench.call("count", json!({ "key": key, "add": 1 }));
    // Held until the kill breaks the connection: it has left the server and has not been taken.
    let call = draft.react([Reaction::Hold(Gate::default(), 200)]).send().await;
    acknowledged!(call);
    bench.result(&call).await?;
    let before = call.given.arrived().len();
    bench.restart().await?;
    let more = |all: &[Arrived]| (all.len() > before).then(|| all[before].clone());
    match bench.owed(&call.given, more).await {
        None => {
            let why = "a result that was not taken before a kill was not delivered after the restart";
            bench.fault("ERR-03", why, &[call.sent.n]);
        }
        Some(result) if !failed(&result) && text(&result) != "1" => {
            let why = format!("after a kill the result of one call says {:?}, not \"1\"", text(&result));
            bench.fault("ERR-03", why, &[call.sent.n, result.n]);
        }
        Some(_) => {}
    }
    let value = bench.ask("count", json!({ "key": key })).await?;
    if value != "1" {
        let why = format!("after a kill the counter of one call stands at {value}");
        bench.fault("ERR-03", why, &[call.sent.n]);
    }
    Ok(())
}

async fn sent_again_after_restart(bench: Bench) -> Outcome {
    let key = nonce();
    let (call, _) = bench.run("count", json!({ "key": key, "add": 1 })).await?;
    bench.fence().await;
    bench.restart().await?;
    let again = bench.post(&bench.place().endpoint, &call.body).await;
    bench.fence().await;
    bench.fence().await;
    let value = bench.ask("count", json!({ "key": key })).await?;
    if value != "1" {
        let why = format!("a call that was sent again after a restart left the counter at {value}, not 1");
        bench.fault("INV-10", why, &[call.sent.n, again.n]);
    }
    Ok(())
}

async fn question(bench: Bench) -> Outcome {
    let call = bench.call("choose", json!({ "prompt": "Which?", "choices": ["red", "green"] })).send().await;
    let asked = bench.first(&call, "user_choice").await?;
    bench.fence().await;
    bench.restart().await?;
    let url = asked.member("response_url").as_str().unwrap_or_default();
    let sent = bench.post(url, &json!({ "id": call.id, "selected": 1 })).await;
    match bench.owed(&call.given, first_result).await {
        None => {
            let why =
                format!("a question was answered after a restart ({}), and no result came", sent.words());
            bench.fault("ERR-03", why, &[call.sent.n, asked.n, sent.n]);
        }
        Some(result) if !failed(&result) && text(&result) != "green" => {
            bench.fault(
                "ERR-03",
                "a question was answered after a restart, and another answer arrived",
                &[call.sent.n, sent.n, result.n],
            );
        }
        Some(_) => {}
    }
    Ok(())
}

async fn sign_in(bench: Bench) -> Outcome {
    let (call, url, asked) = oauth::asked(&bench, json!({})).await?;
    let back = oauth::decide(&bench, &url, "allow").await?;
    bench.fence().await;
    bench.restart().await?;
    let sent = oauth::get(&bench, &back).await;
    if bench.owed(&call.given, first_result).await.is_none() {
        let why = format!("the redirect of a sign-in after a restart {}, and no result came", sent.words());
        bench.fault("ERR-03", why, &[call.sent.n, asked.n, sent.n]);
    }
    Ok(())
}

fn event(said: &'static str) -> impl Fn(&[Arrived]) -> Option<Arrived> {
    move |all| all.iter().find(|a| a.is("subscription_event") && a.member("text") == said).cloned()
}

async fn subscribed(bench: &Bench, name: &str) -> Result<Call, crate::verdict::Stop> {
    let (call, result) = bench.run("subscribe", json!({ "name": name })).await?;
    control(!failed(&result), "the subscription was refused")?;
    Ok(call)
}

async fn subscription(bench: Bench) -> Outcome {
    let (name, ended) = (nonce(), nonce());
    let call = subscribed(&bench, &name).await?;
    let over = subscribed(&bench, &ended).await?;
    bench.cancel(&over).await;
    bench.until(|| async { Ok(failed(&emit(&bench, &ended, "probe").await?)) }).await?;
    bench.restart().await?;
    let (emitted, _) = bench.run("emit", json!({ "name": name, "texts": ["after"] })).await?;
    if bench.owed(&call.given, event("after")).await.is_none() {
        let why = "a subscription that lived before a kill delivers nothing after the restart";
        bench.fault("SUB-10", why, &[call.sent.n, emitted.sent.n]);
    }
    emit(&bench, &ended, "too late").await?;
    bench.fence().await;
    if let Some(event) = event("too late")(&over.given.arrived()) {
        let why = "a subscription that was cancelled before a kill delivers events after the restart";
        bench.fault("SUB-07", why, &[over.sent.n, event.n]);
    }
    Ok(())
}

async fn emit(bench: &Bench, name: &str, text: &str) -> Result<Arrived, crate::verdict::Stop> {
    Ok(bench.run("emit", json!({ "name": name, "texts": [text] })).await?.1)
}

async fn event_owed(bench: Bench) -> Outcome {
    let name = nonce();
    let draft = bench.call("subscribe", json!({ "name": name }));
    let call = draft.react([Reaction::Status(200), Reaction::Hold(Gate::default(), 200)]).send().await;
    bench.result(&call).await?;
    emit(&bench, &name, "owed").await?;
    let refused = bench.owed(&call.given, event("owed")).await;
    control(refused.is_some(), "the event never came")?;
    let before = call.given.arrived().len();
    bench.restart().await?;
    let more = |all: &[Arrived]| event("owed")(all.get(before..)?);
    if bench.owed(&call.given, more).await.is_none() {
        let why = "an event that was not taken before a kill was not delivered after the restart";
        bench.fault("SUB-10", why, &[call.sent.n]);
    }
    Ok(())
}
