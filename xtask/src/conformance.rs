//! `cargo xtask conformance`: the judge against our servers and the Python fixture, and the proof that it can
//! fail.
//!
//! Every peer must end with exit code 0, in time, and of every case one of the fixture servers must show that it can be
//! passed. What was said of each obligation goes to `conformance/results/`, as a
//! table of obligations, cases and peers; `--check` fails where that differs from what is committed. With
//! `--matrix`, every case runs against every fault of the Python fixture: those that claim it are red, their
//! neighbours green; `--sample N` takes every Nth fault. The other way round, no variant of that fixture which is right
//! in a way of its own may be found fault with.

use crate::{
    r#gen::{read, root},
    say,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The programs that are built for it.
const PACKAGES: [&str; 5] = ["rap-conformance", "rap-fixture-reference", "weather", "deploy", "ci-watch"];

/// Where the table is kept.
const RESULTS: &str = "conformance/results/coverage.md";

const USAGE: &str = "usage: cargo xtask conformance [--check] [--matrix [--sample N] [--write]]";

/// No run against a healthy server may take as long, in seconds, twice, on a machine that has time.
const LONGEST: f64 = 20.0;

/// A server that is judged.
struct Peer {
    name: &'static str,
    command: String,
    folder: PathBuf,
}

/// Runs what the options say.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let (mut check, mut matrix, mut write, mut sample) = (false, false, false, 1);
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match *word {
            "--check" => check = true,
            "--matrix" => matrix = true,
            "--write" => write = true,
            "--sample" => sample = words.next().and_then(|n| n.parse().ok()).ok_or(USAGE)?,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let work = root().join("target/conformance");
    fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
    build()?;
    let python = python(&work)?;
    if matrix {
        return faults(&python, sample, write);
    }
    fixture_tests(&python)?;
    variants(&python)?;
    peers(&python, &work, check)
}

fn build() -> Result<(), String> {
    let packages = PACKAGES.iter().flat_map(|package| ["-p", package]);
    let mut command = Command::new(env!("CARGO"));
    succeed(command.args(["build", "--quiet"]).args(packages))
}

/// A Python with what the fixture needs, made once.
fn python(work: &Path) -> Result<PathBuf, String> {
    let wanted = root().join("conformance/fixtures/python/requirements.txt");
    let made = work.join("requirements.txt");
    let python = work.join("venv/bin/python");
    let requirements = read(&wanted)?;
    if fs::read_to_string(&made).is_ok_and(|text| text == requirements) && python.exists() {
        return Ok(python);
    }
    say("making a Python environment for the fixture server, once");
    succeed(Command::new("python3").args(["-m", "venv"]).arg(work.join("venv")))?;
    let mut pip = Command::new(work.join("venv/bin/pip"));
    succeed(pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&wanted))?;
    fs::write(&made, requirements).map_err(|e| format!("{}: {e}", made.display()))?;
    Ok(python)
}

/// The tests of the fixture server in Python, and of its faults.
fn fixture_tests(python: &Path) -> Result<(), String> {
    let mut command = Command::new(python);
    command.args(["-W", "ignore", "-m", "unittest", "--quiet"]);
    succeed(command.current_dir(root().join("conformance/fixtures/python")))
}

/// Servers that are right in ways of their own must not be found fault with.
fn variants(python: &Path) -> Result<(), String> {
    let mut command = Command::new(python);
    command.args(["-m", "variants.matrix", "--judge"]).arg(built("rap-conformance"));
    succeed(command.current_dir(root().join("conformance/fixtures/python")))
}

fn peers(python: &Path, work: &Path, check: bool) -> Result<(), String> {
    // They end with a judge that is killed.
    let own =
        |name| Peer { name, command: format!("{} --exit-on-stdin-eof", path(&built(name))), folder: root() };
    let port = |name| {
        let own = own(name);
        Peer { command: format!("{} --port {{port}}", own.command), ..own }
    };
    let fixture = |name, more: &str| Peer {
        name,
        command: format!(
            "{} -m rap_fixture --port {{port}} --data {{data}} --exit-on-stdin-eof{more}",
            path(python)
        ),
        folder: root().join("conformance/fixtures/python"),
    };
    let reference = |name, more: &str| {
        let peer = port("rap-fixture-reference");
        Peer { name, command: format!("{}{more}", peer.command), ..peer }
    };
    let peers = [
        // Two instances with tokens of their own do not trust each other, hence one without.
        fixture("python", ""),
        fixture("python-token", " --token {token}"),
        fixture("python-signed", " --webhook-secret {secret}"),
        reference("reference", ""),
        reference("reference-token", " --token {token}"),
        reference("reference-signed", " --webhook-secret {secret}"),
        port("weather"),
        own("deploy"),
        own("ci-watch"),
    ];
    let mut reports = Vec::new();
    let mut failed = Vec::new();
    for peer in &peers {
        let (mut code, mut report) = judge(peer, work)?;
        if seconds(&report) >= LONGEST && !busy() {
            (code, report) = judge(peer, work)?;
        }
        let seconds = seconds(&report);
        say(&format!("{}: exit code {code}, {} in {seconds:.1} s", peer.name, counts(&report)));
        if code != 0 {
            say(&told(&report));
            failed.push(peer.name);
        }
        if seconds >= LONGEST && busy() {
            say(&format!("{}: slow, on a machine that does much else", peer.name));
        } else if seconds >= LONGEST {
            return Err(format!("{}: a healthy server is judged in less than {LONGEST} s", peer.name));
        }
        reports.push((peer.name, report));
    }
    if !failed.is_empty() {
        return Err(format!("not conforming: {}", failed.join(", ")));
    }
    let gaps = never_passed(reports.iter().filter(|(name, _)| is_fixture(name)).map(|(_, report)| report));
    if !gaps.is_empty() {
        let gaps = gaps.join(", ");
        return Err(format!(
            "cases that no fixture server passes, so that nothing shows they can be: {gaps}"
        ));
    }
    let table = table(&reports);
    let results = root().join(RESULTS);
    if check {
        let same = fs::read_to_string(&results).is_ok_and(|text| text == table);
        return if same {
            Ok(())
        } else {
            fs::write(work.join("coverage.md"), &table).map_err(|e| e.to_string())?;
            Err(format!("{RESULTS} is not what was just seen; hint: `cargo xtask conformance` writes it"))
        };
    }
    fs::create_dir_all(results.parent().unwrap_or(&results)).map_err(|e| e.to_string())?;
    fs::write(&results, table).map_err(|e| format!("{RESULTS}: {e}"))
}

fn judge(peer: &Peer, work: &Path) -> Result<(i32, Value), String> {
    let report = Command::new(built("rap-conformance"))
        .args(["server", "--json", "--spawn", &peer.command])
        .arg("--markdown")
        .arg(work.join(format!("{}.md", peer.name)))
        .current_dir(&peer.folder)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("the judge cannot be started: {e}"))?;
    let code = report.status.code().unwrap_or(-1);
    if code == 2 || code == 3 {
        return Err(format!("{}: the judge ended with exit code {code}", peer.name));
    }
    let json =
        serde_json::from_slice(&report.stdout).map_err(|e| format!("{}: no report: {e}", peer.name))?;
    Ok((code, json))
}

/// Every fault must be caught by the cases that claim it, and by no others but those named with a reason.
fn faults(python: &Path, sample: usize, write: bool) -> Result<(), String> {
    let folder = root().join("conformance/fixtures/python");
    let listed = Command::new(python)
        .args(["-m", "known_bad", "--list-faults"])
        .current_dir(&folder)
        .output()
        .map_err(|e| format!("the faults cannot be listed: {e}"))?;
    let listed: Vec<Value> =
        serde_json::from_slice(&listed.stdout).map_err(|e| format!("no list of faults: {e}"))?;
    let names = listed.iter().filter_map(|fault| fault["name"].as_str()).step_by(sample.max(1));
    let mut command = Command::new(python);
    command.args(["-m", "known_bad.matrix", "--judge"]).arg(built("rap-conformance")).current_dir(&folder);
    if sample > 1 {
        command.args(names.flat_map(|name| ["--only", name]));
    }
    if write {
        command.arg("--write");
    }
    succeed(&mut command)
}

fn counts(report: &Value) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for case in cases(report) {
        *counts.entry(case["verdict"].as_str().unwrap_or("?")).or_default() += 1;
    }
    counts.iter().map(|(verdict, n)| format!("{n} {verdict}")).collect::<Vec<_>>().join(", ")
}

fn cases(report: &Value) -> impl Iterator<Item = &Value> {
    report["cases"].as_array().into_iter().flatten()
}

/// The findings, a line each.
fn told(report: &Value) -> String {
    let findings = |case: &Value| {
        let id = case["id"].as_str().unwrap_or_default().to_owned();
        let all = case["findings"].as_array().cloned().unwrap_or_default();
        all.into_iter().map(move |f| {
            let word = |name: &str| f[name].as_str().unwrap_or_default().to_owned();
            format!("  {} ({id}): {}", word("obligation"), word("sentence"))
        })
    };
    cases(report).flat_map(findings).collect::<Vec<_>>().join("\n")
}

/// Whether a peer is one of the two fixture servers, in whatever dress.
fn is_fixture(peer: &str) -> bool {
    peer.starts_with("python") || peer.starts_with("reference")
}

/// Whether more waits for this machine's processors than they can do.
fn busy() -> bool {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
    load > 2.0 * std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

fn seconds(report: &Value) -> f64 {
    report["took_ms"].as_f64().unwrap_or(0.0) / 1000.0
}

/// The cases that passed in none of the reports.
fn never_passed<'a>(reports: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut passed: BTreeMap<&str, bool> = BTreeMap::new();
    for case in reports.flat_map(cases) {
        let id = case["id"].as_str().unwrap_or_default();
        *passed.entry(id).or_default() |= case["verdict"] == "pass";
    }
    passed.into_iter().filter(|(_, passed)| !passed).map(|(id, _)| id.to_owned()).collect()
}

/// Obligation × case × peer, as Markdown. It holds no time, no port and no version, so that it changes only when
/// what is said changes.
fn table(reports: &[(&str, Value)]) -> String {
    let names: Vec<&str> = reports.iter().map(|(name, _)| *name).collect();
    let mut out = String::from(
        "# What the judge says of our servers\n\nWritten by `cargo xtask conformance` from real runs. A capability that a peer \
         lacks is `unimplemented`: a toolset that is no fixture can be asked only what its own tools allow.\n\n",
    );
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "| obligation | level | cases | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|---|---|{}", "---|".repeat(names.len()));
    let rows = |report: &Value| report["obligations"].as_array().cloned().unwrap_or_default();
    let all: Vec<Vec<Value>> = reports.iter().map(|(_, report)| rows(report)).collect();
    for (at, row) in all.first().into_iter().flatten().enumerate() {
        let verdicts: Vec<&str> =
            all.iter().map(|rows| rows.get(at).and_then(|r| r["verdict"].as_str()).unwrap_or("")).collect();
        let cases: Vec<&str> =
            row["cases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            row["id"].as_str().unwrap_or_default(),
            row["level"].as_str().unwrap_or_default(),
            cases.join(", "),
            verdicts.join(" | ")
        );
    }
    out
}

fn built(program: &str) -> PathBuf {
    root().join("target/debug").join(program)
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let shown = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| format!("{shown} cannot be started: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} ended with {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The two fixture servers together pass every case, or it is said which ones neither does.
    #[test]
    fn a_case_that_no_fixture_passes_is_named() {
        let report = |of: &[(&str, &str)]| {
            let cases: Vec<Value> = of.iter().map(|(id, v)| json!({ "id": id, "verdict": v })).collect();
            json!({ "cases": cases })
        };
        let python = report(&[("a/a", "pass"), ("b/b", "unimplemented"), ("c/c", "inconclusive")]);
        let reference = report(&[("a/a", "unimplemented"), ("b/b", "pass"), ("c/c", "unimplemented")]);
        assert_eq!(never_passed([&python, &reference].into_iter()), ["c/c"]);
        assert!(is_fixture("python-token") && is_fixture("reference") && !is_fixture("weather"));
    }
}
