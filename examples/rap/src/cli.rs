//! The command line: what can be asked of the program, and in which words.

use clap::{ArgGroup, Args, Parser, Subcommand};
use rap_types::{HttpUrl, ThreadId};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Run agents that call tools, sleep, survive a kill and wake
///
/// Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 wrong command line, 130
/// interrupted. Logs are asked for with RAP_LOG, e.g. RAP_LOG=debug.
#[derive(Debug, Parser)]
#[command(name = "rap", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Write JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it all in one story: an agent calls tools, is killed, wakes, and loses nothing
    Demo(DemoArgs),
    /// Say something to an agent that has the tools of some servers
    Run(RunArgs),
    /// Run a runtime until it is stopped
    Serve(ServeArgs),
    /// List the sessions of a database
    Sessions(DbArgs),
    /// Show what a thread has seen, said and done
    Show(ShowArgs),
    /// List the calls that are open and the subscriptions that live, with their age
    Calls(CallsArgs),
    /// Ask all tool servers of a session for their tools again
    Refresh(RefreshArgs),
    /// Let a thread, and the threads below it, go on with another model
    Model(ModelArgs),
    /// List the models that can be used as things are, with their context windows
    Models,
    /// List what could not be delivered or used, and why; or send it again
    DeadLetters(DeadLettersArgs),
    /// Explain what woke a thread, what it decided and what it sent, slice by slice
    Explain(ExplainArgs),
    /// Decide everything again and say whether each commit comes out the same
    Replay(DbArgs),
    /// One errand of `serve --exec-slices`
    #[command(hide = true)]
    Slice(SliceArgs),
    /// The tool server of the demo
    #[command(hide = true)]
    DemoTools(DemoToolsArgs),
    /// Hold the ledger of a kept demo against its database
    #[command(hide = true)]
    Proof(ProofArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the folder with the database, the ledger and the logs, and say where it is
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES, group(ArgGroup::new("kept").args(["db", "connect"])))]
pub(crate) struct RunArgs {
    /// What to say to the agent
    pub(crate) message: String,
    /// A tool server, by its base URL, or as name=URL; may be given several times. Without any the agent has its
    /// built-in tools alone
    #[arg(long = "server", value_name = "[NAME=]URL", value_parser = server)]
    pub(crate) servers: Vec<Server>,
    /// Tokens and signing keys of servers with names; without it they are in the environment, as
    /// RAP_SERVER_TOKEN_NAME and RAP_SERVER_KEY_NAME
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// The database file, so that the conversation can go on later; without it nothing is kept
    #[arg(long, value_name = "FILE")]
    pub(crate) db: Option<PathBuf>,
    /// Talk to the runtime that rap serve runs there, instead of one of this command's own; its token is in the
    /// environment as RAP_TOKEN, or in --token-file
    #[arg(long, value_name = "URL", conflicts_with_all = ["db", "script", "credentials", "allow_destructive"])]
    pub(crate) connect: Option<HttpUrl>,
    /// The file with the token of --connect: the .token beside the database of rap serve
    #[arg(long, value_name = "FILE", requires = "connect")]
    pub(crate) token_file: Option<PathBuf>,
    /// Go on with this session, which keeps its tool servers, instead of beginning one
    #[arg(long, value_name = "ID", requires = "kept")]
    pub(crate) session: Option<ThreadId>,
    /// The model, as provider/model; a session that goes on goes on with it. rap models lists some
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Rules for the scripted model
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// Give up waiting after this time, e.g. 90s or 5m; what is open stays open in the database
    #[arg(long, value_name = "T", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Let tools run that say of themselves that they destroy something
    #[arg(long)]
    pub(crate) allow_destructive: bool,
}

const RUN_EXAMPLES: &str = "\
Examples:
  rap run 'call get_weather {\"city\":\"Oslo\"} and get_time {}' --server http://127.0.0.1:3001
  rap run 'what can you do?' --server http://127.0.0.1:3001 --db agent.db";

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The database file; it is made when it is not there
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
    /// Where to listen; port 0 picks a free one, which the database remembers
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// A tool server, by its base URL, or as name=URL; may be given several times. Sessions go on with a server that has
    /// a name wherever it listens at the next start
    #[arg(long = "server", value_name = "[NAME=]URL", value_parser = server)]
    pub(crate) servers: Vec<Server>,
    /// Tokens and signing keys of servers with names; without it they are in the environment, as
    /// RAP_SERVER_TOKEN_NAME and RAP_SERVER_KEY_NAME
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    /// The model of new sessions, as provider/model; rap models lists some
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Rules for the scripted model
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// The URL under which tool servers reach this runtime, where it is not the one it listens on
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<HttpUrl>,
    /// Let tools run that say of themselves that they destroy something
    #[arg(long)]
    pub(crate) allow_destructive: bool,
    /// Let questions wait until somebody answers them over HTTP: those of tools, and whether a destructive tool may run
    #[arg(long)]
    pub(crate) ask: bool,
    /// Run each slice in a process of its own; between slices only this small process is there
    #[arg(long)]
    pub(crate) exec_slices: bool,
    /// Stop when stdin ends
    #[arg(long, hide = true)]
    pub(crate) stop_with_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SliceArgs {
    /// The database file
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
    /// The model, as provider/model
    #[arg(long, value_name = "ID")]
    pub(crate) model: Option<String>,
    /// Rules for the scripted model
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// The URL under which tool servers reach the runtime
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: HttpUrl,
    /// The tool servers, as serve has them
    #[arg(long = "server", value_name = "[NAME=]URL", value_parser = server)]
    pub(crate) servers: Vec<Server>,
    /// Tokens and signing keys of servers
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RefreshArgs {
    /// The session's id
    pub(crate) session: ThreadId,
    /// The database file; where rap serve has it, that one asks at once, else the next one that opens it does
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// The thread's id; a session's id is that of its first thread
    pub(crate) thread: ThreadId,
    /// The model, as provider/model; `default` is what its session began with. rap models lists some
    pub(crate) model: String,
    /// The database file; a rap serve that runs on it is told
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct DbArgs {
    /// The database file
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DeadLettersCommand>,
    /// The database file
    #[arg(long, value_name = "FILE", required = true)]
    pub(crate) db: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Send one again: an invocation under its old id, a notice to all servers of its session
    Resend(ResendArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ResendArgs {
    /// Its number, as rap dead-letters lists it
    pub(crate) letter: i64,
    /// The database file; where rap serve has it, that one sends, else the next one that opens it does
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The thread's id; a session's id is that of its first thread
    pub(crate) thread: ThreadId,
    /// The database file
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The thread's id; a session's id is that of its first thread
    pub(crate) thread: ThreadId,
    /// The number of a slice; all of them, if none is given
    pub(crate) slice: Option<i64>,
    /// The database file
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CallsArgs {
    /// The database file
    #[arg(long, value_name = "FILE")]
    pub(crate) db: PathBuf,
    /// List the finished ones as well
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoToolsArgs {
    /// The port on 127.0.0.1
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Where the tools write down what they do
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: PathBuf,
    /// How long the slow tool works, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 4000)]
    pub(crate) build_ms: u64,
    /// Stop when stdin ends
    #[arg(long)]
    pub(crate) stop_with_stdin: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ProofArgs {
    /// The folder that `rap demo --keep` left
    pub(crate) folder: PathBuf,
}

/// `90s`, `5m`, `1h 30m`; a bare number counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write it like 90s, 5m or 1h30m".to_owned();
    if let Ok(seconds) = text.parse::<u32>() {
        return if seconds == 0 { Err(wrong()) } else { Ok(Duration::from_secs(seconds.into())) };
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).ok().filter(|d| !d.is_zero()).ok_or_else(wrong)
}

/// A tool server as it is named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) name: Option<String>,
    pub(crate) url: HttpUrl,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}={}", self.url),
            None => write!(f, "{}", self.url),
        }
    }
}

/// `name=URL`, or a URL; one without a scheme is met with the whole form.
fn server(text: &str) -> Result<Server, String> {
    let (name, url) = match text.split_once('=') {
        Some((name, url)) if !name.contains([':', '/', '?']) => (Some(name), url),
        _ => (None, text),
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_some_and(|name| name.is_empty() || !name.chars().all(fits)) {
        return Err("a server's name has letters, digits, - and _".to_owned());
    }
    let url = HttpUrl::new(url).map_err(|error| {
        if url.contains("://") {
            error.to_string()
        } else {
            format!("write it with its scheme: http://{url}")
        }
    })?;
    Ok(Server { name: name.map(ToOwned::to_owned), url })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations() {
        for (text, ms) in
            [("90", 90_000), ("90s", 90_000), ("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "0", "-5s", "soon", "0s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn servers() {
        let of = |text| server(text).map(|server| (server.name.unwrap_or_default(), server.url.to_string()));
        for (text, name, url) in [
            ("http://127.0.0.1:3001", "", "http://127.0.0.1:3001"),
            ("weather=http://127.0.0.1:3001/x?y=z", "weather", "http://127.0.0.1:3001/x?y=z"),
            ("http://127.0.0.1:3001/x?y=z", "", "http://127.0.0.1:3001/x?y=z"),
        ] {
            assert_eq!(of(text), Ok((name.to_owned(), url.to_owned())), "{text}");
        }
        for text in ["", "=http://x", "a b=http://x", "weather=", "weather=x:1", "ftp://x"] {
            assert!(of(text).is_err(), "{text}");
        }
    }
}
