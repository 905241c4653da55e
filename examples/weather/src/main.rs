//! A tool server in ten lines.

use rap_server::{StartError, ToolServer, tool};

/// Current weather for a city.
#[tool(read_only)]
async fn get_weather(
    /// City name, e.g. Oslo
    city: String,
) -> String {
    format!("{city}: sun, 21 °C")
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    ToolServer::new("weather").tool(get_weather).serve_from_env("127.0.0.1:3001").await
}
