//! What servers offer, as a session takes it in: frozen when it begins (TLS-05, TLS-12), joined by servers that were
//! not there, which never take anything away from the others.

use crate::{
    HostError, Runtime, ToolsetProblem, ToolsetProblemKind, clock, net,
    servers::{Refreshing, key},
};
use rap_client::{DiscoverError, catalog, catalog::CatalogProblem};
use rap_core::{
    BUILT_IN_TOOLS, LiveServers, Millis, OfferedTool, OwnTool, ServerCard, ServerNews, Session, StoreError,
    Surface, SurfaceEvent, Toolbox, replay::toolbox_name,
};
use rap_types::{HttpUrl, ThreadId, Tool, validate::CompiledToolset};
use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

impl Runtime {
    /// Asks all servers at once, each within the time limit of an exchange.
    pub(crate) async fn discover(&self, bases: &[HttpUrl]) -> (Toolbox, Vec<ToolsetProblem>) {
        let mut seen = HashSet::new();
        let bases: Vec<_> = bases.iter().filter(|base| seen.insert(key(base))).collect();
        let asked = bases.iter().map(|base| async move {
            let found = self.inner.known_toolsets.discover(self.inner.net.to(base), base).await;
            ((*base).clone(), found)
        });
        let mut problems = Vec::new();
        let mut toolsets = Vec::new();
        let mut live = LiveServers::default();
        for (base, found) in futures_util::future::join_all(asked).await {
            if let Some(name) = self.inner.servers.name_of(&base) {
                live.named.insert(name.to_owned(), base.clone());
            }
            match found {
                Ok(found) if !net::may_lead_to(&base, &found.toolset.toolset().endpoint) => {
                    problems.push(endpoint_problem(&base));
                    live.absent.push(base);
                }
                Ok(found) => {
                    // TLS-06: what it offered last, until it is back.
                    problems.extend(found.stale.map(|error| stale_problem(&base, &error)));
                    toolsets.push((base, found.toolset));
                }
                Err(error) => {
                    problems.push(discover_problem(&base, &error));
                    live.absent.push(base);
                }
            }
        }
        let toolbox = freeze(toolsets, &self.inner.without, &self.inner.own.offered, live, &mut problems);
        (toolbox, problems)
    }

    /// Asks the server that a session knows at `base` for its toolset, and takes in what is live of it: where it
    /// listens; all that it offers, if it was absent. Gives back what is not offered, and why.
    pub(crate) async fn ask_server(
        &self,
        session: &Session,
        base: &HttpUrl,
    ) -> Result<Result<Vec<ToolsetProblem>, ToolsetProblem>, StoreError> {
        let now = self.inner.servers.configured_base(session, base);
        let toolset = match self.inner.net.to(&now).discover(&now).await {
            Ok(toolset) => toolset,
            Err(error) => return Ok(Err(discover_problem(&now, &error))),
        };
        if !net::may_lead_to(&now, &toolset.toolset().endpoint) {
            return Ok(Err(endpoint_problem(&now)));
        }
        self.inner.known_toolsets.remember(&now, toolset.clone());
        self.take_in(&session.id, base, &now, &toolset).await.map(Ok)
    }

    /// Tells a session what a server says that it knows at `base`, and that listens at `now`.
    pub(crate) async fn take_in(
        &self,
        session: &ThreadId,
        base: &HttpUrl,
        now: &HttpUrl,
        toolset: &CompiledToolset,
    ) -> Result<Vec<ToolsetProblem>, StoreError> {
        let store = &self.inner.store;
        let _one = self.inner.servers.writing.lock().await;
        loop {
            let Some(session) = store.session(session).await? else { return Ok(Vec::new()) };
            if let Some(problems) = self.take_into(&session, base, now, toolset).await? {
                return Ok(problems);
            }
            // Another process, of a slice perhaps, has learned something of the session's servers meanwhile.
        }
    }

    /// The same, of a session as it is; none where it is another by now.
    async fn take_into(
        &self,
        session: &Session,
        base: &HttpUrl,
        now: &HttpUrl,
        toolset: &CompiledToolset,
    ) -> Result<Option<Vec<ToolsetProblem>>, StoreError> {
        let store = &self.inner.store;
        let mut toolbox = session.toolbox.clone();
        let (mut problems, mut news) = (Vec::new(), Vec::new());
        let offered = toolset.toolset();
        match toolbox.server_at(base).or_else(|| toolbox.server_at(now)) {
            None if !toolbox.live.absent.iter().any(|absent| key(absent) == key(base)) => {
                return Ok(Some(problems));
            }
            Some(server) => {
                if !toolbox.relocate(server, now, &offered.endpoint) {
                    return Ok(Some(problems));
                }
                tracing::info!(session = %session.id, server = now.redacted(), "a tool server has moved");
                let name = &toolbox.servers[server].name;
                let text = format!("the tool server {name} listens elsewhere now, at {}", now.redacted());
                news.push((now.redacted(), ServerNews::Moved, text));
            }
            None => {
                problems = join(&mut toolbox, base, now, toolset);
                let joined = &toolbox.tools[session.toolbox.tools.len()..];
                let tools: Vec<&str> = joined.iter().map(|tool| tool.name.as_str()).collect();
                let tools = if tools.is_empty() { "no tool".to_owned() } else { tools.join(", ") };
                tracing::info!(session = %session.id, server = now.redacted(), tools, "a tool server has joined");
                let text = format!(
                    "the tool server {} at {} has joined, with {tools}",
                    offered.name(),
                    now.redacted()
                );
                news.push((now.redacted(), ServerNews::Joined, text));
                news.extend(problems.iter().map(told));
            }
        }
        if toolbox.fingerprint() != session.toolbox.fingerprint() {
            // Slices that saw the old one are replayed with it (P12).
            let old = serde_json::to_string(&session.toolbox)
                .map_err(|e| StoreError::Failed(format!("a toolbox cannot be written: {e}")))?;
            store.put(&toolbox_name(&session.id, &session.toolbox.fingerprint()), &old).await?;
        }
        if !store.update_toolbox(&session.id, &session.toolbox, &toolbox).await? {
            return Ok(None);
        }
        self.inner.servers.some_moved.store(true, Ordering::Release);
        self.tell_news(&session.id, news).await?;
        Ok(Some(problems))
    }

    /// Shows the people of a session what is new about its servers.
    pub(crate) async fn tell_news(
        &self,
        session: &ThreadId,
        news: impl IntoIterator<Item = News>,
    ) -> Result<(), StoreError> {
        for (server, news, text) in news {
            let what = Surface::Server { server, news, text };
            self.inner.store.show(&SurfaceEvent { thread: session.clone(), what }, clock::now()).await?;
        }
        self.inner.hub.ring();
        Ok(())
    }

    /// Asks all servers of a session at once, now, whoever was absent among them.
    pub(crate) async fn ask_all_servers(
        &self,
        session: &Session,
        refresh: Refreshing<'_>,
    ) -> Result<Vec<ToolsetProblem>, HostError> {
        let began = clock::now();
        let bases: Vec<HttpUrl> = session.toolbox.bases().cloned().collect();
        let asked = bases.iter().map(|base| self.ask_server(session, base));
        let mut problems = Vec::new();
        for asked in futures_util::future::join_all(asked).await {
            match asked? {
                Ok(of_tools) => problems.extend(of_tools),
                Err(problem) => {
                    self.tell_news(&session.id, [told(&problem)]).await?;
                    problems.push(problem);
                }
            }
        }
        refresh.done(began);
        Ok(problems)
    }

    /// Asks all servers of a session, unless that was done since a time. False: somebody does it at the moment.
    pub(crate) async fn ask_all_servers_since(
        &self,
        session: &ThreadId,
        asked_at: Millis,
    ) -> Result<bool, HostError> {
        let Some(refresh) = self.inner.servers.refresh(session) else { return Ok(false) };
        if refresh.last().is_some_and(|began| began >= asked_at) {
            return Ok(true);
        }
        if let Some(session) = self.inner.store.session(session).await? {
            self.ask_all_servers(&session, refresh).await?;
        }
        Ok(true)
    }
}

/// What is new about a server: its base URL, the kind, and a sentence.
type News = (String, ServerNews, String);

/// A problem as people see it.
pub(crate) fn told(problem: &ToolsetProblem) -> News {
    (problem.server.clone(), ServerNews::Problem, problem.message.clone())
}

/// What a session is offered: all tools that one server alone defines.
fn freeze(
    toolsets: Vec<(HttpUrl, CompiledToolset)>,
    without: &[String],
    own: &[OwnTool],
    mut live: LiveServers,
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
    let own_names = own.iter().map(|tool| tool.name.as_str());
    let catalog = catalog::merge(toolsets, built_in.chain(own_names));
    problems.extend(catalog.problems().iter().map(catalog_problem));
    live.withheld.extend(catalog.problems().iter().filter_map(|problem| match problem {
        CatalogProblem::Duplicate { name, .. } => Some(name.clone()),
        _ => None,
    }));
    let mut names: HashSet<String> = catalog
        .iter()
        .filter(|tool| tool.tool().name.is_portable())
        .map(|tool| tool.tool().name.to_string())
        .chain(BUILT_IN_TOOLS.iter().map(ToString::to_string))
        .chain(own.iter().map(|tool| tool.name.clone()))
        .collect();
    let tools = catalog
        .iter()
        .filter_map(|found| {
            let (tool, server) = (found.tool(), *places.get(found.base())?);
            let plain = tool.name.is_portable();
            let name = if plain { tool.name.to_string() } else { alias(tool.name.as_str(), &mut names) };
            Some(offered(tool, name, server))
        })
        .collect();
    Toolbox { tools, servers, without: without.to_vec(), own: own.to_vec(), live }
}

/// Takes in a server that was absent: its tools come after all that are there. It takes no name from anybody
/// (TLS-04): not one that another server offers, nor one that several wanted.
fn join(
    toolbox: &mut Toolbox,
    base: &HttpUrl,
    now: &HttpUrl,
    toolset: &CompiledToolset,
) -> Vec<ToolsetProblem> {
    let own: Vec<String> = toolbox.own.iter().map(|tool| tool.name.clone()).collect();
    let is_on = |name: &str| {
        let built_in = BUILT_IN_TOOLS.contains(&name) && !toolbox.without.iter().any(|off| off == name);
        built_in || own.iter().any(|own| own == name)
    };
    let mut names: HashSet<String> = toolbox
        .tools
        .iter()
        .map(|tool| tool.name.clone())
        .chain(BUILT_IN_TOOLS.iter().map(ToString::to_string).filter(|name| is_on(name)))
        .chain(own.iter().cloned())
        .collect();
    let server = toolbox.servers.len();
    let (mut problems, mut tools) = (Vec::new(), Vec::new());
    let mut offers: Vec<&Tool> = toolset.toolset().tools().iter().collect();
    offers.sort_by_key(|tool| !tool.name.is_portable()); // Those that need an alias take what is left.
    for tool in offers {
        let taken = toolbox.tools.iter().any(|other| other.operation == tool.name)
            || toolbox.live.withheld.contains(&tool.name);
        if is_on(tool.name.as_str()) {
            let (name, base) = (tool.name.clone(), now.clone());
            problems.push(catalog_problem(&CatalogProblem::BuiltIn { name, base }));
        } else if taken {
            problems.push(taken_problem(now, tool));
        } else {
            tools.push(offered(tool, alias(tool.name.as_str(), &mut names), server));
        }
    }
    toolbox.tools.extend(tools);
    toolbox.servers.push(ServerCard {
        name: toolset.toolset().name().to_owned(),
        base: now.clone(),
        endpoint: toolset.toolset().endpoint.clone(),
    });
    toolbox.live.absent.retain(|absent| key(absent) != key(base));
    for at in toolbox.live.named.values_mut().filter(|at| key(at) == key(base)) {
        *at = now.clone();
    }
    problems
}

/// A tool as it is offered to a model.
fn offered(tool: &Tool, name: String, server: usize) -> OfferedTool {
    let annotations = tool.annotations.clone().unwrap_or_default();
    OfferedTool {
        name,
        operation: tool.name.clone(),
        server,
        description: tool.description.clone(),
        input_schema: tool.input_schema.clone(),
        long_running: annotations.long_running.unwrap_or(false),
        destructive: annotations.destructive.unwrap_or(false),
        display_script: tool.display_script.clone(),
    }
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

pub(crate) fn discover_problem(base: &HttpUrl, error: &DiscoverError) -> ToolsetProblem {
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

fn taken_problem(base: &HttpUrl, tool: &Tool) -> ToolsetProblem {
    let server = base.redacted();
    let message = format!(
        "the tool {} of {server} has the name of another server's tool, which was there first, and is not offered; rename it there",
        tool.name
    );
    ToolsetProblem { server, kind: ToolsetProblemKind::DoubledTool, message }
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
