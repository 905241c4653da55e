//! What a strict provider accepts (P3): every call is followed by its result before anything else, no
//! result without its call, nothing empty, no id twice.

use rap_core::{Entry, ModelRequest};
use std::collections::HashSet;

/// Panics with the reason if a strict provider would refuse the request.
pub(crate) fn check(request: &ModelRequest) {
    let history = &request.history;
    assert!(!history.is_empty(), "an empty history");
    assert!(!matches!(&*history[0], Entry::Turn(_)), "begins with the model");
    assert!(!matches!(&**history.last().unwrap(), Entry::Turn(_)), "ends with the model: nothing new to see");
    let mut ids = HashSet::new();
    for (index, entry) in history.iter().enumerate() {
        match &**entry {
            Entry::Turn(turn) => {
                for call in &turn.calls {
                    assert!(ids.insert(call.id.clone()), "the id {} is used twice", call.id);
                }
                if turn.calls.is_empty() {
                    assert!(!turn.text.is_empty(), "entry {index}: an empty turn");
                } else {
                    let next = history.get(index + 1).map(|entry| &**entry);
                    let Some(Entry::Results { results }) = next else {
                        panic!("entry {index}: calls without results")
                    };
                    let called: Vec<_> = turn.calls.iter().map(|call| &call.id).collect();
                    let answered: Vec<_> = results.iter().map(|result| &result.call).collect();
                    assert_eq!(called, answered, "entry {index}: results out of order");
                }
            }
            Entry::Results { results } => {
                let before = index.checked_sub(1).map(|i| &*history[i]);
                assert!(
                    before.is_some_and(|entry| !entry.calls().is_empty()),
                    "entry {index}: orphan results"
                );
                assert!(
                    results.iter().all(|result| !result.content.is_empty()),
                    "entry {index}: an empty result"
                );
            }
            Entry::Event(event) => assert!(ids.insert(event.id.clone()), "the id {} is used twice", event.id),
            Entry::User(user) => assert!(!user.content.is_empty(), "entry {index}: an empty message"),
            other => panic!("entry {index}: unknown {other:?}"),
        }
    }
}
