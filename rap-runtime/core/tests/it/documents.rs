//! The documents name tests that exist.

use std::{collections::BTreeMap, fs, path::Path};

/// Every test that the document names is one, and every situation names at least one.
#[test]
fn situations_name_tests_that_exist() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(crate_root.join("docs/situations.md")).unwrap();
    let mut situations = 0;
    for section in document.split("\n## ").skip(1) {
        situations += 1;
        assert!(section.contains("\nHeld by: `"), "no test is named: {section}");
    }
    let named = tests_named(&document);
    assert!(situations >= 24, "{situations} situations");
    assert!(named >= situations, "{named} tests");
}

/// Every test that the walk through the design names is one, and every row names at least one.
#[test]
fn the_walk_names_tests_that_exist() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(crate_root.join("docs/walk.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| sentence"));
    let rows: Vec<&str> = rows.collect();
    for row in &rows {
        assert!(row.contains("::"), "no test is named: {row}");
    }
    assert!(rows.len() > 40, "{} sentences", rows.len());
    assert!(tests_named(&document) >= rows.len());
}

/// How many tests a document names, all of which are there.
fn tests_named(document: &str) -> usize {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.insert(module, fs::read_to_string(path).unwrap());
    }
    let mut named = 0;
    for name in document.split('`').skip(1).step_by(2) {
        let Some((module, test)) = name.split_once("::") else { continue };
        let Some(text) = files.get(module) else { panic!("there is no file {module}.rs, of {name}") };
        assert!(text.contains(&format!("#[test]\nfn {test}()")), "there is no test {name}");
        named += 1;
    }
    named
}
