//! Traps seen in the field: what an author does wrongly and what a stranger sends harm that one call at most. The
//! list of them all, with what holds each off, is `docs/traps.md`.

use crate::invocation;
use rap_server::{
    Args, Call, FromCall, Tool, ToolError, ToolServer, rap_http::Attempt, schemars::JsonSchema,
    testing::TestServer,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Arguments that cannot even be read.
#[derive(JsonSchema)]
#[allow(dead_code)]
struct Explosive {
    fuse: String,
}

impl<'de> Deserialize<'de> for Explosive {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("secret: hunter2")
    }
}

/// Something that is taken from a call, or not.
struct Trapdoor;

impl FromCall for Trapdoor {
    async fn from_call(_: &Call) -> Result<Self, ToolError> {
        panic!("secret: hunter2")
    }
}

/// A result, a view or a choice that cannot be written.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("secret: hunter2")
    }
}

impl From<Unwritable> for String {
    fn from(_: Unwritable) -> Self {
        panic!("secret: hunter2")
    }
}

/// What a function holds that cannot be copied.
struct Fragile;

impl Clone for Fragile {
    fn clone(&self) -> Self {
        panic!("secret: hunter2")
    }
}

/// What a function holds that cannot be dropped.
struct Sticky;

impl Drop for Sticky {
    fn drop(&mut self) {
        panic!("secret: hunter2")
    }
}

/// INV-07, RES-07: wherever the author's code panics, in reading the arguments as in writing the result, the call ends
/// in one error result without its words, and all other calls go on, those of the same thread and tool included.
#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_ends_in_one_error_result() {
    let fragile = Fragile;
    let tools = [
        Tool::new("arguments", "d", async |Args(_): Args<Explosive>| "x"),
        Tool::new("extractor", "d", async |_: Trapdoor| "x"),
        Tool::new("function", "d", async || -> String { panic!("secret: hunter2") }),
        Tool::new("clone", "d", move || {
            let _ = &fragile;
            async { "x" }
        }),
        Tool::new("result", "d", async || Unwritable),
        Tool::new("view", "d", async |call: Call| call.view("v", Unwritable)),
        Tool::new("choices", "d", async |call: Call| {
            call.choose("?", [Unwritable], 0).await.map(|p| p.index)
        }),
        Tool::new("drop", "d", async || -> String {
            let _held = Sticky;
            std::future::pending().await
        }),
        Tool::new("late", "d", async |call: Call| -> String {
            call.cancelled().await;
            panic!("secret: hunter2")
        }),
    ];
    let names: Vec<String> = tools.iter().map(|tool| tool.name().to_owned()).collect();
    let server = ToolServer::new("test").time_limit(Duration::from_secs(60));
    let server = tools.into_iter().fold(server, |server, tool| server.tool(tool));
    let server = TestServer::new(server.tool(Tool::new("well", "d", async || "all is well")));
    let mut before = server.start("late", json!({})).await;
    tokio::task::yield_now().await;
    for name in &names {
        // Twice: what the first has left behind is no trap for the second.
        for _ in 0..2 {
            let mut call = server.start(name, json!({"fuse": "short"})).await;
            assert_eq!(call.status(), 200);
            if name == "late" {
                // So that it has begun.
                tokio::task::yield_now().await;
                call.cancel().await;
            }
            let result = call.result_within(Duration::from_secs(120)).await;
            assert!(result.is_error() && result.text().starts_with("Error: the tool "), "{name}: {result:?}");
            assert!(!format!("{result:?}").contains("hunter2"), "{name}: {result:?}");
            call.silence().await;
            assert!(!call.is_alive().await, "{name}");
            assert_eq!(server.call("well", json!({})).await.text(), "all is well", "after {name}");
        }
    }
    // A call that was there before all of them is still heard.
    before.cancel().await;
    assert!(before.result().await.is_error());
    assert_eq!(server.handle().open_calls(), 0);
}

/// One malformed message, or what is no message at all, harms nobody else: the next request is answered.
#[tokio::test]
async fn garbage_on_the_socket() {
    let server = ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello"));
    let bound = server.bind("127.0.0.1:0").await.unwrap();
    let address = bound.local_addr();
    tokio::spawn(async move { bound.run_until(std::future::pending()).await.0 });
    let deep = format!("{{\"arguments\":{}", "[".repeat(100_000));
    let post = |path: &str, headers: &str, body: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\n{headers}\r\n{body}"
        )
        .into_bytes()
    };
    let whole = |path: &str, body: &str| post(path, &format!("content-length: {}\r\n", body.len()), body);
    let garbage: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\0\xff\0\xff\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\nhost: {address}\r\n\r\n", "x".repeat(200_000)).into_bytes(),
        post("/invoke", "content-length: 99999999999999999999\r\n", "{}"),
        post("/invoke", "content-length: 2\r\ncontent-length: 3\r\n", "{}"),
        post("/invoke", "content-length: 2\r\ntransfer-encoding: chunked\r\n", "{}"),
        post("/invoke", "transfer-encoding: chunked\r\n", "zz\r\n{}\r\n"),
        post("/invoke", "content-length: 1000\r\n", "{\"cut\":"),
        whole("/invoke", &deep),
        whole("/invoke", "{\"arguments\":1e999999999}"),
        whole("/invoke", "{\"id\":\"\\ud800\"}"),
        whole("/choices/%00%ff", "{\"id\":1e400,\"selected\":-0}"),
        whole("/close_thread", "{\"thread_id\":\"\\u0000\"}"),
        whole("/cancel_tool_call", "[[[[]]]]"),
        whole("/tool_call_status", "\u{feff}{}"),
    ];
    for bytes in garbage {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let mut socket = TcpStream::connect(address).await.unwrap();
        // The server may have hung up by then.
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "no end of the answer to {what}");
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.starts_with("HTTP/1.1 5"), "{what}: {answer}");

        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(&whole("/close_thread", "{\"thread_id\":\"t\"}")).await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "after {what}: {}", String::from_utf8_lossy(&answer));
    }
}

/// Callback failures are noticed and never final by themselves: what was given up is listed, told what it was, and
/// goes out again on request.
#[tokio::test(start_paused = true)]
async fn a_callback_that_fails_for_three_days_is_noticed() {
    let server = TestServer::new(ToolServer::new("test").tool(Tool::new("echo", "d", async || "hello")));
    server.answer_next((0..100).map(|_| Attempt::status(500)));
    let mut call = server.invoke(invocation("echo", json!({}), "t", "c")).await;
    tokio::time::sleep(Duration::from_secs(100 * 3600)).await;
    let handle = server.handle();
    let letters = handle.dead_letters();
    assert_eq!((letters.len(), server.attempts()), (1, 18));
    let letter = &letters[0];
    assert_eq!((letter.thread().as_str(), letter.call().as_str(), letter.attempts()), ("t", "c", 18));
    assert!(letter.is_result() && letter.reason().contains("500"), "{letter:?}");
    let body: Value = serde_json::from_slice(letter.body()).unwrap();
    assert_eq!(body["text"], "hello");
    assert_eq!(handle.open_calls(), 0);
    server.answer_well();
    handle.resend(letter.number()).await.unwrap();
    assert_eq!(call.result().await.text(), "hello");
    assert!(handle.dead_letters().is_empty());
}

/// The traps that were seen in the field and concern tool servers. The list may have more, and none of these less.
const SEEN: [&str; 23] = [
    "bad arguments panic the handler: no result, ever",
    "a cancelled handler leaves no result",
    "a timed-out handler leaves no result",
    "subscription: true on a failed subscription",
    "404 or 400 for close_thread and cancel_tool_call",
    "callback failures are not retried",
    "callback failures are not noticed",
    "SIGTERM to a process that ignores it, and nothing after",
    "child processes outlive a hard kill of their parent",
    "output is decoded chunk by chunk: broken characters",
    "listening on 0.0.0.0 without authentication",
    "any web page drives a local server (foreign Host, any Origin, what forms can send)",
    "what is posted without the token is taken",
    "what is posted is taken when the signature is merely absent",
    "ids in file names, paths and queries",
    "one malformed message, and the program is dead for everyone",
    "a lock is held across a panic, and nobody takes it again",
    "an endless display script",
    "bodies and heads are read without a limit",
    "queues without a bound: events, views, calls, connections",
    "caches that are never emptied",
    "a runtime that never answers stalls every other delivery",
    "notifications one after another, awaited",
];

/// Every trap that was seen is on the list, and every test that the list names exists and is run.
#[test]
fn the_list_of_traps_is_true() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let list = include_str!("../../docs/traps.md");
    let rows: Vec<&str> =
        list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| trap")).collect();
    for seen in SEEN {
        assert!(rows.iter().any(|row| row.starts_with(&format!("| {seen} |"))), "not on the list: {seen}");
    }
    for row in rows {
        let names: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing is named: {row}");
        for name in names {
            let (place, what) = name.split_once("::").unwrap();
            let text = std::fs::read_to_string(root.join(place)).unwrap_or_else(|e| panic!("{place}: {e}"));
            let at = text.find(&format!("fn {what}(")).unwrap_or_else(|| panic!("there is no test {name}"));
            // The attribute stands on the line before, or before another attribute.
            let before: Vec<&str> = text[..at].lines().rev().take(3).collect();
            let is_test = |line: &&str| line.contains("#[test]") || line.contains("#[tokio::test");
            assert!(before.iter().any(is_test), "{name} is no test: {before:?}");
        }
    }
}
