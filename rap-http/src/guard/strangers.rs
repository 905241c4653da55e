//! Room for the bodies of strangers. They could take all of it and hold it by sending slowly; so when it is
//! full, whoever has been sending for longest makes room for whoever comes. Only bodies that wait for their
//! peer are sent away: a body that is there at once, the usual case, is never refused.

use super::body::Room;
use crate::Problem;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

#[derive(Debug)]
pub(super) struct Strangers {
    room: usize,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    free: usize,
    /// Who waited first stands first, however often a drop more came since.
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    waker: Waker,
}

/// The room of one body.
#[derive(Debug)]
pub(super) struct Place {
    of: Arc<Strangers>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Never waited, or is whole: the room is its own.
    Mine(usize),
    /// May have been sent away: then nobody waits by its number.
    Waiting(u64),
}

impl Strangers {
    pub(super) fn new(bytes: usize) -> Self {
        Self { room: bytes, held: Mutex::new(Held { free: bytes, waiting: BTreeMap::new(), next: 0 }) }
    }

    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    pub(super) fn place(strangers: &Arc<Self>) -> Place {
        Place { of: strangers.clone(), state: State::Mine(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Makes room, and says who has to go for it.
    fn make_room(&mut self, wanted: usize, sent_away: &mut Vec<Waker>) -> Result<(), Problem> {
        while self.free < wanted {
            let Some((_, oldest)) = self.waiting.pop_first() else { return Err(busy()) };
            self.free += oldest.bytes;
            sent_away.push(oldest.waker);
        }
        self.free -= wanted;
        Ok(())
    }
}

fn busy() -> Problem {
    Problem::busy(Duration::from_secs(1))
}

impl Place {
    /// The body is there: nobody takes its room any more.
    pub(super) fn is_whole(&mut self) -> Result<(), Problem> {
        if let State::Waiting(number) = self.state {
            let waited = self.of.lock().waiting.remove(&number).ok_or_else(busy)?;
            self.state = State::Mine(waited.bytes);
        }
        Ok(())
    }
}

impl Room for Place {
    fn take(&mut self, more: usize) -> Result<(), Problem> {
        let mut sent_away = Vec::new();
        let taken = {
            let mut held = self.of.lock();
            let own = match &self.state {
                State::Mine(bytes) => *bytes,
                State::Waiting(number) => held.waiting.get(number).map_or(0, |waiting| waiting.bytes),
            };
            if own.saturating_add(more) > self.of.room {
                // Whoever else went for it would have gone in vain.
                return Err(busy());
            }
            let room = held.make_room(more, &mut sent_away);
            match &mut self.state {
                State::Mine(bytes) => room.map(|()| *bytes += more),
                State::Waiting(number) => match (held.waiting.get_mut(number), room) {
                    (Some(waiting), room) => room.map(|()| waiting.bytes += more),
                    // It was sent away, perhaps just now, for itself.
                    (None, room) => {
                        held.free += if room.is_ok() { more } else { 0 };
                        Err(busy())
                    }
                },
            }
        };
        sent_away.into_iter().for_each(Waker::wake);
        taken
    }

    fn waits(&mut self, cx: &mut Context<'_>) -> Result<(), Problem> {
        let mut held = self.of.lock();
        match self.state {
            // Who holds nothing keeps nobody out.
            State::Mine(0) => Ok(()),
            State::Mine(bytes) => {
                let number = held.next;
                held.next += 1;
                held.waiting.insert(number, Waiting { bytes, waker: cx.waker().clone() });
                drop(held);
                self.state = State::Waiting(number);
                Ok(())
            }
            State::Waiting(number) => match held.waiting.get_mut(&number) {
                Some(waiting) => {
                    waiting.waker.clone_from(cx.waker());
                    Ok(())
                }
                None => Err(busy()),
            },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.of.lock();
        match self.state {
            State::Mine(bytes) => held.free += bytes,
            State::Waiting(number) => {
                if let Some(waiting) = held.waiting.remove(&number) {
                    held.free += waiting.bytes;
                }
            }
        }
    }
}
