//! A running process with all that it has started. It ends whole: it is asked to, and then it is not asked; and
//! when this program is gone, killed outright as well, its guard ends it.

use std::{io, process::ExitStatus, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncRead, copy, sink},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// Runs a command beside a guard: a shell that waits for the end of its input and then ends the whole process
/// group, itself last. That end comes when this program closes the pipe, or the system does it in its place.
const GUARDED: &str = r#"
exec 3<&0 </dev/null
{ trap '' TERM; read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &
guard=$!
exec 3<&-
sh -c "$1"
ended=$?
kill -KILL "$guard"
exit "$ended"
"#;

/// The checks while they run.
pub(crate) struct Running {
    child: Child,
    /// What the guard waits for the end of.
    _held: ChildStdin,
}

impl Running {
    /// Starts a command for `sh -c`; beside it its output.
    pub(crate) fn start(command: &str) -> io::Result<(Self, ChildStdout)> {
        let mut child = Command::new("sh")
            .args(["-c", GUARDED, "sh", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()?;
        let (Some(held), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the pipes of the checks are missing"));
        };
        Ok((Self { child, _held: held }, output))
    }

    /// Waits for the end of the command.
    pub(crate) async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends all of it: asks, waits until the output is closed or the time is over, and asks no more.
    pub(crate) async fn end(mut self, mut output: impl AsyncRead + Unpin, grace: Duration) {
        self.signal("-TERM").await;
        let _ = tokio::time::timeout(grace, copy(&mut output, &mut sink())).await;
        self.signal("-KILL").await;
        // Only now: until then the number of the group can be nobody else's.
        let _ = self.child.wait().await;
    }

    async fn signal(&self, signal: &str) {
        if let Some(group) = self.child.id() {
            let _ = Command::new("kill")
                .args([signal, "--", &format!("-{group}")])
                .stderr(Stdio::null())
                .status()
                .await;
        }
    }
}
