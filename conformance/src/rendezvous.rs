//! One kill for many: the cases that want the server killed prepare beside each other, meet here, and go on
//! together after a single restart.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Where cases meet.
#[derive(Debug, Default)]
pub struct Rendezvous {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    members: usize,
    waiting: usize,
    generation: u64,
    outcome: Option<Result<(), String>>,
    busy: bool,
}

/// A place among those who are waited for; given up when dropped.
#[derive(Debug)]
pub struct Member<'a>(&'a Rendezvous);

impl Drop for Member<'_> {
    fn drop(&mut self) {
        self.0.lock().members -= 1;
        self.0.tell();
    }
}

/// One who waits; whoever is dropped meanwhile waits no longer.
struct Waiting<'a>(&'a Rendezvous, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.generation == self.1 {
            state.waiting -= 1;
        }
        drop(state);
        self.0.tell();
    }
}

impl Rendezvous {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Joins those who are waited for.
    pub fn join(&self) -> Member<'_> {
        self.lock().members += 1;
        Member(self)
    }

    /// Waits until all members are here; one of them does the thing, and all get its outcome.
    ///
    /// # Errors
    /// That of the thing.
    pub async fn meet<F: Future<Output = Result<(), String>>>(
        &self,
        thing: impl FnOnce() -> F,
    ) -> Result<(), String> {
        let mut changed = self.changed.subscribe();
        let generation = {
            let mut state = self.lock();
            state.waiting += 1;
            state.generation
        };
        let waiting = Waiting(self, generation);
        self.tell();
        loop {
            changed.borrow_and_update();
            let leads = {
                let mut state = self.lock();
                if state.generation != generation {
                    return state.outcome.clone().unwrap_or(Ok(()));
                }
                let leads = state.waiting >= state.members && !state.busy;
                state.busy |= leads;
                leads
            };
            if leads {
                break;
            }
            if changed.changed().await.is_err() {
                return Err("bug: nobody is left to meet".to_owned());
            }
        }
        let outcome = thing().await;
        let mut state = self.lock();
        state.outcome = Some(outcome.clone());
        state.generation += 1;
        state.waiting = 0;
        state.busy = false;
        drop(state);
        drop(waiting);
        outcome
    }
}
