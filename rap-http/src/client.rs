//! The way out: one HTTP client that connects only to addresses which the policy allows.
//!
//! There is one place where connections are made, the connector, and it connects to addresses that it has
//! just checked: literal ones from the URL, or those a name resolved to. Redirects are not followed, no
//! proxy is asked, every step has a time limit and every body a size limit. The path and query of a URL go
//! out byte for byte as given (TRN-07), which is why this stands on hyper's client and not on one that
//! parses URLs by the browsers' rules and writes them anew.

mod connect;
mod error;
mod pool;
mod uri;

pub use connect::{Resolve, Resolving, SystemResolver};
pub use error::ClientError;

use crate::{delivery::Attempt, policy::AddressPolicy};
use bytes::{Bytes, BytesMut};
use connect::Connector;
use error::Kind;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use pool::{Body, Link, Peer, Pool};
use rap_types::HttpUrl;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use uri::uri;

/// How much of an answer nobody reads is taken in, so that its connection can serve again.
const DRAIN_BYTES: usize = 16 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_millis(200);
/// An HTTP client under an [`AddressPolicy`]. Cheap to clone; clones share connections.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use rap_http::{AddressPolicy, GuardedClient};
/// let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
/// let reply = client.get(&"http://127.0.0.1:3001/.well-known/rap-toolset".parse()?, 1 << 20).await?;
/// assert!(reply.status.is_success());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GuardedClient {
    inner: Arc<Inner>,
}

struct Inner {
    policy: Arc<AddressPolicy>,
    total: Duration,
    pool: Arc<Pool>,
    connector: Connector,
    #[cfg(feature = "tls")]
    roots: Vec<rustls::pki_types::CertificateDer<'static>>,
    #[cfg(feature = "tls")]
    secure: std::sync::OnceLock<connect::Secure>,
}

/// A request that may go out, and to whom. In a box: it is handed on from one future to the next, each of which
/// would have room for it.
struct Begun {
    peer: Peer,
    request: Box<Request<Body>>,
}

/// How to build a [`GuardedClient`].
///
/// ```
/// use rap_http::{AddressPolicy, GuardedClient, client::{Builder, SystemResolver}};
/// use std::{sync::Arc, time::Duration};
///
/// let builder: Builder = GuardedClient::builder(AddressPolicy::public());
/// let client = builder
///     .connect_timeout(Duration::from_secs(2))
///     .total_timeout(Duration::from_secs(10))
///     .resolver(Arc::new(SystemResolver))
///     .build();
/// ```
#[must_use]
pub struct Builder {
    policy: AddressPolicy,
    connect: Duration,
    total: Duration,
    resolver: Arc<dyn Resolve>,
    #[cfg(feature = "tls")]
    roots: Vec<rustls::pki_types::CertificateDer<'static>>,
}

/// An answer that was read whole.
///
/// ```
/// use rap_http::{Attempt, ClientError, GuardedClient, Reply};
///
/// async fn health(client: &GuardedClient) -> Result<String, ClientError> {
///     let url = "https://tools.example.com/health".parse().expect("a URL");
///     let reply: Reply = client.get(&url, 4096).await?;
///     assert_ne!(reply.attempt(), Attempt::Refused, "it was answered");
///     Ok(String::from_utf8_lossy(&reply.body).into_owned())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status; redirects come back as they are.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// An answer that is read piece by piece.
///
/// ```
/// use rap_http::{ClientError, GuardedClient, client::Opened};
///
/// async fn follow(client: &GuardedClient) -> Result<(), ClientError> {
///     let url = "https://tools.example.com/log".parse().expect("a URL");
///     let mut stream: Opened = client.open(&url, Default::default()).await?;
///     while let Some(piece) = stream.chunk().await {
///         println!("{} bytes", piece?.len());
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Opened {
    /// The status; redirects come back as they are.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    url: HttpUrl,
    body: Incoming,
    link: Link,
}

impl Opened {
    /// The next piece of the body; none at its end. Waits for as long as it takes.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            match self.link.drive(self.body.frame()).await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(e) => return Some(Err(ClientError::broken(&self.url, &e))),
            }
        }
    }
}

impl Reply {
    /// What this answer is as an attempt.
    pub fn attempt(&self) -> Attempt {
        Attempt::Status { code: self.status.as_u16(), retry_after: retry_after(&self.headers) }
    }
}

impl GuardedClient {
    /// A client with limits of 5 s to connect and 30 s in all, and the system's resolver.
    pub fn new(policy: AddressPolicy) -> Self {
        Self::builder(policy).build()
    }

    /// A client with limits of one's own.
    pub fn builder(policy: AddressPolicy) -> Builder {
        Builder {
            policy,
            connect: Duration::from_secs(5),
            total: Duration::from_secs(30),
            resolver: Arc::new(SystemResolver),
            #[cfg(feature = "tls")]
            roots: Vec::new(),
        }
    }

    /// The policy.
    pub fn policy(&self) -> &AddressPolicy {
        &self.inner.policy
    }

    /// POSTs JSON and says what came of it. The answer's body is not read.
    pub fn post_json(
        &self,
        url: &HttpUrl,
        body: Bytes,
        headers: HeaderMap,
    ) -> impl Future<Output = Attempt> + Send {
        // Begun here and not in the future, which would carry all of this about.
        let begun = self.begin(Method::POST, url, headers, Some(body));
        async move {
            let exchange = async {
                let Begun { peer, request } = begun?;
                let deadline = self.deadline();
                let (answer, mut link) = self.exchange(url, &peer, request, deadline).await?;
                let retry_after = retry_after(answer.headers());
                let attempt = Attempt::Status { code: answer.status().as_u16(), retry_after };
                let body = answer.into_body();
                if !body.is_end_stream() {
                    let drained = Box::pin(link.drive_until(deadline, drain(body))).await;
                    drained.ok_or_else(|| ClientError::new(url, Kind::TimedOut))?;
                }
                self.inner.pool.keep(peer, link);
                Ok(attempt)
            };
            exchange.await.unwrap_or_else(|e: ClientError| e.attempt())
        }
    }

    /// POSTs JSON and reads the answer, at most `limit` bytes of it.
    ///
    /// # Errors
    /// [`ClientError`] when there was no complete answer. Any status is an answer.
    pub async fn post_json_reading(
        &self,
        url: &HttpUrl,
        body: Bytes,
        headers: HeaderMap,
        limit: usize,
    ) -> Result<Reply, ClientError> {
        let begun = self.begin(Method::POST, url, headers, Some(body));
        self.read(url, begun, limit).await
    }

    /// GETs a URL and reads the answer, at most `limit` bytes of it.
    ///
    /// # Errors
    /// [`ClientError`] when there was no complete answer. Any status is an answer.
    pub async fn get(&self, url: &HttpUrl, limit: usize) -> Result<Reply, ClientError> {
        self.get_with(url, HeaderMap::new(), limit).await
    }

    /// [`get`](Self::get) with headers, e.g. a bearer token.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_with(
        &self,
        url: &HttpUrl,
        headers: HeaderMap,
        limit: usize,
    ) -> Result<Reply, ClientError> {
        let begun = self.begin(Method::GET, url, headers, None);
        self.read(url, begun, limit).await
    }

    /// GETs a URL whose answer is a stream: it is read piece by piece, as long as it lasts. The time limit is for
    /// the answer to begin.
    ///
    /// # Errors
    /// [`ClientError`] when no answer began.
    pub async fn open(&self, url: &HttpUrl, headers: HeaderMap) -> Result<Opened, ClientError> {
        self.stream(url, self.begin(Method::GET, url, headers, None)).await
    }

    /// POSTs JSON to a URL whose answer is a stream: it is read piece by piece, as long as it lasts. The time
    /// limit is for the answer to begin.
    ///
    /// # Errors
    /// [`ClientError`] when no answer began.
    pub async fn post_json_opening(
        &self,
        url: &HttpUrl,
        body: Bytes,
        headers: HeaderMap,
    ) -> Result<Opened, ClientError> {
        self.stream(url, self.begin(Method::POST, url, headers, Some(body))).await
    }

    /// When an exchange that begins now must be over.
    fn deadline(&self) -> Instant {
        Instant::now() + self.inner.total
    }

    async fn read(
        &self,
        url: &HttpUrl,
        begun: Result<Begun, ClientError>,
        limit: usize,
    ) -> Result<Reply, ClientError> {
        let Begun { peer, request } = begun?;
        let deadline = self.deadline();
        let (answer, mut link) = self.exchange(url, &peer, request, deadline).await?;
        let reply = link.drive_until(deadline, read(url, answer, limit)).await;
        let reply = reply.ok_or_else(|| ClientError::new(url, Kind::TimedOut))??;
        self.inner.pool.keep(peer, link);
        Ok(reply)
    }

    async fn stream(&self, url: &HttpUrl, begun: Result<Begun, ClientError>) -> Result<Opened, ClientError> {
        let Begun { peer, request } = begun?;
        let (answer, link) = self.exchange(url, &peer, request, self.deadline()).await?;
        let (parts, body) = answer.into_parts();
        Ok(Opened { status: parts.status, headers: parts.headers, url: url.clone(), body, link })
    }

    /// Sends a request on a connection that is idle, else on a new one. A kept one may have been closed meanwhile:
    /// what was not begun on it goes out on the next.
    async fn exchange(
        &self,
        url: &HttpUrl,
        peer: &Peer,
        mut request: Box<Request<Body>>,
        deadline: Instant,
    ) -> Result<(Response<Incoming>, Link), ClientError> {
        let too_late = || ClientError::new(url, Kind::TimedOut);
        loop {
            let (mut link, is_kept) = match self.inner.pool.take(peer) {
                Some(link) => (link, true),
                // Apart: connecting is seldom, and takes more room than all the rest.
                None => {
                    let connecting = Box::pin(tokio::time::timeout_at(deadline, self.connect(url, peer)));
                    (connecting.await.map_err(|_| too_late())??, false)
                }
            };
            match link.send(request, deadline).await.ok_or_else(too_late)? {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    tracing::trace!(peer = %peer.authority, status, is_kept, "answered");
                    return Ok((answer, link));
                }
                Err(unanswered) => match unanswered.unsent {
                    Some(unsent) if is_kept => request = unsent,
                    _ => return Err(ClientError::broken(url, &*unanswered.error)),
                },
            }
        }
    }

    async fn connect(&self, url: &HttpUrl, peer: &Peer) -> Result<Link, ClientError> {
        #[cfg(feature = "tls")]
        let connected = {
            let secure = if peer.secure { Some(self.secure(url)?.clone()) } else { None };
            connect::connect(peer, self.inner.connector.clone(), secure).await
        };
        #[cfg(not(feature = "tls"))]
        let connected = connect::connect(peer, self.inner.connector.clone()).await;
        let io = connected.map_err(|e| ClientError::unconnected(url, &*e))?;
        Link::new(io, self.deadline()).await.map_err(|e| ClientError::broken(url, &e))
    }

    /// A request, whose target is judged here.
    fn begin(
        &self,
        method: Method,
        url: &HttpUrl,
        headers: HeaderMap,
        json: Option<Bytes>,
    ) -> Result<Begun, ClientError> {
        let target = self
            .inner
            .policy
            .check_url(url)
            .map_err(|refusal| ClientError::new(url, Kind::Blocked(refusal.to_string())))?;
        let blocked = |why: &str| ClientError::new(url, Kind::Blocked(why.to_owned()));
        if target.secure && !cfg!(feature = "tls") {
            return Err(blocked("this program was built without https; build it with the feature `tls`"));
        }
        let uri = uri(url, &target).map_err(|why| blocked(&why))?.into_parts();
        let (Some(authority), Some(path)) = (uri.authority, uri.path_and_query) else {
            return Err(blocked("the URL cannot be sent"));
        };
        let host =
            HeaderValue::from_str(authority.as_str()).map_err(|_| blocked("the URL cannot be sent"))?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = path.into();
        *request.headers_mut() = headers;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("rap-http/", env!("CARGO_PKG_VERSION"))));
        if let Some(body) = json {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Full::new(body);
        }
        Ok(Begun { peer: Peer { secure: target.secure, authority }, request: Box::new(request) })
    }

    #[cfg(feature = "tls")]
    fn secure(&self, url: &HttpUrl) -> Result<&connect::Secure, ClientError> {
        if let Some(connector) = self.inner.secure.get() {
            return Ok(connector);
        }
        let provider = rustls::crypto::CryptoProvider::get_default().ok_or_else(|| {
            let why = "no TLS crypto provider is installed; install one first thing in `main`";
            ClientError::new(url, Kind::Blocked(why.to_owned()))
        })?;
        let unfit =
            |e: rustls::Error| ClientError::new(url, Kind::Blocked(format!("TLS cannot be set up: {e}")));
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(
            self.inner.roots.iter().cloned(),
            provider.clone(),
        )
        .map_err(unfit)?;
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unfit)?
            .dangerous() // the platform's own verifier, with the roots that were added
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(self.inner.connector.clone());
        Ok(self.inner.secure.get_or_init(|| connector))
    }
}

impl std::fmt::Debug for GuardedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedClient").field("policy", &self.inner.policy).finish_non_exhaustive()
    }
}

impl Builder {
    /// The longest time for resolving a name and connecting (default 5 s).
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect = limit;
        self
    }

    /// The longest time for a whole exchange (default 30 s).
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.total = limit;
        self
    }

    /// Another resolver than the system's. What it answers is checked like any other answer.
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Trusts this authority too, a certificate in DER form, beside the system's: for peers inside a company.
    #[cfg(feature = "tls")]
    pub fn trust_root(mut self, certificate: impl Into<Vec<u8>>) -> Self {
        self.roots.push(certificate.into().into());
        self
    }

    /// The client.
    pub fn build(self) -> GuardedClient {
        let policy = Arc::new(self.policy);
        let connector = Connector::new(policy.clone(), self.resolver, self.connect);
        GuardedClient {
            inner: Arc::new(Inner {
                policy,
                total: self.total,
                pool: Arc::default(),
                connector,
                #[cfg(feature = "tls")]
                roots: self.roots,
                #[cfg(feature = "tls")]
                secure: std::sync::OnceLock::new(),
            }),
        }
    }
}

async fn read(url: &HttpUrl, response: http::Response<Incoming>, limit: usize) -> Result<Reply, ClientError> {
    let (parts, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| ClientError::broken(url, &e))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > limit {
                return Err(ClientError::new(url, Kind::TooLarge(limit)));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(Reply { status: parts.status, headers: parts.headers, body: bytes.freeze() })
}

async fn drain(mut body: Incoming) {
    let _ = tokio::time::timeout(DRAIN_TIME, async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > DRAIN_BYTES {
                break;
            }
        }
    })
    .await;
}

/// What `Retry-After` asks for, written as seconds or as a date; none where it is absent or neither.
///
/// ```
/// use rap_http::client::retry_after;
///
/// let headers = [(http::header::RETRY_AFTER, "7".parse()?)].into_iter().collect();
/// assert_eq!(retry_after(&headers), Some(std::time::Duration::from_secs(7)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each callback is one of these in a box: what is larger than a kilobyte costs an allocator its short way.
    #[test]
    fn a_request_on_its_way_is_small() {
        let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
        let url = "http://127.0.0.1:4000/".parse().unwrap();
        let size = size_of_val(&client.post_json(&url, Bytes::new(), HeaderMap::new()));
        assert!(size <= 1000, "{size}");
    }
}
