//! Golden files: a database of every format that ever was, each opened by this version (P1 across upgrades).
//!
//! A new format needs a new file, written once, by the version that brings it, and never changed:
//! `GOLDEN=write cargo test -p rap-store-sqlite golden`.

use rap_core::contract::hand::{
    at, call, call_row, child, event, invocation, message, root, seen, session, slice, subscription, thread,
    woken,
};
use rap_core::{Accepted, CallState, Entry, Interaction, Store, StoreError, SubscriptionState, ThreadState};
use rap_store_sqlite::SqliteStore;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The format in a database's header.
fn format(path: &Path) -> u32 {
    let header = fs::read(path).unwrap();
    u32::from_be_bytes(header[60..64].try_into().unwrap())
}

fn tables(path: &Path) -> Vec<String> {
    let conn = rusqlite::Connection::open(path).unwrap();
    let mut statement = conn.prepare("SELECT name || ': ' || coalesce(sql, '') FROM sqlite_master").unwrap();
    let mut tables: Vec<String> =
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    tables.sort();
    tables
}

/// An agent in the midst of everything.
async fn write(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    long(&store).await;
    large(&store).await;
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |snapshot, commit| {
        commit.entries = vec![Entry::from_runtime("first"), Entry::from_runtime("second")];
        commit.calls = vec![
            call_row(&root, "sent", CallState::Pending),
            call_row(&root, "asks", CallState::Pending),
            call_row(&root, "watches", CallState::Done),
        ];
        commit.subscriptions = vec![subscription(&root, "watches", SubscriptionState::Active)];
        commit.outbox = vec![invocation(&root, "sent")];
        commit.threads = vec![child(&snapshot.thread, "kid", 1)];
        commit.update.due_at = Some(at(5_000));
    })
    .await;
    slice(&store, &thread("kid"), 11, |_, commit| commit.entries = vec![Entry::from_runtime("third")]).await;
    store.interact(&root, question(), at(12)).await.unwrap();
    let content = [("n".to_owned(), 1.into())].into_iter().collect();
    let view = Interaction::View { view_type: "plan".into(), content };
    store.interact(&root, view, at(12)).await.unwrap();
    store.accept(event(&root, "nobody's", "lost", false), at(13)).await.unwrap();
    store.accept(event(&root, "watches", "waits", false), at(14)).await.unwrap();
    store.put("address", "http://127.0.0.1:4000").await.unwrap();
}

/// Since format 5: a history of which a part is put together in segments.
async fn long(store: &SqliteStore) {
    let long = thread("long");
    store.create(&session("long")).await.unwrap();
    woken(store, &long, "go", 2, |snapshot, commit| {
        commit.entries = of_long();
        commit.shown = Some(snapshot.history.clone().digest().and(&commit.entries));
    })
    .await;
}

/// Since format 6: what is large lies once.
async fn large(store: &SqliteStore) {
    let large = thread("large");
    store.create(&session("large")).await.unwrap();
    woken(store, &large, "go", 4, |snapshot, commit| {
        commit.entries = vec![of_large(), Entry::from_runtime("small"), of_large()];
        commit.shown = Some(snapshot.history.clone().digest().and(&commit.entries));
    })
    .await;
}

fn of_large() -> Entry {
    Entry::from_runtime("large ".repeat(12_000))
}

fn of_long() -> Vec<Entry> {
    (0..700).map(|n| Entry::from_runtime(format!("entry {n}"))).collect()
}

fn question() -> Interaction {
    Interaction::Choice {
        call: call("asks"),
        prompt: "Deploy?".into(),
        choices: vec!["yes".into(), "no".into()],
        default: 1,
        response_url: rap_core::contract::hand::url("http://one/answers?token=x"),
    }
}

/// What the file promises whoever opens it.
async fn promises(store: &SqliteStore, format: u32) {
    let (root, kid) = (thread("root"), thread("kid"));
    let sessions = store.sessions().await.unwrap();
    let of_root = sessions.iter().find(|session| session.id == root).unwrap();
    assert_eq!((of_root.open_threads, of_root.open_calls), (2, 2));
    assert_eq!(sessions.len(), [1, 2, 3][(format >= 5) as usize + (format >= 6) as usize]);
    if format >= 6 {
        let large = thread("large");
        store.accept(message(&large, "look"), at(5)).await.unwrap();
        let snapshot = seen(store, &large, 5).await;
        let expected = [of_large(), Entry::from_runtime("small"), of_large()];
        assert!(snapshot.history.iter().map(|entry| (**entry).clone()).eq(expected));
        slice(store, &large, 5, |_, _| ()).await;
    }
    if format >= 5 {
        let long = thread("long");
        store.accept(message(&long, "look"), at(3)).await.unwrap();
        let snapshot = seen(store, &long, 3).await;
        assert!(snapshot.history.iter().map(|entry| (**entry).clone()).eq(of_long()));
        let digest = snapshot.history.slice(0..700).digest();
        assert_eq!(snapshot.history.known_digest(), Some(digest));
        slice(store, &long, 3, |_, _| ()).await;
    }
    assert_eq!(store.get("address").await.unwrap().as_deref(), Some("http://127.0.0.1:4000"));
    assert_eq!(store.dead_letters().await.unwrap().len(), 1);
    let open = store.interactions(&root).await.unwrap();
    assert_eq!(open.len(), 2);
    assert!(open.iter().any(|open| open.interaction == question()));
    assert!(store.events(&root, 0, 100).await.unwrap().len() >= 3);
    let told =
        |view: rap_core::HistoryView| view.entries.iter().map(|entry| (**entry).clone()).collect::<Vec<_>>();
    let of_kid = told(store.history(&kid).await.unwrap().unwrap());
    assert_eq!(of_kid, ["first", "you are kid", "third"].map(Entry::from_runtime));
    let kid = &store.threads(&root).await.unwrap()[1];
    assert_eq!(kid.state, ThreadState::Resting);

    let duplicate = store.accept(message(&root, "go"), at(100)).await.unwrap();
    assert_eq!(duplicate, Accepted::Duplicate, "P2 outlives an upgrade");
    let snapshot = seen(store, &root, 100).await;
    assert_eq!((snapshot.history.len(), snapshot.inputs.len()), (2, 1));
    assert_eq!((snapshot.calls.len(), snapshot.subscriptions.len()), (3, 1));
    assert_eq!((snapshot.thread.version, snapshot.open_threads), (1, 2));
    let owed = store.take(at(100), 10).await.unwrap();
    assert_eq!(owed.len(), 1, "P5: what was owed is owed");
    slice(store, &root, 100, |_, commit| commit.entries = vec![Entry::from_runtime("more")]).await;
    assert_eq!(store.history(&root).await.unwrap().unwrap().entries.len(), 3);
}

/// Every golden file opens, keeps its promises, and has the same tables as a new database: a format that was once
/// written is never changed.
#[tokio::test]
async fn databases_of_all_formats_open() {
    let scratch = tempfile::tempdir().unwrap();
    let fresh = scratch.path().join("fresh.db");
    write(&fresh).await;
    let now = format(&fresh);
    let newest = directory().join(format!("format-{now}.db"));
    if std::env::var("GOLDEN").is_ok_and(|wish| wish == "write") {
        assert!(!newest.exists(), "{} is there already; a format never changes", newest.display());
        fs::create_dir_all(directory()).unwrap();
        fs::copy(&fresh, &newest).unwrap();
    }
    assert!(
        newest.exists(),
        "{} is missing: run `GOLDEN=write cargo test -p rap-store-sqlite golden` once and commit it",
        newest.display()
    );
    let expected = tables(&fresh);
    for n in 1..=now {
        let golden = directory().join(format!("format-{n}.db"));
        if !golden.exists() {
            continue; // A format that was never released.
        }
        let path = scratch.path().join(format!("{n}.db"));
        fs::copy(&golden, &path).unwrap();
        assert_eq!(format(&path), n);
        let store = SqliteStore::open(&path).await.unwrap();
        promises(&store, n).await;
        drop(store);
        assert_eq!(format(&path), now, "brought forward");
        assert_eq!(tables(&path), expected, "format {n}");
    }
}

/// A golden file of a format that is yet to come is refused, and stays as it is to the byte.
#[tokio::test]
async fn a_database_of_the_next_format_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("agent.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let next = format(&path) + 1;
    let mut bytes = fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&next.to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    let refused = SqliteStore::open(&path).await;
    assert!(
        matches!(refused, Err(StoreError::Newer { found, .. }) if found == i64::from(next)),
        "{refused:?}"
    );
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
