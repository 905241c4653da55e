//! What a slice asks of a model and what it gets.

use crate::{History, ReasoningBlock, ToolForModel, TurnPart};
use rap_types::ThreadId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// One completion to make. System prompt and tools are the same for all threads of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRequest {
    /// The session: its root thread.
    pub session: ThreadId,
    /// The thread that asks.
    pub thread: ThreadId,
    /// The thread's depth: 0 for the root.
    pub depth: usize,
    /// The model, as `provider/model`; none stands for the runtime's default.
    pub model: Option<String>,
    /// The system prompt.
    pub system: Arc<str>,
    /// The tools.
    pub tools: Arc<[ToolForModel]>,
    /// The history, oldest first: valid for a strict provider (P3).
    pub history: History,
}

/// A turn of the model, whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelTurn {
    /// The visible text.
    pub text: String,
    /// Reasoning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasoning: Vec<ReasoningBlock>,
    /// The calls, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<ModelCall>,
    /// The order of all that, where it is not the usual one ([`TurnEntry::order`](crate::TurnEntry)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<TurnPart>,
    /// Tokens used.
    #[serde(default)]
    pub usage: Usage,
    /// Why the model stopped.
    #[serde(default)]
    pub stop: StopReason,
    /// The model that made it.
    pub model: String,
    /// The model's window, in tokens; none where it is not known, and then nothing is compacted by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

/// A call as a model made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The tool's name.
    pub name: String,
    /// An object; anything else is what the model wrote instead of one.
    pub arguments: Value,
    /// The provider's own id for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
}

/// Tokens used by a completion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    pub input: u64,
    /// Tokens written.
    pub output: u64,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StopReason {
    /// It was done.
    #[default]
    End,
    /// It called tools.
    Calls,
    /// It reached its output limit.
    Length,
    /// It refused, or a filter did.
    Refused,
}

/// How a completion ended, as the driver tells the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum TurnOutcome {
    /// A whole turn.
    Turn(ModelTurn),
    /// A message, stop or close cut it short; the visible text until then.
    Interrupted {
        /// The text, may be empty.
        text: String,
        /// The model.
        model: String,
    },
    /// It failed for good (ERR-01).
    Failed {
        /// What happened and what to do, for people; without secrets.
        message: String,
    },
    /// The request does not fit the model's window: the history is to be summarised, and the model asked again.
    Overflow {
        /// What happened, for people.
        message: String,
    },
    /// It failed, and the next try is too far away to wait for it.
    RetryAt {
        /// When to try again, in milliseconds since the epoch.
        at: crate::Millis,
        /// What happened, for people.
        message: String,
    },
}
