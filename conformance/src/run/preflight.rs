//! Before the cases: that the server can call back at all, and by which call that is seen again and again.

use super::{Halt, Options, WANTS_AUTHENTICATION};
use crate::{
    bench::{Bench, UNKNOWN, World},
    case::{Case, Tier},
    cases,
    listen::Arrived,
    runner::{self, Pace, Show},
    trace::{Exchange, Party},
    verdict::Verdict,
};
use serde_json::{Value, json};
use std::{collections::HashSet, sync::Arc, time::Instant};

/// Whether one of the cases on the toolset that are wanted fails.
pub(super) async fn toolset_is_invalid(world: &Arc<World>, options: &Options, pace: Pace) -> bool {
    let on_toolset: Vec<&'static Case> = cases::all()
        .into_iter()
        .filter(|c| c.tier == Tier::Look && c.id.starts_with("discovery/") && !c.alone)
        .filter(|c| options.wants(c.id, c.obligations))
        .collect();
    let nobody: Show = Arc::new(|_| {});
    let reports = runner::run(world, &on_toolset, pace, &nobody).await;
    reports.iter().any(|report| report.weight() == Verdict::Fail)
}

/// A trace without the calls that were to show that the server calls back, and without what came to their URLs after all.
pub(super) fn without_tries(trace: &[Exchange]) -> Vec<Exchange> {
    let tried = |e: &&Exchange| {
        e.from == Party::Runtime && e.method == "POST" && e.case.as_deref() == Some("preflight")
    };
    let urls: HashSet<String> = trace
        .iter()
        .filter(tried)
        .filter_map(|e| e.body.json().ok()?["callback_url"].as_str().map(str::to_owned))
        .collect();
    let came = |e: &Exchange| e.from == Party::Server && urls.contains(&e.url);
    trace.iter().filter(|e| !tried(e) && !came(e)).cloned().collect()
}

/// How many tools are called, at most, to find one that answers.
const TRIED: usize = 3;

/// What came of a call that might be a fence.
enum Came {
    /// Its outcome.
    Outcome,
    /// A question, or a sign-in, that somebody would have to answer.
    Question,
}

/// Shows that the server can call back, and chooses the fence: the first kind of call whose outcome arrives. With
/// strangers an operation that no tool has comes first, since a call of a tool is work, which may have a price. Where
/// nothing comes at all, says so.
pub(super) async fn preflight(
    mut world: World,
    fixture: bool,
    pace: Pace,
) -> Result<(Arc<World>, Option<String>), Halt> {
    let unknown = (UNKNOWN.to_owned(), json!({}));
    let tools = world.callable.iter().take(TRIED).cloned();
    let candidates: Vec<(String, Value)> = if fixture {
        [("echo".to_owned(), json!({ "text": "fence" }))]
            .into_iter()
            .chain(tools.take(1))
            .chain([unknown])
            .collect()
    } else {
        [unknown].into_iter().chain(tools).collect()
    };
    let mut heard = Vec::new();
    let (mut refused, mut taken, mut asks) = (false, false, None);
    for candidate in candidates {
        if Instant::now() >= pace.last {
            break;
        }
        world.fence = candidate;
        let shared = Arc::new(world);
        let bench = Bench::new(shared.clone(), "preflight");
        let (operation, arguments) = shared.fence.clone();
        let call = bench.call(&operation, arguments).send().await;
        refused |= matches!(call.sent.status(), Some(401 | 403));
        taken |= call.acknowledged();
        heard.push(format!("the call of `{operation}` {}", call.sent.words()));
        let wait = shared.wait.min(pace.end.saturating_duration_since(Instant::now()));
        let came = if call.acknowledged() { call.given.wait_for(wait, came).await } else { None };
        drop(bench);
        world =
            Arc::try_unwrap(shared).map_err(|_| Halt("bug: the preflight is still running".to_owned()))?;
        match came {
            Some(Came::Outcome) => return Ok((Arc::new(world), None)),
            Some(Came::Question) => {
                asks.get_or_insert_with(|| world.fence.clone());
            }
            // A message at a URL that was never given is heard too: it is TRN-07's, and the server can call back.
            None if asks.is_none() && world.recorder.all().iter().any(|e| e.from == Party::Server) => {
                return Ok((Arc::new(world), None));
            }
            None => {}
        }
    }
    if let Some(asks) = asks {
        // All that can be had: a call whose question comes.
        world.fence = asks;
        return Ok((Arc::new(world), None));
    }
    let tried = heard.join(", ");
    let nothing =
        format!("nothing came to {} within {} s", world.listener.public(), world.wait.as_secs_f32());
    const ALLOW: &str = "--allow-tool NAME, or --args FILE, for a tool that may be called";
    const REACH: &str = "it must be able to reach that address: --listen ADDRESS, --public-url URL";
    let (seen, hint) = match (refused, taken, world.callable.is_empty()) {
        (true, ..) => (nothing, WANTS_AUTHENTICATION.to_owned()),
        (_, true, true) => (
            format!("{nothing}; no tool may be called, and so nothing else can show that it does"),
            format!("{ALLOW}; if it answers unknown operations, {REACH}"),
        ),
        (_, false, true) => {
            ("no tool may be called, and so nothing else can show that it does".to_owned(), ALLOW.to_owned())
        }
        (_, true, false) => (nothing, REACH.to_owned()),
        (_, false, false) => {
            (nothing, "it took no call at all; does the `endpoint` in its toolset lead to it?".to_owned())
        }
    };
    Ok((Arc::new(world), Some(format!("the server does not call back: {tried}, and {seen}; hint: {hint}"))))
}

/// What the messages of a call that might be a fence amount to; nothing yet where only a view was shown.
fn came(all: &[Arrived]) -> Option<Came> {
    let first = all.iter().find(|message| !message.is("view_update"))?;
    let asks = ["oauth", "user_choice"].iter().any(|kind| first.is(kind));
    Some(if asks { Came::Question } else { Came::Outcome })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rules,
        trace::{Answer, Begun, Body, Recorder},
    };
    use rap_spec::Role;

    /// TRN-07: a callback that came too late to show anything is not one to a URL that was never given.
    #[test]
    fn what_comes_to_a_call_that_is_not_judged_is_not_judged() {
        let recorder = Recorder::default();
        let said = |from: Party, case: Option<&str>, url: &str, body: Value| {
            let n = recorder.begin(Begun {
                case: case.map(str::to_owned),
                from,
                method: "POST".to_owned(),
                url: url.to_owned(),
                headers: vec![("content-type".to_owned(), "application/json".to_owned())],
                body: (&body).into(),
            });
            recorder.end(n, Ok(Answer { status: 200, headers: Vec::new(), body: Body::default() }));
        };
        let result = json!({ "type": "tool_result", "id": "c", "group_id": "g", "text": "t" });
        let call = json!({ "operation": "o", "id": "c", "group_id": "g", "arguments": {}, "callback_url": "http://j/1" });
        said(Party::Runtime, Some("preflight"), "http://s/rap", call);
        said(Party::Server, Some("preflight"), "http://j/1", result.clone());
        let broken = |trace: &[Exchange]| -> Vec<String> {
            let reports = rules::judge(trace, &rules::all(), Some(Role::Server));
            reports.into_iter().flat_map(|r| r.findings).map(|finding| finding.obligation).collect()
        };
        assert_eq!(without_tries(&recorder.all()), []);
        // What came to a URL of nobody's is still seen.
        said(Party::Server, None, "http://j/2", result);
        assert_eq!(broken(&without_tries(&recorder.all())), ["TRN-07"]);
    }
}
