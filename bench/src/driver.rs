//! The other end of tool servers under measurement: sends invocations, so many in flight, and takes callbacks.
//! Lean on purpose, since its cost is in the figures of both sides.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::oneshot};

/// Nothing takes so long that is not broken.
const PATIENCE: Duration = Duration::from_secs(30);

type Waiting = Mutex<HashMap<u64, oneshot::Sender<()>>>;

/// Sends and receives.
#[derive(Clone)]
pub(crate) struct Driver {
    client: Client<HttpConnector, Full<Bytes>>,
    waiting: Arc<Waiting>,
    next: Arc<AtomicU64>,
    here: SocketAddr,
}

/// What came of a round.
pub(crate) struct Round {
    pub(crate) per_second: f64,
    /// Milliseconds from the start of each call to its callback.
    pub(crate) times: Vec<f64>,
}

impl Driver {
    /// Listens for callbacks.
    pub(crate) async fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
        let here = listener.local_addr().map_err(|e| e.to_string())?;
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(accept(listener, waiting.clone()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, waiting, next: Arc::default(), here })
    }

    /// Sends one invocation and waits for its 200, not for its outcome.
    pub(crate) async fn invoke(&self, to: SocketAddr, tool: &str) -> Result<u64, String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.send(to, tool, number).await.map(|()| number)
    }

    async fn send(&self, to: SocketAddr, tool: &str, number: u64) -> Result<(), String> {
        let body = format!(
            r#"{{"operation":"{tool}","arguments":{{"city":"Oslo"}},"id":"call-{number}","callback_url":"http://{}/callback/{number}","group_id":"thread-{}"}}"#,
            self.here,
            number % 100
        );
        let request = Request::post(format!("http://{to}/invoke"))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .map_err(|e| e.to_string())?;
        let answer = self.client.request(request).await.map_err(|e| format!("an invocation failed: {e}"))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        if status.is_success() {
            return Ok(());
        }
        Err(format!("an invocation was answered {status}: {}", String::from_utf8_lossy(&body)))
    }

    /// One call and its callback; gives the milliseconds.
    pub(crate) async fn round_trip(&self, to: SocketAddr, tool: &str) -> Result<f64, String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, done) = oneshot::channel();
        lock(&self.waiting).insert(number, sender);
        let began = Instant::now();
        self.send(to, tool, number).await?;
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(Ok(())) => Ok(began.elapsed().as_secs_f64() * 1e3),
            _ => Err(format!("the callback of call {number} did not come within {PATIENCE:?}")),
        }
    }

    /// Keeps so many calls in flight for a while.
    pub(crate) async fn round(
        &self,
        to: SocketAddr,
        tool: &'static str,
        in_flight: usize,
        lasting: Duration,
    ) -> Result<Round, String> {
        let over = Arc::new(AtomicBool::new(false));
        let began = Instant::now();
        let workers: Vec<_> = (0..in_flight)
            .map(|_| {
                let (driver, over) = (self.clone(), over.clone());
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        times.push(driver.round_trip(to, tool).await?);
                    }
                    Ok::<_, String>(times)
                })
            })
            .collect();
        tokio::time::sleep(lasting).await;
        over.store(true, Ordering::Relaxed);
        let mut times = Vec::new();
        for worker in workers {
            times.extend(worker.await.map_err(|e| e.to_string())??);
        }
        Ok(Round { per_second: times.len() as f64 / began.elapsed().as_secs_f64(), times })
    }
}

async fn accept(listener: TcpListener, waiting: Arc<Waiting>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let waiting = waiting.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| callback(request, &waiting));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn callback(
    request: Request<Incoming>,
    waiting: &Waiting,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let number = request.uri().path().rsplit('/').next().and_then(|n| n.parse::<u64>().ok());
    let taken = request.into_body().collect().await.is_ok();
    if let (true, Some(number)) = (taken, number)
        && let Some(done) = lock(waiting).remove(&number)
    {
        let _ = done.send(());
    }
    Ok(Response::new(Empty::new()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
