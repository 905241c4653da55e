//! Calls and their results: every acknowledged call ends in one result, whatever the function does.

use crate::{invocation, traced};
use rap_server::{
    Args, Call, Json, State, Tool, ToolError, ToolOutput, ToolServer, testing::TestServer, tool,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Units {
    Metric,
    Imperial,
}

#[derive(Serialize)]
struct Weather {
    city: String,
    units: Units,
}

/// Current weather for a city.
#[tool(read_only)]
async fn get_weather(
    /// City name, e.g. Oslo
    city: String,
    units: Option<Units>,
) -> Result<Weather, ToolError> {
    Ok(Weather { city, units: units.unwrap_or(Units::Metric) })
}

/// Fails in every way.
#[tool]
async fn fail(how: String) -> Result<String, ToolError> {
    match how.as_str() {
        "error" => Err(ToolError::new("ask for less").caused_by(std::io::Error::other("secret: hunter2"))),
        "question mark" => Err(std::io::Error::other("secret: hunter2"))?,
        "panic" => panic!("secret: hunter2"),
        "large" => Ok("x".repeat(2 << 20)),
        "large error" => Err(ToolError::new("x".repeat(2 << 20))),
        "hang" => std::future::pending().await,
        _ => Ok("fine".into()),
    }
}

/// Waits at a gate.
#[tool]
async fn wait(#[cx] call: Call, #[cx] gate: State<Gate>, name: String) -> String {
    gate.runs.fetch_add(1, Ordering::Relaxed);
    let _permit = gate.open.acquire().await.unwrap();
    format!("{name} of {} in {}", call.id(), call.thread())
}

struct Gate {
    open: Semaphore,
    runs: AtomicU32,
}

fn server() -> (TestServer, Arc<Gate>) {
    let gate = Arc::new(Gate { open: Semaphore::new(0), runs: AtomicU32::new(0) });
    let server = ToolServer::new("test")
        .tool(get_weather)
        .tool(fail)
        .tool(wait)
        .time_limit(Duration::from_secs(5))
        .shared_state(gate.clone());
    (TestServer::new(server), gate)
}

/// RES-01, TRN-07, TRN-13: the result echoes `group_id`, `id` and `call_id`, and goes to the URL exactly as given.
#[tokio::test(start_paused = true)]
async fn echoes() {
    let (server, _) = server();
    let mut sent =
        invocation("get_weather", json!({"city": "Oslo", "units": "imperial"}), "t 1/../☃", "c\"1");
    sent["call_id"] = json!("provider-1");
    sent["callback_url"] = json!("http://127.0.0.1:4000/a%20b/../c?capability=a+b%2F&&x#");
    let mut call = server.invoke(sent.clone()).await;
    assert_eq!(call.status(), 200);
    let arrived = call.any().await;
    assert_eq!(arrived.url, sent["callback_url"].as_str().unwrap());
    assert_eq!(
        arrived.json,
        json!({
            "type": "tool_result",
            "group_id": "t 1/../☃",
            "id": "c\"1",
            "call_id": "provider-1",
            "text": r#"{"city":"Oslo","units":"imperial"}"#,
        })
    );
    call.silence().await;
}

/// RES-01: no `call_id` where none was given, `null` included. TRN-10: unknown members change nothing.
#[tokio::test(start_paused = true)]
async fn null_and_unknown_members() {
    let (server, _) = server();
    let mut sent =
        invocation("get_weather", json!({"city": "Oslo", "units": null, "x-unknown": [1]}), "t", "c");
    for absent in ["call_id", "thread_ancestors", "user_id"] {
        sent[absent] = Value::Null;
    }
    sent["x-acme"] = json!({"deep": [null]});
    let arrived = server.invoke(sent).await.any().await;
    assert_eq!(arrived.json["text"], r#"{"city":"Oslo","units":"metric"}"#);
    assert!(arrived.json.get("call_id").is_none());
}

/// INV-05, INV-06, TLS-10, RES-07: an unknown operation or bad arguments are answered 200, then an error result
/// that begins with `Error: ` and names every fault.
#[tokio::test(start_paused = true)]
async fn bad_calls() {
    let (server, _) = server();
    let long = "x".repeat(100_000);
    let table = [
        (long.as_str(), json!({}), vec!["there is no tool"]),
        ("no_such_tool", json!({}), vec!["no_such_tool", "get_weather"]),
        ("../../etc/passwd", json!({}), vec!["there is no tool"]),
        ("", json!({}), vec!["there is no tool"]),
        ("get_weather", json!({}), vec!["city"]),
        ("get_weather", json!({"city": 7, "units": "kelvin"}), vec!["/city", "/units"]),
        ("get_weather", json!({"town": "Oslo"}), vec!["city"]),
    ];
    for (operation, arguments, words) in table {
        let mut call = server.start(operation, arguments.clone()).await;
        assert_eq!(call.status(), 200, "{operation} {arguments}");
        let arrived = call.any().await;
        let text = arrived.json["text"].as_str().unwrap();
        assert!(text.starts_with("Error: "), "{text}");
        assert_eq!(arrived.json["is_error"], true);
        assert!(text.len() < 1000);
        for word in words {
            assert!(text.contains(word), "{word:?} in {text}");
        }
        call.silence().await;
    }
}

/// INV-07, RES-07: each way of failing ends in exactly one error result, and nothing private is in any message.
#[tokio::test(start_paused = true)]
async fn failures() {
    let (server, _) = server();
    let table = [
        ("error", "Error: ask for less"),
        ("question mark", "Error: the tool failed"),
        ("panic", "Error: the tool failed"),
        ("large", "Error: the tool's result has 2097"),
        ("large error", "Error: the tool failed, and its words are larger"),
        ("hang", "Error: the tool did not finish within its time limit of 5 s"),
    ];
    for (how, words) in table {
        let mut call = server.start("fail", json!({"how": how})).await;
        let arrived = call.any().await;
        let text = arrived.json["text"].as_str().unwrap();
        assert!(text.starts_with(words), "{how}: {text}");
        assert!(!arrived.json.to_string().contains("hunter2"), "{how}: {}", arrived.json);
        assert_eq!(arrived.json["is_error"], true);
        call.silence().await;
        assert!(!call.is_alive().await);
    }
    assert_eq!(server.call("fail", json!({"how": ""})).await.text(), "fine");
    assert_eq!(server.handle().open_calls(), 0);
}

/// TRN-02: the answer does not wait for the work. INV-09: many calls at once, in any order, never mix.
#[tokio::test(start_paused = true)]
async fn at_once() {
    let (server, gate) = server();
    let mut calls = Vec::new();
    for n in 0..200 {
        // The same call id on every other thread, the same thread for every other call.
        let (thread, id) = (format!("t{}", n % 20), format!("c{}", n / 20));
        let sent = invocation("wait", json!({"name": format!("work {n}")}), &thread, &id);
        let call = server.invoke(sent).await;
        assert_eq!(call.status(), 200);
        calls.push((n, thread, id, call));
    }
    assert_eq!(server.handle().open_calls(), 200);
    gate.open.add_permits(200);
    for (n, thread, id, mut call) in calls.into_iter().rev() {
        let arrived = call.any().await;
        assert_eq!(arrived.json["text"], format!("work {n} of {id} in {thread}"));
        assert_eq!((&arrived.json["group_id"], &arrived.json["id"]), (&json!(thread), &json!(id)));
        assert_eq!(arrived.url, call.url());
        call.silence().await;
    }
}

/// INV-10: a re-sent invocation does its work once, while it runs and when it is over; then its equal outcome is
/// delivered again. The same id for something else is no re-sent call.
#[tokio::test(start_paused = true)]
async fn sent_again() {
    let (server, gate) = server();
    let sent = invocation("wait", json!({"name": "work"}), "t", "c");
    let mut call = server.invoke(sent.clone()).await;
    assert_eq!(server.post("/invoke", &sent).await.0, 200);
    assert_eq!(server.post("/invoke", &sent).await.0, 200);
    gate.open.add_permits(1);
    let first = call.any().await;
    call.silence().await;
    assert_eq!(server.post("/invoke", &sent).await.0, 200);
    let second = call.any().await;
    assert_eq!((first.json, first.url), (second.json, second.url));
    assert_eq!(gate.runs.load(Ordering::Relaxed), 1);

    let other = invocation("wait", json!({"name": "other work"}), "t", "c");
    let mut call = server.invoke(other).await;
    let result = call.result().await;
    assert!(result.is_error() && result.text().contains("INV-03"), "{result:?}");
    assert_eq!(gate.runs.load(Ordering::Relaxed), 1);
    // On another thread the same id is another call.
    gate.open.add_permits(1);
    let elsewhere = invocation("wait", json!({"name": "work"}), "t2", "c");
    assert_eq!(server.invoke(elsewhere).await.result().await.text(), "work of c in t2");
}

/// INV-10: what is remembered of calls that are over is bounded, in number and in bytes; the oldest go first.
#[tokio::test(start_paused = true)]
async fn remembered() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let large = Tool::new("large", "d", move |Args(place): Args<Place>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move { "x".repeat(place.city.parse().unwrap()) }
    });
    let server = TestServer::new(ToolServer::new("test").tool(large).remember(100, 50_000));
    let sent =
        |id: u32, size: usize| invocation("large", json!({"city": size.to_string()}), "t", &id.to_string());
    for id in 0..101 {
        server.invoke(sent(id, 1)).await.result().await;
    }
    // All but the first are known, and answered again without work.
    for id in 1..101 {
        server.invoke(sent(id, 1)).await.result().await;
    }
    assert_eq!(runs.load(Ordering::Relaxed), 101);
    server.invoke(sent(0, 1)).await.result().await;
    assert_eq!(runs.load(Ordering::Relaxed), 102);
    // 90 kB of results are not kept, but their calls are known: nothing is worked again.
    for id in 1000..1090 {
        server.invoke(sent(id, 1000)).await.result().await;
    }
    server.invoke(sent(1000, 1000)).await.silence().await;
    let mut newest = server.invoke(sent(1089, 1000)).await;
    assert_eq!(newest.result().await.text().len(), 1000);
    assert_eq!(runs.load(Ordering::Relaxed), 192);
}

/// Overload is answered 503 with `Retry-After`; nothing is worked. A user over the limit gets an error result.
#[tokio::test(start_paused = true)]
async fn limits() {
    let gate = Gate { open: Semaphore::new(0), runs: AtomicU32::new(0) };
    let server = ToolServer::new("test").tool(wait).state(gate).max_open_calls(2);
    let server = TestServer::new(server);
    for (n, status) in [(1, 200), (2, 200), (3, 503), (4, 503)] {
        let sent = invocation("wait", json!({"name": "x"}), "t", &n.to_string());
        assert_eq!(server.invoke(sent).await.status(), status, "{n}");
    }
    // A re-sent one is known and needs no room.
    assert_eq!(server.invoke(invocation("wait", json!({"name": "x"}), "t", "1")).await.status(), 200);

    let server = TestServer::new(ToolServer::new("test").tool(get_weather).user_rate(60, 2));
    let of_user = |user: &str, id: &str| {
        let mut sent = invocation("get_weather", json!({"city": "Oslo"}), "t", id);
        sent["user_id"] = json!(user);
        sent
    };
    for (user, id, error) in [("a", "1", false), ("a", "2", false), ("a", "3", true), ("b", "4", false)] {
        let result = server.invoke(of_user(user, id)).await.result().await;
        assert_eq!(result.is_error(), error, "{id}: {}", result.text());
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!server.invoke(of_user("a", "5")).await.result().await.is_error());
}

#[derive(Deserialize, JsonSchema)]
struct Place {
    city: String,
}

/// The builder without macros, and every kind of thing a function can return.
#[tokio::test(start_paused = true)]
async fn without_macros() {
    let server = ToolServer::new("test")
        .tool(Tool::new("struct", "d", async |Args(place): Args<Place>| Json(place.city)))
        .tool(Tool::new("nothing", "d", async || ()))
        .tool(Tool::new("number", "d", async |_: Call| 7u8))
        .tool(Tool::new("images", "d", async || {
            ToolOutput::text("a cat").image(b"cat".to_vec(), "image/png").display_diff("cat.txt", "+cat")
        }))
        .tool(Tool::new("strings", "d", async || Err::<String, String>("no cat".into())));
    let server = TestServer::new(server);
    for (tool, arguments, text) in [
        ("struct", json!({"city": "Oslo"}), "Oslo"),
        ("nothing", json!({}), "done"),
        ("number", json!({}), "7"),
        ("strings", json!({}), "Error: no cat"),
    ] {
        assert_eq!(server.call(tool, arguments).await.text(), text, "{tool}");
    }
    // RES-02, RES-12: a text before the image, a text last among the segments.
    let arrived = server.start("images", json!({})).await.any().await;
    assert_eq!(
        arrived.json["content"],
        json!([{"type": "text", "text": "a cat"}, {"type": "image", "data": "Y2F0", "mediaType": "image/png"}])
    );
    assert_eq!(arrived.json["display_as"][1], json!({"type": "text", "content": "a cat"}));
}

/// W3C trace context comes in with the invocation and goes out with its callbacks, with one that is sent again too.
#[tokio::test(start_paused = true)]
async fn trace_context() {
    let (server, _) = server();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let handle = server.handle();
    for (id, given_up) in [("one", false), ("another", true)] {
        let mut call = server.invoke(invocation("nothing at all", json!({}), "t", id)).await;
        call.any().await;
        if given_up {
            server.answer_next([rap_server::rap_http::Attempt::status(400)]);
        }
        let sent = invocation("nothing at all", json!({}), "t", id);
        traced(&server, &sent, trace, Some("vendor=note")).await;
        if given_up {
            call.silence().await;
            let letter = handle.dead_letters().pop().unwrap();
            assert_eq!(letter.trace().map(|trace| trace.parent()), Some(trace));
            handle.resend(letter.number()).await.unwrap();
        }
        let headers = call.any().await.headers;
        assert_eq!(headers["traceparent"], trace);
        assert_eq!(headers["tracestate"], "vendor=note");
    }
}
