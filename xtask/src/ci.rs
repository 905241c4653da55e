//! `cargo xtask ci`: everything that must hold before a change is good, in the order in which it fails
//! soonest. Each step is an ordinary command that can be run alone; its name and time are printed.

use crate::{book, consumers, examples, fuzz, say, sim, tools, torture};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

/// Packages that are libraries for others: they also build and pass their tests without default features.
const LIBRARIES: [&str; 7] =
    ["rap-types", "rap-http", "rap-caller", "rap-server", "rap-core", "rap-store-sqlite", "rap-runtime"];

/// The packages that know axum only behind a feature of that name, and what they are to be without it.
const WITHOUT_AXUM: [(&str, &str); 2] =
    [("rap-server", "macros,display-check"), ("rap-caller", "invoke,gateway")];

/// The packages without I/O, clock or dice: they build for a machine that has none.
const PURE: [&str; 2] = ["rap-types", "rap-core"];

/// Worlds that the simulation runs.
const SEEDS: &str = "10000";
/// Seconds that they may take. It is 60 that they are to take on a machine that does nothing else: more than twice as much
/// is no matter of the machine.
const SEEDS_WITHIN: &str = "150";

/// Of the faults of the known-bad server every so many is tried; `cargo xtask conformance --matrix` tries all.
const FAULTS: &str = "10";

/// How long each fuzz target runs.
const FUZZ_SECONDS: &str = "10";

/// Runs every step; the first failure ends it.
pub(crate) fn run() -> Result<(), String> {
    let began = Instant::now();
    let mut tests = Tests::default();
    let libraries: Vec<&str> = LIBRARIES.iter().flat_map(|package| ["-p", package]).collect();

    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("generated files", crate::r#gen::check)?;
    step("examples", examples::run)?;
    step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    step("each library alone", || {
        // Beside others a package has their features too, and lacks its own unseen.
        LIBRARIES.iter().try_for_each(|package| cargo(&["check", "--quiet", "-p", package]))
    })?;
    step("without axum", without_axum)?;
    step("tests", || test(&["test", "--workspace"], &mut tests))?;
    step("tests without default features", || {
        test(&[&["test", "--no-default-features"], &libraries[..]].concat(), &mut tests)
    })?;
    step("the simulation", || sim::run(&["--seeds", SEEDS, "--within", SEEDS_WITHIN]))?;
    step("torture", || torture::run(&["--rounds", "5"]))?;
    step("the demo", || cargo(&["demo"]))?;
    step("optional features", || {
        cargo(&[
            "clippy",
            "--quiet",
            "-p",
            "rap-cli",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ])?;
        test(&["test", "-p", "rap-cli", "--features", "models", "models"], &mut tests)?;
        test(&["test", "-p", "rap-runtime", "--features", "yaml", "--test", "it", "words"], &mut tests)
    })?;
    step("documentation", || {
        run_with(&["doc", "--workspace", "--no-deps", "--quiet"], &[("RUSTDOCFLAGS", "-D warnings")])
    })?;
    step("conformance", conformance)?;
    step("the book", book::run)?;
    step("fuzzing", || fuzz::run(&["--seconds", FUZZ_SECONDS]))?;
    step("pure packages on wasm32", pure)?;
    step("types for other languages", other_languages)?;
    step("licences, bans and sources", || {
        let deny = tools::cargo_deny()?;
        succeed(Command::new(deny).args(["check", "bans", "licenses", "sources"]))
    })?;
    say(&format!("all steps passed in {} s", began.elapsed().as_secs()));
    say(&format!("tests: {} passed, {} failed, {} skipped", tests.passed, tests.failed, tests.ignored));
    if tests.ignored > 0 && in_ci() {
        return Err("a skipped test is a failure in CI".to_owned());
    }
    Ok(())
}

#[derive(Default)]
struct Tests {
    passed: u64,
    failed: u64,
    ignored: u64,
}

fn step(name: &str, action: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    say(&format!("── {name}"));
    let began = Instant::now();
    action().map_err(|message| format!("{name}: {message}"))?;
    say(&format!("── {name}: passed in {} s", began.elapsed().as_secs()));
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    succeed(Command::new(env!("CARGO")).args(arguments).envs(environment.iter().copied()))
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|e| format!("{shown} cannot be started: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} ended with {status}")) }
}

/// Runs tests, passes their output on, and adds up what their closing lines say.
fn test(arguments: &[&str], tests: &mut Tests) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO"));
    let child = command.args(arguments).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|e| format!("cargo cannot be started: {e}"))?;
    let output = child.stdout.take().ok_or("bug: the output was piped")?;
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|e| format!("the output of the tests cannot be read: {e}"))?;
        if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |word: &str| {
                let before = counts.split(word).next().unwrap_or_default();
                before.split_whitespace().next_back().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0)
            };
            tests.passed += count(" passed");
            tests.failed += count(" failed");
            tests.ignored += count(" ignored");
        }
        say(&line);
    }
    let status = child.wait().map_err(|e| format!("the tests cannot be waited for: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} ended with {status}", arguments.join(" "))) }
}

/// Builds what is to be had without axum, and looks that nothing brings it in.
fn without_axum() -> Result<(), String> {
    for (package, features) in WITHOUT_AXUM {
        let without = ["-p", package, "--no-default-features", "--features", features];
        // Alone first: the tests bring axum, and with it features that the library may lack unseen.
        cargo(&[&["check", "--quiet"], &without[..]].concat())?;
        cargo(&[&["check", "--quiet", "--tests"], &without[..]].concat())?;
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
            .args(without)
            .output()
            .map_err(|e| format!("cargo tree cannot be started: {e}"))?;
        if !tree.status.success() {
            return Err(format!("cargo tree: {}", String::from_utf8_lossy(&tree.stderr)));
        }
        let tree = String::from_utf8_lossy(&tree.stdout);
        if !tree.lines().any(|line| line.starts_with("http v")) {
            return Err(format!("cargo tree said nothing of {package}:\n{tree}"));
        }
        if let Some(line) = tree.lines().find(|line| line.starts_with("axum")) {
            let hint = format!("cargo tree -p {package} --no-default-features --features {features} -i axum");
            return Err(format!("{package} without its feature `axum` brings {line}; see `{hint}`"));
        }
    }
    Ok(())
}

/// Makes types for TypeScript and Python and sends the vectors through them. Where npm or Python is missing,
/// it says so; in CI that is a failure.
fn other_languages() -> Result<(), String> {
    let works =
        |program: &str| Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    let missing: Vec<&str> = ["npm", "python3"].into_iter().filter(|program| !works(program)).collect();
    match missing.as_slice() {
        [] => consumers::run(),
        _ if in_ci() => Err(format!("not installed: {}", missing.join(", "))),
        _ => {
            say(&format!("SKIPPED: not installed: {}", missing.join(", ")));
            Ok(())
        }
    }
}

/// Judges the servers; the fixture in Python needs Python. Where it is missing, it says so; in CI that is a
/// failure.
fn conformance() -> Result<(), String> {
    if Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success()) {
        crate::conformance::run(&["--check"])?;
        return crate::conformance::run(&["--matrix", "--sample", FAULTS]);
    }
    if in_ci() {
        return Err("not installed: python3".to_owned());
    }
    say("SKIPPED: not installed: python3");
    Ok(())
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true")
}

/// Checks the pure packages where the target is installed, and says so where it is not.
fn pure() -> Result<(), String> {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output().map_err(|e| e.to_string())?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if !Path::new(&sysroot).join("lib/rustlib/wasm32-unknown-unknown").exists() {
        say("not checked: the target wasm32-unknown-unknown is not installed (rustup target add)");
        return Ok(());
    }
    let packages = PURE.iter().flat_map(|package| ["-p", package]);
    let arguments: Vec<&str> =
        ["check", "--quiet", "--target", "wasm32-unknown-unknown"].into_iter().chain(packages).collect();
    cargo(&arguments)
}
