//! The demo: told once, then broken on purpose in every way that its proof must see; and what it leaves behind.

use crate::support::{command, end_of, is_alive, plain, rap, signal, until};
use rusqlite::{Connection, params};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout},
    time::Duration,
};
use tempfile::TempDir;

/// An entry's place is its thread's number times this, plus its own.
const THREAD: i64 = 1 << 32;

fn steps(records: &[Value]) -> Vec<&str> {
    records.iter().filter_map(|record| record["step"].as_str()).collect()
}

fn pids(records: &[Value]) -> Vec<u32> {
    records.iter().filter_map(|record| record["pid"].as_u64()).map(|pid| pid.try_into().unwrap()).collect()
}

/// The whole story, and every way to break it.
#[test]
fn story() {
    let place = tempfile::tempdir().unwrap();
    let child = command(&["--json", "demo", "--keep"]).env("TMPDIR", place.path()).spawn().unwrap();
    let ended = end_of(child).expect_success();
    let records = ended.records();
    let steps = steps(&records);

    // The order in which it must have happened.
    let mut rest = steps.iter();
    for step in [
        "tools_started",
        "runtime_started",
        "message",
        "call",
        "call",
        "result",
        "detached",
        "idle",
        "killed",
        "tool_done",
        "callback_refused",
        "callback_refused",
        "runtime_started",
        "late_result",
        "call",
        "event",
        "closed",
        "report",
        "at_rest",
        "slices",
        "proof",
        "kept",
    ] {
        assert!(rest.any(|told| *told == step), "{step} is missing or too early in {steps:?}");
    }
    assert_eq!(steps.iter().filter(|step| **step == "report").count(), 2, "{steps:?}");
    let proof = &records.iter().find(|record| record["step"] == "proof").unwrap()["proof"];
    let count = |name: &str| proof[name].as_u64().unwrap();
    assert_eq!((count("calls"), count("late"), count("events"), count("reports")), (3, 1, 2, 2), "{proof}");
    // Each slice was a process, and between slices there was none.
    let slices = records.iter().find(|record| record["step"] == "slices").unwrap();
    assert!(slices["processes"].as_u64().unwrap() >= 10, "{slices}");
    let tables = records.iter().filter(|record| record["step"] == "processes");
    for process in tables.flat_map(|table| table["processes"].as_array().unwrap()) {
        assert_ne!(process["role"], "slice", "{process} runs while nothing is due");
    }
    let took = records.iter().filter_map(|record| record["at_ms"].as_u64()).max().unwrap();
    assert!(Duration::from_millis(took) < Duration::from_secs(20), "{took} ms");

    // Nothing is left but the folder that was to be kept.
    assert_eq!(pids(&records).len(), 4, "three processes, one of them killed: {steps:?}");
    assert!(pids(&records).into_iter().all(|pid| !is_alive(pid)), "a process was left behind");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept = PathBuf::from(records.last().unwrap()["folder"].as_str().unwrap());
    assert_eq!(left, std::slice::from_ref(&kept));

    assert!(
        rap(&["proof", kept.to_str().unwrap()])
            .expect_success()
            .stdout
            .contains("nothing lost, nothing twice")
    );
    for (name, words, sabotage) in SABOTAGES {
        let copy = copy(&kept);
        sabotage(copy.path());
        let ended = rap(&["proof", copy.path().to_str().unwrap()]);
        let told = plain(&format!("{}{}", ended.stdout, ended.stderr), &[]);
        assert_eq!(ended.code, Some(1), "{name} was not noticed: {told}");
        assert!(told.contains(words), "{name}: no {words:?} in\n{told}");
        assert!(!told.contains("nothing lost, nothing twice"), "{name}: {told}");
    }
}

type Sabotage = fn(&Path);

/// What is done to a copy of the folder, and the words that must name it.
const SABOTAGES: &[(&str, &str, Sabotage)] = &[
    (
        "a late result dropped",
        "build_project (ID) was answered, but its outcome is not in history",
        |folder| {
            remove_entry(folder, "event", "128 tests passed");
        },
    ),
    (
        "a result altered",
        "get_weather (ID) answered \"Oslo: light rain, 7 degrees\", but history says",
        |folder| {
            alter_entry(folder, "results", "7 degrees", "8 degrees");
        },
    ),
    ("a late result doubled", "build_project (ID) has its outcome twice in history", |folder| {
        repeat_entry(folder, "event", "128 tests passed");
    }),
    ("a row of history deleted", "is damaged", |folder| {
        let db = open(folder);
        let at = find(&db, "turn", "watch_deployment");
        assert_eq!(db.execute("DELETE FROM entries WHERE at = ?1", [at]).unwrap(), 1);
    }),
    (
        "a turn removed without a trace",
        "watch_deployment (ID) was worked on, but no turn in history made this call",
        |folder| {
            remove_entry(folder, "turn", "watch_deployment");
        },
    ),
    (
        "a callback's event doubled",
        "runs the new version\" of watch_deployment (ID) was handled twice",
        double_event,
    ),
    ("an event lost", "of watch_deployment (ID) was sent, but no thread handled it", |folder| {
        alter_entry(folder, "event", "\"shop-api: all 3", "\"shop-api: no");
    }),
    ("a report lost", "never reached thread ID", |folder| {
        remove_entry(folder, "event", "Report of thread");
    }),
    ("a report doubled", "reached thread ID 2 times", |folder| {
        repeat_entry(folder, "event", "Report of thread");
    }),
    ("a call left open", "is still open", |folder| {
        open(folder).execute("UPDATE calls SET state = 'detached' WHERE name = 'build_project'", []).unwrap();
    }),
    ("a dead letter", "outcome:x became a dead letter: nobody wanted it", |folder| {
        let sql = "INSERT INTO dead_letters (at, thread, what, reason, body)
            VALUES (0, 'x', 'outcome:x', 'nobody wanted it', '{}')";
        open(folder).execute(sql, []).unwrap();
    }),
    ("work begun twice", "build_project (ID) was started 2 times, by its ledger", |folder| {
        ledger(folder, |lines| repeat_line(lines, "build_project"));
    }),
    ("an answer given twice", "watch_deployment (ID) was ended 2 times, by its ledger", |folder| {
        ledger(folder, |lines| repeat_line(lines, "watching the deployment"));
    }),
    ("an event sent twice", "was sent, but no thread handled it", |folder| {
        ledger(folder, |lines| repeat_line(lines, "all 3 instances"));
    }),
    ("work that nobody did", "get_weather (ID) is in history, but the tool never worked on it", |folder| {
        let call = |lines: &Vec<String>| {
            let line = lines.iter().find(|line| line.contains("get_weather")).unwrap();
            serde_json::from_str::<Value>(line).unwrap()["call"].as_str().unwrap().to_owned()
        };
        ledger(folder, |lines| {
            let call = call(lines);
            lines.retain(|line| !line.contains(&call));
        });
    }),
    ("an empty ledger", "the ledger is empty", |folder| ledger(folder, Vec::clear)),
];

fn copy(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

fn open(folder: &Path) -> Connection {
    Connection::open(folder.join("agent.db")).unwrap()
}

/// The place of the first entry of a kind with these words that its thread wrote itself.
fn find(db: &Connection, kind: &str, words: &str) -> i64 {
    let sql = "SELECT at FROM entries
        WHERE json_extract(body, '$.entry') = ?1 AND instr(body, ?2) > 0 ORDER BY at LIMIT 1";
    db.query_row(sql, params![kind, words], |row| row.get(0)).expect(words)
}

fn remove_entry(folder: &Path, kind: &str, words: &str) {
    let db = open(folder);
    let at = find(&db, kind, words);
    db.execute("DELETE FROM entries WHERE at = ?1", [at]).unwrap();
    shift(&db, at, -1);
}

fn repeat_entry(folder: &Path, kind: &str, words: &str) {
    let db = open(folder);
    let at = find(&db, kind, words);
    shift(&db, at, 1);
    db.execute("INSERT INTO entries (at, body) SELECT ?1 + 1, body FROM entries WHERE at = ?1", [at])
        .unwrap();
}

/// Moves what comes after an entry in its thread, so that the history has neither gap nor clash.
fn shift(db: &Connection, after: i64, by: i64) {
    let end = (after / THREAD + 1) * THREAD;
    // Through negative places: no two entries may share one on the way.
    db.execute("UPDATE entries SET at = -(at + ?3) WHERE at > ?1 AND at < ?2", params![after, end, by])
        .unwrap();
    db.execute("UPDATE entries SET at = -at WHERE at < 0", []).unwrap();
    let sql = "UPDATE threads SET next_entry = next_entry + ?2 WHERE n = ?1";
    db.execute(sql, params![after / THREAD, by]).unwrap();
}

fn alter_entry(folder: &Path, kind: &str, from: &str, to: &str) {
    let db = open(folder);
    let at = find(&db, kind, from);
    db.execute(
        "UPDATE entries SET body = replace(body, ?2, ?3), crc = NULL WHERE at = ?1",
        params![at, from, to],
    )
    .unwrap();
}

/// What a doubled callback would do: another thread for the same event.
fn double_event(folder: &Path) {
    let db = open(folder);
    let at = find(&db, "event", "\"shop-api: the first of 3 instances");
    let thread = at / THREAD;
    let next: i64 = db.query_row("SELECT max(n) + 1 FROM threads", [], |row| row.get(0)).unwrap();
    let columns = "session, parent, version, next_entry, paused, closed, model_owed, turn_at, reported, \
        last_record, inbox, due_at, woken_at";
    let sql = format!(
        "INSERT INTO threads (n, id, {columns}) SELECT ?2, 'aaaaaaaaaaaaaaaaaaaa', {columns} FROM threads WHERE n = ?1"
    );
    db.execute(&sql, [thread, next]).unwrap();
    let columns = "ancestors, chain, kind, event, created_at";
    let sql = format!(
        "INSERT INTO lineages (thread, {columns}) SELECT ?2, {columns} FROM lineages WHERE thread = ?1"
    );
    db.execute(&sql, [thread, next]).unwrap();
    let sql =
        "INSERT INTO entries (at, body) SELECT at + (?2 - ?1) * ?3, body FROM entries WHERE at / ?3 = ?1";
    db.execute(sql, [thread, next, THREAD]).unwrap();
}

fn ledger(folder: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let path = folder.join("ledger.jsonl");
    let mut lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
    change(&mut lines);
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).unwrap();
}

fn repeat_line(lines: &mut Vec<String>, words: &str) {
    let line = lines.iter().find(|line| line.contains(words)).unwrap().clone();
    lines.push(line);
}

/// Starts the demo and reads on until the runtime has been killed; says which processes there were.
fn started(place: &Path) -> (Child, Vec<u32>) {
    let mut child = command(&["--json", "demo"]).env("TMPDIR", place).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let pids = until_killed(child.id(), stdout);
    (child, pids)
}

fn until_killed(demo: u32, stdout: ChildStdout) -> Vec<u32> {
    let mut pids = vec![demo];
    let mut lines = BufReader::new(stdout).lines();
    loop {
        let line = lines.next().expect("the demo goes on until the kill").unwrap();
        let record: Value = serde_json::from_str(&line).unwrap();
        pids.extend(record["pid"].as_u64().map(|pid| u32::try_from(pid).unwrap()));
        if record["step"] == "killed" {
            std::thread::spawn(move || lines.for_each(drop));
            return pids;
        }
    }
}

/// Ctrl-C in the middle: nothing stays, no process and no file.
#[test]
fn interrupted() {
    let place = tempfile::tempdir().unwrap();
    let (child, pids) = started(place.path());
    signal(child.id(), "INT");
    let ended = end_of(child);
    assert_eq!(ended.code, Some(130), "{}", ended.transcript());
    assert!(ended.stderr.contains("interrupted"), "{}", ended.transcript());
    assert!(pids.into_iter().all(|pid| !is_alive(pid)), "a process was left behind");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "a file was left behind");
}

/// The demo itself is killed: its processes see the end of their stdin and go.
#[test]
fn killed() {
    let place = tempfile::tempdir().unwrap();
    let (child, pids) = started(place.path());
    signal(child.id(), "KILL");
    assert_eq!(end_of(child).code, None);
    until("the children end with their parent", || pids.iter().all(|pid| !is_alive(*pid)));
}
