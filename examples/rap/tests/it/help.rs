//! Help and wrong command lines, as people see them.

use crate::support::rap;

#[test]
fn help() {
    let pages: Vec<String> = [
        vec!["--help"],
        vec!["demo", "--help"],
        vec!["run", "--help"],
        vec!["serve", "--help"],
        vec!["sessions", "--help"],
        vec!["show", "--help"],
        vec!["calls", "--help"],
        vec!["refresh", "--help"],
        vec!["model", "--help"],
        vec!["models", "--help"],
    ]
    .iter()
    .map(|args| {
        let ended = rap(args).expect_success();
        assert_eq!(ended.stderr, "");
        format!("$ rap {}\n{}", args.join(" "), ended.stdout)
    })
    .collect();
    insta::assert_snapshot!(pages.join("\n"));
}

/// Exit code 2, nothing on stdout, and what to do on stderr.
#[test]
fn wrong_command_lines() {
    let cases: Vec<String> = [
        vec!["fly"],
        vec!["run"],
        vec!["run", "hello", "--server", "ftp://example.com"],
        vec!["run", "hello", "--server", "http://127.0.0.1:1", "--session", "abc"],
        vec!["run", "hello", "--server", "http://127.0.0.1:1", "--timeout", "soon"],
        vec!["serve", "--db", "x.db", "--listen", "here"],
        vec!["show", "abc"],
    ]
    .iter()
    .map(|args| {
        let ended = rap(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}");
        format!("$ rap {}\n{}", args.join(" "), ended.stderr)
    })
    .collect();
    insta::assert_snapshot!(cases.join("\n"));
}
