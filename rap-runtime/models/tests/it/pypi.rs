//! Second opinions from PyPI. `fakellm` is an independent implementation of Anthropic Messages and of OpenAI's chat
//! completions. The providers' own SDKs say of every wire whether they know what we send. (Of Responses, Gemini, Ollama
//! and Bedrock PyPI and npm had no second server worth the name when we looked, in November 2026: `aimock` speaks them.)
//! Where Python is missing this says so loudly; in CI that is a failure.

use crate::{
    matrix::{World, until},
    plans::{bodies_of_everything, cards},
    strict::Known,
};
use rap_models::{Auth, ChatDialect, HttpModel, Wire};
use rap_runtime::core::Surface;
use serde_json::{Value, json};
use std::{path::PathBuf, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
};

/// A folder with these packages, made once for all runs.
async fn installed(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let done = folder.join(packages.join(" "));
    if done.exists() {
        return Ok(folder);
    }
    let run = async |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output();
        match tokio::time::timeout(Duration::from_secs(600), output).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Ok(Err(error)) => Err(format!("it cannot be started: {error}")),
            Err(_) => Err("it took longer than ten minutes".to_owned()),
        }
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--no-compile"]).args(packages))
        .await?;
    std::fs::write(&done, "").map_err(|e| e.to_string())?;
    Ok(folder)
}

/// The folder, or a loud word that there is none.
#[allow(clippy::print_stderr, reason = "whoever runs the tests is to know what did not run")]
async fn needed(name: &str, packages: &[&str]) -> Option<PathBuf> {
    match installed(name, packages).await {
        Ok(folder) => Some(folder),
        Err(why) => {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{name} could not be installed: {why}");
            eprintln!("SKIPPED: no test against {name}, which could not be installed: {why}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fakellm() {
    let Some(python) = needed("fakellm", &["fakellm==0.3.5"]).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fakellm.yaml");
    // The first rule that fits counts; a result in the request is looked for first.
    let rules = json!({"version": 1, "rules": [
        {"name": "answer", "when": {"tool_result_contains": "12 degrees in Oslo"}, "respond": {"content": "12 degrees in both."}},
        {"name": "ask", "when": {"messages_contain": "What is up", "tools_include": "get_weather"}, "respond": {"tool_calls": [
            {"name": "get_weather", "arguments": {"city": "Tromsø"}},
            {"name": "get_weather", "arguments": {"city": "Oslo"}},
        ]}},
    ]});
    std::fs::write(&config, rules.to_string()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _server = Command::new(python.join("bin/fakellm"))
        .args(["serve", "--port", &port.to_string(), "--config"])
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "fakellm does not listen");
        look.tick().await;
    }
    for (wire, id, path) in
        [(Wire::Anthropic, "anthropic/claude-sonnet-4-5", ""), (Wire::OpenAiChat, "openai/gpt-4o", "/v1")]
    {
        let base = format!("http://127.0.0.1:{port}{path}").parse().unwrap();
        let model = HttpModel::builder(id, wire, base).auth(Auth::Key("test-key".into())).build();
        let world = World::new(model).await;
        let (session, mut watch) = world.told(&format!("What is up? asks {id}")).await;
        let seen = until(&mut watch, |what| matches!(what, Surface::Resting | Surface::Error { .. })).await;
        assert!(!seen.iter().any(|what| matches!(what, Surface::Error { .. })), "{wire:?}: {seen:#?}");
        // It tells conversations apart by how they begin.
        assert_eq!(
            world.history(&session).await[1..],
            [
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

const SDKS: [&str; 5] =
    ["anthropic==2.11.0", "openai==3.52.0", "google-genai==3.4.0", "ollama==0.6.3", "botocore==1.44.5"];

/// The providers' own SDKs, as judges of what we send: every prefix of a history with everything in it, for every card.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_sdks() {
    let Some(python) = needed("sdks", &SDKS).await else { return };
    let mut child = Command::new(python.join("bin/python"))
        .args(["-c", include_str!("sdks.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut asked = child.stdin.take().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut judge = async |wire: Wire, body: &Value| {
        let line = json!({"wire": format!("{wire:?}"), "body": body});
        asked.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        told.next_line().await.unwrap().expect("the SDKs went away")
    };
    for wire in Wire::ALL {
        let mut judged = 0;
        // What DeepSeek wants back is no part of OpenAI's own API.
        let own = |known: &Known| known.dialect != ChatDialect::ReasoningBack;
        for (card, _) in cards(wire).into_iter().filter(|(_, known)| own(known)) {
            for body in bodies_of_everything(wire, &card) {
                let wrong = judge(wire, &body).await;
                assert_eq!(wrong, "", "{wire:?} {:?}: {body:#}", card.reasoning);
                judged += 1;
            }
        }
        assert!(judged > 20, "{wire:?}");
        // A judge that takes everything is none.
        let (card, _) = cards(wire).remove(0);
        let mut body = bodies_of_everything(wire, &card).pop().unwrap();
        for conversation in ["messages", "contents", "input"] {
            if let Some(first) = body.get_mut(conversation).and_then(|list| list.get_mut(0)) {
                first["role"] = json!({"no": "role"});
            }
        }
        assert_ne!(judge(wire, &body).await, "", "{wire:?}");
    }
}
