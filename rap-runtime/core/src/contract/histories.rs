//! Histories: however long, in whatever pieces they came and are kept, a snapshot shows them whole, in order, and with a
//! digest that is right where there is one (P3, P8, P12).

use super::hand::{at, call, call_row, child, input, message, root, seen, slice, thread, woken};
use crate::{
    CallState, Compaction, Entry, HistoryDigest, InputBody, InputId, NewInput, Outcome, Segment, Snapshot,
    Store, SummaryEntry, Surface, SurfaceEvent, UserAuthor, UserEntry,
};
use rap_types::{ContentPart, ThreadId};
use std::ops::Range;

fn entries(range: Range<u64>) -> Vec<Entry> {
    range.map(|n| Entry::from_runtime(format!("entry {n}"))).collect()
}

/// The snapshot shows these entries, and its digest, where it has one, is theirs.
fn shows(snapshot: &Snapshot, expected: &[Entry]) {
    let shown: Vec<Entry> = snapshot.history.iter().map(|entry| (**entry).clone()).collect();
    assert_eq!(shown.len(), expected.len());
    assert!(shown == expected, "other entries, or in another order");
    if let Some(known) = snapshot.history.known_digest() {
        assert_eq!(known, HistoryDigest::default().and(expected), "the digest is of another history");
    }
}

/// Adds entries to a thread in one slice, with the digest that follows.
async fn grows(store: &dyn Store, of: &ThreadId, now: i64, range: Range<u64>) {
    let key = format!("entries from {}", range.start);
    woken(store, of, &key, now, |snapshot, commit| {
        commit.entries = entries(range);
        commit.shown = Some(snapshot.history.clone().digest().and(&commit.entries));
    })
    .await;
}

/// A history that grows in small and large steps is shown whole after each.
pub async fn long_histories_are_whole(store: &dyn Store) {
    let root = root(store).await;
    let mut upto = 0;
    for step in [1, 2, 600, 3, 300, 1, 1, 1_000, 2, 255, 2] {
        let now = 10 + upto as i64;
        grows(store, &root, now, upto..upto + step).await;
        upto += step;
        store.accept(message(&root, &format!("look {upto}")), at(now)).await.unwrap();
        shows(&seen(store, &root, now).await, &entries(0..upto));
        slice(store, &root, now, |_, _| ()).await;
        let view = store.history(&root).await.unwrap().unwrap();
        assert!(view.entries.iter().map(|entry| (**entry).clone()).eq(entries(0..upto)));
    }
    let title = &store.sessions().await.unwrap()[0].title;
    assert_eq!(title, "", "nobody has written");
}

/// A child sees a long history up to where it was spawned, and what it adds itself, whatever its parent adds.
pub async fn a_child_sees_a_part_of_a_long_history(store: &dyn Store) {
    let root = root(store).await;
    grows(store, &root, 10, 0..700).await;
    for (kid, upto, own, now) in [("late", 333, 700..1_400, 20), ("early", 10, 1_400..1_410, 30)] {
        woken(store, &root, kid, now, |snapshot, commit| {
            commit.threads = vec![child(&snapshot.thread, kid, upto)];
            commit.entries = entries(own);
        })
        .await;
        let kid = thread(kid);
        let mut expected = entries(0..upto);
        expected.push(Entry::from_runtime(format!("you are {kid}")));
        shows(&seen(store, &kid, now).await, &expected);
        slice(store, &kid, now, |_, _| ()).await;
        grows(store, &kid, now, 2_000..2_600).await;
        expected.extend(entries(2_000..2_600));
        store.accept(message(&kid, "look"), at(now)).await.unwrap();
        shows(&seen(store, &kid, now).await, &expected);
        slice(store, &kid, now, |_, _| ()).await;
    }
    store.accept(message(&root, "look"), at(40)).await.unwrap();
    shows(&seen(store, &root, 40).await, &entries(0..1_410));
}

/// A summary takes the place of what it covers, wherever in a long history that ends, and again.
pub async fn a_summary_covers_a_part_of_a_long_history(store: &dyn Store) {
    let root = root(store).await;
    grows(store, &root, 10, 0..900).await;
    let mut upto = 900;
    for covers in [300, 901, 1_150] {
        let summary = SummaryEntry {
            covers: Segment { thread: root.clone(), upto: covers },
            text: format!("to {covers}"),
        };
        let now = 10 + upto as i64;
        woken(store, &root, &format!("summary {covers}"), now, |_, commit| {
            commit.entries = vec![Entry::Summary(summary.clone())];
            commit.update.compaction = Compaction::Fresh;
        })
        .await;
        upto += 1;
        // Positions count the summaries too.
        let expected = |upto: u64| {
            let places = [900, 1_151, 1_402];
            let rest = entries(covers..upto).into_iter().zip(covers..);
            let rest = rest.filter(|(_, place)| !places.contains(place)).map(|(entry, _)| entry);
            std::iter::once(summary.shown()).chain(rest).collect::<Vec<_>>()
        };
        store.accept(message(&root, &format!("look {covers}")), at(now)).await.unwrap();
        shows(&seen(store, &root, now).await, &expected(upto));
        slice(store, &root, now, |_, _| ()).await;
        grows(store, &root, now, upto..upto + 250).await;
        upto += 250;
        store.accept(message(&root, &format!("look again {covers}")), at(now)).await.unwrap();
        shows(&seen(store, &root, now).await, &expected(upto));
        let whole = store.history(&root).await.unwrap().unwrap();
        assert_eq!(whole.entries.len() as u64, upto, "nothing is deleted");
        slice(store, &root, now, |_, _| ()).await;
    }
}

/// Texts and images of any size come back as they went in, wherever they stand and however often: as an input, as the
/// outcome and the arguments of a call, in the history, in what people see, as what a replay is fed with (P1, P12).
pub async fn large_contents_are_whole(store: &dyn Store) {
    let root = root(store).await;
    let text = |n: usize| format!("\"{n}\\ \u{1}ü\n{{🦀}}").repeat(n * 7_000);
    let content =
        |n: usize| vec![ContentPart::text(text(n)), ContentPart::image(vec![n as u8; 200_000], "image/png")];
    let outcome = |n: usize| Outcome { content: content(n), ..Outcome::text("") };
    let says = |n: usize| Entry::User(UserEntry { author: UserAuthor::Person, content: content(n) });
    let event = |n: usize| SurfaceEvent { thread: root.clone(), what: Surface::Message { text: text(n) } };
    woken(store, &root, "calls", 10, |_, commit| {
        let mut row = call_row(&root, "large", CallState::Pending);
        row.arguments = serde_json::json!({ "text": text(1), "again": [text(1)] });
        commit.calls = vec![row];
    })
    .await;
    for n in [1, 2, 1] {
        let now = 10 + n as i64;
        let body = InputBody::Message { content: content(n) };
        let key = format!("{n} at {}", store.history(&root).await.unwrap().unwrap().entries.len());
        store
            .accept(NewInput { id: InputId::message(&key), ..input(&root, "", body.clone()) }, at(now))
            .await
            .unwrap();
        let snapshot = seen(store, &root, now).await;
        assert!(snapshot.inputs[0].body == body, "an input");
        slice(store, &root, now, |snapshot, commit| {
            commit.entries = vec![says(n), Entry::from_runtime("small")];
            commit.shown = Some(snapshot.history.clone().digest().and(&commit.entries));
            commit.surface = vec![event(n)];
            commit.record.inputs = vec![snapshot.inputs[0].id.clone()];
        })
        .await;
        let slices = store.slices(&root, 1, 10).await.unwrap();
        assert!(slices.last().unwrap().inputs[0].body == body, "an input of a replay");
        let events = store.events(&root, 0, 100).await.unwrap();
        assert!(events.last().unwrap().event == event(n), "what people see");
    }
    let body = InputBody::Outcome { call: call("large"), outcome: outcome(2) };
    store
        .accept(NewInput { id: InputId::outcome(&call("large")), ..input(&root, "", body) }, at(20))
        .await
        .unwrap();
    slice(store, &root, 20, |snapshot, commit| {
        let mut row = snapshot.calls[0].clone();
        assert!(row.arguments["text"] == text(1) && row.arguments["again"][0] == text(1));
        (row.state, row.outcome) = (CallState::Done, Some(outcome(2)));
        commit.calls = vec![row];
    })
    .await;
    assert!(store.calls(false).await.unwrap()[0].row.outcome == Some(outcome(2)), "an outcome");
    let small = || Entry::from_runtime("small");
    let mut expected = vec![says(1), small(), says(2), small(), says(1), small()];
    for step in [30_u64, 600, 30] {
        let now = 20 + expected.len() as i64;
        let from = expected.len() as u64;
        grows(store, &root, now, from..from + step).await;
        expected.extend(entries(from..from + step));
        store.accept(message(&root, &format!("look {from}")), at(now)).await.unwrap();
        shows(&seen(store, &root, now).await, &expected);
        slice(store, &root, now, |_, _| ()).await;
    }
    let whole = store.history(&root).await.unwrap().unwrap();
    assert!(whole.entries.iter().map(|entry| &**entry).eq(&expected), "the history");
}
