//! Five hundred seeds hold every promise, and every fault is caught by the check that claims it.

#![allow(clippy::unwrap_used)]

use rap_sim::{Fault, Report, Violation, reference, run};

/// P1 to P12, on five hundred worlds.
#[test]
fn promises_hold() {
    let mut total = Report::default();
    for seed in 0..500 {
        match run(seed, None) {
            Ok(report) => total.add(&report),
            Err(violation) => {
                panic!("seed {seed}: {} is broken: {}", violation.promise, violation.message)
            }
        }
    }
    // The worlds hold what they claim to hold.
    for (what, times) in [
        ("crashes", total.crashes),
        ("slices that lost their claim", total.fenced),
        ("summaries", total.summaries),
        ("words of people", total.words),
        ("errors of the store", total.store_errors),
        ("jumps of the clock", total.clock_jumps),
        ("long outages", total.outages),
        ("changes of the toolbox", total.refreshes),
        ("slices replayed from their records", total.replayed),
    ] {
        assert!(times > 0, "no {what} in five hundred worlds");
    }
}

/// Each check is able to fail: a runtime with one mistake is caught, by the promise that the mistake breaks. An outcome
/// that is lost when nobody waits for it any more is P10 by name (late is not lost), and P1 all the same: such a world
/// shows nothing wrong with P1's check, and the next one is asked.
#[test]
fn every_fault_is_caught() {
    let mut wrong = Vec::new();
    for (fault, promise) in Fault::ALL {
        let late = |violation: &Violation| promise == "P1" && violation.promise == "P10";
        let caught = (0..1_000)
            .filter_map(|seed| run(seed, Some(fault)).err().map(|violation| (seed, violation)))
            .find(|(_, violation)| !late(violation));
        match caught {
            Some((_, violation)) if violation.promise == promise => {}
            Some((seed, violation)) => {
                wrong.push(format!("{fault:?}: {promise} expected, seed {seed}: {violation:?}"))
            }
            None => wrong.push(format!("{fault:?}: never caught")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// P6, enumerated: killed before, during and after every write, send and completion of the reference scenario, a
/// run ends as the one that was not killed. The scenario holds what it claims to hold.
#[test]
fn a_kill_anywhere_changes_nothing() {
    let enumerated = reference().unwrap_or_else(|v| panic!("{} is broken: {}", v.promise, v.message));
    let told = |what: &str| enumerated.story.iter().any(|told| told.starts_with(what));
    for what in [
        "result failing error",
        "detached slow",
        "placeholder",
        "result slow late",
        "never ends cancelled",
        "choice",
        "result ask",
        "report",
        "event watch",
        "result sleep late",
        "closed",
        "approval drop",
        "approved",
        "result drop",
        "compacted",
    ] {
        assert!(told(what), "{what} is not in the story: {:#?}", enumerated.story);
    }
    for what in ["a commit", "a send", "an input", "a completion", "a question", "an answer", "a summary"] {
        assert!(
            enumerated.points.keys().any(|point| point.contains(what)),
            "{what}: {:?}",
            enumerated.points
        );
    }
    assert!(enumerated.kills > 150, "{enumerated:?}");
}

/// Every test and fault that the list of traps names exists.
#[test]
fn the_list_of_traps_is_true() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = include_str!("../docs/traps.md");
    let faults: Vec<String> = Fault::ALL.iter().map(|(fault, _)| format!("{fault:?}")).collect();
    for row in list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| trap")) {
        let names: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing is named: {row}");
        for name in names {
            let (place, what) = name.split_once("::").unwrap();
            if place == "Fault" {
                assert!(faults.iter().any(|fault| fault == what), "there is no fault {what}");
                continue;
            }
            let text = std::fs::read_to_string(root.join(place)).unwrap_or_else(|e| panic!("{place}: {e}"));
            assert!(text.contains(&format!("fn {what}(")), "there is no test {name}");
        }
    }
}
