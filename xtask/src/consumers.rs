//! `consumers`: do ordinary generators of other languages make types of the schemas that take the vectors?
//!
//! TypeScript: `json-schema-to-typescript` from npm makes `rap.d.ts`; every valid vector, as a literal, must
//! have its type, and be the same after a trip through it. Python: `datamodel-code-generator` from PyPI makes
//! pydantic models, which read and write every valid vector. The packages for npm and PyPI are built, by npm and by
//! `build` with hatchling, and must hold the same files. All tools are installed below
//! `target/consumers`, once, and need npm, node and Python 3.11.

use crate::{
    r#gen::{list, read, root},
    say,
};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const NPM: &[&str] = &["json-schema-to-typescript@16.0.0", "typescript@5.9"];
const PYPI: &[&str] = &["datamodel-code-generator==0.89.0"];
const BUILD: &[&str] = &["build==1.3.0", "hatchling==1.27.0"];

/// Runs all of it.
pub(crate) fn run() -> Result<(), String> {
    let root = root();
    let work = root.join("target/consumers");
    fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    packages(&root, &work)?;
    typescript(&root, &work)?;
    python(&root, &work)
}

/// What npm and PyPI would carry: the same files, licences among them.
fn packages(root: &Path, work: &Path) -> Result<(), String> {
    let spec = root.join("spec");
    let packed = output(&spec, "npm", &["pack", "--dry-run", "--json", "--loglevel", "error"])?;
    let packed: serde_json::Value =
        serde_json::from_str(&packed).map_err(|e| format!("npm pack says no JSON: {e}"))?;
    let files = packed[0]["files"].as_array().ok_or("npm pack lists no files")?;
    let npm: BTreeSet<String> = files
        .iter()
        .filter_map(|file| file["path"].as_str())
        .filter(|path| !matches!(*path, "package.json" | "README.md"))
        .map(str::to_owned)
        .collect();

    let python = venv(work, "build-venv", "bin/pyproject-build", BUILD)?.join("bin/python");
    let wheels = work.join("wheels");
    if wheels.exists() {
        fs::remove_dir_all(&wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    }
    let python = path(&python);
    let built = ["-m", "build", "--wheel", "--no-isolation", "--outdir", &path(&wheels), &path(&spec)];
    output(work, &python, &built)?;
    let wheel = list(&wheels)?.pop().ok_or("no wheel was built")?;
    let names = "import sys, zipfile; print('\\n'.join(zipfile.ZipFile(sys.argv[1]).namelist()))";
    let names = output(work, &python, &["-c", names, &path(&wheel)])?;
    let wheel: BTreeSet<String> = names
        .lines()
        .filter_map(|name| match name.split_once(".dist-info/") {
            Some((_, about)) => about.strip_prefix("licenses/"),
            None => name.strip_prefix("rap_spec/"),
        })
        .filter(|path| *path != "__init__.py")
        .map(str::to_owned)
        .collect();

    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
        one.difference(other).take(10).cloned().collect()
    };
    let (npm_only, wheel_only) = (only(&npm, &wheel), only(&wheel, &npm));
    if !npm_only.is_empty() || !wheel_only.is_empty() {
        return Err(format!("packed only for npm: {npm_only:?}; only for PyPI: {wheel_only:?}"));
    }
    for needed in ["LICENSE-MIT", "LICENSE-APACHE", "requirements.toml", "schema/rap.json", "text/SUMMARY.md"]
    {
        if !npm.contains(needed) {
            return Err(format!("{needed} is in neither package"));
        }
    }
    say(&format!("packages: npm and PyPI carry the same {} files", npm.len()));
    Ok(())
}

/// Installs packages from npm into a folder.
pub(crate) fn npm(folder: &Path, packages: &[&str]) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let install = ["install", "--prefix", ".", "--no-fund", "--no-audit", "--loglevel", "error"];
    command(folder, "npm", install.iter().chain(packages))
}

fn typescript(root: &Path, work: &Path) -> Result<(), String> {
    if !work.join("npm/node_modules/.bin/json2ts").exists() {
        npm(&work.join("npm"), NPM)?;
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
    let bin = venv(work, "venv", "bin/datamodel-codegen", PYPI)?.join("bin");
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

/// A Python of its own with some packages, made once.
fn venv(work: &Path, name: &str, program: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let venv = work.join(name);
    if !venv.join(program).exists() {
        command(work, "python3", &["-m", "venv", name])?;
        command(work, &path(&venv.join("bin/pip")), ["install", "--quiet"].iter().chain(packages))?;
    }
    Ok(venv)
}

/// What a program says, when it ends well.
fn output(folder: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .map_err(|e| format!("{program}: {e}\nhint: `{program}` is needed for this task"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {}: {}\n{said}", arguments.join(" "), output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{program}: {e}"))
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
