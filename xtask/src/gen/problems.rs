//! The problem types that the crates of the wire answer with, and the book's table of them: neither may have one
//! that the other lacks.

use super::{list, read};
use std::{collections::BTreeSet, path::Path};

const PREFIX: &str = "| `urn:rap:problem:";
const PAGE: &str = "spec/text/extensions.md";
/// The crates that answer peers. (The API that a runtime has for its own users is not the protocol's.)
const CRATES: &[&str] = &["rap-http/src", "rap-client/src", "rap-server/src"];

/// Status and slug.
type Types = BTreeSet<(String, String)>;

/// What does not hold.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let mut sent = Types::new();
    for folder in CRATES {
        for path in list(&root.join(folder))? {
            sent.extend(types(&read(&path)?));
        }
    }
    let told = told(&read(&root.join(PAGE))?);
    Ok(faults(&sent, &told))
}

fn faults(sent: &Types, told: &Types) -> Vec<String> {
    let missing =
        sent.difference(told).map(|(s, t)| format!("{PAGE}: the problem type {t} ({s}) is missing"));
    let extra =
        told.difference(sent).map(|(s, t)| format!("{PAGE}: nobody sends the problem type {t} ({s})"));
    missing.chain(extra).collect()
}

/// The problems that a source makes: a status and a slug, both literal.
fn types(source: &str) -> Types {
    let code: Vec<&str> = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    code.join(" ")
        .split("::new(")
        .skip(1)
        .filter_map(|call| {
            let (status, rest) = call.split_once(',')?;
            let (slug, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
            let status = status.trim();
            let is_status = status.len() == 3 && status.starts_with(['4', '5']);
            (is_status && status.parse::<u16>().is_ok()).then(|| (status.to_owned(), slug.to_owned()))
        })
        .collect()
}

/// The rows of the book's table.
fn told(page: &str) -> Types {
    page.lines()
        .filter_map(|line| {
            let (slug, rest) = line.strip_prefix(PREFIX)?.split_once("` | ")?;
            Some((rest.split(' ').next()?.to_owned(), slug.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{faults, told, types};

    #[test]
    fn what_only_one_side_has_is_seen() {
        let sent = types(
            "Self::new(\n  400, \"bad\", \"Bad\")\n// Problem::new(401, \"no\", \"\")\nX::new(7, \"a\")",
        );
        assert_eq!(sent.len(), 1);
        assert!(faults(&sent, &told("| `urn:rap:problem:bad` | 400 | both | x |")).is_empty());
        assert_eq!(faults(&sent, &told("| `urn:rap:problem:bad` | 404 | both | x |")).len(), 2);
        assert_eq!(faults(&sent, &told("")).len(), 1);
    }
}
