//! `rap-conformance`: see the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    // Ended early, everything is dropped all the same: a started server ends, its directory goes.
    tokio::select! {
        code = rap_conformance::cli::main() => code,
        () = interrupted() => ExitCode::from(130),
    }
}

/// Waits for SIGINT, and for SIGTERM where there is such a thing.
async fn interrupted() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut int), Ok(mut term)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
