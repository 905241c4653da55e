//! Calls and their results.

use rap_server::{ToolServer, testing::TestServer, tool};
use serde_json::json;

/// Current weather for a city.
#[tool(read_only)]
async fn get_weather(
    /// City name, e.g. Oslo
    city: String,
) -> String {
    format!("rain in {city}")
}

#[tokio::test(start_paused = true)]
async fn answers() {
    let server = TestServer::new(ToolServer::new("weather").tool(get_weather));
    let result = server.call("get_weather", json!({"city": "Oslo"})).await;
    assert_eq!(result.text(), "rain in Oslo");
}
