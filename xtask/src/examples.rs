//! `cargo xtask examples`: every public thing of the libraries that people build on is shown at work.
//!
//! The rule (docs/decisions/0011): a public struct, enum, trait, function, alias or macro has an example in its own
//! documentation, or its name stands in some example of its crate, the README included. Of the types that people work with
//! all day each public method is called in an example, where a reader sees it. All of these are compiled as doctests.
//! Constants, other methods, fields and variants are shown by what they belong to.

use std::{collections::BTreeSet, fs, path::Path};

/// The packages that are held to it, by folder, and their types whose methods are.
const CRATES: [(&str, &[&str]); 4] = [
    ("rap-types", &[]),
    ("rap-http", &[]),
    ("rap-client", &["Caller"]),
    ("rap-server", &["ToolServer", "Tool", "Call", "Emitter", "TestServer"]),
];

/// Fails with a list of what has no example.
pub(crate) fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut missing = Vec::new();
    for (package, types) in CRATES {
        let mut files = Vec::new();
        sources(&root.join(package).join("src"), &mut files)?;
        missing.extend(of_package(package, types, &files, &read(&root.join(package).join("README.md"))?));
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

fn of_package(package: &str, types: &[&str], files: &[String], readme: &str) -> Vec<String> {
    let mut shown = Shown::default();
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
                .filter(|(name, has_own)| !has_own && !shown.words.contains(*name))
                .map(|(name, _)| format!("{package}: {name}")),
        );
        let methods = methods(file, types).into_iter().filter(|(of, name)| !shown.calls(of, name));
        missing.extend(methods.map(|(of, name)| format!("{package}: {of}::{name}")));
    }
    missing
}

/// What stands in code blocks that are compiled as Rust.
#[derive(Default)]
struct Shown {
    words: BTreeSet<String>,
    /// The lines that a reader sees.
    visible: String,
}

impl Shown {
    /// Whether a method of a type is called: `.name(`, or named with its type.
    fn calls(&self, of: &str, name: &str) -> bool {
        let in_a_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let path = format!("{of}::{name}");
        self.visible.contains(&format!(".{name}("))
            || self.visible.match_indices(&path).any(|(at, _)| {
                let (before, after) = (&self.visible[..at], &self.visible[at + path.len()..]);
                !in_a_word(before.chars().next_back()) && !in_a_word(after.chars().next())
            })
    }
}

fn examples<'a>(lines: impl Iterator<Item = &'a str>, shown: &mut Shown) {
    let mut inside = None;
    for line in lines {
        match (line.trim_start().strip_prefix("```"), inside) {
            (Some(_), Some(_)) => inside = None,
            (Some(kind), None) => {
                inside = Some(kind.split(',').all(|word| matches!(word.trim(), "" | "rust" | "no_run")));
            }
            (None, Some(true)) => {
                let identifiers = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                shown.words.extend(identifiers.filter(|word| !word.is_empty()).map(str::to_owned));
                let line = line.trim_start();
                if line != "#" && !line.starts_with("# ") && !line.starts_with("//") {
                    shown.visible.push_str(line);
                    shown.visible.push('\n');
                }
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
        // Public for the compiler's sake only: nobody is to know it.
        if line == "#[doc(hidden)]" || line.starts_with("///") {
            example |= line.starts_with('#') || line.contains("```");
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

/// The public methods of some types: whose, and what they are called.
fn methods<'f>(file: &'f str, types: &[&'f str]) -> Vec<(&'f str, &'f str)> {
    let word =
        |text: &'f str| &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())];
    let mut found = Vec::new();
    let mut inside = None;
    for line in file.lines() {
        if let Some(of) = line.strip_prefix("impl ") {
            inside = types.iter().find(|name| word(of) == **name && !of.contains(" for "));
        } else if line == "}" {
            inside = None;
        }
        if let (Some(of), Some(item)) = (inside, line.strip_prefix("    pub ")) {
            let mut words =
                item.split_whitespace().skip_while(|word| matches!(*word, "async" | "const" | "unsafe"));
            if let (Some("fn"), Some(name)) = (words.next(), words.next()) {
                found.push((*of, word(name)));
            }
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
                    /// C.\npub async fn c() {}\n\npub(crate) struct D;\n\npub const E: u8 = 1;\n\n/// H.\n#[doc(hidden)]\n#[derive(Debug)]\npub struct H;\n";
        assert_eq!(of_package("x", &[], &[file.to_owned()], ""), ["x: c"]);
        assert!(of_package("x", &[], &[file.to_owned()], "```rust,no_run\nc().await;\n```\n").is_empty());
        assert_eq!(of_package("x", &[], &[file.to_owned()], "```text\nc\n```\n"), ["x: c"]);
    }

    /// A method is shown where it is called, not where its name stands for something else, or where nobody sees it.
    #[test]
    fn methods_shown_or_not() {
        let file = "/// A.\npub struct A;\n\nimpl A {\n    /// The grace.\n    pub async fn grace<T>(&self) {}\n\n    fn own() {}\n\n    \
                    pub(crate) fn inner() {}\n}\n\nimpl Clone for A {\n    pub fn no() {}\n}\n\npub struct B;\n\nimpl B {\n    \
                    pub fn other() {}\n}\n";
        let told = |example: &str| {
            let readme = format!("```\nlet (a, b) = (A, B);\n{example}\n```\n");
            of_package("x", &["A"], &[file.to_owned()], &readme)
        };
        for example in ["a.grace().await;", "a\n    .grace()", "A::grace(&a)", "let f = A::grace;"] {
            assert!(told(example).is_empty(), "{example}");
        }
        for example in [
            "",
            "let grace = 1;",
            "b.grace = 1;",
            "grace();",
            "AA::grace()",
            "A::graceful()",
            "a.graceful()",
            "// a.grace()",
            "# a.grace();",
        ] {
            assert_eq!(told(example), ["x: A::grace"], "{example}");
        }
    }

    #[test]
    fn everything_is_shown() {
        assert_eq!(run(), Ok(()));
    }
}
