//! The SQLite store, by the store contract and by what only files can do.

#![allow(clippy::unwrap_used)]

mod faults;
mod files;
mod golden;
mod lent;
mod segments;
mod twins;

use rap_store_sqlite::SqliteStore;

async fn open() -> (SqliteStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("agent.db")).await.unwrap();
    (store, directory)
}

rap_core::store_contract!(open);
