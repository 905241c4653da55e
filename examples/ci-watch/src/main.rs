//! A tool server with a subscription: it runs the checks of a project, and each line that matters becomes an
//! event; the end of the process is the last one. The command comes from whoever runs the server, never from
//! the model.

use rap_server::{Call, Emitter, StartError, State, Subscribed, ToolError, ToolServer, tool};
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
};

/// The command that checks the project, for `sh -c`.
struct Checks {
    command: String,
}

/// The longest line that becomes an event, in bytes.
const LINE: usize = 2000;

/// Runs the project's checks. Each failure comes as an event, and so does the end.
#[tool(long_running)]
async fn watch_checks(
    #[cx] call: Call,
    #[cx] checks: State<Checks>,
    /// Only lines that contain this become events; lines with `FAIL` or `error` when it is left out
    contains: Option<String>,
) -> Result<Subscribed, ToolError> {
    let mut child = Command::new("sh")
        .args(["-c", &checks.command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| ToolError::new("the checks could not be started").caused_by(e))?;
    let group = child.id();
    let output = child.stdout.take().ok_or_else(|| ToolError::new("the checks have no output"))?;
    let (subscribed, events) = call.subscribe().confirm("the checks are running");
    tokio::spawn(async move {
        tokio::select! {
            end = follow(child, output, &events, contains.as_deref()) => {
                let _ = events.finish(end).await;
            }
            () = call.cancelled() => kill(group).await,
        }
    });
    Ok(subscribed)
}

/// Ends the checks with all that they have started.
async fn kill(group: Option<u32>) {
    if let Some(group) = group {
        let _ = Command::new("kill").args(["-TERM", "--", &format!("-{group}")]).status().await;
    }
}

/// Emits the lines that matter; returns how it ended.
async fn follow(
    mut child: Child,
    output: impl AsyncRead + Unpin,
    events: &Emitter,
    contains: Option<&str>,
) -> String {
    let mut output = BufReader::new(output);
    let mut failures = 0;
    let mut line = Vec::new();
    // By lines, so that no character is cut in two.
    while matches!(output.read_until(b'\n', &mut line).await, Ok(n) if n > 0) {
        let text = String::from_utf8_lossy(&line[..line.len().min(LINE)]).trim_end().to_owned();
        line.clear();
        let matters = match contains {
            Some(word) => text.contains(word),
            None => text.contains("FAIL") || text.contains("error"),
        };
        if matters {
            failures += 1;
            if events.emit(text).await.is_err() {
                break;
            }
        }
    }
    match child.wait().await {
        Ok(status) if status.success() => format!("the checks passed; {failures} lines of note"),
        Ok(status) => format!("the checks failed ({status}); {failures} lines of note"),
        Err(_) => "the end of the checks was missed".to_owned(),
    }
}

fn server(command: String) -> ToolServer {
    ToolServer::new("ci-watch").state(Checks { command }).tool(watch_checks)
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let command = std::env::var("CHECKS").unwrap_or_else(|_| "make check".to_owned());
    server(command).serve_from_env("127.0.0.1:3003").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_server::testing::TestServer;
    use serde_json::json;

    fn started(command: &str) -> TestServer {
        TestServer::new(server(command.to_owned()))
    }

    /// The confirmation, the failures in order, the end.
    #[tokio::test]
    async fn fails() {
        let server = started("echo ok 1; echo 'FAIL ⊘ two'; echo error: three; printf 'FAIL \\377'; exit 3");
        let mut call = server.start("watch_checks", json!({})).await;
        let result = call.result().await;
        assert!(result.0.subscription, "{result:?}");
        for text in ["FAIL ⊘ two", "error: three", "FAIL \u{fffd}"] {
            let event = call.event().await;
            assert_eq!((event.text.as_str(), event.is_final), (text, false));
        }
        let end = call.event().await;
        assert!(end.is_final && end.text.contains("exit status: 3"), "{end:?}");
    }

    /// Cancelling ends the checks with all that they have started.
    #[tokio::test]
    async fn cancelled() {
        let server = started("sleep 1000 & echo FAIL $!; wait");
        let mut call = server.start("watch_checks", json!({"contains": "FAIL"})).await;
        call.result().await;
        let pid = call.event().await.text.replace("FAIL ", "");
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists() || !cfg!(target_os = "linux"));
        call.cancel().await;
        assert!(!call.is_alive().await);
        if cfg!(target_os = "linux") {
            let gone = async {
                while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z")) {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(10), gone)
                .await
                .expect("the process is gone");
        }
        call.silence().await;
    }
}
