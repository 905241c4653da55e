//! An error that also serialises: shall the model read its JSON, or nothing of it?

use rap_server::tool;

#[derive(Debug, serde::Serialize)]
struct Failure;

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failure")
    }
}

impl std::error::Error for Failure {}

/// Not clear.
#[tool]
async fn unclear() -> Result<f64, Failure> {
    Err(Failure)
}

fn main() {}
