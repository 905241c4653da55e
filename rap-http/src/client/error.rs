//! Why there was no answer.

use super::connect::ConnectError;
use crate::delivery::Attempt;
use rap_types::HttpUrl;
use std::error::Error;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The last cause: the others say where it was noticed.
fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

/// Why there was no (complete) answer: opaque, with predicates. Says the origin, never the whole URL.
///
/// ```
/// use rap_http::{AddressPolicy, ClientError, GuardedClient};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let client = GuardedClient::new(AddressPolicy::public());
/// let error: ClientError = client.get(&"http://127.0.0.1/?secret".parse()?, 1024).await.unwrap_err();
/// assert!(error.is_blocked() && error.nothing_was_sent());
/// assert!(!error.to_string().contains("secret"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientError {
    origin: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Blocked(String),
    Refused(String),
    ConnectTimedOut,
    TimedOut,
    TooLarge(usize),
    Broken(String),
}

impl ClientError {
    pub(super) fn new(url: &HttpUrl, kind: Kind) -> Self {
        Self { origin: url.origin(), kind }
    }

    /// No connection was made; nothing was sent. A TLS handshake that failed is no answer either.
    pub(super) fn unconnected(url: &HttpUrl, error: &(dyn Error + 'static)) -> Self {
        let connect = causes(error).find_map(|e| e.downcast_ref::<ConnectError>());
        let kind = match connect {
            Some(ConnectError::Blocked(why)) => Kind::Blocked(why.clone()),
            Some(ConnectError::TimedOut) => Kind::ConnectTimedOut,
            Some(other) => Kind::Refused(other.to_string()),
            None => Kind::Refused(innermost(error)),
        };
        Self::new(url, kind)
    }

    /// The connection stood, and broke.
    pub(super) fn broken(url: &HttpUrl, error: &(dyn Error + 'static)) -> Self {
        Self::new(url, Kind::Broken(innermost(error)))
    }

    /// A time limit ran out, while connecting or later.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, Kind::ConnectTimedOut | Kind::TimedOut)
    }

    /// No connection could be made: refused, unreachable, no such name, no handshake.
    pub fn is_refused(&self) -> bool {
        matches!(self.kind, Kind::Refused(_))
    }

    /// The address policy, or a missing feature, forbade it. It will not work later either.
    pub fn is_blocked(&self) -> bool {
        matches!(self.kind, Kind::Blocked(_))
    }

    /// The answer was larger than the limit.
    pub fn is_too_large(&self) -> bool {
        matches!(self.kind, Kind::TooLarge(_))
    }

    /// Whether nothing at all was sent.
    pub fn nothing_was_sent(&self) -> bool {
        matches!(self.kind, Kind::Blocked(_) | Kind::Refused(_) | Kind::ConnectTimedOut)
    }

    /// Scheme, host and port of the URL. Its path and query may carry a secret and are not kept.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What happened, without the origin before it.
    pub fn what(&self) -> String {
        match &self.kind {
            Kind::Blocked(why) => format!("not sent: {why}"),
            Kind::Refused(what) => what.clone(),
            Kind::ConnectTimedOut => "no connection could be made in time".to_owned(),
            Kind::TimedOut => "no answer came in time".to_owned(),
            Kind::TooLarge(limit) => format!("the answer has over {limit} bytes"),
            Kind::Broken(what) => format!("the exchange failed: {what}"),
        }
    }

    /// What this is as an attempt.
    pub fn attempt(&self) -> Attempt {
        match &self.kind {
            Kind::Blocked(why) => Attempt::Blocked(why.clone()),
            Kind::Refused(_) | Kind::ConnectTimedOut => Attempt::Refused,
            Kind::TimedOut => Attempt::TimedOut,
            Kind::TooLarge(limit) => Attempt::Failed(format!("the answer has over {limit} bytes")),
            Kind::Broken(what) => Attempt::Failed(what.clone()),
        }
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.origin, self.what())
    }
}

impl Error for ClientError {}
