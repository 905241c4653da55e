//! A tool server with a subscription: it runs the checks of a project, and each line that matters becomes an
//! event; the end of the process is the last one. The command comes from whoever runs the server, never from
//! the model.

mod checks;
mod lines;

use checks::Running;
use lines::Lines;
use rap_server::{Call, Emitter, StartError, State, Subscribed, ToolError, ToolServer, tool};
use std::time::Duration;
use tokio::io::AsyncRead;

/// What checks the project.
struct Checks {
    /// For `sh -c`.
    command: String,
    /// How long the checks have for ending when they are asked to.
    grace: Duration,
}

/// Runs the project's checks. Each failure comes as an event, and so does the end.
#[tool(long_running)]
async fn watch_checks(
    #[cx] call: Call,
    #[cx] checks: State<Checks>,
    /// Only lines that contain this become events; lines with `FAIL` or `error` when it is left out
    contains: Option<String>,
) -> Result<Subscribed, ToolError> {
    let (mut running, mut output) = Running::start(&checks.command)
        .map_err(|e| ToolError::new("the checks could not be started").caused_by(e))?;
    let (subscribed, events) = call.subscribe().confirm("the checks are running");
    tokio::spawn(async move {
        let watched = async {
            let noted = follow(&mut output, &events, contains.as_deref()).await;
            match running.ended().await {
                Ok(status) if status.success() => format!("the checks passed; {noted} lines of note"),
                Ok(status) => format!("the checks failed ({status}); {noted} lines of note"),
                Err(_) => "the end of the checks was missed".to_owned(),
            }
        };
        match call.until_cancelled(watched).await {
            Ok(end) => drop(events.finish(end).await),
            Err(_) => running.end(output, checks.grace).await,
        }
    });
    Ok(subscribed)
}

/// Emits the lines that matter, and says how many they were.
async fn follow(output: impl AsyncRead + Unpin, events: &Emitter, contains: Option<&str>) -> usize {
    let mut lines = Lines::new(output);
    let mut noted = 0;
    while let Ok(Some(line)) = lines.next().await {
        let matters = match contains {
            Some(word) => line.contains(word),
            None => line.contains("FAIL") || line.contains("error"),
        };
        if matters {
            noted += 1;
            if events.emit(line).await.is_err() {
                break;
            }
        }
    }
    noted
}

fn server(checks: Checks) -> ToolServer {
    ToolServer::new("ci-watch").state(checks).tool(watch_checks)
}

#[tokio::main]
async fn main() -> Result<(), StartError> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let command = std::env::var("CHECKS").unwrap_or_else(|_| "make check".to_owned());
    server(Checks { command, grace: Duration::from_secs(5) }).serve_from_env("127.0.0.1:3003").await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rap_server::testing::TestServer;
    use serde_json::json;
    use tokio::sync::oneshot;

    fn started(command: &str) -> TestServer {
        let checks = Checks { command: command.to_owned(), grace: Duration::from_millis(100) };
        TestServer::new(server(checks))
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

    /// A pipe with a name, and the news that everybody who held it for writing is gone.
    fn pipe() -> (tempfile::TempDir, String, oneshot::Receiver<()>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("held");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (closed, all_gone) = oneshot::channel();
        let read = path.clone();
        std::thread::spawn(move || {
            let _ = std::fs::read(read);
            let _ = closed.send(());
        });
        (folder, path.to_str().unwrap().to_owned(), all_gone)
    }

    /// Cancelling ends the checks with all that they have started, those too that take no notice of SIGTERM.
    #[tokio::test]
    async fn cancelled() {
        for deaf in ["", "trap '' TERM; "] {
            let (_folder, held, all_gone) = pipe();
            let server = started(&format!("{deaf}exec 9>'{held}'; sleep 1000 & echo FAIL; wait; sleep 1000"));
            let mut call = server.start("watch_checks", json!({"contains": "FAIL"})).await;
            call.result().await;
            assert_eq!(call.event().await.text, "FAIL");
            call.cancel().await;
            assert!(!call.is_alive().await);
            let gone = tokio::time::timeout(Duration::from_secs(10), all_gone).await;
            gone.expect("all processes are gone").unwrap();
            call.silence().await;
        }
    }
}
