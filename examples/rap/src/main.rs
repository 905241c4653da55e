#![doc = include_str!("../README.md")]

mod cli;
mod demo;
mod explain;
mod failure;
mod host;
mod inspect;
mod models;
mod output;
mod reach;
mod run;
mod serve;
mod servers;
mod shutdown;

use clap::Parser;
use cli::{Cli, Command};
use failure::Failure;
use output::Out;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let out = Out::new(cli.json);
    log(&cli.command);
    #[cfg(feature = "tls")]
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(command(cli.command, &out)),
        Err(e) => Err(Failure::new(format!("the system gives no threads: {e}"))),
    };
    match ended.and_then(|()| out.written()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            out.failure(&failure);
            ExitCode::from(failure.code())
        }
    }
}

async fn command(command: Command, out: &Out) -> Result<(), Failure> {
    match command {
        Command::Demo(args) => demo::demo(args, out).await,
        Command::Run(args) => run::run(args, out).await,
        Command::Serve(args) => serve::serve(args, out).await,
        Command::Sessions(args) => inspect::sessions(args, out).await,
        Command::Show(args) => inspect::show(args, out).await,
        Command::Calls(args) => inspect::calls(args, out).await,
        Command::Refresh(args) => inspect::refresh(args, out).await,
        Command::Model(args) => models::switch(args, out).await,
        Command::Models => models::list(out),
        Command::DeadLetters(args) => inspect::dead_letters(args, out).await,
        Command::Explain(args) => explain::explain(args, out).await,
        Command::Replay(args) => explain::replay(args, out).await,
        Command::Slice(args) => serve::slice(args).await,
        Command::DemoTools(args) => demo::tools::serve(args).await,
        Command::Proof(args) => demo::proof_of(&args.folder, out).await,
    }
}

/// Logs go to stderr, and only those that `RAP_LOG` asks for; long-running roles say a little unasked.
fn log(command: &Command) {
    let unasked = match command {
        Command::Serve(_) | Command::Slice(_) => "warn,rap_runtime=info",
        Command::DemoTools(_) => "info,rap_server=debug",
        _ => "off",
    };
    let filter = match std::env::var("RAP_LOG") {
        Ok(asked) if !asked.is_empty() => asked,
        _ => unasked.to_owned(),
    };
    let filter = tracing_subscriber::EnvFilter::builder().parse_lossy(filter);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
