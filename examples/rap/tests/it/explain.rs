//! `rap explain` and `rap replay`: why each slice did what it did, and whether it would do so again (P12).

use crate::support::{Server, rap, weather};
use std::path::PathBuf;

/// A conversation of two slices or more, on a database that nobody has open.
struct Past {
    _folder: tempfile::TempDir,
    db: PathBuf,
    session: String,
}

impl Past {
    fn new() -> Self {
        let server = Server::of(weather());
        let folder = tempfile::tempdir().unwrap();
        let db = folder.path().join("agent.db");
        let path = db.to_str().unwrap();
        let call = r#"call get_weather {"city":"Oslo"}"#;
        let ended = rap(&["run", call, "--server", &server.base, "--db", path]).expect_success();
        let session = ended.stderr.split("--session ").nth(1).unwrap().trim().to_owned();
        Self { _folder: folder, db, session }
    }

    fn db(&self) -> &str {
        self.db.to_str().unwrap()
    }

    /// Changes what is kept, as no program of ours would.
    fn alter(&self, sql: &str) {
        let changed = rusqlite::Connection::open(&self.db).unwrap().execute(sql, []).unwrap();
        assert!(changed > 0, "{sql}");
    }
}

/// All slices, in words: what woke each, what the model was told and said, what was decided and sent.
#[test]
fn all_slices_in_words() {
    let past = Past::new();
    let told = rap(&["explain", &past.session, "--db", past.db()]).expect_success().stdout;
    assert!(told.lines().next().unwrap().starts_with("slice 1  "), "{told}");
    for word in ["slice 2  ", "woke for ", "model ", "decided ", "sent ", "get_weather", "Oslo"] {
        assert!(told.contains(word), "{word:?} is not in {told}");
    }
    assert!(!told.contains("replay"), "nothing came out otherwise: {told}");
}

/// One slice, in words and as a record.
#[test]
fn one_slice() {
    let past = Past::new();
    let told = rap(&["explain", &past.session, "2", "--db", past.db()]).expect_success().stdout;
    let slices: Vec<_> = told.lines().filter(|line| line.starts_with("slice ")).collect();
    assert!(slices.len() == 1 && slices[0].starts_with("slice 2  "), "{told}");

    let records =
        rap(&["--json", "explain", &past.session, "2", "--db", past.db()]).expect_success().records();
    let [record] = records.as_slice() else { panic!("one record, not {records:?}") };
    assert_eq!((record["slice"].as_i64(), record["verdict"]["verdict"].as_str()), (Some(2), Some("same")));
    for part in ["woke", "decided"] {
        assert!(record[part].as_array().is_some_and(|lines| !lines.is_empty()), "{part}: {record}");
    }
    assert!(record["record"]["hash"].is_string() && record["commit"].is_object(), "{record}");
    let all = rap(&["--json", "explain", &past.session, "--db", past.db()]).expect_success().records();
    let numbers: Vec<_> = all.iter().map(|record| record["slice"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
    assert!(numbers.len() >= 2);
}

/// What is not there is said to be missing, and what is there instead.
#[test]
fn what_is_not_there() {
    let past = Past::new();
    let explained = rap(&["--json", "explain", &past.session, "--db", past.db()]).expect_success();
    let newest = explained.records().len();
    let ended = rap(&["explain", &past.session, "99", "--db", past.db()]).expect_failure("has no slice 99");
    assert!(ended.stderr.contains(&format!("hint: its newest one is {newest};")), "{}", ended.transcript());
    rap(&["explain", "nobody", "--db", past.db()]).expect_failure("there is no thread nobody");
}

/// A database as it was written replays, in words and as records.
#[test]
fn a_replay() {
    let past = Past::new();
    let told = rap(&["replay", "--db", past.db()]).expect_success().stdout;
    assert!(
        told.contains("slices of 1 thread in ") && told.contains("every commit comes out the same"),
        "{told}"
    );
    let records = rap(&["--json", "replay", "--db", past.db()]).expect_success().records();
    let (sum, slices) = records.split_last().unwrap();
    assert!(slices.iter().all(|slice| slice["verdict"]["verdict"] == "same"), "{slices:?}");
    assert_eq!(sum["same"].as_u64(), Some(slices.len() as u64));
    assert_eq!(
        (sum["threads"].as_u64(), sum["differ"].as_u64(), sum["unknown"].as_u64()),
        (Some(1), Some(0), Some(0))
    );
}

/// A record that was altered: exit code 1, the slice by its name, and what comes out otherwise.
#[test]
fn an_altered_record() {
    let past = Past::new();
    past.alter("UPDATE slices SET body = replace(body, 'Calling', 'Yelling') WHERE version = 1");
    let ended =
        rap(&["replay", "--db", past.db()]).expect_failure("would be decided otherwise, slice 1 of thread");
    assert!(ended.stderr.contains("hint: look at it with rap explain"), "{}", ended.transcript());
    assert!(ended.stdout.contains("slice 1 comes out otherwise: "), "{}", ended.transcript());

    let ended = rap(&["--json", "replay", "--db", past.db()]);
    assert_eq!(ended.code, Some(1));
    let records = ended.records();
    let first = records.iter().find(|record| record["slice"] == 1).unwrap();
    assert_eq!(first["verdict"]["verdict"], "differs", "{first}");
    assert!(first["verdict"]["why"].as_array().is_some_and(|why| !why.is_empty()), "{first}");
    assert!(records.last().unwrap()["differ"].as_u64() >= Some(1), "{records:?}");
    let error: serde_json::Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
    assert!(error.to_string().contains("would be decided otherwise"), "{error}");

    let told = rap(&["explain", &past.session, "1", "--db", past.db()]).expect_success().stdout;
    assert!(told.contains("replay comes out otherwise: "), "{told}");
}

/// A record that is gone is missed by the one after it.
#[test]
fn a_lost_record() {
    let past = Past::new();
    past.alter("DELETE FROM slices WHERE version = 1");
    let ended =
        rap(&["replay", "--db", past.db()]).expect_failure("would be decided otherwise, slice 2 of thread");
    assert!(ended.stdout.contains("its record does not follow the one before"), "{}", ended.transcript());
    rap(&["explain", &past.session, "1", "--db", past.db()]).expect_failure("has no slice 1");
}
