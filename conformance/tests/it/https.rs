//! A server by https, with an authority of the test's own: believed when it is given, refused when not.

use crate::toy::Toy;
use base64::Engine as _;
use rap_conformance::{Options, connect::Trust, http::Http, judge, trace::Recorder, verdict::Verdict};
use std::{sync::Arc, time::Duration};

/// Serves, and returns the base URL and the authority as PEM.
async fn serve() -> (String, String) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).expect("an authority");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .expect("a configuration");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = socket.local_addr().expect("an address").port();
    let base = format!("https://localhost:{port}");
    let toy = Toy::new(base.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            let (acceptor, toy) = (acceptor.clone(), toy.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    toy.serve(stream).await;
                }
            });
        }
    });
    let encoded = base64::engine::general_purpose::STANDARD.encode(certificate.der());
    (base, format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n"))
}

#[tokio::test]
async fn a_server_by_https_is_judged_when_its_authority_is_given() {
    let (base, pem) = serve().await;
    let only = vec!["discovery/".to_owned(), "invocation/unknown-operation".to_owned()];
    let options = Options { only, ..Options::at(base.clone()) };

    let refused = judge(options.clone()).await.expect_err("nobody believes this authority").0;
    assert!(refused.contains("--ca"), "{refused}");

    let trust = Trust::and(pem.as_bytes()).expect("an authority");
    let found = rap_conformance::run::find(Options { trust: trust.clone(), ..options.clone() }).await;
    assert!(found.expect("a toolset").is_local());
    let report = judge(Options { trust: trust.clone(), ..options }).await.expect("a report").report;
    for case in ["discovery/served", "invocation/unknown-operation"] {
        let verdict = report.cases.iter().find(|c| c.id == case).expect("the case").verdict;
        assert_eq!(verdict, Verdict::Pass, "{case}");
    }

    // Bytes as they are pass through TLS too.
    let http = Http::new(Recorder::default(), Duration::from_secs(10)).trusting(trust.clone());
    let pieces = ["GET /.well-known/rap-toolset HT".into(), "TP/1.1\r\nhost: localhost\r\n\r\n".into()];
    let sent = http.raw("raw", &format!("{base}/"), &pieces, Duration::ZERO).await;
    assert_eq!(sent.status(), Some(200), "{}", sent.words());

    // The authority is believed, but the name is not the certificate's.
    let other = base.replace("localhost", "127.0.0.1");
    let refused = judge(Options { trust, ..Options::at(other) }).await.expect_err("another name").0;
    assert!(refused.contains("TLS"), "{refused}");
}

#[test]
fn what_is_no_certificate_is_refused() {
    assert!(Trust::and(b"hello").is_err());
    assert!(Trust::and(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").is_err());
}
