//! An agent without a model: threads with a history of some length in a store, and slices run by hand.

use crate::harness::median;
use rap_core::{
    Claim, Commit, Entry, Millis, ModelTurn, Moment, NewInput, Rules, Session, SliceMachine, Snapshot, Step,
    Store, Toolbox, TurnEntry, TurnOutcome, UserAuthor, UserEntry,
};
use rap_types::{ContentPart, ThreadId};
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Instant, SystemTime},
};

/// The size of a message in a history, in bytes.
pub(crate) const MESSAGE_BYTES: usize = 500;

/// The time. It never runs backwards, as the wall's clock may during a long run: what was accepted is due.
pub(crate) fn now() -> Millis {
    static LATEST: AtomicI64 = AtomicI64::new(0);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    Millis(LATEST.fetch_max(now, Ordering::Relaxed).max(now))
}

pub(crate) fn thread(name: &str) -> ThreadId {
    ThreadId::new(name).expect("bug: a thread's id")
}

pub(crate) fn session(name: &str) -> Session {
    Session {
        id: thread(name),
        owner: None,
        user: None,
        created_at: now(),
        model: None,
        system: "You are measured.".to_owned(),
        toolbox: Toolbox::default(),
        rules: Rules::default(),
    }
}

pub(crate) fn message(thread: &ThreadId, key: &str) -> NewInput {
    NewInput::message(thread.clone(), key, vec![ContentPart::text("go on")], "bench")
}

fn words(number: usize) -> String {
    let mut text = format!("message {number}: ");
    while text.len() < MESSAGE_BYTES {
        text.push_str("it rains in Oslo, and the tram is late; ");
    }
    text.truncate(MESSAGE_BYTES);
    text
}

/// A history as a person and a model make it, in turns.
fn entry(number: usize) -> Entry {
    if number.is_multiple_of(2) {
        let content = vec![ContentPart::text(words(number))];
        return Entry::User(UserEntry { author: UserAuthor::Person, content });
    }
    Entry::Turn(TurnEntry {
        text: words(number),
        reasoning: Vec::new(),
        calls: Vec::new(),
        order: Vec::new(),
        interrupted: false,
        model: "bench/none".to_owned(),
    })
}

/// Makes a session whose root thread has a history of `messages` (at least 2), in one commit.
pub(crate) async fn seed(store: &dyn Store, name: &str, messages: usize) -> Result<ThreadId, String> {
    seed_with(store, name, messages, None).await
}

/// The same, with a timer that is due in a day.
pub(crate) async fn seed_sleeping(
    store: &dyn Store,
    name: &str,
    messages: usize,
) -> Result<ThreadId, String> {
    seed_with(store, name, messages, Some(now() + 86_400_000)).await
}

async fn seed_with(
    store: &dyn Store,
    name: &str,
    messages: usize,
    due: Option<Millis>,
) -> Result<ThreadId, String> {
    let root = thread(name);
    store.create(&session(name)).await.map_err(said)?;
    store.accept(message(&root, "first"), now()).await.map_err(said)?;
    let before = messages.saturating_sub(2);
    // Somebody who makes another one beside this may have taken this thread, and left one that fell due a moment later.
    let claim = loop {
        if let Some(claim) = store.claim(now()).await.map_err(said)? {
            break claim;
        }
        tokio::task::yield_now().await;
    };
    run(store, claim, |commit| {
        // An even number, so that the slice's own two follow in turn.
        let own = std::mem::take(&mut commit.entries);
        commit.entries.extend((0..before - before % 2).map(entry));
        commit.entries.extend(own);
        commit.update.due_at = due;
        // The digest was that of the slice's own.
        commit.shown = None;
    })
    .await?;
    Ok(root)
}

/// The milliseconds of a slice's parts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts {
    pub(crate) claim: f64,
    pub(crate) load: f64,
    pub(crate) decide: f64,
    pub(crate) commit: f64,
    pub(crate) release: f64,
}

impl Parts {
    pub(crate) fn total(self) -> f64 {
        self.claim + self.load + self.decide + self.commit + self.release
    }

    /// The median of each part of some slices, in words.
    pub(crate) fn told(slices: &[Self]) -> String {
        let of = |part: fn(&Self) -> f64| median(slices.iter().map(part).collect());
        format!(
            "claim {:.2} ms, load {:.2}, decide {:.2}, commit {:.2}, release {:.2}",
            of(|s| s.claim),
            of(|s| s.load),
            of(|s| s.decide),
            of(|s| s.commit),
            of(|s| s.release)
        )
    }
}

fn since(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// Runs the slice that is due, its model answering at once.
pub(crate) async fn slice(store: &dyn Store, of: &ThreadId) -> Result<Parts, String> {
    let began = Instant::now();
    let claim = store.claim(now()).await.map_err(said)?.ok_or("no thread is due")?;
    if claim.thread != *of {
        return Err(format!("{} is due, not {of}", claim.thread));
    }
    let claimed = since(began);
    let parts = run(store, claim, |_| ()).await?;
    Ok(Parts { claim: claimed, ..parts })
}

/// Runs a slice of whichever thread is due; false where none is.
pub(crate) async fn slice_any(store: &dyn Store) -> Result<bool, String> {
    let Some(claim) = store.claim(now()).await.map_err(said)? else { return Ok(false) };
    run(store, claim, |_| ()).await.map(|_| true)
}

async fn run(store: &dyn Store, claim: Claim, change: impl FnOnce(&mut Commit)) -> Result<Parts, String> {
    let began = Instant::now();
    let snapshot: Snapshot = store.load(&claim).await.map_err(said)?;
    let load = since(began);
    let deciding = Instant::now();
    let mut commit = 0.0;
    let mut machine = SliceMachine::new(snapshot, Moment { now: now(), seed: 7 });
    let mut change = Some(change);
    loop {
        match machine.step() {
            Step::Complete(_) => {
                let turn = ModelTurn {
                    text: "so be it".to_owned(),
                    model: "bench/none".to_owned(),
                    ..ModelTurn::default()
                };
                machine.turn(TurnOutcome::Turn(turn));
            }
            Step::Commit(mut decided) => {
                if let Some(change) = change.take() {
                    change(&mut decided);
                }
                let began = Instant::now();
                store.commit(&claim, *decided, now()).await.map_err(said)?;
                commit += since(began);
                machine.committed();
            }
            Step::Done => break,
        }
    }
    let decide = since(deciding) - commit;
    let releasing = Instant::now();
    store.release(claim).await.map_err(said)?;
    Ok(Parts { claim: 0.0, load, decide, commit, release: since(releasing) })
}

/// A person's message and the slice that it makes; gives the slice's time in milliseconds, from claim to release.
pub(crate) async fn turn(store: &dyn Store, of: &ThreadId, key: &str) -> Result<f64, String> {
    store.accept(message(of, key), now()).await.map_err(said)?;
    slice(store, of).await.map(Parts::total)
}

pub(crate) fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}
