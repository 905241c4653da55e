//! The store contract: leases that run out, for stores whose leases can ([`store_contract!`](crate::store_contract) with
//! a second argument). Where they last as long as the process, as in SQLite, an opening of the store by the next process
//! is the same, and the store's own tests have to hold it.

use super::hand::{all_used, at, call, call_row, claim, invocation, message, root, woken};
use crate::{CallState, Compaction, Store, StoreError};

/// P4, P6: whoever was too slow has nothing any more: its thread, its request and its summary are another's, and what it
/// still writes is refused. `run_out` lets every lease run out that was given so far.
pub async fn a_lease_that_runs_out(store: &dyn Store, run_out: impl Future<Output = ()>) {
    let root = root(store).await;
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
        commit.outbox = vec![invocation(&root, "c")];
        commit.update.compaction = Compaction::Asked;
    })
    .await;
    store.accept(message(&root, "a"), at(11)).await.unwrap();
    let slow = claim(store, &root, 12).await;
    let snapshot = store.load(&slow).await.unwrap();
    let taken = store.take(at(12), 10).await.unwrap();
    assert_eq!(taken.len(), 1);
    assert!(store.begin(taken[0].id).await.unwrap());
    assert_eq!(store.claim_compaction().await.unwrap().as_ref(), Some(&root));
    assert_eq!(store.claim(at(100)).await.unwrap(), None);
    assert_eq!((store.take(at(100), 10).await.unwrap(), store.next_due().await.unwrap()), (vec![], None));

    run_out.await;

    assert!(store.next_due().await.unwrap().is_some_and(|due| due <= at(12)), "it is due again");
    let quick = claim(store, &root, 12).await;
    assert_ne!(quick, slow, "another fence");
    assert!(matches!(store.renew(&slow).await, Err(StoreError::Fenced)));
    assert!(matches!(store.load(&slow).await, Err(StoreError::Fenced)));
    assert!(matches!(store.commit(&slow, all_used(&snapshot), at(13)).await, Err(StoreError::Fenced)));
    store.release(slow).await.unwrap();
    store.renew(&quick).await.unwrap();
    let again = store.load(&quick).await.unwrap();
    assert_eq!(again.inputs, snapshot.inputs, "nothing was written");
    store.commit(&quick, all_used(&again), at(13)).await.unwrap();
    store.release(quick).await.unwrap();

    let again = store.take(at(100), 10).await.unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].id, again[0].begun), (taken[0].id, true), "it may have been sent");
    assert_eq!(again[0].call, Some(call("c")));
    assert_eq!(store.claim_compaction().await.unwrap(), None, "the slice has asked for none");
}
