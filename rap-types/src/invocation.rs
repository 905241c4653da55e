//! The invocation: a runtime asks a tool server for work.

use crate::{CallId, Fault, HttpUrl, Message, ProviderCallId, ThreadId, UserId, fault::read};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A call of a tool, POSTed to the toolset's `endpoint` and acknowledged at once (TRN-02); its outcome
/// comes later to `callback_url`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Invocation {
    /// The tool's name. A string that is no legal tool name is for the server to answer (INV-06).
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["get_weather"])))]
    pub operation: String,
    /// The arguments, to be checked against the tool's `inputSchema`.
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [{"city": "Oslo"}])))]
    pub arguments: Map<String, Value>,
    /// The call's id, unique in its thread (INV-03).
    pub id: CallId,
    /// A second id that some models need; echoed in the result when given (RES-01).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<ProviderCallId>,
    /// Where the outcome goes: opaque, a secret (TRN-07, TRN-11).
    pub callback_url: HttpUrl,
    /// The conversation thread; echoed in every callback (TRN-13).
    pub group_id: ThreadId,
    /// The thread's ancestors, root first, parent last; absent for a root thread (INV-04).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [["thread-1", "thread-4"]])))]
    pub thread_ancestors: Option<Vec<ThreadId>>,
    /// The end user, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
}

impl Invocation {
    /// An invocation with what every one needs; the rest is unset.
    pub fn new(
        operation: impl Into<String>,
        arguments: Map<String, Value>,
        id: CallId,
        callback_url: HttpUrl,
        group_id: ThreadId,
    ) -> Self {
        Self {
            operation: operation.into(),
            arguments,
            id,
            call_id: None,
            callback_url,
            group_id,
            thread_ancestors: None,
            user_id: None,
        }
    }

    /// Sets the second id.
    #[must_use]
    pub fn call_id(mut self, call_id: Option<ProviderCallId>) -> Self {
        self.call_id = call_id;
        self
    }

    /// Sets the ancestors, root first; an empty list stands for a root thread and is left out.
    #[must_use]
    pub fn thread_ancestors(mut self, ancestors: Vec<ThreadId>) -> Self {
        self.thread_ancestors = (!ancestors.is_empty()).then_some(ancestors);
        self
    }

    /// Sets the end user.
    #[must_use]
    pub fn user_id(mut self, user: Option<UserId>) -> Self {
        self.user_id = user;
        self
    }
}

impl Message for Invocation {
    const OBLIGATION: &'static str = "TRN-14";

    fn from_value(value: Value) -> Result<Self, Fault> {
        read(value, Self::OBLIGATION).map_err(|fault| match fault.pointer() {
            "/callback_url" => Fault::new("/callback_url", "INV-03", fault.message()),
            _ => fault,
        })
    }
}
