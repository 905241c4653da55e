//! `--model` and `rap models`: with the feature `models`, against a server that speaks OpenAI's chat wire.

use crate::support::rap;

/// The scripted model is there in every build, and what else there is, or is not, is said.
#[test]
fn models_listed() {
    let ended = rap(&["models", "--json"]).expect_success();
    assert_eq!(ended.records()[0]["model"], "scripted/demo");
    let words = if cfg!(feature = "models") { "no provider is configured" } else { "--features models" };
    assert!(ended.stderr.contains(words), "{}", ended.transcript());
}

#[cfg(feature = "models")]
mod real {
    use crate::support::{Server, command, end_of, weather};
    use axum::{Json, Router, routing::post};
    use serde_json::{Value, json};

    /// Calls a tool when a person asks, and tells its result.
    fn provider() -> Server {
        async fn complete(Json(body): Json<Value>) -> ([(&'static str, &'static str); 1], String) {
            let last =
                body["messages"].as_array().and_then(|messages| messages.last()).cloned().unwrap_or_default();
            let (delta, stop) = if last["role"] == "tool" {
                (
                    json!({"content": format!("{} says: {}", body["model"].as_str().unwrap(), last["content"].as_str().unwrap())}),
                    "stop",
                )
            } else {
                let call = json!({"index": 0, "id": "call_1", "function": {"name": "get_weather", "arguments": "{\"city\":\"Oslo\"}"}});
                (json!({"tool_calls": [call]}), "tool_calls")
            };
            let chunk = json!({"choices": [{"delta": delta, "finish_reason": stop}], "usage": {"prompt_tokens": 100, "completion_tokens": 10}});
            ([("content-type", "text/event-stream")], format!("data: {chunk}\n\ndata: [DONE]\n\n"))
        }
        Server::start(|_| Router::new().route("/v1/chat/completions", post(complete)))
    }

    /// A conversation begun with the scripted model goes on with a real one, stays with it, and what it used is
    /// counted.
    #[test]
    fn models_switched_in_mid_conversation() {
        let (provider, tools) = (provider(), Server::of(weather()));
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("agent.db");
        let db = db.to_str().unwrap();
        let base = format!("{}/v1", provider.base);
        let rap = |args: &[&str]| {
            end_of(command(args).env("OPENAI_BASE_URL", &base).spawn().unwrap()).expect_success()
        };
        let begun = rap(&["--json", "run", "hello", "--server", &tools.base, "--db", db]);
        let session = begun.records()[0]["session"].as_str().unwrap().to_owned();
        let on = rap(&["run", "weather?", "--db", db, "--session", &session, "--model", "openai/one"]);
        assert!(on.stdout.contains("one says: Oslo: rain"), "{}", on.transcript());
        let still = rap(&["run", "again?", "--db", db, "--session", &session]);
        assert!(still.stdout.contains("one says: Oslo: rain"), "{}", still.transcript());
        let back =
            rap(&["run", "call get_time {}", "--db", db, "--session", &session, "--model", "scripted"]);
        assert!(back.stdout.contains("get_time: noon"), "{}", back.transcript());
        let shown = rap(&["--json", "show", &session, "--db", db]);
        let usage = shown.records().into_iter().find_map(|r| r.get("usage").cloned()).unwrap();
        assert!(usage["session"]["input"].as_u64().unwrap() >= 400, "{usage}");
        assert_eq!(usage["session"], usage["thread"]);
    }

    /// A key that is missing is named.
    #[test]
    fn models_without_a_key() {
        let ended = crate::support::rap(&[
            "run",
            "hello",
            "--server",
            "http://127.0.0.1:1",
            "--model",
            "anthropic/claude",
        ]);
        ended.expect_failure("anthropic needs a key: set ANTHROPIC_API_KEY");
    }
}
