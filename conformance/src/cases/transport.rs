//! The way messages travel: acknowledged at once, delivered until taken, given up when refused.

use crate::{
    bench::{Bench, Call, failed, first_result, given},
    case::{Case, Need, Outcome, Tier, case},
    listen::{Arrived, Gate, Reaction},
    nonce::nonce,
    trace::Body,
    verdict::Stop,
};
use serde_json::json;
use std::time::Duration;

pub(super) const CASES: &[Case] = &[
    case!(
        "transport/ack-before-work",
        "a call that waits at a closed gate has been acknowledged with 200",
        ["TRN-02"],
        Tier::Fixture,
        [Need::Tool("gate")],
        ack_before_work
    ),
    case!(
        "transport/ack-before-outcome-is-taken",
        "the acknowledgement does not wait until the outcome has been answered",
        ["TRN-02"],
        Tier::Unknown,
        [],
        ack_before_outcome_is_taken
    ),
    case!(
        "transport/retry-after-500",
        "a callback that was answered 500 is sent again, with growing pauses, until it is taken",
        ["TRN-05"],
        Tier::Unknown,
        [],
        retry_after_500
    ),
    case!(
        "transport/retry-after-503",
        "a callback that was answered 503 is sent again",
        ["TRN-05"],
        Tier::Unknown,
        [],
        retry_after_503
    ),
    case!(
        "transport/retry-after-broken-connection",
        "a callback whose connection broke before an answer is sent again",
        ["TRN-05"],
        Tier::Unknown,
        [],
        retry_after_broken_connection
    ),
    case!(
        "transport/retry-after-refused-connection",
        "a callback whose connection was refused is sent again, and comes when the port is open",
        ["TRN-05"],
        Tier::Unknown,
        [],
        retry_after_refused_connection
    ),
    case!(
        "transport/retry-after-timeout",
        "a callback that is never answered is sent again",
        ["TRN-05"],
        Tier::Fixture,
        [Need::Tool("echo")],
        retry_after_timeout
    ),
    case!(
        "transport/no-retry-after-4xx",
        "a callback that was answered 4xx is not sent again, while one that was answered 500 is",
        ["TRN-06"],
        Tier::Unknown,
        [],
        no_retry_after_4xx
    ),
    case!(
        "transport/odd-urls",
        "callback URLs with odd paths and queries are used exactly as given",
        ["TRN-07"],
        Tier::Unknown,
        [],
        odd_urls
    ),
    case!(
        "transport/redirected",
        "a redirect leads a callback to no other URL than the one that was given",
        ["TRN-07"],
        Tier::Unknown,
        [],
        redirected
    ),
    case!(
        "transport/unknown-members",
        "members that nobody knows change nothing, in invocations and in notices",
        ["TRN-10"],
        Tier::Unknown,
        [],
        unknown_members
    ),
    case!(
        "transport/null-is-absence",
        "optional members that are null are taken as absent",
        ["TRN-10"],
        Tier::Unknown,
        [],
        null_is_absence
    ),
];

/// Sends a call and says whether it was acknowledged; the case ends where not.
macro_rules! acknowledged {
    ($call:expr) => {
        if !$call.acknowledged() {
            let why = format!("the call that this would be tried on {}", $call.sent.words());
            return Err($crate::verdict::Stop::Inconclusive(why));
        }
    };
}
pub(super) use acknowledged;

async fn ack_before_work(bench: Bench) -> Outcome {
    let key = nonce();
    let call = bench.call("gate", json!({ "key": key })).send().await;
    if call.sent.status() != Some(200) {
        let words = call.sent.words();
        let why =
            format!("while its gate is closed, the call {words}; it must be acknowledged before it works");
        bench.fault("TRN-02", why, &[call.sent.n]);
    } else if let Some(early) = first_result(&call.given.arrived()) {
        return Err(Stop::Inconclusive(format!(
            "the gate was passed before it was open (exchange {})",
            early.n
        )));
    }
    bench.run("open", json!({ "key": key })).await?;
    if call.acknowledged() {
        bench.result(&call).await?;
    }
    Ok(())
}

async fn ack_before_outcome_is_taken(bench: Bench) -> Outcome {
    let gate = Gate::default();
    let call = bench.simplest().react([Reaction::Hold(gate.clone(), 200)]).send().await;
    gate.open();
    // A refusal is another matter; here it is about an answer that never comes.
    if call.sent.answer.is_err() {
        let why =
            format!("while the answer to its outcome is held back, the invocation {}", call.sent.words());
        bench.fault("TRN-02", why, &[call.sent.n]);
    }
    Ok(())
}

/// Waits until so many messages have arrived for a call.
pub(super) async fn arrivals(bench: &Bench, call: &Call, count: usize) -> Vec<Arrived> {
    let enough = |all: &[Arrived]| (all.len() >= count).then(|| all.to_vec());
    match bench.owed(&call.given, enough).await {
        Some(all) => all,
        None => call.given.arrived(),
    }
}

fn numbers(call: &Call, all: &[Arrived]) -> Vec<u64> {
    [call.sent.n].into_iter().chain(all.iter().map(|a| a.n)).collect()
}

async fn retried(bench: &Bench, call: &Call, count: usize, after: &str) -> Result<Vec<Arrived>, Stop> {
    acknowledged_or(call)?;
    let all = arrivals(bench, call, count).await;
    if all.is_empty() {
        return Err(Stop::Inconclusive("no message came, so none could be sent again".to_owned()));
    }
    if all.len() < count {
        let why = format!(
            "after {after} the message was sent {} time(s); it should have been sent again, {count} times in all",
            all.len()
        );
        return bench.broken("TRN-05", why, &numbers(call, &all));
    }
    Ok(all)
}

fn acknowledged_or(call: &Call) -> Outcome {
    acknowledged!(call);
    Ok(())
}

async fn retry_after_500(bench: Bench) -> Outcome {
    // Growth is judged by the shortest pauses of several calls: whatever else runs makes pauses longer, seldom
    // shorter.
    let mut calls = Vec::new();
    for _ in 0..5 {
        calls.push(bench.simplest().react([500, 500, 500].map(Reaction::Status)).send().await);
    }
    let mut shown = Vec::new();
    for call in &calls {
        shown = numbers(call, &retried(&bench, call, 3, "two answers 500").await?);
    }
    let (first, second) = (pause(&calls, 0), pause(&calls, 1));
    // A steady pace has a quotient of 1, and the usual schedules 2. Of short pauses the third is looked at, since the
    // machine's own slowness hides the growth of the first two.
    let grown = if first < 1000 {
        for call in &calls {
            arrivals(&bench, call, 4).await;
        }
        let third = pause(&calls, 2);
        third == 0 || third * 10 > first * 17
    } else {
        second * 10 > first * 13
    };
    if !grown {
        let why = format!("the pauses between attempts do not grow: {first} ms, then {second} ms");
        bench.fault("TRN-05", why, &shown);
    }
    Ok(())
}

/// The shortest pause after the attempt of this number among several calls, in milliseconds.
fn pause(calls: &[Call], after: usize) -> u128 {
    let arrived = calls.iter().map(|call| call.given.arrived());
    let pauses = arrived.filter_map(|all| Some((all.get(after + 1)?.at - all.get(after)?.at).as_millis()));
    pauses.min().unwrap_or(0)
}

async fn retry_after_503(bench: Bench) -> Outcome {
    // A server may slow down a whole origin that says 503, hence a port of its own.
    let listener = bench.own_listener().await?;
    let given = listener.give(bench.case());
    given.react([Reaction::Status(503)]);
    let call = bench.simplest().to(&given).send().await;
    retried(&bench, &call, 2, "an answer 503").await?;
    Ok(())
}

async fn retry_after_broken_connection(bench: Bench) -> Outcome {
    let listener = bench.own_listener().await?;
    let given = listener.give(bench.case());
    given.react([Reaction::HangUp]);
    let call = bench.simplest().to(&given).send().await;
    retried(&bench, &call, 2, "a broken connection").await?;
    Ok(())
}

async fn retry_after_refused_connection(bench: Bench) -> Outcome {
    // The twin's port is open from the start, and nothing else about it differs.
    let (twin, closed) = (bench.closed_port()?, bench.closed_port()?);
    let (twin_given, given) = (twin.give(bench.case()), closed.give(bench.case()));
    let _twin = twin.open().map_err(|e| Stop::Harness(format!("a port cannot be opened: {e}")))?;
    let call = bench.simplest().to(&given).send().await;
    let twin = bench.simplest().to(&twin_given).send().await;
    acknowledged!(call);
    acknowledged!(twin);
    let came = |all: &[Arrived]| (!all.is_empty()).then_some(());
    if bench.owed(&twin.given, came).await.is_none() {
        return Err(Stop::Inconclusive("nothing came to a further port either".to_owned()));
    }
    // What is refused cannot be seen; the twin was called later, and calls after it, and all have been answered.
    for _ in 0..3 {
        bench.fence().await;
    }
    let _open = closed.open().map_err(|e| Stop::Harness(format!("a port cannot be opened: {e}")))?;
    if bench.owed(&given, came).await.is_none() {
        let why = "after a refused connection the message was not sent again, though the port was open by then; \
                   that of a twin, whose port was open from the start, came";
        let twins = numbers(&twin, &twin.given.arrived());
        bench.fault("TRN-05", why, &[&[call.sent.n], twins.as_slice()].concat());
        // What is lost on the way is owed no more (INV-07 is another matter).
        bench.cancel(&call).await;
    }
    Ok(())
}

/// How long a fixture waits for the answer to a callback, as it says itself.
const PATIENCE: &str = "x-fixture-callback-timeout-ms";

async fn retry_after_timeout(bench: Bench) -> Outcome {
    // Nobody can say of a stranger that it has waited long enough.
    let Some(patience) = bench.toolset.raw[PATIENCE].as_u64().filter(|ms| *ms <= 8000) else {
        return Err(Stop::Unimplemented(format!("`{PATIENCE}` in the toolset, up to 8000")));
    };
    let listener = bench.own_listener().await?;
    let (given, gate) = (listener.give(bench.case()), Gate::default());
    given.react([Reaction::Hold(gate.clone(), 200)]);
    let call = bench.simplest().to(&given).send().await;
    acknowledged!(call);
    if bench.owed(&given, |all| all.first().cloned()).await.is_none() {
        return Err(Stop::Inconclusive("no message came, so none could be sent again".to_owned()));
    }
    let longest = Duration::from_millis(patience) + bench.wait;
    let again = given.wait_for(longest, |all| (all.len() > 1).then_some(())).await;
    gate.open();
    if again.is_none() {
        let why = format!(
            "a message that was not answered for {} s was not sent again; `{PATIENCE}` is {patience}",
            longest.as_secs()
        );
        bench.fault("TRN-05", why, &numbers(&call, &given.arrived()));
    }
    Ok(())
}

async fn no_retry_after_4xx(bench: Bench) -> Outcome {
    let control = bench.simplest().react([Reaction::Status(500), Reaction::Status(500)]).send().await;
    acknowledged!(control);
    let mut refused = Vec::new();
    for status in [400, 401, 403, 404, 410, 413, 422] {
        let call = bench.simplest().react(std::iter::repeat_n(Reaction::Status(status), 4)).send().await;
        refused.push((status, call));
    }
    // When the control has been sent for the third time, the others had their time too.
    arrivals(&bench, &control, 3).await;
    bench.fence().await;
    for (status, call) in refused {
        let all = call.given.arrived();
        if all.is_empty() && call.acknowledged() {
            bench.owed(&call.given, |all| (!all.is_empty()).then_some(())).await;
        }
        if all.len() > 1 {
            let why =
                format!("after an answer {status} the message was sent again, {} times in all", all.len());
            bench.fault("TRN-06", why, &numbers(&call, &all));
        }
    }
    Ok(())
}

async fn odd_urls(bench: Bench) -> Outcome {
    let odd = [
        "/%41%7e",
        "/a%2fb/",
        "//double//",
        "/?a=%41&b=%2f&a=1&c",
        "/;v=1,2/x@y:z!$&'()*",
        "/?u=http%3A%2F%2Fexample.com%2F%3Fx%3D1&s=a+b%20c",
    ];
    let mut calls = Vec::new();
    for tail in odd {
        let mut given = bench.listener.give_plain(bench.case());
        given.url.push_str(tail);
        calls.push(bench.simplest().to(&given).send().await);
    }
    for call in &calls {
        acknowledged!(call);
    }
    let came = bench.all_owed(given(&calls), |all| all.first().cloned()).await;
    if came.iter().all(Option::is_none) {
        return Err(Stop::Inconclusive("no message came, so no URL was used".to_owned()));
    }
    for (call, came) in calls.iter().zip(came) {
        let Some(came) = came else { continue };
        let used = bench.exchange(came.n).map(|e| e.url).unwrap_or_default();
        if used != call.given.url {
            let why = format!("the callback URL {} was used as {used}", call.given.url);
            bench.fault("TRN-07", why, &[call.sent.n, came.n]);
        }
    }
    Ok(())
}

async fn redirected(bench: Bench) -> Outcome {
    let elsewhere = bench.give();
    let to = Reaction::Header(307, "location", elsewhere.url.clone());
    let call = bench.simplest().react([to]).send().await;
    acknowledged!(call);
    let Some(came) = bench.owed(&call.given, |all| all.first().cloned()).await else {
        return Err(Stop::Inconclusive("no message came, so none could be redirected".to_owned()));
    };
    bench.fence().await;
    if let Some(followed) = elsewhere.arrived().first() {
        let why = "a callback followed a redirect to a URL that it was not given";
        bench.fault("TRN-07", why, &[call.sent.n, came.n, followed.n]);
    }
    Ok(())
}

const STRANGE: &str = "x_rap_conformance_unknown";

async fn unknown_members(bench: Bench) -> Outcome {
    let strange = json!({ "deep": [1, null, { "text": "💧" }] });
    let plain = bench.simplest().send().await;
    let odd = bench.simplest().with(STRANGE, strange.clone()).send().await;
    compare(&bench, &plain, &odd, "with a member that nobody knows").await?;
    // Ids of their own, since a notice that is repeated is another matter.
    for path in ["close_thread", "cancel_tool_call"] {
        let body = || match path {
            "close_thread" => json!({ "thread_id": nonce() }),
            _ => json!({ "thread_id": nonce(), "tool_call_id": nonce() }),
        };
        let plain = bench.notice(path, &body()).await;
        let mut more = body();
        more[STRANGE] = strange.clone();
        let odd = bench.notice(path, &more).await;
        if plain.status() == Some(200) && odd.status() != Some(200) {
            let why = format!("{path} with a member that nobody knows {}, without it 200", odd.words());
            bench.fault("TRN-10", why, &[plain.n, odd.n]);
        }
    }
    Ok(())
}

async fn null_is_absence(bench: Bench) -> Outcome {
    let plain = bench.simplest().send().await;
    let odd = bench.simplest().with("call_id", json!(null)).with("thread_ancestors", json!(null));
    let odd = odd.with("user_id", json!(null)).send().await;
    compare(&bench, &plain, &odd, "with optional members that are null").await
}

/// The same call, once as it is and once with something that should change nothing.
async fn compare(bench: &Bench, plain: &Call, odd: &Call, how: &str) -> Outcome {
    let expected = bench.result(plain).await?;
    if !odd.acknowledged() {
        let why = format!("an invocation {how} {}; without that it was acknowledged", odd.sent.words());
        return bench.broken("TRN-10", why, &[plain.sent.n, odd.sent.n]);
    }
    match bench.owed(&odd.given, first_result).await {
        None => {
            let why = format!("an invocation {how} got no result; without that it got one");
            bench.fault("TRN-10", why, &[plain.sent.n, odd.sent.n]);
        }
        Some(got) if failed(&got) && !failed(&expected) => {
            let shown = Body::from(got.message.as_ref().unwrap_or(&serde_json::Value::Null)).text();
            let why = format!("an invocation {how} got an error result, {shown}; without that it got none");
            bench.fault("TRN-10", why, &[plain.sent.n, odd.sent.n, got.n]);
        }
        Some(_) => {}
    }
    Ok(())
}
