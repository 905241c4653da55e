//! The slice machine: a snapshot goes in, at most one model request and one commit come out.
//!
//! It never waits and never looks at a clock. Its driver asks [`SliceMachine::next`] what to do, does it,
//! and tells the machine how that ended. The story in order:
//!
//! 1. [`prepare`]: what the inputs mean for the thread: controls, outcomes, then everything else.
//! 2. a model request, if the model has something new to see.
//! 3. [`resolve`]: what the turn's calls mean.
//! 4. one commit, with the record that explains it.

mod approvals;
mod clock;
mod compact;
mod draft;
mod kit;
mod prepare;
pub(crate) mod record;
mod resolve;
pub(crate) mod rest;
mod turn;

pub(crate) use draft::Draft;
pub(crate) use resolve::Resolution;

use crate::{CallRow, Commit, InstantTools, ModelRequest, Moment, Session, Snapshot, TurnOutcome, builtin};
use rap_types::CallId;
use std::{collections::BTreeSet, sync::Arc};

/// The fingerprint of a session's toolbox, which is the same for all its slices.
pub(crate) fn toolbox_fingerprint(session: &Arc<Session>) -> String {
    kit::of(session).fingerprint.clone()
}

/// What a driver is to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Ask the model, then call [`SliceMachine::turn`].
    Complete(Box<ModelRequest>),
    /// Write this, then call [`SliceMachine::committed`].
    Commit(Box<Commit>),
    /// Nothing: the slice is over.
    Done,
}

/// One slice of one thread.
#[derive(Debug)]
pub struct SliceMachine {
    beginning: record::Beginning,
    draft: Draft,
    request: Option<Box<ModelRequest>>,
    turn: Option<TurnOutcome>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fresh,
    Asked,
    Decided,
    Over,
}

impl SliceMachine {
    /// A slice that starts from a snapshot.
    pub fn new(snapshot: Snapshot, moment: Moment) -> Self {
        let beginning = record::Beginning::of(&snapshot, moment);
        let draft = Draft::new(snapshot, moment);
        Self { beginning, draft, request: None, turn: None, phase: Phase::Fresh }
    }

    /// With the window of the model that [the slice asks](Snapshot::next_model), in tokens, where it is known: a result
    /// shows at most a tenth of it ([`Rules::result_bytes`](crate::Rules::result_bytes)). To be said before the first
    /// step; it is kept in the record (P12).
    #[must_use]
    pub fn with_window(mut self, window: Option<u64>) -> Self {
        let window = window.filter(|tokens| *tokens > 0);
        self.draft.window = window;
        self.beginning.saw_window(window);
        self
    }

    /// With what answers the program's own instant tools. Without, each answers that it is there no more. To be said
    /// before the first step.
    #[must_use]
    pub fn with_instant_tools(mut self, tools: InstantTools) -> Self {
        self.draft.instant_tools = tools;
        self
    }

    /// What to do now. Asked twice, it answers the same.
    pub fn step(&mut self) -> Step {
        loop {
            match self.phase {
                Phase::Fresh => {
                    prepare::prepare(&mut self.draft);
                    self.request = turn::request(&mut self.draft).map(Box::new);
                    self.phase = if self.request.is_some() { Phase::Asked } else { Phase::Decided };
                }
                Phase::Asked => {
                    let request = self.request.clone().expect("bug: a request was made");
                    return Step::Complete(request);
                }
                Phase::Decided => {
                    let mut commit = self.draft.commit(self.beginning.blank());
                    commit.record.instants.clone_from(&self.draft.instants);
                    record::seal(
                        &mut commit,
                        &self.draft.snapshot.session,
                        self.request.as_deref(),
                        self.turn.clone(),
                    );
                    return Step::Commit(Box::new(commit));
                }
                Phase::Over => return Step::Done,
            }
        }
    }

    /// The calls that a turn names and that the machine does not know: it is to be [told](Self::knows) of those that there
    /// are ([`Store::call`](crate::Store::call)) before it is told of the [turn](Self::turn).
    pub fn lacks(&self, outcome: &TurnOutcome) -> Vec<CallId> {
        let TurnOutcome::Turn(turn) = outcome else { return Vec::new() };
        let named = turn.calls.iter().filter_map(|call| builtin::names_call(&call.name, &call.arguments));
        let lacking: BTreeSet<CallId> = named.filter(|id| self.draft.call(id).is_none()).collect();
        lacking.into_iter().collect()
    }

    /// A call of the thread that the turn names and the snapshot did not hold.
    pub fn knows(&mut self, row: CallRow) {
        if row.thread == *self.draft.thread() && self.draft.call(&row.id).is_none() {
            // In its place: a commit lists calls in the order in which they were made.
            let calls = &mut self.draft.snapshot.calls;
            let place = calls.partition_point(|other| (other.turn, other.index) < (row.turn, row.index));
            calls.insert(place, row);
        }
    }

    /// How the completion ended.
    pub fn turn(&mut self, outcome: TurnOutcome) {
        debug_assert_eq!(self.phase, Phase::Asked, "bug: no completion was asked for");
        self.turn = Some(outcome.clone());
        turn::ended(&mut self.draft, outcome);
        self.phase = Phase::Decided;
    }

    /// The commit was written.
    pub fn committed(&mut self) {
        self.phase = Phase::Over;
    }
}
