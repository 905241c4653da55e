//! What only files can do: a kill, another process, another version, damage.

use rap_core::contract::hand::{
    all_used, at, call, call_row, claim, event, invocation, message, root, seen, slice, subscription, thread,
    woken,
};
use rap_core::{
    Accepted, CallState, DeliveryKind, Entry, NewDelivery, Settlement, Store, StoreError, SubscriptionState,
};
use rap_store_sqlite::{SqliteReader, SqliteStore};
use std::{
    collections::BTreeMap,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    time::SystemTime,
};

pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.0.path().join("agent.db")
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        SqliteStore::open(self.db()).await.unwrap()
    }

    /// What a kill at this instant would leave behind.
    pub(crate) fn killed(&self) -> Self {
        let other = Self::new();
        for file in fs::read_dir(self.0.path()).unwrap() {
            let file = file.unwrap();
            // The index of the log is memory that is lost; SQLite makes it anew.
            if !file.file_name().to_string_lossy().ends_with("-shm") {
                fs::copy(file.path(), other.0.path().join(file.file_name())).unwrap();
            }
        }
        other
    }

    /// All files here: length, time of the last change, and a hash of the content.
    fn files(&self) -> BTreeMap<String, (usize, SystemTime, u64)> {
        let files = fs::read_dir(self.0.path()).unwrap().map(|file| file.unwrap());
        let print = |path: PathBuf| {
            let content = fs::read(&path).unwrap();
            let mut hash = DefaultHasher::new();
            content.hash(&mut hash);
            (content.len(), fs::metadata(path).unwrap().modified().unwrap(), hash.finish())
        };
        files.map(|file| (file.file_name().into_string().unwrap(), print(file.path()))).collect()
    }

    /// Changes the database behind the store's back.
    pub(crate) fn tamper(&self, sql: &str) {
        let conn = rusqlite::Connection::open(self.db()).unwrap();
        conn.execute_batch(sql).unwrap();
    }

    async fn refused(&self) -> StoreError {
        SqliteStore::open(self.db()).await.expect_err("the database is refused")
    }
}

/// P1, P5, P6: killed at any instant, everything that was answered is there, and everything owed is owed.
#[tokio::test]
async fn a_kill_loses_nothing() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.entries = vec![Entry::from_runtime("hello")];
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.subscriptions = vec![subscription(&root, "s", SubscriptionState::Active)];
        commit.outbox = vec![invocation(&root, "c")];
        commit.update.due_at = Some(at(500));
    })
    .await;
    // One is sent, one slice runs, one message waits, when it happens.
    let sent = store.take(at(20), 10).await.unwrap();
    assert_eq!(store.accept(message(&root, "wait"), at(21)).await.unwrap(), Accepted::Accepted);
    let held = claim(&store, &root, 21).await;
    store.put("address", "http://127.0.0.1:4000").await.unwrap();

    let after = place.killed();
    let store_after = after.open().await;
    let again = store_after.take(at(22), 10).await.unwrap();
    assert_eq!(again.len(), 1, "sent again …");
    assert_eq!((again[0].id, &again[0].body), (sent[0].id, &sent[0].body), "… with the same id");
    let snapshot = seen(&store_after, &root, 22).await;
    assert_eq!((snapshot.inputs.len(), snapshot.history.len()), (1, 1));
    assert_eq!((snapshot.calls.len(), snapshot.subscriptions.len()), (1, 1));
    assert_eq!(snapshot.thread.version, 1);
    let duplicate = store_after.accept(message(&root, "go"), at(23)).await.unwrap();
    assert_eq!(duplicate, Accepted::Duplicate, "P2 outlives the kill");
    assert_eq!(store_after.get("address").await.unwrap().as_deref(), Some("http://127.0.0.1:4000"));
    let forged = store_after.commit(&held, all_used(&snapshot), at(24)).await;
    assert!(matches!(forged, Err(StoreError::Fenced)), "a claim does not outlive its owner");
}

/// An end without a goodbye from its callers is clean too: what was settled is settled, no log stays behind.
#[tokio::test]
async fn dropping_the_store_writes_what_is_in_hand() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| commit.outbox = vec![invocation(&root, "c")]).await;
    let taken = store.take(at(20), 10).await.unwrap();
    store.settle(taken[0].id, Settlement::Delivered, at(21)).await.unwrap();
    drop(store);
    let names: Vec<String> = place.files().into_keys().collect();
    assert_eq!(names, ["agent.db", "agent.db.lock"]);
    let store = place.open().await;
    assert_eq!(store.take(at(1_000), 10).await.unwrap(), []);
}

/// CAN-01: after a restart nobody knows whether an invocation was sent, so its servers are told.
#[tokio::test]
async fn an_invocation_of_an_earlier_process_may_have_been_sent() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.outbox = vec![invocation(&root, "c")];
    })
    .await;
    drop(store);
    let store = place.open().await;
    woken(&store, &root, "stop", 20, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Cancelled)];
        commit.cancel = vec![call("c")];
    })
    .await;
    let invocation = store.take(at(21), 10).await.unwrap();
    assert_eq!(invocation.len(), 1);
    store.settle(invocation[0].id, Settlement::Delivered, at(22)).await.unwrap();
    let notices = store.take(at(23), 10).await.unwrap();
    assert!(notices.len() == 2 && notices.iter().all(|n| n.kind == DeliveryKind::CancelToolCall));
}

/// One process owns a database; it says which, and gives it free when it ends.
#[tokio::test]
async fn another_owner_is_refused() {
    let place = Place::new();
    let store = place.open().await;
    match place.refused().await {
        StoreError::Owned { owner, path } => {
            assert_eq!(owner, format!("process {}", std::process::id()));
            assert!(path.ends_with("agent.db"));
        }
        other => panic!("{other}"),
    }
    drop(store);
    place.open().await;
}

/// P4, across processes: whoever lost the database to another commits nothing, by whatever accident it lost
/// it (here its lock file was removed).
#[tokio::test]
async fn an_owner_that_was_replaced_writes_nothing() {
    let place = Place::new();
    let first = place.open().await;
    let root = root(&first).await;
    first.accept(message(&root, "a"), at(10)).await.unwrap();
    let held = claim(&first, &root, 10).await;
    let snapshot = first.load(&held).await.unwrap();
    fs::remove_file(place.0.path().join("agent.db.lock")).unwrap();
    let second = place.open().await;
    assert!(matches!(first.commit(&held, all_used(&snapshot), at(11)).await, Err(StoreError::Fenced)));
    let refused = first.accept(message(&root, "b"), at(11)).await;
    assert!(matches!(refused, Err(StoreError::Owned { .. })), "{refused:?}");
    let other = slice(&second, &root, 12, |snapshot, _| assert_eq!(snapshot.inputs.len(), 1)).await;
    assert_eq!(other.version, 1);
}

/// A newer version's database is refused, and nothing is touched or made, whether by owner or reader.
#[tokio::test]
async fn a_newer_database_is_left_alone() {
    let place = Place::new();
    drop(place.open().await);
    place.tamper("PRAGMA user_version = 999");
    let before = place.files();
    match place.refused().await {
        StoreError::Newer { found, known, path } => {
            assert!(found == 999 && known < 999 && path.ends_with("agent.db"));
        }
        other => panic!("{other}"),
    }
    let reader = SqliteReader::open(place.db()).await;
    assert!(matches!(reader, Err(StoreError::Newer { found: 999, .. })));
    assert_eq!(place.files(), before);
}

/// Trap: a damaged state file read as an empty one and then overwritten. Refused with a sentence, untouched.
#[tokio::test]
async fn a_damaged_database_is_left_alone() {
    for (content, sentence) in [
        (b"short".to_vec(), "too short"),
        (vec![b'x'; 8_192], "not an SQLite database"),
        (Vec::from(*b"SQLite format 3\0"), "too short"),
    ] {
        let place = Place::new();
        fs::write(place.db(), &content).unwrap();
        let before = place.files();
        let error = place.refused().await;
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(sentence), "{error}");
        assert_eq!(place.files(), before);
    }
    // Its end is cut off.
    let place = Place::new();
    drop(place.open().await);
    let whole = fs::read(place.db()).unwrap();
    fs::write(place.db(), &whole[..whole.len() / 2]).unwrap();
    let before = place.files();
    let error = place.refused().await;
    assert!(error.to_string().contains("its end is missing"), "{error}");
    assert_eq!(place.files(), before);
}

/// Damage inside is found where it is read: the thread does not run, the others do, nothing is changed.
#[tokio::test]
async fn damage_inside_stops_its_thread_alone() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.entries = vec![Entry::from_runtime("one"), Entry::from_runtime("two")];
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
    })
    .await;
    store.accept(message(&root, "more"), at(20)).await.unwrap();
    drop(store);
    for (sql, what) in [
        ("UPDATE entries SET body = '{\"entry\":' WHERE at % 2 = 1", "entry 1 of thread root"),
        ("DELETE FROM entries WHERE at % 2 = 0", "entry 0 of thread root"),
        ("UPDATE inputs SET body = 'x'", "input message:more of thread root"),
        ("UPDATE lineages SET chain = '[{}]'", "thread root"),
        ("UPDATE settings SET rules = '7'", "session root"),
        ("UPDATE calls SET arguments = '{'", "call c"),
    ] {
        let broken = place.killed();
        broken.tamper(sql);
        let store = broken.open().await;
        store.create(&rap_core::contract::hand::session("other")).await.unwrap();
        let held = claim(&store, &root, 20).await;
        match store.load(&held).await {
            Err(StoreError::Damaged { what: named, .. }) => assert_eq!(named, what),
            other => panic!("{sql}: {other:?}"),
        }
        let other = thread("other");
        woken(&store, &other, "go", 21, |_, commit| {
            commit.calls = vec![call_row(&other, "d", CallState::Pending)];
        })
        .await;
        let listed = store.calls(true).await.unwrap().into_iter().map(|view| view.row.id);
        assert_eq!(listed.last(), Some(call("d")), "{sql}: one call hides no other");
    }
}

/// Another program's database is not ours to change.
#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let place = Place::new();
    place.tamper("CREATE TABLE bookmarks (url TEXT)");
    let before = place.files();
    let error = place.refused().await.to_string();
    assert!(error.contains("another program"), "{error}");
    assert_eq!(place.files(), before);
}

/// Where the file cannot be, the error says what to do.
#[tokio::test]
async fn a_place_that_cannot_be() {
    let place = Place::new();
    let missing = place.0.path().join("no/such/agent.db");
    let error = SqliteStore::open(&missing).await.expect_err("no directory").to_string();
    assert!(error.contains("does not exist") && error.contains("no/such"), "{error}");
    let error = SqliteStore::open(place.0.path()).await.expect_err("a directory").to_string();
    assert!(error.contains("is a directory"), "{error}");
    assert!(place.files().is_empty());
    let error = SqliteReader::open(place.db()).await.expect_err("no file").to_string();
    assert!(error.contains("there is no database"), "{error}");
    assert!(place.files().is_empty());
}

/// What an agent knows is for its owner's eyes.
#[cfg(unix)]
#[tokio::test]
async fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let store = place.open().await;
    root(&store).await;
    for name in ["agent.db", "agent.db-wal"] {
        let mode = fs::metadata(place.0.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

async fn looks_the_same(store: &SqliteStore, reader: &SqliteReader) {
    let root = thread("root");
    assert_eq!(reader.sessions().await.unwrap(), store.sessions().await.unwrap());
    assert_eq!(reader.threads(&root).await.unwrap(), store.threads(&root).await.unwrap());
    assert_eq!(reader.history(&root).await.unwrap(), store.history(&root).await.unwrap());
    assert_eq!(reader.calls(false).await.unwrap(), store.calls(false).await.unwrap());
    assert_eq!(reader.events(&root, 0, 100).await.unwrap(), store.events(&root, 0, 100).await.unwrap());
    assert_eq!(reader.dead_letters().await.unwrap(), store.dead_letters().await.unwrap());
    assert_eq!(reader.session(&root).await.unwrap(), store.session(&root).await.unwrap());
    assert_eq!(reader.get("a").await.unwrap(), store.get("a").await.unwrap());
}

/// Others may look, while the database is owned and while it is not, and leave no trace.
#[tokio::test]
async fn others_may_look() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.entries = vec![Entry::from_runtime("hello")];
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.outbox = vec![invocation(&root, "c")];
    })
    .await;
    store.put("a", "b").await.unwrap();
    let reader = SqliteReader::open(place.db()).await.unwrap();
    looks_the_same(&store, &reader).await;
    store.accept(message(&root, "more"), at(20)).await.unwrap();
    looks_the_same(&store, &reader).await;
    drop(store);

    let before = place.files();
    assert_eq!(reader.sessions().await.unwrap().len(), 1);
    assert_eq!(reader.calls(true).await.unwrap().len(), 1);
    assert_eq!(place.files(), before, "without an owner nothing is made or changed");

    let store = place.open().await;
    looks_the_same(&store, &reader).await;
    slice(&store, &root, 30, |_, commit| commit.entries = vec![Entry::from_runtime("again")]).await;
    looks_the_same(&store, &reader).await;
}

/// What a killed owner left can be looked at before anybody owns it again, and is not touched by that.
#[tokio::test]
async fn others_may_look_after_a_kill() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| commit.entries = vec![Entry::from_runtime("hello")]).await;
    let after = place.killed();
    let before = after.files();
    let reader = SqliteReader::open(after.db()).await.unwrap();
    assert_eq!(reader.history(&root).await.unwrap().unwrap().entries.len(), 1);
    drop(reader);
    for (name, content) in before {
        assert_eq!(after.files().get(&name), Some(&content), "{name}");
    }
}

/// P10: an attempt that a kill left no word of counts as made, so that its call is presumed lost, never refused,
/// and an outcome that comes all the same is shown.
#[tokio::test]
async fn an_attempt_before_a_kill_counts() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.outbox = vec![invocation(&root, "c")];
    })
    .await;
    assert!(!store.take(at(20), 10).await.unwrap()[0].begun, "nobody tried before");
    let killed = place.killed();
    let taken = killed.open().await.take(at(30), 10).await.unwrap();
    assert!(taken[0].begun);
}

/// TRN-03: the two minutes of an invocation do not pass while nobody is there to send it.
#[tokio::test]
async fn the_window_does_not_span_a_downtime() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.outbox = vec![invocation(&root, "c")];
    })
    .await;
    let taken = store.take(at(20), 10).await.unwrap();
    assert!(store.begin(taken[0].id).await.unwrap());
    store.settle(taken[0].id, Settlement::RetryAt(at(500)), at(21)).await.unwrap();
    drop(store);
    let store = place.open().await;
    let hours_later = 9_000_000;
    let taken = store.take(at(hours_later), 10).await.unwrap();
    assert_eq!((taken[0].first_attempt, taken[0].begun, taken[0].attempts), (None, true, 1));
    store.settle(taken[0].id, Settlement::RetryAt(at(hours_later + 500)), at(hours_later)).await.unwrap();
    let taken = store.take(at(hours_later + 500), 10).await.unwrap();
    assert_eq!(taken[0].first_attempt, Some(at(hours_later)), "from here on it counts");
    assert!(taken[0].begun, "what was tried before stays tried");
}

/// P6: what an owner had put off to a later time the next one does at once; answers to questions keep their schedule.
#[tokio::test]
async fn what_was_put_off_is_owed_at_the_next_start() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        let answer = NewDelivery { kind: DeliveryKind::ChoiceAnswer, ..invocation(&root, "d") };
        commit.calls =
            vec![call_row(&root, "c", CallState::Pending), call_row(&root, "d", CallState::Pending)];
        commit.outbox = vec![invocation(&root, "c"), answer];
    })
    .await;
    for taken in store.take(at(20), 10).await.unwrap() {
        assert!(store.begin(taken.id).await.unwrap());
        store.settle(taken.id, Settlement::RetryAt(at(60_000)), at(21)).await.unwrap();
    }
    assert_eq!(store.next_due().await.unwrap(), Some(at(60_000)));
    drop(store);
    let store = place.open().await;
    let taken = store.take(at(22), 10).await.unwrap();
    assert_eq!((taken.len(), taken[0].call.clone(), taken[0].attempts), (1, Some(call("c")), 1));
    assert_eq!(store.next_due().await.unwrap(), Some(at(60_000)));
}

/// Trap: a kill at the very first start leaves a file that no later start accepts. Wherever the making of a database
/// is cut off, the next start finishes it.
#[tokio::test]
async fn a_kill_while_the_database_is_made() {
    let ours = "PRAGMA application_id = 0x52415031;";
    for (cut, sql) in [
        ("the file is there, and empty", None),
        ("it is known for ours", Some(ours.to_owned())),
        ("it has a log", Some(format!("{ours} PRAGMA journal_mode = WAL;"))),
        (
            "the first table was being made",
            Some(format!("{ours} PRAGMA journal_mode = WAL; BEGIN; CREATE TABLE meta (x);")),
        ),
    ] {
        let place = Place::new();
        fs::write(place.db(), "").unwrap();
        let after = match sql {
            None => place.killed(),
            Some(sql) => {
                let conn = rusqlite::Connection::open(place.db()).unwrap();
                conn.execute_batch(&sql).unwrap();
                place.killed()
            }
        };
        let store = after.open().await;
        let root = root(&store).await;
        assert_eq!(store.accept(message(&root, "go"), at(10)).await.unwrap(), Accepted::Accepted, "{cut}");
        drop(store);
        assert_eq!(seen(&after.open().await, &root, 10).await.inputs.len(), 1, "{cut}");
    }
}

const DAY: i64 = 24 * 60 * 60 * 1_000;

/// P2: events are known again for 30 days, and those that nobody has used yet for as long as they wait.
#[tokio::test]
async fn events_are_remembered_for_thirty_days() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "s", CallState::Done), call_row(&root, "t", CallState::Done)];
        let active = |id| subscription(&root, id, SubscriptionState::Active);
        commit.subscriptions = vec![active("s"), active("t")];
    })
    .await;
    for (of, name, day) in [("s", "old", 1), ("t", "old", 1), ("s", "recent", 2)] {
        assert_eq!(
            store.accept(event(&root, of, name, false), at(day * DAY)).await.unwrap(),
            Accepted::Accepted
        );
    }
    slice(&store, &root, 2 * DAY, |_, _| {}).await;
    store.accept(event(&root, "s", "waiting", false), at(DAY)).await.unwrap();
    drop(store);

    let store = place.open().await;
    let now = at(31 * DAY + 1);
    store.accept(event(&root, "s", "new", false), now).await.unwrap();
    for (of, name, expected) in [
        ("s", "new", Accepted::Duplicate),
        ("s", "waiting", Accepted::Duplicate),
        ("s", "recent", Accepted::Duplicate),
        ("t", "old", Accepted::Duplicate),
        ("s", "old", Accepted::Accepted),
    ] {
        let told = store.accept(event(&root, of, name, false), now).await.unwrap();
        assert_eq!(told, expected, "{name} of {of}");
    }
    assert_eq!(store.accept(message(&root, "go"), now).await.unwrap(), Accepted::Duplicate, "for ever");
}

/// P2: of a subscription with many events the newest 100,000 are known again.
#[tokio::test]
async fn a_hundred_thousand_events_are_remembered() {
    let place = Place::new();
    let store = place.open().await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "s", CallState::Done)];
        commit.subscriptions = vec![subscription(&root, "s", SubscriptionState::Active)];
    })
    .await;
    drop(store);
    place.tamper(
        "INSERT INTO inputs (thread, id, accepted_at, source, body)
        WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 100009)
        SELECT (SELECT n FROM threads WHERE id = 'root'), 'event:s:' || n, 10, 'test', '{}' FROM n",
    );
    let store = place.open().await;
    store.accept(event(&root, "s", "new", false), at(20)).await.unwrap();
    for (name, expected) in
        [("11", Accepted::Duplicate), ("10", Accepted::Accepted), ("100009", Accepted::Duplicate)]
    {
        assert_eq!(store.accept(event(&root, "s", name, false), at(20)).await.unwrap(), expected, "{name}");
    }
}
