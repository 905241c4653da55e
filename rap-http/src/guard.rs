//! The way in: a tower layer that turns away what no handler should see.
//!
//! In this order: a foreign `Host` or any `Origin` on a loopback listener (a web page must not drive a local
//! program, DNS rebinding included), missing or wrong authentication, a body that is not JSON or is compressed,
//! a body that is too large or too slow. The body is read whole before the handler runs, so a handler never
//! waits for a slow peer. What is left of a body that was refused is thrown away for a while, so that a peer
//! which is still sending reads the refusal instead of a broken connection.

use crate::{
    Problem, Secret,
    listen::{Auth, Listener},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Either, Full};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{Layer, Service};

/// The layer. Cheap to clone.
///
/// ```
/// use rap_http::{Auth, Guard};
/// let guard = Guard::new(Auth::bearer("a long random token"), false).body_limit(2 << 20).open("/health");
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
    body_limit: usize,
    body_timeout: Duration,
    budget: Arc<Semaphore>,
}

impl Guard {
    /// A guard for a listener with this authentication; `loopback` says whether only this machine reaches it.
    ///
    /// Bodies: at most 16 MiB each and 256 MiB together, within 30 s.
    pub fn new(auth: Auth, loopback: bool) -> Self {
        Self {
            config: Arc::new(Config {
                auth,
                loopback,
                hosts: Vec::new(),
                open: Vec::new(),
                body_limit: 16 << 20,
                body_timeout: Duration::from_secs(30),
                budget: Arc::new(Semaphore::new(256 << 20)),
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
    /// nothing. A prefix ends at a segment: `/health` opens `/health/x` but not `/healthy`.
    #[must_use]
    pub fn open(mut self, prefix: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.config).open.push(prefix.into().trim_end_matches('/').to_owned());
        self
    }

    /// The largest body, in bytes.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        Arc::make_mut(&mut self.config).body_limit = bytes;
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
}

impl Guard {
    /// Only what can be said before the body: `Host`, `Origin` and the bearer token. For services that judge
    /// the URL before they read a body; the layer does this and all the rest.
    ///
    /// # Errors
    /// 403 or 401.
    pub fn check_caller(&self, parts: &Parts) -> Result<(), Problem> {
        self.config.check_caller(parts)
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
        if let Err(problem) = config.check_head(&parts) {
            discard(&parts.headers, body);
            return Box::pin(async move { Ok(problem.into_response().map(Either::Left)) });
        }
        let mut body = Box::pin(body);
        Box::pin(async move {
            let refused = match tokio::time::timeout(config.body_timeout, config.read(body.as_mut())).await {
                // The share of the budget is given back when the handler has answered.
                Ok(Ok((bytes, _share))) => match config.check_signature(&parts, &bytes) {
                    Ok(()) => {
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

impl Config {
    fn check_signature(&self, parts: &Parts, body: &Bytes) -> Result<(), Problem> {
        let Auth::Signed(keys) = &self.auth else { return Ok(()) };
        let harmless = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if harmless || self.is_open(parts.uri.path()) {
            return Ok(());
        }
        keys.verify(&parts.headers, unix_now(), body).map_err(|e| Problem::unauthorized(e.to_string()))
    }

    /// All that can be said before the body comes.
    fn check_head(&self, parts: &Parts) -> Result<(), Problem> {
        self.check_caller(parts)?;
        let carries_body = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
        if carries_body {
            check_content(&parts.headers)?;
        }
        let announced = parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        if announced.is_some_and(|n: u64| n > self.body_limit as u64) {
            return Err(Problem::too_large(self.body_limit));
        }
        Ok(())
    }

    fn check_caller(&self, parts: &Parts) -> Result<(), Problem> {
        if self.loopback {
            self.check_host(&parts.uri, &parts.headers)?;
            if parts.headers.contains_key(header::ORIGIN) {
                return Err(Problem::forbidden(
                    "requests of web pages are not taken here; call from a program, without `origin`",
                ));
            }
        }
        match &self.auth {
            Auth::Bearer(tokens) if !self.is_open(parts.uri.path()) => check_bearer(tokens, &parts.headers),
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
        self.open.iter().any(|prefix| {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Reads a body whole, within the limits of one and of all.
    async fn read<B>(&self, body: Pin<&mut B>) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let mut share: Option<OwnedSemaphorePermit> = None;
        let body = collect(body, self.body_limit, |more| {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let permit = self.budget.clone().try_acquire_many_owned(more);
            let permit = permit.map_err(|_| Problem::busy(Duration::from_secs(1)))?;
            match &mut share {
                Some(share) => share.merge(permit),
                None => share = Some(permit),
            }
            Ok(())
        })
        .await?;
        Ok((body, share))
    }
}

/// Reads a body whole: at most `limit` bytes within `time`. For services that look at the URL first.
///
/// # Errors
/// 413, 408, or 400 for a body that broke off.
///
/// ```
/// use rap_http::{Problem, guard::{check_content, discard, read_body}};
/// use std::time::Duration;
///
/// async fn take(request: http::Request<http_body_util::Full<bytes::Bytes>>) -> Result<bytes::Bytes, Problem> {
///     let (parts, body) = request.into_parts();
///     if let Err(problem) = check_content(&parts.headers) {
///         discard(&parts.headers, body);
///         return Err(problem);
///     }
///     read_body(body, 1 << 20, Duration::from_secs(30)).await
/// }
/// ```
pub async fn read_body<B>(body: B, limit: usize, time: Duration) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let mut body = Box::pin(body);
    match tokio::time::timeout(time, collect(body.as_mut(), limit, |_| Ok(()))).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(problem)) => {
            discard(&HeaderMap::new(), body);
            Err(problem)
        }
        Err(_) => Err(too_slow(time)),
    }
}

/// How much of a refused body is thrown away, for how long, and how many at once. Beyond that the connection
/// is closed under the peer's hands.
const DISCARD_BYTES: usize = 16 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);
static DISCARDING: Semaphore = Semaphore::const_new(64);

/// Takes in and throws away what is left of a body that was refused, in the background and within limits: a
/// peer that sends first and reads then would otherwise lose the answer with the connection. For services
/// that refuse by the URL, before a body is read.
pub fn discard<B>(headers: &HeaderMap, body: B)
where
    B: Body<Data = Bytes> + Send + 'static,
{
    // Who expects `100 Continue` waits for our word and has sent nothing; reading would ask for it.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let (Ok(place), Ok(runtime)) = (DISCARDING.try_acquire(), tokio::runtime::Handle::try_current()) else {
        return;
    };
    runtime.spawn(async move {
        let _place = place;
        let _ = tokio::time::timeout(DISCARD_TIME, async move {
            let mut body = std::pin::pin!(body);
            let mut seen = 0;
            while let Some(Ok(frame)) = body.frame().await {
                seen += frame.data_ref().map_or(0, Bytes::len);
                if seen > DISCARD_BYTES {
                    break;
                }
            }
        })
        .await;
    });
}

fn too_slow(limit: Duration) -> Problem {
    Problem::timeout(format!("the body must come within {} s", limit.as_secs_f64()))
}

/// Puts a body together; `room` is asked before more of it is kept.
async fn collect<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    limit: usize,
    mut room: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Problem::too_large(limit));
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::invalid("the body broke off; send it whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + whole.len() + data.len() > limit {
            return Err(Problem::too_large(limit));
        }
        room(data.len())?;
        // A body of one frame, the usual case, is passed on without a copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
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
