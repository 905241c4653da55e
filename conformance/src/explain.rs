//! What an obligation or a case is about, without a server: `rap-conformance explain TRN-02`.

use crate::{
    cases,
    report::{judge_word, level_word, origin_word, profile},
    rules,
};
use rap_spec::{Requirement, Role};
use serde::Serialize;

/// What is known of an obligation or of a case.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Explained {
    /// An obligation.
    Obligation(Obligation),
    /// A case or a rule.
    Case(Judging),
}

/// An obligation.
#[derive(Debug, Clone, Serialize)]
pub struct Obligation {
    /// Its id.
    pub id: &'static str,
    /// Its sentence.
    pub text: &'static str,
    /// Whom it binds: `runtime`, `server` or `both`.
    pub role: &'static str,
    /// `MUST`, `SHOULD` or `MAY`.
    pub level: &'static str,
    /// `published`, `derived` or `ext`.
    pub origin: &'static str,
    /// How it can be judged.
    pub judge: &'static str,
    /// The page of the book.
    pub page: &'static str,
    /// The profile that it is counted in.
    pub profile: &'static str,
    /// Why no black box can judge it, where none can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What judges it.
    pub cases: Vec<Judging>,
    /// Documents of the specification that break it.
    pub vectors: Vec<String>,
}

/// A case or a rule.
#[derive(Debug, Clone, Serialize)]
pub struct Judging {
    /// Its id.
    pub id: &'static str,
    /// What holds when it passes.
    pub title: &'static str,
    /// The obligations that it judges.
    pub obligations: &'static [&'static str],
}

/// All cases, then all rules, in the order of reports.
pub fn judging() -> Vec<Judging> {
    let of_case =
        |c: &'static crate::case::Case| Judging { id: c.id, title: c.title, obligations: c.obligations };
    let of_rule = |r: &'static rules::Rule| Judging { id: r.id, title: r.title, obligations: r.obligations };
    cases::all().into_iter().map(of_case).chain(rules::all().into_iter().map(of_rule)).collect()
}

/// Whether a word is the beginning of a case, a rule, or an obligation that one of them judges.
pub fn names_something(word: &str) -> bool {
    let obligation = |all: &[&str]| all.iter().any(|o| o.starts_with(word));
    judging().iter().any(|c| c.id.starts_with(word) || obligation(c.obligations))
}

/// What is known of an id, in whatever case it is written.
///
/// # Errors
/// There is no such id; says which are near.
pub fn explain(id: &str) -> Result<Explained, String> {
    let upper = id.to_ascii_uppercase();
    if let Some(requirement) = rap_spec::requirement(&upper) {
        return Ok(Explained::Obligation(of(requirement)));
    }
    if let Some(case) = judging().into_iter().find(|c| c.id == id) {
        return Ok(Explained::Case(case));
    }
    let family = upper.split('-').next().unwrap_or_default().to_owned();
    let mut near: Vec<&str> = rap_spec::REQUIREMENTS
        .iter()
        .map(|r| r.id)
        .filter(|r| r.split('-').next() == Some(&family))
        .collect();
    if near.is_empty() {
        near = judging().into_iter().map(|c| c.id).filter(|c| c.contains(id)).take(12).collect();
    }
    let hint = match near.as_slice() {
        [] => "obligations are called TRN-02, cases are listed by `rap-conformance cases`".to_owned(),
        near => format!("there are {}", near.join(", ")),
    };
    Err(format!("nothing is called {id}; hint: {hint}"))
}

fn of(requirement: &'static Requirement) -> Obligation {
    let breaks = |v: &&rap_spec::Vector| v.expected.is_some_and(|e| e.obligation == requirement.id);
    Obligation {
        id: requirement.id,
        text: requirement.text,
        role: match requirement.role {
            Role::Runtime => "runtime",
            Role::Server => "server",
            Role::Both => "both",
        },
        level: level_word(requirement.level),
        origin: origin_word(requirement.origin),
        judge: judge_word(requirement.judge),
        page: requirement.page,
        profile: profile(requirement.id),
        reason: requirement.reason,
        cases: judging().into_iter().filter(|c| c.obligations.contains(&requirement.id)).collect(),
        vectors: rap_spec::VECTORS.iter().filter(breaks).map(|v| format!("{}/{}", v.kind, v.name)).collect(),
    }
}

impl Explained {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Case(case) => {
                format!("{}\n  {}\n  judges {}", case.id, case.title, case.obligations.join(", "))
            }
            Self::Obligation(o) => {
                let mut lines = vec![
                    format!("{}  {} · {} · {}", o.id, o.level, o.origin, o.role),
                    format!("  {}", o.text),
                    format!("  page \"{}\" of the book, profile {}, judged: {}", o.page, o.profile, o.judge),
                ];
                lines.extend(o.reason.map(|reason| format!("  {reason}")));
                if o.cases.is_empty() {
                    lines.push("  no case of this judge looks at it".to_owned());
                }
                lines.extend(o.cases.iter().map(|case| format!("  case {}: {}", case.id, case.title)));
                lines.extend(o.vectors.iter().map(|vector| format!("  broken by the document {vector}")));
                lines.join("\n")
            }
        }
    }
}
