//! The matrix of faults, as data: every case and every rule can fail, since a fault of the fixture makes it red. That
//! the matrix is true is shown by `cargo xtask conformance --matrix`.

use rap_conformance::explain::judging;
use std::collections::BTreeSet;

/// The rows of a table of the matrix that hold lists of cases.
fn matrix() -> toml::Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/matrix.toml");
    std::fs::read_to_string(path)
        .expect("the matrix has its shape")
        .parse()
        .expect("the matrix has its shape")
}

fn cases(list: &toml::Value) -> Vec<String> {
    list.as_array()
        .expect("the matrix has its shape")
        .iter()
        .map(|case| case.as_str().expect("the matrix has its shape").to_owned())
        .collect()
}

#[test]
fn every_case_is_killed_by_a_fault() {
    let matrix = matrix();
    let killed: BTreeSet<String> =
        matrix["caught-by"].as_table().expect("the matrix has its shape").values().flat_map(cases).collect();
    // The rules on runtimes are shown to speak by traces of their own (`runtime.rs`).
    let survivors: Vec<&str> = judging()
        .iter()
        .map(|case| case.id)
        .filter(|id| !id.starts_with("rule/runtime-") && !killed.contains(*id))
        .collect();
    assert!(survivors.is_empty(), "no fault is caught by {survivors:?}");
}

#[test]
fn the_matrix_names_only_what_there_is_and_gives_reasons() {
    let matrix = matrix();
    let known: BTreeSet<&str> = judging().iter().map(|case| case.id).chain(["preflight"]).collect();
    let caught = matrix["caught-by"].as_table().expect("the matrix has its shape");
    let none = toml::Table::new();
    let also = matrix.get("also").map_or(&none, |also| also.as_table().expect("the matrix has its shape"));
    for (fault, list) in caught {
        assert!(!cases(list).is_empty(), "{fault} is caught by nothing");
    }
    for (fault, entry) in also {
        assert!(!entry["reason"].as_str().expect("the matrix has its shape").is_empty(), "{fault}");
        let required = cases(&caught[fault]);
        assert!(cases(&entry["cases"]).iter().all(|case| !required.contains(case)), "{fault}: twice");
    }
    for case in caught.values().chain(also.values().map(|entry| &entry["cases"])).flat_map(cases) {
        assert!(known.contains(case.as_str()), "no case is called {case}");
    }
}
