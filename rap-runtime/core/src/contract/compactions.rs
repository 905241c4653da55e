//! The store contract: summarising a history is a job beside the slices, with one worker at a time.

use super::hand::{all, at, child, claim, input, message, root, seen, session, slice, thread, woken};
use crate::{Compaction, Entry, InputBody, InputId, NewInput, Segment, Store, SummaryEntry, Usage};
use rap_types::ThreadId;
use std::collections::BTreeSet;

/// Makes a thread owe a summary.
async fn owes(store: &dyn Store, of: &ThreadId, now: i64, compaction: Compaction) {
    let key = format!("compact at {now}");
    woken(store, of, &key, now, |_, commit| commit.update.compaction = compaction).await;
}

fn summary(of: &ThreadId, upto: u64) -> NewInput {
    let covers = Segment { thread: of.clone(), upto };
    let id = InputId::summary(&covers);
    let body = InputBody::Summary { covers, text: "short".into(), usage: Usage::default() };
    NewInput { id, ..input(of, "", body) }
}

/// Each summary that is owed is one worker's, however many ask; one that was given back is owed again; a thread that owes
/// none, or is closed, is nobody's.
pub async fn a_compaction_has_one_worker(store: &dyn Store) {
    let root = root(store).await;
    assert_eq!(store.claim_compaction().await.unwrap(), None);
    let owing: Vec<ThreadId> = ["a", "b", "c"].into_iter().map(thread).collect();
    for (now, id) in (10..).zip(&owing) {
        store.create(&session(id.as_str())).await.unwrap();
        let wish = if now == 10 { Compaction::Asked } else { Compaction::Needed };
        owes(store, id, now, wish).await;
    }
    owes(store, &root, 20, Compaction::Fresh).await;
    let asks = (0..8).map(|_| store.claim_compaction()).collect();
    let claimed: Vec<ThreadId> = all(asks).await.into_iter().filter_map(Result::unwrap).collect();
    let distinct: BTreeSet<&ThreadId> = claimed.iter().collect();
    assert_eq!((claimed.len(), distinct), (3, owing.iter().collect()), "{claimed:?}");
    // The thread itself goes on meanwhile.
    store.accept(message(&owing[0], "hello"), at(30)).await.unwrap();
    assert_eq!(seen(store, &owing[0], 30).await.thread.compaction, Compaction::Asked);
    slice(store, &owing[0], 30, |_, commit| commit.update.compaction = Compaction::Asked).await;
    assert_eq!(store.claim_compaction().await.unwrap(), None);

    store.release_compaction(&owing[1]).await.unwrap();
    store.release_compaction(&root).await.unwrap();
    assert_eq!(store.claim_compaction().await.unwrap().as_ref(), Some(&owing[1]), "it is owed again");
    woken(store, &owing[2], "close", 40, |_, commit| {
        commit.update.compaction = Compaction::Needed;
        commit.close = true;
    })
    .await;
    store.release_compaction(&owing[2]).await.unwrap();
    assert_eq!(store.claim_compaction().await.unwrap(), None, "a closed thread owes nothing");
}

/// Nobody begins again what has ended: from the moment at which a summary, or its failure, is in the inbox, until a slice
/// has taken it in. A slice that finds it owed all the same has it done once more.
pub async fn a_compaction_ends_in_the_inbox(store: &dyn Store) {
    let root = root(store).await;
    let failed = |key: &str| input(&root, key, InputBody::NotCompacted { reason: "no model".into() });
    for (n, end) in [summary(&root, 0), failed("one"), failed("two")].into_iter().enumerate() {
        let now = 10 * (1 + i64::try_from(n).unwrap());
        owes(store, &root, now, Compaction::Asked).await;
        assert_eq!(store.claim_compaction().await.unwrap().as_ref(), Some(&root));
        store.accept(end, at(now + 1)).await.unwrap();
        store.release_compaction(&root).await.unwrap();
        assert_eq!(store.claim_compaction().await.unwrap(), None, "it has ended");
        let held = claim(store, &root, now + 1).await;
        assert_eq!(store.claim_compaction().await.unwrap(), None, "a slice has yet to see it");
        store.release(held).await.unwrap();
        slice(store, &root, now + 2, |snapshot, commit| {
            assert!(snapshot.inputs[0].body.ends_compaction());
            commit.update.compaction = if n == 1 { Compaction::Needed } else { Compaction::Idle };
        })
        .await;
        let again = store.claim_compaction().await.unwrap();
        assert_eq!(again.is_some(), n == 1, "{again:?}");
        store.release_compaction(&root).await.unwrap();
    }
}

/// What a compaction reads: what the model is sent, whole; what the newest summary covers is counted and left out, in the
/// thread itself and in what it sees of its parent.
pub async fn a_compaction_reads_what_is_shown(store: &dyn Store) {
    let root = root(store).await;
    let entries = |from: usize, upto: usize| (from..upto).map(|n| Entry::from_runtime(format!("entry {n}")));
    let covers = |upto: u64| {
        let covers = Segment { thread: thread("root"), upto };
        Entry::Summary(SummaryEntry { covers, text: format!("before {upto}") })
    };
    let read = async |id: &str| {
        let view = store.recent_history(&thread(id)).await.unwrap().unwrap();
        let entries: Vec<Entry> = view.entries.iter().map(|entry| (**entry).clone()).collect();
        (entries, view.inherited, view.left_out)
    };
    assert!(store.recent_history(&thread("nobody")).await.unwrap().is_none());
    assert_eq!(read("root").await, (vec![], 0, 0));
    woken(store, &root, "first", 10, |_, commit| commit.entries = entries(0, 10).collect()).await;
    assert_eq!(read("root").await, (entries(0, 10).collect(), 0, 0));

    woken(store, &root, "summary", 11, |_, commit| commit.entries = vec![covers(6)]).await;
    woken(store, &root, "more", 12, |snapshot, commit| {
        commit.entries = entries(11, 13).collect();
        commit.threads = vec![child(&snapshot.thread, "kid", 12)];
    })
    .await;
    let shown: Vec<Entry> = entries(6, 10).chain([covers(6)]).chain(entries(11, 13)).collect();
    assert_eq!(read("root").await, (shown.clone(), 0, 6));

    // The kid sees the parent up to where it was spawned, the summary among it, and later ones of the parent's not.
    slice(store, &thread("kid"), 12, |_, _| {}).await;
    woken(store, &root, "again", 13, |_, commit| commit.entries = vec![covers(12)]).await;
    assert_eq!(read("root").await.2, 12);
    let kid = [&shown[..6], &[Entry::from_runtime("you are kid")]].concat();
    assert_eq!(read("kid").await, (kid, 6, 6));
    let whole = store.history(&thread("kid")).await.unwrap().unwrap();
    assert_eq!((whole.entries.len(), whole.inherited, whole.left_out), (13, 12, 0), "nothing is deleted");
}
