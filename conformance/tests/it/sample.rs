//! A report with something of everything, made by hand.

use rap_conformance::{
    report::{self, CaseReport, Report, Target},
    trace::{Answer, Body, Exchange, Party},
    verdict::{Finding, Verdict},
};
use serde_json::{Value, json};

const CALLBACK: &str = "http://127.0.0.1:9/cb/t-1?t=1&a=2";

pub(crate) fn case(id: &str, verdict: Verdict, findings: Vec<Finding>) -> CaseReport {
    let obligations = findings.iter().map(|f| f.obligation.clone()).collect();
    CaseReport {
        id: id.to_owned(),
        title: format!("{id} holds"),
        obligations,
        verdict,
        reason: None,
        findings,
        known: false,
        took_ms: 12,
    }
}

fn of(id: &str, verdict: Verdict, obligation: &str, reason: &str) -> CaseReport {
    let mut made = case(id, verdict, Vec::new());
    made.obligations = vec![obligation.to_owned()];
    made.reason = (!reason.is_empty()).then(|| reason.to_owned());
    made
}

fn exchange(n: u64, from: Party, url: &str, body: &Value, status: u16) -> Exchange {
    let headers = [("content-type", "application/json"), ("authorization", "Bearer s3cret")];
    Exchange {
        n,
        case: None,
        from,
        began: 2 * n,
        ended: Some(2 * n + 1),
        at_us: 1000 * n,
        took_us: 500,
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers: headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        body: Body::from(body),
        answer: Some(Answer { status, headers: Vec::new(), body: Body::default() }),
        failure: None,
    }
}

pub(crate) fn trace() -> Vec<Exchange> {
    let call = json!({ "operation": "it's", "id": "c1", "group_id": "g1", "callback_url": CALLBACK, "arguments": {} });
    let result =
        json!({ "type": "tool_result", "id": "c1", "group_id": "other", "text": "`\u{1b}[31m` | <b>" });
    vec![
        exchange(1, Party::Runtime, "http://127.0.0.1:8/rap", &call, 200),
        exchange(2, Party::Server, CALLBACK, &result, 200),
        exchange(3, Party::Server, "http://127.0.0.1:9/elsewhere", &result, 404),
    ]
}

pub(crate) fn report() -> Report {
    let cases = vec![
        of("discovery/served", Verdict::Pass, "TLS-01", ""),
        case(
            "results/group",
            Verdict::Fail,
            vec![Finding::new("TRN-13", "it says \u{1b}[2Jother | g1", &[2])],
        ),
        case(
            "transport/retry",
            Verdict::NonStrict,
            vec![Finding::new("TRN-05", "nothing was sent again", &[1])],
        ),
        case("transport/moody", Verdict::Flaky, vec![Finding::new("TRN-02", "held once of twice", &[])]),
        of("subscriptions/order", Verdict::Unimplemented, "SUB-01", "the fixture tool `subscribe`"),
        of("choices/index", Verdict::Inconclusive, "CHO-01", "no user_choice came"),
        of("durable/kill", Verdict::HarnessError, "TRN-11", "the judge panicked in this case"),
    ];
    let target =
        Target { role: "server".to_owned(), url: "http://127.0.0.1:8".to_owned(), name: "sample".to_owned() };
    let mut report = report::fold(target, cases, &trace(), |r| {
        ["TLS-01", "TRN-13", "TRN-05", "TRN-02", "SUB-01", "CHO-01", "TRN-11"].contains(&r.id)
    });
    "0.0.0".clone_into(&mut report.judge.version);
    report.notes = vec!["`wipe` is not called: it is annotated `destructive`".to_owned()];
    report.took_ms = 1234;
    report
}
