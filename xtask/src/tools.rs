//! Tools that the steps need beside cargo: found, or built once into `target/tools`.

use crate::{r#gen, say};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The version of cargo-deny that is built where none is installed.
const CARGO_DENY: &str = "0.20.2";

/// cargo-deny, installed or built.
pub(crate) fn cargo_deny() -> Result<PathBuf, String> {
    tool("cargo-deny", CARGO_DENY)
}

fn tool(name: &str, version: &str) -> Result<PathBuf, String> {
    if works(Path::new(name)) {
        return Ok(PathBuf::from(name));
    }
    let root = r#gen::root().join("target/tools");
    let built = root.join("bin").join(name);
    if works(&built) {
        return Ok(built);
    }
    say(&format!("{name} is not installed: building version {version} once, which takes some minutes"));
    let package = format!("{name}@{version}");
    let status = Command::new(env!("CARGO"))
        .args(["install", "--locked", "--quiet", &package, "--root"])
        .arg(&root)
        .status()
        .map_err(|e| format!("cargo cannot be started: {e}"))?;
    if status.success() { Ok(built) } else { Err(format!("{name} could not be built: {status}")) }
}

fn works(program: &Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
