//! `consumers`: do ordinary generators of other languages make types of the schemas that take the vectors?
//!
//! TypeScript: `json-schema-to-typescript` from npm makes `rap.d.ts`; every valid vector, as a literal, must
//! have its type, and be the same after a trip through it. Python: `datamodel-code-generator` from PyPI makes
//! pydantic models, which read and write every valid vector. Both tools are installed below
//! `target/consumers`, once, and need npm, node and Python 3.11.

use crate::{
    r#gen::{list, read, root},
    say,
};
use std::{fs, path::Path, process::Command};

const NPM: &[&str] = &["json-schema-to-typescript@16.0.0", "typescript@5.9"];
const PYPI: &[&str] = &["datamodel-code-generator==0.89.0"];

/// Runs both.
pub(crate) fn run() -> Result<(), String> {
    let root = root();
    let work = root.join("target/consumers");
    fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    typescript(&root, &work)?;
    python(&root, &work)
}

fn typescript(root: &Path, work: &Path) -> Result<(), String> {
    if !work.join("npm/node_modules/.bin/json2ts").exists() {
        let install = ["install", "--prefix", "npm", "--no-fund", "--no-audit", "--loglevel", "error"];
        command(work, "npm", install.iter().chain(NPM))?;
    }
    let bundle = path(&root.join("spec/schema/rap.json"));
    let json2ts = path(&work.join("npm/node_modules/.bin/json2ts"));
    command(work, &json2ts, &["-i", &bundle, "-o", "rap.d.ts", "--unreachableDefinitions"])?;

    let mut check = String::from("import type * as rap from \"./rap\";\n\nlet failed = 0;\nlet count = 0;\n");
    check.push_str("function same(name: string, value: unknown, text: string) {\n  count += 1;\n");
    check.push_str("  if (JSON.stringify(value) !== JSON.stringify(JSON.parse(text))) {\n");
    check.push_str("    failed += 1;\n    console.log(name);\n  }\n}\n\n");
    let folder = root.join("spec/vectors/valid");
    for (index, file) in list(&folder)?.iter().enumerate() {
        let name = file.strip_prefix(&folder).map_err(|e| e.to_string())?.to_string_lossy().into_owned();
        let kind = name.split('/').next().unwrap_or_default();
        let text = read(file)?;
        // As a plain key it would set the prototype.
        let literal = text.replace("\"__proto__\":", "[\"__proto__\"]:");
        let quoted = serde_json::Value::from(text.as_str());
        let title = title(kind);
        check.push_str(&format!(
            "const v{index}: rap.{title} = {literal};\nsame({name:?}, v{index}, {quoted});\n"
        ));
    }
    check.push_str(
        "\nconsole.log(`typescript: ${count - failed} of ${count} valid vectors round-tripped`);\n",
    );
    check.push_str("if (failed) throw new Error(\"not the same\");\n");
    write(&work.join("check.ts"), &check)?;
    let tsc = path(&work.join("npm/node_modules/.bin/tsc"));
    command(work, &tsc, &["--strict", "--target", "es2022", "--module", "commonjs", "check.ts"])?;
    command(work, "node", &["check.js"])
}

fn python(root: &Path, work: &Path) -> Result<(), String> {
    let bin = work.join("venv/bin");
    if !bin.join("datamodel-codegen").exists() {
        command(work, "python3", &["-m", "venv", "venv"])?;
        command(work, &path(&bin.join("pip")), ["install", "--quiet"].iter().chain(PYPI))?;
    }
    let bundle = path(&root.join("spec/schema/rap.json"));
    let generate = ["--input", &bundle, "--input-file-type", "jsonschema", "--output", "rap.py"];
    let style = ["--output-model-type", "pydantic_v2.BaseModel", "--extra-fields", "allow"];
    let stable = ["--formatters", "builtin", "--disable-timestamp", "--target-python-version", "3.11"];
    command(work, &path(&bin.join("datamodel-codegen")), generate.iter().chain(&style).chain(&stable))?;
    write(&work.join("check.py"), include_str!("consumers/check.py"))?;
    command(work, &path(&bin.join("python")), &["check.py", &path(&root.join("spec"))])
}

/// `user_choice` → `UserChoice`; a file's name and its type's.
fn title(kind: &str) -> &str {
    crate::r#gen::KINDS.iter().find(|k| k.name == kind).map_or(kind, |k| k.title)
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

fn command<'a>(
    work: &Path,
    program: &str,
    arguments: impl IntoIterator<Item = &'a &'a str>,
) -> Result<(), String> {
    let arguments: Vec<&str> = arguments.into_iter().copied().collect();
    let status = Command::new(program).args(&arguments).current_dir(work).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} {}: {status}", arguments.join(" "))),
        Err(error) => {
            say(&format!("hint: `{program}` is needed for this task"));
            Err(format!("{program}: {error}"))
        }
    }
}
