//! Five hundred seeds hold every promise, and every fault is caught by the check that claims it.

#![allow(clippy::unwrap_used)]

use rap_sim::{Fault, run};

/// P1 to P12, on five hundred worlds.
#[test]
fn promises_hold() {
    for seed in 0..500 {
        if let Err(violation) = run(seed, None) {
            panic!("seed {seed}: {} is broken: {}", violation.promise, violation.message);
        }
    }
}

/// Each check is able to fail: a runtime with one mistake is caught, by the promise that the mistake breaks.
#[test]
fn every_fault_is_caught() {
    let mut wrong = Vec::new();
    for (fault, promise) in Fault::ALL {
        let caught =
            (0..1_000).find_map(|seed| run(seed, Some(fault)).err().map(|violation| (seed, violation)));
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
