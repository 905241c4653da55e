//! The demo's tool server: a quick tool, a slow one and a subscription, which write down what they do.

use super::ledger::{Deed, Ledger};
use crate::{cli::DemoToolsArgs, failure::Failure};
use rap_server::{Call, State, Subscribed, ToolError, ToolServer, tool};
use serde_json::json;
use std::time::Duration;

/// How long after one another the events of a deployment come.
const EVENTS_APART: Duration = Duration::from_millis(600);

/// What the tools share.
struct Shop {
    ledger: Ledger,
    build: Duration,
}

impl Shop {
    fn started(&self, call: &Call, tool: &str, arguments: serde_json::Value) -> Result<(), ToolError> {
        Ok(self.ledger.write(call.id(), call.thread(), Deed::Started { tool: tool.to_owned(), arguments })?)
    }

    /// Writes the answer down before it is given.
    fn ended(&self, call: &Call, text: String) -> Result<String, ToolError> {
        self.ledger.write(call.id(), call.thread(), Deed::Ended { text: text.clone() })?;
        Ok(text)
    }
}

/// Current weather for a city.
#[tool(read_only, display = "`Weather in ${args.city}`")]
async fn get_weather(
    #[cx] call: Call,
    #[cx] shop: State<Shop>,
    /// City name, e.g. Oslo
    city: String,
) -> Result<String, ToolError> {
    shop.started(&call, "get_weather", json!({"city": city}))?;
    shop.ended(&call, format!("{city}: light rain, 7 degrees"))
}

/// Builds a project and runs its tests, which takes a while.
#[tool(long_running, display = "`Build ${args.project}`")]
async fn build_project(
    #[cx] call: Call,
    #[cx] shop: State<Shop>,
    /// The project's name
    project: String,
) -> Result<String, ToolError> {
    shop.started(&call, "build_project", json!({"project": project}))?;
    tokio::select! {
        () = tokio::time::sleep(shop.build) => {}
        () = call.cancelled() => call.check()?,
    }
    shop.ended(&call, format!("{project} is built, 128 tests passed"))
}

/// Watches a deployment and tells of each step.
#[tool(read_only, display = "`Watch the deployment of ${args.service}`")]
async fn watch_deployment(
    #[cx] call: Call,
    #[cx] shop: State<Shop>,
    /// The service's name
    service: String,
) -> Result<Subscribed, ToolError> {
    shop.started(&call, "watch_deployment", json!({"service": service}))?;
    let text = shop.ended(&call, format!("watching the deployment of {service}"))?;
    let (subscribed, events) = call.subscribe().confirm(text);
    tokio::spawn(async move {
        let emitted =
            |text: &str| shop.ledger.write(call.id(), call.thread(), Deed::Emitted { text: text.to_owned() });
        tokio::time::sleep(EVENTS_APART).await;
        let canary = format!("{service}: the first of 3 instances runs the new version");
        if emitted(&canary).is_err() || events.emit(canary).await.is_err() {
            return;
        }
        tokio::time::sleep(EVENTS_APART).await;
        let done = format!("{service}: all 3 instances run the new version");
        if emitted(&done).is_ok() {
            let _ = events.finish(done).await;
        }
    });
    Ok(subscribed)
}

/// `rap demo-tools`: serves until it is told to stop.
pub(crate) async fn serve(args: DemoToolsArgs) -> Result<(), Failure> {
    let shop = Shop { ledger: Ledger::open(&args.ledger)?, build: Duration::from_millis(args.build_ms) };
    let mut options = rap_server::ServeOptions::new(format!("127.0.0.1:{}", args.port));
    options.announce = true;
    options.stop_on_stdin_end = args.stop_with_stdin;
    ToolServer::new("demo")
        .description("A few tools for the demo")
        .state(shop)
        .tool(get_weather)
        .tool(build_project)
        .tool(watch_deployment)
        .drain(Duration::from_secs(1))
        .serve_with(options)
        .await
        .map_err(Failure::of)
}
