//! Tools that the steps need beside cargo: found, or built once into `target/tools`.

use crate::{r#gen, say};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The version of cargo-deny that is built where none is installed.
const CARGO_DENY: &str = "0.20.2";

/// The version of mdBook that is built where none is installed.
const MDBOOK: &str = "0.5.4";

/// cargo-deny, installed or built.
pub(crate) fn cargo_deny() -> Result<PathBuf, String> {
    tool("cargo-deny", CARGO_DENY, &[])
}

/// mdBook, installed or built without its server, its watcher and its search, which are not used.
pub(crate) fn mdbook() -> Result<PathBuf, String> {
    tool("mdbook", MDBOOK, &["--no-default-features"])
}

fn tool(name: &str, version: &str, features: &[&str]) -> Result<PathBuf, String> {
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
        .args(features)
        .status()
        .map_err(|e| format!("cargo cannot be started: {e}"))?;
    if status.success() { Ok(built) } else { Err(format!("{name} could not be built: {status}")) }
}

fn works(program: &Path) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
