//! Compaction: a thread's older history is put into words by the model, in one request without tools, and the words
//! take its place before the model. Nothing is deleted, and nothing that outcomes need is in history alone: calls,
//! subscriptions and children are rows of their own.
//!
//! Pure, like a slice: [`Compactor::step`] says what to ask, [`Compactor::turn`] hears how that ended, and the end
//! is an input that the thread's next slice stores. What is covered: everything before the safe point, never the last
//! message on the user's side (a person's or a parent's message, an event, results together with their turn), so
//! that the model has something to answer. A request that does not fit has its oldest tool results replaced by a
//! note, and is summarised in pieces where that is not enough.

use crate::{
    Entry, HistoryView, InputBody, InputId, ModelRequest, NewInput, Segment, Session, TurnOutcome, Usage,
    history::{position_of, shown_before},
};
use rap_types::{ContentPart, ThreadId};
use std::sync::Arc;

/// How often a request may turn out too large before the compaction is given up; each time half as much is asked.
const HALVINGS: u32 = 6;
/// Bytes of a request, or of a result, for each token of the window: careful, since a token is more than this in most
/// texts.
pub(crate) const BYTES_PER_TOKEN: u64 = 2;
/// Results that are shorter stay.
const SHORT: usize = 200;
const LEFT_OUT: &str = "[this result is left out of the summary's request, which is too long with it]";

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum CompactorStep {
    /// Ask the model, then call [`Compactor::turn`].
    Ask(Box<ModelRequest>),
    /// It is over: the thread gets this input.
    Done(Box<NewInput>),
}

/// One compaction of one thread.
#[derive(Debug)]
pub struct Compactor {
    session: Arc<Session>,
    thread: ThreadId,
    model: Option<String>,
    depth: usize,
    /// Tells the inputs of compactions that came to nothing apart.
    version: i64,
    covers: Option<Segment>,
    left: Vec<Arc<Entry>>,
    so_far: Option<String>,
    /// Bytes that a request may have.
    budget: usize,
    /// How many of `left` the last request held, and its size in bytes.
    asked: (usize, usize),
    halvings: u32,
    usage: Usage,
    failed: Option<String>,
}

impl Compactor {
    /// A compaction of a thread as its history is now, from the newest summary on
    /// ([`Store::recent_history`](crate::Store::recent_history)). `window`: the model's, in tokens.
    pub fn new(session: Arc<Session>, view: &HistoryView, window: Option<u64>) -> Self {
        let row = &view.thread.row;
        let cut = cut(&view.entries);
        let shown = shown_before(&row.chain, &row.id, &view.entries, view.left_out, cut);
        // Only a summary that is there already, or next to nothing: that is as short as it gets.
        let worth = shown.len() > 1;
        let budget = window.map_or(usize::MAX, |window| {
            usize::try_from(window.saturating_mul(BYTES_PER_TOKEN)).unwrap_or(usize::MAX)
        });
        Self {
            model: row.model.clone().or_else(|| session.model.clone()),
            session,
            thread: row.id.clone(),
            depth: row.ancestors.len(),
            version: row.version,
            covers: worth.then(|| position_of(view.left_out + cut, &row.chain, &row.id)),
            left: shown,
            so_far: None,
            budget,
            asked: (0, 0),
            halvings: 0,
            usage: Usage::default(),
            failed: None,
        }
    }

    /// What to do now. Asked twice, it answers the same.
    pub fn step(&mut self) -> CompactorStep {
        if let Some(reason) = self.failed.clone() {
            return self.done(InputId::control(&format!("not_compacted:{}", self.version)), {
                InputBody::NotCompacted { reason }
            });
        }
        let Some(covers) = self.covers.clone() else {
            self.failed = Some("there is nothing older that could be summarised".to_owned());
            return self.step();
        };
        if let (true, Some(text)) = (self.left.is_empty(), self.so_far.clone()) {
            let usage = self.usage;
            return self.done(InputId::summary(&covers), InputBody::Summary { covers, text, usage });
        }
        let piece = self.piece();
        self.asked = (piece.len(), piece.iter().map(|entry| size(entry)).sum());
        let before = self
            .so_far
            .iter()
            .map(|text| Arc::new(Entry::from_runtime(format!("Summary of what came before:\n\n{text}"))));
        let history =
            before.chain(piece).chain(std::iter::once(Arc::new(Entry::from_runtime(INSTRUCTIONS)))).collect();
        CompactorStep::Ask(Box::new(ModelRequest {
            session: self.session.id.clone(),
            thread: self.thread.clone(),
            depth: self.depth,
            model: self.model.clone(),
            system: Arc::from(self.session.system.as_str()),
            tools: Arc::from([]),
            history,
        }))
    }

    /// How the request ended.
    pub fn turn(&mut self, outcome: TurnOutcome) {
        match outcome {
            TurnOutcome::Turn(turn) if turn.text.trim().is_empty() => {
                self.failed = Some("the model wrote no summary".to_owned());
            }
            TurnOutcome::Turn(turn) => {
                self.usage.input = self.usage.input.saturating_add(turn.usage.input);
                self.usage.output = self.usage.output.saturating_add(turn.usage.output);
                self.so_far = Some(turn.text);
                self.left.drain(..self.asked.0);
            }
            TurnOutcome::Overflow { message } => {
                self.halvings += 1;
                self.budget = self.budget.min(self.asked.1) / 2;
                if self.halvings > HALVINGS {
                    self.failed = Some(message);
                }
            }
            TurnOutcome::Failed { message } | TurnOutcome::RetryAt { message, .. } => {
                self.failed = Some(message);
            }
            TurnOutcome::Interrupted { .. } => self.failed = Some("it was interrupted".to_owned()),
        }
    }

    fn done(&self, id: InputId, body: InputBody) -> CompactorStep {
        CompactorStep::Done(Box::new(NewInput {
            thread: self.thread.clone(),
            id,
            source: "compaction".into(),
            body,
            traceparent: None,
        }))
    }

    /// What the next request holds: all that is left, its oldest results left out, or as much from its beginning
    /// as fits.
    fn piece(&self) -> Vec<Arc<Entry>> {
        let mut total: usize = self.left.iter().map(|entry| size(entry)).sum();
        let mut piece = self.left.clone();
        for entry in &mut piece {
            if total <= self.budget {
                return piece;
            }
            if let Some(shorter) = without_results(entry) {
                total = total - size(entry) + size(&shorter);
                *entry = Arc::new(shorter);
            }
        }
        if total <= self.budget {
            return piece;
        }
        let mut taken = 0;
        let mut end = 0;
        for (index, entry) in piece.iter().enumerate() {
            taken += size(entry);
            if taken > self.budget && end > 0 {
                break;
            }
            // A turn with calls and their results are never apart.
            if entry.calls().is_empty() {
                end = index + 1;
            }
        }
        piece.truncate(end.max(1));
        let each = (self.budget / piece.len().max(1)).max(SHORT);
        piece.iter().map(|entry| clipped(entry, each)).collect()
    }
}

const INSTRUCTIONS: &str = "Summarise the conversation above, so that you can go on from your summary alone. Keep \
what was asked for, in the words of the user where they matter, what was decided and why, what was done and what came of it, \
names, ids, numbers and paths that will be needed, and what is still open. Write only the summary, and call no tools.";

/// The index before which everything may be covered.
fn cut(entries: &[Arc<Entry>]) -> usize {
    let mut end = entries.len();
    // The safe point: a turn whose results are not there yet is left out.
    if entries.last().is_some_and(|last| !last.calls().is_empty()) {
        end -= 1;
    }
    let on_the_users_side = |entry: &Entry| !matches!(entry, Entry::Turn(_) | Entry::Summary(_));
    let Some(last) = entries[..end].iter().rposition(|entry| on_the_users_side(entry)) else { return 0 };
    match &*entries[last] {
        Entry::Results { .. } => last.saturating_sub(1),
        _ => last,
    }
}

fn size(entry: &Entry) -> usize {
    let parts = |content: &[ContentPart]| {
        let bytes = content.iter().map(|part| match part {
            ContentPart::Text(text) => text.text.len(),
            ContentPart::Image(image) => image.data.as_bytes().len(),
            _ => 64,
        });
        bytes.sum::<usize>()
    };
    32 + match entry {
        Entry::User(user) => parts(&user.content),
        Entry::Turn(turn) => {
            let calls = turn.calls.iter().map(|call| call.name.len() + call.arguments.to_string().len());
            let reasoning = turn.reasoning.iter().map(|block| block.text.len());
            turn.text.len() + calls.sum::<usize>() + reasoning.sum::<usize>()
        }
        Entry::Results { results } => results.iter().map(|result| 32 + parts(&result.content)).sum(),
        Entry::Event(event) => parts(&event.content) + event.original_args.to_string().len(),
        Entry::Summary(summary) => summary.text.len(),
    }
}

/// The entry with a note in the place of long results; none if it has none.
fn without_results(entry: &Entry) -> Option<Entry> {
    let Entry::Results { results } = entry else { return None };
    let mut results = results.clone();
    let mut any = false;
    for result in &mut results {
        let long = |part: &ContentPart| match part {
            ContentPart::Text(text) => text.text.len() > SHORT,
            _ => true,
        };
        if result.content.iter().any(long) {
            result.content = vec![ContentPart::text(LEFT_OUT)];
            any = true;
        }
    }
    any.then_some(Entry::Results { results })
}

/// The entry with its texts cut to so many bytes each.
fn clipped(entry: &Arc<Entry>, bytes: usize) -> Arc<Entry> {
    if size(entry) <= bytes {
        return entry.clone();
    }
    let clip = |text: &mut String| {
        if text.len() > bytes {
            text.truncate(text.floor_char_boundary(bytes));
            text.push_str(" [cut here]");
        }
    };
    let clip_parts = |content: &mut Vec<ContentPart>| {
        for part in content {
            match part {
                ContentPart::Text(text) => clip(&mut text.text),
                _ => *part = ContentPart::text("[an image, left out]"),
            }
        }
    };
    let mut entry = (**entry).clone();
    match &mut entry {
        Entry::User(user) => clip_parts(&mut user.content),
        Entry::Turn(turn) => {
            clip(&mut turn.text);
            turn.reasoning.clear();
        }
        Entry::Results { results } => results.iter_mut().for_each(|result| clip_parts(&mut result.content)),
        Entry::Event(event) => clip_parts(&mut event.content),
        Entry::Summary(summary) => clip(&mut summary.text),
    }
    Arc::new(entry)
}
