//! What tools show and ask people beside the conversation: views, choices, authorizations. None of it wakes
//! a thread; a question lives on its call until the call ends (CHO-01, OAU-01, OAU-04, VIW-01).

use crate::{CallRow, CallState, InputBody, InputId, NewInput, Surface};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something that a tool shows or asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "interaction", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Interaction {
    /// New content of a view, which replaces the old (VIW-01).
    View {
        /// Which view.
        view_type: String,
        /// Its content.
        content: Map<String, Value>,
    },
    /// A question of a call (CHO-01).
    Choice {
        /// The call.
        call: CallId,
        /// The question.
        prompt: String,
        /// The choices, at least one.
        choices: Vec<String>,
        /// The index that a dismissal picks.
        default: u64,
        /// Where the answer goes.
        response_url: HttpUrl,
    },
    /// A call of the model needs a person's word (CON-02): answered as a choice is, 0 declines and 1 allows.
    Approval {
        /// The call.
        call: CallId,
        /// The tool.
        name: String,
        /// The arguments.
        arguments: Value,
    },
    /// A call needs a person to authorize (OAU-01).
    Authorize {
        /// The call.
        call: CallId,
        /// Where. Never kept beyond the call, never in an event (OAU-04).
        url: HttpUrl,
    },
}

impl Interaction {
    /// The call that asks.
    pub fn call(&self) -> Option<&CallId> {
        match self {
            Self::View { .. } => None,
            Self::Choice { call, .. } | Self::Authorize { call, .. } | Self::Approval { call, .. } => {
                Some(call)
            }
        }
    }

    /// What people are shown of it. An authorization's URL is left out.
    pub fn surface(&self) -> Surface {
        match self.clone() {
            Self::View { view_type, content } => Surface::View { view_type, content },
            Self::Choice { call, prompt, choices, default, .. } => {
                Surface::Choice { call, prompt, choices, default }
            }
            Self::Approval { call, name, arguments } => Surface::Approval { call, name, arguments },
            Self::Authorize { call, .. } => Surface::Authorize { call },
        }
    }

    /// The question whether a call may run, while it waits for a person's word.
    pub fn approval_of(row: &CallRow) -> Option<Self> {
        (row.state == CallState::AwaitingApproval).then(|| Self::Approval {
            call: row.id.clone(),
            name: row.name.clone(),
            arguments: row.arguments.clone(),
        })
    }

    /// Whether a call in this state may still ask, and an answer still means something: it has not ended, or
    /// only by our own word. `has_outcome`: its outcome is known, though history may not show it yet.
    pub fn is_welcome(state: CallState, has_outcome: bool) -> bool {
        match state {
            CallState::PresumedLost => true,
            CallState::Pending | CallState::Detached => !has_outcome,
            _ => false,
        }
    }
}

/// The answers to the question whether a call may run, by index.
pub const APPROVAL_CHOICES: [&str; 2] = ["decline", "allow"];

/// A person's word on a call, as an input of its thread.
pub fn approval(thread: ThreadId, call: &CallId, allowed: bool) -> NewInput {
    NewInput {
        thread,
        id: InputId::approval(call),
        source: "person".into(),
        body: InputBody::Approval { call: call.clone(), allowed },
        traceparent: None,
    }
}

/// A question that nobody has answered yet, or a view's latest content.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenInteraction {
    /// Its thread.
    pub thread: ThreadId,
    /// What it is.
    pub interaction: Interaction,
}

/// What a person says to what a call asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The choice of this index.
    Pick(u64),
    /// No choice: the question's default is picked; a call that awaits a word is declined (CHO-01).
    Dismiss,
    /// A word on a call that awaits one, and nothing else.
    Allow(bool),
    /// The choice of this index once more: the answer did not reach its server, and it was not asked anew.
    PickAgain(u64),
}

impl Reply {
    /// What it picks where the question is whether a call may run; none where it answers no such question.
    pub fn approval(self) -> Option<u64> {
        match self {
            Self::Pick(selected) => Some(selected),
            Self::Dismiss => Some(0),
            Self::Allow(allowed) => Some(u64::from(allowed)),
            Self::PickAgain(_) => None,
        }
    }

    /// What it picks of a choice with this default; none where it answers no choice.
    pub fn choice(self, default: u64) -> Option<u64> {
        match self {
            Self::Pick(selected) | Self::PickAgain(selected) => Some(selected),
            Self::Dismiss => Some(default),
            Self::Allow(_) => None,
        }
    }
}

/// What became of an answer to a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// It is on its way; the first answer wins.
    Accepted,
    /// Somebody answered before.
    Already,
    /// The call asks nothing, or has ended.
    NoQuestion,
    /// The index is none of the choices; so many there are.
    NoSuchChoice(usize),
}
