//! Tools of the program around the runtime, without a server: instant ones answer inside the decision, calls are worked
//! from the outbox, after the commit, by their id.

use crate::RuntimeError;
use futures_util::{FutureExt, future::BoxFuture};
use rap_core::{BUILT_IN_TOOLS, Delivery, InstantCall, InstantTools, Outcome, OwnTool};
use rap_types::{CallId, RECEIVE_EVENT, ThreadId, ToolName, UserId, validate::CompiledSchema};
use serde_json::{Map, Value};
use std::{collections::HashMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// A call of a tool of the program's own ([`RuntimeBuilder::own_tool`](crate::RuntimeBuilder::own_tool)).
///
/// It is committed, so it will be worked until it has an outcome: after a kill again, with the same id. What must not
/// happen twice is done under that id.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OwnCall {
    /// The call; the same each time that it is worked, and no other's.
    pub id: CallId,
    /// The tool.
    pub tool: String,
    /// The arguments; they fit the tool's schema.
    pub arguments: Map<String, Value>,
    /// The thread.
    pub thread: ThreadId,
    /// The thread's ancestors, root first; empty for a root.
    pub ancestors: Vec<ThreadId>,
    /// On whose behalf.
    pub user: Option<UserId>,
    /// It was begun before, so that it may have taken effect already.
    pub again: bool,
    pub(crate) cancel: CancellationToken,
}

impl OwnCall {
    /// From a request of the outbox.
    pub(crate) fn new(delivery: &Delivery) -> Option<Self> {
        let body = &delivery.body;
        let ancestors = body.get("thread_ancestors").cloned().unwrap_or_default();
        Some(Self {
            id: delivery.call.clone()?,
            tool: delivery.embedded_tool()?.to_owned(),
            arguments: body.get("arguments").and_then(Value::as_object).cloned().unwrap_or_default(),
            thread: delivery.thread.clone(),
            ancestors: serde_json::from_value::<Option<_>>(ancestors).ok()?.unwrap_or_default(),
            user: body.get("user_id").and_then(Value::as_str).and_then(|id| UserId::new(id).ok()),
            again: delivery.begun,
            cancel: CancellationToken::new(),
        })
    }

    /// Resolves when the call is cancelled: by the model, by a stop or by the close of its thread. Whatever is answered
    /// from then on is put away and shown to no model, so that the work may end. It is a hint: a call that was cancelled
    /// while nobody worked it, or by a process that was killed right then, is not told so.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether the call is [cancelled](Self::cancelled).
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// How a call is worked.
pub(crate) type Work = Arc<dyn Fn(OwnCall) -> BoxFuture<'static, Outcome> + Send + Sync>;
type Answer = Box<dyn Fn(&InstantCall<'_>) -> Outcome + Send + Sync>;

/// How a tool answers.
enum How {
    Instant(Answer),
    Call(Work),
}

/// The tools that a builder has gathered.
#[derive(Default)]
pub(crate) struct Gathered(Vec<(OwnTool, How)>);

impl Gathered {
    pub(crate) fn instant(
        &mut self,
        tool: OwnTool,
        answer: impl Fn(&InstantCall<'_>) -> Outcome + Send + Sync + 'static,
    ) {
        self.0.push((tool.instant(true), How::Instant(Box::new(answer))));
    }

    pub(crate) fn call<F: Future<Output = Outcome> + Send + 'static>(
        &mut self,
        tool: OwnTool,
        work: impl Fn(OwnCall) -> F + Send + Sync + 'static,
    ) {
        self.0.push((tool.instant(false), How::Call(Arc::new(move |call| work(call).boxed()))));
    }

    /// The tools, if their names and schemas can be offered.
    pub(crate) fn checked(self, without: &[String]) -> Result<OwnTools, RuntimeError> {
        let mut own = OwnTools::default();
        let mut instants = HashMap::new();
        for (tool, how) in self.0 {
            let taken = BUILT_IN_TOOLS.contains(&tool.name.as_str()) && !without.contains(&tool.name);
            let name = ToolName::new(tool.name.clone());
            let fault = if name.is_err() || name.is_ok_and(|name| !name.is_portable()) || tool.name.len() > 64
            {
                Some("a name has 1 to 64 characters of A-Za-z0-9_-".to_owned())
            } else if taken || tool.name == RECEIVE_EVENT {
                Some("the runtime has one of that name".to_owned())
            } else if own.offered.iter().any(|other| other.name == tool.name) {
                Some("there are two of that name".to_owned())
            } else {
                CompiledSchema::new(&tool.input_schema).err().map(|fault| format!("its schema: {fault}"))
            };
            if let Some(fault) = fault {
                return Err(RuntimeError::Tools(format!(
                    "the tool {:?} cannot be offered: {fault}",
                    tool.name
                )));
            }
            match how {
                How::Instant(answer) => drop(instants.insert(tool.name.clone(), answer)),
                How::Call(work) => drop(own.calls.insert(tool.name.clone(), work)),
            }
            own.offered.push(tool);
        }
        own.instants = InstantTools::new(move |call| instants.get(call.tool).map(|answer| answer(call)));
        Ok(own)
    }
}

/// The program's own tools.
pub(crate) struct OwnTools {
    pub(crate) offered: Vec<OwnTool>,
    pub(crate) instants: InstantTools,
    pub(crate) calls: HashMap<String, Work>,
}

impl Default for OwnTools {
    fn default() -> Self {
        Self { offered: Vec::new(), instants: InstantTools::none(), calls: HashMap::new() }
    }
}
