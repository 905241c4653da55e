//! The document of situations names tests that exist.

use std::{collections::BTreeMap, fs, path::Path};

/// Every test that the document names is one, and every situation names at least one.
#[test]
fn situations_name_tests_that_exist() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(crate_root.join("docs/situations.md")).unwrap();
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for file in fs::read_dir(crate_root.join("tests/it")).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.insert(module, fs::read_to_string(path).unwrap());
    }
    let mut situations = 0;
    let mut named = 0;
    for section in document.split("\n## ").skip(1) {
        situations += 1;
        assert!(section.contains("\nHeld by: `"), "no test is named: {section}");
    }
    for name in document.split('`').skip(1).step_by(2) {
        let Some((module, test)) = name.split_once("::") else { continue };
        let Some(text) = files.get(module) else { panic!("there is no file {module}.rs, of {name}") };
        assert!(text.contains(&format!("#[test]\nfn {test}()")), "there is no test {name}");
        named += 1;
    }
    assert!(situations >= 24, "{situations} situations");
    assert!(named >= situations, "{named} tests");
}
