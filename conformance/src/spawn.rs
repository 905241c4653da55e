//! A server that the judge starts, kills and starts again: `RAP_EMBEDDED=1`, and a first line of stdout that
//! says the port, as `{"port": N}` or as a bare number.

mod said;

use crate::{
    credentials::{Key, Secret},
    nonce::nonce,
};
use said::{Said, first_line};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::BufReader,
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

/// The longest time that a server may take to say its port.
const START: Duration = Duration::from_secs(30);

/// The longest time that a killed server, and whatever it started, may take to be gone.
const END: Duration = Duration::from_secs(5);

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

/// A started server; killed when dropped with all that it started, its directory removed.
#[derive(Debug)]
pub struct Spawned {
    template: String,
    started: Started,
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
        let (started, port) = match start(template, &command, &said).await {
            Ok(started) => started,
            Err(why) => {
                let _ = std::fs::remove_dir_all(&data);
                return Err(why);
            }
        };
        Ok(Self { template: template.to_owned(), started, data, said, port, token, secret })
    }

    /// What it has said on stderr and, after its port, on stdout: the last 4 MiB of each, what is not UTF-8 replaced.
    pub fn said(&self) -> String {
        self.said.text()
    }

    /// Whether it has said a word. Who asks early is told of all that comes, who asks late of what is still kept.
    pub fn has_said(&self, word: &str) -> bool {
        self.said.has(word)
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
        (self.started, self.port) = start(&self.template, &command, &self.said).await?;
        Ok(())
    }

    /// Kills it without warning, with all that it started, and waits until nobody has its port any more.
    ///
    /// # Errors
    /// In words, where the system refuses, or something lives on.
    pub async fn kill(&mut self) -> Result<(), String> {
        self.started.kill_all();
        self.started.child.kill().await.map_err(|e| format!("the server cannot be killed: {e}"))?;
        let end = Instant::now() + END;
        // What it started is nobody's child now: it is gone when it holds neither the pipes nor the port.
        for stream in &mut self.started.streams {
            let _ = timeout(end.saturating_duration_since(Instant::now()), stream).await;
        }
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
            if Instant::now() >= end {
                return Err(format!(
                    "the server was killed, and port {} is still served; hint: what `{}` starts must stay in its \
                     process group",
                    self.port, self.template
                ));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.started.kill_all();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// The shell that was started, and whoever reads what it and its children say.
#[derive(Debug)]
struct Started {
    child: Child,
    streams: Vec<JoinHandle<()>>,
}

impl Started {
    /// Kills the whole process group; nothing where the shell has been waited for, since its number may be another's.
    fn kill_all(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.child.id() {
            let kill = format!("kill -s KILL -- -{group}");
            let quiet = std::process::Command::new("sh")
                .args(["-c", &kill])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            let _ = quiet;
        }
        let _ = self.child.start_kill();
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.kill_all();
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
async fn start(template: &str, command: &str, said: &Said) -> Result<(Started, u16), String> {
    let mut shell = Command::new("sh");
    // A group of its own, so that what the shell starts can be killed with it.
    #[cfg(unix)]
    shell.process_group(0);
    let mut child = shell
        .args(["-c", command])
        .env("RAP_EMBEDDED", "1")
        // Open for as long as the judge lives: a server that watches it ends with a judge that is killed.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("`{template}` cannot be started: {e}"))?;
    let stdout = child.stdout.take().ok_or("bug: stdout was piped")?;
    let streams = child.stderr.take().map(|stderr| said.err.listen(stderr)).into_iter().collect();
    let mut started = Started { child, streams };
    let mut stdout = BufReader::new(stdout);
    let line = timeout(START, first_line(&mut stdout))
        .await
        .map_err(|_| format!("`{template}` did not say its port within {} s", START.as_secs()))?
        .map_err(|e| format!("the output of `{template}` cannot be read: {e}"))?;
    let Some(line) = line else {
        // It closed stdout and is about to end: what it says of that is on stderr.
        for stream in &mut started.streams {
            let _ = timeout(Duration::from_secs(1), stream).await;
        }
        let words = said.text();
        return Err(format!("`{template}` ended without saying its port: {}", words.trim()));
    };
    let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    let port = value.get("port").unwrap_or(&value).as_u64().and_then(|p| u16::try_from(p).ok());
    let port = port.ok_or_else(|| {
        let shown: String = line.chars().take(300).collect();
        format!("the first line of `{template}` is {shown:?}; hint: it should be {{\"port\": N}}")
    })?;
    started.streams.push(said.out.listen(stdout));
    Ok((started, port))
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
        drop(spawned.started.child.stdin.take());
        spawned.started.child.wait().await.expect("an end");
        assert!(mark.exists());
    }

    /// A server goes on whatever it logs: no byte of it may close the pipe under it.
    #[tokio::test]
    async fn what_is_no_text_is_heard_and_ends_nothing() {
        let temp = tempfile::tempdir().expect("a directory");
        let gate = temp.path().join("gate");
        let command = format!(
            "echo 1; printf '\\377\\n' >&2; printf '\\376\\n'; while [ ! -e {} ]; do sleep 0.05; done; echo alive >&2; echo too",
            gate.display()
        );
        let mut spawned = Spawned::start(&command).await.expect("a process");
        // The byte has been read when it is among what was said.
        let said = |spawned: &Spawned, word: &str| spawned.said().contains(word);
        heard(|| spawned.said().matches('\u{fffd}').count() == 2).await;
        assert!(!spawned.has_said("alive"));
        std::fs::write(&gate, "").expect("open");
        let ended = spawned.started.child.wait().await.expect("an end");
        heard(|| said(&spawned, "alive") && said(&spawned, "too")).await;
        assert!(ended.success() && spawned.has_said("alive") && !spawned.has_said("dead"), "{ended}");
    }

    async fn heard(right: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !right() {
            assert!(Instant::now() < end, "never heard");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A shell takes the command apart, whatever it is: variables, folders, lists.
    #[tokio::test]
    async fn the_command_is_a_shells() {
        for command in
            ["X=7 sh -c 'echo $X'", "cd / && echo $((3 + 4))", "if true; then echo '{\"port\": 7}'; fi"]
        {
            let spawned = Spawned::start(command).await.expect(command);
            assert_eq!(spawned.port, 7, "{command}");
        }
        let why = Spawned::start("echo gone wrong >&2; exit 1").await.expect_err("no port");
        assert!(why.ends_with("without saying its port: gone wrong"), "{why}");
    }

    /// What the command started is killed with it, at a restart and in the end.
    #[tokio::test]
    async fn nothing_that_was_started_outlives_a_kill() {
        let temp = tempfile::tempdir().expect("a directory");
        let list = temp.path().join("pids");
        // A port that nobody serves: taken, and given back.
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port();
        let command = format!("sh -c 'echo $$ >> {}; echo {port}; sleep 600; true'; true", list.display());
        let pids = || -> Vec<String> {
            std::fs::read_to_string(&list).expect("the list").lines().map(str::to_owned).collect()
        };
        let lives = |pid: &String| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A zombie that nobody waits for is dead.
            stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
        };
        let mut spawned = Spawned::start(&command).await.expect("a process");
        if !Path::new("/proc/self/stat").exists() {
            return;
        }
        assert!(pids().iter().all(lives), "{:?}", pids());
        spawned.restart().await.expect("a restart");
        let all = pids();
        assert_eq!(all.len(), 2);
        assert!(lives(&all[1]), "{all:?}");
        // It may be dead before its last line in the system's books is.
        heard(|| !lives(&all[0])).await;
        drop(spawned);
        heard(|| !pids().iter().any(lives)).await;
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
