//! Subscriptions: the result first, then events, and none after the end.

use super::{invocation::control, transport::acknowledged};
use crate::{
    bench::{Bench, Call, failed, text},
    case::{Case, Need, Outcome, Tier, case},
    http::Sent,
    listen::{Arrived, Gate, Reaction},
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};
use std::collections::HashSet;

const SUBSCRIBE: Need = Need::Tool("subscribe");
const EMIT: Need = Need::Tool("emit");

pub(super) const CASES: &[Case] = &[
    case!(
        "subscriptions/result-says-so",
        "the subscribing call gets a tool_result with subscription: true",
        ["SUB-01"],
        Tier::Fixture,
        [SUBSCRIBE],
        result_says_so
    ),
    case!(
        "subscriptions/refused-does-not-say-so",
        "a subscription that could not be made ends in an error result without subscription: true",
        ["SUB-01"],
        Tier::Fixture,
        [SUBSCRIBE],
        refused_does_not_say_so
    ),
    case!(
        "subscriptions/result-first",
        "while the answer to the result is held back no event is sent; afterwards they come",
        ["SUB-01"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        result_first
    ),
    case!(
        "subscriptions/no-event-after-refused-result",
        "when the result was answered 4xx no event is ever sent, and none before it was taken where it was answered 5xx",
        ["SUB-01"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        no_event_after_refused_result
    ),
    case!(
        "subscriptions/events-name-the-call",
        "events carry the id of the subscribing call and the text that was emitted",
        ["TRN-13"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        events_name_the_call
    ),
    case!(
        "subscriptions/none-after-cancel",
        "after a cancellation no event is sent, while another subscription goes on",
        ["SUB-07"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        none_after_cancel
    ),
    case!(
        "subscriptions/no-retry-after-cancel",
        "an event that was not taken is not sent again once its subscription is cancelled",
        ["SUB-07"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        no_retry_after_cancel
    ),
    case!(
        "subscriptions/none-after-cancel-before-answer",
        "a subscription that is cancelled before its result is answered sends no event afterwards",
        ["SUB-07"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        none_after_cancel_before_answer
    ),
    case!(
        "subscriptions/none-after-final",
        "after a final event no event is sent",
        ["SUB-07"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        none_after_final
    ),
    case!(
        "subscriptions/event-sent-again",
        "an event that was answered 500 is sent again",
        ["TRN-05"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        event_sent_again
    ),
    case!(
        "subscriptions/event-refused",
        "an event that was answered 404 is not sent again",
        ["TRN-06"],
        Tier::Fixture,
        [SUBSCRIBE, EMIT],
        event_refused
    ),
    case!(
        "subscriptions/event-ids",
        "each event has its own event_id, the same whenever it is sent",
        ["SUB-13"],
        Tier::Fixture,
        [Need::Extension("event-id"), SUBSCRIBE, EMIT],
        event_ids
    ),
];

fn events(all: &[Arrived]) -> Vec<Arrived> {
    all.iter().filter(|a| a.is("subscription_event")).cloned().collect()
}

/// Waits for so many events.
async fn some_events(bench: &Bench, call: &Call, count: usize) -> Result<Vec<Arrived>, Stop> {
    let enough = |all: &[Arrived]| {
        let found = events(all);
        (found.len() >= count).then_some(found)
    };
    bench.owed(&call.given, enough).await.ok_or_else(|| {
        Stop::Inconclusive(format!("fewer than {count} events came, so nothing can be said of them"))
    })
}

async fn emit(bench: &Bench, name: &str, texts: &[&str]) -> Result<Arrived, Stop> {
    Ok(bench.run("emit", json!({ "name": name, "texts": texts })).await?.1)
}

async fn subscribed(bench: &Bench, name: &str) -> Result<Call, Stop> {
    let (call, result) = bench.run("subscribe", json!({ "name": name })).await?;
    control(!failed(&result), "the subscription was refused")?;
    Ok(call)
}

/// After something that ends a subscription: emits until that is refused, and sees that no event comes of it.
/// The release may be in the background, so what was handed over before the first refusal may still come, unless
/// nothing is ever refused.
pub(super) async fn silent(
    bench: &Bench,
    obligation: &str,
    after: &str,
    name: &str,
    call: &Call,
    notice: &Sent,
) -> Outcome {
    bench.fence().await;
    let refused = bench.until(|| async { Ok(failed(&emit(bench, name, &["after"]).await?)) }).await?;
    bench.fence().await;
    let before = events(&call.given.arrived()).len();
    emit(bench, name, &["long after"]).await?;
    bench.fence().await;
    let came = events(&call.given.arrived());
    let late = came.iter().filter(|e| e.member("text") == "long after").count();
    if late > 0 || came.len() > before || (!refused && !came.is_empty()) {
        let numbers: Vec<u64> = [call.sent.n, notice.n].into_iter().chain(came.last().map(|e| e.n)).collect();
        bench.fault(obligation, format!("an event came after {after}"), &numbers);
    }
    Ok(())
}

async fn result_says_so(bench: Bench) -> Outcome {
    let (call, result) = bench.run("subscribe", json!({ "name": nonce() })).await?;
    if result.member("subscription") != true {
        let why =
            format!("the result of a subscribing call says subscription: {}", result.member("subscription"));
        bench.fault("SUB-01", why, &[call.sent.n, result.n]);
    }
    Ok(())
}

async fn refused_does_not_say_so(bench: Bench) -> Outcome {
    let name = nonce();
    let (call, result) = bench.run("subscribe", json!({ "name": name, "refuse": true })).await?;
    if result.member("subscription") == true {
        let why = "a subscription that was refused says subscription: true";
        bench.fault("SUB-01", why, &[call.sent.n, result.n]);
    }
    Ok(())
}

async fn result_first(bench: Bench) -> Outcome {
    let (name, gate) = (nonce(), Gate::default());
    let draft = bench.call("subscribe", json!({ "name": name, "events": ["one", "two"] }));
    let call = draft.react([Reaction::Hold(gate.clone(), 200)]).send().await;
    let first = bench.result(&call).await;
    if first.is_err() && !call.given.arrived().is_empty() {
        gate.open();
        let early: Vec<u64> = call.given.arrived().iter().map(|a| a.n).collect();
        return bench.broken("SUB-01", "an event came before the result", &early);
    }
    first?;
    emit(&bench, &name, &["three"]).await?;
    bench.fence().await;
    let early = events(&call.given.arrived());
    gate.open();
    if let Some(event) = early.first() {
        let why = "an event was sent while the result had not been answered";
        return bench.broken("SUB-01", why, &[call.sent.n, event.n]);
    }
    let texts: Vec<String> =
        some_events(&bench, &call, 3).await?.iter().map(|e| text(e).to_owned()).collect();
    control(texts == ["one", "two", "three"], "the events came in another order")
}

async fn no_event_after_refused_result(bench: Bench) -> Outcome {
    let (name, other) = (nonce(), nonce());
    let draft = bench.call("subscribe", json!({ "name": name, "events": ["never"] }));
    let call = draft.react([Reaction::Status(404)]).send().await;
    let (control_call, _) = bench.run("subscribe", json!({ "name": other, "events": ["control"] })).await?;
    bench.result(&call).await?;
    emit(&bench, &name, &["never either"]).await?;
    emit(&bench, &other, &["control"]).await?;
    some_events(&bench, &control_call, 2).await?;
    bench.fence().await;
    if let Some(event) = events(&call.given.arrived()).first() {
        let why = "an event was sent although the result had been answered 404";
        bench.fault("SUB-01", why, &[call.sent.n, event.n]);
    }
    no_event_after_failed_result(&bench).await
}

/// A result that was answered 500 or 503 has not been taken yet: it comes again, and the events after it.
async fn no_event_after_failed_result(bench: &Bench) -> Outcome {
    let mut failing = vec![(500, bench.give())];
    // A server may slow down a whole origin that says 503, hence a port of its own, where it can have one.
    if let Ok(listener) = bench.own_listener().await {
        failing.push((503, listener.give(bench.case())));
    }
    for (status, given) in failing {
        given.react([Reaction::Status(status)]);
        let draft = bench.call("subscribe", json!({ "name": nonce(), "events": ["later"] }));
        let call = draft.to(&given).send().await;
        acknowledged!(call);
        // The control: once it is taken, they come.
        some_events(bench, &call, 1).await?;
        let all = given.arrived();
        let event = all.iter().position(|a| a.is("subscription_event")).unwrap_or(all.len());
        // The first attempt was answered with the failure, the second with 200.
        if all[..event].iter().filter(|a| a.is("tool_result")).count() < 2 {
            let why = format!(
                "an event was sent when the result had been answered {status} and had not been taken yet"
            );
            let numbers: Vec<u64> = [call.sent.n].into_iter().chain(all.iter().map(|a| a.n)).collect();
            return bench.broken("SUB-01", why, &numbers);
        }
    }
    Ok(())
}

async fn events_name_the_call(bench: Bench) -> Outcome {
    let name = nonce();
    let call = subscribed(&bench, &name).await?;
    emit(&bench, &name, &["first", "second"]).await?;
    for (event, said) in some_events(&bench, &call, 2).await?.iter().zip(["first", "second"]) {
        for (member, expected) in
            [("tool_call_id", json!(call.id)), ("group_id", json!(call.thread)), ("text", json!(said))]
        {
            if *event.member(member) != expected {
                let why = format!("an event says {member} {}, not {expected}", event.member(member));
                bench.fault("TRN-13", why, &[call.sent.n, event.n]);
            }
        }
    }
    Ok(())
}

async fn none_after_cancel(bench: Bench) -> Outcome {
    let (name, other) = (nonce(), nonce());
    let call = subscribed(&bench, &name).await?;
    let control_call = subscribed(&bench, &other).await?;
    let notice = bench.cancel(&call).await;
    silent(&bench, "SUB-07", "its subscription was cancelled", &name, &call, &notice).await?;
    emit(&bench, &other, &["control"]).await?;
    some_events(&bench, &control_call, 1).await?;
    Ok(())
}

async fn none_after_cancel_before_answer(bench: Bench) -> Outcome {
    let mut calls = Vec::new();
    for _ in 0..2 {
        let gate = Gate::default();
        let draft = bench.call("subscribe", json!({ "name": nonce(), "events": ["waiting"] }));
        let call = draft.react([Reaction::Hold(gate.clone(), 200)]).send().await;
        bench.result(&call).await?;
        calls.push((call, gate));
    }
    let (cancelled, control_call) = (&calls[0], &calls[1]);
    // What was sent while the result was not even answered is another matter.
    bench.fence().await;
    let early = events(&cancelled.0.given.arrived()).len();
    let notice = bench.cancel(&cancelled.0).await;
    bench.fence().await;
    cancelled.1.open();
    control_call.1.open();
    some_events(&bench, &control_call.0, 1).await?;
    bench.fence().await;
    if let Some(event) = events(&cancelled.0.given.arrived()).get(early) {
        let why = "a subscription was cancelled before its result was answered, and an event came afterwards";
        bench.fault("SUB-07", why, &[cancelled.0.sent.n, notice.n, event.n]);
    }
    Ok(())
}

async fn no_retry_after_cancel(bench: Bench) -> Outcome {
    let mut calls = Vec::new();
    for _ in 0..2 {
        let name = nonce();
        let draft = bench.call("subscribe", json!({ "name": name }));
        let call = draft.react([200, 500, 500, 500, 500].map(Reaction::Status)).send().await;
        bench.result(&call).await?;
        emit(&bench, &name, &["refused"]).await?;
        some_events(&bench, &call, 1).await?;
        calls.push(call);
    }
    let (cancelled, control_call) = (&calls[0], &calls[1]);
    let notice = bench.cancel(cancelled).await;
    bench.fence().await;
    // What was under way at the notice may have come by now; the control goes on meanwhile.
    let before = events(&cancelled.given.arrived()).len();
    let control_before = events(&control_call.given.arrived()).len();
    some_events(&bench, control_call, control_before.max(2) + 1).await?;
    bench.fence().await;
    let came = events(&cancelled.given.arrived());
    if came.len() > before {
        let why = "an event that was answered 500 was sent again after its subscription was cancelled";
        bench.fault("SUB-07", why, &[cancelled.sent.n, notice.n, came[before].n]);
    }
    Ok(())
}

async fn none_after_final(bench: Bench) -> Outcome {
    let (name, other) = (nonce(), nonce());
    let call = subscribed(&bench, &name).await?;
    let control_call = subscribed(&bench, &other).await?;
    bench.run("emit", json!({ "name": name, "texts": ["last"], "final": true })).await?;
    let last = some_events(&bench, &call, 1).await?;
    control(last[0].member("final") == true, "the final event does not say so")?;
    emit(&bench, &name, &["after the last"]).await?;
    emit(&bench, &other, &["control"]).await?;
    some_events(&bench, &control_call, 1).await?;
    bench.fence().await;
    if let Some(event) = events(&call.given.arrived()).get(1) {
        bench.fault("SUB-07", "an event came after the final one", &[call.sent.n, last[0].n, event.n]);
    }
    Ok(())
}

async fn event_sent_again(bench: Bench) -> Outcome {
    let name = nonce();
    let draft = bench.call("subscribe", json!({ "name": name }));
    let call = draft.react([Reaction::Status(200), Reaction::Status(500)]).send().await;
    acknowledged!(call);
    bench.result(&call).await?;
    emit(&bench, &name, &["again"]).await?;
    let all = some_events(&bench, &call, 1).await?;
    if some_events(&bench, &call, 2).await.is_err() {
        let why = "an event that was answered 500 was not sent again";
        bench.fault("TRN-05", why, &[call.sent.n, all[0].n]);
    }
    Ok(())
}

async fn event_refused(bench: Bench) -> Outcome {
    let (name, other) = (nonce(), nonce());
    let refused = bench.call("subscribe", json!({ "name": name }));
    let refused = refused.react([200, 404, 404, 404].map(Reaction::Status)).send().await;
    bench.result(&refused).await?;
    let again = bench.call("subscribe", json!({ "name": other }));
    let again = again.react([200, 500, 500].map(Reaction::Status)).send().await;
    bench.result(&again).await?;
    emit(&bench, &name, &["refused"]).await?;
    emit(&bench, &other, &["again"]).await?;
    some_events(&bench, &refused, 1).await?;
    // When the control was sent for the third time, the refused one had its time too.
    let control = some_events(&bench, &again, 3).await;
    let all = events(&refused.given.arrived());
    if all.len() > 1 {
        let why = format!("an event that was answered 404 was sent {} times", all.len());
        bench.fault("TRN-06", why, &[refused.sent.n, all[1].n]);
    }
    control.map(drop)
}

async fn event_ids(bench: Bench) -> Outcome {
    let name = nonce();
    let draft = bench.call("subscribe", json!({ "name": name }));
    let call = draft.react([Reaction::Status(200), Reaction::Status(500)]).send().await;
    bench.result(&call).await?;
    emit(&bench, &name, &["same", "same"]).await?;
    let all = some_events(&bench, &call, 3).await?;
    let ids: Vec<&Value> = all.iter().map(|e| e.member("event_id")).collect();
    let numbers: Vec<u64> = all.iter().map(|e| e.n).collect();
    if ids.iter().any(|id| !id.is_string()) {
        bench.fault("SUB-13", "`event-id` is declared, and an event has no event_id", &numbers);
    } else if ids[0] != ids[1] {
        bench.fault("SUB-13", "an event that was sent again has another event_id", &numbers);
    } else if ids.iter().map(|id| id.to_string()).collect::<HashSet<_>>().len() != 2 {
        bench.fault("SUB-13", "two events have the same event_id", &numbers);
    }
    Ok(())
}
