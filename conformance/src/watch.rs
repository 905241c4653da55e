//! A proxy between anybody's runtime and anybody's server: it records what passes and runs the rules over it.
//!
//! It changes nothing but the URLs that must lead through it: `endpoint` in a toolset, `callback_url` in an
//! invocation, `response_url` in a question. Each becomes a path of the proxy that says who will post there and to
//! which origin, followed by path and query as they were, so that whatever a server does to a URL it does
//! to the real one too. Where such a change breaks a signature over a body, the proxy cannot help it.
//!
//! Such a path says all that there is to know, since it can be used after the proxy was started again: a
//! subscription lives longer. What comes to a path of another run passes and is not judged: its beginning was not seen.
//! It passes only to where something of this run leads as well, or from loopback to loopback, since anybody can
//! write such a path.

mod past;
mod rewrite;

use crate::{
    connect::{Authority, Trust, authority},
    discreet::discreet,
    http::{Http, Request, headers, path_and_query},
    nonce::nonce,
    report::{CaseReport, Report, Target, fold},
    rules,
    trace::{Answer, Begun, Body, Exchange, Party, Recorder},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use past::Past;
use rap_spec::Requirement;
use std::{
    cell::RefCell,
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpListener;

/// The largest body that passes, in bytes.
const LARGEST: usize = 32 * 1024 * 1024;

/// How much of what passes is kept, in bytes, where nothing else is said.
pub const KEPT: usize = 64 * 1024 * 1024;

/// What an exchange takes beside its bodies and headers, in bytes.
const EXCHANGE: usize = 1024;

/// How long nothing is forgotten after something was: to look through all of it takes its time.
const PAUSE: Duration = Duration::from_secs(10);

/// How many origins are known at most.
const ORIGINS: usize = 10_000;

/// How long either side may take for an answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the proxy stands.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// The server's base URL.
    pub to: String,
    /// The address to listen on.
    pub listen: String,
    /// The URL under which both sides reach it, where that is not the address.
    pub public_url: Option<String>,
    /// Who is believed about an https server.
    pub trust: Trust,
    /// How much of what passes is kept, in bytes; [`KEPT`] where nothing is said. When there is more, what is over is
    /// forgotten; where too much is not over, the rest passes unseen, which is noted.
    pub keep: Option<usize>,
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub local: SocketAddr,
    /// The base URL that the runtime is given in place of the server's.
    pub base: String,
    shared: Arc<Shared>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Binds and listens; every exchange that ends is shown to `observer`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(
        watch: Watch,
        observer: impl Fn(&Exchange) + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let socket = TcpListener::bind(&watch.listen)
            .await
            .map_err(|e| format!("{} cannot be listened on: {e}; hint: --listen", watch.listen))?;
        let local = socket.local_addr().map_err(|e| e.to_string())?;
        let base = watch.public_url.unwrap_or_else(|| format!("http://{local}"));
        let base = base.trim_end_matches('/').to_owned();
        let shared = Arc::new(Shared {
            base: base.clone(),
            to: watch.to.trim_end_matches('/').to_owned(),
            recorder: Recorder::observed(observer),
            // What passes is recorded once, as the server sees it.
            http: Http::new(Recorder::nothing(), PATIENCE).trusting(watch.trust),
            run: nonce(),
            on_loopback: local.ip().is_loopback(),
            origins: Mutex::new(authority(&watch.to).into_iter().collect()),
            keep: watch.keep.unwrap_or(KEPT),
            kept: AtomicUsize::new(0),
            past: Mutex::default(),
            forgot: Mutex::default(),
            notes: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(shared.clone(), socket));
        Ok(Self { local, base, shared, accepting })
    }

    /// Everything that passed so far.
    pub fn trace(&self) -> Vec<Exchange> {
        self.shared.recorder.all()
    }

    /// What passed and could not be seen or changed as it should, each once.
    pub fn notes(&self) -> Vec<String> {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the rules say of it, and said of what was forgotten.
    pub fn report(&self) -> Report {
        let past = || self.shared.past.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trace = self.trace();
        let late = |e: &Exchange| e.from == Party::Server && past().knows(&e.url);
        trace.retain(|e| !late(e));
        let mut trace = discreet(&trace);
        let now = rules::judge(&trace, &rules::all(), None);
        let (reports, mut cited) = past().with(now);
        cited.retain(|e| trace.binary_search_by_key(&e.n, |e| e.n).is_err());
        trace.extend(cited);
        trace.sort_by_key(|e| e.n);
        Report { notes: self.notes(), ..folded(reports, &trace, &self.shared.to) }
    }
}

/// What the rules say of a trace, wherever it comes from. URLs in it that are worth something are nowhere in the report.
pub fn judge_trace(trace: &[Exchange], url: &str) -> Report {
    let trace = &discreet(trace);
    folded(rules::judge(trace, &rules::all(), None), trace, url)
}

fn folded(reports: Vec<CaseReport>, trace: &[Exchange], url: &str) -> Report {
    let target = Target { role: "trace".to_owned(), url: url.to_owned(), name: String::new() };
    fold(target, reports, trace, has_a_rule)
}

fn has_a_rule(requirement: &Requirement) -> bool {
    rules::all().iter().any(|rule| rule.obligations.contains(&requirement.id))
}

#[derive(Debug)]
struct Shared {
    base: String,
    to: String,
    recorder: Recorder,
    http: Http,
    /// What tells the paths of this run from those of others.
    run: String,
    on_loopback: bool,
    /// Where something of this run leads: to the server, and wherever a message led that the other side took.
    origins: Mutex<HashSet<Authority>>,
    keep: usize,
    kept: AtomicUsize,
    past: Mutex<Past>,
    /// When something was forgotten, or last tried to be.
    forgot: Mutex<Option<Instant>>,
    notes: Mutex<Vec<String>>,
}

/// What paths begin with that stand for a URL elsewhere. Who posts there, the run and the origin follow.
const MARK: &str = "/~rap/";

/// What a path of the proxy stands for.
struct Original {
    sender: Party,
    url: String,
    /// Whether this run gave it, or it is the server's own.
    ours: bool,
}

impl Shared {
    /// The URL of the proxy that stands for another one, to which `sender` will post.
    fn through(&self, url: &str, sender: Party) -> String {
        let letter = if sender == Party::Server { 's' } else { 'r' };
        let origin = URL_SAFE_NO_PAD.encode(origin(url));
        format!("{}{MARK}{letter}{}.{origin}{}", self.base, self.run, path_and_query(url))
    }

    /// Who posts to a path of the proxy, and the URL that it stands for.
    ///
    /// # Errors
    /// No proxy gives such a path; or another run gave it, and it leads to where nothing of this run does.
    fn original(&self, path: &str) -> Result<Original, &'static str> {
        let original = self.meant(path).ok_or("the proxy has given no such URL")?;
        if original.ours || authority(&original.url).is_ok_and(|to| self.leads_to(&to)) {
            return Ok(original);
        }
        Err(
            "this run of the proxy has not given this URL, and has seen nothing yet that leads to its origin; \
             hint: let the two sides exchange their URLs anew, by a new call",
        )
    }

    /// Whether what another run gave may lead there.
    fn leads_to(&self, to: &Authority) -> bool {
        let is_loopback =
            || to.host == "localhost" || to.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        (self.on_loopback && is_loopback())
            || self.origins.lock().unwrap_or_else(PoisonError::into_inner).contains(to)
    }

    /// Knows the origins of URLs from now on.
    fn know(&self, urls: &[String]) {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        for origin in urls.iter().filter_map(|url| authority(url).ok()) {
            if origins.len() < ORIGINS {
                origins.insert(origin);
            }
        }
    }

    /// What a path stands for, whoever gave it; none for one that no proxy gives.
    fn meant(&self, path: &str) -> Option<Original> {
        let Some(rest) = path.strip_prefix(MARK) else {
            let url = format!("{}{path}", self.to);
            return Some(Original { sender: Party::Runtime, url, ours: true });
        };
        let (label, rest) = rest.split_at(rest.find(['/', '?'])?);
        let (label, encoded) = label.split_once('.')?;
        let (sender, run) = match label.strip_prefix('s') {
            Some(run) => (Party::Server, run),
            None => (Party::Runtime, label.strip_prefix('r')?),
        };
        let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()?;
        let whole = origin(&decoded) == decoded && authority(&decoded).is_ok();
        whole.then(|| Original { sender, url: format!("{decoded}{rest}"), ours: run == self.run })
    }

    /// A message with the URL in it replaced, and everything else as it was; and what was replaced.
    fn rewritten(&self, body: &Bytes, member: &str, sender: Party) -> (Bytes, Vec<String>) {
        let urls = RefCell::new(Vec::new());
        let through = |url: &str| {
            urls.borrow_mut().push(url.to_owned());
            self.through(url, sender)
        };
        let made = rewrite::rewritten(body, member, through);
        (made.map_or_else(|| body.clone(), Bytes::from), urls.into_inner())
    }

    /// Notes something, once.
    fn note(&self, what: String) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if !notes.contains(&what) {
            notes.push(what);
        }
    }

    /// Notes that what came is compressed, if so.
    fn readable(&self, what: &str, headers: &[(String, String)]) {
        let coding = headers.iter().find(|(name, _)| name == "content-encoding").map(|(_, value)| value);
        if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
            let coding: String = coding.chars().take(40).collect();
            self.note(format!(
                "{what} came compressed ({coding}): it was passed as it is, URLs in it do not lead through here, and \
                 the rules cannot read it; hint: switch compression off"
            ));
        }
    }

    /// Takes room for so many bytes in the trace; nothing where it is full of what is not over.
    fn room(self: &Arc<Self>, bytes: usize) -> Option<()> {
        let kept = self.kept.fetch_add(bytes + EXCHANGE, Ordering::Relaxed);
        if kept > self.keep / 2 {
            self.forget_soon();
        }
        if kept <= self.keep {
            return Some(());
        }
        self.kept.fetch_sub(bytes + EXCHANGE, Ordering::Relaxed);
        self.note(format!(
            "{} MiB of what passed are not over, or young: what comes now passes and is not judged, for as long as that is \
             so; hint: --keep MIB",
            self.keep / 1024 / 1024
        ));
        None
    }

    /// Forgets what is over, beside the traffic, and not again at once.
    fn forget_soon(self: &Arc<Self>) {
        let mut last = self.forgot.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        *last = Some(Instant::now());
        let shared = self.clone();
        tokio::task::spawn_blocking(move || shared.forget());
    }

    fn forget(&self) {
        let trace = self.recorder.all();
        let shown = discreet(&trace);
        let (kept, reports) = (past::live(&trace), rules::judge(&shown, &rules::all(), None));
        let last = trace.last().map_or(0, |e| e.n);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        if past.is_full() {
            return;
        }
        past.remember(&trace, &shown, reports, &kept);
        // What was sent again meanwhile.
        self.recorder.all().iter().filter(|e| e.n > last).for_each(|e| past.begins(e.from, &e.body));
        drop(past);
        self.recorder.retain(|e| e.n > last || kept.contains(&e.n));
        let dropped = trace.iter().filter(|e| !kept.contains(&e.n)).map(bytes).sum();
        self.kept.fetch_sub(dropped, Ordering::Relaxed);
        // It may be long until it begins again: the clock runs from its end.
        *self.forgot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// About what an exchange takes.
fn bytes(exchange: &Exchange) -> usize {
    let answer = exchange.answer.as_ref().map_or(0, |answer| answer.body.0.len() + size(&answer.headers));
    EXCHANGE + exchange.body.0.len() + size(&exchange.headers) + answer
}

fn size(headers: &[(String, String)]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Scheme and authority of a URL.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

async fn accept(shared: Arc<Shared>, socket: TcpListener) {
    loop {
        let Ok((stream, _)) = socket.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        let service = hyper::service::service_fn(move |request| pass(shared.clone(), request));
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Lets one request pass: to where its URL leads, and the answer back.
async fn pass(
    shared: Arc<Shared>,
    request: http::Request<hyper::body::Incoming>,
) -> Result<http::Response<Full<Bytes>>, http::Error> {
    let (head, body) = request.into_parts();
    if head.headers.contains_key("origin") {
        return plain(
            403,
            "the proxy is for runtimes and servers, and lets nothing pass that a web page sends",
        );
    }
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return plain(413, "the proxy does not pass a body this large");
    };
    let body = body.to_bytes();
    let Original { sender: from, url: original, ours } = match shared.original(&path) {
        Ok(original) => original,
        Err(why) => return plain(404, why),
    };
    let sent = headers(&head.headers);
    shared.readable("a message", &sent);
    // What the runtime gives away leads through us before the server sees it, and the other way round.
    let (forwarded, leads) = match from {
        Party::Runtime => shared.rewritten(&body, "callback_url", Party::Server),
        Party::Server => shared.rewritten(&body, "response_url", Party::Runtime),
    };
    let seen_url = match from {
        Party::Runtime => original.clone(),
        Party::Server => format!("{}{path}", shared.base),
    };
    let seen_body = if from == Party::Runtime { forwarded.clone() } else { body };
    if !ours {
        shared.note(
            "messages came to URLs that an earlier run gave: they were passed on, and are not judged"
                .to_owned(),
        );
    }
    // The end of a call that was forgotten says nothing.
    let late =
        from == Party::Server && shared.past.lock().unwrap_or_else(PoisonError::into_inner).knows(&seen_url);
    let room = if ours && !late { shared.room(seen_body.len() + size(&sent)) } else { None };
    let n = room.map(|()| {
        let n = shared.recorder.begin(Begun {
            case: None,
            from,
            method: head.method.to_string(),
            url: seen_url,
            headers: sent.clone(),
            body: Body(seen_body.clone()),
        });
        shared.past.lock().unwrap_or_else(PoisonError::into_inner).begins(from, &Body(seen_body));
        n
    });
    let request = Request {
        case: String::new(),
        method: head.method.to_string(),
        url: original,
        headers: passing(sent),
        body: forwarded,
    };
    let answer = shared.http.send(request).await.answer;
    if let Some(n) = n {
        let kept = answer.as_ref().map_or(0, |answer| answer.body.0.len() + size(&answer.headers));
        shared.kept.fetch_add(kept, Ordering::Relaxed);
        shared.recorder.end(n, answer.clone());
    }
    // What nobody took leads nowhere: else whoever sends here would say where it leads.
    if answer.as_ref().is_ok_and(|answer| (200..300).contains(&answer.status)) {
        shared.know(&leads);
    }
    match answer {
        Err(why) => plain(502, &why),
        Ok(answer) => respond(&shared, &path, answer),
    }
}

fn respond(shared: &Shared, path: &str, answer: Answer) -> Result<http::Response<Full<Bytes>>, http::Error> {
    let is_toolset = path.split('?').next().is_some_and(|p| p.ends_with("/.well-known/rap-toolset"));
    if is_toolset {
        shared.readable("a toolset", &answer.headers);
    }
    let body = if is_toolset {
        let (body, leads) = shared.rewritten(&answer.body.0, "endpoint", Party::Runtime);
        shared.know(&leads);
        body
    } else {
        answer.body.0
    };
    let mut response = http::Response::builder().status(answer.status);
    for (name, value) in passing(answer.headers) {
        response = response.header(name, value);
    }
    response.body(Full::new(body))
}

fn plain(status: u16, why: &str) -> Result<http::Response<Full<Bytes>>, http::Error> {
    http::Response::builder()
        .status(status)
        .header("content-type", "text/plain; charset=utf-8")
        .body(Full::new(Bytes::from(format!("rap-conformance watch: {why}\n"))))
}

/// Headers that pass: not those of one connection, not those that follow from the body, and none that asks for
/// a body that cannot be read here.
fn passing(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    const STAY: [&str; 10] = [
        "host",
        "content-length",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "accept-encoding",
        "proxy-connection",
    ];
    headers.into_iter().filter(|(name, _)| !STAY.contains(&name.as_str())).collect()
}
