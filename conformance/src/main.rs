//! `rap-conformance`: see the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rap_conformance::cli::main().await
}
