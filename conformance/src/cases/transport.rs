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
use std::time::{Duration, Instant};

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

/// Of a fixture's retries, the first comes within a second and the second within three more; that is its contract.
const FIXTURE: Duration = Duration::from_secs(5);

/// Sees that a message was sent so many times. No peer is bound to a schedule: of a stranger, what has not come was
/// not waited for long enough.
async fn retried(bench: &Bench, call: &Call, count: usize, after: &str) -> Result<Vec<Arrived>, Stop> {
    acknowledged_or(call)?;
    let began = Instant::now();
    let mut all = arrivals(bench, call, count).await;
    if all.is_empty() {
        return Err(Stop::Inconclusive("no message came, so none could be sent again".to_owned()));
    }
    if all.len() < count && bench.fixture {
        let enough = |all: &[Arrived]| (all.len() >= count).then_some(());
        call.given.wait_for(FIXTURE.saturating_sub(began.elapsed()), enough).await;
        all = call.given.arrived();
    }
    if all.len() >= count {
        return Ok(all);
    }
    if !bench.fixture {
        return Err(Stop::Inconclusive(unseen(bench, &all, count, after, began.elapsed())));
    }
    let why = format!(
        "after {after} the message was sent {} time(s); it should have been sent again, {count} times in all",
        all.len()
    );
    bench.broken("TRN-05", why, &numbers(call, &all))
}

/// Why nothing can be said of a stranger whose message did not come as often as wanted.
fn unseen(bench: &Bench, all: &[Arrived], count: usize, after: &str, waited: Duration) -> String {
    format!(
        "after {after} the message was sent {} time(s) within {:.1} s, and {count} are wanted to judge retries; the \
         pauses may be longer; hint: --wait SECONDS (now {})",
        all.len(),
        waited.as_secs_f32(),
        bench.wait.as_secs_f32()
    )
}

fn acknowledged_or(call: &Call) -> Outcome {
    acknowledged!(call);
    Ok(())
}

/// So many calls are looked at for growth, and so many pauses of each at most.
const CALLS: usize = 5;
const PAUSES: usize = 4;

async fn retry_after_500(bench: Bench) -> Outcome {
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let draft = bench.simplest().react(std::iter::repeat_n(Reaction::Status(500), PAUSES));
        calls.push(draft.send().await);
    }
    let seen = grows(&bench, &calls).await;
    calls.iter().for_each(|call| call.given.relent());
    seen
}

/// Sees that each message is sent again twice, and that the pauses are not all alike. Dice may make any two of them
/// alike, so it takes many to say that they do not grow; and where the next attempt does not come when a steady pace
/// would have brought it, they have grown.
async fn grows(bench: &Bench, calls: &[Call]) -> Outcome {
    let mut shown = Vec::new();
    for call in calls {
        shown = numbers(call, &retried(bench, call, 3, "two answers 500").await?);
    }
    let until = Instant::now() + bench.wait.max(FIXTURE);
    for call in calls {
        while let Some(next) = alike(&pauses(call)).filter(|_| pauses(call).len() < PAUSES) {
            let longest = next.min(until.saturating_duration_since(Instant::now()));
            let count = call.given.arrived().len();
            let more = |all: &[Arrived]| (all.len() > count).then_some(());
            if call.given.wait_for(longest, more).await.is_none() {
                break;
            }
        }
    }
    let pauses: Vec<Vec<Duration>> = calls.iter().map(pauses).collect();
    if steady(&pauses) {
        let told = pauses[0].iter().map(|pause| format!("{} ms", pause.as_millis()));
        let told: Vec<String> = told.collect();
        let why = format!("the pauses between attempts do not grow: {}", told.join(", "));
        bench.fault("TRN-05", why, &shown);
    }
    Ok(())
}

/// The pauses between the attempts of a call so far.
fn pauses(call: &Call) -> Vec<Duration> {
    let at: Vec<Instant> = call.given.arrived().iter().map(|a| a.at).collect();
    at.windows(2).take(PAUSES).map(|pair| pair[1] - pair[0]).collect()
}

/// Where pauses are alike, as much as a machine that does other things allows: by when a steady pace would have brought
/// the next attempt.
fn alike(pauses: &[Duration]) -> Option<Duration> {
    let (longest, shortest) = (pauses.iter().max()?, pauses.iter().min()?);
    (*longest * 10 < *shortest * 13).then(|| *longest * 2 + Duration::from_millis(500))
}

/// Whether the pauses of most calls are alike, of so many that neither growth nor dice can look so.
fn steady(calls: &[Vec<Duration>]) -> bool {
    let steady = calls.iter().filter(|pauses| pauses.len() >= PAUSES && alike(pauses).is_some()).count();
    steady * 2 > calls.len()
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
    let began = Instant::now();
    if bench.owed(&given, came).await.is_none() {
        if !bench.fixture {
            // What is lost on the way is owed no more (INV-07 is another matter).
            bench.cancel(&call).await;
            return Err(Stop::Inconclusive(format!(
                "after a refused connection no message came within {:.1} s of the port's opening; the pauses may be \
                 longer; hint: --wait SECONDS (now {})",
                began.elapsed().as_secs_f32(),
                bench.wait.as_secs_f32()
            )));
        }
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
    let began = Instant::now();
    let again = arrivals(&bench, &control, 3).await;
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
    if again.len() < 3 {
        return Err(Stop::Inconclusive(unseen(&bench, &again, 3, "two answers 500", began.elapsed())));
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
    let mut paths = vec!["close_thread", "cancel_tool_call"];
    paths.extend(bench.toolset.speaks("status").then_some("tool_call_status"));
    paths.extend(bench.toolset.needs_migration().then_some("migrate"));
    for path in paths {
        let body = || match path {
            "close_thread" => json!({ "thread_id": nonce() }),
            "migrate" => json!({ "session_id": nonce(), "destination_url": "http://127.0.0.1:9/" }),
            _ => json!({ "thread_id": nonce(), "tool_call_id": nonce() }),
        };
        let plain = bench.notice(path, &body()).await;
        let mut more = body();
        more[STRANGE] = strange.clone();
        let odd = bench.notice(path, &more).await;
        // A migration to nowhere fails as it is; what counts is that the member makes no other refusal of it.
        let refused = match path {
            "migrate" => matches!(odd.status(), Some(400 | 422)),
            _ => plain.status() == Some(200) && odd.status() != Some(200),
        };
        if refused && plain.status() != odd.status() {
            let why = format!(
                "{path} with a member that nobody knows {}; without it it {}",
                odd.words(),
                plain.words()
            );
            bench.fault("TRN-10", why, &[plain.n, odd.n]);
        }
    }
    if bench.has(Need::Tool("choose")) { unknown_member_of_answer(&bench, &strange).await } else { Ok(()) }
}

/// An answer to a question with a member more is an answer.
async fn unknown_member_of_answer(bench: &Bench, strange: &serde_json::Value) -> Outcome {
    let ask = || bench.call("choose", json!({ "prompt": "Which?", "choices": ["red", "blue"] }));
    let (plain, odd) = (ask().send().await, ask().send().await);
    let mut sent = Vec::new();
    for (call, more) in [(&plain, None), (&odd, Some(strange))] {
        let question = bench.first(call, "user_choice").await?;
        let url = question.member("response_url").as_str().unwrap_or_default().to_owned();
        let mut answer = json!({ "id": question.member("id"), "selected": 1 });
        if let Some(more) = more {
            answer[STRANGE] = more.clone();
        }
        sent.push(bench.post(&url, &answer).await);
    }
    bench.result(&plain).await?;
    let got = bench.owed(&odd.given, first_result).await;
    if got.as_ref().is_none_or(failed) {
        let why = format!(
            "an answer to a question, with a member that nobody knows, {}, and its call did not succeed; without it \
             it {}",
            sent[1].words(),
            sent[0].words()
        );
        bench.fault("TRN-10", why, &[odd.sent.n, sent[0].n, sent[1].n]);
        bench.cancel(&odd).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A source of dice that is the same in every run.
    fn dice() -> impl FnMut() -> f64 {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// In how many of 10000 runs the pauses of a schedule are called steady: `base * growth^n * (low..high)`.
    fn called_steady(base: f64, growth: i32, low: f64, high: f64) -> usize {
        let mut die = dice();
        let mut pause = |n: i32| {
            let pause = base * f64::from(growth.pow(n.unsigned_abs())) * (low + die() * (high - low));
            Duration::from_secs_f64(pause)
        };
        let run = |_: &usize| {
            let calls: Vec<Vec<Duration>> = (0..CALLS).map(|_| (0..4).map(&mut pause).collect()).collect();
            steady(&calls)
        };
        (0..10_000).filter(run).count()
    }

    /// TRN-05: no schedule that grows is called steady, whatever its dice; one that does not grow is.
    #[test]
    fn only_a_pace_that_is_clearly_steady_is_said_not_to_grow() {
        for (name, base, growth, low, high, expected) in [
            ("textbook", 2.0, 2, 1.0, 1.0, 0),
            ("a fifth longer", 0.25, 2, 1.0, 1.2, 0),
            ("half more or less", 1.0, 2, 0.5, 1.5, 0),
            ("full jitter", 1.0, 2, 0.0, 1.0, 0),
            ("steady", 0.9, 1, 1.0, 1.0, 10_000),
            ("steady, on a busy machine", 0.9, 1, 1.0, 1.1, 10_000),
        ] {
            assert_eq!(called_steady(base, growth, low, high), expected, "{name}");
        }
    }
}
