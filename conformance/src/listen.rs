//! The judge's ear: the callback URLs that it gives away, what arrives at them, and what each arrival is
//! answered, which is a script: 200 until told otherwise, a status, silence, a broken connection, or an answer
//! that is withheld until a gate opens.
//!
//! A URL is given once and stands for one call. What arrives is matched to it by a token that is in its path
//! and in its query, so that a server that spoils the URL is found out by the rule for that (TRN-07), and not by
//! every case that waits for a message.

use crate::{
    http::headers,
    trace::{Answer, Begun, Body, Party, Recorder},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    time::{Instant as Clock, timeout_at},
};

/// The largest callback that is read, in bytes: twice what a result may have.
const LARGEST: usize = 4 * 1024 * 1024;

/// How many messages to one URL, or to URLs that were never given, are kept; whoever sends more is told to stop.
const MOST: usize = 200;

/// How many messages are kept in all, and how many bytes of them: a server may send without end.
const MOST_IN_ALL: usize = 20_000;
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// What an arrival is answered.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// This status, at once.
    Status(u16),
    /// This status with a header.
    Header(u16, &'static str, String),
    /// This status with a JSON body.
    Json(u16, Value),
    /// The connection is closed without an answer.
    HangUp,
    /// The first for GET, the second for anything else.
    ByMethod(Box<Reaction>, Box<Reaction>),
    /// Nothing until the gate opens, then this status.
    Hold(Gate, u16),
    /// For the next message of this type; those of other types are answered 200 meanwhile.
    For(&'static str, Box<Reaction>),
}

/// Something that opens once; cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Gate {
    /// Opens it, for good.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is open.
    pub async fn wait(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// A message that arrived at a URL.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// Its number in the trace.
    pub n: u64,
    /// When.
    pub at: Instant,
    /// The body as JSON, or what is wrong with it.
    pub message: Result<Value, String>,
}

impl Arrived {
    /// A member of the message, `null` where there is none.
    pub fn member(&self, name: &str) -> &Value {
        self.message.as_ref().ok().and_then(|m| m.get(name)).unwrap_or(&Value::Null)
    }

    /// Whether it is a message of a type.
    pub fn is(&self, kind: &str) -> bool {
        self.member("type") == kind
    }
}

/// A callback URL that was given away; cheap to clone.
#[derive(Debug, Clone)]
pub struct Given {
    /// The URL.
    pub url: String,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    case: String,
    inner: Mutex<Inner>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    script: VecDeque<Reaction>,
    arrived: Vec<Arrived>,
}

impl Inner {
    /// What the script has for an arrival.
    fn next_for(&mut self, arrived: &Arrived) -> Reaction {
        match self.script.front() {
            Some(Reaction::For(kind, _)) if !arrived.is(kind) => Reaction::Status(200),
            _ => match self.script.pop_front().unwrap_or(Reaction::Status(200)) {
                Reaction::For(_, then) => *then,
                reaction => reaction,
            },
        }
    }
}

impl Given {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the script: each arrival takes the next reaction; after the last, 200.
    pub fn react(&self, reactions: impl IntoIterator<Item = Reaction>) -> &Self {
        self.lock().script.extend(reactions);
        self
    }

    /// Forgets the rest of the script: from now on 200.
    pub fn relent(&self) {
        self.lock().script.clear();
    }

    /// What has arrived so far, in order.
    pub fn arrived(&self) -> Vec<Arrived> {
        self.lock().arrived.clone()
    }

    /// Waits until `pick` finds something in what has arrived, or the time is over.
    pub async fn wait_for<T>(&self, within: Duration, pick: impl Fn(&[Arrived]) -> Option<T>) -> Option<T> {
        let deadline = Clock::now() + within;
        let mut count = self.state.count.subscribe();
        loop {
            count.borrow_and_update();
            if let Some(found) = pick(&self.lock().arrived) {
                return Some(found);
            }
            if timeout_at(deadline, count.changed()).await.is_err() {
                return pick(&self.lock().arrived);
            }
        }
    }
}

/// The listener; cheap to clone. It lives as long as the runtime that it was bound in.
#[derive(Debug, Clone)]
pub struct Listener(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    public: String,
    local: SocketAddr,
    recorder: Recorder,
    given: Mutex<HashMap<String, Given>>,
    next: Mutex<u64>,
    nonce: String,
    strays: AtomicUsize,
    kept: AtomicUsize,
    kept_bytes: AtomicUsize,
    turned_away: AtomicUsize,
}

impl Listener {
    /// Binds and listens. `public` is the URL under which others reach it, where that is not the address.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: &str, public: Option<&str>, recorder: Recorder) -> std::io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let this = Self::at(socket.local_addr()?, public, recorder);
        tokio::spawn(this.clone().accept(socket));
        Ok(this)
    }

    /// Takes a port at a host without listening on it: connections to it are refused until it is opened, and
    /// nobody else can take it.
    ///
    /// # Errors
    /// No port can be taken.
    pub fn closed(host: std::net::IpAddr, recorder: Recorder) -> std::io::Result<Closed> {
        let socket = if host.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(SocketAddr::new(host, 0))?;
        let listener = Self::at(socket.local_addr()?, None, recorder);
        Ok(Closed { listener, socket })
    }

    fn at(local: SocketAddr, public: Option<&str>, recorder: Recorder) -> Self {
        let public = public.map_or_else(|| format!("http://{local}"), |p| p.trim_end_matches('/').to_owned());
        Self(Arc::new(Shared {
            public,
            local,
            recorder,
            given: Mutex::default(),
            next: Mutex::new(0),
            nonce: crate::nonce::nonce(),
            strays: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            kept_bytes: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
        }))
    }

    /// Where it listens.
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// How many messages were not kept, since too many came.
    pub fn turned_away(&self) -> usize {
        self.0.turned_away.load(Ordering::Relaxed)
    }

    /// Whether others reach it at its address, and not at another URL that leads there.
    pub fn is_direct(&self) -> bool {
        self.0.public == format!("http://{}", self.0.local)
    }

    /// The URL under which others reach it.
    pub fn public(&self) -> &str {
        &self.0.public
    }

    /// Gives a callback URL for a call of a case. Path and query hold what a server that parses and rebuilds
    /// URLs would spoil.
    pub fn give(&self, case: &str) -> Given {
        let token = self.token();
        let url = format!("{}/cb/{token}/a%2Fb;c=1/?t={token}&z=1&a=%20+%26&a=2&empty=", self.0.public);
        self.register(case, token, url)
    }

    /// Gives a plain URL, such as a base URL of a server that the judge plays.
    pub fn give_plain(&self, case: &str) -> Given {
        let token = self.token();
        let url = format!("{}/cb/{token}", self.0.public);
        self.register(case, token, url)
    }

    fn token(&self) -> String {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        format!("{}-{next}", self.0.nonce)
    }

    fn register(&self, case: &str, token: String, url: String) -> Given {
        let state = State { case: case.to_owned(), inner: Mutex::default(), count: watch::Sender::new(0) };
        let given = Given { url, state: Arc::new(state) };
        let mut all = self.0.given.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(token, given.clone());
        given
    }

    fn find(&self, path_and_query: &str) -> Option<Given> {
        let all = self.0.given.lock().unwrap_or_else(PoisonError::into_inner);
        path_and_query
            .split(['/', '?', '&', '=', ';'])
            .filter(|piece| piece.starts_with(&self.0.nonce))
            .find_map(|token| all.get(token).cloned())
    }

    async fn accept(self, socket: TcpListener) {
        loop {
            let Ok((stream, _)) = socket.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let this = self.clone();
            let service = hyper::service::service_fn(move |request| this.clone().serve(request));
            tokio::spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn serve(
        self,
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, HungUp> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let body = Limited::new(body, LARGEST).collect().await.map_err(|_| HungUp)?.to_bytes();
        let given = self.find(&path);
        let before = match &given {
            Some(given) => given.lock().arrived.len(),
            None => self.0.strays.fetch_add(1, Ordering::Relaxed),
        };
        let shared = &self.0;
        let room = before < MOST
            && shared.kept.load(Ordering::Relaxed) < MOST_IN_ALL
            && shared.kept_bytes.load(Ordering::Relaxed) < MOST_BYTES;
        if room {
            shared.kept.fetch_add(1, Ordering::Relaxed);
            shared.kept_bytes.fetch_add(body.len(), Ordering::Relaxed);
        } else {
            shared.turned_away.fetch_add(1, Ordering::Relaxed);
            let response = http::Response::builder().status(410);
            return response.body(Full::new(Bytes::new())).map_err(|_| HungUp);
        }
        let n = self.0.recorder.begin(Begun {
            case: given.as_ref().map(|g| g.state.case.clone()),
            from: Party::Server,
            method: head.method.to_string(),
            url: format!("{}{path}", self.0.public),
            headers: headers(&head.headers),
            body: Body(body.clone()),
        });
        let reaction = given.map_or(Reaction::Status(404), |given| {
            let mut inner = given.lock();
            let arrived = Arrived { n, at: Instant::now(), message: Body(body).json() };
            let reaction = inner.next_for(&arrived);
            inner.arrived.push(arrived);
            drop(inner);
            given.state.count.send_modify(|count| *count += 1);
            reaction
        });
        let reaction = match reaction {
            Reaction::ByMethod(get, other) => *if head.method == http::Method::GET { get } else { other },
            other => other,
        };
        let (status, extra, body) = match reaction {
            Reaction::ByMethod(..) | Reaction::For(..) => (500, None, Bytes::new()),
            Reaction::Status(status) => (status, None, Bytes::new()),
            Reaction::Header(status, name, value) => (status, Some((name, value)), Bytes::new()),
            Reaction::Json(status, value) => {
                let media = ("content-type", "application/json".to_owned());
                (status, Some(media), Bytes::from(value.to_string()))
            }
            Reaction::Hold(gate, status) => {
                gate.wait().await;
                (status, None, Bytes::new())
            }
            Reaction::HangUp => {
                self.0.recorder.end(n, Err("the judge closed the connection without an answer".to_owned()));
                return Err(HungUp);
            }
        };
        let shown = extra.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.0.recorder.end(n, Ok(Answer { status, headers: shown, body: Body(body.clone()) }));
        let mut response = http::Response::builder().status(status);
        if let Some((name, value)) = extra {
            response = response.header(name, value);
        }
        response.body(Full::new(body)).map_err(|_| HungUp)
    }
}

/// A port that is taken, and refuses connections.
#[derive(Debug)]
pub struct Closed {
    listener: Listener,
    socket: TcpSocket,
}

impl Closed {
    /// Gives a callback URL, as [`Listener::give`].
    pub fn give(&self, case: &str) -> Given {
        self.listener.give(case)
    }

    /// From now on connections are taken.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open(self) -> std::io::Result<Listener> {
        let Self { listener, socket } = self;
        tokio::spawn(listener.clone().accept(socket.listen(64)?));
        Ok(listener)
    }
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct HungUp;
