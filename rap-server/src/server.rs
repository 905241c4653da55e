//! The server before it serves: its tools, what they share, where it is reached, what it is protected by.
//! All faults of all of it are found at once, when it starts.

use crate::{
    IntoTool, StartError, Tool, ToolService, Undelivered,
    engine::{Engine, Settings},
    extract::States,
    letters::{DeadLetter, ResendError},
    outbox::{Courier, Outbox},
    past::Remembered,
    routes::Routes,
    service::INVOKE,
};
use rap_http::{AddressPolicy, Auth, GuardedClient, Secret};
use rap_types::{HttpUrl, Toolset, validate::CompiledToolset};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// The extensions that this server speaks.
const EXTENSIONS: [&str; 3] = ["event-id", "is-error", "status"];

/// A tool server to be.
///
/// ```no_run
/// use rap_server::{ToolServer, tool};
///
/// /// Current weather for a city.
/// #[tool(read_only)]
/// async fn get_weather(city: String) -> String {
///     format!("rain in {city}")
/// }
///
/// #[tokio::main]
/// async fn main() -> Result<(), rap_server::StartError> {
///     ToolServer::new("weather").tool(get_weather).serve("127.0.0.1:3001").await
/// }
/// ```
#[must_use = "a server does nothing until it is served"]
pub struct ToolServer {
    pub(crate) name: String,
    description: Option<String>,
    tools: Vec<Tool>,
    states: States,
    pub(crate) public_url: Option<String>,
    pub(crate) endpoint_url: Option<String>,
    pub(crate) forwarded: bool,
    pub(crate) auth: Auth,
    pub(crate) hosts: Vec<String>,
    allowed: Vec<String>,
    plain_http: bool,
    pub(crate) drain: Duration,
    pub(crate) undelivered: Option<Box<dyn FnOnce(Undelivered) + Send>>,
    settings: Settings,
    faults: Vec<String>,
}

impl ToolServer {
    /// A server of a name, which is the name of its toolset: 1 to 128 characters (TLS-11), spaces among them if you
    /// like.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: None,
            tools: Vec::new(),
            states: States::default(),
            public_url: None,
            endpoint_url: None,
            forwarded: false,
            auth: Auth::None,
            hosts: Vec::new(),
            allowed: Vec::new(),
            plain_http: false,
            drain: Duration::from_secs(10),
            undelivered: None,
            settings: Settings::default(),
            faults: Vec::new(),
        }
    }

    /// Says what the toolset is for.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Adds a tool: a function with `#[tool]` on it, or a [`Tool`].
    pub fn tool(mut self, tool: impl IntoTool) -> Self {
        self.tools.push(tool.into_tool());
        self
    }

    /// Adds what tools share; they take it as [`State<T>`](crate::State). One value per type.
    pub fn state<T: Send + Sync + 'static>(self, state: T) -> Self {
        self.shared_state(Arc::new(state))
    }

    /// As [`state`](Self::state), for what the program holds as well.
    ///
    /// ```
    /// use rap_server::{State, ToolServer, tool};
    /// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    ///
    /// /// Says hello.
    /// #[tool]
    /// async fn hello(#[cx] greeted: State<AtomicU64>) -> &'static str {
    ///     greeted.fetch_add(1, Ordering::Relaxed);
    ///     "hello"
    /// }
    ///
    /// let greeted = Arc::new(AtomicU64::new(0)); // the program's own, to be shown on a page, for one
    /// let server = ToolServer::new("greeter").shared_state(greeted.clone()).tool(hello);
    /// ```
    pub fn shared_state<T: Send + Sync + 'static>(mut self, state: Arc<T>) -> Self {
        if !self.states.put::<T>(state) {
            let name = std::any::type_name::<T>();
            self.faults.push(format!("the state {name} is given twice; give each type once"));
        }
        self
    }

    /// The URL under which runtimes reach this server, e.g. `https://tools.example.com/weather`. Without it
    /// the server names its listener's own address; it never believes a Host header.
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// The URL of the endpoint, where it is not `{public_url}/invoke`. Its path is served as well.
    pub fn endpoint_url(mut self, url: impl Into<String>) -> Self {
        self.endpoint_url = Some(url.into());
        self
    }

    /// Believes a proxy that says under which URL it was called: `Forwarded`, or `X-Forwarded-Proto`, `-Host` and
    /// `-Prefix`. Toolset and `response_url` then name that URL, for each caller its own; without these headers
    /// they name [`public_url`](Self::public_url) or the listener's address. Switch it on only where every
    /// request comes through a proxy that sets these headers itself: who can send them decides where runtimes
    /// send their calls.
    ///
    /// ```
    /// # use rap_server::{ToolServer, tool};
    /// # /// Says hello.
    /// # #[tool] async fn hello() -> &'static str { "hello" }
    /// let server = ToolServer::new("greeter").tool(hello).trust_forwarded().allow_host("tools.example.com");
    /// ```
    pub fn trust_forwarded(mut self) -> Self {
        self.forwarded = true;
        self
    }

    /// Asks for `Authorization: Bearer` with this token: visible ASCII, as a header needs it. Needed to listen on
    /// anything but loopback.
    ///
    /// ```no_run
    /// # use rap_server::{ToolServer, tool};
    /// # /// Says hello.
    /// # #[tool] async fn hello() -> &'static str { "hello" }
    /// let token = std::fs::read_to_string("weather.token")?;
    /// let server = ToolServer::new("greeter").tool(hello).bearer_token(token.trim()); // a file ends with a line break
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bearer_token(mut self, token: impl Into<Secret>) -> Self {
        self.auth = Auth::bearer(token);
        self
    }

    /// Asks for another kind of authentication, e.g. signed requests. [`Auth::InUrl`] is none for a tool server,
    /// whose URLs everybody knows: with it the server does not start.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// A host name by which a server on loopback may be called as well: that of a proxy in front of it.
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// A network, e.g. `10.1.0.0/16`, or an address, whose addresses callbacks may go to although they are not
    /// public. Loopback is allowed when this server listens on loopback.
    pub fn allow_target(mut self, network: impl Into<String>) -> Self {
        self.allowed.push(network.into());
        self
    }

    /// Lets callbacks go to public addresses by plain http as well.
    pub fn allow_plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Ends every call that takes longer in an error result; the time in which a person is asked does not
    /// count. Off by default.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.settings.time_limit = Some(limit);
        self
    }

    /// The time that a cancelled function has for returning before it is dropped; 5 s by default.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// The time that a shutdown has for ending calls and delivering what is owed; 10 s by default.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// How many events of one subscription may wait; 256 by default. When they do, `emit` waits.
    pub fn event_queue(mut self, events: usize) -> Self {
        self.settings.event_queue = events.clamp(1, 1 << 20);
        self
    }

    /// How many events of one subscription leave in a second, and how many at once (SUB-11); 100 and 200 by
    /// default. More wait.
    pub fn event_rate(mut self, per_second: u32, burst: u32) -> Self {
        self.settings.events_per_second = per_second.max(1);
        self.settings.event_burst = burst.max(1);
        self
    }

    /// How many calls one user may make in a minute, and how many at once. More end in an error result at
    /// once. Off by default; callers that name no user count as one.
    pub fn user_rate(mut self, per_minute: u32, burst: u32) -> Self {
        self.settings.user_rate = Some((per_minute, burst));
        self
    }

    /// How many calls may be open at once; 100,000 by default. Beyond it invocations are answered 503 with
    /// `Retry-After`.
    pub fn max_open_calls(mut self, calls: usize) -> Self {
        self.settings.open_calls = calls;
        self
    }

    /// How many calls that are over are recognised when their invocation is sent again (INV-10), and how many
    /// bytes of their results are kept for being delivered again; the last 100,000 calls and 64 MiB by default.
    pub fn remember(mut self, calls: usize, result_bytes: usize) -> Self {
        self.settings.remembered = Remembered { calls, result_bytes };
        self
    }

    /// The service that answers under this URL, to be mounted where a program of your own listens: a tower service,
    /// and with the feature `axum` routes for an axum app (`.into()`, or `merge` with it). It asks
    /// for authentication as configured; `loopback` says whether only this machine reaches it, as when you listen
    /// on 127.0.0.1: then no authentication is needed, and callbacks may go to this machine. The
    /// [handle](ToolService::handle) ends the calls when your program ends.
    ///
    /// # Errors
    /// Everything that is wrong, at once. The public URL must be given.
    ///
    /// ```
    /// # use rap_server::{ToolServer, tool};
    /// # use std::time::Duration;
    /// # /// Says hello.
    /// # #[tool] async fn hello() -> &'static str { "hello" }
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let tools = ToolServer::new("greeter")
    ///     .tool(hello)
    ///     .public_url("http://127.0.0.1:3010/tools")
    ///     .into_service(true)?;
    /// let handle = tools.handle();
    /// let app = axum::Router::new().nest("/tools", tools.into());
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3010").await?;
    /// let ended = handle.clone();
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async move {
    ///         tokio::signal::ctrl_c().await.ok();
    ///         // While it still answers: calls end, what is owed goes out.
    ///         let owed = ended.shut_down(Duration::from_secs(10)).await;
    ///         owed.0.iter().for_each(|letter| eprintln!("not delivered: {letter:?}"));
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_service(self, loopback: bool) -> Result<ToolService, StartError> {
        let mut faults = Vec::new();
        if self.public_url.is_none() {
            faults.push(
                "give .public_url(..): a server that does not listen itself cannot know its URL".to_owned(),
            );
        }
        if !loopback && !self.auth.is_configured() {
            faults.push(EXPOSED.to_owned());
        }
        let base = self.base(None, &mut faults);
        let (engine, server) = self.start(base, loopback, None, faults)?;
        Ok(ToolService::new(engine, &server, loopback))
    }

    /// The base URL: from configuration, else from the listener's own address.
    pub(crate) fn base(&self, listener: Option<SocketAddr>, faults: &mut Vec<String>) -> Option<HttpUrl> {
        let url = match (&self.public_url, listener) {
            (Some(url), _) => url.clone(),
            (None, Some(address)) if !address.ip().is_unspecified() => format!("http://{address}"),
            (None, Some(_)) => {
                faults.push("give .public_url(..): a server on all addresses cannot know its URL".to_owned());
                return None;
            }
            (None, None) => return None,
        };
        HttpUrl::new(url.as_str()).map_err(|e| faults.push(format!("public_url {url:?}: {e}"))).ok()
    }

    fn endpoint(&self, base: Option<&HttpUrl>, faults: &mut Vec<String>) -> Option<HttpUrl> {
        let made = match (&self.endpoint_url, base) {
            (Some(url), _) => HttpUrl::new(url.as_str()),
            (None, Some(base)) => base.below(INVOKE),
            (None, None) => return None,
        };
        let what = self.endpoint_url.as_deref().unwrap_or(INVOKE);
        let endpoint = made.map_err(|e| faults.push(format!("endpoint_url {what:?}: {e}"))).ok()?;
        if base.is_some_and(|base| Routes::new(path_of(base), &endpoint).clash()) {
            faults.push(format!(
                "endpoint_url {what:?}: its path is that of the toolset or of a notice; choose another path"
            ));
        }
        Some(endpoint)
    }

    fn policy(&self, loopback: bool, faults: &mut Vec<String>) -> AddressPolicy {
        let mut policy = AddressPolicy::public();
        if loopback {
            policy = policy.allow_loopback();
        }
        if self.plain_http {
            policy = policy.allow_plain_http();
        }
        for network in &self.allowed {
            let address = || network.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
            match network.parse::<ipnet::IpNet>().or_else(|e| address().map_err(|_| e)) {
                Ok(network) => policy = policy.allow(network),
                Err(e) => {
                    faults.push(format!("allow_target {network:?}: {e}; write e.g. 10.1.0.0/16 or 10.1.2.3"))
                }
            }
        }
        policy
    }

    /// Looks at everything and says all that is wrong with it. Without a base the server cannot listen, which
    /// is a fault by itself.
    pub(crate) fn check(
        &self,
        base: Option<&HttpUrl>,
        loopback: bool,
        faults: &mut Vec<String>,
    ) -> (Vec<rap_types::Tool>, Option<HttpUrl>, AddressPolicy) {
        faults.extend(self.faults.iter().cloned());
        let definitions = self.tools.iter().filter_map(|tool| tool.define(&self.states, faults)).collect();
        if self.tools.is_empty() {
            faults.push("it has no tool; add one with .tool(..) (TLS-11)".to_owned());
        }
        let length = self.name.chars().count();
        if !(1..=rap_types::limits::NAME_CHARS).contains(&length) {
            faults.push(format!("its name has {length} characters; 1 to 128 are allowed (TLS-11)"));
        } else if self.name.trim().is_empty() || self.name.contains(char::is_control) {
            faults.push(format!("its name {:?} cannot be read; write it in visible characters", self.name));
        }
        match &self.auth {
            // The URLs of a tool server are known to everybody.
            Auth::InUrl => faults.push(
                "Auth::InUrl keeps nobody out here: it is for URLs that carry a secret, as callbacks do; \
                 give .bearer_token(..) or Auth::Signed"
                    .to_owned(),
            ),
            auth => {
                // The listener may have said it already.
                let fault = auth.check().err().map(|e| e.to_string());
                faults.extend(fault.filter(|fault| !faults.contains(fault)));
            }
        }
        let mut seen = std::collections::HashSet::new();
        for tool in &self.tools {
            if !seen.insert(tool.name()) {
                faults.push(format!(
                    "two tools are named {:?}; give each a name of its own (TLS-07)",
                    tool.name()
                ));
            }
        }
        let endpoint = self.endpoint(base, faults);
        (definitions, endpoint, self.policy(loopback, faults))
    }

    /// Makes the engine, or says everything that is wrong.
    pub(crate) fn start(
        mut self,
        base: Option<HttpUrl>,
        loopback: bool,
        courier: Option<Box<dyn Courier>>,
        more_faults: Vec<String>,
    ) -> Result<(Arc<Engine>, Self), StartError> {
        let mut faults = more_faults;
        let (definitions, endpoint, policy) = self.check(base.as_ref(), loopback, &mut faults);
        let (Some(base), Some(endpoint), true) = (base, endpoint, faults.is_empty()) else {
            return Err(StartError::new(faults));
        };
        let mut toolset = Toolset::new(self.name.as_str(), endpoint, definitions)
            .map_err(|e| StartError::new(vec![e.to_string()]))?;
        toolset.description = self.description.take();
        let compiled = CompiledToolset::new(toolset.with_extensions(EXTENSIONS))
            .map_err(|faults| StartError::new(faults.iter().map(ToString::to_string).collect()))?;
        for tool in compiled.toolset().tools() {
            if !tool.name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
                tracing::warn!(
                    tool = tool.name.as_str(),
                    "this name has characters that not every model takes; letters, digits, _ and - are best (TLS-14)"
                );
            }
        }
        let size = serde_json::to_vec(compiled.toolset()).map_or(0, |bytes| bytes.len());
        if size > rap_types::limits::TOOLSET_BYTES {
            return Err(StartError::new(vec![format!(
                "the toolset has {size} bytes; 1 MiB is what every runtime takes (LIM-01): offer fewer tools"
            )]));
        }
        let work = self.tools.drain(..).map(|tool| (tool.name().to_owned(), tool.work)).collect();
        let courier =
            courier.unwrap_or_else(|| Box::new(GuardedClient::new(policy.clone())) as Box<dyn Courier>);
        let engine = Engine::new(
            compiled,
            work,
            self.states.clone(),
            self.settings.clone(),
            base,
            Outbox::new(courier, policy),
        );
        Ok((Arc::new(engine), self))
    }
}

/// The path of a base URL, without a slash at its end.
pub(crate) fn path_of(base: &HttpUrl) -> String {
    base.parsed().path().trim_end_matches('/').to_owned()
}

pub(crate) const EXPOSED: &str = "other machines can reach it and no authentication is configured; \
     give .bearer_token(..), or listen on 127.0.0.1 (in a router of your own that does: .into_service(true))";

impl std::fmt::Debug for ToolServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolServer")
            .field("name", &self.name)
            .field("tools", &self.tools)
            .finish_non_exhaustive()
    }
}

/// A look into a server that serves: what is open, what could not be delivered.
///
/// ```
/// use rap_server::ServerHandle;
///
/// /// After the runtime was mended: all that was given up goes out again.
/// async fn send_again(server: ServerHandle) {
///     for letter in server.dead_letters() {
///         println!("{} of {}: {}", letter.kind(), letter.call(), letter.reason());
///         if let Err(why) = server.resend(letter.number()).await {
///             println!("{why}");
///         }
///     }
/// }
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    pub(crate) engine: Arc<Engine>,
}

impl ServerHandle {
    /// How many calls are open: running, their result owed, or a living subscription.
    pub fn open_calls(&self) -> usize {
        self.engine.open_calls()
    }

    /// The toolset as runtimes see it.
    pub fn toolset(&self) -> &Toolset {
        self.engine.toolset.toolset()
    }

    /// The callbacks that were given up, oldest first: up to 10,000, and 64 MiB of them. When there are more the
    /// oldest go, results last. A shutdown hands them out with all else that is owed.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.engine.outbox.letters.list()
    }

    /// Ends the server within a limit: no more calls are taken (503), functions are told and end in results,
    /// subscriptions say goodbye, what is owed is delivered. What was not comes back. For servers in a router of
    /// one's own; [`serve`](ToolServer::serve) and [`Bound::run_until`](crate::Bound::run_until) do it themselves.
    /// Requests must still be answered meanwhile: people's answers and notices count to the last.
    pub async fn shut_down(&self, limit: Duration) -> Undelivered {
        Undelivered(self.engine.shut_down(limit).await)
    }

    /// Sends a dead letter again, once; when it arrives it is off the list. Dropped halfway, it is as if nobody had
    /// asked.
    ///
    /// # Errors
    /// It was not taken, and stays on the list. Or nobody wants it any more: an event after the end of its
    /// subscription or after a cancellation (SUB-07), a question that nobody awaits; then it is off the list as well.
    /// (A view is off the list as soon as there is a newer one.) Or there is no such letter, or it is on its way.
    pub async fn resend(&self, number: u64) -> Result<(), ResendError> {
        self.engine.outbox.resend(&self.engine, number).await
    }
}

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerHandle").field("open_calls", &self.open_calls()).finish_non_exhaustive()
    }
}
