//! The runtime as a value: built once, cloned freely, driven by [`Runtime::run_until`].

use crate::{
    ModelProvider, NothingKnown, OwnCall, ScriptedModel, ServerConfig,
    hub::Hub,
    model::KnownModel,
    net::Net,
    own::{Gathered, OwnTools},
    servers::Servers,
};
use ipnet::IpNet;
use rap_client::{
    Credentials, Gateway, KeyRing, ToolsetCache,
    gateway::{BODY_LIMIT, KeyRingError},
};
use rap_core::{DestructivePolicy, InstantCall, Outcome, OwnTool, Rules, Store};
use rap_types::{CallId, HttpUrl};
use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How many models that were found are kept.
const FOUND_MODELS: usize = 64;

/// A durable agent runtime: sessions on a [`Store`], a model, tool servers. Cheap to clone.
///
/// It does nothing by itself: [`run_until`](Self::run_until) drives it, and its [`gateway`](Self::gateway) must be
/// served where the public URL points.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    /// At least one; the first is the default.
    pub(crate) models: Vec<Arc<KnownModel>>,
    pub(crate) finder: Option<ModelFinder>,
    /// Models that the finder has found, by id.
    pub(crate) found: Mutex<HashMap<String, Arc<KnownModel>>>,
    pub(crate) servers: Servers,
    pub(crate) net: Net,
    pub(crate) known_toolsets: ToolsetCache,
    pub(crate) keys: KeyRing,
    pub(crate) public_url: HttpUrl,
    pub(crate) rules: Rules,
    pub(crate) system_prompt: String,
    pub(crate) without: Vec<String>,
    pub(crate) own: OwnTools,
    pub(crate) slices_at_once: usize,
    pub(crate) model_idle: Duration,
    pub(crate) choices: Choices,
    pub(crate) ask_every: Duration,
    /// The largest callback that is taken, in bytes.
    pub(crate) callback_limit: usize,
    /// How long a watcher may leave everything unread.
    pub(crate) watch_patience: Duration,
    /// Of what is owed by servers nothing is known; read from the store when it is first needed.
    pub(crate) nothing_known: tokio::sync::Mutex<Option<BTreeMap<CallId, NothingKnown>>>,
    pub(crate) hub: Arc<Hub>,
    #[cfg(feature = "sqlite")]
    pub(crate) elsewhere: Option<Arc<crate::SliceProcesses>>,
}

/// Makes a model of its id, `provider/model`, or says in a sentence why it cannot.
pub(crate) type ModelFinder = Box<dyn Fn(&str) -> Result<Arc<dyn ModelProvider>, String> + Send + Sync>;

/// What becomes of a tool's question to a person (CHO-01). It is surfaced and kept either way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choices {
    /// Nobody is there: it is dismissed at once, which picks its default.
    #[default]
    Dismiss,
    /// It waits until somebody [answers](crate::AgentHost::answer).
    Ask,
}

/// What becomes of calls of tools that say of themselves that they destroy something (CON-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Approval {
    /// A person is asked, each time. Where [nobody is there](Choices::Dismiss), they are declined.
    AskIfDestructive,
    /// They are declined, and the model is told.
    Deny,
    /// They run.
    Allow,
}

/// What the model is told of itself, unless the program says something else.
pub const DEFAULT_SYSTEM_PROMPT: &str = "You are a helpful agent. Use the tools that you are given. A call may take \
long: its result can come later, as an event. Say briefly what you do.";

/// How to build a [`Runtime`].
#[must_use]
pub struct RuntimeBuilder {
    store: Option<Arc<dyn Store>>,
    models: Vec<Arc<dyn ModelProvider>>,
    finder: Option<ModelFinder>,
    servers: Vec<ServerConfig>,
    public_url: Option<HttpUrl>,
    keys: Option<KeyRing>,
    rules: Rules,
    system_prompt: String,
    without: Vec<String>,
    own: Gathered,
    targets: Vec<IpNet>,
    slices_at_once: usize,
    model_idle: Duration,
    choices: Choices,
    ask_every: Duration,
    watch_patience: Duration,
    callback_limit: usize,
    #[cfg(feature = "sqlite")]
    elsewhere: Option<crate::SliceProcesses>,
}

/// Why there is no runtime: a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// No store was given.
    #[error("the runtime has no store; give it one with `store`, e.g. `MemoryStore::new()`")]
    NoStore,
    /// No public URL was given.
    #[error(
        "the runtime has no public URL; give the one under which tool servers reach its gateway with `public_url`"
    )]
    NoPublicUrl,
    /// Two servers of one origin have credentials of their own, or one name; or a token cannot be sent.
    #[error("{0}")]
    Servers(String),
    /// A tool of the program's own cannot be offered.
    #[error("{0}")]
    Tools(String),
    /// Slices run in processes of their own, and no model was given.
    #[error(
        "the runtime has no model; give it the one that its slice processes have with `model`: it summarises histories"
    )]
    NoModel,
    /// A model cannot be used.
    #[error("{0}")]
    Models(String),
    /// No signing key could be made.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
}

impl Runtime {
    /// A runtime to be built.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder {
            store: None,
            models: Vec::new(),
            finder: None,
            servers: Vec::new(),
            public_url: None,
            keys: None,
            rules: Rules::default(),
            system_prompt: DEFAULT_SYSTEM_PROMPT.to_owned(),
            without: Vec::new(),
            own: Gathered::default(),
            targets: Vec::new(),
            slices_at_once: 64,
            model_idle: Duration::from_secs(120),
            choices: Choices::default(),
            ask_every: Duration::from_secs(3600),
            watch_patience: Duration::from_secs(30),
            callback_limit: BODY_LIMIT,
            #[cfg(feature = "sqlite")]
            elsewhere: None,
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The model that sessions use unless they name another.
    pub fn model(&self) -> &Arc<dyn ModelProvider> {
        &self.inner.models[0].provider
    }

    /// The ids of the models that sessions may name, the default first.
    pub fn model_ids(&self) -> Vec<String> {
        self.inner.models.iter().map(|model| model.card.id.clone()).collect()
    }

    /// The model of a name, or the default where none is named.
    pub(crate) fn model_for(&self, name: Option<&str>) -> Result<Arc<KnownModel>, String> {
        let Some(name) = name else { return Ok(self.inner.models[0].clone()) };
        if let Some(model) = self.inner.models.iter().find(|model| model.card.id == name) {
            return Ok(model.clone());
        }
        let Some(finder) = &self.inner.finder else {
            return Err(format!("there is no model {name:?}; there are: {}", self.model_ids().join(", ")));
        };
        let found = |known: &Mutex<HashMap<String, Arc<KnownModel>>>| {
            known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
        };
        if let Some(model) = found(&self.inner.found) {
            return Ok(model);
        }
        let model = catch_unwind(AssertUnwindSafe(|| finder(name))).unwrap_or_else(|_| {
            Err("the program's finder of models panicked, which is a bug in it; use another model".to_owned())
        })?;
        let model = KnownModel::new(model)?;
        let mut known = self.inner.found.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= FOUND_MODELS {
            known.clear();
        }
        known.insert(name.to_owned(), model.clone());
        Ok(model)
    }

    /// Where tool servers reach the gateway.
    pub fn public_url(&self) -> &HttpUrl {
        &self.inner.public_url
    }

    pub(crate) fn callbacks(&self) -> Gateway {
        let inbox = Arc::new(crate::inbox::CallbackInbox::new(self.clone()));
        Gateway::new(self.inner.keys.clone(), self.inner.public_url.clone(), inbox)
            .body_limit(self.inner.callback_limit)
    }
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("public_url", &self.inner.public_url)
            .field("servers", &self.inner.servers.configured)
            .finish_non_exhaustive()
    }
}

impl RuntimeBuilder {
    /// The store.
    pub fn store(self, store: impl Store) -> Self {
        self.shared_store(Arc::new(store))
    }

    /// The store, where something else holds it too.
    pub fn shared_store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// A model; call it once for each. The first is what sessions use that name none. Without any, it is the
    /// scripted one that understands plain words.
    pub fn model(mut self, model: impl ModelProvider) -> Self {
        self.models.push(Arc::new(model));
        self
    }

    /// How to find a model that is none of those given with [`model`](Self::model), by the id that a session names:
    /// `provider/model`. What it answers is kept.
    pub fn model_finder(
        mut self,
        finder: impl Fn(&str) -> Result<Arc<dyn ModelProvider>, String> + Send + Sync + 'static,
    ) -> Self {
        self.finder = Some(Box::new(finder));
        self
    }

    /// The base URL of a tool server, with its path prefix if it has one. Naming a server consents to its
    /// tools (CON-01). Call it once for each.
    pub fn toolset(self, base: HttpUrl) -> Self {
        self.server(ServerConfig::new(base))
    }

    /// A tool server with a name, or with credentials by which it knows us. Naming a server consents to its tools
    /// (CON-01). Call it once for each. A session that names its own servers has the credentials of those that are
    /// configured here as well.
    pub fn server(mut self, server: ServerConfig) -> Self {
        self.servers.push(server);
        self
    }

    /// Where tool servers reach the [`gateway`](Runtime::gateway). It must outlive restarts: calls that are under
    /// way know no other.
    pub fn public_url(mut self, url: HttpUrl) -> Self {
        self.public_url = Some(url);
        self
    }

    /// The keys that sign callback URLs. They must outlive restarts as the store does
    /// ([`LocalFiles`](crate::LocalFiles) keeps them); without any, fresh ones are made.
    pub fn keys(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// The limits and policies of new sessions.
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// What becomes of calls of destructive tools in new sessions. Unless told otherwise a person is asked; where
    /// [nobody is there](Choices::Dismiss), they are declined (CON-02). To be called after [`rules`](Self::rules), where [`Rules::ask_for`] names further tools.
    pub fn approval(mut self, approval: Approval) -> Self {
        self.rules.destructive = match approval {
            Approval::AskIfDestructive => DestructivePolicy::Ask,
            Approval::Deny => DestructivePolicy::Deny,
            Approval::Allow => DestructivePolicy::Allow,
        };
        self
    }

    /// What the model of new sessions is told of itself.
    pub fn system_prompt(mut self, text: impl Into<String>) -> Self {
        self.system_prompt = text.into();
        self
    }

    /// Switches a built-in tool off in new sessions.
    pub fn without_tool(mut self, name: impl Into<String>) -> Self {
        self.without.push(name.into());
        self
    }

    /// A tool of the program's own that new sessions are offered, without a server: its calls are worked from the outbox,
    /// after their commit, and again after a kill, with the same id ([`OwnCall`]). Any number runs at once; none holds a
    /// slice up. In every later program that drives the same store it must be there, or its calls end in errors.
    pub fn own_tool<F: Future<Output = Outcome> + Send + 'static>(
        mut self,
        tool: OwnTool,
        work: impl Fn(OwnCall) -> F + Send + Sync + 'static,
    ) -> Self {
        self.own.call(tool, work);
        self
    }

    /// A pure tool of the program's own that new sessions are offered: a function of its call alone, without I/O, clock
    /// or dice, answered inside the decision, before anything is committed, and in the same turn. It blocks the slice for
    /// as long as it takes.
    pub fn instant_tool(
        mut self,
        tool: OwnTool,
        answer: impl Fn(&InstantCall<'_>) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        self.own.instant(tool, answer);
        self
    }

    /// Lets servers live in this network, e.g. `10.1.0.0/16`, plain http included. Public https addresses
    /// are always allowed; this machine is where a configured server's own base URL is.
    pub fn allow_target(mut self, network: IpNet) -> Self {
        self.targets.push(network);
        self
    }

    /// What becomes of a tool's question to a person; it is dismissed unless told otherwise.
    pub fn choices(mut self, choices: Choices) -> Self {
        self.choices = choices;
        self
    }

    /// Runs each slice in a process of its own; this one keeps callbacks, timers and retries, and summarises histories:
    /// so it needs the models that the slices have.
    #[cfg(feature = "sqlite")]
    pub fn slice_processes(mut self, processes: crate::SliceProcesses) -> Self {
        self.elsewhere = Some(processes);
        self
    }

    /// How many slices run at once at most; 64 unless set.
    pub fn slices_at_once(mut self, slices: usize) -> Self {
        self.slices_at_once = slices.max(1);
        self
    }

    /// How long a [watcher](crate::AgentHost::watch) that reads nothing is kept once what it may hold unread is full; 30 s
    /// unless set. Then its stream ends, and it may come again.
    pub fn watch_patience(mut self, time: Duration) -> Self {
        self.watch_patience = time.max(Duration::from_millis(1));
        self
    }

    /// The largest callback that the gateway takes, in bytes; 16 MiB unless set. A larger one is answered with 413. Every
    /// server may count on 1 MiB and its envelope (LIM-01): less is raised to 2 MiB.
    pub fn callback_limit(mut self, bytes: usize) -> Self {
        self.callback_limit = bytes.max(2 << 20);
        self
    }

    /// How often servers are asked whether calls and subscriptions that have been open for as long are still alive (P11,
    /// STA-02); an hour unless set.
    pub fn ask_every(mut self, time: Duration) -> Self {
        self.ask_every = time.max(Duration::from_millis(1));
        self
    }

    /// How long a model may be silent before its stream counts as broken; 2 minutes unless set. Until its first word it
    /// has 5 minutes, or this time where it is longer. Pings and pieces of calls are no silence ([`Delta::Alive`](crate::Delta)).
    pub fn model_idle_limit(mut self, limit: Duration) -> Self {
        self.model_idle = limit;
        self
    }

    /// The runtime.
    ///
    /// # Errors
    /// When the store or the public URL is missing, when a model cannot be used, when servers are configured so that they cannot be told apart,
    /// when a server's token cannot be sent, or when the system gives no randomness for keys.
    pub async fn build(self) -> Result<Runtime, RuntimeError> {
        let store = self.store.ok_or(RuntimeError::NoStore)?;
        let public_url = self.public_url.ok_or(RuntimeError::NoPublicUrl)?;
        let keys = match self.keys {
            Some(keys) => keys,
            None => KeyRing::generate()?,
        };
        check(&self.servers)?;
        let own = self.own.checked(&self.without)?;
        let mut models = self.models;
        if models.is_empty() {
            #[cfg(feature = "sqlite")]
            if self.elsewhere.is_some() {
                return Err(RuntimeError::NoModel);
            }
            models.push(Arc::new(ScriptedModel::demo()));
        }
        let models = models.into_iter().map(KnownModel::new).collect::<Result<_, _>>();
        let models = models.map_err(RuntimeError::Models)?;
        Ok(Runtime {
            inner: Arc::new(Inner {
                store,
                models,
                finder: self.finder,
                found: Mutex::default(),
                net: Net::new(&self.targets, &self.servers),
                servers: Servers::new(self.servers),
                known_toolsets: ToolsetCache::new(),
                keys,
                public_url,
                rules: self.rules,
                system_prompt: self.system_prompt,
                without: self.without,
                own,
                slices_at_once: self.slices_at_once,
                model_idle: self.model_idle,
                choices: self.choices,
                ask_every: self.ask_every,
                watch_patience: self.watch_patience,
                callback_limit: self.callback_limit,
                nothing_known: tokio::sync::Mutex::default(),
                hub: Arc::new(Hub::new()),
                #[cfg(feature = "sqlite")]
                elsewhere: self.elsewhere.map(Arc::new),
            }),
        })
    }
}

/// Credentials belong to an origin, and names to one server.
fn check(servers: &[ServerConfig]) -> Result<(), RuntimeError> {
    for (n, server) in servers.iter().enumerate() {
        if let Some(Credentials::Bearer(token)) = server.credentials()
            && let Err(e) = token.bearer_header()
        {
            return Err(RuntimeError::Servers(format!("the server {}: {e}", server.base().redacted())));
        }
        let clash = servers[..n].iter().find(|other| {
            let same_origin = other.base().origin() == server.base().origin();
            same_origin && other.credentials().is_some() && server.credentials().is_some()
        });
        if let Some(other) = clash {
            return Err(RuntimeError::Servers(format!(
                "the servers {} and {} are one origin, which can have credentials only once; give them to one of the two, \
                 or serve them under different hosts or ports",
                other.base().redacted(),
                server.base().redacted()
            )));
        }
        if servers[..n].iter().any(|other| other.name().is_some() && other.name() == server.name()) {
            let name = server.name().unwrap_or_default();
            return Err(RuntimeError::Servers(format!(
                "two servers have the name {name:?}; give each a name of its own"
            )));
        }
    }
    Ok(())
}
