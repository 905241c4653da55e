//! Tool servers that want to know who calls: tokens and keys from the environment or a file, and nowhere else.

use crate::support::{Server, command, end_of, rap, until, weather};
use rap_http::{Auth, Secret, webhooks::Keys};
use rap_runtime::{AgentHost, LocalFiles, NewSession, RemoteHost};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

const TOKEN: &str = "a-token-that-nobody-may-see";
const KEY: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

fn with_token() -> Server {
    Server::of(weather().bearer_token(TOKEN))
}

fn file(folder: &Path, text: &str, mode: u32) -> String {
    let path = folder.join("credentials.toml");
    std::fs::write(&path, text).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    path.to_str().unwrap().to_owned()
}

/// AUT-01: by the environment, and by a file; without either the person is told what to do.
#[test]
fn from_environment_and_file() {
    let (bearer, folder) = (with_token(), tempfile::tempdir().unwrap());
    let keys = Keys::new([&Secret::from(KEY)]).unwrap();
    let signed = Server::of(weather().auth(Auth::Signed(keys)));
    let of_bearer = format!("my-tools={}", bearer.base);
    let of_signed = format!("my-tools={}", signed.base);
    let (token, key) =
        (format!("[my-tools]\ntoken = '{TOKEN}'\n"), format!("[my-tools]\nsigning_keys = ['{KEY}']\n"));
    for (server, variable, value, text) in [
        (&of_bearer, "RAP_SERVER_TOKEN_MY_TOOLS", TOKEN, &token),
        (&of_signed, "RAP_SERVER_KEY_MY_TOOLS", KEY, &key),
    ] {
        let args = ["run", "call get_time", "--server", server];
        let ended = end_of(command(&args).env(variable, value).spawn().unwrap()).expect_success();
        assert!(ended.stdout.contains("result get_time: noon"), "{}", ended.transcript());
        let path = file(folder.path(), text, 0o600);
        let ended = rap(&["run", "call get_time", "--server", server, "--credentials", &path]);
        assert!(ended.expect_success().stdout.contains("result get_time: noon"));
    }
    rap(&["run", "call get_time", "--server", &of_bearer])
        .expect_failure("turned us away: it answered 401")
        .expect_failure("configure the token or the signing key that the server expects");
}

/// A file that others can read, that is wrong, or that names a server that is not there: refused, and nothing of it shown.
#[test]
fn files_that_are_refused() {
    let (bearer, folder) = (with_token(), tempfile::tempdir().unwrap());
    let server = format!("tools={}", bearer.base);
    let right = format!("[tools]\ntoken = '{TOKEN}'\n");
    for (text, mode, says) in [
        (right.clone(), 0o644, "others can read the credentials"),
        (format!("[tools]\ntoken = {TOKEN}\n"), 0o600, "are wrong in line 2"),
        (format!("[tools]\nsecret = '{TOKEN}'\n"), 0o600, "are wrong in line"),
        (
            format!("{right}[others]\ntoken = '{TOKEN}'\n"),
            0o600,
            "credentials for \"others\", and no such server",
        ),
        (format!("{right}signing_keys = ['{KEY}']\n"), 0o600, "both a token and signing keys"),
        (format!("[tools]\ntoken = \"{TOKEN}\\n\"\n"), 0o600, "begins or ends with white space"),
        (format!("[tools]\ntoken = '{TOKEN}ä'\n"), 0o600, "a character that fits no header"),
    ] {
        let path = file(folder.path(), &text, mode);
        let ended = rap(&["run", "call get_time", "--server", &server, "--credentials", &path]);
        let ended = ended.expect_failure(says);
        assert!(!ended.stderr.contains(TOKEN), "{}", ended.transcript());
    }
}

/// Secrets are in no file, in no log and in no list of processes; slices in processes of their own have them all the same.
#[cfg(target_os = "linux")]
#[test]
fn nowhere_to_be_seen() {
    let (bearer, folder) = (with_token(), tempfile::tempdir().unwrap());
    let (db, server) = (folder.path().join("agent.db"), format!("tools={}", bearer.base));
    let args = ["--json", "serve", "--exec-slices", "--stop-with-stdin", "--server", &server];
    let mut command = command(&args);
    command.arg("--db").arg(&db).env("RAP_SERVER_TOKEN_TOOLS", TOKEN).env("RAP_LOG", "trace,hyper=debug");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let (mut line, mut stdout) = (String::new(), BufReader::new(child.stdout.take().unwrap()));
    stdout.read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).expect(&line);
    let stderr = child.stderr.take().unwrap();
    let log = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap());
    let host = RemoteHost::new(
        ready["url"].as_str().unwrap().parse().unwrap(),
        LocalFiles::beside(&db).token().unwrap(),
    );
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let session = tokio.block_on(async {
        let session = host.create(NewSession::new()).await.unwrap().session;
        host.send(&session, "1", "call get_time").await.unwrap();
        session
    });
    let mut looked = 0;
    until("rest", || {
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&line).contains(TOKEN), "in the list of processes");
            looked += 1;
        }
        tokio.block_on(host.status(&session)).unwrap().is_at_rest()
    });
    assert!(looked > 0);
    drop(child.stdin.take());
    until("the end", || child.try_wait().unwrap().is_some());
    let shown = rap(&["show", session.as_str(), "--db", db.to_str().unwrap()]).expect_success().stdout;
    assert!(shown.contains("noon"), "{shown}");
    assert!(!log.join().unwrap().contains(TOKEN), "in the log");
    for entry in std::fs::read_dir(folder.path()).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        let found = bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        assert!(!found, "in {}", entry.path().display());
    }
}
