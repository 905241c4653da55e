//! Tool servers that are not there, are none, or get into each other's way.

use crate::support::{Ended, Server, plain, rap, weather};
use axum::{Json, Router, routing::get};
use serde_json::json;

/// A URL at which nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn run(servers: &[&str]) -> Ended {
    let mut args = vec!["run", "call get_time {}"];
    for server in servers {
        args.extend(["--server", server]);
    }
    rap(&args)
}

/// What is wrong and what to do, without the line about the model, which all runs have.
fn told(ended: &Ended, names: &[(&str, &str)]) -> String {
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with("no model")).collect();
    plain(&lines.join("\n"), names)
}

#[test]
fn nobody_there() {
    let url = nobody();
    let ended = run(&[&url]).expect_failure("error: ");
    assert_eq!(ended.stdout, "");
    insta::assert_snapshot!(told(&ended, &[(&url, "URL")]), @"
    error: the tool server at URL/ cannot be reached: the connection was refused
    hint: start the server, or correct its URL
    ");
}

#[test]
fn not_a_server() {
    let web = Server::start(|_| Router::new().fallback(|| async { "<html>welcome</html>" }));
    let ended = run(&[&web.base]).expect_failure("error: ");
    insta::assert_snapshot!(told(&ended, &[(&web.base, "URL")]), @"
    error: what answers at URL/ is not a RAP tool server: it answered with a web page at /.well-known/rap-toolset
    hint: give the server's base URL, with its path prefix if it has one
    ");
    let none = Server::start(|_| Router::new());
    let ended = run(&[&none.base]).expect_failure("error: ");
    insta::assert_snapshot!(told(&ended, &[(&none.base, "URL")]), @"
    error: what answers at URL/ is not a RAP tool server: it answered 404 at /.well-known/rap-toolset
    hint: give the server's base URL, with its path prefix if it has one
    ");
}

/// One fault rejects a toolset whole, with all its faults (TLS-03).
#[test]
fn invalid_toolset() {
    let server = Server::start(|_| {
        let toolset = json!({
            "name": "broken", "endpoint": "not a url",
            "tools": [{"name": "bad name", "description": "", "inputSchema": {"type": "object"}}],
        });
        Router::new().route("/.well-known/rap-toolset", get(|| async { Json(toolset) }))
    });
    let ended = run(&[&server.base]).expect_failure("error: ");
    insta::assert_snapshot!(told(&ended, &[(&server.base, "URL")]), @r#"
    error: the toolset of URL/ is invalid: at /endpoint: the URL holds white space, a control character or a backslash; encode it (TLS-11); at /tools/0/name: the tool name "bad name" contains ' '; letters, digits and _ - . / : are allowed (TLS-07)
    hint: none of its tools is offered until its author mends it
    "#);
}

/// One of several that cannot be used is reported, and the rest goes on (TLS-13).
#[test]
fn one_of_several() {
    let (good, gone) = (Server::of(weather()), nobody());
    let ended = run(&[&gone, &good.base]).expect_success();
    assert!(ended.stdout.contains("result get_time: noon"), "{}", ended.transcript());
    insta::assert_snapshot!(told(&ended, &[(&gone, "URL")]), @"warning: the tool server at URL/ cannot be reached: the connection was refused; start the server, or correct its URL");
}

/// None of several: all are reported.
#[test]
fn none_of_several() {
    let (one, two) = (nobody(), nobody());
    let ended = run(&[&one, &two]).expect_failure("error: ");
    insta::assert_snapshot!(told(&ended, &[(&one, "URL1"), (&two, "URL2")]), @"
    warning: the tool server at URL1/ cannot be reached: the connection was refused; start the server, or correct its URL
    warning: the tool server at URL2/ cannot be reached: the connection was refused; start the server, or correct its URL
    error: no tool server can be used
    hint: mend one of those above
    ");
}

/// A name that two define is reported, and neither is offered; their other tools are (TLS-04).
#[test]
fn doubled_name() {
    /// Another weather.
    #[rap_server::tool]
    async fn get_weather(city: String) -> String {
        city
    }
    let one = Server::of(weather());
    let two = Server::of(rap_server::ToolServer::new("other").tool(get_weather));
    let ended = run(&[&one.base, &two.base]).expect_success();
    assert!(ended.stdout.contains("result get_time: noon"), "{}", ended.transcript());
    insta::assert_snapshot!(told(&ended, &[(&one.base, "URL1"), (&two.base, "URL2")]), @"warning: the tool get_weather is defined by URL1/ and URL2/; none of them is offered until all but one are renamed or removed");
}

/// What this build lacks is said with the name of the feature, or that it is not there yet.
#[test]
fn not_in_this_build() {
    if !cfg!(feature = "tls") {
        let ended = run(&["https://example.com"]).expect_failure("error: ");
        insta::assert_snapshot!(told(&ended, &[]), @"
        error: https://example.com/ needs https, which this build does not speak
        hint: build it with the feature `tls`: cargo install --path examples/rap --features tls
        ");
    }
    let ended = rap(&["run", "hello", "--server", "http://127.0.0.1:1", "--model", "anthropic/claude"]);
    if !cfg!(feature = "models") {
        insta::assert_snapshot!(told(&ended.expect_failure("error: "), &[]), @r#"
        error: no model "anthropic/claude": this program was built without real models
        hint: build it with the feature `models`: cargo install --path examples/rap --features models
        "#);
    }
}

/// Where a script reads, an error is JSON as well.
#[test]
fn json_errors() {
    let url = nobody();
    let ended = rap(&["--json", "run", "hello", "--server", &url]).expect_failure("error");
    let last: serde_json::Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
    assert!(last["error"].as_str().unwrap().contains("cannot be reached"), "{last}");
    assert_eq!(last["hint"], "start the server, or correct its URL");
}
