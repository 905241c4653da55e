//! `cargo xtask fuzz`: every target of `fuzz/` for a while, from a corpus made of the vectors.
//!
//! Needs neither cargo-fuzz nor a nightly compiler: the coverage counters that libFuzzer follows are switched on
//! by flags of the stable one. Memory is not sanitised, since nothing here is unsafe; what is found is a panic,
//! a broken promise, too much time or too much memory.

use crate::{
    r#gen::{list, root},
    say,
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

/// Each target, and the kinds of vectors that it begins with; seeds of its own lie in `fuzz/seeds/<target>`.
const TARGETS: &[(&str, &[&str])] = &[
    ("callback", &["tool_result", "subscription_event", "oauth", "user_choice", "view_update"]),
    ("invocation", &["invocation"]),
    (
        "requests",
        &[
            "close_thread",
            "cancel_tool_call",
            "tool_call_status",
            "tool_call_alive",
            "migrate",
            "choice_response",
        ],
    ),
    ("toolset", &["toolset"]),
    ("url", &[]),
    ("capability", &[]),
    ("webhooks", &[]),
    ("retry_after", &[]),
    ("model_streams", &[]),
];

/// Coverage as libFuzzer reads it.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// The file of [`WORDS`], in the work folder.
const DICTIONARY: &str = "words";

/// Words that libFuzzer is told of: members, kinds and keywords that no mutation would find.
const WORDS: &[&str] = &[
    "null",
    "true",
    "group_id",
    "call_id",
    "content",
    "display_as",
    "mediaType",
    "subscription",
    "final",
    "event_id",
    "inputSchema",
    "$ref",
    "$defs",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "properties",
    "required",
    "pattern",
    "additionalProperties",
    "unevaluatedProperties",
    "items",
    "prefixItems",
    "minimum",
    "const",
    "enum",
    "#/$defs/",
    "https://",
    "\\\\u0000",
    "1e999",
    "18446744073709551616",
    "\\x00",
];

struct Options {
    seconds: u64,
    target: Option<String>,
    input: Option<PathBuf>,
}

/// Runs the targets; the first finding fails the task, after all have run.
pub(crate) fn run(words: &[&str]) -> Result<(), String> {
    let options = options(words)?;
    let root = root();
    let work = root.join("target/fuzz");
    let host = host()?;
    say("building the fuzz targets, which takes a minute or two the first time");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        // Named, so that build scripts and macros are built without counters.
        .args(["--target", &host, "--target-dir"])
        .arg(&work)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .map_err(|e| format!("cargo cannot be started: {e}"))?;
    if !built.success() {
        return Err("the fuzz targets do not build".to_owned());
    }
    let programs = work.join(&host).join("debug");
    let chosen: Vec<_> =
        TARGETS.iter().filter(|(name, _)| options.target.as_deref().is_none_or(|t| t == *name)).collect();
    if chosen.is_empty() {
        let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        return Err(format!("no such target; there are {}", known.join(", ")));
    }
    if let Some(input) = &options.input {
        let [(name, _)] = chosen.as_slice() else { return Err("name the --target of the input".to_owned()) };
        let status = Command::new(programs.join(name)).arg(input).status().map_err(|e| e.to_string())?;
        return if status.success() { Ok(()) } else { Err(format!("{name} ended with {status}")) };
    }

    dictionary(&work)?;
    let mut found = Vec::new();
    let side_by_side = std::thread::available_parallelism().map_or(1, usize::from);
    for some in chosen.chunks(side_by_side) {
        let mut running = Vec::new();
        for (name, kinds) in some {
            let corpus = corpus(&root, &work, name, kinds)?;
            running.push((name, Instant::now(), start(&programs, &work, name, &corpus, options.seconds)?));
        }
        for (name, began, mut child) in running {
            let status = child.wait().map_err(|e| format!("{name} cannot be waited for: {e}"))?;
            let log = work.join(format!("{name}.log"));
            let text = fs::read_to_string(&log).unwrap_or_default();
            let count = |key: &str| {
                text.lines().find_map(|line| line.strip_prefix(key)).map_or("?", str::trim).to_owned()
            };
            let executed = count("stat::number_of_executed_units:");
            say(&format!("{name}: {executed} inputs in {} s", began.elapsed().as_secs()));
            if !status.success() {
                say(&last_words(&text));
                found.push(format!("{name} ({})", log.display()));
            }
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(format!(
        "found by {}\nhint: make the input a vector in spec/vectors or a test, then mend; \
         `cargo xtask fuzz --target T --input FILE` runs it alone",
        found.join(", ")
    ))
}

fn options(words: &[&str]) -> Result<Options, String> {
    let mut options = Options { seconds: 10, target: None, input: None };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match *word {
            "--seconds" => {
                options.seconds = value()?.parse().map_err(|_| "--seconds needs a number".to_owned())?;
            }
            "--target" => options.target = Some((*value()?).to_owned()),
            "--input" => options.input = Some(PathBuf::from(value()?)),
            other => {
                return Err(format!("unknown option {other:?}; there are --seconds, --target and --input"));
            }
        }
    }
    Ok(options)
}

fn host() -> Result<String, String> {
    let output = Command::new("rustc").arg("-vV").output().map_err(|e| format!("rustc: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not name its host".to_owned())
}

/// Puts vectors and seeds where the target begins; what earlier runs added stays.
fn corpus(root: &Path, work: &Path, name: &str, kinds: &[&str]) -> Result<PathBuf, String> {
    let folder = work.join("corpus").join(name);
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let vectors = root.join("spec/vectors");
    let of_kinds = list(&vectors)?.into_iter().filter(|path| {
        let kind = path.parent().and_then(Path::file_name).and_then(OsStr::to_str).unwrap_or_default();
        kinds.contains(&kind) && path.extension().is_some_and(|e| e == "json")
    });
    for path in of_kinds.chain(list(&root.join("fuzz/seeds").join(name))?) {
        let file: Vec<&str> = path.iter().rev().take(3).filter_map(OsStr::to_str).collect();
        fs::copy(&path, folder.join(file.join("-"))).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(folder)
}

/// The words that every target is told. Written before any of them runs: one that is starting reads the file.
fn dictionary(work: &Path) -> Result<(), String> {
    let words: Vec<String> = WORDS.iter().map(|word| format!("\"{word}\"\n")).collect();
    fs::write(work.join(DICTIONARY), words.concat()).map_err(|e| format!("{DICTIONARY}: {e}"))
}

fn start(programs: &Path, work: &Path, name: &str, corpus: &Path, seconds: u64) -> Result<Child, String> {
    let fail = |e: std::io::Error| format!("{name} cannot be started: {e}");
    let artifacts = work.join("found");
    fs::create_dir_all(&artifacts).map_err(fail)?;
    let log = fs::File::create(work.join(format!("{name}.log"))).map_err(fail)?;
    Command::new(programs.join(name))
        .arg(corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()))
        .arg(format!("-dict={}", work.join(DICTIONARY).display()))
        // A single input that takes longer, or more memory, is a finding.
        .args([
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-max_len=65536",
            "-print_final_stats=1",
            "-print_funcs=0",
        ])
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(fail)
}

/// What a target said when it ended badly, without the progress before it.
fn last_words(text: &str) -> String {
    let telling: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    telling[telling.len().saturating_sub(30)..].join("\n")
}

#[cfg(test)]
#[path = "../../fuzz/fuzz_targets/split.rs"]
mod split;

#[cfg(test)]
mod tests {
    use super::split::split;
    use crate::r#gen::{list, read, root};
    use rap_types::{Toolset, parse};

    /// A target that reads its input in parts gets the valid vectors whole: a corpus cut short finds nothing.
    #[test]
    fn toolset_vectors_reach_their_target_whole() {
        let vectors = list(&root().join("spec/vectors/valid/toolset")).expect("a folder");
        assert!(vectors.len() > 10, "{}", vectors.len());
        for path in vectors {
            let text = read(&path).expect("read");
            let (body, arguments) = split(text.as_bytes());
            assert!(parse::<Toolset>(body).is_ok() && arguments.is_empty(), "{}", path.display());
        }
        assert_eq!(split(b"{\n}\0{}"), (&b"{\n}"[..], &b"{}"[..]));
    }

    /// A target that is built but never run finds nothing.
    #[test]
    fn every_target_is_run() {
        let manifest = crate::r#gen::root().join("fuzz/Cargo.toml");
        let manifest: toml::Table =
            toml::from_str(&crate::r#gen::read(&manifest).expect("read")).expect("TOML");
        let built = manifest["bin"].as_array().expect("an array").iter().map(|b| b["name"].as_str());
        let run: Vec<_> = super::TARGETS.iter().map(|(name, _)| Some(*name)).collect();
        assert_eq!(built.collect::<Vec<_>>(), run);
    }
}
