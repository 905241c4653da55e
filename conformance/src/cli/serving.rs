//! `rap-conformance server`: finds a server, shows what will be done where that is asked for or where the server
//! is not on this machine, judges it, tells the report.

use super::{Output, base_url, finish, live, ready, stop, unnamed};
use crate::{
    case::Tier,
    credentials::{Key, Secret},
    explain,
    run::{self, Found, Options},
    trace::Exchange,
    writers,
};
use clap::Args;
use std::{fmt::Write as _, path::PathBuf, process::ExitCode, time::Duration};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("server").required(true).multiple(true).args(["url", "spawn"]))]
pub(super) struct Server {
    /// Base URL of a running server, by http or https, e.g. http://127.0.0.1:3001
    #[arg(long, value_parser = base_url)]
    url: Option<String>,
    /// Command that starts the server; {port}, {data}, {token} and {secret} in it are filled in
    #[arg(long, value_name = "CMD")]
    spawn: Option<String>,
    /// Address to listen on for callbacks
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: String,
    /// URL under which the server reaches that address
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Call this tool, whatever it is annotated with
    #[arg(long = "allow-tool", value_name = "NAME")]
    allow: Vec<String>,
    /// JSON file: arguments by tool name; these tools are called
    #[arg(long = "args", value_name = "FILE")]
    arguments: Option<PathBuf>,
    /// Bearer token for every request
    #[arg(long, value_name = "TOKEN", env = "RAP_CONFORMANCE_BEARER", hide_env_values = true)]
    bearer: Option<String>,
    /// Environment variable with the secret (whsec_…) by which every request is signed (Standard Webhooks)
    #[arg(long, value_name = "VAR")]
    webhook_secret_env: Option<String>,
    /// PEM file with further authorities that are believed about an https server
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Seconds that an owed message may be missing after a fence
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    wait: f64,
    /// Cases at a time
    #[arg(long, default_value_t = 24)]
    jobs: usize,
    /// Seconds after which the run ends; what was not judged by then is inconclusive
    #[arg(long, value_name = "SECONDS", default_value_t = 55.0)]
    budget: f64,
    /// Only cases or obligations that begin so, e.g. transport/ or TRN-02
    #[arg(long, value_name = "WHAT")]
    only: Vec<String>,
    /// Not these
    #[arg(long, value_name = "WHAT")]
    skip: Vec<String>,
    /// Fetch the toolset, print what would be sent, and end
    #[arg(long)]
    dry_run: bool,
    /// Judge a server that is not on this machine without asking
    #[arg(long)]
    yes: bool,
    /// Keep everything that passes in this file, for `rap-conformance trace`
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn server(server: Server) -> ExitCode {
    if let Err(why) = ready(&server.output, server.trace.as_ref()) {
        return stop(2, &why);
    }
    if let Err(why) = unnamed(&[("--url", server.url.as_ref()), ("--public-url", server.public_url.as_ref())])
    {
        return stop(2, &why);
    }
    let arguments = match server.arguments.as_deref().map(read_arguments).transpose() {
        Ok(arguments) => arguments.unwrap_or_default(),
        Err(why) => return stop(2, &why),
    };
    let webhook_secret = match server.webhook_secret_env.as_deref().map(secret_in).transpose() {
        Ok(secret) => secret,
        Err(why) => return stop(2, &why),
    };
    let trust = match super::trust(server.ca.as_deref()) {
        Ok(trust) => trust,
        Err(why) => return stop(2, &why),
    };
    for word in server.only.iter().chain(&server.skip) {
        if !explain::names_something(word) {
            let hint = "TRN-02, TRN-, transport/ and the like, or what `rap-conformance cases` lists";
            return stop(2, &format!("no case and no obligation begins with {word:?}; hint: {hint}"));
        }
    }
    let options = Options {
        trust,
        budget: Duration::from_secs_f64(server.budget.clamp(1.0, 3600.0)),
        url: server.url,
        spawn: server.spawn,
        listen: server.listen,
        public_url: server.public_url,
        allow: server.allow,
        arguments,
        bearer: server.bearer.map(Secret::from),
        webhook_secret,
        wait: Duration::from_secs_f64(server.wait.clamp(0.1, 600.0)),
        jobs: server.jobs,
        only: server.only,
        skip: server.skip,
        ..Options::default()
    };
    let found = match run::find(options).await {
        Ok(found) => found,
        Err(halt) => return stop(3, &halt.0),
    };
    if server.dry_run {
        anstream::print!("{}", shown(&found));
        return match found.rehearse().await {
            Err(halt) => stop(3, &halt.0),
            Ok(requests) => {
                anstream::print!("{}", told(&requests));
                ExitCode::SUCCESS
            }
        };
    }
    if !found.is_local() && !server.yes {
        anstream::eprint!("{}", shown(&found));
        return stop(
            2,
            &format!("{} is not on this machine; hint: --yes, if you may do that to it", found.base()),
        );
    }
    match found.judge(live::live()).await {
        Err(halt) => stop(3, &halt.0),
        Ok(judged) => {
            let code = finish(judged.report, &server.output);
            super::keep(server.trace.as_deref(), &judged.trace, code)
        }
    }
}

/// What would be sent, for people.
fn shown(found: &Found) -> String {
    let mut out = String::new();
    // Writing to a `String` cannot fail.
    let _ = writeln!(out, "{} would be sent, by case:", found.base());
    for case in found.cases() {
        let what = match case.tier {
            Tier::Look => "reads",
            _ => "sends",
        };
        let _ = writeln!(out, "  {what:6} {}: {}", case.id, case.title);
    }
    let calls = &found.plan.callable;
    let _ =
        writeln!(out, "{}", if calls.is_empty() { "no tool would be called" } else { "tools called, with:" });
    for (name, arguments) in calls {
        let _ = writeln!(out, "  {} {}", writers::plain(name), writers::plain(&arguments.to_string()));
    }
    for note in &found.plan.notes {
        let _ = writeln!(out, "note: {}", writers::plain(note));
    }
    out
}

/// The requests, as commands.
fn told(requests: &[Exchange]) -> String {
    let mut out = String::from("\nrequests, as far as they do not depend on what the server says:\n");
    for request in requests {
        let case = request.case.as_deref().unwrap_or_default();
        let command = writers::curl(&request.redacted());
        // Writing to a `String` cannot fail.
        let _ = writeln!(out, "  {case}: {}", writers::plain(&command));
    }
    out
}

/// The secret that an environment variable holds.
fn secret_in(variable: &str) -> Result<Secret, String> {
    let secret = std::env::var(variable).map(Secret::from).map_err(|_| {
        format!(
            "there is no environment variable {variable} (as text); hint: --webhook-secret-env takes its name"
        )
    })?;
    Key::parse(&secret).map_err(|why| format!("{variable}: {why}"))?;
    Ok(secret)
}

fn read_arguments(path: &std::path::Path) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text)
        .map_err(|e| format!("{}: not an object of arguments by tool: {e}", path.display()))
}
