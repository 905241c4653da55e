//! Questions to people, and views.

use rap_server::{Call, ToolError, ToolServer, rap_http::Attempt, testing::TestServer, tool};
use serde_json::json;
use std::time::Duration;

/// Asks, and says what was picked.
#[tool]
async fn ask(#[cx] call: Call, choices: Vec<String>, default: usize) -> Result<String, ToolError> {
    let pick = call.choose("Which?", choices, default).await?;
    Ok(format!("{}: {}", pick.index, pick.text))
}

/// Asks, and goes on whatever came.
#[tool]
async fn ask_and_ignore(#[cx] call: Call) -> String {
    let _ = call.choose("Which?", ["a", "b"], 0).await;
    "all is well".into()
}

/// Asks twice at the same time.
#[tool]
async fn ask_twice(#[cx] call: Call) -> Result<String, ToolError> {
    let (one, two) = tokio::join!(call.choose("One?", ["a", "b"], 0), call.choose("Two?", ["c", "d"], 0));
    Ok(format!("{} {}", one?.text, two?.text))
}

/// Asks, and then works for ever.
#[tool]
async fn ask_and_hang(#[cx] call: Call) -> Result<(), ToolError> {
    call.choose("Which?", ["a"], 0).await?;
    std::future::pending().await
}

/// Asks, but not for ever; then it works for a while.
#[tool]
async fn ask_for_a_while(#[cx] call: Call, seconds: u64) -> String {
    let asking = call.choose("Which?", ["a"], 0);
    let answer = tokio::time::timeout(Duration::from_secs(seconds), asking).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    if answer.is_err() { "nobody answered".into() } else { "somebody answered".into() }
}

fn server() -> TestServer {
    let server = ToolServer::new("test").tool(ask).tool(ask_and_ignore).tool(ask_twice).tool(show);
    let server = server.tool(ask_and_hang).tool(ask_for_a_while);
    TestServer::new(server.time_limit(Duration::from_secs(60)))
}

/// CHO-02, CHO-03: the question as it stands on the wire, its own URL, a result after the answer, 409 for another.
#[tokio::test(start_paused = true)]
async fn answered() {
    let server = server();
    let mut call = server.start("ask", json!({"choices": ["red", "blue"], "default": 0})).await;
    let question = call.question().await;
    assert_eq!(question.choice.choices(), ["red", "blue"]);
    assert_eq!(question.choice.default_index(), 0);
    let url = question.choice.response_url.as_str();
    let token = url.strip_prefix("http://127.0.0.1:3001/choices/").unwrap();
    assert!(token.len() >= 26, "{url}");

    // An answer of another call, or no answer at all, leaves the question open.
    let id = question.choice.id.as_str();
    for (body, status) in [
        (json!({"id": "another", "selected": 1}), 400),
        (json!({"id": id}), 400),
        (json!({"id": id, "selected": "1"}), 400),
        (json!({"id": id, "selected": null}), 400),
        (json!([id, 1]), 400),
    ] {
        assert_eq!(question.answer(body.clone()).await.0, status, "{body}");
    }
    let unknown = server.post("/choices/aaaaaaaaaaaaaaaaaaaaaaaaaa", &json!({"id": id, "selected": 1})).await;
    assert_eq!(unknown.0, 404);
    assert!(call.is_alive().await);

    assert_eq!(question.answer(json!({"id": id, "selected": 1.0, "x-unknown": null})).await.0, 200);
    assert_eq!(call.result().await.text(), "1: blue");
    let (status, problem) = question.answer(json!({"id": id, "selected": 0})).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("urn:rap:problem:already-answered")));
    call.silence().await;
}

/// CHO-03: an invalid selection ends the call in an error result, even if the function does not mind.
#[tokio::test(start_paused = true)]
async fn invalid_selection() {
    for tool in ["ask", "ask_and_ignore"] {
        for selected in [json!(2), json!(-1), json!(1.5), json!(1e30), json!(u64::MAX)] {
            let server = server();
            let mut call = server.start(tool, json!({"choices": ["a", "b"], "default": 0})).await;
            let question = call.question().await;
            let id = question.choice.id.as_str().to_owned();
            assert_eq!(question.answer(json!({"id": id, "selected": selected})).await.0, 200);
            let result = call.result().await;
            assert!(result.is_error() && result.text().contains("none of the choices"), "{result:?}");
            assert_eq!(question.pick(0).await, 409);
            call.silence().await;
        }
    }
}

/// CHO-02: a tool that asks wrongly asks nobody.
#[tokio::test(start_paused = true)]
async fn wrong_question() {
    let server = server();
    for arguments in [json!({"choices": [], "default": 0}), json!({"choices": ["a"], "default": 1})] {
        let mut call = server.start("ask", arguments).await;
        let result = call.result().await;
        assert!(result.is_error() && result.text().contains("CHO-02"), "{result:?}");
        call.silence().await;
    }
}

/// A person may take days: the time limit does not run meanwhile. It does afterwards.
#[tokio::test(start_paused = true)]
async fn days() {
    let server = server();
    let mut call = server.start("ask", json!({"choices": ["a"], "default": 0})).await;
    let question = call.question().await;
    tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    assert!(call.is_alive().await);
    assert_eq!(question.pick(0).await, 200);
    assert_eq!(call.result().await.text(), "0: a");

    // What is left of the minute counts from the answer on.
    let mut call = server.start("ask_and_hang", json!({})).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let question = call.question().await;
    tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    assert_eq!(question.pick(0).await, 200);
    let answered = tokio::time::Instant::now();
    let result = call.result_within(Duration::from_secs(120)).await;
    assert!(result.is_error() && result.text().contains("time limit of 60 s"), "{result:?}");
    let took = answered.elapsed().as_secs();
    assert!((55..=60).contains(&took), "{took}");
}

/// The time limit does not run while a person is asked, even if the tool stops waiting for the answer.
#[tokio::test(start_paused = true)]
async fn asked_in_vain() {
    let server = server();
    let mut call = server.start("ask_for_a_while", json!({"seconds": 600})).await;
    let question = call.question().await;
    let result = call.result_within(Duration::from_secs(700)).await;
    assert_eq!(result.text(), "nobody answered");
    assert_eq!(question.pick(0).await, 409);
}

/// A call asks one question at a time, so that an answer is never taken for another's.
#[tokio::test(start_paused = true)]
async fn one_at_a_time() {
    let server = server();
    let mut call = server.start("ask_twice", json!({})).await;
    let one = call.question().await;
    assert_eq!(one.choice.prompt, "One?");
    call.silence().await;
    assert_eq!(one.pick(1).await, 200);
    let two = call.question().await;
    assert_eq!((two.choice.prompt.as_str(), two.pick(0).await.as_u16()), ("Two?", 200));
    assert_eq!(call.result().await.text(), "b c");
}

/// A cancelled question is closed; one that cannot be delivered ends in an error result.
#[tokio::test(start_paused = true)]
async fn nobody_to_ask() {
    let server = server();
    let mut call = server.start("ask", json!({"choices": ["a"], "default": 0})).await;
    let question = call.question().await;
    assert_eq!(call.cancel().await, 200);
    assert_eq!(call.result().await.text(), "Error: the call was cancelled");
    assert_eq!(question.pick(0).await, 409);

    server.answer_next([Attempt::status(403)]);
    let result = server.call("ask", json!({"choices": ["a"], "default": 0})).await;
    assert_eq!(result.text(), "Error: the user could not be asked; try again later");
    assert_eq!(server.handle().dead_letters()[0].kind(), "user_choice");
}

/// Shows things.
#[tool]
async fn show(#[cx] call: Call, times: u32) -> Result<&'static str, ToolError> {
    for n in 1..=times {
        call.view("progress", json!({"done": n}))?;
        call.view("other", json!({}))?;
        if n % 2 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(call.view("broken", json!([1])).is_err());
    Ok("shown")
}

/// Views: on the wire as given, before the result unless they were not taken; of those that wait only the newest; empty
/// content is sent as such (VIW-03).
#[tokio::test(start_paused = true)]
async fn views() {
    let server = server();
    let mut call = server.start("show", json!({"times": 1})).await;
    let first = call.any().await;
    assert_eq!(
        first.json,
        json!({"type": "view_update", "group_id": "thread-1", "view_type": "progress", "content": {"done": 1}})
    );
    assert_eq!(call.any().await.json["content"], json!({}));
    assert_eq!(call.any().await.json["text"], "shown");

    // While the runtime does not answer, only the newest of each type waits.
    server.answer_next((0..3).map(|_| Attempt::status(503)));
    let mut call = server.start("show", json!({"times": 50})).await;
    let (mut seen, mut done) = (Vec::new(), false);
    while !done || seen.last() != Some(&50) {
        let arrived = call.any().await;
        done |= arrived.json["type"] == "tool_result";
        if arrived.json["view_type"] == "progress" {
            seen.push(arrived.json["content"]["done"].as_u64().unwrap());
        }
    }
    assert!(seen.is_sorted() && seen.len() <= 3, "{seen:?}");
}

/// Of two calls of a thread the newer content wins, even if the older is tried again later.
#[tokio::test(start_paused = true)]
async fn overtaken_view() {
    let show_one = rap_server::Tool::new(
        "show",
        "d",
        async |call: Call, rap_server::Args(n): rap_server::Args<Shown>| {
            call.view("progress", json!({"n": n.n}))
        },
    );
    let server = TestServer::new(ToolServer::new("test").tool(show_one));
    // The view, and the result that it lets go first.
    server.answer_next([Attempt::status(500), Attempt::status(500)]);
    let mut older = server.invoke(crate::invocation("show", json!({"n": 1}), "t", "older")).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut newer = server.invoke(crate::invocation("show", json!({"n": 2}), "t", "newer")).await;
    assert_eq!(newer.view().await.content["n"], 2);
    // The older call's view is left out; its result comes.
    assert_eq!(older.any().await.json["text"], "done");
    older.silence().await;
}

/// LIM-01: views are bounded in size and in kinds that wait, and nobody watches those of a call that is over.
#[tokio::test(start_paused = true)]
async fn views_are_bounded() {
    let (sender, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let show = rap_server::Tool::new("show", "d", move |call: Call| {
        let sender = sender.clone();
        async move {
            let large = call.view("large", json!({"text": "x".repeat(1 << 20)})).unwrap_err();
            // Nothing leaves before the function waits for something.
            let kinds: Vec<bool> =
                (0..70).map(|n| call.view(format!("kind {n}"), json!({})).is_ok()).collect();
            let again = call.view("kind 3", json!({"n": 2})).is_ok();
            let _ = sender.send(call);
            json!([
                large.to_string(),
                kinds.iter().filter(|taken| **taken).count(),
                kinds[63],
                kinds[64],
                again
            ])
        }
    });
    let server = TestServer::new(ToolServer::new("test").tool(show));
    let result = server.call("show", json!({})).await.json();
    assert!(result[0].as_str().unwrap().contains("LIM-01"), "{result}");
    assert_eq!(result, json!([result[0], 64, true, false, true]));
    let call = kept.recv().await.unwrap();
    let late = call.view("late", json!({})).unwrap_err();
    assert!(late.is_stopped(), "{late}");
    let late = call.choose("Late?", ["a"], 0).await.unwrap_err();
    assert!(late.is_stopped(), "{late}");
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Shown {
    n: u8,
}
