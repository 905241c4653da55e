//! The command line: `rap-conformance server`, and later commands beside it.

use crate::{
    run::{self, Options},
    runner::Progress,
};
use clap::{Args, Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

/// Judges a RAP server by what it does on the wire.
#[derive(Debug, Parser)]
#[command(name = "rap-conformance", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Judge a server
    Server(Box<Server>),
}

#[derive(Debug, Args)]
struct Server {
    /// Base URL of a running server, e.g. http://127.0.0.1:3001
    #[arg(long, required_unless_present = "spawn")]
    url: Option<String>,
    /// Command that starts the server; {port}, {data} and {token} in it are filled in
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
    /// Seconds that an owed message may be missing after a fence
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    wait: f64,
    /// Cases at a time
    #[arg(long, default_value_t = 24)]
    jobs: usize,
    /// Only cases or obligations that begin so, e.g. transport/ or TRN-02
    #[arg(long, value_name = "WHAT")]
    only: Vec<String>,
    /// Not these
    #[arg(long, value_name = "WHAT")]
    skip: Vec<String>,
    /// Print the report as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Runs the program.
pub async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Server(server) => server_command(*server).await,
    }
}

async fn server_command(server: Server) -> ExitCode {
    let arguments = match server.arguments.as_deref().map(read_arguments).transpose() {
        Ok(arguments) => arguments.unwrap_or_default(),
        Err(why) => return stop(2, &why),
    };
    let options = Options {
        url: server.url,
        spawn: server.spawn,
        listen: server.listen,
        public_url: server.public_url,
        allow: server.allow,
        arguments,
        bearer: server.bearer,
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
    let show = Arc::new(|progress: Progress| {
        if let Progress::Done(case) = progress {
            anstream::eprintln!("{:14} {}", case.verdict.word(), case.id);
        }
    });
    match found.judge(show).await {
        Err(halt) => stop(3, &halt.0),
        Ok(judged) => {
            if server.json {
                let json = serde_json::to_string_pretty(&judged.report).unwrap_or_default();
                anstream::println!("{json}");
            }
            ExitCode::from(judged.report.exit_code(false))
        }
    }
}

fn read_arguments(path: &std::path::Path) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text)
        .map_err(|e| format!("{}: not an object of arguments by tool: {e}", path.display()))
}

fn stop(code: u8, why: &str) -> ExitCode {
    anstream::eprintln!("error: {why}");
    ExitCode::from(code)
}
