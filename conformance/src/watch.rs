//! A proxy between anybody's runtime and anybody's server: it records what passes and runs the rules over it.
//!
//! It changes nothing but the URLs that must lead through it: `endpoint` in a toolset, `callback_url` in an
//! invocation, `response_url` in a question. Each becomes a path of the proxy that says who will post there and to
//! which origin, followed by path and query as they were, so that whatever a server does to a URL it does
//! to the real one too. Where such a change breaks a signature over a body, the proxy cannot help it.

use crate::{
    connect::Trust,
    http::{Http, Request, headers, path_and_query},
    report::{Report, Target, fold},
    rules,
    trace::{Answer, Begun, Body, Exchange, Party, Recorder},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rap_spec::Requirement;
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::net::TcpListener;

/// The largest body that passes, in bytes.
const LARGEST: usize = 32 * 1024 * 1024;

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
}

/// A proxy that runs until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub local: SocketAddr,
    /// The base URL that the runtime is given in place of the server's.
    pub base: String,
    recorder: Recorder,
    to: String,
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
        let to = watch.to.trim_end_matches('/').to_owned();
        let recorder = Recorder::observed(observer);
        let shared = Arc::new(Shared {
            base: base.clone(),
            to: to.clone(),
            recorder: recorder.clone(),
            // What passes is recorded once, as the server sees it.
            http: Http::new(Recorder::nothing(), PATIENCE).trusting(watch.trust),
            origins: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(shared, socket));
        Ok(Self { local, base, recorder, to, accepting })
    }

    /// Everything that passed so far.
    pub fn trace(&self) -> Vec<Exchange> {
        self.recorder.all()
    }

    /// What the rules say of it.
    pub fn report(&self) -> Report {
        judge_trace(&self.trace(), &self.to)
    }
}

/// What the rules say of a trace, wherever it comes from.
pub fn judge_trace(trace: &[Exchange], url: &str) -> Report {
    let reports = rules::judge(trace, &rules::all(), None);
    let target = Target { role: "trace".to_owned(), url: url.to_owned(), name: String::new() };
    fold(target, reports, trace, has_a_rule)
}

fn has_a_rule(requirement: &Requirement) -> bool {
    rules::all().iter().any(|rule| rule.obligations.contains(&requirement.id))
}

struct Shared {
    base: String,
    to: String,
    recorder: Recorder,
    http: Http,
    origins: Mutex<Vec<String>>,
}

/// What paths begin with that stand for a URL elsewhere; who posts there and the origin's number follow.
const MARK: &str = "/~rap/";

impl Shared {
    fn origins(&self) -> MutexGuard<'_, Vec<String>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The URL of the proxy that stands for another one, to which `sender` will post.
    fn through(&self, url: &str, sender: Party) -> String {
        let origin = origin(url).to_owned();
        let mut origins = self.origins();
        let n = origins.iter().position(|o| *o == origin).unwrap_or_else(|| {
            origins.push(origin);
            origins.len() - 1
        });
        let letter = if sender == Party::Server { 's' } else { 'r' };
        format!("{}{MARK}{letter}{n}{}", self.base, path_and_query(url))
    }

    /// Who posts to a path of the proxy, and the URL that it stands for; none for one that was never given.
    fn original(&self, path: &str) -> Option<(Party, String)> {
        let Some(rest) = path.strip_prefix(MARK) else {
            return Some((Party::Runtime, format!("{}{path}", self.to)));
        };
        let (label, rest) = rest.split_at(rest.find(['/', '?'])?);
        let (sender, n) = match label.strip_prefix('s') {
            Some(n) => (Party::Server, n),
            None => (Party::Runtime, label.strip_prefix('r')?),
        };
        let origin = self.origins().get(n.parse::<usize>().ok()?)?.clone();
        Some((sender, format!("{origin}{rest}")))
    }

    /// A message with the URL in it replaced, and what it was where one was.
    fn rewritten(&self, body: &Bytes, member: &str, sender: Party) -> Bytes {
        let Ok(Value::Object(mut message)) = serde_json::from_slice::<Value>(body) else {
            return body.clone();
        };
        match message.get(member).and_then(Value::as_str).filter(|url| url.contains("://")) {
            None => body.clone(),
            Some(url) => {
                let through = self.through(url, sender);
                message.insert(member.to_owned(), through.into());
                Value::Object(message).to_string().into()
            }
        }
    }
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
    let path = head.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let Ok(body) = Limited::new(body, LARGEST).collect().await else {
        return plain(413, "the proxy does not pass a body this large");
    };
    let body = body.to_bytes();
    let Some((from, original)) = shared.original(&path) else {
        return plain(404, "the proxy has given no such URL");
    };
    // What the runtime gives away leads through us before the server sees it, and the other way round.
    let forwarded = match from {
        Party::Runtime => shared.rewritten(&body, "callback_url", Party::Server),
        Party::Server => shared.rewritten(&body, "response_url", Party::Runtime),
    };
    let seen_url = match from {
        Party::Runtime => original.clone(),
        Party::Server => format!("{}{path}", shared.base),
    };
    let seen_body = if from == Party::Runtime { forwarded.clone() } else { body };
    let n = shared.recorder.begin(Begun {
        case: None,
        from,
        method: head.method.to_string(),
        url: seen_url,
        headers: headers(&head.headers),
        body: Body(seen_body),
    });
    let request = Request {
        case: String::new(),
        method: head.method.to_string(),
        url: original,
        headers: passing(headers(&head.headers)),
        body: forwarded,
    };
    let answer = shared.http.send(request).await.answer;
    shared.recorder.end(n, answer.clone());
    match answer {
        Err(why) => plain(502, &why),
        Ok(answer) => respond(&shared, &path, answer),
    }
}

fn respond(shared: &Shared, path: &str, answer: Answer) -> Result<http::Response<Full<Bytes>>, http::Error> {
    let is_toolset = path.split('?').next().is_some_and(|p| p.ends_with("/.well-known/rap-toolset"));
    let body =
        if is_toolset { shared.rewritten(&answer.body.0, "endpoint", Party::Runtime) } else { answer.body.0 };
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
