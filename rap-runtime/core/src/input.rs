//! Inputs: everything that can wake a thread.

use crate::{Millis, Segment, Usage};
use rap_types::{CallId, ContentPart, DisplaySegment, EventId, SubscriptionEvent, ThreadId, ToolResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The name of an input, unique in its thread: an input id has at most one effect (P2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InputId(String);

impl InputId {
    /// A person's message, by the sender's idempotency key.
    pub fn message(key: &str) -> Self {
        Self(format!("message:{key}"))
    }

    /// The outcome of a call: one per call, for the life of its thread.
    pub fn outcome(call: &CallId) -> Self {
        Self(format!("outcome:{call}"))
    }

    /// The runtime's own word that a call could not be delivered.
    pub fn undelivered(call: &CallId) -> Self {
        Self(format!("undelivered:{call}"))
    }

    /// An event of a subscription. One without an `event_id` counts as often as it is sent: `nonce` tells
    /// its copies apart.
    pub fn event(call: &CallId, event: Option<&EventId>, nonce: &str) -> Self {
        match event {
            Some(event) => Self(format!("event:{call}:{event}")),
            None => Self(format!("event:{call}::{nonce}")),
        }
    }

    /// A message from one thread to another, by what the sender derived it from.
    pub fn between_threads(cause: &str) -> Self {
        Self(format!("thread:{cause}"))
    }

    /// A person's word on a call that needs one: one per call.
    pub fn approval(call: &CallId) -> Self {
        Self(format!("approval:{call}"))
    }

    /// A summary, by the position that it covers.
    pub fn summary(covers: &Segment) -> Self {
        Self(format!("summary:{}:{}", covers.thread, covers.upto))
    }

    /// A control, by the sender's idempotency key.
    pub fn control(key: &str) -> Self {
        Self(format!("control:{key}"))
    }

    /// That the clock was set back, by the newest time that was ever written.
    pub fn clock_set_back(newest: Millis) -> Self {
        Self(format!("clock:{}", newest.0))
    }

    /// An id that was stored.
    pub fn from_stored(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InputId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An input on its way into the store.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NewInput {
    /// The thread it is for.
    pub thread: ThreadId,
    /// Its name.
    pub id: InputId,
    /// Where it came from, for people: `cli`, `callback`, `thread x`, `runtime`.
    pub source: String,
    /// What it is.
    pub body: InputBody,
    /// W3C trace context of the request that brought it.
    pub traceparent: Option<String>,
}

/// An input that was accepted and not yet consumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// Its place in the order of arrival, rising over the whole store.
    pub seq: i64,
    /// Its name.
    pub id: InputId,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// What it is.
    pub body: InputBody,
    /// W3C trace context of the request that brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// What an input is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputBody {
    /// A person's message.
    Message {
        /// Its parts.
        content: Vec<ContentPart>,
    },
    /// The outcome of a call.
    Outcome {
        /// The call.
        call: CallId,
        /// What came of it.
        outcome: Outcome,
    },
    /// A call could not be delivered: no server took it.
    Undelivered {
        /// The call.
        call: CallId,
        /// A try may have arrived all the same: an outcome may still come.
        may_have_arrived: bool,
        /// Why, for the model.
        reason: String,
    },
    /// An event of a subscription.
    Event {
        /// The subscribing call.
        call: CallId,
        /// What happened.
        text: String,
        /// Into this thread instead of one of its own (SUB-05).
        associative: bool,
        /// The last one (SUB-06).
        #[serde(rename = "final")]
        is_final: bool,
    },
    /// A child's report.
    Report {
        /// The child.
        child: ThreadId,
        /// The tool that made the child: `spawn_thread`, or the subscribing tool of its event.
        original_tool_name: String,
        /// That tool's call.
        original_tool_call_id: CallId,
        /// That call's arguments.
        original_args: Value,
        /// What the child reports.
        text: String,
        /// `reported`, `closed`, `idle` or `failed`.
        state: String,
    },
    /// A message of the parent.
    FromParent {
        /// Its text.
        text: String,
    },
    /// A person's word on a call that needs one (CON-02).
    Approval {
        /// The call.
        call: CallId,
        /// It may run.
        allowed: bool,
    },
    /// From its next turn on the thread is answered by another model, and so are the open threads below it.
    UseModel {
        /// The model, as `provider/model`; none stands for what the session began with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// An invocation that was given up is sent again, because a person wants it so.
    Resend {
        /// Its call.
        call: CallId,
    },
    /// Ask the session's servers for their toolsets again.
    Refresh,
    /// Summarise the history.
    Compact,
    /// What a compaction made of the history before a position.
    Summary {
        /// The position.
        covers: Segment,
        /// The summary.
        text: String,
        /// The tokens that it took.
        #[serde(default)]
        usage: Usage,
    },
    /// A compaction came to nothing.
    NotCompacted {
        /// Why, for people.
        reason: String,
    },
    /// The clock was set back while nobody ran: what waits for a span of time waits from a moment that is to come
    /// again. [`Store::clock_starts`](crate::Store::clock_starts) tells every thread that waits.
    ClockSetBack {
        /// By so many milliseconds, at least.
        by: i64,
    },
    /// Stop: end the completion, cancel open calls, pause the thread and its descendants.
    Stop,
    /// Close the thread and all below it.
    Close,
}

impl InputBody {
    /// A word for the kind, for listings and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::Outcome { .. } => "outcome",
            Self::Undelivered { .. } => "undelivered",
            Self::Event { .. } => "event",
            Self::Report { .. } => "report",
            Self::FromParent { .. } => "from_parent",
            Self::Approval { .. } => "approval",
            Self::UseModel { .. } => "use_model",
            Self::Resend { .. } => "resend",
            Self::Refresh => "refresh",
            Self::Compact => "compact",
            Self::Summary { .. } => "summary",
            Self::NotCompacted { .. } => "not_compacted",
            Self::ClockSetBack { .. } => "clock_set_back",
            Self::Stop => "stop",
            Self::Close => "close",
        }
    }

    /// Whether a person stands behind the input: it makes even a paused thread due. (A stopped thread can be
    /// closed.)
    pub fn is_by_person(&self) -> bool {
        matches!(self, Self::Message { .. } | Self::Stop | Self::Close)
    }

    /// What a compaction ends with.
    pub fn ends_compaction(&self) -> bool {
        matches!(self, Self::Summary { .. } | Self::NotCompacted { .. })
    }

    /// The call that the input is about.
    pub fn call(&self) -> Option<&CallId> {
        match self {
            Self::Outcome { call, .. }
            | Self::Undelivered { call, .. }
            | Self::Event { call, .. }
            | Self::Approval { call, .. }
            | Self::Resend { call } => Some(call),
            _ => None,
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// For the model: content, or the text as one part (RES-03).
    pub content: Vec<ContentPart>,
    /// For people, best first (RES-06).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub display: Vec<DisplaySegment>,
    /// The call failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_error: bool,
    /// The call made a subscription (SUB-01).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subscription: bool,
}

impl Outcome {
    /// An outcome of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            content: vec![ContentPart::text(text)],
            display: Vec::new(),
            is_error: false,
            subscription: false,
        }
    }

    /// An error, with `Error: ` before it (RES-07).
    pub fn error(text: impl fmt::Display) -> Self {
        Self { is_error: true, ..Self::text(format!("Error: {text}")) }
    }
}

impl From<ToolResult> for Outcome {
    fn from(result: ToolResult) -> Self {
        Self {
            content: result.for_model(),
            is_error: result.is_failure(),
            subscription: result.subscription,
            display: result.display_as.unwrap_or_default(),
        }
    }
}

impl NewInput {
    /// A person's message of text. `key` makes sending it twice the same as sending it once.
    pub fn message(
        thread: ThreadId,
        key: &str,
        content: Vec<ContentPart>,
        source: impl Into<String>,
    ) -> Self {
        Self {
            thread,
            id: InputId::message(key),
            source: source.into(),
            body: InputBody::Message { content },
            traceparent: None,
        }
    }

    /// A `tool_result` that came to the callback gateway.
    pub fn result(result: ToolResult, traceparent: Option<String>) -> Self {
        Self {
            thread: result.group_id.clone(),
            id: InputId::outcome(&result.id),
            source: "callback".into(),
            body: InputBody::Outcome { call: result.id.clone(), outcome: result.into() },
            traceparent,
        }
    }

    /// A `subscription_event` that came to the callback gateway. `nonce` is fresh for each request.
    pub fn event(event: SubscriptionEvent, nonce: &str, traceparent: Option<String>) -> Self {
        Self {
            thread: event.group_id.clone(),
            id: InputId::event(&event.tool_call_id, event.event_id.as_ref(), nonce),
            source: "callback".into(),
            body: InputBody::Event {
                call: event.tool_call_id,
                text: event.text,
                associative: event.associative,
                is_final: event.is_final,
            },
            traceparent,
        }
    }
}
