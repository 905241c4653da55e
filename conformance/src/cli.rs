//! The command line: `server` judges a running server, `watch` stands between two peers, `trace` judges what
//! was recorded, `explain` says what an obligation is about.

mod live;
mod serving;
mod watching;

use crate::{
    baseline::Baseline,
    connect::{self, Trust, authority},
    explain::{explain, judging},
    report::Report,
    trace::{self, Exchange},
    watch::judge_trace,
    writers,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{
    io::{BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Judges a RAP server, in whatever language it is written, by what it does on the wire.
///
/// Exit codes: 0 nothing wrong · 1 something wrong, flaky, or the baseline is stale · 2 wrong usage · 3 nothing
/// could be judged, or the judge itself failed.
#[derive(Debug, Parser)]
#[command(name = "rap-conformance", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a server
    Server(Box<serving::Server>),
    /// Stand between a runtime and a server, record what passes, and tell violations as they are seen
    Watch(Box<watching::Watching>),
    /// Judge what was recorded by `server --trace` or `watch --trace`
    Trace(Box<Tracing>),
    /// Say what an obligation (TRN-02) or a case is about
    Explain(Explaining),
    /// List the cases, and the rules over what was recorded
    Cases(Listing),
}

#[derive(Debug, Args)]
struct Tracing {
    /// File with an exchange a line, as JSON
    file: PathBuf,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Explaining {
    /// Id of an obligation or of a case
    id: String,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Listing {
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// How the report is told, and what of it counts.
#[derive(Debug, Args)]
struct Output {
    /// Print the report as JSON on stdout
    #[arg(long)]
    json: bool,
    /// Write the report as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write the report as Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// What counts: with `must`, findings that are non-strict do not change the exit code
    #[arg(long, value_enum, default_value_t = Weight::Should)]
    level: Weight,
    /// TOML file with faults that are known; entries that say nothing any more fail
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write everything wrong to such a file
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weight {
    Must,
    Should,
}

/// Runs the program.
pub async fn main() -> ExitCode {
    match Cli::parse().command {
        // Ended early, everything is dropped all the same: a started server ends, its directory goes.
        Command::Server(options) => tokio::select! {
            code = serving::server(*options) => code,
            () = interrupted() => ExitCode::from(130),
        },
        // To be interrupted is how this one ends, and the report comes then.
        Command::Watch(options) => watching::watch(*options).await,
        Command::Trace(options) => judge_file(&options),
        Command::Explain(options) => explained(&options),
        Command::Cases(options) => listed(&options),
    }
}

/// Waits for SIGINT, and for SIGTERM where there is such a thing.
/// Listened for from the call on, before it is awaited.
fn interrupted() -> impl Future<Output = ()> {
    #[cfg(unix)]
    let signals = {
        use tokio::signal::unix::{SignalKind, signal};
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    };
    async move {
        #[cfg(unix)]
        if let (Ok(mut int), Ok(mut term)) = signals {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            return;
        }
        let _ = tokio::signal::ctrl_c().await;
    }
}

fn listed(options: &Listing) -> ExitCode {
    let all = judging();
    if options.json {
        anstream::println!("{}", serde_json::to_string_pretty(&all).unwrap_or_default());
    } else {
        for case in all {
            anstream::println!("{}: {} ({})", case.id, case.title, case.obligations.join(", "));
        }
    }
    ExitCode::SUCCESS
}

fn judge_file(options: &Tracing) -> ExitCode {
    if let Err(why) = ready(&options.output, None) {
        return stop(2, &why);
    }
    let read = std::fs::File::open(&options.file)
        .map_err(|e| e.to_string())
        .and_then(|file| trace::read(BufReader::new(file)));
    match read {
        Err(why) => stop(2, &format!("{}: {why}", options.file.display())),
        Ok(trace) if trace.is_empty() => {
            stop(3, &format!("{}: there is nothing in it to judge", options.file.display()))
        }
        Ok(trace) => finish(judge_trace(&trace, &options.file.display().to_string()), &options.output),
    }
}

fn explained(options: &Explaining) -> ExitCode {
    match explain(&options.id) {
        Err(why) => stop(2, &why),
        Ok(explained) if options.json => {
            anstream::println!("{}", serde_json::to_string_pretty(&explained).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Ok(explained) => {
            anstream::println!("{}", explained.text());
            ExitCode::SUCCESS
        }
    }
}

/// Looks at what will be read or written in the end, so that nobody waits for a report that has nowhere to go.
fn ready(output: &Output, more: Option<&PathBuf>) -> Result<(), String> {
    if let Some(path) = &output.baseline {
        read(path).and_then(|text| Baseline::parse(&text)).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let files = [&output.junit, &output.markdown, &output.write_baseline].into_iter().flatten().chain(more);
    for path in files {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(format!(
                "{}: no file can be written there; hint: is there such a folder?",
                path.display()
            ));
        }
    }
    Ok(())
}

/// Applies the baseline, writes what was asked for, tells the report, and says how it ends.
fn finish(mut report: Report, output: &Output) -> ExitCode {
    if let Some(path) = &output.baseline {
        let baseline = read(path).and_then(|text| Baseline::parse(&text));
        match baseline {
            Ok(baseline) => baseline.apply(&mut report),
            Err(why) => return stop(2, &format!("{}: {why}", path.display())),
        }
    }
    // What was found is told in any case: a full disk is no reason to keep it back.
    let written = write_files(&report, output);
    if output.json {
        // Not by way of anstream: a report can hold megabytes, and there is no colour in it to be taken out.
        let written = serde_json::to_string_pretty(&report).map_err(std::io::Error::from).and_then(|json| {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(json.as_bytes())?;
            stdout.write_all(b"\n")?;
            stdout.flush()
        });
        match written {
            Ok(()) => {}
            // Whoever reads it may stop when it has read enough.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            Err(e) => return stop(3, &format!("the report cannot be written: {e}")),
        }
    } else {
        anstream::print!("{}", writers::summary(&report));
    }
    match written {
        Ok(()) => ExitCode::from(report.exit_code(output.level == Weight::Must)),
        Err(why) => stop(3, &why),
    }
}

/// Writes the trace where that is wanted; `code` is how the program ends if it can be.
fn keep(path: Option<&Path>, trace: &[Exchange], code: ExitCode) -> ExitCode {
    let Some(path) = path else { return code };
    match std::fs::File::create(path).and_then(|file| trace::write(file, trace)) {
        Ok(()) => code,
        Err(e) => stop(3, &format!("{}: the trace cannot be written: {e}", path.display())),
    }
}

fn write_files(report: &Report, output: &Output) -> Result<(), String> {
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> Result<String, String>| match path {
        None => Ok(()),
        Some(path) => std::fs::write(path, text()?).map_err(|e| format!("{}: {e}", path.display())),
    };
    write(&output.junit, &|| writers::junit(report))?;
    write(&output.markdown, &|| Ok(writers::markdown(report)))?;
    write(&output.write_baseline, &|| Ok(Baseline::of(report).text()))
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| e.to_string())
}

/// A base URL, refused before anything is done with it. What clap refuses it shows, so that one with a password in it
/// is refused by [`unnamed`], later.
fn base_url(text: &str) -> Result<String, String> {
    if connect::base_url(text).is_err() && text.contains('@') {
        return Ok(text.to_owned());
    }
    match authority(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(why) => Err(format!("{why}; hint: a base URL is like http://127.0.0.1:3001")),
    }
}

/// Refuses URLs in which somebody is named, in words that do not show them.
fn unnamed(urls: &[(&str, Option<&String>)]) -> Result<(), String> {
    for (option, url) in urls {
        if let Some(url) = url {
            connect::base_url(url).map_err(|why| format!("{option}: {why}"))?;
        }
    }
    Ok(())
}

/// Whom the client believes: the system's authorities, and those of a file.
fn trust(ca: Option<&Path>) -> Result<Trust, String> {
    let Some(path) = ca else { return Ok(Trust::default()) };
    let told = |why: String| format!("{}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|e| told(e.to_string()))?;
    Trust::and(&pem).map_err(told)
}

fn stop(code: u8, why: &str) -> ExitCode {
    anstream::eprintln!("error: {}", writers::plain(why));
    ExitCode::from(code)
}
