//! The loop behind a listener, with peers that misbehave on real sockets.

use axum::{Router, body::Bytes, routing::post};
use http::{Request, Response};
use rap_http::{Auth, Guard, Listener, Serving};
use std::{
    convert::Infallible,
    future::Ready,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::PollSemaphore;
use tower::Service;

const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

async fn served(serving: Serving, change: impl FnOnce(Guard) -> Guard) -> Served {
    let listener = Listener::bind("127.0.0.1:0", Auth::None).await.unwrap();
    let guard = change(Guard::for_listener(&listener));
    let app = Router::new().route("/", post(|body: Bytes| async { body })).layer(guard);
    let address = listener.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let done = tokio::spawn(serving.run(listener.into_tcp(), app, stopped));
    Served { address, stop, done }
}

fn head(length: usize) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

impl Served {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Reads until what came contains `end`.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        let mut buffer = [0; 4096];
        loop {
            let n = socket.read(&mut buffer).await.unwrap();
            assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&seen).into_owned();
            if text.contains(end) {
                return text;
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("an answer comes")
}

/// A head that comes drop by drop, or not at all, ends its connection and no other; so does idleness.
#[tokio::test]
async fn slow_heads_are_cut_off() {
    let served = served(Serving::new().head_timeout(Duration::from_millis(300)), |g| g).await;
    let mut silent = served.connect().await;
    let mut slow = served.connect().await;
    slow.write_all(b"POST / HTTP/1.1\r\nhost: 127").await.unwrap();
    let mut idle = served.connect().await;
    idle.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    assert!(read_until(&mut idle, "{}").await.starts_with("HTTP/1.1 200"));
    for socket in [&mut silent, &mut slow, &mut idle] {
        let mut rest = Vec::new();
        // Closed, whether in peace or with a reset.
        let _ = timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("it is closed");
        assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
    }
    let mut good = served.connect().await;
    good.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    read_until(&mut good, "{}").await;
}

/// A body that stops coming is answered 408 in its time, without another byte of it.
#[tokio::test]
async fn slow_bodies_are_told() {
    let served = served(Serving::new(), |g| g.body_timeout(Duration::from_millis(300))).await;
    let mut socket = served.connect().await;
    socket.write_all(format!("{}{{", head(100)).as_bytes()).await.unwrap();
    let answer = read_until(&mut socket, "body-too-slow").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// LIM-01: who sends far too much reads 413, whether it reads while it sends or only afterwards; the connection
/// then serves again.
#[tokio::test]
async fn large_bodies_are_told() {
    let served = served(Serving::new(), |g| g.body_limit(1000)).await;
    let large = vec![b' '; 6 << 20];
    // Announced, and sent whole before anything is read.
    let mut socket = served.connect().await;
    socket.write_all(head(large.len()).as_bytes()).await.unwrap();
    timeout(PATIENCE, socket.write_all(&large)).await.expect("it is taken in").unwrap();
    let answer = read_until(&mut socket, "body-too-large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    socket.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    assert!(read_until(&mut socket, "{}").await.contains("200 OK"));
    // In chunks, never announced.
    let mut socket = served.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..6 {
        socket.write_all(b"100000\r\n").await.unwrap();
        timeout(PATIENCE, socket.write_all(&large[..1 << 20])).await.expect("it is taken in").unwrap();
        socket.write_all(b"\r\n").await.unwrap();
    }
    assert!(read_until(&mut socket, "body-too-large").await.starts_with("HTTP/1.1 413"));
    // Announced, and held back until it is asked for: it is not asked for.
    let mut socket = served.connect().await;
    let head = "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 5000\r\nexpect: 100-continue\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let answer = read_until(&mut socket, "body-too-large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// A head over its limit is refused, not kept.
#[tokio::test]
async fn large_heads_are_refused() {
    let served = served(Serving::new(), |g| g).await;
    let mut socket = served.connect().await;
    let head = format!("POST / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-large: {}\r\n", "x".repeat(100 << 10));
    // It may be cut off while it is still sending.
    let _ = socket.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it is closed");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

/// Beyond the limit a connection waits for its turn, and gets it.
#[tokio::test]
async fn connections_are_counted() {
    let served = served(Serving::new().connections(1), |g| g).await;
    let mut first = served.connect().await;
    first.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    read_until(&mut first, "{}").await;
    let mut second = served.connect().await;
    second.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    // The first is still served, so the second was not taken.
    first.write_all(format!("{}[]", head(2)).as_bytes()).await.unwrap();
    read_until(&mut first, "[]").await;
    let mut byte = [0; 1];
    assert!(second.try_read(&mut byte).is_err(), "nobody has answered it");
    drop(first);
    read_until(&mut second, "{}").await;
}

/// A peer that ends its own sending is still answered by a service that answers at once.
#[tokio::test]
async fn half_closed_peers_are_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let passed = gate.clone();
    let slow = post(async move |body: Bytes| {
        drop(passed.acquire().await);
        body
    });
    let listener = Listener::bind("127.0.0.1:0", Auth::None).await.unwrap();
    let mut socket = TcpStream::connect(listener.local_addr()).await.unwrap();
    let serving = Serving::new().answers_at_once();
    tokio::spawn(serving.run(listener.into_tcp(), Router::new().route("/", slow), std::future::pending()));
    socket.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    for _ in 0..1000 {
        // Time enough for the end of sending to be seen.
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    assert!(read_until(&mut socket, "{}").await.starts_with("HTTP/1.1 200"));
}

/// A peer that asks and asks and never reads an answer is cut off, and the next one gets its turn.
#[tokio::test]
async fn a_peer_that_never_reads_is_cut_off() {
    let limit = Duration::from_millis(300);
    let served = served(Serving::new().connections(1).write_timeout(limit), |g| g).await;
    let large = "x".repeat(1 << 20);
    let request = format!("{}{large}", head(large.len()));
    let (mut reading, mut writing) = served.connect().await.into_split();
    let asking = tokio::spawn(async move {
        // Until it is cut off: more than all buffers on the way hold.
        while writing.write_all(request.as_bytes()).await.is_ok() {}
    });
    let mut next = served.connect().await;
    next.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    read_until(&mut next, "{}").await;
    timeout(PATIENCE, asking).await.expect("the connection is closed").unwrap();
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, reading.read_to_end(&mut rest)).await.expect("an end");
}

/// A stop answers what is in work, closes what is idle, and is over then.
#[tokio::test]
async fn a_stop_is_clean() {
    let served = served(Serving::new(), |g| g).await;
    let mut idle = served.connect().await;
    idle.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    read_until(&mut idle, "{}").await;
    let mut working = served.connect().await;
    working.write_all(format!("{}{{", head(2)).as_bytes()).await.unwrap();
    // Its head is surely read once another request, sent later, was answered.
    idle.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
    read_until(&mut idle, "{}").await;
    served.stop.send(()).unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("closed").unwrap();
    working.write_all(b"}").await.unwrap();
    read_until(&mut working, "{}").await;
    timeout(PATIENCE, served.done).await.expect("it is over").unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

/// A service that is ready when it was asked often enough, for each request anew, and counts its clones.
struct Slow {
    clones: Arc<AtomicUsize>,
    takes: usize,
    asked: usize,
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self { clones: self.clones.clone(), takes: self.takes, asked: 0 }
    }
}

impl<B> Service<Request<B>> for Slow {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.asked += 1;
        if self.asked >= self.takes {
            return Poll::Ready(Ok(()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.asked) >= self.takes, "called without being ready");
        std::future::ready(Ok(Response::new("{}".to_owned())))
    }
}

/// A service is only called when it is ready, however long that takes; and one that is ready is not cloned for each
/// request.
#[tokio::test]
async fn services_that_are_ready_and_such_that_are_not() {
    for (takes, at_most) in [(3, usize::MAX), (1, 1)] {
        let listener = Listener::bind("127.0.0.1:0", Auth::None).await.unwrap();
        let address = listener.local_addr();
        let service = Slow { clones: Arc::default(), takes, asked: 0 };
        let clones = service.clones.clone();
        let serving = Serving::new().run(listener.into_tcp(), service, std::future::pending());
        let asking = async {
            let mut socket = TcpStream::connect(address).await.unwrap();
            for _ in 0..5 {
                socket.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
                read_until(&mut socket, "{}").await;
            }
        };
        tokio::select! {
            () = serving => panic!("it serves on"),
            () = asking => {}
        }
        let clones = clones.load(Ordering::Relaxed);
        assert!((1..=at_most).contains(&clones), "{clones}");
    }
}

/// One request at a time for all who share it: a place is reserved when it is asked whether it is ready, for whoever
/// asked first.
struct OneAtATime {
    place: PollSemaphore,
    reserved: Option<OwnedSemaphorePermit>,
    gate: Arc<Semaphore>,
}

impl Clone for OneAtATime {
    fn clone(&self) -> Self {
        Self { place: self.place.clone(), reserved: None, gate: self.gate.clone() }
    }
}

impl<B> Service<Request<B>> for OneAtATime {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.reserved.is_none() {
            self.reserved = ready!(self.place.poll_acquire(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let reserved = self.reserved.take().expect("called when it was ready");
        let gate = self.gate.clone();
        Box::pin(async move {
            gate.acquire().await.expect("it is never closed").forget();
            drop(reserved);
            Ok(Response::new("{}".to_owned()))
        })
    }
}

/// Connections share what a service has reserved for one of them, and none keeps what it does not use.
#[tokio::test]
async fn services_that_reserve() {
    let listener = Listener::bind("127.0.0.1:0", Auth::None).await.unwrap();
    let address = listener.local_addr();
    let gate = Arc::new(Semaphore::new(0));
    let place = PollSemaphore::new(Arc::new(Semaphore::new(1)));
    let service = OneAtATime { place, reserved: None, gate: gate.clone() };
    let serving = Serving::new().run(listener.into_tcp(), service, std::future::pending());
    let asking = async {
        let mut sockets = Vec::new();
        for _ in 0..3 {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
            sockets.push(socket);
        }
        for _ in 0..3 {
            gate.add_permits(sockets.len());
            for socket in &mut sockets {
                read_until(socket, "{}").await;
                socket.write_all(format!("{}{{}}", head(2)).as_bytes()).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = serving => panic!("it serves on"),
        () = asking => {}
    }
}
