//! The one place where connections are made.

use super::{error::BoxError, pool::Peer};
use crate::policy::AddressPolicy;
use http::Uri;
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tower::Service;

/// The future of [`Resolve::resolve`].
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;

/// Turns names into addresses. What it answers is checked by the policy, and the checked addresses are the
/// ones connected to.
///
/// ```
/// use rap_http::client::{Resolve, Resolving};
///
/// /// Knows one name.
/// struct Fixed;
///
/// impl Resolve for Fixed {
///     fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
///         Box::pin(async move {
///             match name {
///                 "tools.example.com" => Ok(vec!["192.0.2.7".parse().expect("an address")]),
///                 other => Err(std::io::Error::other(format!("{other} is unknown"))),
///             }
///         })
///     }
/// }
/// ```
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a name, best first.
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        Box::pin(async move {
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// What a connection is read from and written to.
#[cfg(feature = "tls")]
pub(super) type Io = hyper_rustls::MaybeHttpsStream<TokioIo<TcpStream>>;
/// What a connection is read from and written to.
#[cfg(not(feature = "tls"))]
pub(super) type Io = TokioIo<TcpStream>;

#[cfg(feature = "tls")]
pub(super) type Secure = hyper_rustls::HttpsConnector<Connector>;

/// Connects to a peer, through TLS where a connector for that is given.
pub(super) async fn connect(
    peer: &Peer,
    plain: Connector,
    #[cfg(feature = "tls")] secure: Option<Secure>,
) -> Result<Io, BoxError> {
    let scheme = if peer.secure { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(peer.authority.clone()).path_and_query("/").build()?;
    #[cfg(feature = "tls")]
    if let Some(mut secure) = secure {
        return secure.call(uri).await;
    }
    let stream = plain.connect(uri).await?;
    #[cfg(feature = "tls")]
    let stream = Io::Http(stream);
    Ok(stream)
}

/// Why no connection was made: nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Blocked(String),
    #[error("the connection was refused")]
    Refused,
    #[error("no connection could be made in time")]
    TimedOut,
    #[error("{0}")]
    Unreachable(String),
}

#[derive(Clone)]
pub(super) struct Connector {
    policy: Arc<AddressPolicy>,
    resolver: Arc<dyn Resolve>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(policy: Arc<AddressPolicy>, resolver: Arc<dyn Resolve>, limit: Duration) -> Self {
        Self { policy, resolver, limit }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        match tokio::time::timeout(self.limit, self.try_connect(&uri)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectError::TimedOut),
        }
    }

    async fn try_connect(&self, uri: &Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host = uri.host().unwrap_or_default();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let addresses = match literal {
            Ok(ip) => vec![ip],
            Err(_) => self.resolve(host).await?,
        };
        let mut outcome = ConnectError::Unreachable(format!("the name {host:?} has no address"));
        let mut connected_somewhere = false;
        for ip in addresses {
            if let Err(refusal) = self.policy.check_address(ip, port, secure) {
                // An address that answered badly says more than one that we did not try.
                if !connected_somewhere {
                    outcome = ConnectError::Blocked(refusal.to_string());
                }
                continue;
            }
            connected_somewhere = true;
            match TcpStream::connect(SocketAddr::new(ip, port)).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(TokioIo::new(stream));
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => outcome = ConnectError::Refused,
                Err(e) => outcome = ConnectError::Unreachable(e.to_string()),
            }
        }
        Err(outcome)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ConnectError> {
        self.resolver
            .resolve(name)
            .await
            .map_err(|e| ConnectError::Unreachable(format!("the name {name:?} cannot be resolved: {e}")))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
