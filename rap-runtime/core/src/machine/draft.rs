//! The draft of a commit: the snapshot and everything that the slice has decided so far.

use crate::{
    CallRow, CallState, Child, ChildKind, Commit, Compaction, DeadLetter, Entry, EventEntry, HistoryDigest,
    Input, InstantTools, Millis, Moment, NewDelivery, NewInput, NewThread, Outcome, Rules, SliceRecord,
    Snapshot, SubscriptionRow, Surface, SurfaceEvent, ThreadUpdate, Usage, compaction::BYTES_PER_TOKEN,
    derive_call_id, history::text_of,
};
use rap_types::{CallId, ContentPart, ThreadId};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, sync::Arc};

/// The trace of a well-formed `traceparent`.
fn trace_of(traceparent: &str) -> Option<&str> {
    let trace = traceparent.split('-').nth(1)?;
    let hex = trace.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (trace.len() == 32 && hex && trace.bytes().any(|b| b != b'0')).then_some(trace)
}

#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) snapshot: Snapshot,
    pub(crate) moment: Moment,
    /// The window of the model that this slice asks, in tokens.
    pub(crate) window: Option<u64>,
    pub(crate) instant_tools: InstantTools,
    /// What they answered.
    pub(crate) instants: Vec<Outcome>,
    /// Tokens that were used and that this slice takes note of.
    pub(crate) tokens: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) consumed: Vec<i64>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) threads: Vec<NewThread>,
    pub(crate) inputs: Vec<NewInput>,
    pub(crate) outbox: Vec<NewDelivery>,
    pub(crate) cancel: Vec<CallId>,
    pub(crate) close: bool,
    pub(crate) pause: bool,
    /// The newest stop, by `seq`.
    pub(crate) stopped_by: Option<i64>,
    pub(crate) resume: bool,
    pub(crate) completed: bool,
    pub(crate) surface: Vec<SurfaceEvent>,
    pub(crate) model_owed: bool,
    pub(crate) turn_at: Option<Millis>,
    pub(crate) reported: bool,
    pub(crate) retry_at: Option<Millis>,
    pub(crate) waits_for_room: Option<usize>,
    pub(crate) compaction: Compaction,
    /// The model that was chosen for the thread.
    pub(crate) model: Option<String>,
    /// A summary was stored: what the model is shown is known to the next slice only.
    pub(crate) summarised: bool,
    pub(crate) due_at: Option<Millis>,
    changed_calls: BTreeSet<CallId>,
    changed_subscriptions: BTreeSet<CallId>,
}

impl Draft {
    pub(crate) fn new(snapshot: Snapshot, moment: Moment) -> Self {
        Self {
            model_owed: snapshot.thread.model_owed,
            turn_at: snapshot.thread.turn_at,
            reported: snapshot.thread.reported,
            retry_at: snapshot.thread.retry_at,
            waits_for_room: None,
            compaction: snapshot.thread.compaction,
            model: snapshot.thread.model.clone(),
            summarised: false,
            snapshot,
            moment,
            window: None,
            instant_tools: InstantTools::none(),
            instants: Vec::new(),
            tokens: 0,
            entries: Vec::new(),
            consumed: Vec::new(),
            dead_letters: Vec::new(),
            threads: Vec::new(),
            inputs: Vec::new(),
            outbox: Vec::new(),
            cancel: Vec::new(),
            close: false,
            pause: false,
            stopped_by: None,
            resume: false,
            completed: false,
            surface: Vec::new(),
            due_at: None,
            changed_calls: BTreeSet::new(),
            changed_subscriptions: BTreeSet::new(),
        }
    }

    pub(crate) fn now(&self) -> Millis {
        self.moment.now
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.snapshot.session.rules
    }

    pub(crate) fn thread(&self) -> &ThreadId {
        &self.snapshot.thread.id
    }

    /// The thread's stack of ids, root first, itself last.
    pub(crate) fn stack(&self) -> Vec<ThreadId> {
        let mut stack = self.snapshot.thread.ancestors.clone();
        stack.push(self.thread().clone());
        stack
    }

    /// The model that answers the thread, as this slice leaves it; none stands for the runtime's default.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref().or(self.snapshot.session.model.as_deref())
    }

    /// The thread is stopped, as this slice leaves it.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause || (self.snapshot.thread.paused && !self.resume)
    }

    /// The number that the next entry gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.snapshot.thread.next_entry + self.entries.len() as u64
    }

    pub(crate) fn last_entry(&self) -> Option<&Entry> {
        self.entries.last().or_else(|| self.snapshot.history.last().map(Arc::as_ref))
    }

    /// The number of the newest turn if its results are not in history yet.
    pub(crate) fn open_turn(&self) -> Option<u64> {
        let last = self.last_entry()?;
        (!last.calls().is_empty()).then(|| self.next_number().saturating_sub(1))
    }

    /// Where a thread that inherits this history has to end so that no call is without its result.
    pub(crate) fn safe_point(&self) -> u64 {
        self.open_turn().unwrap_or_else(|| self.next_number())
    }

    /// Makes the thread due at a time, at the latest.
    pub(crate) fn wake_at(&mut self, at: Millis) {
        self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
    }

    pub(crate) fn show(&mut self, what: Surface) {
        let thread = self.thread().clone();
        self.surface.push(SurfaceEvent { thread, what });
    }

    pub(crate) fn consume(&mut self, input: &Input) {
        self.consumed.push(input.seq);
    }

    pub(crate) fn dead_letter(&mut self, input: &Input, reason: impl Into<String>) {
        self.dead_letters.push(DeadLetter { seq: input.seq, reason: reason.into() });
    }

    pub(crate) fn call(&self, id: &CallId) -> Option<&CallRow> {
        self.snapshot.calls.iter().find(|row| row.id == *id)
    }

    /// A call's row, to be changed.
    pub(crate) fn change_call(&mut self, id: &CallId) -> Option<&mut CallRow> {
        let row = self.snapshot.calls.iter_mut().find(|row| row.id == *id)?;
        self.changed_calls.insert(row.id.clone());
        Some(row)
    }

    pub(crate) fn add_call(&mut self, row: CallRow) {
        self.changed_calls.insert(row.id.clone());
        self.snapshot.calls.push(row);
    }

    /// The rows of a turn, in call order.
    pub(crate) fn turn_rows(&self, turn: u64) -> Vec<&CallRow> {
        let mut rows: Vec<_> = self.snapshot.calls.iter().filter(|row| row.turn == turn).collect();
        rows.sort_by_key(|row| row.index);
        rows
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.snapshot.calls.iter().filter(|row| row.state.is_open()).count()
    }

    pub(crate) fn subscription(&self, call: &CallId) -> Option<&SubscriptionRow> {
        self.snapshot.subscriptions.iter().find(|row| row.call == *call)
    }

    pub(crate) fn change_subscription(&mut self, call: &CallId) -> Option<&mut SubscriptionRow> {
        let row = self.snapshot.subscriptions.iter_mut().find(|row| row.call == *call)?;
        self.changed_subscriptions.insert(row.call.clone());
        Some(row)
    }

    pub(crate) fn add_subscription(&mut self, row: SubscriptionRow) {
        self.changed_subscriptions.insert(row.call.clone());
        self.snapshot.subscriptions.push(row);
    }

    /// Adds a thread, and counts it.
    pub(crate) fn add_thread(&mut self, thread: NewThread, kind: ChildKind) {
        self.snapshot.open_threads += 1;
        self.snapshot.children.push(Child { id: thread.row.id.clone(), kind, open: true });
        self.threads.push(thread);
    }

    /// Cancels a call's work at its servers, whatever state its row is in. The program's own is taken back where nobody
    /// has begun it.
    pub(crate) fn cancel_at_servers(&mut self, call: &CallRow) {
        if call.route.is_sent() {
            self.cancel.push(call.id.clone());
        }
    }

    /// Adds an event to the history, as a call of `receive_event` and its result, and owes the model a look.
    pub(crate) fn add_event(&mut self, name: &str, call: &CallId, arguments: Value, outcome: &Outcome) {
        let id = derive_call_id(self.thread(), self.next_number(), 0);
        let content = self.for_model(&outcome.content);
        self.entries.push(Entry::Event(EventEntry {
            id,
            original_tool_name: name.to_owned(),
            original_tool_call_id: call.clone(),
            original_args: arguments,
            content,
            is_error: outcome.is_error,
        }));
        self.model_owed = true;
    }

    /// What the model is shown of a result: all of it, or its beginning with a note.
    pub(crate) fn for_model(&self, content: &[ContentPart]) -> Vec<ContentPart> {
        let of_window = self.window.map_or(usize::MAX, |tokens| {
            usize::try_from(tokens.saturating_mul(BYTES_PER_TOKEN) / 10).unwrap_or(usize::MAX)
        });
        let mut left = self.rules().result_bytes.min(of_window);
        let mut shown = Vec::with_capacity(content.len());
        for part in content {
            match part {
                ContentPart::Text(text) if text.text.len() > left => {
                    let cut = text.text.floor_char_boundary(left);
                    let note = format!(
                        "{}\n[cut here: {} more bytes of this result are not shown]",
                        &text.text[..cut],
                        text.text.len() - cut
                    );
                    shown.push(ContentPart::text(note));
                    left = 0;
                }
                ContentPart::Text(text) => {
                    left -= text.text.len();
                    shown.push(part.clone());
                }
                _ => shown.push(part.clone()),
            }
        }
        shown
    }

    /// Takes note of tokens that the model has read and written.
    pub(crate) fn spend(&mut self, usage: Usage) {
        self.tokens = self.tokens.saturating_add(usage.input).saturating_add(usage.output);
    }

    /// Shows people the result of a call.
    pub(crate) fn show_result(&mut self, call: &CallId, name: &str, outcome: &Outcome, late: bool) {
        self.show(Surface::Result {
            call: call.clone(),
            name: name.to_owned(),
            text: text_of(&outcome.content),
            display: outcome.display.clone(),
            is_error: outcome.is_error,
            late,
        });
    }

    /// Marks a call as done, with what came of it.
    pub(crate) fn finish_call(&mut self, id: &CallId, state: CallState, outcome: Outcome) {
        if let Some(row) = self.change_call(id) {
            row.state = state;
            row.outcome = Some(outcome);
        }
    }

    /// W3C trace context for what this slice sends: its own span, in the trace of the newest input that came with one,
    /// else in a trace of its own. It follows from the slice, so that it is the same when the slice is made again.
    pub(crate) fn traceparent(&self) -> String {
        let row = &self.snapshot.thread;
        let id = |what: &str| {
            let mut hash = Sha256::new();
            hash.update(format!("{what}\0{}\0{}", row.id, row.version));
            data_encoding::HEXLOWER.encode(&hash.finalize()[..16])
        };
        let of_inputs = self.snapshot.inputs.iter().rev().filter_map(|input| input.traceparent.as_deref());
        let trace = of_inputs.filter_map(trace_of).next().map_or_else(|| id("trace"), ToOwned::to_owned);
        format!("00-{trace}-{}-01", &id("span")[..16])
    }

    /// The commit as decided so far.
    pub(crate) fn commit(&self, record: SliceRecord) -> Commit {
        let snapshot = &self.snapshot;
        Commit {
            thread: snapshot.thread.id.clone(),
            version: snapshot.thread.version,
            seen: snapshot.inputs.last().map_or(0, |input| input.seq),
            consumed: self.consumed.clone(),
            dead_letters: self.dead_letters.clone(),
            entries: self.entries.clone(),
            calls: snapshot
                .calls
                .iter()
                .filter(|row| self.changed_calls.contains(&row.id))
                .cloned()
                .collect(),
            subscriptions: snapshot
                .subscriptions
                .iter()
                .filter(|row| self.changed_subscriptions.contains(&row.call))
                .cloned()
                .collect(),
            threads: self.threads.clone(),
            inputs: self.inputs.clone(),
            outbox: self.outbox.clone(),
            cancel: self.cancel.clone(),
            close: self.close,
            pause: self.pause,
            stopped_by: self.stopped_by,
            resume: self.resume,
            completed: self.completed,
            tokens: self.tokens,
            surface: self.surface.clone(),
            update: ThreadUpdate {
                model_owed: self.model_owed,
                turn_at: self.turn_at,
                reported: self.reported,
                retry_at: self.retry_at,
                waits_for_room: self.waits_for_room,
                compaction: self.compaction,
                model: self.model.clone(),
                due_at: if self.close || self.is_paused() { None } else { self.due_at },
            },
            shown: self.shown(),
            record,
        }
    }

    /// The digest of what the model is shown after this slice. With a summary that begins anew.
    fn shown(&self) -> Option<HistoryDigest> {
        if self.summarised {
            return None;
        }
        Some(self.snapshot.history.known_digest()?.and(&self.entries))
    }
}
