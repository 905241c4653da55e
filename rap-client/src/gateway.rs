//! Receiving callbacks: the one door through which servers speak to a runtime.
//!
//! Whoever knows a callback URL may speak, and only about the thread and the call that the URL was made for:
//! the URL carries a signed [`Capability`] (TRN-12). A message is taken in only when its capability, its size,
//! its form and its ids are right; on every refusal the [`Inbox`] is not even called (TRN-08). 200 is
//! answered after the inbox has taken the message, never before (TRN-09).

mod capability;
#[cfg(feature = "axum")]
mod router;
mod service;

pub use capability::{Capability, KeyRing, KeyRingError};
pub use service::GatewayService;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Body;
use rap_http::{Guard, Problem, TraceContext, guard};
use rap_types::{CallId, CallbackMessage, HttpUrl, ThreadId, UrlError};
use std::{sync::Arc, time::Duration};

/// The largest callback body that is taken unless told otherwise.
pub const BODY_LIMIT: usize = 16 << 20;

/// A message that was let in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Callback {
    /// Which thread and call the URL was made for. The message's own ids agree with it; a view update has
    /// no call of its own, and this is the call under which it came.
    pub capability: Capability,
    /// The message.
    pub message: CallbackMessage,
    /// The W3C trace that it belongs to, when the server sent a well-formed one.
    pub traceparent: Option<String>,
}

impl Callback {
    /// A message, as if it had been let in: for tests of inboxes and for servers in the same process.
    pub fn new(capability: Capability, message: CallbackMessage) -> Self {
        Self { capability, message, traceparent: None }
    }
}

/// What became of a message in the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is durable and will have its effect: 200.
    Accepted,
    /// It was taken before and has no second effect (RES-09, SUB-13): 200.
    Duplicate,
    /// It was logged and dropped, and nothing is wrong with the server (RES-08, CAN-03, SUB-08): 200.
    Discarded,
    /// There is no such thread (VIW-02): 404.
    UnknownThread,
    /// A new event of an ended subscription, an event or view of a closed thread: 410, stop sending.
    Ended,
}

/// Why the inbox did not take a message. Nothing has changed; the server is asked to come again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InboxError {
    /// Too much at the moment: 503.
    #[error("too much at the moment")]
    Busy {
        /// When to come again.
        retry_after: Duration,
    },
    /// This subscription or thread gets too much (SUB-11): 429.
    #[error("too many messages")]
    TooMany {
        /// When to come again.
        retry_after: Duration,
    },
    /// The store failed: 503. The cause is logged, never answered.
    #[error("the inbox failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where messages go that were let in.
///
/// ```
/// use rap_client::{Callback, Inbox, InboxError, Taken};
///
/// struct Log;
///
/// #[async_trait::async_trait]
/// impl Inbox for Log {
///     async fn take(&self, callback: Callback) -> Result<Taken, InboxError> {
///         println!("{} got {:?}", callback.capability.thread, callback.message);
///         Ok(Taken::Accepted) // in earnest: only after it is on disk
///     }
/// }
/// ```
#[async_trait::async_trait]
pub trait Inbox: Send + Sync + 'static {
    /// Takes a message: returns when it is durable (TRN-09). It runs to its end even when the server hangs up.
    ///
    /// # Errors
    /// [`InboxError`] when nothing was taken; the server will send it again.
    async fn take(&self, callback: Callback) -> Result<Taken, InboxError>;
}

/// The gateway: mints callback URLs and serves them. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    keys: KeyRing,
    public_url: HttpUrl,
    inbox: Arc<dyn Inbox>,
    body_limit: usize,
    body_timeout: Duration,
    guard: Option<Guard>,
}

impl Gateway {
    /// A gateway that servers reach under `public_url`. The URL must outlive restarts, and so must the
    /// keys: calls that are under way know no other.
    pub fn new(keys: KeyRing, public_url: HttpUrl, inbox: Arc<dyn Inbox>) -> Self {
        Self {
            keys,
            public_url,
            inbox,
            body_limit: BODY_LIMIT,
            body_timeout: Duration::from_secs(30),
            guard: None,
        }
    }

    /// The largest body that is taken, in bytes; 16 MiB unless set. Every peer may count on 1 MiB (LIM-01).
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// The longest time for a body to come; 30 s unless set.
    #[must_use]
    pub fn body_timeout(mut self, limit: Duration) -> Self {
        self.body_timeout = limit;
        self
    }

    /// Turns away foreign `Host`s and web pages as this guard does, before anything else; for a gateway that
    /// listens on loopback. Take `Guard::for_listener` of a listener with `Auth::InUrl`, and `allow_host` the host of
    /// the public URL: a bearer token, which servers do not have, would keep all callbacks out.
    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// The callback URL for a call: opaque to the server, a secret, at most about 750 bytes longer than the
    /// public URL. The same call gets the same URL as long as the first key stays the same.
    ///
    /// # Errors
    /// When the public URL cannot be extended.
    pub fn callback_url(&self, thread: &ThreadId, call: &CallId) -> Result<HttpUrl, UrlError> {
        self.keys.callback_url(&self.public_url, thread, call)
    }

    /// The keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// `POST /callback/{token}` as a tower service, to be mounted where the public URL points: it is found with the path
    /// of the public URL and without.
    pub fn into_service(self) -> GatewayService {
        GatewayService::new(self)
    }

    async fn admit<B>(&self, token: &str, headers: &HeaderMap, body: B) -> Result<Callback, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let capability = self.keys.check(token).ok_or_else(|| {
            Problem::new(401, "bad-capability", "The callback URL is not valid")
                .detail("this runtime made no such URL; POST to `callback_url` exactly as it was given")
        });
        let head = capability.and_then(|capability| guard::check_content(headers).map(|()| capability));
        let capability = match head {
            Ok(capability) => capability,
            Err(problem) => {
                guard::discard(headers, body);
                return Err(problem);
            }
        };
        let body = guard::read_body(body, self.body_limit, self.body_timeout).await?;
        let message: CallbackMessage =
            rap_types::parse(&body).map_err(|fault| Problem::invalid(fault.to_string()))?;
        if *message.group_id() != capability.thread {
            return Err(Problem::new(403, "wrong-thread", "This URL is another thread's")
                .detail("`group_id` is not the thread for which the callback URL was given"));
        }
        if message.tool_call_id().is_some_and(|call| *call != capability.call) {
            return Err(Problem::new(403, "wrong-call", "This URL is another call's")
                .detail("the message's call is not the one for which the callback URL was given"));
        }
        Ok(Callback { capability, message, traceparent: traceparent(headers) })
    }

    /// Takes a callback in, or says what is wrong with it.
    async fn receive<B>(&self, token: &str, request: Request<B>) -> Result<(), Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        if let Some(guard) = &self.guard {
            guard.check_caller(&parts)?;
        }
        let callback = self.admit(token, &parts.headers, body).await?;
        self.take(callback).await
    }

    async fn take(&self, callback: Callback) -> Result<(), Problem> {
        let inbox = self.inbox.clone();
        // A task of its own: a server that hangs up, or a panic, leaves no half-taken message behind unseen.
        let taken = tokio::spawn(async move { inbox.take(callback).await }).await;
        match taken {
            Ok(Ok(Taken::Accepted | Taken::Duplicate | Taken::Discarded)) => Ok(()),
            Ok(Ok(Taken::UnknownThread)) => {
                Err(Problem::new(404, "unknown-thread", "There is no such thread")
                    .detail("nothing can be shown in it; check `group_id`"))
            }
            Ok(Ok(Taken::Ended)) => {
                Err(Problem::gone("the subscription or the thread has ended; stop sending to this URL"))
            }
            Ok(Err(InboxError::Busy { retry_after })) => Err(Problem::busy(retry_after)),
            Ok(Err(InboxError::TooMany { retry_after })) => Err(Problem::too_many(retry_after)
                .detail("messages come too fast; send it again after the time in `retry-after`")),
            Ok(Err(InboxError::Failed(cause))) => {
                tracing::error!(%cause, "the inbox failed to take a callback");
                Err(Problem::busy(Duration::from_secs(5)))
            }
            Err(_) => {
                tracing::error!("the inbox panicked while it took a callback");
                Err(Problem::busy(Duration::from_secs(5)))
            }
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("keys", &self.keys)
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

/// A well-formed W3C `traceparent`, else nothing: it goes into records and further requests.
///
/// ```
/// let mut headers = http::HeaderMap::new();
/// assert_eq!(rap_client::gateway::traceparent(&headers), None);
/// let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// headers.insert("traceparent", trace.parse()?);
/// assert_eq!(rap_client::gateway::traceparent(&headers).as_deref(), Some(trace));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn traceparent(headers: &HeaderMap) -> Option<String> {
    TraceContext::of(headers).map(|trace| trace.parent().to_owned())
}
