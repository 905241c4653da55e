//! A whole exchange by https, with an authority of the test's own.

use bytes::Bytes;
use http::HeaderMap;
use rap_http::{
    AddressPolicy, Attempt, GuardedClient,
    client::{Builder, Resolve, Resolving},
};
use rap_types::HttpUrl;
use std::{net::IpAddr, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Every name is this machine.
struct Here;

impl Resolve for Here {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        Box::pin(async { Ok(vec![IpAddr::from([127, 0, 0, 1])]) })
    }
}

fn builder() -> Builder {
    GuardedClient::builder(AddressPolicy::public().allow_loopback()).resolver(Arc::new(Here))
}

/// The certificate is checked, the name in it too, and what was sent arrives only then.
#[tokio::test]
async fn an_exchange() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // In a process of its own (nextest) or beside others (cargo test): one provider either way.
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_cert = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut leaf = rcgen::CertificateParams::new(vec!["tools.example".to_owned()]).unwrap();
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sent, mut requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, sent) = (acceptor.clone(), sent.clone());
            tokio::spawn(async move {
                let Ok(mut socket) = acceptor.accept(socket).await else { return };
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                while !seen.ends_with(b"{}") {
                    match socket.read(&mut buffer).await {
                        Ok(n) if n > 0 => seen.extend_from_slice(&buffer[..n]),
                        _ => return,
                    }
                }
                let _ = sent.send(String::from_utf8_lossy(&seen).into_owned());
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                let _ = socket.flush().await;
            });
        }
    });
    let post = async |client: &GuardedClient, host: &str| {
        let url = HttpUrl::new(format!("https://{host}:{port}/cb?x=1")).unwrap();
        client.post_json(&url, Bytes::from_static(b"{}"), HeaderMap::new()).await
    };

    // Without a provider the error says so, instead of a panic.
    let client = builder().trust_root(authority_cert.der().to_vec()).build();
    let Attempt::Blocked(why) = post(&client, "tools.example").await else { panic!("there is no provider") };
    assert!(why.contains("install one first thing in `main`"), "{why}");
    rustls::crypto::ring::default_provider().install_default().unwrap();

    assert_eq!(post(&client, "tools.example").await, Attempt::status(200));
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("POST /cb?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: tools.example:{port}\r\n")), "{request}");
    // Another name than the certificate's; an authority that nobody trusts. Nothing is sent.
    assert_eq!(post(&client, "other.example").await, Attempt::Refused);
    assert_eq!(post(&builder().build(), "tools.example").await, Attempt::Refused);
    assert!(requests.try_recv().is_err());
}
