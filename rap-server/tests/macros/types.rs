//! What the compiler finds: types that are no extractor, no argument, no result, no tool.

use rap_server::{Tool, ToolServer, tool};

struct Unknown;

/// Takes what no call has.
#[tool]
async fn no_extractor(#[cx] _x: Unknown) {}

/// Returns what is no result.
#[tool]
async fn no_result() -> Unknown {
    Unknown
}

/// Fails with what is no error.
#[tool]
async fn no_error() -> Result<String, Unknown> {
    Err(Unknown)
}

async fn plain() -> String {
    String::new()
}

fn main() {
    let _ = ToolServer::new("x").tool(plain);
    let _ = Tool::new("x", "d", async |x: u8| x);
}
