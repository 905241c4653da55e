//! The store in memory, by the store contract.

use rap_runtime::MemoryStore;

async fn open() -> (MemoryStore, ()) {
    (MemoryStore::new(), ())
}

async fn run_out(store: &MemoryStore, (): &()) {
    store.run_out();
}

rap_core::store_contract!(open, run_out);
