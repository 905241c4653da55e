//! Databases that cannot be used, addresses that are taken, and `rap serve` beside readers.

use crate::support::{Ended, Server, end_of, plain, rap, serving, signal, weather};
use std::path::PathBuf;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn db(&self) -> PathBuf {
        self.0.path().join("agent.db")
    }

    /// What is wrong, without names that differ.
    fn told(&self, ended: &Ended) -> String {
        let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with("no model")).collect();
        plain(&lines.join("\n"), &[(self.0.path().to_str().unwrap(), "DIR")])
    }
}

/// One process owns a database; others read it and say who owns it. A stopped one serves again at the same
/// address, which nobody else may have taken.
#[test]
fn serve() {
    let tools = Server::of(weather());
    let folder = Folder::new();
    let db = folder.db();
    let db = db.to_str().unwrap();
    let (mut child, ready) = serving(&["--db", db, "--server", &tools.base]);
    let listen = ready["listen"].as_str().unwrap().to_owned();

    let owned = rap(&["run", "hello", "--server", &tools.base, "--db", db]).expect_failure("error: ");
    let pid = child.id().to_string();
    insta::assert_snapshot!(folder.told(&owned).replace(&pid, "PID").replace(&listen, "ADDR"), @"
    error: the database DIR/agent.db is in use by process PID
    hint: if that is rap serve, talk to it with --connect http://ADDR --token-file DIR/agent.db.token in the place of --db; else stop it, or use another file
    ");
    // What it says is so.
    let (at, token) = (format!("http://{listen}"), format!("{db}.token"));
    let ended = rap(&["run", "call get_time {}", "--connect", &at, "--token-file", &token]).expect_success();
    assert!(ended.stdout.contains("noon"), "{}", ended.transcript());
    assert_eq!(rap(&["sessions", "--db", db]).expect_success().stdout.lines().count(), 1);

    // The end of stdin is the end, where that was asked for.
    drop(child.stdin.take());
    end_of(child).expect_success();

    let (child, ready) = serving(&["--db", db]);
    assert_eq!(ready["listen"], *listen);
    signal(child.id(), "TERM");
    end_of(child).expect_success();

    let taken = std::net::TcpListener::bind(&listen).unwrap();
    let ended = rap(&["serve", "--db", db]).expect_failure("error: ");
    insta::assert_snapshot!(folder.told(&ended).replace(&listen, "ADDR"), @"
    error: cannot listen on ADDR, where the calls of this database expect their callbacks: another program has this port
    hint: stop that program; or serve the database elsewhere with --listen and a port, and lose the callbacks that are under way
    ");
    let ended = rap(&["serve", "--db", db, "--listen", &listen]).expect_failure("error: ");
    insta::assert_snapshot!(folder.told(&ended).replace(&listen, "ADDR"), @"
    error: cannot listen on ADDR: another program has this port
    hint: stop it, or choose another port (0 picks a free one)
    ");
    drop(taken);
}

/// A database of a newer version is refused untouched.
#[test]
fn newer() {
    let tools = Server::of(weather());
    let folder = Folder::new();
    let db = folder.db();
    let path = db.to_str().unwrap();
    rap(&["run", "hello", "--server", &tools.base, "--db", path]).expect_success();
    rusqlite::Connection::open(&db).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let before = std::fs::read(&db).unwrap();
    let mut told = String::new();
    for args in [
        vec!["run", "hello", "--server", &tools.base, "--db", path],
        vec!["serve", "--db", path],
        vec!["sessions", "--db", path],
    ] {
        let ended = rap(&args).expect_failure("newer version");
        told = folder.told(&ended);
    }
    // The number grows with every migration.
    let known = told.split("knows ").nth(1).and_then(|rest| rest.split(')').next()).unwrap().to_owned();
    assert!(known.parse::<u32>().unwrap() < 999);
    let told = told.replace(&format!("knows {known}"), "knows N");
    insta::assert_snapshot!(told, @"
    error: the database DIR/agent.db was written by a newer version (format 999, this program knows N)
    hint: use that version
    ");
    assert_eq!(before, std::fs::read(&db).unwrap());
}

/// What is not there, and what is no database.
#[test]
fn missing() {
    let tools = Server::of(weather());
    let folder = Folder::new();
    let db = folder.db();
    let path = db.to_str().unwrap();
    let mut told = Vec::new();
    let mut refused = |args: &[&str]| {
        let ended = rap(args).expect_failure("error: ");
        told.push(folder.told(&ended));
    };
    refused(&["sessions", "--db", path]);
    refused(&["run", "hello", "--db", path, "--session", "abc"]);
    assert!(!db.exists(), "asking makes no database");
    rap(&["run", "hello", "--server", &tools.base, "--db", path]).expect_success();
    refused(&["run", "hello", "--db", path, "--session", "abc"]);
    refused(&["show", "abc", "--db", path]);
    refused(&["run", "hello", "--server", &tools.base, "--db", "/nowhere/agent.db"]);
    refused(&["run", "hello", "--server", &tools.base, "--script", "/nowhere/script.toml"]);
    std::fs::write(&db, "this is a letter, not a database, and it is long enough to be read as one").unwrap();
    refused(&["run", "hello", "--server", &tools.base, "--db", path]);
    insta::assert_snapshot!(told.join("\n\n"), @"
    error: there is no database DIR/agent.db
    hint: name the file that was given to rap run or rap serve with --db

    error: there is no database DIR/agent.db, so no session to go on with
    hint: name the file that was given when the session began

    error: there is no thread abc in DIR/agent.db
    hint: list its sessions with rap sessions --db DIR/agent.db

    error: there is no thread abc in DIR/agent.db
    hint: list its sessions with rap sessions --db DIR/agent.db

    error: the database failed: the directory /nowhere does not exist
    hint: make it first

    error: cannot read the script /nowhere/script.toml: No such file or directory (os error 2)
    hint: give a file with rules for the scripted model

    error: the database DIR/agent.db is damaged: it is too short to be a database
    hint: restore the database from a copy
    ");
}
