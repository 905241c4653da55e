//! The benchmarks, one file each, and the servers that some of them start as processes of their own.

mod cold_start;
mod events;
mod full_circle;
mod hibernation;
mod resident;
mod round_trip;
mod slices;
mod small_things;
mod writes;

use crate::harness::Bench;

/// All of them, in the order of the table of gates.
pub(crate) fn all() -> Vec<Box<dyn Bench>> {
    vec![
        Box::new(round_trip::RoundTrip),
        Box::new(slices::Slices),
        Box::new(writes::Writes),
        Box::new(full_circle::FullCircle),
        Box::new(events::Events),
        Box::new(hibernation::Hibernation),
        Box::new(cold_start::ColdStart),
        Box::new(resident::Resident),
        Box::new(small_things::SmallThings),
    ]
}

/// Runs one of the other processes that benchmarks need.
pub(crate) fn serve(words: &[String]) -> Result<(), String> {
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tools"] => round_trip::serve_ours(),
        ["tools-floor"] => round_trip::serve_floor(),
        ["asleep", path] => hibernation::serve(path),
        ["cold-start", path] => cold_start::serve(path),
        ["cold-start-floor", path] => cold_start::serve_floor(path),
        ["resident", path, messages] => resident::serve(path, messages),
        ["turns", path, turns] => writes::serve_turns(path, turns),
        _ => Err(format!("no such server: {}", words.join(" "))),
    }
}
