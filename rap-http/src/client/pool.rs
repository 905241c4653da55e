//! Connections that are kept for the next request, each driven by the task whose request it carries.
//!
//! Nobody looks at a connection while it waits: that its peer has hung up is found when it is taken out again, and
//! a request that was not begun on it goes out on another. In return a whole exchange stays in one task: no other is
//! woken to write it, to read its answer, or to put the connection back, which costs more than all the rest.

use super::{connect::Io, error::BoxError};
use crate::alarm::Alarm;
use bytes::Bytes;
use http::{Request, Response, uri::Authority};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, SendRequest, handshake},
};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::poll_fn,
    hash::{Hash, Hasher},
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    runtime::{self, Handle},
    time::Instant,
};

/// How long an idle connection is kept: shorter than servers keep theirs, or a request now and then meets a
/// door that is just being closed.
const IDLE_TIME: Duration = Duration::from_secs(20);
/// How many idle connections to one peer are kept. A peer that is sent to from many calls at once is often the
/// only one there is, and a connection made anew costs more than the exchange on it.
const IDLE_PER_PEER: usize = 256;

pub(super) type Body = Full<Bytes>;

/// Whether it is https, and host and port.
/// By its text: an authority's own hash looks at every letter for its case.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) secure: bool,
    pub(super) authority: Authority,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.secure == other.secure && self.authority.as_str() == other.authority.as_str()
    }
}

impl Eq for Peer {}

impl Hash for Peer {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.secure.hash(state);
        self.authority.as_str().hash(state);
    }
}

/// The idle connections of a client.
#[derive(Default)]
pub(super) struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    /// The longest idle first.
    links: HashMap<Peer, VecDeque<(Instant, Link)>>,
    /// Somebody closes those that are idle for too long.
    swept: bool,
}

/// A connection, with the machine that reads and writes it until it is over.
pub(super) struct Link {
    sender: SendRequest<Body>,
    machine: Option<Box<Connection<Io, Body>>>,
    alarm: Alarm,
    /// Whose sockets and timers it hangs on: on another runtime nobody might wake whoever waits for it.
    runtime: runtime::Id,
}

/// Why there is no answer.
pub(super) struct Unanswered {
    pub(super) error: BoxError,
    /// The request, where nothing of it was sent.
    pub(super) unsent: Option<Box<Request<Body>>>,
}

impl Link {
    /// A connection that was just made.
    pub(super) async fn new(io: Io, deadline: Instant) -> Result<Self, hyper::Error> {
        let (sender, machine) = handshake(io).await?;
        Ok(Self {
            sender,
            machine: Some(Box::new(machine)),
            alarm: Alarm::new(deadline),
            runtime: Handle::current().id(),
        })
    }

    /// Sends a request and waits for its answer, the body of which is still to be read, [driven](Self::drive) too.
    /// None when none came in time.
    pub(super) async fn send(
        &mut self,
        request: Box<Request<Body>>,
        deadline: Instant,
    ) -> Option<Result<Response<Incoming>, Unanswered>> {
        // Pinned here, or what drives it had room for it twice.
        let answer = pin!(self.sender.try_send_request(*request));
        let answer = self.drive_until(deadline, answer).await?;
        Some(answer.map_err(|mut failed| {
            let unsent = failed.take_message().map(Box::new);
            Unanswered { error: failed.into_error().into(), unsent }
        }))
    }

    /// Does something that waits for this connection.
    pub(super) async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.turn(cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// The same, as long as there is time for it.
    pub(super) async fn drive_until<T>(
        &mut self,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            self.turn(cx);
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending => self.alarm.poll_until(deadline, cx).map(|()| None),
            }
        })
        .await
    }

    fn turn(&mut self, cx: &mut Context<'_>) {
        if let Some(machine) = &mut self.machine
            && Pin::new(&mut **machine).poll(cx).is_ready()
        {
            // With it goes whatever waits in it, and whoever waits for that is told.
            self.machine = None;
        }
    }

    /// Whether another request may go out on it, as far as is known.
    fn is_usable(&mut self) -> bool {
        self.turn(&mut Context::from_waker(Waker::noop()));
        self.machine.is_some() && self.sender.is_ready()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was used before: the last one, so that those too many grow old.
    pub(super) fn take(&self, peer: &Peer) -> Option<Link> {
        let here = Handle::current().id();
        loop {
            let (since, mut link) = self.idle().links.get_mut(peer)?.pop_back()?;
            if since.elapsed() < IDLE_TIME && link.runtime == here && link.is_usable() {
                return Some(link);
            }
        }
    }

    /// Keeps a connection for the next request, if it is not over. Whether it can serve one is found out when it is
    /// taken out again.
    pub(super) fn keep(self: &Arc<Self>, peer: Peer, link: Link) {
        if link.machine.is_none() {
            return;
        }
        let (one_too_many, unswept) = {
            let mut idle = self.idle();
            let links = idle.links.entry(peer).or_default();
            links.push_back((Instant::now(), link));
            let one_too_many = if links.len() > IDLE_PER_PEER { links.pop_front() } else { None };
            (one_too_many, !std::mem::replace(&mut idle.swept, true))
        };
        drop(one_too_many);
        if unswept {
            let mut sweeper = Sweeper(Arc::downgrade(self));
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(IDLE_TIME).await;
                    if !sweeper.sweep() {
                        return;
                    }
                }
            });
        }
    }
}

/// Closes what is idle for too long, as long as there is something idle.
struct Sweeper(Weak<Pool>);

impl Sweeper {
    /// Whether there is anything left.
    fn sweep(&mut self) -> bool {
        let Some(pool) = self.0.upgrade() else { return false };
        let mut old = Vec::new();
        let mut idle = pool.idle();
        idle.links.retain(|_, links| {
            let is_old = |link: &mut (Instant, Link)| link.0.elapsed() >= IDLE_TIME;
            while let Some(link) = links.pop_front_if(is_old) {
                old.push(link);
            }
            !links.is_empty()
        });
        let left = !idle.links.is_empty();
        idle.swept = left;
        drop(idle);
        if !left {
            self.0 = Weak::new();
        }
        left
    }
}

impl Drop for Sweeper {
    /// Its runtime may end before the pool does; another one takes its place then.
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.idle().swept = false;
        }
    }
}
