//! People: asked at the prompt, asked over HTTP, and talking to a runtime that runs elsewhere.

use crate::support::{Server, command, end_of, rap, serving, troublesome, until, weather};
use rap_runtime::{
    AgentHost, LocalFiles, NewSession, RemoteHost, SessionStatus,
    core::{Interaction, ThreadState},
};
use rap_types::ThreadId;
use std::process::Child;

/// A program with a terminal on stdin, and what the person there types.
#[cfg(unix)]
fn at_the_prompt(args: &[&str], typed: &str) -> crate::support::Ended {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use std::io::Write;
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name).unwrap();
    let mut terminal = std::fs::File::from(terminal);
    terminal.write_all(typed.as_bytes()).unwrap();
    let child = command(args).stdin(side).spawn().unwrap();
    let ended = end_of(child);
    drop(terminal);
    ended
}

/// CON-02: a person at the prompt is asked before a tool that destroys something runs, and decides; Enter alone declines.
#[cfg(unix)]
#[test]
fn approval_at_the_prompt() {
    let (tools, _gate) = troublesome();
    let server = Server::of(tools);
    let run = ["run", "call delete_all", "--server", &server.base];
    for (typed, ran) in
        [("2\n", true), ("allow\n", true), ("maybe\nallow\n", true), ("1\n", false), ("\n", false)]
    {
        let ended = at_the_prompt(&run, typed).expect_success();
        let told = ended.transcript();
        assert!(ended.stdout.contains("asks may delete_all run with {}?"), "{typed:?}: {told}");
        assert!(ended.stdout.contains("       1. decline (default)\n       2. allow\n"), "{typed:?}: {told}");
        let asked = ended.stderr.matches("type a number from 1 to 2").count();
        assert_eq!(asked, typed.lines().count(), "a wrong answer is asked for again: {told}");
        assert_eq!(ended.stdout.contains("result delete_all: all is gone"), ran, "{typed:?}: {told}");
        assert_eq!(ended.stdout.contains("error delete_all: Error: "), !ran, "{typed:?}: {told}");
    }
}

/// CHO-01: a tool's question is put to the person at the prompt; Enter alone picks its default.
#[cfg(unix)]
#[test]
fn a_choice_at_the_prompt() {
    let (tools, _gate) = troublesome();
    let server = Server::of(tools);
    for (typed, picked) in [("1\n", "tea"), ("TEA\n", "tea"), ("\n", "coffee")] {
        let ended = at_the_prompt(&["run", "call ask", "--server", &server.base], typed).expect_success();
        assert!(ended.stdout.contains("asks Tea or coffee?"), "{}", ended.transcript());
        assert!(ended.stdout.contains(&format!("result ask: {picked}")), "{typed:?}: {}", ended.transcript());
    }
}

/// `rap serve`, and a way to it.
struct Served {
    folder: tempfile::TempDir,
    child: Child,
    url: String,
    host: RemoteHost,
    tokio: tokio::runtime::Runtime,
}

impl Served {
    fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("agent.db");
        let mut all = vec!["--db", db.to_str().unwrap()];
        all.extend(args);
        let (child, ready) = serving(&all);
        let url = ready["url"].as_str().unwrap().to_owned();
        let token = LocalFiles::beside(&db).token().unwrap();
        let host = RemoteHost::new(url.parse().unwrap(), token);
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { folder, child, url, host, tokio }
    }

    fn block<T>(&self, work: impl Future<Output = T>) -> T {
        self.tokio.block_on(work)
    }

    fn status(&self, session: &ThreadId) -> SessionStatus {
        self.block(self.host.status(session)).unwrap()
    }

    fn token_file(&self) -> String {
        self.folder.path().join("agent.db.token").display().to_string()
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        end_of(self.child).expect_success();
    }
}

/// CON-02, CHO-01: with `--ask` questions wait until somebody answers them over HTTP; without it nobody is asked.
#[test]
fn asked_over_http() {
    let (tools, _gate) = troublesome();
    let server = Server::of(tools);
    let served = Served::start(&["--server", &server.base, "--ask"]);
    let session = served.block(served.host.create(NewSession::new())).unwrap().session;
    for (n, (allow, says)) in [(true, "all is gone"), (false, "declined")].into_iter().enumerate() {
        served.block(served.host.send(&session, &n.to_string(), "call delete_all")).unwrap();
        let mut open = Vec::new();
        until("it asks", || {
            open = served.block(served.host.open_questions(&session)).unwrap();
            !open.is_empty()
        });
        assert_eq!(
            served.status(&session).threads[0].state,
            ThreadState::Waiting,
            "it waits for as long as it takes"
        );
        let Interaction::Approval { call, name, .. } = &open[0].interaction else { panic!("{open:?}") };
        assert_eq!(name, "delete_all");
        served.block(served.host.approve(call, allow)).unwrap();
        until("rest", || served.status(&session).is_at_rest());
        let db = served.folder.path().join("agent.db");
        let shown = rap(&["show", session.as_str(), "--db", db.to_str().unwrap()]).expect_success().stdout;
        assert!(shown.contains(says), "{shown}");
    }
    served.block(served.host.send(&session, "choice", "call ask")).unwrap();
    let mut open = Vec::new();
    until("it asks", || {
        open = served.block(served.host.open_questions(&session)).unwrap();
        !open.is_empty()
    });
    let call = open[0].interaction.call().unwrap().clone();
    served.block(served.host.answer(&call, 0)).unwrap();
    assert!(served.block(served.host.answer(&call, 1)).unwrap_err().is_already(), "the first answer wins");
    until("rest", || served.status(&session).is_at_rest());
    served.stop();

    let served = Served::start(&["--server", &server.base]);
    let session = served.block(served.host.create(NewSession::new())).unwrap().session;
    served.block(served.host.send(&session, "1", "call delete_all and ask")).unwrap();
    until("rest", || {
        let status = served.status(&session);
        status.is_at_rest() && status.threads[0].open_calls == 0
    });
    assert!(served.block(served.host.open_questions(&session)).unwrap().is_empty());
    served.stop();
}

/// `rap run --connect` talks to a runtime that runs elsewhere, whose session is there afterwards; with its token.
#[test]
fn a_conversation_elsewhere() {
    let server = Server::of(weather());
    let served = Served::start(&["--server", &server.base]);
    let (url, token) = (served.url.clone(), served.token_file());
    let run = |args: &[&str]| rap(&[&["run"], args, &["--connect", &url]].concat());
    let ended = run(&["call get_time {}", "--token-file", &token]).expect_success();
    assert!(ended.stdout.contains("result get_time: noon"), "{}", ended.transcript());
    assert!(
        !ended.stderr.contains("no model is configured"),
        "that is the other's matter: {}",
        ended.transcript()
    );
    let go_on = ended.stderr.split("to go on: ").nth(1).unwrap().trim();
    assert!(go_on.contains(&format!("--connect {url}")), "{go_on}");
    let session = go_on.split("--session ").nth(1).unwrap().to_owned();
    let ended = run(&[r#"call get_weather {"city":"Rome"}"#, "--token-file", &token, "--session", &session])
        .expect_success();
    assert!(ended.stdout.contains("result get_weather: Rome: rain"), "{}", ended.transcript());
    assert!(!ended.stdout.contains("get_time"), "what was before is not told again: {}", ended.transcript());
    assert!(served.status(&session.parse().unwrap()).is_at_rest(), "it is kept");

    run(&["hello"])
        .expect_failure("hint: put it into the environment as RAP_TOKEN, or name its file with --token-file");
    run(&["hello", "--token-file", "/nowhere"]).expect_failure("error: the token in /nowhere cannot be read");
    let mut stranger = command(&["run", "hello", "--connect", &url]);
    stranger.env("RAP_TOKEN", "guessed");
    end_of(stranger.spawn().unwrap()).expect_failure("does not know this token");
    let mut friend = command(&["run", "hello", "--connect", &url]);
    let word = std::fs::read_to_string(&token).unwrap();
    friend.env("RAP_TOKEN", &word);
    end_of(friend.spawn().unwrap()).expect_success();
    run(&["hello", "--token-file", &token, "--session", "nobody"])
        .expect_failure("there is no session nobody");
    served.stop();
    let mut late = command(&["run", "hello", "--connect", &url]);
    end_of(late.env("RAP_TOKEN", &word).spawn().unwrap()).expect_failure("the runtime does not answer");
}
