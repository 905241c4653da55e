//! What has two ways. An error that also serialises: shall the model read its JSON, or nothing of it? A parameter that
//! both the call and the model could fill in: who calls never comes from the model, by whatever name the type goes.

use rap_server::{Call, FromCall, ToolError, rap_types::UserId, schemars, tool};

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

type Who = Option<UserId>;

/// The author's own way to take something from the call.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Tenant(#[allow(dead_code)] String);

impl FromCall for Tenant {
    async fn from_call(_: &Call) -> Result<Self, ToolError> {
        Ok(Self("acme".into()))
    }
}

/// Reads mail.
#[tool]
async fn mail(_who: Who, #[cx] _tenant: Tenant) {}

/// Reads files.
#[tool]
async fn files(_tenant: Tenant, #[cx] _who: Who, _others: Vec<String>) {}

fn main() {}
