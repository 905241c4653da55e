//! What people see: numbered events, made by commits.

use crate::{Millis, Usage};
use rap_types::{CallId, DisplaySegment, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something to show, in a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SurfaceEvent {
    /// The thread it happened in.
    pub thread: ThreadId,
    /// What happened.
    #[serde(flatten)]
    pub what: Surface,
}

/// A surface event with its number in the session and its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbered {
    /// The number: rising in a session, without a promise that none is left out.
    pub n: i64,
    /// When it was committed.
    pub at: Millis,
    /// The event.
    #[serde(flatten)]
    pub event: SurfaceEvent,
}

/// What is new about a tool server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServerNews {
    /// It was not there when the session began, and now its tools are offered.
    Joined,
    /// It listens elsewhere now.
    Moved,
    /// It, or one of its tools, cannot be used (TLS-03, TLS-04, TLS-13).
    Problem,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Surface {
    /// A person wrote.
    Message {
        /// The text.
        text: String,
    },
    /// The model wrote.
    Text {
        /// The text.
        text: String,
        /// It was cut short by a message, a stop or a close.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        interrupted: bool,
    },
    /// The model thought.
    Reasoning {
        /// What it shows of that.
        text: String,
    },
    /// The model called a tool.
    Call {
        /// The call.
        call: CallId,
        /// The tool.
        name: String,
        /// The arguments.
        arguments: Value,
    },
    /// A call was answered.
    Result {
        /// The call.
        call: CallId,
        /// The tool.
        name: String,
        /// The result's text.
        text: String,
        /// Other ways to show it, best first (RES-06).
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        display: Vec<DisplaySegment>,
        /// The call failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        /// It came after the agent had stopped waiting for it (P10).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        late: bool,
    },
    /// The agent no longer waits for a call; its outcome will come as an event.
    Detached {
        /// The call.
        call: CallId,
        /// The tool.
        name: String,
    },
    /// An event of a subscription.
    Event {
        /// The subscribing call.
        call: CallId,
        /// The subscribing tool.
        name: String,
        /// What happened.
        text: String,
        /// The thread made for it; none where it went into the subscribing thread.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handled_by: Option<ThreadId>,
    },
    /// A child reported.
    Report {
        /// The child.
        child: ThreadId,
        /// What it reported.
        text: String,
    },
    /// The thread was opened.
    Opened {
        /// Its parent; none for a root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent: Option<ThreadId>,
        /// What for: `session`, `spawn`, `event`.
        reason: String,
    },
    /// The thread waits for calls or timers.
    Waiting {
        /// How many calls and timers are open.
        open: usize,
    },
    /// The thread rests: nothing is open but subscriptions or children.
    Resting,
    /// The thread was stopped.
    Paused,
    /// The thread was closed.
    Closed,
    /// Tokens used.
    Usage(Usage),
    /// A tool asks a person to choose (CHO-01).
    Choice {
        /// The call.
        call: CallId,
        /// The question.
        prompt: String,
        /// The choices.
        choices: Vec<String>,
        /// The index that a dismissal picks.
        default: u64,
    },
    /// A tool asks a person to authorize; the URL is asked for apart and never kept here (OAU-04).
    Authorize {
        /// The call.
        call: CallId,
    },
    /// A call of the model needs a person's word (CON-02).
    Approval {
        /// The call.
        call: CallId,
        /// The tool.
        name: String,
        /// The arguments.
        arguments: Value,
    },
    /// A person has allowed a call, or declined it.
    Approved {
        /// The call.
        call: CallId,
        /// It may run.
        allowed: bool,
    },
    /// The model now sees a summary in the place of the older history.
    Compacted {
        /// The summary.
        text: String,
    },
    /// Another model answers from the next turn on.
    Model {
        /// The model, as `provider/model`; none stands for the runtime's default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
    },
    /// The latest content of a view (VIW-01).
    View {
        /// Which view.
        view_type: String,
        /// Its content.
        content: Map<String, Value>,
    },
    /// Something is new about a tool server of the session.
    Server {
        /// Its base URL, without query and credentials.
        server: String,
        /// What.
        news: ServerNews,
        /// The whole story, in a sentence.
        text: String,
    },
    /// Its server was asked about an open call or a subscription, and does not say whether it is alive (P11, STA-03). It
    /// goes on as before.
    Unknown {
        /// The call, or the subscribing call.
        call: CallId,
        /// The tool.
        name: String,
        /// It is a subscription.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        subscription: bool,
        /// How long it has been open, in milliseconds.
        age_ms: i64,
        /// What the server said, if it said anything.
        reason: String,
    },
    /// A person had a call sent again that was given up.
    Resent {
        /// The call.
        call: CallId,
        /// The tool.
        name: String,
    },
    /// Something went wrong.
    Error {
        /// What, and what to do.
        text: String,
    },
}
