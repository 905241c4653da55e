//! Sign-in: the judge plays the browser.

use super::invocation::control;
use crate::{
    bench::{Bench, Call, failed, first_result, text},
    case::{Case, Need, Outcome, Tier, case},
    http::Sent,
    listen::Arrived,
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};
use url::Url;

const SIGN_IN: Need = Need::Tool("sign_in");

pub(super) const CASES: &[Case] = &[
    case!(
        "oauth/allowed",
        "after authorization the server retries the operation itself and delivers the result",
        ["OAU-02"],
        Tier::Fixture,
        [SIGN_IN],
        allowed
    ),
    case!(
        "oauth/denied",
        "a refusal ends the call in an error result",
        ["OAU-02"],
        Tier::Fixture,
        [SIGN_IN],
        denied
    ),
    case!(
        "oauth/bad-code",
        "a code that the provider does not know ends the call in an error result",
        ["OAU-02"],
        Tier::Fixture,
        [SIGN_IN],
        bad_code
    ),
    case!(
        "oauth/url",
        "auth_url is https, or on loopback, and has a state of its own",
        ["OAU-03"],
        Tier::Fixture,
        [SIGN_IN],
        url
    ),
    case!(
        "oauth/state-checked",
        "a redirect with another state, or without one, is refused, and the call stays pending",
        ["OAU-03"],
        Tier::Fixture,
        [SIGN_IN],
        state_checked
    ),
    case!(
        "oauth/used-once",
        "a redirect that was used has no second effect",
        ["OAU-03"],
        Tier::Fixture,
        [SIGN_IN],
        used_once
    ),
    case!(
        "oauth/nothing-told",
        "neither code nor token is in any message",
        ["OAU-03"],
        Tier::Fixture,
        [SIGN_IN],
        nothing_told
    ),
    case!(
        "oauth/nothing-logged",
        "neither code nor token is in what the server logs",
        ["OAU-03"],
        Tier::Fixture,
        [SIGN_IN, Need::Spawn],
        nothing_logged
    ),
];

pub(super) async fn asked(bench: &Bench, arguments: Value) -> Result<(Call, String, Arrived), Stop> {
    let call = bench.call("sign_in", arguments).send().await;
    let message = bench.first(&call, "oauth").await?;
    let url = message.member("auth_url").as_str().unwrap_or_default().to_owned();
    Ok((call, url, message))
}

pub(super) async fn get(bench: &Bench, url: &str) -> Sent {
    bench.browse(url).await
}

/// The browser at the identity provider; where it is sent.
pub(super) async fn decide(bench: &Bench, auth_url: &str, decision: &str) -> Result<String, Stop> {
    let sent = get(bench, &format!("{auth_url}&decision={decision}")).await;
    let location = sent.answer.as_ref().ok().and_then(|a| a.header("location")).map(str::to_owned);
    let missing = || Stop::Inconclusive(format!("the identity provider of the fixture {}", sent.words()));
    let location = location.ok_or_else(missing)?;
    Ok(Url::parse(auth_url).and_then(|base| base.join(&location)).map_or(location, String::from))
}

/// A URL with one parameter of its query changed, or taken out.
fn altered(url: &str, name: &str, to: Option<&str>) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    let pairs: Vec<(String, String)> = parsed
        .query_pairs()
        .filter_map(|(n, v)| {
            if n == name { Some((n.into_owned(), to?.to_owned())) } else { Some((n.into(), v.into())) }
        })
        .collect();
    parsed.query_pairs_mut().clear().extend_pairs(pairs);
    parsed.into()
}

fn parameter(url: &str, name: &str) -> Option<String> {
    Url::parse(url).ok()?.query_pairs().find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
}

async fn outcome(bench: &Bench, call: &Call, numbers: &[u64], after: &str, fails: bool) -> Outcome {
    match bench.owed(&call.given, first_result).await {
        None => bench.fault("OAU-02", format!("after {after} no result came"), numbers),
        Some(result) if fails && !failed(&result) => {
            let why = format!("after {after} the result is {:?}, no error", text(&result));
            bench.fault("OAU-02", why, numbers);
        }
        Some(result) if !fails && text(&result) != "signed in" => {
            let why = format!("after {after} the result is {:?}, not that of the operation", text(&result));
            bench.fault("OAU-02", why, numbers);
        }
        Some(_) => {}
    }
    Ok(())
}

async fn allowed(bench: Bench) -> Outcome {
    let counter = nonce();
    let (call, url, message) = asked(&bench, json!({ "count": counter })).await?;
    let back = decide(&bench, &url, "allow").await?;
    let sent = get(&bench, &back).await;
    let numbers = [call.sent.n, message.n, sent.n];
    outcome(&bench, &call, &numbers, "authorization", false).await?;
    let value = bench.ask("count", json!({ "key": counter })).await?;
    if value != "1" && !call.messages("tool_result").is_empty() {
        let why = format!("after authorization the operation was done {value} times");
        bench.fault("OAU-02", why, &numbers);
    }
    Ok(())
}

async fn denied(bench: Bench) -> Outcome {
    let (call, url, message) = asked(&bench, json!({})).await?;
    let back = decide(&bench, &url, "deny").await?;
    let sent = get(&bench, &back).await;
    outcome(&bench, &call, &[call.sent.n, message.n, sent.n], "a refusal", true).await
}

async fn bad_code(bench: Bench) -> Outcome {
    let (call, url, message) = asked(&bench, json!({})).await?;
    let back = decide(&bench, &url, "allow").await?;
    let sent = get(&bench, &altered(&back, "code", Some(&format!("fixture-code-{}", nonce())))).await;
    outcome(&bench, &call, &[call.sent.n, message.n, sent.n], "a code that is none", true).await
}

async fn url(bench: Bench) -> Outcome {
    let (call, first, message) = asked(&bench, json!({})).await?;
    let (other, second, _) = asked(&bench, json!({})).await?;
    if let Some(why) = crate::rules::insecure(&first) {
        bench.fault("OAU-03", why, &[call.sent.n, message.n]);
    }
    let (one, two) = (parameter(&first, "state"), parameter(&second, "state"));
    if one.as_deref().is_none_or(str::is_empty) {
        bench.fault("OAU-03", "auth_url has no state", &[call.sent.n, message.n]);
    } else if one == two {
        bench.fault("OAU-03", "two sign-ins have the same state", &[call.sent.n, other.sent.n]);
    }
    bench.cancel(&call).await;
    bench.cancel(&other).await;
    Ok(())
}

async fn state_checked(bench: Bench) -> Outcome {
    let (call, url, message) = asked(&bench, json!({})).await?;
    let back = decide(&bench, &url, "allow").await?;
    for state in [Some(nonce()), None] {
        let wrong = get(&bench, &altered(&back, "state", state.as_deref())).await;
        bench.fence().await;
        let how = if state.is_some() { "another state" } else { "no state" };
        let numbers = [call.sent.n, message.n, wrong.n];
        if first_result(&call.given.arrived()).is_some() {
            let why = format!("a redirect with {how} ended the call");
            return bench.broken("OAU-03", why, &numbers);
        }
        if wrong.status().is_none_or(|s| !(400..500).contains(&s)) {
            bench.fault("OAU-03", format!("a redirect with {how} {}, not 4xx", wrong.words()), &numbers);
        }
    }
    // The right one differs in nothing but the state.
    get(&bench, &back).await;
    let result = bench.result(&call).await?;
    control(text(&result) == "signed in", "the right redirect does not work either")
}

async fn used_once(bench: Bench) -> Outcome {
    let counter = nonce();
    let (call, url, _) = asked(&bench, json!({ "count": counter })).await?;
    let back = decide(&bench, &url, "allow").await?;
    get(&bench, &back).await;
    bench.result(&call).await?;
    let second = get(&bench, &back).await;
    bench.fence().await;
    let value = bench.ask("count", json!({ "key": counter })).await?;
    if second.status().is_none_or(|s| !(400..500).contains(&s)) || value != "1" {
        let why = format!(
            "a redirect that had been used {}, and the operation was done {value} times",
            second.words()
        );
        bench.fault("OAU-03", why, &[call.sent.n, second.n]);
    }
    Ok(())
}

async fn nothing_told(bench: Bench) -> Outcome {
    let mut numbers = Vec::new();
    let mut codes = Vec::new();
    let mut calls = Vec::new();
    for decision in ["allow", "deny", "bad"] {
        let (call, url, _) = asked(&bench, json!({})).await?;
        let back = decide(&bench, &url, if decision == "deny" { "deny" } else { "allow" }).await?;
        codes.extend(parameter(&back, "code"));
        let bad = format!("fixture-code-{}", nonce());
        let back = if decision == "bad" { altered(&back, "code", Some(&bad)) } else { back };
        get(&bench, &back).await;
        calls.push(call);
    }
    for call in calls {
        let _ = bench.result(&call).await;
        for message in call.given.arrived() {
            let whole = bench.exchange(message.n).map(|e| e.body.text()).unwrap_or_default();
            let told = codes.iter().any(|code| whole.contains(code.as_str()));
            if told || whole.contains("fixture-code-") || whole.contains("fixture-token-") {
                numbers.push(message.n);
            }
        }
    }
    if !numbers.is_empty() {
        bench.fault("OAU-03", "a code or a token is in a message", &numbers);
    }
    Ok(())
}

async fn nothing_logged(bench: Bench) -> Outcome {
    let Some(spawned) = &bench.spawned else { return Ok(()) };
    // Asked for before it can be said, and so found however much is said besides.
    let mut secrets = vec!["fixture-token-".to_owned()];
    let mut told = spawned.lock().await.has_said(&secrets[0]);
    let mut numbers = Vec::new();
    for decision in ["allow", "bad"] {
        let (call, url, _) = asked(&bench, json!({})).await?;
        let back = decide(&bench, &url, "allow").await?;
        if let Some(code) = parameter(&back, "code") {
            told |= spawned.lock().await.has_said(&code);
            secrets.push(code);
        }
        let bad = format!("fixture-code-{}", nonce());
        let sent =
            get(&bench, &if decision == "bad" { altered(&back, "code", Some(&bad)) } else { back }).await;
        numbers.extend([call.sent.n, sent.n]);
        let _ = bench.result(&call).await;
    }
    bench.fence().await;
    let spawned = spawned.lock().await;
    if told || secrets.iter().any(|secret| spawned.has_said(secret)) {
        bench.fault("OAU-03", "a code or a token is in what the server logs", &numbers);
    }
    Ok(())
}
