//! Replay: what was decided is decided again, from what was recorded, and held against what was committed (P12).
//!
//! A slice is a pure function of its snapshot, its moment and the model's turn. The record keeps moment, turn and
//! what the slice saw that leaves no other trace ([`SliceFacts`]); inputs and history are kept whole; call and
//! subscription rows are what the slices before it made of them. So a thread is replayed from its first slice on.
//!
//! ```
//! use rap_core::{replay::ThreadReplay, Session, SliceView, HistoryView};
//! # fn demo(session: std::sync::Arc<Session>, history: HistoryView, slices: Vec<SliceView>) {
//! let mut replay = ThreadReplay::new(session, history);
//! for slice in &slices {
//!     let replayed = replay.slice(slice);
//!     println!("{}: {}", replayed.version, replayed.verdict);
//! }
//! # }
//! ```

mod explain;

pub use explain::Explanation;

use crate::{
    CallRow, Child, ChildKind, Commit, DECISIONS_VERSION, Entry, HistoryView, InstantTools, ModelRequest,
    Outcome, Session, SliceFacts, SliceMachine, SliceView, Snapshot, Step, SubscriptionRow,
    SubscriptionState, ThreadKind, ThreadRow, Toolbox, TurnOutcome, history::shown_to_model, machine::record,
};
use rap_types::{CallId, ThreadId};
use serde::Serialize;
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

/// The last version of the decisions whose records may hash every entry of a request; some of that version hash the
/// digest already.
const LAST_WITHOUT_DIGESTS: u32 = 3;

/// The replay of one thread, slice by slice from its first one on.
#[derive(Debug)]
pub struct ThreadReplay {
    session: Arc<Session>,
    toolboxes: Vec<Toolbox>,
    row: ThreadRow,
    history: Vec<Arc<Entry>>,
    inherited: usize,
    calls: BTreeMap<CallId, CallRow>,
    subscriptions: BTreeMap<CallId, SubscriptionRow>,
    children: Vec<Child>,
    previous: String,
    /// The first slice that could not be made again: what it did to the rows is not known.
    gap: Option<i64>,
}

/// A slice that was replayed.
#[derive(Debug)]
pub struct Replayed {
    /// The thread's version after it.
    pub version: i64,
    /// What came of it.
    pub verdict: Verdict,
    /// What it started from; none where that cannot be known.
    pub snapshot: Option<Box<Snapshot>>,
    /// What the model was asked, if it was.
    pub request: Option<Box<ModelRequest>>,
    /// What it decides now.
    pub commit: Option<Box<Commit>>,
}

/// How a replayed slice compares with the recorded one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// The same request, if any, and the same commit, to the last bit.
    Same,
    /// Something came out otherwise.
    Differs(Vec<String>),
    /// It cannot be told.
    Unknown(String),
}

impl Verdict {
    /// The slice came out the same.
    pub fn is_same(&self) -> bool {
        *self == Self::Same
    }

    /// The slice came out otherwise.
    pub fn is_different(&self) -> bool {
        matches!(self, Self::Differs(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("the same"),
            Self::Differs(what) => write!(f, "comes out otherwise: {}", what.join("; ")),
            Self::Unknown(why) => write!(f, "cannot be told: {why}"),
        }
    }
}

/// The name under which a store keeps a toolbox that a session had before
/// ([`Store::put`](crate::Store::put)), as JSON: slices that saw it are replayed with it.
pub fn toolbox_name(session: &ThreadId, fingerprint: &str) -> String {
    format!("toolbox/{session}/{fingerprint}")
}

impl ThreadReplay {
    /// A thread before its first slice. The history is what the thread sees now.
    pub fn new(session: Arc<Session>, history: HistoryView) -> Self {
        Self {
            session,
            toolboxes: Vec::new(),
            row: history.thread.row,
            history: history.entries,
            inherited: history.inherited,
            calls: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            children: Vec::new(),
            previous: String::new(),
            gap: None,
        }
    }

    /// Toolboxes that the session had before the one that it has.
    #[must_use]
    pub fn earlier_toolboxes(mut self, toolboxes: Vec<Toolbox>) -> Self {
        self.toolboxes = toolboxes;
        self
    }

    /// The name of the toolbox that a slice saw, if it is neither the session's nor one of those that were given:
    /// find it in the store and [add](Self::add_toolbox) it before the slice is replayed.
    pub fn wants_toolbox(&self, view: &SliceView) -> Option<String> {
        let wanted = &view.record.facts.as_ref()?.toolbox;
        let known = std::iter::once(&self.session.toolbox).chain(&self.toolboxes);
        let is_known = known.into_iter().any(|toolbox| toolbox.fingerprint() == *wanted);
        (!is_known).then(|| toolbox_name(&self.session.id, wanted))
    }

    /// Adds a toolbox that the session had before.
    pub fn add_toolbox(&mut self, toolbox: Toolbox) {
        self.toolboxes.push(toolbox);
    }

    /// Replays the thread's next slice.
    pub fn slice(&mut self, view: &SliceView) -> Replayed {
        let version = view.version;
        let nothing = |verdict| Replayed { version, verdict, snapshot: None, request: None, commit: None };
        let mut faults = self.chain(view);
        let snapshot = match self.snapshot(view) {
            Ok(snapshot) => snapshot,
            Err(why) => {
                self.gap.get_or_insert(version);
                return nothing(if faults.is_empty() {
                    Verdict::Unknown(why)
                } else {
                    Verdict::Differs(faults)
                });
            }
        };
        let decided = decide(&snapshot, view, &self.calls);
        let Some((request, commit)) = decided else {
            self.gap.get_or_insert(version);
            faults.push("the decisions panic, which is a bug of this version".to_owned());
            return nothing(Verdict::Differs(faults));
        };
        let record = &view.record;
        let mut asked = commit.record.request.clone();
        if asked != record.request
            && record.decisions <= LAST_WITHOUT_DIGESTS
            && let Some(request) = &request
        {
            asked = Some(record::hash_request_of_old(request, &snapshot.session));
        }
        if asked != record.request {
            faults.push(match (&asked, &record.request) {
                (Some(_), Some(_)) => "the model would be asked something else".to_owned(),
                (Some(_), None) => "the model would be asked, and was not".to_owned(),
                _ => "the model was asked, and would not be".to_owned(),
            });
        }
        if record.commit.is_empty() {
            faults.extend(self.entries_differ(&snapshot, &commit));
        } else if commit.record.commit != record.commit {
            let entries = self.entries_differ(&snapshot, &commit);
            faults.push(
                entries.unwrap_or_else(|| "the commit is another one, with the same history".to_owned()),
            );
        }
        if !faults.is_empty() && record.decisions != DECISIONS_VERSION {
            faults.push(format!(
                "it was decided by version {} of the decisions, and this is version {DECISIONS_VERSION}",
                record.decisions
            ));
        }
        self.take_in(&commit);
        let verdict = if faults.is_empty() { Verdict::Same } else { Verdict::Differs(faults) };
        Replayed { version, verdict, snapshot: Some(Box::new(snapshot)), request, commit: Some(commit) }
    }

    /// Whether the record is whole and follows the one before.
    fn chain(&mut self, view: &SliceView) -> Vec<String> {
        let mut faults = Vec::new();
        if record::hash_record(&view.record) != view.record.hash {
            faults.push("its record was altered after it was written".to_owned());
        }
        if view.record.previous != self.previous {
            faults.push("its record does not follow the one before".to_owned());
        }
        self.previous.clone_from(&view.record.hash);
        faults
    }

    /// The snapshot of a slice, or why it is not known.
    fn snapshot(&self, view: &SliceView) -> Result<Snapshot, String> {
        let facts = view.record.facts.as_ref().ok_or("it was recorded by a version that kept less")?;
        if let Some(gap) = self.gap {
            return Err(format!("slice {gap} of the thread, which it follows, cannot be made again"));
        }
        let ids: Vec<_> = view.inputs.iter().map(|input| &input.id).collect();
        if ids != view.record.inputs.iter().collect::<Vec<_>>() {
            return Err("inputs that it saw are no longer kept".to_owned());
        }
        let own = usize::try_from(facts.next_entry).unwrap_or(usize::MAX);
        let seen = self.inherited.checked_add(own).filter(|n| *n <= self.history.len());
        let seen = seen.ok_or("history that it saw is no longer kept")?;
        let named: HashSet<&CallId> = view.inputs.iter().filter_map(|input| input.body.call()).collect();
        Ok(Snapshot {
            session: self.session_of(facts)?,
            completions: facts.completions,
            tokens: facts.tokens,
            open_threads: facts.open_threads,
            thread: self.row_of(view, facts),
            history: shown_to_model(&self.row.chain, &self.row.id, &self.history[..seen]).into(),
            calls: self.calls_needed(&named),
            subscriptions: self.subscriptions_needed(&named),
            asking: facts.asking.clone(),
            children: self.children_of(facts),
            inputs: view.inputs.clone(),
        })
    }

    fn session_of(&self, facts: &SliceFacts) -> Result<Arc<Session>, String> {
        let mut session = self.session.clone();
        if session.toolbox.fingerprint() != facts.toolbox {
            let toolbox = self.toolboxes.iter().find(|toolbox| toolbox.fingerprint() == facts.toolbox);
            let toolbox = toolbox.ok_or("the toolbox that it had is no longer kept")?;
            Arc::make_mut(&mut session).toolbox = toolbox.clone();
        }
        if session.model != facts.model {
            Arc::make_mut(&mut session).model.clone_from(&facts.model);
        }
        Ok(session)
    }

    fn row_of(&self, view: &SliceView, facts: &SliceFacts) -> ThreadRow {
        ThreadRow {
            version: facts.version,
            next_entry: facts.next_entry,
            paused: facts.paused,
            closed: false,
            model_owed: facts.model_owed,
            turn_at: facts.turn_at,
            reported: facts.reported,
            retry_at: facts.retry_at,
            compaction: facts.compaction,
            model: facts.thread_model.clone(),
            waits_for_room: facts.waits_for_room,
            last_record: view.record.previous.clone(),
            ..self.row.clone()
        }
    }

    /// As stores load them: open, of the newest turn, named by an input.
    fn calls_needed(&self, named: &HashSet<&CallId>) -> Vec<CallRow> {
        let newest = self.calls.values().map(|row| row.turn).max();
        let needed =
            |row: &&CallRow| row.state.is_open() || Some(row.turn) == newest || named.contains(&row.id);
        let mut calls: Vec<_> = self.calls.values().filter(needed).cloned().collect();
        calls.sort_by_key(|row| (row.turn, row.index));
        calls
    }

    fn subscriptions_needed(&self, named: &HashSet<&CallId>) -> Vec<SubscriptionRow> {
        let needed =
            |row: &&SubscriptionRow| row.state == SubscriptionState::Active || named.contains(&row.call);
        let mut rows: Vec<_> = self.subscriptions.values().filter(needed).cloned().collect();
        rows.sort_by(|a, b| (a.created_at, &a.call).cmp(&(b.created_at, &b.call)));
        rows
    }

    /// A store may have left out old ones that were closed.
    fn children_of(&self, facts: &SliceFacts) -> Vec<Child> {
        let open: HashSet<_> = facts.open_children.iter().collect();
        let mut left_out = self.children.len().saturating_sub(facts.children);
        let mut children = Vec::new();
        for child in &self.children {
            let open = open.contains(&child.id);
            if !open && left_out > 0 {
                left_out -= 1;
                continue;
            }
            children.push(Child { open, ..child.clone() });
        }
        children
    }

    /// Which entry of the stored history is not what the commit would write.
    fn entries_differ(&self, snapshot: &Snapshot, commit: &Commit) -> Option<String> {
        let first = self.inherited + usize::try_from(snapshot.thread.next_entry).unwrap_or(usize::MAX);
        let differs = |(n, entry): (usize, &Entry)| {
            (self.history.get(first + n).map(AsRef::as_ref) != Some(entry)).then_some(n)
        };
        let n = commit.entries.iter().enumerate().find_map(differs)?;
        Some(format!("entry {} of the history would be another", snapshot.thread.next_entry + n as u64))
    }

    fn take_in(&mut self, commit: &Commit) {
        for row in &commit.calls {
            self.calls.insert(row.id.clone(), row.clone());
        }
        for row in &commit.subscriptions {
            self.subscriptions.insert(row.call.clone(), row.clone());
        }
        for new in &commit.threads {
            let kind = match new.row.kind {
                ThreadKind::Event { .. } => ChildKind::Event,
                _ => ChildKind::Spawned,
            };
            self.children.push(Child { id: new.row.id.clone(), kind, open: true });
        }
    }
}

/// Says what instant tools said then.
fn answered(instants: Vec<Outcome>) -> InstantTools {
    let left = Mutex::new(instants.into_iter());
    InstantTools::new(move |_| left.lock().unwrap_or_else(PoisonError::into_inner).next())
}

type Decided = (Option<Box<ModelRequest>>, Box<Commit>);

/// Decides again; none if the decisions panic.
fn decide(snapshot: &Snapshot, view: &SliceView, calls: &BTreeMap<CallId, CallRow>) -> Option<Decided> {
    catch_unwind(AssertUnwindSafe(|| {
        let window = view.record.facts.as_ref().and_then(|facts| facts.window);
        let mut machine = SliceMachine::new(snapshot.clone(), view.record.moment)
            .with_window(window)
            .with_instant_tools(answered(view.record.instants.clone()));
        let mut asked = None;
        loop {
            match machine.step() {
                Step::Complete(request) => {
                    asked = Some(request);
                    let none = || TurnOutcome::Failed { message: "no turn was recorded".to_owned() };
                    let turn = view.record.turn.clone().unwrap_or_else(none);
                    let lacking = machine.lacks(&turn);
                    lacking.iter().filter_map(|id| calls.get(id)).for_each(|row| machine.knows(row.clone()));
                    machine.turn(turn);
                }
                Step::Commit(commit) => return Some((asked, commit)),
                Step::Done => return None,
            }
        }
    }))
    .ok()
    .flatten()
}
