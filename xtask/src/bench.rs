//! `cargo xtask bench`: the benchmarks, as a program of their own that is built in release.

use std::process::Command;

/// Runs the benchmarks with their options.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "-p", "rap-bench", "--"])
        .args(options)
        .status()
        .map_err(|e| format!("cargo cannot be started: {e}"))?;
    if status.success() { Ok(()) } else { Err("not every benchmark could be run".to_owned()) }
}
