//! The limits and policies that decisions follow. Times are milliseconds.

use serde::{Deserialize, Serialize};

/// Limits and policies; [`Rules::default`] is what the documents promise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Rules {
    /// How long a turn waits for its other calls once one is answered. Long-running tools get none.
    pub patience_ms: i64,
    /// How long events, reports, late outcomes and messages of a parent wait for calls that may soon end.
    pub hold_ms: i64,
    /// How deep threads may nest below a root.
    pub depth: usize,
    /// Open threads in a session.
    pub open_threads: usize,
    /// Active subscriptions of a thread.
    pub subscriptions: usize,
    /// Calls in a turn.
    pub calls_per_turn: usize,
    /// Bytes of a result that a model is shown, and no more than a tenth of its window, with a note where that is not
    /// all. It is whole in the store.
    pub result_bytes: usize,
    /// Completions of a session without a person's message, before it is put to rest.
    pub completions: u64,
    /// Tokens that the models of a session read and write without a person's message, before it is put to rest; none
    /// for no limit. Counted as providers report them, cached ones and summaries included.
    pub tokens: Option<u64>,
    /// Events parked with a call that is still pending.
    pub parked_events: usize,
    /// Views that a thread keeps, one for each `view_type`. One more, and the view that was longest without an
    /// update goes.
    pub views: usize,
    /// Dead letters that a thread keeps of what it never took: outcomes that nobody awaits, requests that were given up.
    /// One more, and the oldest of these goes. Inputs that were accepted are kept all, whatever became of them (P1).
    pub dead_letters: usize,
    /// Unconsumed inputs of a thread: with so many, its servers, parent and children are told to come again. A thousand
    /// messages of people fit in all the same, and what ends or stops it always does.
    pub inbox: usize,
    /// Bytes of a thread's unconsumed inputs, as JSON: with so many, servers are told to come again with their events; with
    /// twice as many, with outcomes of calls too. People, parents and children never are, nor tools of the program's own.
    pub inbox_bytes: u64,
    /// What happens to calls of destructive tools.
    pub destructive: DestructivePolicy,
    /// Tools, by the name before the model, that are treated as destructive ones are, whatever they say of
    /// themselves.
    pub ask_for: Vec<String>,
    /// How much of the model's window, in percent, a turn fills before the thread's history is summarised.
    pub compact_at: u8,
}

/// What happens to calls of tools that say of themselves that they destroy (CON-02).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestructivePolicy {
    /// They are declined, and the model is told.
    Deny,
    /// They run: whoever set this has consented (CON-01).
    Allow,
    /// A person is asked, each time; the call waits until somebody answers.
    #[default]
    Ask,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            patience_ms: 30_000,
            hold_ms: 30_000,
            depth: 8,
            open_threads: 256,
            subscriptions: 64,
            calls_per_turn: 64,
            result_bytes: 64 * 1024,
            completions: 200,
            // As many completions of a quarter of a million tokens each: smaller windows never come so far.
            tokens: Some(50_000_000),
            parked_events: 64,
            views: 64,
            dead_letters: 1_000,
            inbox: 10_000,
            inbox_bytes: 64 * 1024 * 1024,
            destructive: DestructivePolicy::default(),
            ask_for: Vec::new(),
            compact_at: 75,
        }
    }
}
