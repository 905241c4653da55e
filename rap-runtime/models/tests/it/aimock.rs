//! Against an independent implementation of all six APIs: `@copilotkit/aimock` from npm. Where npm is missing this says so
//! loudly; in CI that is a failure.

use crate::matrix::{World, until};
use rap_models::{Auth, AwsKeys, HttpModel, Wire};
use rap_runtime::core::Surface;
use serde_json::json;
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

const VERSION: &str = "1.43.0";

/// Where the package is installed: once for all runs.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("aimock-{VERSION}"))
}

async fn installed() -> Result<PathBuf, String> {
    let folder = folder();
    let program = folder.join("node_modules/@copilotkit/aimock/dist/cli.js");
    if program.exists() {
        return Ok(program);
    }
    std::fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    std::fs::write(folder.join("package.json"), "{\"private\":true}").map_err(|e| e.to_string())?;
    let package = format!("@copilotkit/aimock@{VERSION}");
    let install = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", &package])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output();
    match tokio::time::timeout(Duration::from_secs(120), install).await {
        Ok(Ok(output)) if output.status.success() && program.exists() => Ok(program),
        Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Ok(Err(error)) => Err(format!("npm cannot be started: {error}")),
        Err(_) => Err("npm took longer than two minutes".to_owned()),
    }
}

/// The mock, ended when dropped.
struct Mock {
    _child: Child,
    base: String,
    _fixtures: tempfile::TempDir,
}

async fn mock(program: &PathBuf) -> Mock {
    let fixtures = tempfile::tempdir().unwrap();
    let script = json!({"fixtures": [
        {"match": {"userMessage": "What is up?", "hasToolResult": false}, "response": {"toolCalls": [
            {"name": "get_weather", "arguments": {"city": "Tromsø"}},
            {"name": "get_weather", "arguments": {"city": "Oslo"}},
        ]}},
        {"match": {"userMessage": "What is up?", "hasToolResult": true}, "response": {"content": "12 degrees in both."}},
    ]});
    let file = fixtures.path().join("story.json");
    std::fs::write(&file, script.to_string()).unwrap();
    // A port that is free now; the mock takes no other way to be told one.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("node")
        .arg(program)
        .args([
            "--port",
            &port.to_string(),
            "--strict",
            "--chunk-size",
            "3",
            "--log-level",
            "warn",
            "--fixtures",
        ])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the mock does not listen");
        look.tick().await;
    }
    Mock { _child: child, base: format!("http://127.0.0.1:{port}"), _fixtures: fixtures }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_independent_implementation() {
    let program = match installed().await {
        Ok(program) => program,
        Err(why) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "aimock could not be installed: {why}");
            eprintln!("SKIPPED: no test against aimock, which could not be installed: {why}");
            return;
        }
    };
    let mock = mock(&program).await;
    for (wire, id, path) in [
        (Wire::Anthropic, "anthropic/claude-sonnet-4-5", ""),
        (Wire::OpenAiChat, "openai/gpt-4o", "/v1"),
        (Wire::OpenAiResponses, "openai-responses/gpt-4.1", "/v1"),
        (Wire::Gemini, "gemini/gemini-2.5-flash", ""),
        (Wire::Ollama, "ollama/qwen3", ""),
        (Wire::Bedrock, "bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0", ""),
    ] {
        let base = format!("{}{path}", mock.base).parse().unwrap();
        let auth = match wire {
            Wire::Bedrock => {
                let keys = AwsKeys {
                    access_key_id: "AKID".to_owned(),
                    secret_access_key: "secret".into(),
                    session_token: None,
                };
                Auth::Aws(keys, "us-east-1".to_owned())
            }
            _ => Auth::Key("test-key".into()),
        };
        let world = World::new(HttpModel::builder(id, wire, base).auth(auth).build()).await;
        let (session, mut watch) = world.told("What is up?").await;
        let seen = until(&mut watch, |what| matches!(what, Surface::Resting | Surface::Error { .. })).await;
        assert!(!seen.iter().any(|what| matches!(what, Surface::Error { .. })), "{wire:?}: {seen:#?}");
        assert_eq!(
            world.history(&session).await,
            [
                "Person: What is up?",
                "model: ",
                "call: get_weather {\"city\":\"Tromsø\"}",
                "call: get_weather {\"city\":\"Oslo\"}",
                "result: 12 degrees in Tromsø",
                "result: 12 degrees in Oslo",
                "model: 12 degrees in both.",
            ],
            "{wire:?}"
        );
    }
}
