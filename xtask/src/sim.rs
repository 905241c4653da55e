//! `cargo xtask sim`: the simulation, as a program of its own so that it is built with its own profile.

use std::process::Command;

/// Runs the simulation with its options.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "-p", "rap-sim", "--"])
        .args(options)
        .status()
        .map_err(|e| format!("cargo cannot be started: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the simulation found a broken promise, or took too long".to_owned())
    }
}
