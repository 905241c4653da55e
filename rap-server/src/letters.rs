//! Callbacks that were given up: kept in bounds, listed, and sent again when somebody asks for it, unless nobody
//! wants them any more. Results are what is owed, so they are the last to be forgotten.

use crate::{
    call::{CallInner, What},
    engine::Engine,
    life::Stop,
};
use bytes::Bytes;
use rap_http::TraceContext;
use rap_types::{CallId, HttpUrl, ThreadId};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How many dead letters are kept.
const LETTERS: usize = 10_000;
/// How many bytes of them, URLs included.
const BYTES: usize = 64 << 20;

/// A callback that was given up: what it said, why it did not arrive, and how often it was tried.
///
/// ```
/// use rap_server::DeadLetter;
///
/// /// A line for whoever looks after the server. The body is left out: it is the runtime's.
/// fn line(letter: &DeadLetter) -> String {
///     let what = if letter.is_result() { "the result" } else { letter.kind() };
///     format!("{what} of {} was not taken after {} tries: {}", letter.call(), letter.attempts(), letter.reason())
/// }
/// ```
#[derive(Clone, PartialEq)]
pub struct DeadLetter {
    pub(crate) number: u64,
    pub(crate) thread: ThreadId,
    pub(crate) call: CallId,
    pub(crate) what: What,
    pub(crate) url: HttpUrl,
    pub(crate) body: Bytes,
    pub(crate) trace: Option<Box<TraceContext>>,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
}

impl DeadLetter {
    /// What a call has to say, with a number yet to be given.
    pub(crate) fn new(call: &CallInner, url: &HttpUrl, what: What, body: Bytes, reason: &str) -> Self {
        Self {
            number: 0,
            thread: call.thread.clone(),
            call: call.id.clone(),
            what,
            url: url.clone(),
            body,
            trace: call.trace.clone(),
            attempts: 0,
            reason: reason.to_owned(),
        }
    }

    /// Its number, for [`ServerHandle::resend`](crate::ServerHandle::resend): its own as long as the process lives.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The thread of the call.
    pub fn thread(&self) -> &ThreadId {
        &self.thread
    }

    /// The call.
    pub fn call(&self) -> &CallId {
        &self.call
    }

    /// The message's `type`, e.g. `tool_result`.
    pub fn kind(&self) -> &'static str {
        self.what.kind()
    }

    /// Whether it is the result of a call.
    pub fn is_result(&self) -> bool {
        self.what == What::Result
    }

    /// Where it is to be POSTed, as it is, with `Content-Type: application/json` (TRN-07). A secret: whoever has it can
    /// speak for the call. It is in no log and no `Debug`.
    pub fn url(&self) -> &HttpUrl {
        &self.url
    }

    /// The message as it was to be sent. It may hold what only the runtime should read.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The trace that its call belongs to, which is to go with it in the headers.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.trace.as_deref()
    }

    /// How often it was tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Why it did not arrive, without secrets.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    fn bytes(&self) -> usize {
        self.body.len() + self.url.as_str().len()
    }
}

/// Without the message, and without the URL's query.
impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetter")
            .field("number", &self.number)
            .field("thread", &self.thread)
            .field("call", &self.call)
            .field("kind", &self.kind())
            .field("origin", &self.url.origin())
            .field("attempts", &self.attempts)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl What {
    fn kind(&self) -> &'static str {
        match self {
            Self::Result => "tool_result",
            Self::Event { .. } => "subscription_event",
            Self::View { .. } => "view_update",
            Self::Question { .. } => "user_choice",
        }
    }
}

/// Why a dead letter did not arrive when it was sent again.
///
/// ```
/// use rap_server::{ResendError, ServerHandle};
///
/// async fn again(server: &ServerHandle, number: u64) -> String {
///     match server.resend(number).await {
///         Ok(()) => "it arrived".into(),
///         Err(ResendError::NotTaken(why)) => format!("not yet: {why}"),
///         Err(other) => other.to_string(),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResendError {
    /// No letter of this number is listed: it arrived, was handed out, or made room for others.
    #[error("there is no dead letter of this number; list them again")]
    Unknown,
    /// Another request sends it just now.
    #[error("the letter is being sent at this moment; wait for that")]
    Underway,
    /// Nobody wants it any more, and it was taken off the list; says why (SUB-07).
    #[error("not sent, and taken off the list: {0}")]
    Unwanted(&'static str),
    /// It was not taken, and stays on the list; says why, without secrets.
    #[error("not taken, and still listed: {0}")]
    NotTaken(String),
}

/// The letters themselves.
#[derive(Default)]
pub(crate) struct Letters {
    kept: Mutex<Kept>,
    /// How many of them are no results: mostly none, and then nobody need look.
    others: AtomicUsize,
    /// How many are being sent again.
    underway: AtomicUsize,
}

#[derive(Default)]
struct Kept {
    results: BTreeMap<u64, Letter>,
    others: BTreeMap<u64, Letter>,
    bytes: usize,
    last: u64,
}

struct Letter {
    letter: DeadLetter,
    /// Its call was cancelled, or its thread closed.
    stopped: bool,
    /// It is being sent again.
    underway: bool,
}

impl Kept {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn of(&mut self, number: u64) -> Option<&mut Letter> {
        self.results.get_mut(&number).or_else(|| self.others.get_mut(&number))
    }

    fn remove(&mut self, number: u64) -> Option<DeadLetter> {
        let gone = self.others.remove(&number).or_else(|| self.results.remove(&number))?;
        self.bytes -= gone.letter.bytes();
        Some(gone.letter)
    }

    /// The number of the letter that is missed least: the oldest that is no result, else the oldest.
    fn least(&self) -> Option<u64> {
        self.others.keys().next().or_else(|| self.results.keys().next()).copied()
    }
}

impl Letters {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted(&self, kept: &Kept) {
        self.others.store(kept.others.len(), Ordering::SeqCst);
    }

    /// Keeps a letter, unless `wanted` says no. It is asked when whoever makes a letter unwanted would find it.
    pub(crate) fn bury(&self, mut letter: DeadLetter, wanted: impl FnOnce() -> bool) {
        letter.number = self.number();
        tracing::warn!(?letter, "a callback was given up");
        crate::gauges::given_up(letter.kind());
        let mut forgotten = Vec::new();
        {
            let mut kept = self.kept();
            if !letter.is_result() {
                self.others.fetch_add(1, Ordering::SeqCst);
                if !wanted() {
                    return self.counted(&kept);
                }
            }
            kept.bytes += letter.bytes();
            let of = if letter.is_result() { &mut kept.results } else { &mut kept.others };
            of.insert(letter.number, Letter { letter, stopped: false, underway: false });
            while kept.results.len() + kept.others.len() > LETTERS || kept.bytes > BYTES {
                let Some(least) = kept.least() else { break };
                forgotten.extend(kept.remove(least));
            }
            self.counted(&kept);
        }
        for letter in forgotten {
            tracing::warn!(?letter, "a dead letter is forgotten: too many are kept");
        }
    }

    /// All letters, oldest first.
    pub(crate) fn list(&self) -> Vec<DeadLetter> {
        let kept = self.kept();
        let mut all: Vec<_> =
            kept.results.values().chain(kept.others.values()).map(|l| l.letter.clone()).collect();
        all.sort_unstable_by_key(|letter| letter.number);
        all
    }

    /// All letters that somebody wants, to be kept elsewhere; those that are being sent this moment too.
    pub(crate) fn take_all(&self, engine: &Engine) -> Vec<DeadLetter> {
        let all = {
            let mut kept = self.kept();
            let all = std::mem::take(&mut *kept);
            kept.last = all.last;
            self.counted(&kept);
            all
        };
        let mut all: Vec<_> = all.results.into_values().chain(all.others.into_values()).collect();
        all.retain(|kept| unwanted(engine, &kept.letter, kept.stopped).is_none());
        all.sort_unstable_by_key(|kept| kept.letter.number);
        all.into_iter().map(|kept| kept.letter).collect()
    }

    /// A number for a letter that is not kept here.
    pub(crate) fn number(&self) -> u64 {
        self.kept().number()
    }

    /// How many are being sent again.
    pub(crate) fn underway(&self) -> usize {
        self.underway.load(Ordering::SeqCst)
    }

    /// The call was cancelled, or all of its thread closed: nobody waits for anything but results.
    pub(crate) fn stopped(&self, thread: &ThreadId, call: Option<&CallId>) {
        if self.others.load(Ordering::SeqCst) == 0 {
            return;
        }
        for kept in self.kept().others.values_mut() {
            kept.stopped |= kept.letter.thread == *thread && call.is_none_or(|c| kept.letter.call == *c);
        }
    }

    /// A newer view of this type was made: what is older is never shown again.
    pub(crate) fn overtaken(&self, thread: &ThreadId, view_type: &str) {
        if self.others.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut kept = self.kept();
        let older = |l: &DeadLetter| {
            l.thread == *thread && matches!(&l.what, What::View { view_type: t, .. } if **t == *view_type)
        };
        let older: Vec<u64> =
            kept.others.iter().filter(|(_, kept)| older(&kept.letter)).map(|(n, _)| *n).collect();
        for number in older {
            kept.remove(number);
        }
        self.counted(&kept);
    }

    /// Takes a letter in hand for one more attempt. It stays on the list meanwhile.
    pub(crate) fn take_in_hand(&self, engine: &Engine, number: u64) -> Result<InHand<'_>, ResendError> {
        let (letter, stopped) = {
            let mut kept = self.kept();
            let found = kept.of(number).ok_or(ResendError::Unknown)?;
            if std::mem::replace(&mut found.underway, true) {
                return Err(ResendError::Underway);
            }
            (found.letter.clone(), found.stopped)
        };
        self.underway.fetch_add(1, Ordering::SeqCst);
        let hand = InHand { of: self, letter };
        match unwanted(engine, &hand.letter, stopped) {
            None => Ok(hand),
            Some(why) => {
                hand.off_the_list();
                Err(ResendError::Unwanted(why))
            }
        }
    }
}

/// Why nobody wants a letter any more, if so. A result is always wanted.
fn unwanted(engine: &Engine, letter: &DeadLetter, stopped: bool) -> Option<&'static str> {
    match &letter.what {
        What::Result => None,
        _ if stopped => Some("its call was cancelled or its thread closed"),
        // The last event still has to arrive where the runtime waits for it.
        What::Event { last: true } => None,
        What::Event { last: false } => {
            (!engine.takes_events_of(&letter.thread, &letter.call)).then_some("its subscription is over")
        }
        What::Question { token } => {
            (!engine.questions.is_open(token)).then_some("nobody awaits the answer any more")
        }
        // One that was overtaken is not on the list.
        What::View { .. } => None,
    }
}

/// A letter that is being sent again; dropped, it is an ordinary one again.
pub(crate) struct InHand<'a> {
    of: &'a Letters,
    pub(crate) letter: DeadLetter,
}

impl InHand<'_> {
    /// It arrived, or is not wanted.
    pub(crate) fn off_the_list(self) {
        let mut kept = self.of.kept();
        kept.remove(self.letter.number);
        self.of.counted(&kept);
    }

    /// It did not arrive.
    pub(crate) fn failed(self, reason: &str) {
        if let Some(kept) = self.of.kept().of(self.letter.number) {
            kept.letter.attempts += 1;
            kept.letter.reason = reason.to_owned();
        }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.of.underway.fetch_sub(1, Ordering::SeqCst);
        if let Some(kept) = self.of.kept().of(self.letter.number) {
            kept.underway = false;
        }
    }
}

impl Engine {
    /// Whether a subscription lives and its events may leave.
    fn takes_events_of(&self, thread: &ThreadId, call: &CallId) -> bool {
        self.open_call(thread, call).is_some_and(|call| {
            let core = call.core();
            !core.gone
                && core.life.may_send_events()
                && !matches!(core.stop, Some(Stop::Cancelled | Stop::Closed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(what: What, call: usize, bytes: usize) -> DeadLetter {
        DeadLetter {
            number: 0,
            thread: "t".parse().unwrap(),
            call: format!("c{call}").parse().unwrap(),
            what,
            url: "https://example.com/".parse().unwrap(),
            body: vec![b' '; bytes].into(),
            trace: None,
            attempts: 1,
            reason: String::new(),
        }
    }

    /// The numbers of the first and the last letter, and how many there are.
    fn ends(letters: &Letters) -> (u64, u64, usize) {
        let list = letters.list();
        (list[0].number(), list[list.len() - 1].number(), list.len())
    }

    /// What was given up is kept in bounds: the oldest go first, and numbers are never used again.
    #[test]
    fn bounded_in_number() {
        let letters = Letters::default();
        for n in 1..=LETTERS + 3 {
            letters.bury(letter(What::Result, n, 0), || true);
        }
        assert_eq!(ends(&letters), (4, LETTERS as u64 + 3, LETTERS));
        assert_eq!(letters.list()[0].call().as_str(), "c4");
    }

    /// INV-07: and in bytes; results are the last to go.
    #[test]
    fn bounded_in_bytes() {
        let letters = Letters::default();
        let megabyte = 1 << 20;
        for n in 1..=10 {
            letters.bury(letter(What::Result, n, megabyte), || true);
        }
        let event = || What::Event { last: false };
        for n in 1..=LETTERS {
            letters.bury(letter(event(), n, 0), || true);
        }
        for n in 1..=100 {
            let view = What::View { view_type: format!("v{n}").into(), number: n };
            letters.bury(letter(view, 0, megabyte), || true);
        }
        let results = |letters: &Letters| letters.list().iter().filter(|l| l.is_result()).count();
        assert_eq!(results(&letters), 10);
        let bytes = |letters: &Letters| letters.list().iter().map(DeadLetter::bytes).sum::<usize>();
        assert!(bytes(&letters) <= BYTES && bytes(&letters) > BYTES - 2 * megabyte);
        assert_eq!(bytes(&letters), letters.kept().bytes);
        for n in 11..=100 {
            letters.bury(letter(What::Result, n, megabyte), || true);
        }
        assert_eq!((results(&letters), letters.list().len()), (63, 63));
        assert_eq!(letters.list()[0].call().as_str(), "c38");
        assert_eq!(letters.others.load(Ordering::SeqCst), 0);
    }

    /// A view that was overtaken is never a letter, and of those that are one goes when a newer one is made.
    #[test]
    fn overtaken_views() {
        let letters = Letters::default();
        let view = |name: &str| letter(What::View { view_type: name.into(), number: 1 }, 1, 10);
        letters.bury(view("a"), || false);
        assert!(letters.list().is_empty() && letters.others.load(Ordering::SeqCst) == 0);
        letters.bury(view("a"), || true);
        letters.bury(view("b"), || true);
        letters.bury(letter(What::Result, 1, 10), || true);
        letters.overtaken(&"t2".parse().unwrap(), "a");
        assert_eq!(letters.list().len(), 3);
        letters.overtaken(&"t".parse().unwrap(), "a");
        let left: Vec<_> = letters.list().iter().map(DeadLetter::kind).collect();
        assert_eq!(left, ["view_update", "tool_result"]);
        assert_eq!(letters.others.load(Ordering::SeqCst), 1);
    }
}
