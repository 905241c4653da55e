//! Every form that a tool can take, in a place with names that could clash.

#![deny(warnings)]

use rap_server::{Args, Call, Json, State, Subscribed, ToolError, ToolOutput, ToolServer, tool};
use serde_json::json;

#[allow(dead_code)]
struct Result;
#[allow(dead_code)]
struct Arguments;
#[allow(dead_code)]
struct String;

mod inner {
    /// A tool of another module.
    #[rap_server::tool(name = "inner/hidden")]
    pub(crate) async fn hidden(mut text: std::string::String, r#type: u8) -> std::string::String {
        text.push_str(&r#type.to_string());
        text
    }
}

#[derive(serde::Deserialize, rap_server::schemars::JsonSchema)]
struct Place {
    #[allow(dead_code)]
    city: std::string::String,
}

/// One struct.
#[tool]
async fn whole(#[cx] call: Call, Args(place): Args<Place>) -> Json<usize> {
    let _ = call;
    Json(place.city.len())
}

/// Nothing in, nothing out.
#[tool]
async fn nothing() {}

/// Many.
#[tool(read_only, description = "Other words.")]
#[allow(clippy::let_unit_value)]
async fn many(
    #[cx] _call: Call,
    #[cx] State(n): State<u8>,
    a: Option<u8>,
    #[serde(default)] b: Vec<u8>,
    /// Lines
    /// of words
    #[schemars(range(min = 1))]
    c: f64,
) -> std::result::Result<ToolOutput, ToolError> {
    let _ = (n, a, b, c);
    Ok("x".into())
}

/// Subscribes.
#[tool(long_running)]
async fn subscribes(#[cx] call: Call) -> std::result::Result<Subscribed, std::io::Error> {
    Ok(call.subscribe().confirm("x").0)
}

/// Configured out.
#[cfg(not(test))]
#[tool]
async fn not_there(x: NoSuchType) {}

/// Below the attribute.
#[tool]
#[cfg(test)]
async fn there() -> impl serde::Serialize {
    7
}

/// Every form compiles without a warning, and works.
#[tokio::test]
async fn forms() {
    let server = ToolServer::new("x")
        .state(1u8)
        .tool(inner::hidden)
        .tool(whole)
        .tool(nothing)
        .tool(many)
        .tool(subscribes)
        .tool(there);
    let server = rap_server::testing::TestServer::new(server);
    for (tool, arguments, text) in [
        ("inner/hidden", json!({"text": "x", "type": 7}), "x7"),
        ("whole", json!({"city": "Oslo"}), "4"),
        ("nothing", json!({}), "done"),
        ("many", json!({"c": 1}), "x"),
        ("subscribes", json!({}), "x"),
        ("there", json!({}), "7"),
    ] {
        assert_eq!(server.call(tool, arguments).await.text(), text, "{tool}");
    }
    assert!(server.call("many", json!({"c": 0})).await.is_error());
    let many = &server.toolset().await["tools"][3];
    assert_eq!(many["description"], "Other words.");
    assert_eq!(many["inputSchema"]["properties"]["c"]["description"], "Lines\nof words");
}

/// A module of the name of a tool, and a name of the standard library that is one as well.
mod weather {}
#[allow(unused_imports)]
use std::time;

/// Has the name of a module.
#[tool]
async fn weather() -> std::result::Result<ToolOutput, std::string::String> {
    Err("no weather".into())
}

/// Has the name of an import.
#[tool]
async fn time() -> std::result::Result<(), &'static str> {
    let weather = call_weather().await;
    weather.map(drop).or(Ok(()))
}

/// Types that have names of ours.
mod own {
    #[derive(serde::Deserialize, rap_server::schemars::JsonSchema)]
    pub(crate) enum State {
        Open,
        Shut,
    }
    #[derive(serde::Deserialize, rap_server::schemars::JsonSchema)]
    pub(crate) struct Call {
        pub(crate) number: u8,
    }
    #[derive(serde::Deserialize, rap_server::schemars::JsonSchema)]
    pub(crate) struct Args<T> {
        pub(crate) all: Vec<T>,
    }

    /// Arguments of the model, every one.
    #[rap_server::tool]
    pub(crate) async fn names(state: State, call: self::Call, args: self::Args<u8>) -> std::string::String {
        let state = match state {
            State::Open => "open",
            State::Shut => "shut",
        };
        format!("{state} {} {:?}", call.number, args.all)
    }
}

/// Names that tools share with other things, and what a `Result` of a string may have on its good side.
#[tokio::test]
async fn names() {
    let server = ToolServer::new("x").tool(weather).tool(time).tool(own::names);
    let server = rap_server::testing::TestServer::new(server);
    let wrong = server.call("weather", json!({})).await;
    assert_eq!((wrong.is_error(), wrong.text().as_str()), (true, "Error: no weather"));
    assert_eq!(server.call("time", json!({})).await.text(), "done");
    let arguments = json!({"state": "Shut", "call": {"number": 7}, "args": {"all": [1]}});
    assert_eq!(server.call("names", arguments).await.text(), "shut 7 [1]");
}

/// Fails with public words.
#[tool]
async fn no_subscription(#[cx] _call: Call) -> std::result::Result<Subscribed, std::string::String> {
    Err("not now".into())
}

/// Fails with public words.
#[tool]
async fn no_json() -> std::result::Result<Json<u8>, std::borrow::Cow<'static, str>> {
    Err("not now".into())
}

/// RES-07: a string is public as the error of whatever.
#[tokio::test]
async fn strings_as_errors() {
    let server = ToolServer::new("x").tool(no_subscription).tool(no_json);
    let server = rap_server::testing::TestServer::new(server);
    for tool in ["no_subscription", "no_json"] {
        assert_eq!(server.call(tool, json!({})).await.text(), "Error: not now", "{tool}");
    }
}

/// What several tools share, as the object that they are methods of.
struct Shelf {
    books: std::sync::Mutex<Vec<std::string::String>>,
}

impl Shelf {
    /// Puts a book on the shelf.
    #[tool(idempotent)]
    async fn put_book(
        &self,
        #[cx] call: Call,
        /// Its title
        title: std::string::String,
    ) -> std::result::Result<usize, ToolError> {
        call.check()?;
        let mut books = self.books.lock().unwrap();
        books.push(title);
        Ok(books.len())
    }

    /// The titles on the shelf.
    #[tool(name = "shelf.list", read_only)]
    pub(crate) async fn list(self: std::sync::Arc<Self>) -> Json<Vec<std::string::String>> {
        Json(self.books.lock().unwrap().clone())
    }

    /// Takes everything at once.
    #[tool]
    async fn take(&self, Args(place): Args<Place>) -> std::string::String {
        place.city
    }
}

/// Methods are tools; their object is the state that the server was given, and without it nothing starts.
#[tokio::test]
async fn methods() {
    let tools = || ToolServer::new("shelf").tool(Shelf::put_book).tool(Shelf::list).tool(Shelf::take);
    let shelf = std::sync::Arc::new(Shelf { books: std::sync::Mutex::default() });
    let server = rap_server::testing::TestServer::new(tools().shared_state(shelf.clone()));
    assert_eq!(server.call("put_book", json!({"title": "Emma"})).await.text(), "1");
    assert!(server.call("put_book", json!({"name": "Emma"})).await.is_error());
    assert_eq!(server.call("shelf.list", json!({})).await.json(), json!(["Emma"]));
    assert_eq!(server.call("take", json!({"city": "Bath"})).await.text(), "Bath");
    assert_eq!(shelf.clone().call_list().await.0, ["Emma"]);
    let toolset = server.toolset().await;
    assert_eq!(toolset["tools"][0]["description"], "Puts a book on the shelf.");
    assert_eq!(toolset["tools"][0]["inputSchema"]["properties"]["title"]["description"], "Its title");
    assert_eq!(toolset["tools"][1]["annotations"], json!({"readOnly": true}));

    let error = tools().public_url("http://127.0.0.1:1").into_service(true).unwrap_err();
    assert_eq!(error.faults().len(), 3, "{error}");
    assert!(error.to_string().contains("Shelf") && error.to_string().contains(".state(..)"), "{error}");
}
