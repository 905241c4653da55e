//! Connections to servers: plain sockets, and TLS where the URL says https. Believed are the authorities of the
//! system and those that were given; nothing switches the check off.

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use url::Url;

/// A connection, whatever is under it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where a URL leads: host, port, and whether TLS is spoken there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host, without brackets.
    pub host: String,
    /// The port, that of the scheme where none is named.
    pub port: u16,
    /// Whether the scheme is https.
    pub secure: bool,
}

/// Where an http or https URL leads.
///
/// # Errors
/// Says that the URL is none, or of another scheme.
pub fn authority(url: &str) -> Result<Authority, String> {
    let parsed = Url::parse(url).map_err(|e| format!("{url}: not a URL: {e}"))?;
    let secure = match parsed.scheme() {
        "http" => false,
        "https" => true,
        scheme => return Err(format!("{scheme}: only http and https are spoken")),
    };
    let host = parsed.host_str().ok_or("a URL without a host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = parsed.port_or_known_default().unwrap_or(if secure { 443 } else { 80 });
    Ok(Authority { host, port, secure })
}

/// A base URL: as [`authority`], and nobody is named in it, since it is shown in reports.
///
/// # Errors
/// As [`authority`]; or it holds a user or a password. The words show neither.
pub fn base_url(url: &str) -> Result<Authority, String> {
    const NAMED: &str = "a base URL is shown in reports and must not hold a user or a password; hint: --bearer or \
                         RAP_CONFORMANCE_BEARER, --webhook-secret-env";
    let named = Url::parse(url).is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
    // Also where it is no URL otherwise.
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    if named || rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')) {
        return Err(NAMED.to_owned());
    }
    authority(url)
}

/// Who is believed about whom; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    #[cfg(feature = "tls")]
    inner: std::sync::Arc<tls::Inner>,
}

impl Trust {
    /// Believes the authorities in a PEM text as well, e.g. one of a company or of a test.
    ///
    /// # Errors
    /// There is no certificate in the text, or one cannot be read.
    pub fn and(pem: &[u8]) -> Result<Self, String> {
        #[cfg(feature = "tls")]
        return tls::Inner::new(pem).map(|inner| Self { inner: std::sync::Arc::new(inner) });
        #[cfg(not(feature = "tls"))]
        {
            let _ = pem;
            Err(NO_TLS.to_owned())
        }
    }

    /// Connects to where a URL leads.
    pub(crate) async fn connect(&self, url: &str) -> Result<Box<dyn Stream>, String> {
        let Authority { host, port, secure } = authority(url)?;
        let socket = TcpStream::connect((host.as_str(), port))
            .await
            .map_err(|e| format!("{host}:{port} cannot be reached: {e}"))?;
        let _ = socket.set_nodelay(true);
        if !secure {
            return Ok(Box::new(socket));
        }
        #[cfg(feature = "tls")]
        return self.inner.handshake(socket, host).await;
        #[cfg(not(feature = "tls"))]
        Err(NO_TLS.to_owned())
    }
}

#[cfg(not(feature = "tls"))]
const NO_TLS: &str = "https is not spoken by this build; hint: build it with the feature `tls`";

#[cfg(feature = "tls")]
mod tls {
    use super::Stream;
    use rustls::{
        ClientConfig,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    };
    use std::sync::{Arc, OnceLock};
    use tokio::net::TcpStream;

    #[derive(Debug, Default)]
    pub(super) struct Inner {
        extra: Vec<CertificateDer<'static>>,
        // The system's authorities are read when the first https URL is met.
        config: OnceLock<Result<Arc<ClientConfig>, String>>,
    }

    impl Inner {
        pub(super) fn new(pem: &[u8]) -> Result<Self, String> {
            let extra: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .map_err(|e| format!("a certificate cannot be read: {e}"))?;
            if extra.is_empty() {
                return Err("there is no certificate; hint: PEM, `-----BEGIN CERTIFICATE-----`".to_owned());
            }
            Ok(Self { extra, config: OnceLock::new() })
        }

        fn config(&self) -> Result<Arc<ClientConfig>, String> {
            self.config.get_or_init(|| build(self.extra.clone())).clone()
        }

        pub(super) async fn handshake(
            &self,
            socket: TcpStream,
            host: String,
        ) -> Result<Box<dyn Stream>, String> {
            let name = ServerName::try_from(host.clone()).map_err(|e| format!("{host}: {e}"))?;
            let connector = tokio_rustls::TlsConnector::from(self.config()?);
            let stream = connector.connect(name, socket).await.map_err(|e| {
                format!(
                    "TLS with {host} failed: {e}; hint: --ca FILE, where its authority is not the system's"
                )
            })?;
            Ok(Box::new(stream))
        }
    }

    fn build(extra: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider.clone())
            .map_err(|e| format!("no authority can be believed: {e}; hint: --ca FILE"))?;
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("bug: TLS has no version: {e}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
