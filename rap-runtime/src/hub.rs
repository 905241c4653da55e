//! What lives only in this process: bells for whoever waits, signals for slices that run, and the text of
//! running turns.
//!
//! Nothing here is needed for correctness: all of it may be lost at any moment.

use crate::Watched;
use rap_core::{InputId, Snapshot};
use rap_types::{CallId, ThreadId};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
pub(crate) struct Hub {
    changes: watch::Sender<u64>,
    numbers: AtomicU64,
    stopping: Mutex<CancellationToken>,
    state: Mutex<State>,
    ends: broadcast::Sender<Ends>,
}

/// Calls that are cancelled: whoever works them here may stop.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ends {
    /// These.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) calls: Vec<CallId>,
    /// All of this thread and of those below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) closed: Option<ThreadId>,
    /// Another process has said so.
    #[serde(skip)]
    pub(crate) heard: bool,
}

impl Ends {
    /// Whether a call is among them, of a thread with its ancestors.
    pub(crate) fn ends(&self, call: &CallId, thread: &ThreadId, ancestors: &[ThreadId]) -> bool {
        let below = |closed: &ThreadId| closed == thread || ancestors.contains(closed);
        self.calls.contains(call) || self.closed.as_ref().is_some_and(below)
    }
}

/// So many cancellations may be unheard before the oldest are forgotten.
const UNHEARD: usize = 1024;

#[derive(Debug, Default)]
struct State {
    slices: Vec<Arc<SliceSignals>>,
    sessions: HashMap<ThreadId, Live>,
}

/// The running turns of a session.
#[derive(Debug)]
struct Live {
    bell: watch::Sender<u64>,
    watchers: usize,
    turns: BTreeMap<ThreadId, LiveTurn>,
}

#[derive(Debug)]
struct LiveTurn {
    attempt: u64,
    text: String,
    sealed: bool,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self {
            changes: watch::Sender::new(0),
            numbers: AtomicU64::new(0),
            stopping: Mutex::default(),
            state: Mutex::default(),
            ends: broadcast::Sender::new(UNHEARD),
        }
    }

    /// Calls are cancelled, and that is committed.
    pub(crate) fn cancelled(&self, ends: Ends) {
        let _ = self.ends.send(ends);
    }

    /// Hears of calls that are [cancelled](Self::cancelled) from now on.
    pub(crate) fn ends(&self) -> broadcast::Receiver<Ends> {
        self.ends.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Rows have changed: whoever waits for rows looks again.
    pub(crate) fn ring(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Hears [`ring`](Self::ring).
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The runtime is driven: watchers that come from now on are told what happens.
    pub(crate) fn start(&self) {
        let mut stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        if stopping.is_cancelled() {
            *stopping = CancellationToken::new();
        }
    }

    /// The runtime stops: watchers' streams end.
    pub(crate) fn stop(&self) {
        self.stopping().cancel();
    }

    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn live<T>(&self, session: &ThreadId, change: impl FnOnce(&mut Live) -> T) -> T {
        let mut state = self.state();
        let live = state.sessions.entry(session.clone()).or_insert_with(|| Live {
            bell: watch::Sender::new(0),
            watchers: 0,
            turns: BTreeMap::new(),
        });
        let out = change(live);
        live.bell.send_modify(|n| *n = n.wrapping_add(1));
        if live.watchers == 0 && live.turns.is_empty() {
            state.sessions.remove(session);
        }
        out
    }

    // --- running turns

    /// A turn's attempt begins; its number.
    pub(crate) fn turn_begins(&self, session: &ThreadId, thread: &ThreadId) -> u64 {
        let attempt = self.number();
        let turn = LiveTurn { attempt, text: String::new(), sealed: false };
        self.live(session, |live| live.turns.insert(thread.clone(), turn));
        attempt
    }

    /// The attempt has a further piece of text.
    pub(crate) fn turn_grows(&self, session: &ThreadId, thread: &ThreadId, attempt: u64, piece: &str) {
        self.live(session, |live| {
            if let Some(turn) = live.turns.get_mut(thread).filter(|turn| turn.attempt == attempt) {
                turn.text.push_str(piece);
            }
        });
    }

    /// The attempt is about to be committed: no more chunks, so that none comes after the committed text.
    pub(crate) fn turn_sealed(&self, session: &ThreadId, thread: &ThreadId, attempt: u64) {
        self.live(session, |live| {
            if let Some(turn) = live.turns.get_mut(thread).filter(|turn| turn.attempt == attempt) {
                turn.sealed = true;
            }
        });
    }

    /// The attempt is over: committed, or dropped. Watchers that saw its text and find none committed erase it.
    pub(crate) fn turn_ends(&self, session: &ThreadId, thread: &ThreadId, attempt: u64) {
        self.live(session, |live| {
            if live.turns.get(thread).is_some_and(|turn| turn.attempt == attempt) {
                live.turns.remove(thread);
            }
        });
    }

    // --- watchers

    /// Begins to watch a session.
    pub(crate) fn attach(self: &Arc<Self>, session: &ThreadId) -> Attached {
        let bell = self.live(session, |live| {
            live.watchers += 1;
            live.bell.subscribe()
        });
        Attached { hub: self.clone(), session: session.clone(), bell, seen: HashMap::new() }
    }

    // --- slices

    /// A slice of a thread begins, before it loads.
    pub(crate) fn slice_begins(self: &Arc<Self>, thread: &ThreadId) -> RunningSlice {
        let signals =
            Arc::new(SliceSignals { thread: thread.clone(), state: Mutex::default(), notify: Notify::new() });
        self.state().slices.push(signals.clone());
        RunningSlice { hub: self.clone(), signals }
    }

    /// A message, stop or close was accepted: a completion that has not seen it ends.
    pub(crate) fn interrupt(&self, thread: &ThreadId, input: &InputId) {
        for slice in self.state().slices.iter().filter(|slice| slice.thread == *thread) {
            slice.state().urgent.push(input.clone());
            slice.notify.notify_one();
        }
    }

    /// News that another process has passed on.
    #[cfg(feature = "sqlite")]
    pub(crate) fn hear(&self, thread: &ThreadId, news: News) {
        if let Some(ended) = news.cancelled {
            self.cancelled(Ends { heard: true, ..ended });
        }
        for slice in self.state().slices.iter().filter(|slice| slice.thread == *thread) {
            let mut state = slice.state();
            state.urgent.extend(news.urgent.iter().cloned());
            state.check |= news.check;
            slice.notify.notify_one();
        }
    }

    /// A thread was paused or closed with all below it: slices below it look whether they still have their claim.
    pub(crate) fn check_below(&self, thread: &ThreadId) {
        for slice in self.state().slices.iter() {
            let mut state = slice.state();
            if state.ancestors.contains(thread) {
                state.check = true;
                slice.notify.notify_one();
            }
        }
    }
}

/// What a running slice hears.
#[derive(Debug)]
struct SliceSignals {
    thread: ThreadId,
    state: Mutex<Signals>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct Signals {
    ancestors: Vec<ThreadId>,
    /// Inputs that this streak of slices has loaded: they interrupt nothing.
    seen: HashSet<InputId>,
    urgent: Vec<InputId>,
    check: bool,
}

impl SliceSignals {
    fn state(&self) -> MutexGuard<'_, Signals> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A streak of slices of one thread; dropped, it hears no more.
#[derive(Debug)]
pub(crate) struct RunningSlice {
    hub: Arc<Hub>,
    signals: Arc<SliceSignals>,
}

/// What is passed on to a slice in another process.
#[cfg(feature = "sqlite")]
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct News {
    /// Inputs that interrupt a completion which has not seen them.
    #[serde(default)]
    pub(crate) urgent: Vec<InputId>,
    /// The claim may be lost.
    #[serde(default)]
    pub(crate) check: bool,
    /// Calls are cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cancelled: Option<Ends>,
}

/// Why a completion should end or look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// An input is there that the completion has not seen and that does not wait for it.
    Urgent,
    /// The claim may be lost.
    CheckClaim,
}

impl RunningSlice {
    /// A snapshot was loaded: what is in it interrupts nothing.
    pub(crate) fn loaded(&self, snapshot: &Snapshot) {
        let mut state = self.signals.state();
        state.ancestors.clone_from(&snapshot.thread.ancestors);
        state.seen.extend(snapshot.inputs.iter().map(|input| input.id.clone()));
    }

    /// Where the slice runs in another process, which loads for itself: who is above the thread.
    #[cfg(feature = "sqlite")]
    pub(crate) fn below(&self, ancestors: &[ThreadId]) {
        self.signals.state().ancestors = ancestors.to_vec();
    }

    /// What the process that runs the slice should hear. Loses nothing when it is dropped and asked again.
    #[cfg(feature = "sqlite")]
    pub(crate) async fn news(&self) -> News {
        loop {
            {
                let mut state = self.signals.state();
                if !state.urgent.is_empty() || state.check {
                    let urgent = std::mem::take(&mut state.urgent);
                    let check = std::mem::take(&mut state.check);
                    return News { urgent, check, cancelled: None };
                }
            }
            self.signals.notify.notified().await;
        }
    }

    /// Resolves when something is urgent. Loses nothing when it is dropped and asked again.
    pub(crate) async fn signal(&self) -> Signal {
        loop {
            {
                let mut state = self.signals.state();
                let Signals { seen, urgent, check, .. } = &mut *state;
                urgent.retain(|input| !seen.contains(input));
                if !urgent.is_empty() {
                    // Said once: the next slice loads whatever is there.
                    urgent.clear();
                    return Signal::Urgent;
                }
                if std::mem::take(check) {
                    return Signal::CheckClaim;
                }
            }
            self.signals.notify.notified().await;
        }
    }
}

impl Drop for RunningSlice {
    fn drop(&mut self) {
        self.hub.state().slices.retain(|slice| !Arc::ptr_eq(slice, &self.signals));
    }
}

/// A watcher's place in what is live.
#[derive(Debug)]
pub(crate) struct Attached {
    hub: Arc<Hub>,
    session: ThreadId,
    bell: watch::Receiver<u64>,
    /// Per thread: the attempt whose text was told, and how much of it.
    seen: HashMap<ThreadId, (u64, usize)>,
}

/// What was live at one moment, to be told after the events that had been committed by then.
#[derive(Debug, Default)]
pub(crate) struct Moment {
    turns: BTreeMap<ThreadId, (u64, Option<String>)>,
}

impl Attached {
    /// Resolves after something live has changed.
    pub(crate) async fn changed(&mut self) {
        if self.bell.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Looks at what is live.
    pub(crate) fn look(&mut self) -> Moment {
        self.bell.mark_unchanged();
        let state = self.hub.state();
        let Some(live) = state.sessions.get(&self.session) else { return Moment::default() };
        let turns = live.turns.iter().map(|(thread, turn)| {
            let told = self.seen.get(thread).filter(|(attempt, _)| *attempt == turn.attempt);
            let told = told.map_or(0, |(_, offset)| *offset);
            let piece = turn.text.get(told..).filter(|piece| !piece.is_empty() && !turn.sealed);
            (thread.clone(), (turn.attempt, piece.map(str::to_owned)))
        });
        Moment { turns: turns.collect() }
    }

    /// What to tell of a moment, after all events that were committed by then have been told; `texts` are the
    /// threads of which one of them was a turn's text.
    pub(crate) fn tell(&mut self, moment: Moment, texts: &HashSet<ThreadId>) -> Vec<Watched> {
        let mut out = Vec::new();
        self.seen.retain(|thread, (attempt, _)| {
            if texts.contains(thread) {
                return false;
            }
            let runs = moment.turns.get(thread).is_some_and(|(running, _)| running == attempt);
            if !runs {
                out.push(Watched::Dropped { thread: thread.clone(), attempt: *attempt });
            }
            runs
        });
        for (thread, (attempt, piece)) in moment.turns {
            let Some(text) = piece else { continue };
            if texts.contains(&thread) {
                // The text may be this very turn's, committed meanwhile; if not, the next look tells the piece.
                continue;
            }
            let (_, offset) = self.seen.entry(thread.clone()).or_insert((attempt, 0));
            let begins = *offset;
            *offset += text.len();
            out.push(Watched::Chunk { thread, attempt, offset: begins, text });
        }
        out
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hub.live(&self.session, |live| live.watchers = live.watchers.saturating_sub(1));
    }
}
