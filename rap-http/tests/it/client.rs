//! The way out against real sockets: what goes out, where it goes, and when it stops.

use bytes::Bytes;
use http::HeaderMap;
use rap_http::{
    AddressPolicy, Attempt, GuardedClient,
    client::{Resolve, Resolving},
};
use rap_types::HttpUrl;
use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

/// A server that answers every connection's first request with fixed bytes and hands out what it was sent.
/// With no answer it keeps the connection open and says nothing.
pub(crate) struct Peer {
    pub(crate) port: u16,
    pub(crate) requests: mpsc::UnboundedReceiver<String>,
}

impl Peer {
    pub(crate) async fn answering(answer: impl Into<String>) -> Self {
        Self::start(Some(answer.into())).await
    }

    async fn silent() -> Self {
        Self::start(None).await
    }

    async fn start(answer: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sent, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (sent, answer) = (sent.clone(), answer.clone());
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    let mut buffer = [0; 4096];
                    while !complete(&seen) {
                        match socket.read(&mut buffer).await {
                            Ok(n) if n > 0 => seen.extend_from_slice(&buffer[..n]),
                            _ => return,
                        }
                    }
                    let _ = sent.send(String::from_utf8_lossy(&seen).into_owned());
                    match answer {
                        Some(answer) => {
                            let _ = socket.write_all(answer.as_bytes()).await;
                        }
                        None => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, requests }
    }

    pub(crate) fn url(&self, rest: &str) -> HttpUrl {
        HttpUrl::new(format!("http://127.0.0.1:{}{rest}", self.port)).unwrap()
    }
}

/// Whether a request with a Content-Length body has come whole.
fn complete(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn loopback() -> GuardedClient {
    GuardedClient::new(AddressPolicy::public().allow_loopback())
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// TRN-07: path and query go out byte for byte.
#[tokio::test]
async fn a_url_goes_out_as_it_was_written() {
    let mut peer = Peer::answering(OK).await;
    let client = loopback();
    let cases = [
        "/cb",
        "/cb/",
        "/",
        "/?",
        "/cb?",
        "/cb?x=1&y=%2F%2f&z=a+b%20c",
        "/a/../b/./c",
        "/a/%2e%2e/b%2E",
        "//double//slash",
        "/cb?sig='quoted'",
        "/cb;p=1/~user/!$&'()*+,=:@",
        "/%E2%98%83?%zz",
        "/cb?a=b?c=d",
    ];
    for path in cases {
        let attempt = client.post_json(&peer.url(path), Bytes::from_static(b"{}"), HeaderMap::new()).await;
        assert_eq!(attempt, Attempt::status(200), "{path}");
        let request = peer.requests.recv().await.unwrap();
        assert_eq!(request.lines().next().unwrap(), format!("POST {path} HTTP/1.1"));
    }
    // Only what cannot stand in a request line is encoded, and a fragment stays here.
    for (given, sent) in
        [("/a/../☃?'☃\"", "/a/../%E2%98%83?'%E2%98%83%22"), ("/cb#part", "/cb"), ("?x=1", "/?x=1"), ("", "/")]
    {
        client.get(&peer.url(given), 10).await.unwrap();
        let request = peer.requests.recv().await.unwrap();
        assert_eq!(request.lines().next().unwrap(), format!("GET {sent} HTTP/1.1"), "{given}");
    }
}

/// TRN-01: JSON by POST; headers of the caller's beside it.
#[tokio::test]
async fn a_post_says_that_it_is_json() {
    let mut peer = Peer::answering(OK).await;
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", "00-x".parse().unwrap());
    loopback().post_json(&peer.url("/"), Bytes::from_static(b"{\"a\":1}"), headers).await;
    let request = peer.requests.recv().await.unwrap();
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    assert!(request.contains("traceparent: 00-x\r\n"));
    assert!(request.contains(&format!("host: 127.0.0.1:{}\r\n", peer.port)));
    assert!(request.ends_with("{\"a\":1}"));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut inner = Peer::answering(OK).await;
    for code in [301, 302, 303, 307, 308] {
        let target = inner.url("/secret");
        let peer =
            Peer::answering(format!("HTTP/1.1 {code} X\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        let attempt = loopback().post_json(&peer.url("/"), Bytes::new(), HeaderMap::new()).await;
        assert_eq!(attempt, Attempt::status(code));
        assert_eq!(loopback().get(&peer.url("/"), 100).await.unwrap().status, code);
    }
    assert!(inner.requests.try_recv().is_err(), "nobody went there");
}

#[tokio::test]
async fn retry_after_is_read_as_seconds_or_date() {
    let retry_after = async |value: &str| {
        let peer =
            Peer::answering(format!("HTTP/1.1 503 X\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        match loopback().post_json(&peer.url("/"), Bytes::new(), HeaderMap::new()).await {
            Attempt::Status { code: 503, retry_after } => retry_after,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(retry_after("7").await, Some(Duration::from_secs(7)));
    assert_eq!(retry_after("Fri, 31 Dec 1999 23:59:59 GMT").await, Some(Duration::ZERO));
    assert!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT").await.unwrap() > Duration::from_secs(1_000_000_000));
    for nonsense in ["soon", "-1", "1.5", "99999999999999999999999"] {
        assert_eq!(retry_after(nonsense).await, None, "{nonsense}");
    }
}

#[tokio::test]
async fn a_refused_connection_is_told_from_a_silent_one() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let url = HttpUrl::new(format!("http://{gone}/callback/very-secret")).unwrap();
    let error = loopback().get(&url, 10).await.unwrap_err();
    assert!(error.is_refused() && error.nothing_was_sent() && !error.is_timeout() && !error.is_blocked());
    assert_eq!(error.to_string(), format!("http://{gone}: the connection was refused"));
    assert!(!format!("{error:?}").contains("very-secret"));
    assert_eq!(loopback().post_json(&url, Bytes::new(), HeaderMap::new()).await, Attempt::Refused);

    let peer = Peer::silent().await;
    let client = GuardedClient::builder(AddressPolicy::public().allow_loopback())
        .total_timeout(Duration::from_millis(50))
        .build();
    let error = client.get(&peer.url("/"), 10).await.unwrap_err();
    assert!(error.is_timeout() && !error.nothing_was_sent());
    assert_eq!(client.post_json(&peer.url("/"), Bytes::new(), HeaderMap::new()).await, Attempt::TimedOut);
}

#[tokio::test]
async fn an_answer_that_is_not_http_or_breaks_off_is_a_failure() {
    for answer in ["", "hello\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"] {
        let peer = Peer::answering(answer).await;
        let error = loopback().get(&peer.url("/"), 100).await.unwrap_err();
        assert!(matches!(error.attempt(), Attempt::Failed(_)), "{answer:?}: {error:?}");
    }
    // A POST is acknowledged by the status; what comes after it does not matter.
    let peer = Peer::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc").await;
    assert!(loopback().post_json(&peer.url("/"), Bytes::new(), HeaderMap::new()).await.is_delivered());
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let body = "x".repeat(100);
    let answers = [
        format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{body}"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n{body}\r\n0\r\n\r\n"),
    ];
    for answer in answers {
        let peer = Peer::answering(answer).await;
        assert_eq!(loopback().get(&peer.url("/"), 100).await.unwrap().body.len(), 100);
        let error = loopback().get(&peer.url("/"), 99).await.unwrap_err();
        assert!(error.is_too_large());
        assert!(error.to_string().ends_with("the answer has over 99 bytes"));
    }
}

/// A resolver that answers from a list, one answer after the other.
struct Flipping(Mutex<VecDeque<Vec<IpAddr>>>, mpsc::UnboundedSender<String>);

impl Resolve for Flipping {
    fn resolve<'a>(&'a self, name: &'a str) -> Resolving<'a> {
        let _ = self.1.send(name.to_owned());
        let answer = self.0.lock().unwrap().pop_front().expect("asked once more than answers were prepared");
        Box::pin(async { Ok(answer) })
    }
}

fn flipping(answers: &[&[&str]], policy: AddressPolicy) -> (GuardedClient, mpsc::UnboundedReceiver<String>) {
    let answers = answers.iter().map(|a| a.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
    let (sent, asked) = mpsc::unbounded_channel();
    let resolver = Arc::new(Flipping(Mutex::new(answers), sent));
    (GuardedClient::builder(policy).resolver(resolver).build(), asked)
}

/// A name whose answer changes between check and connection: there is one answer, it is checked, and the
/// checked address is the one used.
#[tokio::test]
async fn an_answer_that_flips_to_an_inner_address_makes_no_connection() {
    let mut peer = Peer::answering(OK).await;
    let url = HttpUrl::new(format!("http://rebind.example:{}/", peer.port)).unwrap();
    // The first answer is allowed (and nobody listens there), those after it are not.
    let policy = AddressPolicy::public().allow("127.0.0.2/32".parse::<ipnet::IpNet>().unwrap());
    let (client, mut asked) = flipping(&[&["127.0.0.2"], &["127.0.0.1"], &["::ffff:127.0.0.1"]], policy);
    assert_eq!(client.post_json(&url, Bytes::new(), HeaderMap::new()).await, Attempt::Refused);
    assert_eq!(asked.recv().await.unwrap(), "rebind.example");
    assert!(asked.try_recv().is_err(), "one question for one connection");
    for _ in 0..2 {
        let error = client.get(&url, 10).await.unwrap_err();
        assert!(error.is_blocked(), "{error}");
    }
    assert!(peer.requests.try_recv().is_err());
}

/// Among several answers the ones that are not allowed are left out, the first of the others serves.
#[tokio::test]
async fn only_allowed_addresses_of_an_answer_are_tried() {
    let mut peer = Peer::answering(OK).await;
    let url = HttpUrl::new(format!("http://tools.example:{}/", peer.port)).unwrap();
    let policy = AddressPolicy::public().allow_loopback();
    let (client, _asked) = flipping(&[&["10.0.0.1", "::1", "127.0.0.1"], &["10.0.0.1"], &[]], policy);
    assert!(client.post_json(&url, Bytes::new(), HeaderMap::new()).await.is_delivered());
    let request = peer.requests.recv().await.unwrap();
    assert!(request.contains(&format!("host: tools.example:{}", peer.port)), "{request}");
    assert!(client.get(&url, 10).await.unwrap_err().is_blocked());
    let error = client.get(&url, 10).await.unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("has no address"), "{error}");
}

#[tokio::test]
async fn the_proxies_of_the_environment_are_not_asked() {
    // Read by clients of this kind when they are built or used; a child process with them set runs this test.
    if std::env::var_os("RAP_TEST_PROXIED").is_none() {
        let proxy = Peer::answering(OK).await;
        let address = format!("http://127.0.0.1:{}", proxy.port);
        let test = std::thread::current().name().unwrap().to_owned();
        let status = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &test])
            .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, address.as_str())))
            .env("RAP_TEST_PROXIED", "1")
            .stdout(std::process::Stdio::null())
            .status()
            .await
            .unwrap();
        assert!(status.success());
        return;
    }
    let mut peer = Peer::answering(OK).await;
    loopback().get(&peer.url("/direct"), 10).await.unwrap();
    assert!(peer.requests.recv().await.unwrap().starts_with("GET /direct "));
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn without_tls_an_https_url_names_the_feature() {
    let error = loopback().get(&HttpUrl::new("https://127.0.0.1:1/").unwrap(), 10).await.unwrap_err();
    assert!(error.is_blocked());
    assert!(error.to_string().contains("feature `tls`"), "{error}");
}
