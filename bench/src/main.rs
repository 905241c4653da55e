//! The benchmarks: `cargo xtask bench [NAME...] [--quick | --full] [--wait SECONDS]`.
//!
//! Each is one file in `benches/` and measures this suite beside its floor, a bare program that does only the
//! unavoidable part, in the same run and in turns. The results go to `bench/results.md`.

mod agent;
mod benches;
mod driver;
mod harness;
mod host;
mod idle;
mod peer;
mod report;

use harness::{Effort, Plan};
use std::{path::PathBuf, process::ExitCode, time::Duration};

const USAGE: &str = "\
usage: cargo xtask bench [NAME...] [--quick | --full] [--wait SECONDS] [--list]
  NAME      which benchmarks, e.g. B1 B11; all without one
  --quick   a few seconds each, to see that they run: the figures mean little and are not kept
  --full    everything, sizes included that take many minutes
  --wait    how long to wait for an idle machine before each (default 120)";

/// What the words of the command line ask for.
struct Asked {
    names: Vec<String>,
    plan: Plan,
    wait: Duration,
    list: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    // A benchmark starts its servers as processes of their own: this program again.
    if let [serve, rest @ ..] = words.as_slice()
        && serve == "serve"
    {
        return finish(benches::serve(rest));
    }
    finish(asked(&words).and_then(run))
}

fn finish(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(&message);
            ExitCode::FAILURE
        }
    }
}

fn asked(words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        names: Vec::new(),
        plan: Plan { effort: Effort::Normal },
        wait: Duration::from_secs(120),
        list: false,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => asked.plan.effort = Effort::Quick,
            "--full" => asked.plan.effort = Effort::Full,
            "--list" => asked.list = true,
            "--wait" => {
                let seconds = words.next().and_then(|w| w.parse().ok()).ok_or("--wait needs a number")?;
                asked.wait = Duration::from_secs(seconds);
            }
            option if option.starts_with('-') => return Err(USAGE.to_owned()),
            name => asked.names.push(name.to_owned()),
        }
    }
    Ok(asked)
}

fn run(asked: Asked) -> Result<(), String> {
    let all = benches::all();
    if asked.list {
        all.iter().for_each(|bench| say(&format!("{:4} {}", bench.id(), bench.title())));
        return Ok(());
    }
    if let Some(unknown) = asked.names.iter().find(|n| !all.iter().any(|b| b.id().eq_ignore_ascii_case(n))) {
        return Err(format!("there is no benchmark {unknown}; --list names them"));
    }
    let chosen: Vec<_> = all
        .iter()
        .filter(|b| asked.names.is_empty() || asked.names.iter().any(|n| b.id().eq_ignore_ascii_case(n)))
        .collect();
    let mut failed = Vec::new();
    for bench in chosen {
        let load = match asked.plan.effort {
            Effort::Quick => idle::look(),
            _ => idle::wait(asked.wait),
        };
        say(&format!("── {}: {}", bench.id(), bench.title()));
        match bench.run(&asked.plan) {
            Ok(report) => {
                let section = report::section(bench.as_ref(), &report, &load, &asked.plan);
                say(&section);
                if asked.plan.effort != Effort::Quick {
                    let path = results();
                    report::keep(&path, bench.id(), &section)?;
                }
            }
            Err(message) => failed.push(format!("{}: {message}", bench.id())),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results.md")
}

/// Tells the person at the terminal.
#[allow(clippy::print_stdout, reason = "a benchmark talks to a terminal")]
pub(crate) fn say(message: &str) {
    println!("{message}");
}
