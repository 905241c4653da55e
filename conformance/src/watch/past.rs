//! What a watch without end remembers of what it has forgotten. When the trace grows too large, what is over is dropped:
//! calls that have ended, or were cancelled, with all that belongs to them, and events that nothing follows from. What
//! the rules said of it is kept, and so are the URLs, since what still comes to them is no fault.

use crate::{
    report::CaseReport,
    rules::{View, view::Message},
    trace::{Body, Exchange, Party},
    verdict::{Finding, Verdict},
};
use std::{
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
};

/// What began so long before the end of the trace, in microseconds, is old. A call between strangers is lost after as
/// long, so that nothing is forgotten that is still waited for.
const OLD: u64 = 60_000_000;

/// How many findings of one rule are kept.
const FINDINGS: usize = 5;

/// How many URLs of calls that are forgotten are known: no more is forgotten then.
const URLS: usize = 1_000_000;

/// What was forgotten.
#[derive(Debug, Default)]
pub(super) struct Past {
    reports: Vec<CaseReport>,
    cited: Vec<Exchange>,
    urls: HashSet<u64>,
    state: RandomState,
}

impl Past {
    /// Whether a URL is that of a call that was forgotten.
    pub(super) fn knows(&self, url: &str) -> bool {
        !self.urls.is_empty() && self.urls.contains(&self.state.hash_one(url))
    }

    /// A message is on its way. A call that is sent again, with the URL that it had (INV-10), is no longer forgotten.
    pub(super) fn begins(&mut self, from: Party, body: &Body) {
        if from == Party::Runtime
            && !self.urls.is_empty()
            && let Some(url) = callback_url(body)
        {
            self.urls.remove(&self.state.hash_one(url));
        }
    }

    /// Remembers what must be known of what does not stay of a trace. `reports` is what the rules say of the same trace as
    /// it may be shown.
    pub(super) fn remember(
        &mut self,
        trace: &[Exchange],
        shown: &[Exchange],
        reports: Vec<CaseReport>,
        kept: &HashSet<u64>,
    ) {
        let given = |stays: bool| {
            let sent = trace.iter().filter(|e| e.from == Party::Runtime);
            sent.filter(move |e| kept.contains(&e.n) == stays).filter_map(|e| callback_url(&e.body))
        };
        // One that is sent again gives the same URL.
        let still: HashSet<String> = given(true).collect();
        for url in given(false).filter(|url| !still.contains(url)) {
            self.urls.insert(self.state.hash_one(url));
        }
        // What is said of what stays is said again.
        let over = |finding: &Finding| finding.exchanges.iter().any(|n| !kept.contains(n));
        let of_the_past = reports.into_iter().map(|mut report| {
            report.findings.retain(over);
            if report.verdict.is_fault() && report.findings.is_empty() {
                report.verdict = Verdict::Pass;
            }
            report
        });
        self.reports = merged(std::mem::take(&mut self.reports), of_the_past.collect());
        let cited = self.numbers();
        let known: HashSet<u64> = self.cited.iter().map(|e| e.n).collect();
        self.cited.retain(|e| cited.contains(&e.n));
        self.cited.extend(shown.iter().filter(|e| cited.contains(&e.n) && !known.contains(&e.n)).cloned());
    }

    /// Whether no more can be remembered.
    pub(super) fn is_full(&self) -> bool {
        self.urls.len() > URLS
    }

    fn numbers(&self) -> HashSet<u64> {
        self.reports.iter().flat_map(|r| &r.findings).flat_map(|f| f.exchanges.iter().copied()).collect()
    }

    /// What the rules said of all that ever passed, when they say this of what is left; and the exchanges that may be
    /// cited beside those.
    pub(super) fn with(&self, now: Vec<CaseReport>) -> (Vec<CaseReport>, Vec<Exchange>) {
        (merged(self.reports.clone(), now), self.cited.clone())
    }
}

/// What rules said before, and what they say now, together.
fn merged(before: Vec<CaseReport>, now: Vec<CaseReport>) -> Vec<CaseReport> {
    let mut before: HashMap<String, CaseReport> = before.into_iter().map(|r| (r.id.clone(), r)).collect();
    now.into_iter()
        .map(|mut now| {
            let Some(mut before) = before.remove(&now.id) else { return now };
            let new = |f: &Finding| !before.findings.contains(f);
            let more: Vec<Finding> = std::mem::take(&mut now.findings).into_iter().filter(new).collect();
            before.findings.extend(more);
            before.findings.truncate(FINDINGS);
            let worst = before.findings.iter().map(|f| Verdict::of_id(&f.obligation)).max();
            let held = [before.verdict, now.verdict].contains(&Verdict::Pass);
            let (verdict, reason) = match worst {
                Some(worst) => (worst, now.reason.filter(|_| now.verdict.is_fault()).or(before.reason)),
                None if held => (Verdict::Pass, None),
                None => (now.verdict, now.reason),
            };
            now.findings = before.findings;
            (now.verdict, now.reason) = (verdict, reason.filter(|_| verdict != Verdict::Pass));
            now
        })
        .collect()
}

fn callback_url(body: &Body) -> Option<String> {
    body.json().ok()?["callback_url"].as_str().map(str::to_owned)
}

/// The exchanges of a trace that something may still follow from.
pub(super) fn live(trace: &[Exchange]) -> HashSet<u64> {
    let now = trace.iter().map(|e| e.at_us + e.took_us).max().unwrap_or(0);
    let young = |e: &Exchange| e.ended.is_none() || now.saturating_sub(e.at_us) < OLD;
    let mut kept: HashSet<u64> = trace.iter().filter(|e| young(e)).map(|e| e.n).collect();
    // A session keeps the toolset that it fetched: each one that there was, once.
    let mut toolsets = HashSet::new();
    for exchange in trace.iter().filter(|e| e.method == "GET") {
        let body = exchange.answer.as_ref().map(|answer| &answer.body.0);
        let is_toolset = body.is_some_and(|body| body.windows(7).any(|w| w == b"\"tools\""));
        if is_toolset && toolsets.insert((&exchange.url, body)) {
            kept.insert(exchange.n);
        }
    }
    let view = View::of(trace);
    let mut to: HashMap<&str, Vec<&Message<'_>>> = HashMap::new();
    for callback in &view.callbacks {
        to.entry(&callback.exchange.url).or_default().push(callback);
    }
    let (mut closed, mut cancelled) = (HashSet::new(), HashSet::new());
    for (name, notice) in &view.notices {
        let Some(thread) = notice.string("thread_id") else { continue };
        match (*name, notice.string("tool_call_id")) {
            ("close_thread", _) => {
                closed.insert(thread);
            }
            ("cancel_tool_call", Some(call)) => {
                cancelled.insert((thread, call));
            }
            _ => {}
        }
    }
    for invocation in &view.invocations {
        let (thread, call) = (invocation.string("group_id"), invocation.string("id"));
        let own =
            invocation.string("callback_url").and_then(|url| to.get(url)).map_or(&[][..], Vec::as_slice);
        let is = |message: &Message<'_>, kind: &str| message.string("type") == Some(kind);
        // One that was not taken is sent again.
        let taken = |message: &&&Message<'_>| message.exchange.taken();
        let results = || own.iter().filter(taken).filter(|message| is(message, "tool_result"));
        let lives = results().any(|result| result.member("subscription") == true)
            && !own.iter().any(|event| is(event, "subscription_event") && event.member("final") == true);
        let open = invocation.exchange.taken() && (lives || results().next().is_none());
        let told = thread.is_some_and(|thread| {
            closed.contains(thread) || call.is_some_and(|call| cancelled.contains(&(thread, call)))
        });
        // One that is young keeps what belongs to it.
        let belongs = own.iter().any(|message| kept.contains(&message.exchange.n));
        if (open && !told) || belongs || kept.contains(&invocation.exchange.n) {
            kept.insert(invocation.exchange.n);
            let lasting = own.iter().filter(|message| !is(message, "subscription_event"));
            kept.extend(lasting.map(|message| message.exchange.n));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{rules, trace::Answer};
    use serde_json::{Value, json};

    /// An exchange a second; the URL of a call is that of its id.
    fn exchange(n: u64, from: Party, body: &Value) -> Exchange {
        let id = body["tool_call_id"].as_str().or(body["id"].as_str()).unwrap_or_default();
        let url = if from == Party::Server { format!("http://r/{id}") } else { "http://s/rap".to_owned() };
        Exchange {
            n,
            case: None,
            from,
            began: 2 * n,
            ended: Some(2 * n + 1),
            at_us: n * 1_000_000,
            took_us: 10,
            method: "POST".to_owned(),
            url,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: body.into(),
            answer: Some(Answer { status: 200, headers: Vec::new(), body: Body::default() }),
            failure: None,
        }
    }

    fn call(id: &str) -> Value {
        json!({ "operation": "o", "arguments": {}, "id": id, "group_id": "g", "callback_url": format!("http://r/{id}") })
    }

    fn result(id: &str, subscription: bool) -> Value {
        json!({ "type": "tool_result", "group_id": "g", "id": id, "text": "t", "subscription": subscription })
    }

    fn event(id: &str, last: bool) -> Value {
        json!({ "type": "subscription_event", "group_id": "g", "tool_call_id": id, "text": "t", "final": last })
    }

    fn judged(trace: &[Exchange]) -> Vec<CaseReport> {
        rules::judge(trace, &rules::all(), None)
    }

    fn faults(reports: &[CaseReport]) -> Vec<&str> {
        reports.iter().filter(|r| r.verdict.is_fault()).map(|r| r.id.as_str()).collect()
    }

    #[test]
    fn what_is_over_is_forgotten_and_what_was_said_of_it_is_not() {
        let (r, s) = (Party::Runtime, Party::Server);
        let mut wrong = result("bad", false);
        wrong["group_id"] = json!("other");
        let toolset = json!({ "name": "n", "endpoint": "http://s/rap", "tools": [
            { "name": "o", "description": "d", "inputSchema": { "type": "object" } }] });
        let mut script = vec![
            (r, json!({})),
            (r, json!({})),
            (r, call("done")),
            (s, result("done", false)),
            (r, call("bad")),
            (s, wrong),
            (r, call("lives")),
            (s, result("lives", true)),
            (s, event("lives", false)),
            (r, call("ended")),
            (s, result("ended", true)),
            (s, event("ended", true)),
            (r, call("open")),
            (r, call("cancelled")),
            (r, json!({ "thread_id": "g", "tool_call_id": "cancelled" })),
            (r, json!({ "thread_id": "g", "tool_call_id": "open" })),
            (r, json!({ "thread_id": "other", "tool_call_id": "lives" })),
            (r, json!({ "thread_id": "other" })),
            (r, call("refused")),
            (s, result("refused", false)),
        ];
        script.extend(std::iter::repeat_n((r, json!({})), 100));
        script.push((r, call("young")));
        let mut trace: Vec<Exchange> =
            script.iter().zip(1..).map(|((from, body), n)| exchange(n, *from, body)).collect();
        for fetch in &mut trace[..2] {
            fetch.method = "GET".to_owned();
            fetch.url = "http://s/.well-known/rap-toolset".to_owned();
            fetch.answer = Some(Answer { status: 200, headers: Vec::new(), body: (&toolset).into() });
        }
        for (at, notice) in [
            (14, "cancel_tool_call"),
            (15, "tool_call_status"),
            (16, "cancel_tool_call"),
            (17, "close_thread"),
        ] {
            trace[at].url = format!("http://s/{notice}");
        }
        trace[19].answer = Some(Answer { status: 503, headers: Vec::new(), body: Body::default() });
        let before = judged(&trace);
        assert_eq!(faults(&before), ["rule/group-id-echoed", "rule/every-call-ends"]);

        let kept = live(&trace);
        let mut early: Vec<u64> = kept.iter().copied().filter(|n| *n < 30).collect();
        early.sort_unstable();
        // The toolset once, the subscription without its event, the call that has no result, whatever else was said of
        // it, the one whose result was not taken.
        assert_eq!(early, [1, 7, 8, 13, 19, 20]);
        assert!(kept.contains(&121), "what is young stays");

        let mut past = Past::default();
        past.remember(&trace, &trace, before, &kept);
        for (url, known) in [
            ("done", true),
            ("bad", true),
            ("ended", true),
            ("lives", false),
            ("open", false),
            ("refused", false),
        ] {
            assert_eq!(past.knows(&format!("http://r/{url}")), known, "{url}");
        }
        trace.retain(|e| kept.contains(&e.n));
        // The open call gets its result; what was wrong before is still known, and can be shown.
        trace.push(exchange(122, s, &result("open", false)));
        trace.push(exchange(123, s, &event("lives", false)));
        let (reports, cited) = past.with(judged(&trace));
        assert_eq!(faults(&reports), ["rule/group-id-echoed"]);
        assert_eq!(cited.iter().map(|e| e.n).collect::<Vec<_>>(), [6]);
        let report = reports.iter().find(|r| r.id == "rule/group-id-echoed").expect("the rule");
        assert_eq!(report.findings.len(), 1);
        // A call that is sent again is known no more (INV-10); nobody else's message does that.
        past.begins(s, &(&call("done")).into());
        assert!(past.knows("http://r/done"));
        past.begins(r, &(&call("done")).into());
        assert!(!past.knows("http://r/done"));
        // And once more.
        let kept = live(&trace);
        past.remember(&trace, &trace, judged(&trace), &kept);
        assert_eq!(faults(&past.with(Vec::new()).0), Vec::<&str>::new());
        assert_eq!(faults(&past.with(judged(&[])).0), ["rule/group-id-echoed"]);
    }
}
