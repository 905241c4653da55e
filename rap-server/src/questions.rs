//! Questions to people that await an answer: each has an unguessable URL of its own, takes one answer, and
//! remembers for a while that it was answered (CHO-02, CHO-03).

use rap_types::{CallId, ThreadId};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// How many questions that are no longer open are remembered, to answer 409 and not 404.
const REMEMBERED: usize = 10_000;

#[derive(Default)]
pub(crate) struct Questions(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    open: HashMap<String, Open>,
    closed: HashMap<String, CallId>,
    order: VecDeque<String>,
}

struct Open {
    call: CallId,
    choices: usize,
    answer: oneshot::Sender<Option<usize>>,
}

/// A question while it is open; dropped, it is closed.
pub(crate) struct Question {
    token: String,
    of: Arc<Mutex<Inner>>,
}

/// What came of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// It was taken, a valid one or not.
    Taken,
    /// The question was answered before, or is not asked any more.
    Closed,
    /// There is no such question.
    Unknown,
    /// It is the answer of another call.
    Foreign,
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn close(&mut self, token: &str) -> Option<Open> {
        let open = self.open.remove(token)?;
        self.closed.insert(token.to_owned(), open.call.clone());
        self.order.push_back(token.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.closed.remove(&oldest);
        }
        Some(open)
    }
}

impl Questions {
    /// Opens a question. `None` comes when the answer is none of the choices.
    pub(crate) fn open(
        &self,
        _thread: &ThreadId,
        call: &CallId,
        choices: usize,
    ) -> (Question, oneshot::Receiver<Option<usize>>) {
        let (answer, answered) = oneshot::channel();
        let token = random(26);
        lock(&self.0).open.insert(token.clone(), Open { call: call.clone(), choices, answer });
        (Question { token, of: self.0.clone() }, answered)
    }

    /// Takes an answer; `selected` is `None` when it is no index at all.
    pub(crate) fn answer(&self, token: &str, call: &str, selected: Option<u64>) -> Answered {
        let mut inner = lock(&self.0);
        let Some(open) = inner.open.get(token) else {
            return if inner.closed.contains_key(token) { Answered::Closed } else { Answered::Unknown };
        };
        if open.call.as_str() != call {
            return Answered::Foreign;
        }
        let index = selected.and_then(|s| usize::try_from(s).ok()).filter(|i| *i < open.choices);
        if let Some(open) = inner.close(token) {
            let _ = open.answer.send(index);
        }
        Answered::Taken
    }

    /// Whether somebody awaits the answer.
    pub(crate) fn is_open(&self, token: &str) -> bool {
        lock(&self.0).open.contains_key(token)
    }

    #[cfg(test)]
    pub(crate) fn open_count(&self) -> usize {
        lock(&self.0).open.len()
    }

    /// The question will never reach anybody: whoever waits for the answer learns it.
    pub(crate) fn lost(&self, token: &str) {
        lock(&self.0).close(token);
    }
}

impl Question {
    pub(crate) fn token(&self) -> &str {
        &self.token
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        lock(&self.of).close(&self.token);
    }
}

/// Random base32 characters, 5 bits each.
pub(crate) fn random(characters: usize) -> String {
    let mut bytes = vec![0u8; characters * 5 / 8 + 1];
    getrandom::fill(&mut bytes).expect("bug: the system has no randomness");
    let mut text = data_encoding::BASE32_NOPAD.encode(&bytes).to_lowercase();
    text.truncate(characters);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CHO-03: that a question was asked is remembered for a while, in bounds; while it is open it is never forgotten.
    #[test]
    fn bounded() {
        let questions = Questions::default();
        let ask = || questions.open(&"t".parse().unwrap(), &"c".parse().unwrap(), 2);
        let (open, _answer) = ask();
        let tokens: Vec<String> = (0..REMEMBERED + 1).map(|_| ask().0.token().to_owned()).collect();
        let answer = |token: &str| questions.answer(token, "c", Some(0));
        assert_eq!(answer(&tokens[0]), Answered::Unknown);
        assert_eq!(answer(&tokens[1]), Answered::Closed);
        assert_eq!(answer(&tokens[REMEMBERED]), Answered::Closed);
        assert_eq!(answer(open.token()), Answered::Taken);
        let inner = lock(&questions.0);
        assert_eq!((inner.open.len(), inner.closed.len(), inner.order.len()), (0, REMEMBERED, REMEMBERED));
    }
}
