//! Connections are kept and used again, and never at the cost of a request: a peer that hung up meanwhile, an
//! answer that nobody reads, an exchange that was given up.

use bytes::Bytes;
use http::HeaderMap;
use rap_http::{AddressPolicy, Attempt, GuardedClient};
use rap_types::HttpUrl;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};

const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const LAST: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A peer that serves each connection by a function, and tells of each one.
struct Peer {
    url: HttpUrl,
    connections: mpsc::UnboundedReceiver<()>,
}

impl Peer {
    async fn new<F, Fut>(serve: F) -> Self
    where
        F: Fn(usize, TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = HttpUrl::new(format!("http://{}/x", listener.local_addr().unwrap())).unwrap();
        let (told, connections) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((socket, _)) = listener.accept().await {
                let _ = told.send(());
                tokio::spawn(serve(number, socket));
                number += 1;
            }
        });
        Self { url, connections }
    }

    fn connections(&mut self) -> usize {
        std::iter::from_fn(|| self.connections.try_recv().ok()).count()
    }
}

/// Reads one request of this file's kind; false at the end of the connection.
async fn request(socket: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut buffer = [0; 1024];
    while !seen.ends_with(b"\r\n\r\n{}") {
        match socket.read(&mut buffer).await {
            Ok(n) if n > 0 => seen.extend_from_slice(&buffer[..n]),
            _ => return false,
        }
    }
    true
}

fn client() -> GuardedClient {
    GuardedClient::new(AddressPolicy::public().allow_loopback())
}

async fn post(client: &GuardedClient, url: &HttpUrl) -> Attempt {
    client.post_json(url, Bytes::from_static(b"{}"), HeaderMap::new()).await
}

/// One after the other they share a connection, whichever way they are sent; so many at once need so many, and the
/// next so many at once need no more.
#[tokio::test]
async fn used_again() {
    let mut peer = Peer::new(|_, mut socket| async move {
        while request(&mut socket).await {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let client = client();
    for _ in 0..5 {
        assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
        let body = Bytes::from_static(b"{}");
        let reply = client.post_json_reading(&peer.url, body, HeaderMap::new(), 10).await.unwrap();
        assert_eq!(reply.body, "ok");
    }
    assert_eq!(peer.connections(), 1);
    for _ in 0..3 {
        let at_once = (0..20).map(|_| post(&client, &peer.url));
        assert_eq!(futures_util::future::join_all(at_once).await, vec![Attempt::status(200); 20]);
    }
    assert!(peer.connections() <= 19);
}

/// A peer that hangs up after each answer, at once or when the connection waits for its next request, without a word or
/// with one, costs no request.
#[tokio::test]
async fn a_peer_that_hangs_up() {
    for (answer, at_once) in [(EMPTY, true), (EMPTY, false), (LAST, true), (LAST, false)] {
        let (hang_up, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (word, news) = (hang_up.clone(), closed.clone());
        let mut peer = Peer::new(move |_, mut socket| {
            let (hang_up, closed) = (word.clone(), news.clone());
            async move {
                assert!(request(&mut socket).await);
                socket.write_all(answer.as_bytes()).await.unwrap();
                if !at_once {
                    hang_up.notified().await;
                }
                drop(socket);
                closed.notify_one();
            }
        })
        .await;
        let client = client();
        for _ in 0..20 {
            assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
            if !at_once {
                hang_up.notify_one();
            }
            closed.notified().await;
        }
        assert_eq!(peer.connections(), 20);
    }
}

/// What a peer says unasked on an idle connection is no answer to the next request.
#[tokio::test]
async fn an_answer_before_the_question() {
    let said = Arc::new(Notify::new());
    let news = said.clone();
    let mut peer = Peer::new(move |number, mut socket| {
        let said = news.clone();
        async move {
            while request(&mut socket).await {
                socket.write_all(EMPTY.as_bytes()).await.unwrap();
                if number == 0 {
                    let unasked = "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n";
                    socket.write_all(unasked.as_bytes()).await.unwrap();
                    said.notify_one();
                }
            }
        }
    })
    .await;
    let client = client();
    assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
    said.notified().await;
    assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
    assert_eq!(peer.connections(), 2);
}

/// An exchange that was given up takes its connection with it: a late answer is nobody else's.
#[tokio::test]
async fn a_late_answer_is_nobody_elses() {
    let release = Arc::new(Notify::new());
    let wait = release.clone();
    let mut peer = Peer::new(move |number, mut socket| {
        let release = wait.clone();
        async move {
            while request(&mut socket).await {
                let answer =
                    if number == 0 { "HTTP/1.1 500 Late\r\ncontent-length: 0\r\n\r\n" } else { EMPTY };
                if number == 0 {
                    release.notified().await;
                }
                if socket.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let policy = AddressPolicy::public().allow_loopback();
    let client = GuardedClient::builder(policy).total_timeout(Duration::from_millis(300)).build();
    assert_eq!(post(&client, &peer.url).await, Attempt::TimedOut);
    release.notify_one();
    for _ in 0..3 {
        assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
    }
    assert_eq!(peer.connections(), 2);
}

/// A peer that takes a request and hangs up without an answer may have acted on it: it is not sent again here.
#[tokio::test]
async fn no_second_try_of_what_was_sent() {
    let mut peer = Peer::new(|number, mut socket| async move {
        // The first connection serves once, so that it is kept.
        if number == 0 && request(&mut socket).await {
            socket.write_all(EMPTY.as_bytes()).await.unwrap();
        }
        request(&mut socket).await;
    })
    .await;
    let client = client();
    assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
    for connections in [1, 1] {
        let attempt = post(&client, &peer.url).await;
        assert!(matches!(attempt, Attempt::Failed(_)) && attempt.may_have_arrived(), "{attempt:?}");
        assert_eq!(peer.connections(), connections);
    }
}

/// An answer without end is not waited for: what matters of it was its status. It is an error where it is to be read.
#[tokio::test]
async fn an_endless_answer() {
    let head = "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut peer = Peer::new(move |_, mut socket| async move {
        if request(&mut socket).await && socket.write_all(head.as_bytes()).await.is_ok() {
            while socket.write_all(b"5\r\nhello\r\n").await.is_ok() {}
        }
    })
    .await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(post(&client, &peer.url).await, Attempt::status(202));
    }
    assert_eq!(peer.connections(), 3, "none of them serves again");
    let body = Bytes::from_static(b"{}");
    let error = client.post_json_reading(&peer.url, body, HeaderMap::new(), 10_000).await.unwrap_err();
    assert!(error.is_too_large(), "{error}");
}

/// A body that trickles in is not waited for either.
#[tokio::test]
async fn an_answer_that_stops_in_the_middle() {
    let peer = Peer::new(|_, mut socket| async move {
        if request(&mut socket).await {
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    assert_eq!(post(&client(), &peer.url).await, Attempt::status(200));
}

/// A stream is read piece by piece as it comes, by GET and by POST; the time limit is for its beginning alone.
#[tokio::test]
async fn streams() {
    let more = Arc::new(Notify::new());
    let next = more.clone();
    let peer = Peer::new(move |_, mut socket| {
        let next = next.clone();
        async move {
            let mut seen = [0; 4096];
            let _ = socket.read(&mut seen).await;
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(head.as_bytes()).await.unwrap();
            for piece in ["3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n"] {
                next.notified().await;
                socket.write_all(piece.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let policy = AddressPolicy::public().allow_loopback();
    let client = GuardedClient::builder(policy).total_timeout(Duration::from_millis(500)).build();
    for post in [false, true] {
        let mut stream = if post {
            client.post_json_opening(&peer.url, Bytes::from_static(b"{}"), HeaderMap::new()).await.unwrap()
        } else {
            client.open(&peer.url, HeaderMap::new()).await.unwrap()
        };
        assert_eq!(stream.status, 200);
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        // Longer than the limit: nothing comes, and nobody minds.
        assert!(tokio::time::timeout(Duration::from_millis(700), stream.chunk()).await.is_err());
        for piece in ["one", "two"] {
            more.notify_one();
            assert_eq!(stream.chunk().await.unwrap().unwrap(), piece);
        }
        more.notify_one();
        assert!(stream.chunk().await.is_none());
    }
    let silent = Peer::new(|_, socket| async move {
        let _socket = socket;
        std::future::pending().await
    })
    .await;
    assert!(client.open(&silent.url, HeaderMap::new()).await.unwrap_err().is_timeout());
    let broken = Peer::new(|_, mut socket| async move {
        let _ = socket.read(&mut [0; 4096]).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\non").await;
    })
    .await;
    let mut stream = client.open(&broken.url, HeaderMap::new()).await.unwrap();
    let piece = stream.chunk().await.unwrap();
    let end = if piece.is_ok() { stream.chunk().await.unwrap() } else { piece };
    assert!(end.is_err(), "a stream that breaks off is no stream that ends");
}

/// A client may outlive the runtime in which its connections were made.
#[test]
fn in_another_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (url, listener) = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        (HttpUrl::new(format!("http://{}/x", listener.local_addr().unwrap())).unwrap(), listener)
    };
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = socket.read(&mut buffer) {
                    seen.extend_from_slice(&buffer[..n]);
                    if seen.ends_with(b"\r\n\r\n{}") {
                        seen.clear();
                        let _ = socket.write_all(EMPTY.as_bytes());
                    }
                }
            });
        }
    });
    let client = client();
    for _ in 0..2 {
        let runtime = runtime();
        for _ in 0..2 {
            assert_eq!(runtime.block_on(post(&client, &url)), Attempt::status(200));
        }
    }
}

/// A connection that was idle for long is closed, whether or not anybody asks for it again, and serves nobody then.
#[tokio::test]
async fn idle_for_long() {
    let closed = Arc::new(Notify::new());
    let news = closed.clone();
    let mut peer = Peer::new(move |_, mut socket| {
        let closed = news.clone();
        async move {
            while request(&mut socket).await {
                socket.write_all(EMPTY.as_bytes()).await.unwrap();
            }
            closed.notify_one();
        }
    })
    .await;
    let client = client();
    let later = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
    later(15).await;
    assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
    assert_eq!(peer.connections(), 1, "not long enough");
    // The first look comes too early for it, the second does not.
    later(10).await;
    later(20).await;
    tokio::time::timeout(Duration::from_secs(10), closed.notified()).await.expect("it is closed");
    assert_eq!(post(&client, &peer.url).await, Attempt::status(200));
    assert_eq!(peer.connections(), 1, "a new one");
}
