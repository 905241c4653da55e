//! Every obligation of a tool server is named by a test: by one of this package, of `rap-http`, or of an example.

use rap_spec::{REQUIREMENTS, Role};
use std::path::{Path, PathBuf};

/// Those that need a journal, OAuth or migration, which are not there yet. None of them may be met in silence: one that
/// gets a test leaves this list.
const LATER: [&str; 7] = ["TRN-11", "SUB-10", "ERR-03", "OAU-02", "OAU-03", "MIG-02", "MIG-04"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The text of all tests: whole files of `tests/`, of others what follows `mod tests`.
fn tests() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = String::new();
    for package in ["rap-server", "rap-http", "examples/weather", "examples/deploy", "examples/ci-watch"] {
        for folder in ["src", "tests"] {
            let mut found = Vec::new();
            sources(&root.join(package).join(folder), &mut found);
            for path in found {
                let source = std::fs::read_to_string(&path).unwrap();
                let from = if folder == "tests" { Some(0) } else { source.find("mod tests") };
                // This file names some that no test names.
                if let Some(from) = from.filter(|_| !path.ends_with("obligations.rs")) {
                    text.push_str(&source[from..]);
                }
            }
        }
    }
    text
}

#[test]
fn each_is_named_by_a_test() {
    let tests = tests();
    let of_a_server = REQUIREMENTS.iter().filter(|r| matches!(r.role, Role::Server | Role::Both));
    let (named, unnamed): (Vec<&str>, Vec<&str>) =
        of_a_server.map(|r| r.id).partition(|id| tests.contains(id));
    assert!(named.len() >= 39, "{named:?}");
    let missing: Vec<_> = unnamed.iter().filter(|id| !LATER.contains(id)).collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
    let met: Vec<_> = LATER.iter().filter(|id| !unnamed.contains(id)).collect();
    assert!(met.is_empty(), "a test names {met:?}: take them off the list");
}
