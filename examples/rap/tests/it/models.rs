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
    use crate::support::{Server, command, end_of, until, weather};
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

    /// `rap model`: on a database that nobody serves, and by way of the runtime that does.
    #[test]
    fn models_chosen_by_hand() {
        let (provider, tools) = (provider(), Server::of(weather()));
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("agent.db");
        let db = db.to_str().unwrap();
        let base = format!("{}/v1", provider.base);
        let spawn = |args: &[&str]| {
            command(args).env("OPENAI_BASE_URL", &base).stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        let rap = |args: &[&str]| end_of(spawn(args));
        let begun = rap(&["--json", "run", "hello", "--server", &tools.base, "--db", db]).expect_success();
        let session = begun.records()[0]["session"].as_str().unwrap().to_owned();
        rap(&["model", &session, "openai/one", "--db", db]).expect_success();
        let on = rap(&["run", "weather?", "--db", db, "--session", &session]).expect_success();
        assert!(on.stdout.contains("one says: Oslo: rain"), "{}", on.transcript());
        let shown = rap(&["show", &session, "--db", db]).expect_success();
        assert!(shown.stdout.contains("answered by openai/one"), "{}", shown.transcript());
        rap(&["model", &session, "acme/one", "--db", db]).expect_failure("there is no provider");
        rap(&["model", "nobody", "openai/one", "--db", db]).expect_failure("there is no thread nobody");

        let mut serving = spawn(&["--json", "serve", "--stop-with-stdin", "--db", db]);
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(serving.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        rap(&["model", &session, "openai/two", "--db", db]).expect_success();
        rap(&["model", &session, "acme/one", "--db", db]).expect_failure("there is no provider");
        until("the runtime that serves has taken it in", || {
            rap(&["show", &session, "--db", db]).stdout.contains("answered by openai/two")
        });
        drop(serving.stdin.take());
        end_of(serving).expect_success();
        let explained = rap(&["explain", &session, "--db", db]).expect_success();
        assert!(
            explained.stdout.contains("from now on openai/two is to answer"),
            "{}",
            explained.transcript()
        );
        let replayed = rap(&["replay", "--db", db]).expect_success();
        assert!(!replayed.stdout.contains("otherwise"), "{}", replayed.transcript());
    }

    /// Keys are in no log, whoever logs and however much, in no output and in no file; also where the provider says them
    /// back.
    #[test]
    fn models_never_show_keys() {
        const KEY: &str = "sk-very-secret-0123456789";
        async fn refuse(headers: axum::http::HeaderMap, body: String) -> (axum::http::StatusCode, String) {
            let message = format!("bad key: {headers:?} {}", &body[..body.len().min(20)]);
            (axum::http::StatusCode::UNAUTHORIZED, json!({"error": {"message": message}}).to_string())
        }
        let provider = Server::start(|_| Router::new().fallback(refuse));
        let tools = Server::of(weather());
        for (model, key, base) in [
            ("anthropic/x", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
            ("openai/x", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
            ("openai-responses/x", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
            ("gemini/x", "GEMINI_API_KEY", "GEMINI_BASE_URL"),
            ("ollama/x", "OLLAMA_API_KEY", "OLLAMA_HOST"),
            ("bedrock/x", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let db = folder.path().join("agent.db");
            let db = db.to_str().unwrap();
            let mut command =
                command(&["run", "hello", "--server", &tools.base, "--model", model, "--db", db]);
            command
                .env(key, KEY)
                .env(base, &provider.base)
                .env("RAP_LOG", "trace")
                .env("AWS_REGION", "eu-north-1");
            let ended = end_of(command.spawn().unwrap()).expect_failure(&format!("check {key}"));
            assert!(ended.stderr.contains("TRACE"), "{model}: nothing is logged");
            assert!(!ended.transcript().contains(KEY), "{model}: {}", ended.transcript());
            for file in std::fs::read_dir(folder.path()).unwrap() {
                let path = file.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
                assert!(!found, "{model}: the key is in {}", path.display());
            }
        }
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
