//! Tools of the program around the runtime, without a server: *instant* ones, pure, answered in the decision itself; and
//! *calls*, which are sent from the outbox after the commit, by their id, to the program itself.

use crate::{Delivery, DeliveryKind, Millis, NewDelivery, Outcome};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Where a request of the outbox goes that the program itself works: nowhere on the network.
pub const EMBEDDED_URL: &str = "http://embedded.invalid/";

/// A tool of the program around the runtime. A session keeps what it was when it began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OwnTool {
    /// Its name before the model. No tool of a server has it.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The schema of its arguments.
    pub input_schema: Map<String, Value>,
    /// It is pure, and answered in the decision itself ([`InstantTools`]); else it is a call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub instant: bool,
    /// Nobody should wait for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub long_running: bool,
    /// Ask first (CON-02). An instant tool does nothing that would need that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destructive: bool,
}

impl OwnTool {
    /// A call, with the JSON Schema of its arguments, an object.
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        input_schema: Map<String, Value>,
    ) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            input_schema,
            instant: false,
            long_running: false,
            destructive: false,
        }
    }

    /// It is answered in the decision itself, or not.
    #[must_use]
    pub fn instant(mut self, instant: bool) -> Self {
        self.instant = instant;
        self
    }

    /// Nobody should wait for it: the model goes on at once.
    #[must_use]
    pub fn long_running(mut self, long_running: bool) -> Self {
        self.long_running = long_running;
        self
    }

    /// It may destroy something, so a person is asked first, or it is declined
    /// ([`Rules::destructive`](crate::Rules::destructive)).
    #[must_use]
    pub fn destructive(mut self, destructive: bool) -> Self {
        self.destructive = destructive;
        self
    }
}

/// A call of an instant tool. All that an answer may depend on is in it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct InstantCall<'a> {
    /// The tool.
    pub tool: &'a str,
    /// The arguments; they fit the tool's schema.
    pub arguments: &'a Map<String, Value>,
    /// The call.
    pub call: &'a CallId,
    /// The thread.
    pub thread: &'a ThreadId,
    /// The time of the decision.
    pub now: Millis,
}

/// What answers the instant tools of a program: pure functions of the call, without I/O, clocks or dice. What they said
/// is in the slice's record ([`SliceRecord::instants`](crate::SliceRecord::instants)), so that a replay needs none of
/// them (P12).
#[derive(Clone)]
pub struct InstantTools(Arc<Answer>);

type Answer = dyn Fn(&InstantCall<'_>) -> Option<Outcome> + Send + Sync;

impl InstantTools {
    /// Answers calls; none for a tool that is not known (any more).
    pub fn new(answer: impl Fn(&InstantCall<'_>) -> Option<Outcome> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    /// No tool is known.
    pub fn none() -> Self {
        Self::new(|_| None)
    }

    /// A panic of a tool is an error result.
    pub(crate) fn answer(&self, call: &InstantCall<'_>) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| (self.0)(call))) {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Outcome::error(gone(call.tool)),
            Err(_) => Outcome::error(format!(
                "{} panicked, which is a bug in it; do not call it again with the same arguments, tell the user",
                call.tool
            )),
        }
    }
}

impl fmt::Debug for InstantTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InstantTools")
    }
}

/// What is said of a tool that the program does not have any more.
pub(crate) fn gone(tool: &str) -> String {
    format!("the program does not have the tool {tool} any more; go on without it, or tell the user")
}

/// Where the program's own calls go.
pub(crate) fn embedded_url() -> HttpUrl {
    HttpUrl::new(EMBEDDED_URL).expect("bug: a legal URL")
}

impl NewDelivery {
    /// The program works it itself.
    pub fn is_embedded(&self) -> bool {
        self.kind == DeliveryKind::Invocation && self.url.as_str() == EMBEDDED_URL
    }
}

impl Delivery {
    /// The tool of the program's own that it calls; none where it goes to a server.
    pub fn embedded_tool(&self) -> Option<&str> {
        let embedded = self.kind == DeliveryKind::Invocation && self.url.as_str() == EMBEDDED_URL;
        embedded.then(|| self.body.get("operation").and_then(Value::as_str)).flatten()
    }
}
