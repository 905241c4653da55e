//! The program from outside: exit codes, and where what is said.

use std::process::{Command, Output};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rap-conformance"))
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = program().args(arguments).output().expect("the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn wrong_usage_is_2_and_says_what_to_do() {
    let cases: &[(&[&str], &str)] = &[
        (&["server"], "--url"),
        (&["server", "--url", "ftp://127.0.0.1/"], "http"),
        (&["server", "--url", "127.0.0.1:3001"], "http"),
        (&["server", "--url", "http://127.0.0.1:1", "--only", "nonsense"], "rap-conformance cases"),
        (&["server", "--url", "http://127.0.0.1:1", "--skip", "TRN-99"], "rap-conformance cases"),
        (&["server", "--url", "http://127.0.0.1:1", "--args", "/no/such/file"], "/no/such/file"),
        (&["server", "--url", "https://127.0.0.1:1", "--ca", "/no/such/file"], "/no/such/file"),
        (&["trace", "/no/such/file"], "/no/such/file"),
        (&["explain", "TRN-99"], "TRN-01"),
        (&["watch", "--to", "127.0.0.1:1"], "http"),
        (&["watch", "--to", "http://127.0.0.1:1", "--listen", "nowhere"], "--listen"),
    ];
    for (arguments, words) in cases {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_judged_is_3_in_one_sentence() {
    let (code, stdout, stderr) = run(&["server", "--url", "http://127.0.0.1:1"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.starts_with("error: no toolset: ") && stderr.contains("hint: "), "{stderr}");
    assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1));
}

/// An interrupted watch has a report to tell; that is how it ends.
#[cfg(unix)]
#[test]
fn a_watch_that_is_interrupted_tells_its_report() {
    use std::{
        io::{BufRead as _, BufReader},
        process::Stdio,
    };
    for signal in ["-INT", "-TERM", "-INT", "-INT"] {
        let mut watch = program()
            .args(["watch", "--to", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut first = String::new();
        let mut said = BufReader::new(watch.stderr.take().expect("stderr"));
        said.read_line(&mut first).expect("a line");
        assert!(first.contains("Ctrl-C ends"), "{first}");
        // Read once the second line is out, by which the signals are listened to.
        said.read_line(&mut first).expect("a line");
        let told = Command::new("kill").args([signal, &watch.id().to_string()]).status().expect("kill");
        assert!(told.success());
        let output = watch.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(0), "{signal}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
        assert_eq!(report["schema"], "rap-conformance-report/1");
    }
}
