//! The store contract: many at once. A claim is one worker's, an input one effect, a request one sender's.

use super::hand::{
    Job, all, all_used, at, call, call_row, claim, invocation, message, root, seen, session, woken,
};
use crate::{Accepted, CallState, Claim, Settlement, Store, StoreError};
use std::collections::BTreeSet;

/// P4: of many that ask at once, each due thread goes to one.
pub async fn claims_at_once_are_distinct(store: &dyn Store) {
    for n in 0..8 {
        let session = session(&format!("root{n}"));
        store.create(&session).await.unwrap();
        store.accept(message(&session.id, "go"), at(10)).await.unwrap();
    }
    let asks: Vec<Job<'_, _>> = (0..32).map(|_| store.claim(at(20))).collect();
    let claims: Vec<Claim> = all(asks).await.into_iter().filter_map(Result::unwrap).collect();
    let threads: BTreeSet<_> = claims.iter().map(|claim| claim.thread.clone()).collect();
    assert_eq!((claims.len(), threads.len()), (8, 8), "{claims:?}");
    let loads: Vec<Job<'_, _>> = claims.iter().map(|claim| store.load(claim)).collect();
    for (snapshot, claim) in all(loads).await.into_iter().zip(&claims) {
        assert_eq!(snapshot.unwrap().thread.id, claim.thread);
    }
    for claim in claims {
        store.renew(&claim).await.unwrap();
        store.release(claim).await.unwrap();
    }
}

/// P4: of two commits of one slice that race, one is written.
pub async fn of_two_commits_one_is_written(store: &dyn Store) {
    let root = root(store).await;
    store.accept(message(&root, "go"), at(10)).await.unwrap();
    let held = claim(store, &root, 10).await;
    let snapshot = store.load(&held).await.unwrap();
    let commit = || store.commit(&held, all_used(&snapshot), at(11));
    let results = all(vec![commit(), commit(), commit()]).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let lost = |result: &&Result<_, _>| matches!(result, Err(StoreError::Fenced));
    assert_eq!(results.iter().filter(lost).count(), 2, "{results:?}");
    store.release(held).await.unwrap();
    store.accept(message(&root, "more"), at(12)).await.unwrap();
    assert_eq!(seen(store, &root, 12).await.thread.version, snapshot.thread.version + 1);
}

/// P2: an input that is sent many times at once has one effect.
pub async fn an_input_sent_many_times_at_once(store: &dyn Store) {
    let root = root(store).await;
    let accepts: Vec<Job<'_, _>> = (0..16).map(|_| store.accept(message(&root, "same"), at(10))).collect();
    let mut told: Vec<Accepted> = all(accepts).await.into_iter().map(Result::unwrap).collect();
    let first = told.iter().position(|told| *told == Accepted::Accepted).expect("one is accepted");
    told.remove(first);
    assert!(told.iter().all(|told| *told == Accepted::Duplicate), "{told:?}");
    assert_eq!(seen(store, &root, 10).await.inputs.len(), 1);
}

/// A request has one sender at a time, however many look.
pub async fn takes_at_once_are_distinct(store: &dyn Store) {
    let root = root(store).await;
    let names: Vec<String> = (0..12).map(|n| format!("c{n}")).collect();
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = names.iter().map(|name| call_row(&root, name, CallState::Pending)).collect();
        commit.outbox = names.iter().map(|name| invocation(&root, name)).collect();
    })
    .await;
    let takes: Vec<Job<'_, _>> = (0..8).map(|_| store.take(at(20), 3)).collect();
    let taken: Vec<_> = all(takes).await.into_iter().flat_map(Result::unwrap).collect();
    let ids: BTreeSet<i64> = taken.iter().map(|delivery| delivery.id).collect();
    assert_eq!((taken.len(), ids.len()), (12, 12));
    for delivery in taken {
        assert!(store.begin(delivery.id).await.unwrap());
        store.settle(delivery.id, Settlement::Delivered, at(21)).await.unwrap();
    }
    assert_eq!(store.take(at(1_000), 10).await.unwrap(), []);
}

/// An outcome that races the slice that stops waiting for it is neither lost nor shown twice: it is in the inbox
/// afterwards, or was refused as one of a cancelled call.
pub async fn an_outcome_beside_a_cancel(store: &dyn Store) {
    let root = root(store).await;
    woken(store, &root, "go", 10, |_, commit| {
        commit.calls = vec![call_row(&root, "c", CallState::Pending)];
    })
    .await;
    store.accept(message(&root, "stop"), at(11)).await.unwrap();
    let held = claim(store, &root, 11).await;
    let mut commit = all_used(&store.load(&held).await.unwrap());
    commit.calls = vec![call_row(&root, "c", CallState::Cancelled)];
    commit.cancel = vec![call("c")];
    let (mut committed, mut accepted) = (None, None);
    let commits = async { committed = Some(store.commit(&held, commit, at(12)).await) };
    let comes = async { accepted = Some(store.accept(super::hand::outcome(&root, "c"), at(12)).await) };
    all(vec![Box::pin(commits), Box::pin(comes)]).await;
    committed.unwrap().unwrap();
    store.release(held).await.unwrap();
    match accepted.unwrap().unwrap() {
        Accepted::Accepted => assert_eq!(seen(store, &root, 13).await.inputs.len(), 1),
        Accepted::Discarded(_) => assert_eq!(store.dead_letters().await.unwrap().len(), 1),
        other => panic!("{other:?}"),
    }
}
