//! `gen`: everything in the repository that is made from something else, and the check that it still is.
//!
//! Made: JSON Schemas from `rap-types`; the data tables of `rap-spec`; field tables and the coverage page of
//! the book. Checked only: that book and registry name the same obligations, that every example exists, that
//! the hand-written OpenAPI documents speak of the schemas that are there, and that versions agree, and that the book lists the problem types that are sent.

mod book;
mod openapi;
mod ordered;
mod problems;
mod schemas;
mod tables;

pub(crate) use schemas::KINDS;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Files to be, by their path below the root of the repository.
pub(crate) type Files = BTreeMap<PathBuf, String>;

/// Folders in which every file is made: one that is no longer made is drift.
const OWNED: &[&str] = &["spec/schema", "spec/text/generated"];

/// Writes what is made.
pub(crate) fn write() -> Result<(), String> {
    let root = root();
    let files = made(&root)?;
    for stale in stale(&root, &files)? {
        fs::remove_file(&stale).map_err(|e| format!("{}: {e}", stale.display()))?;
    }
    for (path, text) in &files {
        let path = root.join(path);
        if fs::read_to_string(&path).is_ok_and(|now| now == *text) {
            continue;
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    hold_together(&root)
}

/// Fails when a made file is not what would be made now.
pub(crate) fn check() -> Result<(), String> {
    let root = root();
    let files = made(&root)?;
    let mut drift: Vec<String> = files
        .iter()
        .filter(|(path, text)| !fs::read_to_string(root.join(path)).is_ok_and(|now| now == **text))
        .map(|(path, _)| format!("{}: not what `cargo xtask gen` makes", path.display()))
        .collect();
    drift.extend(stale(&root, &files)?.iter().map(|p| format!("{}: no longer made", p.display())));
    if !drift.is_empty() {
        drift.push("hint: run `cargo xtask gen`".to_owned());
    }
    if let Err(faults) = hold_together(&root) {
        drift.push(faults);
    }
    if drift.is_empty() { Ok(()) } else { Err(drift.join("\n")) }
}

fn made(root: &Path) -> Result<Files, String> {
    let mut files = Files::new();
    let schemas = schemas::make(root)?;
    book::make(root, &schemas, &mut files)?;
    schemas.files(&mut files);
    tables::make(root, &files.clone(), &mut files)?;
    // Packages carry their licences; a package for npm or PyPI holds only what lies in its folder.
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        files.insert(Path::new("spec").join(name), read(&root.join(name))?);
    }
    Ok(files)
}

fn hold_together(root: &Path) -> Result<(), String> {
    let mut faults = book::check(root)?;
    faults.extend(openapi::check(root)?);
    faults.extend(problems::check(root)?);
    faults.extend(versions(root)?);
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// The packages of `spec/` for other languages have the version of the workspace.
fn versions(root: &Path) -> Result<Vec<String>, String> {
    let manifest = |name: &str| -> Result<toml::Table, String> {
        toml::from_str(&read(&root.join(name))?).map_err(|e| format!("{name}: {e}"))
    };
    let cargo = manifest("Cargo.toml")?["workspace"]["package"]["version"].to_string();
    let python = manifest("spec/pyproject.toml")?["project"]["version"].to_string();
    let node: serde_json::Value = serde_json::from_str(&read(&root.join("spec/package.json"))?)
        .map_err(|e| format!("spec/package.json: {e}"))?;
    let node = node["version"].to_string();
    let found = [("spec/pyproject.toml", python), ("spec/package.json", node)];
    Ok(found
        .into_iter()
        .filter(|(_, version)| *version != cargo)
        .map(|(name, version)| format!("{name}: version {version}, but the workspace is {cargo}"))
        .collect())
}

fn stale(root: &Path, files: &Files) -> Result<Vec<PathBuf>, String> {
    let mut out = Vec::new();
    for folder in OWNED {
        for path in list(&root.join(folder))? {
            if !path.strip_prefix(root).is_ok_and(|p| files.contains_key(p)) {
                out.push(path);
            }
        }
    }
    Ok(out)
}

/// The files below a folder, in order; none where there is no folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut out = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return Ok(out) };
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", folder.display()))?.path();
        if path.is_dir() {
            out.extend(list(&path)?);
        } else {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The root of the repository: where `xtask` lies.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}
