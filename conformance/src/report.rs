//! The report: what was said of every case, folded into obligations and profiles. Its JSON form is
//! versioned by [`SCHEMA`]; members are only ever added under one version.

use crate::{
    trace::{Exchange, Party},
    verdict::{Finding, Verdict},
};
use rap_spec::{Judge, Level, Origin, Requirement, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The version of the report's JSON form.
pub const SCHEMA: &str = "rap-conformance-report/1";

/// What is said of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The judge and the specification.
    pub judge: Versions,
    /// Who was judged.
    pub target: Target,
    /// Groups of obligations, in the order core, interactive, subscriptions, durable, secure.
    pub profiles: Vec<ProfileReport>,
    /// Every obligation of the role, in the order of the book.
    pub obligations: Vec<ObligationReport>,
    /// Every case, in the order in which they are listed.
    pub cases: Vec<CaseReport>,
    /// What else the reader should know, e.g. which tools were not called and why.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Entries of the baseline that no longer apply, or never did.
    #[serde(default)]
    pub stale: Vec<String>,
    /// The exchanges that findings cite, secrets redacted.
    #[serde(default)]
    pub exchanges: Vec<Exchange>,
    /// How long the run took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

/// Which versions judged.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Versions {
    /// The program.
    pub program: String,
    /// Its version.
    pub version: String,
    /// The version of the wire.
    pub wire: String,
}

impl Default for Versions {
    fn default() -> Self {
        Self {
            program: "rap-conformance".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            wire: rap_spec::WIRE_VERSION.to_owned(),
        }
    }
}

/// Who was judged.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Target {
    /// `server`, or `trace` where both roles were seen.
    pub role: String,
    /// The base URL, without credentials.
    pub url: String,
    /// The toolset's name, where one was fetched.
    #[serde(default)]
    pub name: String,
}

/// What is said of a case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseReport {
    /// Its id, e.g. `transport/retry-after-503`; a rule over the trace begins with `rule/`.
    pub id: String,
    /// What holds when it passes.
    pub title: String,
    /// The obligations that it judges.
    pub obligations: Vec<String>,
    /// The gravest of its findings, or why there is none.
    pub verdict: Verdict,
    /// Why it could not be judged, or what is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was found wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Listed in the baseline: known, and not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub known: bool,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
}

impl CaseReport {
    /// What the case says of one of its obligations. Where its tries differ, that is said of those that either found
    /// broken, and of no others.
    pub fn verdict_of(&self, obligation: &str) -> Verdict {
        if self.findings.iter().any(|f| f.obligation == obligation) {
            return if self.verdict == Verdict::Flaky { Verdict::Flaky } else { Verdict::of_id(obligation) };
        }
        if self.verdict.is_fault() { Verdict::Pass } else { self.verdict }
    }

    /// The verdict by which the case counts: where its tries differ, that of the gravest that either found.
    pub fn weight(&self) -> Verdict {
        let found = || self.findings.iter().map(|f| Verdict::of_id(&f.obligation)).max();
        match self.verdict {
            Verdict::Flaky => found().unwrap_or(Verdict::Fail),
            verdict => verdict,
        }
    }
}

/// What is said of an obligation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ObligationReport {
    /// Its id.
    pub id: String,
    /// `MUST`, `SHOULD` or `MAY`.
    pub level: String,
    /// `published`, `derived` or `ext`.
    pub origin: String,
    /// The sentence.
    pub text: String,
    /// The page of the book that explains it.
    pub page: String,
    /// The profile that it belongs to.
    pub profile: String,
    /// What the cases together say.
    pub verdict: Verdict,
    /// Why it was not judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The cases that judge it.
    pub cases: Vec<String>,
}

/// A group of obligations.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProfileReport {
    /// `core`, `interactive`, `subscriptions`, `durable` or `secure`.
    pub name: String,
    /// The gravest verdict in it that counts.
    pub verdict: Verdict,
    /// How many obligations got each verdict; verdicts that none got are left out.
    pub counts: BTreeMap<Verdict, usize>,
}

/// The profiles, in the order of reports.
pub const PROFILES: [&str; 5] = ["core", "interactive", "subscriptions", "durable", "secure"];

/// The profile of an obligation.
pub fn profile(id: &str) -> &'static str {
    match id {
        "SUB-10" | "ERR-03" | "TRN-11" | "MIG-02" | "STA-01" => "durable",
        "AUT-01" | "AUT-02" | "CLS-04" | "OAU-03" | "MIG-04" => "secure",
        _ if id.starts_with("SUB-") => "subscriptions",
        _ if ["OAU-", "CHO-", "VIW-"].iter().any(|p| id.starts_with(p)) => "interactive",
        _ => "core",
    }
}

/// Whether an obligation binds servers.
pub fn binds_server(requirement: &Requirement) -> bool {
    matches!(requirement.role, Role::Server | Role::Both)
}

/// Folds what the cases say into obligations and profiles.
pub fn fold(
    target: Target,
    cases: Vec<CaseReport>,
    exchanges: &[Exchange],
    of_interest: fn(&Requirement) -> bool,
) -> Report {
    let of_interest: Vec<&Requirement> = rap_spec::REQUIREMENTS.iter().filter(|r| of_interest(r)).collect();
    let (profiles, obligations) = tables(&of_interest, &cases);
    let cited = cited(&cases, exchanges);
    Report {
        schema: SCHEMA.to_owned(),
        judge: Versions::default(),
        target,
        profiles,
        obligations,
        cases,
        notes: Vec::new(),
        stale: Vec::new(),
        exchanges: exchanges.iter().filter(|e| cited.contains(&e.n)).map(Exchange::redacted).collect(),
        took_ms: 0,
    }
}

fn tables(of_interest: &[&Requirement], cases: &[CaseReport]) -> (Vec<ProfileReport>, Vec<ObligationReport>) {
    let obligations: Vec<ObligationReport> = of_interest.iter().map(|r| obligation(r, cases)).collect();
    let profiles = PROFILES
        .iter()
        .map(|name| {
            let mut counts = BTreeMap::new();
            for obligation in obligations.iter().filter(|o| o.profile == *name) {
                *counts.entry(obligation.verdict).or_insert(0) += 1;
            }
            let verdict = counts.keys().copied().max().unwrap_or(Verdict::Unimplemented);
            ProfileReport { name: (*name).to_owned(), verdict, counts }
        })
        .collect();
    (profiles, obligations)
}

/// The exchanges that findings cite, and for each callback among them the invocation that asked for it.
fn cited(cases: &[CaseReport], exchanges: &[Exchange]) -> BTreeSet<u64> {
    let mut cited: BTreeSet<u64> =
        cases.iter().flat_map(|c| &c.findings).flat_map(|f| f.exchanges.iter().copied()).collect();
    let callbacks = exchanges.iter().filter(|e| e.from == Party::Server && cited.contains(&e.n));
    let provoking: Vec<u64> = callbacks.filter_map(|e| provoking(e, exchanges)).map(|e| e.n).collect();
    cited.extend(provoking);
    cited
}

/// The invocation that asked for a callback: the one that gave its URL; for a message to a URL that nobody gave, the
/// one whose ids it names, or the last before it, of the same case if there is one.
pub(crate) fn provoking<'e>(callback: &Exchange, exchanges: &'e [Exchange]) -> Option<&'e Exchange> {
    let mut sent = exchanges.iter().filter(|e| e.from == Party::Runtime && e.method == "POST");
    if let Some(gave) = sent.clone().find(|e| e.gives(&callback.url)) {
        return Some(gave);
    }
    let message = callback.body.json().unwrap_or_default();
    let id = if message["tool_call_id"].is_string() { &message["tool_call_id"] } else { &message["id"] };
    let says = |e: &&Exchange, name: &str, value: &Value| {
        value.is_string() && e.body.json().is_ok_and(|body| body[name] == *value)
    };
    let before = |e: &&Exchange| e.n < callback.n;
    let own = |e: &&Exchange| before(e) && callback.case.is_some() && e.case == callback.case;
    sent.clone()
        .find(|e| says(e, "id", id))
        .or_else(|| sent.clone().find(|e| says(e, "group_id", &message["group_id"])))
        .or_else(|| sent.clone().rfind(own))
        .or_else(|| sent.rfind(before))
}

fn obligation(requirement: &Requirement, cases: &[CaseReport]) -> ObligationReport {
    let holding: Vec<&CaseReport> =
        cases.iter().filter(|c| c.obligations.iter().any(|o| o == requirement.id)).collect();
    let said = |case: &&CaseReport| if case.known { Verdict::Pass } else { case.verdict_of(requirement.id) };
    let worst = holding.iter().map(said).max();
    let passed = holding.iter().any(|c| said(c) == Verdict::Pass);
    // One case that passed outweighs another that could not be tried, never one that found a fault.
    let verdict = match worst {
        None => Verdict::Inconclusive,
        Some(Verdict::Unimplemented | Verdict::Inconclusive) if passed => Verdict::Pass,
        Some(verdict) => verdict,
    };
    let reason = match verdict {
        Verdict::Pass => None,
        _ if holding.is_empty() => {
            Some(requirement.reason.unwrap_or("no case of this judge looks at it").to_owned())
        }
        _ => holding.iter().find(|c| said(c) == verdict).and_then(|c| c.reason.clone()),
    };
    ObligationReport {
        id: requirement.id.to_owned(),
        level: level_word(requirement.level).to_owned(),
        origin: origin_word(requirement.origin).to_owned(),
        text: requirement.text.to_owned(),
        page: requirement.page.to_owned(),
        profile: profile(requirement.id).to_owned(),
        verdict,
        reason,
        cases: holding.iter().map(|c| c.id.clone()).collect(),
    }
}

/// `MUST`, `SHOULD` or `MAY`.
pub fn level_word(level: Level) -> &'static str {
    match level {
        Level::Must => "MUST",
        Level::Should => "SHOULD",
        Level::May => "MAY",
    }
}

/// `published`, `derived` or `ext`.
pub fn origin_word(origin: Origin) -> &'static str {
    match origin {
        Origin::Published => "published",
        Origin::Derived => "derived",
        Origin::Ext => "ext",
    }
}

/// How an obligation is judged, in a word.
pub fn judge_word(judge: Judge) -> &'static str {
    match judge {
        Judge::Active => "active",
        Judge::Passive => "passive",
        Judge::WhiteBox => "white-box",
        Judge::Document => "document",
    }
}

impl Report {
    /// Obligations and profiles anew, after something about the cases has changed.
    pub fn fold_again(&mut self) {
        let of_interest: Vec<&Requirement> =
            self.obligations.iter().filter_map(|o| rap_spec::requirement(&o.id)).collect();
        (self.profiles, self.obligations) = tables(&of_interest, &self.cases);
    }

    /// The exit code that the report asks for: 0 nothing wrong, 1 something wrong, 3 the judge failed.
    /// With `must_only`, what is non-strict weighs nothing. What is flaky weighs as what differs.
    pub fn exit_code(&self, must_only: bool) -> u8 {
        let any = |verdict| self.cases.iter().any(|c| !c.known && c.weight() == verdict);
        if any(Verdict::Fail) || (!must_only && any(Verdict::NonStrict)) || !self.stale.is_empty() {
            1
        } else if any(Verdict::HarnessError) {
            3
        } else {
            0
        }
    }
}
