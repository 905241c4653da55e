//! Histories of which the old part lies in segments, as far as the store contract cannot see it.

use rap_core::contract::hand::{at, call_row, claim, message, root, slice, woken};
use rap_core::{CallState, Entry, Outcome, Store, StoreError, Surface, SurfaceEvent};
use rap_store_sqlite::SqliteStore;
use rap_types::ContentPart;

fn entries(upto: usize) -> Vec<Entry> {
    (0..upto).map(|n| Entry::from_runtime(format!("entry {n}"))).collect()
}

/// What was put together is checked where it is read, though nobody parses it there (ERR-02).
#[tokio::test]
async fn damage_in_a_segment_stops_its_thread() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("agent.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| commit.entries = entries(1_000)).await;
    drop(store);
    for (sql, told) in [
        ("UPDATE segments SET body = replace(body, 'entry 300', 'entry 3oo')", "entry 256 of thread root"),
        ("DELETE FROM segments WHERE at = (SELECT min(at) FROM segments)", "entry 0 of thread root"),
    ] {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        store.accept(message(&root, told), at(20)).await.unwrap();
        let claim = claim(&store, &root, 20).await;
        let damaged = store.load(&claim).await.unwrap_err();
        assert!(matches!(&damaged, StoreError::Damaged { what, .. } if what == told), "{damaged:?}");
    }
}

/// P8: what a load reads anew does not grow with what was read before, in memory or on the disk: an entry lies in one
/// place, and a long history is few rows.
#[tokio::test]
async fn a_long_history_is_few_rows() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("agent.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let root = root(&store).await;
    woken(&store, &root, "go", 10, |_, commit| commit.entries = entries(10_000)).await;
    for n in 0..300 {
        woken(&store, &root, &format!("{n}"), 11 + n, |_, commit| commit.entries = entries(2)).await;
    }
    // An entry too large for company.
    let large = Entry::from_runtime("x".repeat(3 << 20));
    woken(&store, &root, "large", 400, |_, commit| commit.entries = vec![large.clone()]).await;
    woken(&store, &root, "more", 401, |_, commit| commit.entries = entries(1_000)).await;
    let conn = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let (rows, segments) = (count("SELECT count(*) FROM entries"), count("SELECT count(*) FROM segments"));
    assert!(rows < 512 && segments < 55, "{rows} rows and {segments} segments");
    assert_eq!(rows + count("SELECT sum(count) FROM segments"), 11_601);
    let view = store.history(&root).await.unwrap().unwrap();
    assert!(view.entries.len() == 11_601 && *view.entries[10_600] == large);
    drop((conn, store));
    let store = SqliteStore::open(&path).await.unwrap();
    store.accept(message(&root, "look"), at(500)).await.unwrap();
    let claim = claim(&store, &root, 500).await;
    let mut snapshot = store.load(&claim).await.unwrap();
    assert!(snapshot.history.iter().eq(view.entries.iter()));
    assert_eq!(snapshot.history.known_digest(), None, "nobody told it");
    snapshot.history.digest();
    store.release(claim).await.unwrap();
    slice(&store, &root, 500, |_, commit| commit.shown = snapshot.history.known_digest()).await;
}

/// What is large lies on the disk once, however often it is said: as an outcome, before people, in the history and its
/// segments. Damage to it stops the threads that see it (ERR-02).
#[tokio::test]
async fn what_is_large_lies_once() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("agent.db");
    let store = SqliteStore::open(&path).await.unwrap();
    let root = root(&store).await;
    let image = ContentPart::image(vec![7; 3 << 20], "image/png");
    let outcome = Outcome { content: vec![image.clone()], ..Outcome::text("") };
    let text = "x".repeat(1 << 20);
    woken(&store, &root, "go", 10, |_, commit| {
        let mut row = call_row(&root, "shot", CallState::Done);
        row.outcome = Some(outcome);
        commit.calls = vec![row];
        commit.entries = (0..3).map(|_| Entry::from_runtime(text.as_str())).collect();
        commit.surface =
            vec![SurfaceEvent { thread: root.clone(), what: Surface::Message { text: text.clone() } }];
    })
    .await;
    woken(&store, &root, "more", 11, |_, commit| commit.entries = entries(1_000)).await;
    drop(store);
    let bytes = std::fs::metadata(&path).unwrap().len();
    assert!(bytes < 11 << 19, "{bytes} bytes for 4 MiB of base64 and 1 MiB of text");
    for (sql, told) in [
        ("UPDATE bodies SET body = replace(body, 'xx', 'xy')", "entry 0 of thread root"),
        ("DELETE FROM bodies", "entry 0 of thread root"),
    ] {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        store.accept(message(&root, sql), at(20)).await.unwrap();
        let claim = claim(&store, &root, 20).await;
        let damaged = store.load(&claim).await.unwrap_err();
        assert!(matches!(&damaged, StoreError::Damaged { what, .. } if what == told), "{damaged:?}");
    }
}
