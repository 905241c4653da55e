//! Listening: on loopback, or with authentication, or not at all.

use crate::{Secret, TokenError, webhooks};
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// How requests to a listener are authenticated.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Auth {
    /// Not at all: for loopback only.
    None,
    /// `Authorization: Bearer`, one of these tokens (several while one is being replaced).
    Bearer(Vec<Secret>),
    /// Signed in the Standard Webhooks form. Requests without a body (discovery) are open.
    Signed(webhooks::Keys),
    /// Every URL that is served carries a secret of its own, such as a callback's capability.
    InUrl,
}

impl Auth {
    /// One bearer token. Whether it can be sent at all is [checked](Self::check) where something starts with it: here
    /// it would be told apart from all else that is wrong.
    pub fn bearer(token: impl Into<Secret>) -> Self {
        Self::Bearer(vec![token.into()])
    }

    /// Whether strangers are kept out. An empty list of tokens, or an empty token, keeps nobody out and does
    /// not count.
    pub fn is_configured(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bearer(tokens) => !tokens.is_empty() && tokens.iter().all(|t| !t.expose().is_empty()),
            Self::Signed(_) | Self::InUrl => true,
        }
    }

    /// Whether every bearer token can be sent. With one that cannot, nobody would ever be let in by it.
    /// [`Listener::bind`] refuses it; a [`Guard`](crate::Guard), which cannot fail, says it in the log.
    ///
    /// # Errors
    /// What is wrong with the first that cannot; without any token [`TokenError::Empty`].
    ///
    /// ```
    /// use rap_http::Auth;
    ///
    /// assert!(Auth::bearer("a-long-random-token").check().is_ok());
    /// assert!(Auth::bearer("a-long-random-token\n").check().is_err());
    /// ```
    pub fn check(&self) -> Result<(), TokenError> {
        match self {
            Self::Bearer(tokens) if tokens.is_empty() => Err(TokenError::Empty),
            Self::Bearer(tokens) => tokens.iter().try_for_each(|token| token.bearer_header().map(drop)),
            Self::None | Self::Signed(_) | Self::InUrl => Ok(()),
        }
    }
}

/// A TCP listener that was allowed to listen: it is on loopback, or has authentication.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    address: SocketAddr,
    auth: Auth,
}

impl Listener {
    /// Listens on `address`, e.g. `127.0.0.1:3001`; port 0 picks a free one.
    ///
    /// # Errors
    /// [`ListenError`], a sentence that says what to do: not loopback and no authentication, taken port,
    /// no such address, no permission, a bearer token that nobody can send.
    pub async fn bind(address: &str, auth: Auth) -> Result<Self, ListenError> {
        let resolved: Vec<SocketAddr> = tokio::net::lookup_host(address)
            .await
            .map_err(|e| {
                ListenError::new(format!(
                    "cannot listen on {address:?}: {e}; give an address and a port, e.g. 127.0.0.1:3001"
                ))
            })?
            .collect();
        let exposed = resolved.iter().find(|a| !a.ip().is_loopback());
        if let (Some(exposed), false) = (exposed, auth.is_configured()) {
            let ip = exposed.ip();
            return Err(ListenError::new(format!(
                "refusing to listen on {address}: {ip} can be reached from other machines and no authentication is configured; \
                 listen on 127.0.0.1 or configure a token"
            )));
        }
        let tcp = TcpListener::bind(&resolved[..]).await.map_err(|e| ListenError::of(address, &e))?;
        let address = tcp.local_addr().map_err(|e| ListenError::of(address, &e))?;
        auth.check().map_err(|e| ListenError::new(e.to_string()))?;
        Ok(Self { tcp, address, auth })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// The authentication it was given.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The listener itself, to be served.
    pub fn into_tcp(self) -> TcpListener {
        self.tcp
    }

    /// The listener itself, to be looked at.
    pub fn tcp(&self) -> &TcpListener {
        &self.tcp
    }
}

/// Why a program does not listen: one sentence that says what to do.
///
/// ```
/// use rap_http::{Auth, Listener};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let first = Listener::bind("127.0.0.1:0", Auth::None).await?;
/// let error: rap_http::ListenError = Listener::bind(&first.local_addr().to_string(), Auth::None).await.unwrap_err();
/// assert!(error.is_in_use());
/// # Ok::<(), rap_http::ListenError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ListenError {
    message: String,
    in_use: bool,
}

impl ListenError {
    fn new(message: String) -> Self {
        Self { message, in_use: false }
    }

    fn of(address: &str, e: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        let message = match e.kind() {
            ErrorKind::AddrInUse => format!(
                "cannot listen on {address}: another program has this port; stop it, or choose another port (0 picks a free one)"
            ),
            ErrorKind::PermissionDenied => {
                format!("cannot listen on {address}: this user may not use the port; choose one above 1023")
            }
            ErrorKind::AddrNotAvailable => format!(
                "cannot listen on {address}: this machine has no such address; use 127.0.0.1 or one that it has"
            ),
            _ => format!("cannot listen on {address}: {e}"),
        };
        Self { message, in_use: e.kind() == ErrorKind::AddrInUse }
    }

    /// Whether another program has the port.
    pub fn is_in_use(&self) -> bool {
        self.in_use
    }
}
