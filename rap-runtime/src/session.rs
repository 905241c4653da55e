//! Making sessions: every server is asked for its tools at once, and what can be used is frozen (TLS-12).

use crate::{
    AgentHost, Asked, Choices, HostError, NewSession, Runtime, Sent, SessionOpened, SessionStatus,
    ThreadStatus, ToolsetProblem, ToolsetProblemKind, Watch, clock, host::HostErrorKind, net, watch,
};
use rap_client::{DiscoverError, catalog, catalog::CatalogProblem};
use rap_core::{
    Accepted, Answered, BUILT_IN_TOOLS, DestructivePolicy, InputBody, InputId, NewInput, OfferedTool, Rules,
    ServerCard, Session, Toolbox,
};
use rap_types::{CallId, ContentPart, HttpUrl, ThreadId, validate::CompiledToolset};
use std::collections::{HashMap, HashSet};

#[async_trait::async_trait]
impl AgentHost for Runtime {
    async fn create(&self, new: NewSession) -> Result<SessionOpened, HostError> {
        self.model_for(new.model.as_deref()).map_err(|why| HostError::new(HostErrorKind::Refused, why))?;
        let bases = new.toolsets.unwrap_or_else(|| self.inner.toolsets.clone());
        let (toolbox, problems) = self.discover(&bases).await;
        if toolbox.servers.is_empty() && !bases.is_empty() {
            let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let message = format!("no tool server can be used:\n{}", told.join("\n"));
            return Err(HostError::new(HostErrorKind::NoTools, message).with_problems(problems));
        }
        let session = Session {
            id: new_thread_id()?,
            owner: new.owner,
            user: None,
            created_at: clock::now(),
            model: new.model,
            system: self.inner.system_prompt.clone(),
            toolbox,
            rules: self.rules(),
        };
        self.inner.store.create(&session).await?;
        self.inner.hub.ring();
        Ok(SessionOpened { tools: session.toolbox.tools.len(), session: session.id, problems })
    }

    async fn send(&self, thread: &ThreadId, key: &str, text: &str) -> Result<Sent, HostError> {
        let input = NewInput::message(thread.clone(), key, vec![ContentPart::text(text)], self.source());
        self.enter(input).await
    }

    async fn stop(&self, thread: &ThreadId) -> Result<(), HostError> {
        self.control(thread, InputBody::Stop).await
    }

    async fn close(&self, thread: &ThreadId) -> Result<(), HostError> {
        self.control(thread, InputBody::Close).await
    }

    async fn compact(&self, thread: &ThreadId) -> Result<(), HostError> {
        self.control(thread, InputBody::Compact).await
    }

    async fn watch(&self, session: &ThreadId, after: i64) -> Result<Watch, HostError> {
        watch::watch(self, session, after).await
    }

    async fn status(&self, session: &ThreadId) -> Result<SessionStatus, HostError> {
        let threads = self.inner.store.threads(session).await?;
        if threads.is_empty() {
            return Err(watch::unknown_session(session));
        }
        let threads = threads.into_iter().map(|view| ThreadStatus {
            id: view.row.id,
            parent: view.row.ancestors.last().cloned(),
            state: view.state,
            open_calls: view.open_calls,
            subscriptions: view.subscriptions,
        });
        Ok(SessionStatus { session: session.clone(), threads: threads.collect() })
    }

    async fn open_questions(&self, session: &ThreadId) -> Result<Vec<Asked>, HostError> {
        if self.inner.store.session(session).await?.is_none() {
            return Err(watch::unknown_session(session));
        }
        let open = self.inner.store.interactions(session).await?;
        Ok(open
            .into_iter()
            .map(|open| Asked { thread: open.thread, interaction: open.interaction })
            .collect())
    }

    async fn answer(&self, call: &CallId, selected: u64) -> Result<(), HostError> {
        let (kind, message) = match self.inner.store.answer(call, selected, clock::now()).await? {
            Answered::Accepted => {
                self.inner.hub.ring();
                return Ok(());
            }
            Answered::Already => (HostErrorKind::Ended, "somebody has answered already".to_owned()),
            Answered::NoQuestion => (HostErrorKind::Unknown, format!("the call {call} asks nothing")),
            Answered::NoSuchChoice(choices) => (
                HostErrorKind::Refused,
                format!("there are {choices} choices, counted from 0; pick one of them"),
            ),
        };
        Err(HostError::new(kind, message))
    }
}

impl Runtime {
    /// The limits and policies of a new session. With nobody to ask, the policy decides at once: deny.
    fn rules(&self) -> Rules {
        let mut rules = self.inner.rules.clone();
        if self.inner.choices == Choices::Dismiss && rules.destructive == DestructivePolicy::Ask {
            rules.destructive = DestructivePolicy::Deny;
        }
        rules
    }

    fn source(&self) -> &'static str {
        "person"
    }

    async fn control(&self, thread: &ThreadId, body: InputBody) -> Result<(), HostError> {
        let id = InputId::control(&nonce()?);
        let source = self.source().to_owned();
        let input = NewInput { thread: thread.clone(), id, source, body, traceparent: None };
        self.enter(input).await.map(|_| ())
    }

    async fn enter(&self, input: NewInput) -> Result<Sent, HostError> {
        let (thread, id) = (input.thread.clone(), input.id.clone());
        match self.inner.store.accept(input, clock::now()).await? {
            Accepted::Accepted => {
                self.inner.hub.interrupt(&thread, &id);
                self.inner.hub.ring();
                Ok(Sent::Accepted)
            }
            Accepted::Duplicate => Ok(Sent::Duplicate),
            Accepted::UnknownThread => {
                Err(HostError::new(HostErrorKind::Unknown, format!("there is no thread {thread}")))
            }
            Accepted::Ended => Err(HostError::new(
                HostErrorKind::Ended,
                format!("the thread {thread} is closed; begin a session"),
            )),
            Accepted::Discarded(reason) => Err(HostError::new(HostErrorKind::Refused, reason)),
            Accepted::Busy => {
                let message = format!("the inbox of thread {thread} is full; write again later");
                Err(HostError::new(HostErrorKind::Busy, message))
            }
        }
    }

    /// Asks all servers at once, each within the time limit of an exchange.
    async fn discover(&self, bases: &[HttpUrl]) -> (Toolbox, Vec<ToolsetProblem>) {
        let mut seen = HashSet::new();
        let bases: Vec<_> =
            bases.iter().filter(|base| seen.insert(base.as_str().trim_end_matches('/'))).collect();
        let asked = bases.iter().map(|base| async move {
            let found = self.inner.known_toolsets.discover(self.inner.net.to(base), base).await;
            ((*base).clone(), found)
        });
        let mut problems = Vec::new();
        let mut toolsets = Vec::new();
        for (base, found) in futures_util::future::join_all(asked).await {
            match found {
                Ok(found) if !net::may_lead_to(&base, &found.toolset.toolset().endpoint) => {
                    problems.push(endpoint_problem(&base));
                }
                Ok(found) => {
                    // TLS-06: what it offered last, until it is back.
                    problems.extend(found.stale.map(|error| stale_problem(&base, &error)));
                    toolsets.push((base, found.toolset));
                }
                Err(error) => problems.push(discover_problem(&base, &error)),
            }
        }
        let toolbox = freeze(toolsets, &self.inner.without, &mut problems);
        (toolbox, problems)
    }
}

/// What a session is offered: all tools that one server alone defines.
fn freeze(
    toolsets: Vec<(HttpUrl, CompiledToolset)>,
    without: &[String],
    problems: &mut Vec<ToolsetProblem>,
) -> Toolbox {
    let servers: Vec<ServerCard> = toolsets
        .iter()
        .map(|(base, toolset)| ServerCard {
            name: toolset.toolset().name().to_owned(),
            base: base.clone(),
            endpoint: toolset.toolset().endpoint.clone(),
        })
        .collect();
    let places: HashMap<HttpUrl, usize> =
        servers.iter().enumerate().map(|(index, card)| (card.base.clone(), index)).collect();
    let built_in = BUILT_IN_TOOLS.iter().copied().filter(|name| !without.iter().any(|off| off == name));
    let catalog = catalog::merge(toolsets, built_in);
    problems.extend(catalog.problems().iter().map(catalog_problem));
    let mut names: HashSet<String> = catalog
        .iter()
        .filter(|tool| tool.tool().name.is_portable())
        .map(|tool| tool.tool().name.to_string())
        .chain(BUILT_IN_TOOLS.iter().map(ToString::to_string))
        .collect();
    let tools = catalog.iter().filter_map(|found| {
        let tool = found.tool();
        let annotations = tool.annotations.clone().unwrap_or_default();
        Some(OfferedTool {
            name: if tool.name.is_portable() {
                tool.name.to_string()
            } else {
                alias(tool.name.as_str(), &mut names)
            },
            operation: tool.name.clone(),
            server: *places.get(found.base())?,
            description: tool.description.clone(),
            input_schema: tool.input_schema.clone(),
            long_running: annotations.long_running.unwrap_or(false),
            destructive: annotations.destructive.unwrap_or(false),
            display_script: tool.display_script.clone(),
        })
    });
    Toolbox { tools: tools.collect(), servers, without: without.to_vec() }
}

/// A name that every model takes, for one that is not portable (TLS-14).
fn alias(name: &str, taken: &mut HashSet<String>) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let mut candidate = plain.clone();
    let mut n = 1;
    while !taken.insert(candidate.clone()) {
        n += 1;
        candidate = format!("{plain}_{n}");
    }
    candidate
}

fn discover_problem(base: &HttpUrl, error: &DiscoverError) -> ToolsetProblem {
    let kind = if error.is_unauthorized() {
        ToolsetProblemKind::Unauthorized
    } else if error.is_not_a_server() {
        ToolsetProblemKind::NotAServer
    } else if error.is_invalid() {
        ToolsetProblemKind::Invalid
    } else {
        ToolsetProblemKind::Unreachable
    };
    ToolsetProblem { server: base.redacted(), kind, message: error.to_string() }
}

fn stale_problem(base: &HttpUrl, error: &DiscoverError) -> ToolsetProblem {
    let problem = discover_problem(base, error);
    let message = format!("{}; meanwhile its tools are offered as they were last", problem.message);
    ToolsetProblem { kind: ToolsetProblemKind::Stale, message, ..problem }
}

fn endpoint_problem(base: &HttpUrl) -> ToolsetProblem {
    let server = base.redacted();
    let message = format!(
        "the toolset of {server} names an endpoint on this machine, which only a server on this machine may do; none of its tools is offered"
    );
    ToolsetProblem { server, kind: ToolsetProblemKind::Invalid, message }
}

fn catalog_problem(problem: &CatalogProblem) -> ToolsetProblem {
    let (kind, server) = match problem {
        CatalogProblem::Duplicate { bases, .. } => {
            let servers: Vec<_> = bases.iter().map(HttpUrl::redacted).collect();
            (ToolsetProblemKind::DoubledTool, servers.join(", "))
        }
        CatalogProblem::BuiltIn { base, .. } => (ToolsetProblemKind::BuiltInName, base.redacted()),
        CatalogProblem::Reserved { base } => (ToolsetProblemKind::Invalid, base.redacted()),
        _ => (ToolsetProblemKind::Invalid, String::new()),
    };
    ToolsetProblem { server, kind, message: problem.to_string() }
}

/// 20 characters of lower-case base32, as derived ids have.
fn new_thread_id() -> Result<ThreadId, HostError> {
    let mut id = nonce()?;
    id.truncate(20);
    ThreadId::new(id).map_err(|e| HostError::new(HostErrorKind::Failed, e.to_string()))
}

/// 26 random characters.
pub(crate) fn nonce() -> Result<String, HostError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| {
        HostError::new(HostErrorKind::Failed, format!("the system gives no random bytes: {e}"))
    })?;
    Ok(data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}
