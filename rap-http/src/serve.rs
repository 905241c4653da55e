//! Serving: the loop behind a listener, with the limits that a peer must not be able to stretch.
//!
//! A request's head must come within a time limit (so must the next request on a connection that is kept
//! open), an answer must be taken within one, heads have a size limit, connections a number; bodies are the
//! [`Guard`](crate::Guard)'s affair. A stop is clean: no new connection is taken, requests in work are
//! answered, idle connections are closed.

use crate::alarm::OneAlarm;
use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::Service as HyperService};
use hyper_util::{
    rt::TokioIo,
    service::{TowerToHyperService, TowerToHyperServiceFuture},
};
use std::{
    cell::RefCell,
    convert::Infallible,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_io_timeout::TimeoutWriter;
use tower::Service;

/// How long nothing is accepted when the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(200);

/// What a peer may use of a listener. The defaults suit a tool server or a callback gateway.
///
/// ```no_run
/// use rap_http::{Auth, Guard, Listener, Serving};
/// # async fn example(app: axum::Router) -> Result<(), Box<dyn std::error::Error>> {
/// let listener = Listener::bind("127.0.0.1:4000", Auth::InUrl).await?;
/// let app = app.layer(Guard::for_listener(&listener));
/// Serving::new().run(listener.into_tcp(), app, std::future::pending()).await;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Serving {
    head_timeout: Duration,
    write_timeout: Duration,
    head_bytes: usize,
    connections: usize,
    answers_at_once: bool,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            head_bytes: 64 << 10,
            connections: 10_000,
            answers_at_once: false,
        }
    }
}

impl Serving {
    /// 30 s for a request's head and for a peer that reads nothing, 64 KiB for a head, 10,000 connections.
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest time for a request's head to come, and for a kept connection to stay idle. A connection
    /// that takes longer is closed.
    pub fn head_timeout(mut self, limit: Duration) -> Self {
        self.head_timeout = limit;
        self
    }

    /// The longest time for which a peer may take nothing of what is written to it. A connection on which
    /// nothing moves for longer is closed, so that a peer which never reads does not keep it for ever.
    pub fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// How many connections there may be at once; more wait until one is closed.
    pub fn connections(mut self, limit: usize) -> Self {
        self.connections = limit.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// For services that answer every request at once: a peer that hangs up while its request is in work is not
    /// looked for, and one that only ends its own sending is still answered. Not for answers that are streams,
    /// which would go on when nobody reads them.
    pub fn answers_at_once(mut self) -> Self {
        self.answers_at_once = true;
        self
    }

    /// Answers requests until `stop` is done, and returns when the last one in work is answered. Whoever
    /// does not want to wait that long drops the future: the connections end with it.
    pub async fn run<S, B>(self, listener: TcpListener, service: S, stop: impl Future<Output = ()>)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let room = Arc::new(Semaphore::new(self.connections));
        // Its receivers are the connections: dropped by us it tells them, empty it tells us.
        let (stopping, stopped) = watch::channel(());
        let mut connections = tokio::task::JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = accept(&listener, &room) => accepted,
            };
            let Some((stream, place)) = accepted else { continue };
            let mut builder = http1::Builder::new();
            builder
                .timer(OneAlarm::default())
                .half_close(self.answers_at_once)
                .header_read_timeout(self.head_timeout)
                .max_buf_size(self.head_bytes);
            let mut stream = TimeoutWriter::new(stream);
            stream.set_timeout(Some(self.write_timeout));
            let stream = TokioIo::new(Box::pin(stream));
            let connection = builder.serve_connection(stream, OfConnection(RefCell::new(service.clone())));
            let (mut stopped, told) = (stopped.clone(), stopped.clone());
            connections.spawn(async move {
                let _place = place;
                let mut connection = pin!(connection);
                let mut stopped = pin!(stopped.changed());
                let (mut listening, mut stopping) = (false, false);
                let outcome = poll_fn(|cx| {
                    // Listens once: the task has one waker, and all connections share the lock behind this.
                    if !std::mem::replace(&mut listening, true) {
                        let _ = stopped.as_mut().poll(cx);
                    }
                    if !stopping && told.has_changed().is_err() {
                        stopping = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    connection.as_mut().poll(cx)
                });
                if let Err(error) = outcome.await {
                    tracing::debug!(%error, "a connection ended in an error");
                }
            });
        }
        drop(listener);
        drop(stopping);
        while connections.join_next().await.is_some() {}
    }
}

/// The service of one connection, which has one request at a time: where it is ready it is called as it is, and no
/// clone is made for the request.
struct OfConnection<S>(RefCell<S>);

impl<S, B> HyperService<Request<Incoming>> for OfConnection<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Either<S::Future, TowerToHyperServiceFuture<S, Request<Incoming>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut service = self.0.borrow_mut();
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Either::Left(service.call(request)),
            Poll::Ready(Err(never)) => match never {},
            // What it has reserved so far, a place in a queue perhaps, goes with it.
            Poll::Pending => {
                let fresh = service.clone();
                let asked = std::mem::replace(&mut *service, fresh);
                Either::Right(TowerToHyperService::new(asked).call(request))
            }
        }
    }
}

/// The next connection, once there is a place for it. Nothing when none could be taken.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            use std::io::ErrorKind as Kind;
            // The peer's fault, and over; anything else is likely a lack of file descriptors.
            if !matches!(
                error.kind(),
                Kind::ConnectionAborted | Kind::ConnectionReset | Kind::ConnectionRefused | Kind::Interrupted
            ) {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(NO_ROOM).await;
            }
            None
        }
    }
}
