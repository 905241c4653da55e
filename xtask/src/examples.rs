//! `cargo xtask examples`: every public thing of the libraries that people build on is shown at work.
//!
//! The rule (docs/decisions/0011): a public struct, enum, trait, function, alias or macro has an example in its own
//! documentation, or its name stands in some example of its crate, the README included. All of these are compiled as doctests. Constants, methods, fields and variants are shown by what
//! they belong to.

use std::{collections::BTreeSet, fs, path::Path};

/// The packages that are held to it, by folder.
const CRATES: [&str; 4] = ["rap-types", "rap-http", "rap-client", "rap-server"];

/// Public for the compiler's sake only, in private modules: nobody can name them.
const UNNAMEABLE: [&str; 3] = ["Sealed", "WithArgs", "WithoutArgs"];

/// Fails with a list of what has no example.
pub(crate) fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut missing = Vec::new();
    for package in CRATES {
        let mut files = Vec::new();
        sources(&root.join(package).join("src"), &mut files)?;
        missing.extend(of_package(package, &files, &read(&root.join(package).join("README.md"))?));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these have no example; write one that compiles into their documentation:\n{}",
        missing.join("\n")
    ))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn sources(folder: &Path, into: &mut Vec<String>) -> Result<(), String> {
    let unreadable = |e| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            sources(&path, into)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push(read(&path)?);
        }
    }
    Ok(())
}

fn of_package(package: &str, files: &[String], readme: &str) -> Vec<String> {
    let mut shown = BTreeSet::new();
    examples(readme.lines(), &mut shown);
    for file in files {
        let docs = file.lines().map(str::trim_start).map(|line| {
            line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).map_or("", str::trim_start)
        });
        examples(docs, &mut shown);
    }
    let mut missing = Vec::new();
    for file in files {
        missing.extend(
            public(file)
                .into_iter()
                .filter(|(name, has_own)| !has_own && !shown.contains(*name) && !UNNAMEABLE.contains(name)),
        );
    }
    missing.into_iter().map(|(name, _)| format!("{package}: {name}")).collect()
}

/// The words of all code blocks that are compiled as Rust.
fn examples<'a>(lines: impl Iterator<Item = &'a str>, words: &mut BTreeSet<String>) {
    let mut inside = None;
    for line in lines {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(kind), None) => {
                inside = Some(kind.split(',').all(|word| matches!(word.trim(), "" | "rust" | "no_run")));
            }
            (None, Some(true)) => {
                let identifiers = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                words.extend(identifiers.filter(|word| !word.is_empty()).map(str::to_owned));
            }
            _ => {}
        }
    }
}

/// The public items of a file, and whether there is an example in their own documentation.
fn public(file: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    let mut example = false;
    for line in file.lines() {
        if line.starts_with("///") {
            example |= line.contains("```");
            continue;
        }
        let mut words = line.split_whitespace().skip(1).skip_while(|word| *word == "async");
        if line.starts_with("pub ")
            && let Some("struct" | "enum" | "trait" | "fn" | "type" | "macro") = words.next()
            && let Some(rest) = words.next()
        {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.push((&rest[..end], example));
        }
        // Attributes stand between documentation and item, over several lines.
        if line.starts_with("pub") || line.is_empty() || line.starts_with('}') {
            example = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_or_not() {
        let file = "/// A.\n///\n/// ```\n/// let b = B;\n/// ```\n#[derive(\n    Debug\n)]\npub struct A;\n\n/// B.\npub enum B {}\n\n\
                    /// C.\npub async fn c() {}\n\npub(crate) struct D;\n\npub const E: u8 = 1;\n";
        assert_eq!(of_package("x", &[file.to_owned()], ""), ["x: c"]);
        assert!(of_package("x", &[file.to_owned()], "```rust,no_run\nc().await;\n```\n").is_empty());
        assert_eq!(of_package("x", &[file.to_owned()], "```text\nc\n```\n"), ["x: c"]);
    }

    #[test]
    fn everything_is_shown() {
        assert_eq!(run(), Ok(()));
    }
}
