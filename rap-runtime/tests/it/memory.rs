//! The store in memory, by the store contract.

use rap_runtime::MemoryStore;

async fn open() -> (MemoryStore, ()) {
    (MemoryStore::new(), ())
}

rap_core::store_contract!(open);
