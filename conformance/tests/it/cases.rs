//! The tables of cases and rules: their names, what they say they judge, and that nothing that can be judged is
//! left out.

use rap_conformance::{cases, report::binds_server, rules};
use rap_spec::Judge;
use std::collections::HashSet;

#[test]
fn names_are_unique_and_every_obligation_is_known() {
    let mut names = HashSet::new();
    let all = cases::all();
    let rules = rules::all();
    let told = all
        .iter()
        .map(|c| (c.id, c.obligations, c.title))
        .chain(rules.iter().map(|r| (r.id, r.obligations, r.title)));
    for (id, obligations, title) in told {
        assert!(names.insert(id), "{id} twice");
        assert!(
            id.contains('/') && id.chars().all(|c| c.is_ascii_lowercase() || "/-0123456789x".contains(c)),
            "{id}"
        );
        assert!(!obligations.is_empty() && !title.ends_with('.'), "{id}");
        for obligation in obligations {
            assert!(rap_spec::requirement(obligation).is_some(), "{id}: {obligation}");
        }
    }
}

#[test]
fn every_obligation_of_a_server_that_can_be_judged_is() {
    let judged: HashSet<&str> = cases::all()
        .iter()
        .flat_map(|c| c.obligations)
        .chain(rules::all().iter().flat_map(|r| r.obligations))
        .copied()
        .collect();
    let missing: Vec<&str> = rap_spec::REQUIREMENTS
        .iter()
        .filter(|r| binds_server(r) && matches!(r.judge, Judge::Active | Judge::Passive))
        .map(|r| r.id)
        .filter(|id| !judged.contains(id))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The registry names the cases of each obligation, and the judge has exactly these.
#[test]
fn the_registry_names_every_case() {
    let judging = |id: &str| -> Vec<&str> {
        let cases = cases::all().into_iter().map(|c| (c.id, c.obligations));
        let rules = rules::all().into_iter().map(|r| (r.id, r.obligations));
        cases.chain(rules).filter(|(_, all)| all.contains(&id)).map(|(case, _)| case).collect()
    };
    let lines: Vec<String> = rap_spec::REQUIREMENTS
        .iter()
        .filter(|r| judging(r.id) != r.cases)
        .map(|r| format!("{}: cases = {:?}", r.id, judging(r.id)))
        .collect();
    assert!(lines.is_empty(), "spec/requirements.toml wants these lines:\n{}", lines.join("\n"));
}
