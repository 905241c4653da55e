//! Every obligation and every case can be explained.

use rap_conformance::explain::{Explained, explain, judging};

#[test]
fn every_obligation_is_explained_by_its_sentence_and_its_judge() {
    for requirement in rap_spec::REQUIREMENTS {
        let explained = explain(&requirement.id.to_lowercase()).expect(requirement.id);
        let text = explained.text();
        assert!(text.starts_with(requirement.id) && text.contains(requirement.text), "{text}");
        let Explained::Obligation(told) = explained else { panic!("{} is no obligation", requirement.id) };
        for case in &told.cases {
            assert!(text.contains(case.id) && text.contains(case.title), "{text}");
        }
        // Who is not told of a case is told why there is none.
        assert!(!told.cases.is_empty() || told.reason.is_some() || text.contains("no case"), "{text}");
        serde_json::to_string(&told).expect("JSON");
    }
}

#[test]
fn every_case_is_explained() {
    for case in judging() {
        let text = explain(case.id).expect(case.id).text();
        assert!(text.contains(case.title) && text.contains(case.obligations[0]), "{text}");
    }
}
