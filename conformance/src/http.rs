//! The judge's own HTTP client: one connection a request, no redirects, no retries, every byte recorded. Where
//! even that is too polite, [`Http::raw`] writes bytes to a socket.

use crate::{
    connect::Trust,
    listen::Gate,
    trace::{Answer, Begun, Body, Party, Recorder},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use std::{future::Future, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

/// The largest answer that is read, in bytes.
const LARGEST: usize = 8 * 1024 * 1024;

/// Of the answer to anything but GET, which nobody has to read, so many bytes are kept in the trace.
const KEPT: usize = 64 * 1024;

/// The longest head of an answer that is read byte by byte.
const LONGEST_HEAD: usize = 64 * 1024;

/// A request to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    /// The case that sends it.
    pub case: String,
    /// The method.
    pub method: String,
    /// The absolute URL; its path and query are sent as written.
    pub url: String,
    /// The headers, names in lower case; `host` and `content-length` are added.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// What became of a request.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Its number in the trace.
    pub n: u64,
    /// The answer, or why none came.
    pub answer: Result<Answer, String>,
}

impl Sent {
    /// The status, if an answer came.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|a| a.status)
    }

    /// What came, in words: `answered 404`, or why nothing came.
    pub fn words(&self) -> String {
        match &self.answer {
            Ok(answer) => format!("was answered {}", answer.status),
            Err(failure) => format!("got no answer: {failure}"),
        }
    }
}

/// The client; cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    recorder: Recorder,
    limit: Duration,
    dry: bool,
    trust: Trust,
}

impl Http {
    /// A client that records, and gives up on an answer after `limit`.
    pub fn new(recorder: Recorder, limit: Duration) -> Self {
        Self { recorder, limit, dry: false, trust: Trust::default() }
    }

    /// The same with other ideas of whom to believe.
    #[must_use]
    pub fn trusting(&self, trust: Trust) -> Self {
        Self { trust, ..self.clone() }
    }

    /// The same with another limit.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// The same, but nothing is sent: every request is recorded, and answered 200 by nobody.
    #[must_use]
    pub fn dry(&self) -> Self {
        Self { dry: true, ..self.clone() }
    }

    /// The answer within the limit, or the one that a rehearsal gives.
    async fn limited(&self, answer: impl Future<Output = Result<Answer, String>>) -> Result<Answer, String> {
        if self.dry {
            return Ok(Answer { status: 200, headers: Vec::new(), body: Body::from(&serde_json::json!({})) });
        }
        match timeout(self.limit, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("nothing within {} s", self.limit.as_secs_f32())),
        }
    }

    /// Sends a request and waits for its answer.
    pub async fn send(&self, request: Request) -> Sent {
        let fetch = request.method == "GET";
        let n = self.recorder.begin(Begun {
            case: Some(request.case.clone()),
            from: Party::Runtime,
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.clone(),
            body: Body(request.body.clone()),
        });
        let answer = self.limited(exchange(&self.trust, request)).await;
        let mut kept = answer.clone();
        if let Ok(answer) = kept.as_mut()
            && !fetch
            && answer.body.0.len() > KEPT
        {
            // A copy, since a slice would keep all of it.
            answer.body = Body(Bytes::copy_from_slice(&answer.body.0[..KEPT]));
        }
        self.recorder.end(n, kept);
        Sent { n, answer }
    }

    /// Writes bytes to the host of a URL, piece by piece with a pause between, and reads what is answered.
    /// An answer may come before all is written; until then, or the limit, the connection stays open.
    pub async fn raw(&self, case: &str, url: &str, pieces: &[Bytes], pause: Duration) -> Sent {
        self.raw_until(case, url, pieces, pause, &Gate::default()).await
    }

    /// As [`Http::raw`]; `written` opens when all is written, or nothing more will be.
    pub async fn raw_until(
        &self,
        case: &str,
        url: &str,
        pieces: &[Bytes],
        pause: Duration,
        written: &Gate,
    ) -> Sent {
        let n = self.recorder.begin(Begun {
            case: Some(case.to_owned()),
            from: Party::Runtime,
            method: "RAW".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            body: Body(pieces.concat().into()),
        });
        let answer = self.limited(write_raw(&self.trust, url, pieces, pause, written.clone())).await;
        written.open();
        self.recorder.end(n, answer.clone());
        Sent { n, answer }
    }
}

/// Path and query as they are written.
pub fn path_and_query(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.find(['/', '?']).map_or("/", |at| &rest[at..]);
    let path = path.split('#').next().unwrap_or("/");
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

async fn exchange(trust: &Trust, request: Request) -> Result<Answer, String> {
    let stream = trust.connect(&request.url).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    // Ends with this function, also where that is cut off by its limit.
    let mut driving = JoinSet::new();
    driving.spawn(connection);
    let host = request.url.split_once("://").map_or("", |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    let mut builder = http::Request::builder()
        .method(request.method.as_str())
        .uri(path_and_query(&request.url))
        .header("host", host.rsplit('@').next().unwrap_or(host));
    for (name, value) in &request.headers {
        builder = builder.header(name.as_str(), value.as_str());
    }
    let built = builder.body(Full::new(request.body)).map_err(|e| format!("it cannot be sent: {e}"))?;
    let response = sender.send_request(built).await.map_err(|e| format!("the connection broke: {e}"));
    match response {
        Ok(response) => read(response).await,
        Err(e) => Err(e),
    }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map_err(|e| format!("status {}, then the body broke off: {e}", head.status.as_u16()))?;
    Ok(Answer { status: head.status.as_u16(), headers: headers(&head.headers), body: Body(body.to_bytes()) })
}

/// Headers as the trace keeps them.
pub(crate) fn headers(map: &http::HeaderMap) -> Vec<(String, String)> {
    map.iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect()
}

async fn write_raw(
    trust: &Trust,
    url: &str,
    pieces: &[Bytes],
    pause: Duration,
    written: Gate,
) -> Result<Answer, String> {
    let (mut reader, mut writer) = tokio::io::split(trust.connect(url).await?);
    let pieces = pieces.to_vec();
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 {
                tokio::time::sleep(pause).await;
            }
            if writer.write_all(piece).await.is_err() || writer.flush().await.is_err() {
                break;
            }
        }
        written.open();
        // Held, so that the other side sees no end before it has answered.
        writer
    });
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0_u8; 4096];
        match reader.read(&mut buffer).await {
            Ok(0) => break parse(&bytes).ok_or_else(|| "the connection was closed".to_owned()),
            Ok(n) => {
                bytes.extend_from_slice(&buffer[..n]);
                if let Some(answer) = parse(&bytes) {
                    break Ok(answer);
                }
                if bytes.len() > LONGEST_HEAD {
                    break Err("what came is no answer in HTTP, or its head has no end".to_owned());
                }
            }
            Err(e) => break parse(&bytes).ok_or_else(|| format!("the connection broke: {e}")),
        }
    }
}

/// Reads the status line and the headers; the body as far as it has come.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Some(Answer { status, headers, body: Body(Bytes::copy_from_slice(&bytes[end + 4..])) })
}
