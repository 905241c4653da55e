//! The benchmarks, one file each, and the servers that some of them start as processes of their own.

mod round_trip;
mod small_things;

use crate::harness::Bench;

/// All of them, in the order of the table of gates.
pub(crate) fn all() -> Vec<Box<dyn Bench>> {
    vec![Box::new(round_trip::RoundTrip), Box::new(small_things::SmallThings)]
}

/// Runs one of the servers until it is killed or its parent is gone.
pub(crate) fn serve(words: &[String]) -> Result<(), String> {
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tools"] => round_trip::serve_ours(),
        ["tools-floor"] => round_trip::serve_floor(),
        _ => Err(format!("no such server: {}", words.join(" "))),
    }
}
