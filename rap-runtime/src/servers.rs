//! Tool servers as a program configures them, and what this process knows of those that are in trouble.
//!
//! A server is asked again when it could not be used as a session began, when it refused a connection, and when it did
//! not know its own endpoint any more (404, 410); ever later, and once for all sessions. What is known here may be
//! lost at any moment: the next slice of a session, or the next request that fails, makes it known anew.

use rap_client::Credentials;
use rap_core::{Millis, Session};
use rap_http::{
    Secret,
    webhooks::{KeyError, Keys},
};
use rap_types::{HttpUrl, ThreadId};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// The pause after the first time that a server did not answer; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Servers that are asked again, and sessions that wait for each, at most. More are asked about by their next slices.
const KNOWN: usize = 4096;

/// A tool server: where it is, and how it is to know us.
///
/// ```
/// use rap_runtime::ServerConfig;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let weather = ServerConfig::new("https://tools.example/weather".parse()?).named("weather").bearer("a-token");
/// assert!(!format!("{weather:?}").contains("a-token"));
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ServerConfig {
    base: HttpUrl,
    name: Option<String>,
    credentials: Option<Credentials>,
}

impl ServerConfig {
    /// A server by its base URL, with its path prefix if it has one.
    pub fn new(base: HttpUrl) -> Self {
        Self { base, name: None, credentials: None }
    }

    /// Gives it a name. Sessions know a server with a name by it: where the next start names another URL for it, they
    /// go on with it there.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Every request to the URL's origin (scheme, host and port), and to no other, carries this bearer token. One that
    /// cannot be sent ([`Secret::bearer_header`]) is refused when the runtime is built.
    #[must_use]
    pub fn bearer(mut self, token: impl Into<Secret>) -> Self {
        self.credentials = Some(Credentials::Bearer(token.into()));
        self
    }

    /// Every POST to the URL's origin, and to no other, is signed with each of these keys in the Standard Webhooks
    /// form (`whsec_…`). Discovery is a GET and carries no signature.
    ///
    /// # Errors
    /// When there is no key, or one is not of that form.
    pub fn signed<'k>(mut self, keys: impl IntoIterator<Item = &'k Secret>) -> Result<Self, KeyError> {
        self.credentials = Some(Credentials::Signed(Keys::new(keys)?));
        Ok(self)
    }

    /// The base URL.
    pub fn base(&self) -> &HttpUrl {
        &self.base
    }

    /// The name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }
}

/// A base URL with and without a slash at its end is one server.
pub(crate) fn key(base: &HttpUrl) -> &str {
    base.as_str().trim_end_matches('/')
}

/// The configured servers, and those in trouble.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) configured: Vec<ServerConfig>,
    asked_again: Mutex<HashMap<String, AskedAgain>>,
    bell: Notify,
    /// A server of some session has moved since this process began.
    pub(crate) some_moved: AtomicBool,
    /// Sessions whose servers were all asked because a person wanted it.
    refreshed: Mutex<HashMap<ThreadId, Refresh>>,
    /// Rung when such an asking has ended.
    refresh_ended: Notify,
    /// Held while a session's toolbox is read, changed and written.
    pub(crate) writing: tokio::sync::Mutex<()>,
}

/// A server that is to be asked again.
#[derive(Debug)]
struct AskedAgain {
    base: HttpUrl,
    sessions: HashSet<ThreadId>,
    tries: u32,
    at: Instant,
}

/// When all servers of a session were asked last, and whether they are being asked.
#[derive(Debug, Default, Clone, Copy)]
struct Refresh {
    began: Option<Millis>,
    running: bool,
}

/// The right to ask all servers of a session; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Refreshing<'s> {
    servers: &'s Servers,
    session: ThreadId,
    last: Option<Millis>,
}

/// A server whose time has come.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) base: HttpUrl,
    pub(crate) sessions: Vec<ThreadId>,
}

impl Servers {
    pub(crate) fn new(configured: Vec<ServerConfig>) -> Self {
        Self { configured, ..Self::default() }
    }

    /// The name under which a base URL is configured.
    pub(crate) fn name_of(&self, base: &HttpUrl) -> Option<&str> {
        self.configured.iter().find(|server| key(&server.base) == key(base))?.name()
    }

    /// Where a session's server is by the configuration of now: another place than the session knows, if it has a
    /// name and was moved.
    pub(crate) fn configured_base(&self, session: &Session, base: &HttpUrl) -> HttpUrl {
        let named = &session.toolbox.live.named;
        let name = named.iter().find(|(_, at)| key(at) == key(base)).map(|(name, _)| name.as_str());
        let configured = self.configured.iter().find(|server| name.is_some() && server.name() == name);
        configured.map_or_else(|| base.clone(), |server| server.base.clone())
    }

    /// A slice of a session runs: what the session lacks is asked again, and what was configured anew is looked up.
    pub(crate) fn session_runs(&self, session: &Session) {
        let live = &session.toolbox.live;
        for base in &live.absent {
            self.ask_again(&session.id, base);
        }
        for base in live.named.values() {
            if key(&self.configured_base(session, base)) != key(base) {
                self.ask_again(&session.id, base);
            }
        }
    }

    /// A server is in trouble, as far as a session knows: it is asked again, at once if it was not before.
    pub(crate) fn ask_again(&self, session: &ThreadId, base: &HttpUrl) {
        let mut asked_again = self.state();
        if asked_again.len() >= KNOWN && !asked_again.contains_key(key(base)) {
            return;
        }
        let entry = asked_again.entry(key(base).to_owned()).or_insert_with(|| AskedAgain {
            base: base.clone(),
            sessions: HashSet::new(),
            tries: 0,
            at: Instant::now(),
        });
        if entry.sessions.len() < KNOWN && entry.sessions.insert(session.clone()) {
            self.bell.notify_one();
        }
    }

    /// The servers whose time has come; waits for the first. Whoever takes them says how it went with
    /// [`settled`](Self::settled) or [`failed`](Self::failed).
    pub(crate) async fn due(&self) -> Vec<Due> {
        loop {
            let now = Instant::now();
            let next = {
                let asked_again = self.state();
                let due = asked_again.values().filter(|entry| entry.at <= now).map(|entry| Due {
                    base: entry.base.clone(),
                    sessions: entry.sessions.iter().cloned().collect(),
                });
                let due: Vec<Due> = due.collect();
                if !due.is_empty() {
                    return due;
                }
                asked_again.values().map(|entry| entry.at).min()
            };
            match next {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.bell.notified() => {}
                },
                None => self.bell.notified().await,
            }
        }
    }

    /// A server was asked and everything is told to these sessions.
    pub(crate) fn settled(&self, due: &Due) {
        let mut asked_again = self.state();
        if let Some(entry) = asked_again.get_mut(key(&due.base)) {
            due.sessions.iter().for_each(|session| {
                entry.sessions.remove(session);
            });
            entry.tries = 0;
            entry.at = Instant::now();
            if entry.sessions.is_empty() {
                asked_again.remove(key(&due.base));
            }
        }
    }

    /// A server still cannot be used: later.
    pub(crate) fn failed(&self, due: &Due) {
        if let Some(entry) = self.state().get_mut(key(&due.base)) {
            let pause = FIRST_PAUSE * (1 << entry.tries.min(16));
            entry.tries += 1;
            entry.at = Instant::now() + pause.min(LONGEST_PAUSE);
        }
    }

    /// Takes the asking of all servers of a session on; none if somebody does it already.
    pub(crate) fn refresh(&self, session: &ThreadId) -> Option<Refreshing<'_>> {
        let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        if refreshed.len() >= KNOWN {
            refreshed.retain(|_, refresh| refresh.running);
        }
        let entry = refreshed.entry(session.clone()).or_default();
        if entry.running {
            return None;
        }
        entry.running = true;
        Some(Refreshing { servers: self, session: session.clone(), last: entry.began })
    }

    /// Takes the asking of all servers of a session on, as soon as nobody else does it.
    pub(crate) async fn next_refresh(&self, session: &ThreadId) -> Refreshing<'_> {
        loop {
            let mut ended = std::pin::pin!(self.refresh_ended.notified());
            ended.as_mut().enable();
            if let Some(refresh) = self.refresh(session) {
                return refresh;
            }
            ended.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, HashMap<String, AskedAgain>> {
        self.asked_again.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refreshing<'_> {
    /// When they were asked last.
    pub(crate) fn last(&self) -> Option<Millis> {
        self.last
    }

    /// All were asked, from this time on.
    pub(crate) fn done(mut self, began: Millis) {
        self.last = Some(began);
    }
}

impl Drop for Refreshing<'_> {
    fn drop(&mut self) {
        let mut refreshed = self.servers.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        refreshed.insert(self.session.clone(), Refresh { began: self.last, running: false });
        drop(refreshed);
        self.servers.refresh_ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> HttpUrl {
        text.parse().unwrap()
    }

    /// However many sessions lack a server, it is asked once at a time, ever later, and at once for nobody else's sake.
    #[tokio::test(start_paused = true)]
    async fn asked_ever_later_and_once_for_all() {
        let servers = Servers::default();
        let thread = |n: usize| ThreadId::new(format!("thread-{n}")).unwrap();
        for n in 0..3 {
            servers.ask_again(&thread(n), &url("http://down:1/"));
        }
        servers.ask_again(&thread(0), &url("http://down:1"));
        let begun = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..12 {
            let due = servers.due().await;
            assert_eq!((due.len(), due[0].sessions.len()), (1, 3));
            asked.push(begun.elapsed().as_millis());
            servers.failed(&due[0]);
        }
        let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(asked[0], 0);
        assert!(pauses.windows(2).all(|pair| pair[0] <= pair[1]), "{pauses:?}");
        assert_eq!((pauses[0], *pauses.last().unwrap()), (500, 300_000), "{pauses:?}");
        let due = servers.due().await;
        servers.settled(&due[0]);
        let nothing = tokio::time::timeout(Duration::from_secs(86_400), servers.due()).await;
        assert!(nothing.is_err(), "nobody waits any more, and nothing is asked");
    }
}
