//! The toolset: what runtimes see, and what keeps a server from starting.

use rap_server::{
    Args, Call, StartError, State, Tool, ToolServer, schemars::JsonSchema, testing::TestServer, tool,
};
use serde::Deserialize;
use serde_json::json;

/// Moves a file.
///
/// Says nothing when all is well.
#[tool(
    name = "files.move",
    read_only,
    destructive,
    idempotent,
    long_running,
    requires_auth = "github",
    display = "`${args.from}`"
)]
async fn move_file(
    #[cx] _call: Call,
    /// Where it is
    from: String,
    /// Where it goes
    #[serde(default)]
    to: Vec<Target>,
    r#type: Option<u8>,
) -> String {
    format!("{from} {} {type:?}", to.len())
}

#[derive(Deserialize, JsonSchema)]
#[allow(dead_code)]
struct Target {
    path: String,
    mode: Option<u32>,
}

/// TLS-01, TLS-07, TLS-08, TLS-11: the whole document, as it stands on the wire.
#[tokio::test]
async fn document() {
    let server = ToolServer::new("files").description("Files.").tool(move_file);
    let server = TestServer::new(server);
    assert_eq!(
        server.toolset().await,
        json!({
            "name": "files",
            "description": "Files.",
            "endpoint": "http://127.0.0.1:3001/invoke",
            "x-rap-ext": ["event-id", "is-error", "status"],
            "tools": [{
                "name": "files.move",
                "description": "Moves a file.\n\nSays nothing when all is well.",
                "inputSchema": {
                    "type": "object",
                    "properties": {
                        "from": {"type": "string", "description": "Where it is"},
                        "to": {
                            "type": "array",
                            "description": "Where it goes",
                            "items": {
                                "type": "object",
                                "properties": {
                                    "path": {"type": "string"},
                                    "mode": {"type": ["integer", "null"], "minimum": 0},
                                },
                                "required": ["path"],
                            },
                        },
                        "type": {"type": ["integer", "null"], "minimum": 0, "maximum": 255},
                    },
                    "required": ["from"],
                },
                "annotations": {
                    "readOnly": true,
                    "destructive": true,
                    "idempotent": true,
                    "longRunning": true,
                    "requiresAuth": "github",
                },
                "displayScript": "`${args.from}`",
            }],
        })
    );
    let arguments = json!({"from": "a", "to": [{"path": "b", "mode": null}], "type": 3});
    assert_eq!(server.call("files.move", arguments).await.text(), "a 1 Some(3)");
    assert_eq!(call_move_file(call_of(&server).await, "a".into(), vec![], None).await, "a 0 None");
}

/// Any call will do.
async fn call_of(_: &TestServer) -> Call {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let keep = Tool::new("keep", "d", move |call: Call| {
        let sender = sender.clone();
        async move { sender.send(call).map_err(|_| "closed".to_owned()) }
    });
    TestServer::new(ToolServer::new("keep").tool(keep)).call("keep", json!({})).await;
    receiver.recv().await.unwrap()
}

/// A tool with its own annotations and schema.
#[tokio::test]
async fn by_hand() {
    let tool =
        Tool::new("raw", "d", async |Args(all): Args<serde_json::Map<String, serde_json::Value>>| all.len())
            .annotation("x-acme-priority", 3)
            .input_schema(json!({"type": "object", "minProperties": 2}));
    let server = TestServer::new(ToolServer::new("raw").tool(tool));
    let definition = &server.toolset().await["tools"][0];
    assert_eq!(definition["annotations"], json!({"x-acme-priority": 3}));
    assert_eq!(definition["inputSchema"], json!({"type": "object", "minProperties": 2}));
    assert_eq!(server.call("raw", json!({"a": 1, "b": 2})).await.text(), "2");
    assert!(server.call("raw", json!({"a": 1})).await.is_error());
}

/// An object at the root, and nonsense below.
fn broken() -> serde_json::Value {
    json!({"type": "object", "properties": {"a": {"type": "strnig"}}})
}

/// TLS-08: what is wrong anywhere in a schema keeps the server from starting, in every build: schemas are compiled here
/// whatever features are on.
#[tokio::test]
async fn a_schema_that_is_wrong_inside() {
    let table = [
        (broken(), "/properties/a/type"),
        (json!({"type": "object", "properties": 7}), "/properties"),
        (json!({"type": "object", "required": "city"}), "/required"),
        (json!({"type": "object", "properties": {"a": {"pattern": "("}}}), "/properties/a/pattern"),
        (json!({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}), "/properties/a/$ref"),
    ];
    for (schema, at) in table {
        let tool = Tool::new("t", "d", async || "x").input_schema(schema.clone());
        let error = start(ToolServer::new("x").tool(tool).public_url("http://127.0.0.1:1"));
        assert_eq!(error.faults().len(), 1, "{error}");
        assert!(error.faults()[0].contains(at) && error.faults()[0].contains("TLS-08"), "{at} in {error}");
    }
}

fn start(server: ToolServer) -> StartError {
    server.into_service(true).unwrap_err()
}

/// TLS-07, TLS-08, TLS-11, SUB-04: whatever is wrong is said at once, each fault with what to do.
#[tokio::test]
async fn faults() {
    let shared = async |_: State<String>| "x";
    let server = ToolServer::new("")
        .tool(Tool::new("a b", "d", async || "x"))
        .tool(Tool::new("twice", "d", async || "x"))
        .tool(Tool::new("twice", "", async || "x"))
        .tool(Tool::new("receive_event", "d", async || "x"))
        .tool(Tool::new("number", "d", async |Args(_): Args<u8>| "x"))
        .tool(Tool::new("list", "d", async || "x").input_schema(json!({"type": "array"})))
        .tool(Tool::new("inner", "d", async || "x").input_schema(broken()))
        .tool(
            Tool::new("far", "d", async || "x").input_schema(json!({"type": "object", "$ref": "http://x/y"})),
        )
        .tool(Tool::new("shared", "d", shared))
        .tool(Tool::new("shown", "d", async || "x").display("`Weather in ${city}`"))
        .state(1u8)
        .state(2u8)
        .public_url("ftp://x")
        .allow_target("10.0.0.0/99");
    let error = start(server);
    let expected = [
        ("a b", "TLS-07"),
        ("two tools are named \"twice\"", "TLS-07"),
        ("\"twice\": it has no description", "TLS-11"),
        ("\"receive_event\" is reserved", "SUB-04"),
        ("\"number\": the arguments are no object", "TLS-08"),
        ("\"list\": its input_schema", "TLS-08"),
        ("\"inner\": its input_schema is no valid JSON Schema: at /properties/a/type", "TLS-08"),
        ("\"far\": its input_schema is no valid JSON Schema: at /$ref", "TLS-08"),
        ("\"shared\": it takes State<alloc::string::String>", ".state(..)"),
        ("\"shown\": its display script", "args.city"),
        ("its name has 0 characters", "TLS-11"),
        ("the state u8 is given twice", "once"),
        ("public_url \"ftp://x\"", "http"),
        ("allow_target \"10.0.0.0/99\"", "10.1.0.0/16"),
    ];
    for (what, advice) in expected {
        assert!(
            error.faults().iter().any(|f| f.contains(what) && f.contains(advice)),
            "{what:?} with {advice:?} in {error}"
        );
    }
    assert_eq!(error.faults().len(), expected.len(), "{error}");
    assert_eq!(format!("{error:?}"), error.to_string());

    let error = start(ToolServer::new("x").public_url("http://127.0.0.1:1"));
    assert!(error.to_string().contains("it has no tool"), "{error}");
    let error = ToolServer::new("x").tool(move_file).into_service(false).unwrap_err();
    assert!(
        error.to_string().contains(".public_url(..)") && error.to_string().contains(".bearer_token(..)"),
        "{error}"
    );
}

/// One fault is told once, however often it is met; a name that nobody can read is one.
#[tokio::test]
async fn one_fault_once() {
    let shared = || Tool::new("shared", "d", async |_: State<String>| "x");
    let error = start(ToolServer::new("x").tool(shared()).tool(shared()).public_url("http://127.0.0.1:1"));
    assert_eq!(error.faults().len(), 2, "{error}");
    for (name, fits) in [("my tools", true), ("wetter für alle", true), (" ", false), ("a\nb", false)] {
        let started =
            ToolServer::new(name).tool(move_file).public_url("http://127.0.0.1:1").into_service(true);
        assert_eq!(started.is_ok(), fits, "{name:?}");
    }
}

/// What is no parameter is ignored, unless the tool says otherwise: then the schema says it to runtimes, and a call that
/// has it ends in an error that names it.
#[tokio::test]
async fn unknown_arguments() {
    /// Takes what comes.
    #[tool]
    async fn lenient(city: String) -> String {
        city
    }
    /// Takes what it knows.
    #[tool(deny_unknown_arguments)]
    async fn strict(city: String) -> String {
        city
    }
    /// Takes nothing.
    #[tool(deny_unknown_arguments)]
    async fn nothing() {}

    let server = TestServer::new(ToolServer::new("x").tool(lenient).tool(strict).tool(nothing));
    let arguments = json!({"city": "Oslo", "units": "metric"});
    assert_eq!(server.call("lenient", arguments.clone()).await.text(), "Oslo");
    assert_eq!(server.call("strict", json!({"city": "Oslo"})).await.text(), "Oslo");
    assert_eq!(server.call("nothing", json!({})).await.text(), "done");
    for tool in ["strict", "nothing"] {
        let result = server.call(tool, arguments.clone()).await;
        assert!(result.is_error() && result.text().contains("units"), "{tool}: {}", result.text());
    }
    let toolset = server.toolset().await;
    let said = |n: usize| toolset["tools"][n]["inputSchema"]["additionalProperties"].clone();
    assert_eq!((said(0), said(1), said(2)), (json!(null), json!(false), json!(false)));
}

/// The endpoint comes from configuration; its path and the base's are served, by whatever way a proxy passes them on.
#[tokio::test]
async fn endpoint() {
    let server = ToolServer::new("files")
        .tool(move_file)
        .public_url("https://example.com/tools/")
        .endpoint_url("https://elsewhere.example.com/rpc/call?v=1");
    let service = server.into_service(true).unwrap();
    assert_eq!(service.handle().toolset().endpoint.as_str(), "https://elsewhere.example.com/rpc/call?v=1");
    for path in ["/rpc/call", "/invoke", "/tools/invoke", "/close_thread", "/tools/close_thread"] {
        let request = http::Request::post(format!("http://127.0.0.1{path}"))
            .header("content-type", "application/json")
            .body(http_body_util::Full::from(r#"{"thread_id":"t"}"#))
            .unwrap();
        let response = tower::ServiceExt::oneshot(service.clone(), request).await.unwrap();
        let expected = if path.ends_with("close_thread") { 200 } else { 400 };
        assert_eq!(response.status(), expected, "{path}");
    }
    let plain = ToolServer::new("files").tool(move_file).public_url("https://example.com/tools/");
    let toolset = plain.into_service(true).unwrap().handle().toolset().clone();
    assert_eq!(toolset.endpoint.as_str(), "https://example.com/tools/invoke");
}
