//! The README's guide, "From nothing to a served tool", done as it is written: its program, its requests, its answers.

use bytes::Bytes;
use http::HeaderMap;
use rap_server::{
    ToolServer,
    rap_http::{AddressPolicy, GuardedClient, Reply},
    tool,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const README: &str = include_str!("../../README.md");

/// Current weather for a city.
#[tool(read_only)]
async fn get_weather(
    /// City name, e.g. Oslo
    city: String,
) -> String {
    format!("rain in {city}")
}

/// A command of the guide: where to, and what is POSTed there.
#[derive(Debug)]
struct Curl {
    url: String,
    body: Option<String>,
}

fn guide() -> &'static str {
    let (_, rest) = README.split_once("\n# From nothing to a served tool\n").expect("the guide");
    rest.split_once("\n## ").expect("what follows it").0
}

/// The contents of the guide's blocks of a kind.
fn blocks(kind: &str) -> Vec<&'static str> {
    let begun = guide().split("\n```").filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n'));
    begun.collect()
}

fn curls() -> Vec<Curl> {
    let commands = blocks("console").into_iter().flat_map(|block| block.split("$ "));
    let of_curl = commands.filter_map(|command| command.strip_prefix("curl "));
    let read = of_curl.map(|command| {
        let url = command.split_whitespace().next().unwrap().to_owned();
        let quoted: Vec<&str> = command.split('\'').collect();
        let after = |flag: &str| {
            let at = quoted.iter().position(|part| part.trim_end().ends_with(flag))?;
            quoted.get(at + 1).copied()
        };
        let body = after("-d").map(str::to_owned);
        assert_eq!(after("-H"), body.as_ref().map(|_| "content-type: application/json"), "TRN-01: {command}");
        Curl { url, body }
    });
    read.collect()
}

/// What prints the callbacks and answers 200.
async fn listener() -> (String, mpsc::UnboundedReceiver<String>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let take = async move |body: String| sender.send(body).unwrap();
    let router = axum::Router::new().route("/", axum::routing::post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, receiver)
}

async fn next(arrivals: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(Duration::from_secs(10), arrivals.recv()).await.expect("a callback").unwrap()
}

/// TLS-01, TRN-02, RES-01, INV-10, CAN-02: whoever does what the guide says sees what the guide says.
#[tokio::test]
async fn as_it_is_written() {
    let (_, program) = README.split_once("```rust,no_run\n").unwrap();
    let (function, main) = program.split_once("#[tokio::main]").unwrap();
    let (_, function) = function.split_once("\n\n").unwrap();
    assert!(
        include_str!("guide.rs").contains(function),
        "the tool here is not that of the guide:\n{function}"
    );
    let main = main.split_once("```").unwrap().0;
    assert!(main.contains(r#"ToolServer::new("weather").tool(get_weather).serve("127.0.0.1:3001").await"#));

    let bound = ToolServer::new("weather").tool(get_weather).bind("127.0.0.1:0").await.unwrap();
    let here = bound.local_addr().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(bound.run_until(async {
        let _ = stopped.await;
    }));
    let (there, mut arrivals) = listener().await;
    // The guide's ports may be somebody else's.
    let moved = |text: &str| text.replace("127.0.0.1:3001", &here).replace("127.0.0.1:4000", &there);
    let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
    let run = async |curl: &Curl| -> Reply {
        let url = moved(&curl.url).parse().unwrap();
        let reply = match &curl.body {
            None => client.get(&url, 1 << 20).await,
            Some(body) => {
                client.post_json_reading(&url, Bytes::from(moved(body)), HeaderMap::new(), 1 << 20).await
            }
        };
        reply.unwrap()
    };
    let curls = curls();
    let [discover, call, another, cancel] = &curls[..] else { panic!("the guide's commands: {curls:#?}") };

    let toolset = run(discover).await;
    let toolset = String::from_utf8(toolset.body.to_vec()).unwrap().replace(&here, "127.0.0.1:3001");
    let shown = guide().lines().find_map(|line| line.strip_prefix('{')?.strip_suffix(" ...")).unwrap();
    assert!(toolset[1..].starts_with(shown), "{toolset}");

    let shown = blocks("text")[0].lines().next().unwrap();
    // The call, and the same call again.
    for _ in 0..2 {
        let answer = run(call).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b""[..]));
        assert_eq!(next(&mut arrivals).await, shown);
    }
    assert_eq!(run(another).await.status, 200);
    let result: Value = serde_json::from_str(&next(&mut arrivals).await).unwrap();
    assert_eq!((&result["id"], &result["text"]), (&json!("call-2"), &json!("rain in Bergen")));

    // What is wrong says so.
    let without = |what: &str| {
        let mut sent: Value = serde_json::from_str(call.body.as_ref().unwrap()).unwrap();
        sent["id"] = json!("call-3");
        let inside = if what == "city" { &mut sent["arguments"] } else { &mut sent };
        inside.as_object_mut().unwrap().remove(what).unwrap();
        Curl { url: call.url.clone(), body: Some(sent.to_string()) }
    };
    assert_eq!(run(&without("city")).await.status, 200);
    let result: Value = serde_json::from_str(&next(&mut arrivals).await).unwrap();
    let text = result["text"].as_str().unwrap();
    assert!(text.starts_with("Error: ") && text.contains("city"), "{text}");
    let refused = run(&without("operation")).await;
    assert_eq!(refused.status, 400);
    let problem: Value = serde_json::from_slice(&refused.body).unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("operation"), "{problem}");

    assert_eq!(run(cancel).await.status, 200);
    stop.send(()).unwrap();
    let owed = tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    assert!(owed.0.is_empty() && arrivals.try_recv().is_err(), "nothing is owed, and nothing came twice");
}
