//! A thread's history: what the model sees, in a form in which every call is followed by its result.
//!
//! Results of a turn are one entry and an event's synthetic call and result are one entry, so that most of
//! P3 (history is always valid for a model) holds by construction: the only thing that can be missing is
//! the results entry of the newest turn.

mod log;

pub use log::{History, HistoryDigest, Sealed};

use crate::Segment;
use rap_types::{CallId, ContentPart, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// One entry of a history. Entries of a thread are numbered from 0 and never change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Entry {
    /// A message on the user's side.
    User(UserEntry),
    /// A turn of the model.
    Turn(TurnEntry),
    /// The results of the calls of the turn before, all of them, in call order.
    Results {
        /// One for each call of the turn.
        results: Vec<ResultEntry>,
    },
    /// What a compaction made of everything before a position. It takes that part's place before the model; people
    /// still see all.
    Summary(SummaryEntry),
    /// Something that happened, shown as a call of `receive_event` and its result (SUB-14).
    Event(EventEntry),
}

/// A summary of everything that a thread sees before a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryEntry {
    /// The position: in the thread itself or in an ancestor that it sees.
    pub covers: Segment,
    /// The summary.
    pub text: String,
}

impl SummaryEntry {
    /// As the model is shown it: on the user's side, so that an assistant's message may follow.
    pub fn shown(&self) -> Entry {
        Entry::from_runtime(format!(
            "Summary of the conversation so far; the messages that it stands for are not shown any more.\n\n{}",
            self.text
        ))
    }
}

/// What the model is shown of the entries along a chain, `own` thread's last: from the newest summary on, if there
/// is one. `entries` begin with the chain's, as many as each segment says.
pub fn shown_to_model(chain: &[Segment], own: &ThreadId, entries: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
    shown_before(chain, own, entries, 0, entries.len())
}

/// The index of the first entry that the newest summary does not cover; 0 where there is none.
pub(crate) fn first_shown(chain: &[Segment], own: &ThreadId, entries: &[Arc<Entry>]) -> usize {
    let newest = entries.iter().rev().find_map(|entry| match &**entry {
        Entry::Summary(summary) => Some(summary),
        _ => None,
    });
    newest.and_then(|summary| index_of(&summary.covers, chain, own)).unwrap_or(0).min(entries.len())
}

/// The same, up to an entry. `left_out`: so many entries come before the first of `entries`.
pub(crate) fn shown_before(
    chain: &[Segment],
    own: &ThreadId,
    entries: &[Arc<Entry>],
    left_out: usize,
    before: usize,
) -> Vec<Arc<Entry>> {
    let newest = entries.iter().rev().find_map(|entry| match &**entry {
        Entry::Summary(summary) => Some(summary),
        _ => None,
    });
    let Some(summary) = newest else { return entries[..before].to_vec() };
    let from = index_of(&summary.covers, chain, own).unwrap_or(0).saturating_sub(left_out);
    let rest =
        entries[..before].iter().skip(from).filter(|entry| !matches!(***entry, Entry::Summary(_))).cloned();
    std::iter::once(Arc::new(summary.shown())).chain(rest).collect()
}

/// Where a position is among the entries along a chain.
fn index_of(position: &Segment, chain: &[Segment], own: &ThreadId) -> Option<usize> {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut before = 0_usize;
    for segment in chain {
        if segment.thread == position.thread {
            return Some(before.saturating_add(number(position.upto)));
        }
        before = before.saturating_add(number(segment.upto));
    }
    (*own == position.thread).then(|| before.saturating_add(number(position.upto)))
}

/// The position of an entry among those along a chain.
pub(crate) fn position_of(index: usize, chain: &[Segment], own: &ThreadId) -> Segment {
    let mut left = index as u64;
    for segment in chain {
        if left < segment.upto {
            return Segment { thread: segment.thread.clone(), upto: left };
        }
        left -= segment.upto;
    }
    Segment { thread: own.clone(), upto: left }
}

/// A message on the user's side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserEntry {
    /// Who wrote it.
    pub author: UserAuthor,
    /// The message's parts.
    pub content: Vec<ContentPart>,
}

/// Who wrote a message on the user's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UserAuthor {
    /// A person.
    Person,
    /// The thread's parent.
    Parent,
    /// The runtime itself.
    Runtime,
}

/// A turn of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnEntry {
    /// The visible text, may be empty.
    pub text: String,
    /// Reasoning, with what its provider needs to take it back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<ReasoningBlock>,
    /// The calls; when there are any, the next entry is their results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<TurnCall>,
    /// The order of its pieces, where it is not the usual one: reasoning, then the text, then the calls. A provider
    /// that signs its turns wants them back as they were. Pieces that it does not name follow in the usual order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<TurnPart>,
    /// A person's message cut the turn short.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// The model that made it.
    pub model: String,
}

/// The place of a piece in the order of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnPart {
    /// The next block of reasoning.
    Reasoning,
    /// So many more bytes of the text.
    Text(usize),
    /// The next call.
    Call,
}

impl TurnPart {
    /// Whether an order is the usual one, which needs no words.
    pub fn is_usual(order: &[Self]) -> bool {
        let rank = |part: &Self| match part {
            Self::Reasoning => 0,
            Self::Text(_) => 1,
            Self::Call => 2,
        };
        let texts = order.iter().filter(|part| matches!(part, Self::Text(_))).count();
        texts <= 1 && order.is_sorted_by_key(rank)
    }
}

/// A piece of a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TurnPiece<'a> {
    /// A block of reasoning.
    Reasoning(&'a ReasoningBlock),
    /// Text, or a part of it.
    Text(&'a str),
    /// A call.
    Call(&'a TurnCall),
}

impl TurnEntry {
    /// All its pieces, in the order in which the model made them; none of the texts is empty.
    ///
    /// ```
    /// use rap_core::{ReasoningBlock, TurnEntry, TurnPart, TurnPiece};
    /// let thought = |text: &str| ReasoningBlock { text: text.into(), signature: None };
    /// let turn = TurnEntry {
    ///     text: "Let me look. Found.".into(),
    ///     reasoning: vec![thought("where?"), thought("there!")],
    ///     calls: vec![],
    ///     order: vec![TurnPart::Reasoning, TurnPart::Text(12), TurnPart::Reasoning],
    ///     interrupted: false,
    ///     model: "p/m".into(),
    /// };
    /// let pieces = turn.pieces();
    /// assert_eq!((pieces[1], pieces[3]), (TurnPiece::Text("Let me look."), TurnPiece::Text(" Found.")));
    /// ```
    pub fn pieces(&self) -> Vec<TurnPiece<'_>> {
        let mut reasoning = self.reasoning.iter().map(TurnPiece::Reasoning);
        let mut calls = self.calls.iter().map(TurnPiece::Call);
        let mut text = self.text.as_str();
        let mut pieces = Vec::new();
        for part in &self.order {
            match part {
                TurnPart::Reasoning => pieces.extend(reasoning.next()),
                TurnPart::Call => pieces.extend(calls.next()),
                TurnPart::Text(bytes) => {
                    let (piece, rest) = text.split_at(text.floor_char_boundary(*bytes));
                    text = rest;
                    pieces.extend((!piece.is_empty()).then_some(TurnPiece::Text(piece)));
                }
            }
        }
        pieces.extend(reasoning);
        pieces.extend((!text.is_empty()).then_some(TurnPiece::Text(text)));
        pieces.extend(calls);
        pieces
    }
}

/// A piece of reasoning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningBlock {
    /// What the model thought, if it shows it.
    pub text: String,
    /// What its provider needs to take the block back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// A call in a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnCall {
    /// The call's own id: the only one on the wire, in events and before the model.
    pub id: CallId,
    /// The tool's name, as the model knows it.
    pub name: String,
    /// The arguments: an object, or whatever the model wrote instead.
    pub arguments: Value,
    /// The provider's own id for the call, for its adapter alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

/// The result of a call, as the model sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResultEntry {
    /// The call.
    pub call: CallId,
    /// What the model sees.
    pub content: Vec<ContentPart>,
    /// The call failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// Not the outcome: a note in its place (still running, cancelled, lost).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub placeholder: bool,
}

/// An event, a late outcome or a report, shown as a call of `receive_event` and its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventEntry {
    /// The id of the synthetic call.
    pub id: CallId,
    /// The tool whose call led to this.
    pub original_tool_name: String,
    /// That call.
    pub original_tool_call_id: CallId,
    /// Its arguments.
    pub original_args: Value,
    /// What happened.
    pub content: Vec<ContentPart>,
    /// It is the outcome of a call that failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
}

impl EventEntry {
    /// The arguments of the synthetic call (SUB-14).
    pub fn arguments(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("original_tool_name".into(), self.original_tool_name.as_str().into());
        map.insert("original_tool_call_id".into(), self.original_tool_call_id.as_str().into());
        map.insert("original_args".into(), self.original_args.clone());
        map
    }
}

impl Entry {
    /// A text from the runtime on the user's side.
    pub fn from_runtime(text: impl Into<String>) -> Self {
        Self::User(UserEntry { author: UserAuthor::Runtime, content: vec![ContentPart::text(text)] })
    }

    /// The calls of a turn; empty for everything else.
    pub fn calls(&self) -> &[TurnCall] {
        match self {
            Self::Turn(turn) => &turn.calls,
            _ => &[],
        }
    }
}

/// The text of content parts, joined by line breaks; what is no text is named in brackets.
pub(crate) fn text_of(content: &[ContentPart]) -> String {
    let parts: Vec<String> = content
        .iter()
        .map(|part| match part {
            ContentPart::Text(text) => text.text.clone(),
            ContentPart::Image(image) => format!("[image {}]", image.media_type),
            _ => "[content of an unknown kind]".to_owned(),
        })
        .collect();
    parts.join("\n")
}
