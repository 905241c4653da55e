//! Five hundred seeds hold every promise, and every fault is caught by the check that claims it.

#![allow(clippy::unwrap_used)]

use rap_sim::{Fault, Report, Violation, reference, run};
use std::{
    fs,
    path::{Path, PathBuf},
};

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
        ("models chosen", total.choices),
        ("turns put off", total.put_off),
        ("clocks that were set back", total.set_back),
        ("servers asked again because a person wanted it", total.looks),
        ("messages of parents that a child was shown", total.told),
    ] {
        assert!(times > 0, "no {what} in five hundred worlds");
    }
}

/// A bug that a world found stays mended: its seed is in the list, with what it was, and runs with every test.
#[test]
fn bugs_that_were_found_stay_mended() {
    for line in include_str!("seeds.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (seed, what) = line.split_once(char::is_whitespace).expect("a seed, and what it found");
        let seed = seed.parse().unwrap_or_else(|_| panic!("{seed:?} is no seed"));
        assert!(!what.trim().is_empty());
        if let Err(violation) = run(seed, None) {
            panic!("seed {seed} ({}): {} is broken: {}", what.trim(), violation.promise, violation.message);
        }
    }
}

/// Each check is able to fail: a runtime with one mistake is caught, by the promise that the mistake breaks. An outcome
/// that is lost when nobody waits for it any more is P10 by name (late is not lost), and P1 all the same: such a world
/// shows nothing wrong with P1's check, and the next one is asked. So with an input that is overlooked while the model waits
/// for nothing else (a summary), which is P11 by name.
#[test]
fn every_fault_is_caught() {
    let mut wrong = Vec::new();
    for (fault, promise) in Fault::ALL {
        let late = |violation: &Violation| match violation.promise {
            "P10" => promise == "P1",
            // What was lost may be a question of a call, which is owed then.
            "P11" => matches!(
                fault,
                Fault::OverlookUnseenInputs | Fault::AnswerBeforeAccepting | Fault::AnswerDespiteAnError
            ),
            // A message to a child that waits for ever.
            "P1" => fault == Fault::MakePeopleWait,
            _ => false,
        };
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let list = include_str!("../docs/traps.md");
    let (_, others) = list.split_once("\n## Traps of other packages").unwrap();
    let faults: Vec<String> = Fault::ALL.iter().map(|(fault, _)| format!("{fault:?}")).collect();
    for row in list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| trap")) {
        let elsewhere = others.contains(row);
        let names: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let named = names.iter().filter_map(|name| name.split_once("::")).collect::<Vec<_>>();
        assert!(elsewhere || !named.is_empty(), "nothing is named: {row}");
        for (place, what) in named {
            let name = format!("{place}::{what}");
            if place == "Fault" {
                assert!(faults.iter().any(|fault| fault == what), "there is no fault {what}");
                continue;
            }
            let text = fs::read_to_string(root.join(place)).unwrap_or_else(|e| panic!("{place}: {e}"));
            assert!(text.contains(&format!("fn {what}(")), "there is no test {name}");
        }
    }
}

/// The sources of the packages that a runtime is made of.
fn sources(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "toml") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

fn of_the_runtime() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for part in [
        "rap-http/src",
        "rap-client/src",
        "rap-runtime/src",
        "rap-runtime/core/src",
        "rap-runtime/stores",
        "rap-runtime/models/src",
    ] {
        sources(&root.join(part), &mut found);
    }
    for manifest in ["rap-http", "rap-client", "rap-runtime", "rap-runtime/core", "rap-runtime/models"] {
        let path = root.join(manifest).join("Cargo.toml");
        let text = fs::read_to_string(&path).unwrap();
        found.push((path, text));
    }
    assert!(found.len() > 60, "{} files", found.len());
    found
}

/// The trap "one malformed message panics with a lock held, and the program is dead for everyone": whoever takes a lock
/// of the standard library says what happens when its last holder panicked.
#[test]
fn no_lock_is_broken_by_a_panic() {
    for (path, text) in of_the_runtime() {
        let text: String = text.split_whitespace().collect();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for taken in ["lock", "read", "write"] {
            for careless in [".unwrap()", ".expect("] {
                let found = text.contains(&format!(".{taken}(){careless}"));
                assert!(
                    !found || path.components().any(|part| part.as_os_str() == "tests"),
                    "{}: .{taken}(){careless}",
                    path.display()
                );
            }
        }
    }
}

/// TLS-09, and the trap "an endless display script freezes the process": scripts of servers are texts to a runtime; it
/// has nothing to run them with.
#[test]
fn nothing_here_runs_a_script() {
    for (path, text) in of_the_runtime().into_iter().filter(|(path, _)| path.ends_with("Cargo.toml")) {
        assert!(
            !text.contains("rhai"),
            "{} runs scripts: bound their steps, depth, sizes and time",
            path.display()
        );
    }
}
