//! A server that the judge starts, kills and starts again: `RAP_EMBEDDED=1`, and a first line of stdout that
//! says the port, as `{"port": N}` or as a bare number.

use crate::{
    credentials::{Key, Secret},
    nonce::nonce,
};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, Command},
    time::timeout,
};

/// The longest time that a server may take to say its port.
const START: Duration = Duration::from_secs(30);

/// What the names of directories begin with; the judge's process id follows.
const PREFIX: &str = "rap-conformance-";

/// How long a directory is left alone, whoever made it: longer than any run.
const ABANDONED: Duration = Duration::from_secs(2 * 3600);

/// Removes the directories of judges that were killed and could not do it themselves.
fn sweep(temp: &Path, now: SystemTime) {
    for entry in std::fs::read_dir(temp).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let maker = rest.split_once('-').and_then(|(pid, _)| pid.parse::<u32>().ok());
        let lives = maker.is_some_and(|pid| Path::new("/proc").join(pid.to_string()).exists());
        let touched = entry.metadata().and_then(|m| m.modified()).ok();
        let age = touched.and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
        if !lives && age > ABANDONED {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A started server; killed when dropped, its directory removed.
#[derive(Debug)]
pub struct Spawned {
    template: String,
    child: Child,
    data: PathBuf,
    said: Said,
    /// The port that it said.
    pub port: u16,
    /// The token that it must demand, where the command has a place for one.
    pub token: Option<Secret>,
    /// The secret by which requests to it must be signed, where the command has a place for one.
    pub secret: Option<Secret>,
}

impl Spawned {
    /// Starts a command, which a shell takes apart. `{port}`, `{data}`, `{token}` and `{secret}` in it stand for a
    /// port on 127.0.0.1 (0 the first time, then the one that it had), a directory of its own, a bearer token, and a
    /// secret by which requests are signed.
    ///
    /// # Errors
    /// In words: it cannot be started, or did not say its port.
    pub async fn start(template: &str) -> Result<Self, String> {
        let temp = std::env::temp_dir();
        sweep(&temp, SystemTime::now());
        let data = temp.join(format!("{PREFIX}{}-{}", std::process::id(), nonce()));
        tokio::fs::create_dir_all(&data).await.map_err(|e| format!("{}: {e}", data.display()))?;
        let token = template.contains("{token}").then(|| Secret::from(format!("token-{}", nonce())));
        let secret = template.contains("{secret}").then(Key::fresh);
        let said = Said::default();
        let command = fill(template, 0, &data, [&token, &secret]);
        let (child, port) = start(template, &command, &said).await?;
        Ok(Self { template: template.to_owned(), child, data, said, port, token, secret })
    }

    /// What it has said on stdout and stderr, after its port; the last 4 MiB.
    pub fn said(&self) -> String {
        self.said.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The command that was given, with its places unfilled.
    pub fn template(&self) -> &str {
        &self.template
    }

    /// Whether the command has a place for a directory, so that a restart can find what was kept.
    pub fn keeps_data(&self) -> bool {
        self.template.contains("{data}")
    }

    /// Kills it without warning and starts the same command again, with the same port and directory.
    ///
    /// # Errors
    /// As [`Spawned::start`].
    pub async fn restart(&mut self) -> Result<(), String> {
        self.kill().await?;
        let command = fill(&self.template, self.port, &self.data, [&self.token, &self.secret]);
        (self.child, self.port) = start(&self.template, &command, &self.said).await?;
        Ok(())
    }

    /// Kills it without warning.
    ///
    /// # Errors
    /// In words, where the system refuses.
    pub async fn kill(&mut self) -> Result<(), String> {
        self.child.kill().await.map_err(|e| format!("the server cannot be killed: {e}"))
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// What a server says beside the protocol.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<String>>);

impl Said {
    /// Reads on to the end, so that the server never blocks on a full pipe.
    fn listen(&self, mut lines: Lines<impl AsyncBufRead + Unpin + Send + 'static>) {
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut said = this.0.lock().unwrap_or_else(PoisonError::into_inner);
                if said.len() > 4 * 1024 * 1024 {
                    said.clear();
                }
                said.push_str(&line);
                said.push('\n');
            }
        });
    }
}

fn fill(template: &str, port: u16, data: &Path, [token, secret]: [&Option<Secret>; 2]) -> String {
    let text = |secret: &Option<Secret>| secret.as_ref().map_or("", Secret::expose).to_owned();
    template
        .replace("{port}", &port.to_string())
        .replace("{data}", &data.display().to_string())
        .replace("{token}", &text(token))
        .replace("{secret}", &text(secret))
}

/// Starts a command. Words about it show its template, since there may be secrets in the command.
async fn start(template: &str, command: &str, said: &Said) -> Result<(Child, u16), String> {
    let mut child = Command::new("sh")
        .args(["-c", &format!("exec {command}")])
        .env("RAP_EMBEDDED", "1")
        // Open for as long as the judge lives: a server that watches it ends with a judge that is killed.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("`{template}` cannot be started: {e}"))?;
    if let Some(stderr) = child.stderr.take() {
        said.listen(BufReader::new(stderr).lines());
    }
    let stdout = child.stdout.take().ok_or("bug: stdout was piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(START, lines.next_line())
        .await
        .map_err(|_| format!("`{template}` did not say its port within {} s", START.as_secs()))?
        .map_err(|e| format!("the output of `{template}` cannot be read: {e}"))?
        .ok_or_else(|| {
            let words = said.0.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned();
            format!("`{template}` ended without saying its port: {words}")
        })?;
    let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    let port = value.get("port").unwrap_or(&value).as_u64().and_then(|p| u16::try_from(p).ok());
    let port = port.ok_or_else(|| {
        format!("the first line of `{template}` is {line:?}; hint: it should be {{\"port\": N}}")
    })?;
    said.listen(lines);
    Ok((child, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_judge_can_be_seen_on_stdin() {
        let temp = tempfile::tempdir().expect("a directory");
        let mark = temp.path().join("ended");
        let command = format!("sh -c 'echo 1; cat; touch {}'", mark.display());
        let mut spawned = Spawned::start(&command).await.expect("a process");
        assert!(!mark.exists(), "stdin is open");
        drop(spawned.child.stdin.take());
        spawned.child.wait().await.expect("an end");
        assert!(mark.exists());
    }

    #[test]
    fn only_what_a_dead_judge_left_long_ago_is_swept_away() {
        let temp = tempfile::tempdir().expect("a directory");
        let own = format!("{PREFIX}{}-a", std::process::id());
        // No process has this id: it is beyond what Linux gives.
        let dead = format!("{PREFIX}4294967295-b");
        let (before, other) = (format!("{PREFIX}0123456789abcdef"), "somebody-else".to_owned());
        for name in [&own, &dead, &before, &other] {
            std::fs::create_dir(temp.path().join(name)).expect("a directory");
        }
        let left = || {
            let entries = std::fs::read_dir(temp.path()).expect("a directory").flatten();
            let mut names: Vec<String> =
                entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        sweep(temp.path(), SystemTime::now());
        assert_eq!(left().len(), 4, "what is new is left alone");
        sweep(temp.path(), SystemTime::now() + 2 * ABANDONED);
        let mut kept = vec![own, other];
        kept.sort();
        assert_eq!(
            left(),
            if Path::new("/proc/self").exists() { kept } else { vec![kept.pop().expect("two")] }
        );
    }
}
