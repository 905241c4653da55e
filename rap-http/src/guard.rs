//! The way in: a tower layer that turns away what no handler should see.
//!
//! In this order: a foreign `Host` or any `Origin` on a loopback listener (a web page must not drive a local
//! program, DNS rebinding included), missing or wrong authentication, a body that is not JSON or is compressed,
//! a body that is too large or too slow. The body is read whole before the handler runs, so a handler never
//! waits for a slow peer. What is left of a body that was refused is thrown away for a while, so that a peer
//! which is still sending reads the refusal instead of a broken connection.
//!
//! Bodies of strangers, of whom nothing is known before the body is there, have room of their own: they never
//! take that of authenticated callers, nor keep other strangers out (see `strangers`).

mod body;
mod strangers;

pub use body::{discard, read_body};

use crate::{
    Problem, Secret,
    listen::{Auth, Listener},
};
use body::{collect, too_slow};
use bytes::Bytes;
use futures_util::future::poll_immediate;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use http_body::Body;
use http_body_util::{Either, Full};
use std::{
    fmt,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use strangers::{Place, Strangers};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

/// The layer. Cheap to clone.
///
/// ```
/// use rap_http::{Auth, Guard};
/// let guard = Guard::new(Auth::bearer("a-long-random-token"), false).body_limit(2 << 20).open("/health");
/// # let _ = guard;
/// ```
#[derive(Debug, Clone)]
pub struct Guard {
    config: Arc<Config>,
}

#[derive(Debug, Clone)]
struct Config {
    auth: Auth,
    loopback: bool,
    hosts: Vec<String>,
    open: Vec<String>,
    open_where: Option<Opens>,
    body_limit: usize,
    open_body_limit: usize,
    body_timeout: Duration,
    budget: Arc<Semaphore>,
    strangers: Arc<Strangers>,
}

/// Says of a path whether it is open.
#[derive(Clone)]
struct Opens(Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl fmt::Debug for Opens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opens")
    }
}

impl Guard {
    /// A guard for a listener with this authentication; `loopback` says whether only this machine reaches it.
    ///
    /// Bodies: at most 16 MiB each and 256 MiB together, within 30 s; those of strangers at most 64 MiB together.
    /// A bearer token that nobody can send ([`Auth::check`]) is told in the log, as an error.
    pub fn new(auth: Auth, loopback: bool) -> Self {
        if let Err(error) = auth.check() {
            tracing::error!(%error, "every request that needs a token will be answered 401");
        }
        Self {
            config: Arc::new(Config {
                auth,
                loopback,
                hosts: Vec::new(),
                open: Vec::new(),
                open_where: None,
                body_limit: 16 << 20,
                open_body_limit: 16 << 20,
                body_timeout: Duration::from_secs(30),
                budget: Arc::new(Semaphore::new(256 << 20)),
                strangers: Arc::new(Strangers::new(64 << 20)),
            }),
        }
    }

    /// A guard for a listener.
    pub fn for_listener(listener: &Listener) -> Self {
        Self::new(listener.auth().clone(), listener.is_loopback())
    }

    /// A further host name by which a loopback listener may be called, without port: the public name of a
    /// proxy in front of it.
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.config).hosts.push(host.into().to_ascii_lowercase());
        self
    }

    /// Paths that begin so need no authentication, because their URLs carry a secret of their own or say
    /// nothing. A prefix ends at a segment: `/health` opens `/health/x` but not `/healthy`. The path is the
    /// one that came: where the service behind routes it in a way of its own, take
    /// [`open_where`](Self::open_where).
    #[must_use]
    pub fn open(mut self, prefix: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.config).open.push(prefix.into().trim_end_matches('/').to_owned());
        self
    }

    /// Paths of which this says so need no authentication either. It is asked for the path as it came, and best
    /// goes by the very function that routes it, so that what is open and what is served cannot differ.
    ///
    /// ```
    /// use rap_http::{Auth, Guard};
    ///
    /// let is_health = |path: &str| path.trim_end_matches('/') == "/health";
    /// let guard = Guard::new(Auth::bearer("a-long-random-token"), false).open_where(is_health).open_body_limit(0);
    /// # let _ = guard;
    /// ```
    #[must_use]
    pub fn open_where(mut self, is_open: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.config).open_where = Some(Opens(Arc::new(is_open)));
        self
    }

    /// The largest body on a path that is open, in bytes, where that is less than the
    /// [limit](Self::body_limit) for all.
    #[must_use]
    pub fn open_body_limit(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.config).open_body_limit = bytes;
        self
    }

    /// The largest body, in bytes.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        let config = Arc::make_mut(&mut self.config);
        config.body_limit = bytes;
        self.room_for_strangers(bytes.saturating_mul(4))
    }

    /// Bodies of four strangers have room, however large they may be.
    fn room_for_strangers(mut self, bytes: usize) -> Self {
        if bytes > self.config.strangers.room() {
            Arc::make_mut(&mut self.config).strangers = Arc::new(Strangers::new(bytes));
        }
        self
    }

    /// The longest time for a body to come.
    #[must_use]
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        Arc::make_mut(&mut self.config).body_timeout = limit;
        self
    }

    /// The most that all bodies in work may take together, in bytes; beyond it requests get 503.
    #[must_use]
    pub fn body_budget(mut self, bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Arc::make_mut(&mut self.config).budget = Arc::new(Semaphore::new(bytes));
        self
    }

    /// The most that the bodies of strangers may take together, in bytes: those on open paths, and signed ones
    /// whose signature is not checked yet because they are not there yet. Beyond it whoever has been sending for
    /// longest gets 503, so that strangers who send slowly keep nobody out. 64 MiB, or four times the
    /// [limit](Self::body_limit) where that is more; a body larger than this never passes.
    #[must_use]
    pub fn stranger_budget(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.config).strangers = Arc::new(Strangers::new(bytes));
        self
    }
}

impl Guard {
    /// Only what can be said before the body: `Host`, `Origin` and the bearer token. For services that judge
    /// the URL before they read a body; the layer does this and all the rest.
    ///
    /// # Errors
    /// 403 or 401.
    pub fn check_caller(&self, parts: &Parts) -> Result<(), Problem> {
        self.config.check_caller(parts, self.config.is_open(parts.uri.path()))
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, config: self.config.clone() }
    }
}

/// A service behind a [`Guard`].
///
/// ```
/// use rap_http::{Auth, Guard, guard::Guarded};
/// use tower::Layer;
///
/// /// Puts a guard before a service.
/// fn guarded<S>(service: S) -> Guarded<S> {
///     Guard::new(Auth::None, true).body_limit(1 << 20).layer(service)
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    config: Arc<Config>,
}

impl<S, B, R> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Either<Full<Bytes>, R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone takes the place of the one that was made ready.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let config = self.config.clone();
        let (parts, body) = request.into_parts();
        let open = config.is_open(parts.uri.path());
        if let Err(problem) = config.check_head(&parts, open) {
            discard(&parts.headers, body);
            return Box::pin(async move { Ok(problem.into_response().map(Either::Left)) });
        }
        let mut body = Box::pin(body);
        Box::pin(async move {
            let read = {
                let mut reading = pin!(config.read(body.as_mut(), open));
                // Most bodies are there with their heads; a timer is for the others.
                match poll_immediate(reading.as_mut()).await {
                    Some(read) => Ok(read),
                    None => tokio::time::timeout(config.body_timeout, reading).await,
                }
            };
            let refused = match read {
                // The share of the room is given back when the handler has answered.
                Ok(Ok((bytes, share))) => match config.check_signature(&parts, open, &bytes, share) {
                    Ok(_share) => {
                        drop(body);
                        let request = Request::from_parts(parts, Full::new(bytes));
                        return Ok(inner.call(request).await?.map(Either::Right));
                    }
                    Err(problem) => problem,
                },
                Ok(Err(problem)) => {
                    discard(&parts.headers, body);
                    problem
                }
                Err(_) => too_slow(config.body_timeout),
            };
            Ok(refused.into_response().map(Either::Left))
        })
    }
}

/// What a body takes of the room for bodies, given back when it is dropped.
enum Share {
    Known { _room: Option<OwnedSemaphorePermit> },
    Stranger { _room: Place },
}

impl Config {
    /// The share of a request is one among strangers' until its signature was checked.
    fn check_signature(
        &self,
        parts: &Parts,
        open: bool,
        body: &Bytes,
        share: Share,
    ) -> Result<Share, Problem> {
        let Auth::Signed(keys) = &self.auth else { return Ok(share) };
        let harmless = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if harmless || open {
            return Ok(share);
        }
        keys.verify(&parts.headers, unix_now(), body).map_err(|e| Problem::unauthorized(e.to_string()))?;
        let mut known = None;
        self.take(&mut known, body.len())?;
        Ok(Share::Known { _room: known })
    }

    /// All that can be said before the body comes.
    fn check_head(&self, parts: &Parts, open: bool) -> Result<(), Problem> {
        self.check_caller(parts, open)?;
        let carries_body = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        if carries_body {
            check_content(&parts.headers)?;
        }
        let limit = self.limit(open);
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        if announced.is_some_and(|n: u64| n > limit as u64) {
            return Err(Problem::too_large(limit));
        }
        Ok(())
    }

    fn limit(&self, open: bool) -> usize {
        if open { self.body_limit.min(self.open_body_limit) } else { self.body_limit }
    }

    fn check_caller(&self, parts: &Parts, open: bool) -> Result<(), Problem> {
        if self.loopback {
            self.check_host(&parts.uri, &parts.headers)?;
            if parts.headers.contains_key(header::ORIGIN) {
                return Err(Problem::forbidden(
                    "requests of web pages are not taken here; call from a program, without `origin`",
                ));
            }
        }
        match &self.auth {
            Auth::Bearer(tokens) if !open => check_bearer(tokens, &parts.headers),
            _ => Ok(()),
        }
    }

    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let foreign = || {
            Problem::forbidden(
                "this host name is not served here; use 127.0.0.1, [::1] or localhost, \
                 or configure the public name of the proxy",
            )
        };
        let mut named = false;
        let in_headers = headers.get_all(header::HOST).iter().map(|v| v.to_str().unwrap_or_default());
        // HTTP/2, and requests meant for a proxy, name the host in the URI.
        for text in in_headers.chain(uri.authority().map(|a| a.as_str())) {
            let authority: http::uri::Authority = text.parse().map_err(|_| foreign())?;
            if text.contains('@') || !self.is_ours(authority.host()) {
                return Err(foreign());
            }
            named = true;
        }
        if named { Ok(()) } else { Err(foreign()) }
    }

    fn is_ours(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<std::net::IpAddr>() {
            return ip.is_loopback() || self.hosts.iter().any(|h| h == host);
        }
        host.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(|h| host.eq_ignore_ascii_case(h))
    }

    fn is_open(&self, path: &str) -> bool {
        self.open_where.as_ref().is_some_and(|opens| opens.0(path))
            || self.open.iter().any(|prefix| {
                path.strip_prefix(prefix.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }

    /// Reads a body whole, within the limits of one and of all.
    async fn read<B>(&self, body: Pin<&mut B>, open: bool) -> Result<(Bytes, Share), Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let limit = self.limit(open);
        if open || matches!(self.auth, Auth::Signed(_)) {
            let mut place = Strangers::place(&self.strangers);
            let body = collect(body, limit, &mut place).await?;
            place.is_whole()?;
            return Ok((body, Share::Stranger { _room: place }));
        }
        let mut share = None;
        let body = collect(body, limit, &mut |more| self.take(&mut share, more)).await?;
        Ok((body, Share::Known { _room: share }))
    }

    /// Takes more of the room of callers that are known.
    fn take(&self, share: &mut Option<OwnedSemaphorePermit>, more: usize) -> Result<(), Problem> {
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = self.budget.clone().try_acquire_many_owned(more);
        let permit = permit.map_err(|_| Problem::busy(Duration::from_secs(1)))?;
        match share {
            Some(share) => share.merge(permit),
            None => *share = Some(permit),
        }
        Ok(())
    }
}

fn check_bearer(tokens: &[Secret], headers: &HeaderMap) -> Result<(), Problem> {
    let wanted =
        || Problem::unauthorized("send `authorization: Bearer` with a token that is configured here");
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return Err(wanted()) };
    let (scheme, token) = match value.as_bytes().iter().position(|b| *b == b' ') {
        Some(at) => value.as_bytes().split_at(at),
        None => return Err(wanted()),
    };
    let token = token.trim_ascii();
    // Every token is compared, whichever fits.
    let known = tokens.iter().fold(false, |known, t| known | (t.is(token) && !token.is_empty()));
    if scheme.eq_ignore_ascii_case(b"bearer") && known { Ok(()) } else { Err(wanted()) }
}

/// What a body's headers must say: JSON (TRN-01), and not compressed: nothing that grows when it is read is
/// taken.
///
/// # Errors
/// 415.
pub fn check_content(headers: &HeaderMap) -> Result<(), Problem> {
    let identity = |v: &HeaderValue| v.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().all(identity) {
        return Err(Problem::encoded());
    }
    if is_json(headers) { Ok(()) } else { Err(Problem::not_json()) }
}

/// Whether a request says that its body is `application/json`, in UTF-8 if a charset is named (TRN-01).
///
/// ```
/// use rap_http::guard::is_json;
///
/// let kind = |kind: &str| kind.parse().map(|kind| [(http::header::CONTENT_TYPE, kind)].into_iter().collect());
/// assert!(is_json(&kind("application/json; charset=utf-8")?));
/// assert!(!is_json(&kind("text/plain")?));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn is_json(headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (all.next(), all.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    json && parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    })
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
