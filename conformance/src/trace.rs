//! What went over the wire: who sent what to whom, when, and what was answered. Everything is judged on this,
//! whether it was provoked by a case, read from a file, or seen passing through a proxy.
//!
//! An [`Exchange`] is one request and its answer, with the bytes as they were. A [`Recorder`] collects
//! exchanges from many tasks and gives every beginning and every end a *tick* of one counter, so that order is
//! a fact of the trace and never a comparison of clocks. A trace in a file is one exchange a line, as JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fmt,
    io::{BufRead, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The runtime, or the judge in its place: invocations, notices, the fetch of a toolset.
    Runtime,
    /// The tool server: callbacks.
    Server,
}

/// Bytes of a body. In JSON: a string where they are UTF-8, else `{"base64": …}`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Body(pub Bytes);

impl Body {
    /// The body as JSON.
    ///
    /// # Errors
    /// What is wrong with it, in words: not UTF-8, or not JSON.
    pub fn json(&self) -> Result<Value, String> {
        let text = std::str::from_utf8(&self.0).map_err(|e| format!("not UTF-8: {e}"))?;
        serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))
    }

    /// The body as text, what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl From<&Value> for Body {
    fn from(value: &Value) -> Self {
        Self(Bytes::from(value.to_string()))
    }
}

impl Serialize for Body {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::Engine as _;
        #[derive(Serialize)]
        struct Raw {
            base64: String,
        }
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Raw { base64: base64::engine::general_purpose::STANDARD.encode(&self.0) }
                .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Text(String),
            Raw { base64: String },
        }
        match Form::deserialize(deserializer)? {
            Form::Text(text) => Ok(Self(text.into())),
            Form::Raw { base64 } => base64::engine::general_purpose::STANDARD
                .decode(base64)
                .map(|bytes| Self(bytes.into()))
                .map_err(serde::de::Error::custom),
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Body,
}

impl Answer {
    /// The first header of a name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// One request and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Its number in the trace, from 1.
    pub n: u64,
    /// The case that it belongs to, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// Who sent the request.
    pub from: Party,
    /// The tick at which it began: for what we receive, when its head had been read.
    pub began: u64,
    /// The tick at which its answer was there, or was about to be sent; absent while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<u64>,
    /// When it began, in microseconds since the trace began.
    pub at_us: u64,
    /// How long it took, in microseconds.
    #[serde(default)]
    pub took_us: u64,
    /// The method.
    pub method: String,
    /// The absolute URL, as it was written.
    pub url: String,
    /// The headers, names in lower case, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Body,
    /// The answer, if one came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Why none came, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Exchange {
    /// The first header of a name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The status of the answer, if one came.
    pub fn status(&self) -> Option<u16> {
        self.answer.as_ref().map(|a| a.status)
    }

    /// Whether a 2xx came.
    pub fn taken(&self) -> bool {
        self.status().is_some_and(|s| (200..300).contains(&s))
    }

    /// Whether it is an invocation that gives this callback URL.
    pub fn gives(&self, url: &str) -> bool {
        self.from == Party::Runtime && self.body.json().is_ok_and(|body| body["callback_url"] == url)
    }

    /// Replaces the values of headers that carry secrets.
    pub fn redact(&mut self) {
        self.redact_headers(|name| SECRET_HEADERS.contains(&name));
    }

    /// Replaces the values of headers whose names, in lower case, are secret.
    pub fn redact_headers(&mut self, secret: impl Fn(&str) -> bool) {
        let all = self.headers.iter_mut().chain(self.answer.iter_mut().flat_map(|a| a.headers.iter_mut()));
        for (_, value) in all.filter(|(name, _)| secret(name)) {
            "<redacted>".clone_into(value);
        }
        if self.method == "RAW" {
            self.body = without_secret_lines(&self.body, secret);
        }
    }

    /// The same with the values of headers that carry secrets replaced.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut copy = self.clone();
        copy.redact();
        copy
    }
}

/// Bytes that were written as they are, with the values of headers that carry secrets replaced.
fn without_secret_lines(body: &Body, secret: impl Fn(&str) -> bool) -> Body {
    let end = body.0.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(body.0.len());
    let head = String::from_utf8_lossy(&body.0[..end]);
    let lines = head.split("\r\n").map(|line| match line.split_once(':') {
        Some((name, _)) if secret(&name.to_ascii_lowercase()) => {
            format!("{name}: <redacted>")
        }
        _ => line.to_owned(),
    });
    let head = lines.collect::<Vec<_>>().join("\r\n");
    Body([head.as_bytes(), &body.0[end..]].concat().into())
}

/// Headers whose values are never shown.
const SECRET_HEADERS: &[&str] =
    &["authorization", "proxy-authorization", "cookie", "set-cookie", "webhook-signature", "x-api-key"];

/// A request at its beginning, for [`Recorder::begin`].
#[derive(Debug, Clone)]
pub struct Begun {
    /// The case that it belongs to, where one is known.
    pub case: Option<String>,
    /// Who sent it.
    pub from: Party,
    /// The method.
    pub method: String,
    /// The absolute URL.
    pub url: String,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

type Observer = Box<dyn Fn(&Exchange) + Send + Sync>;

/// Collects exchanges; cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    start: Instant,
    tick: AtomicU64,
    /// In the order of their numbers.
    exchanges: Mutex<Vec<Exchange>>,
    /// The highest number of what may be forgotten.
    forgotten: AtomicU64,
    observer: Option<Observer>,
    /// Whether anything is kept.
    keeps: bool,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("exchanges", &self.lock().len()).finish()
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with(None, true)
    }
}

impl Recorder {
    /// An empty one, which shows every exchange to `observer` when it has ended.
    pub fn observed(observer: impl Fn(&Exchange) + Send + Sync + 'static) -> Self {
        Self::with(Some(Box::new(observer)), true)
    }

    /// One that keeps nothing, for whoever records elsewhere what it does.
    pub fn nothing() -> Self {
        Self::with(None, false)
    }

    fn with(observer: Option<Observer>, keeps: bool) -> Self {
        Self(Arc::new(Inner {
            start: Instant::now(),
            tick: AtomicU64::new(1),
            exchanges: Mutex::default(),
            forgotten: AtomicU64::new(0),
            observer,
            keeps,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Exchange>> {
        self.0.exchanges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.0.tick.fetch_add(1, Ordering::SeqCst)
    }

    /// The time since the trace began, in microseconds.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Records that a request began, and returns its number.
    pub fn begin(&self, begun: Begun) -> u64 {
        let mut exchanges = self.lock();
        if !self.0.keeps {
            return 0;
        }
        let n = exchanges.last().map_or(0, |last| last.n).max(self.0.forgotten.load(Ordering::SeqCst)) + 1;
        exchanges.push(Exchange {
            n,
            case: begun.case,
            from: begun.from,
            began: self.tick(),
            ended: None,
            at_us: self.now_us(),
            took_us: 0,
            method: begun.method,
            url: begun.url,
            headers: begun.headers,
            body: begun.body,
            answer: None,
            failure: None,
        });
        n
    }

    /// Records the answer of a request, or why none came.
    pub fn end(&self, n: u64, outcome: Result<Answer, String>) {
        let mut exchanges = self.lock();
        let Ok(at) = exchanges.binary_search_by_key(&n, |e| e.n) else { return };
        let exchange = &mut exchanges[at];
        exchange.ended = Some(self.tick());
        exchange.took_us = self.now_us().saturating_sub(exchange.at_us);
        match outcome {
            Ok(answer) => exchange.answer = Some(answer),
            Err(failure) => exchange.failure = Some(failure),
        }
        if let Some(observer) = &self.0.observer {
            let ended = exchange.clone();
            drop(exchanges);
            observer(&ended);
        }
    }

    /// An exchange by its number.
    pub fn get(&self, n: u64) -> Option<Exchange> {
        let exchanges = self.lock();
        let at = exchanges.binary_search_by_key(&n, |e| e.n).ok()?;
        exchanges.get(at).cloned()
    }

    /// Forgets what is not to be kept; numbers are never given again.
    pub(crate) fn retain(&self, keep: impl Fn(&Exchange) -> bool) {
        let mut exchanges = self.lock();
        let last = exchanges.last().map_or(0, |last| last.n);
        self.0.forgotten.fetch_max(last, Ordering::SeqCst);
        exchanges.retain(keep);
        exchanges.shrink_to_fit();
    }

    /// All of them so far, in the order in which they began.
    pub fn all(&self) -> Vec<Exchange> {
        self.lock().clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Reads a trace: one exchange a line.
///
/// # Errors
/// The line that is no exchange, or the failure to read.
pub fn read(from: impl BufRead) -> Result<Vec<Exchange>, String> {
    let mut exchanges = Vec::new();
    for (n, line) in from.lines().enumerate() {
        let line = line.map_err(|e| format!("the trace cannot be read: {e}"))?;
        if line.trim().is_empty() {
            continue;
        }
        exchanges
            .push(serde_json::from_str(&line).map_err(|e| format!("line {}: not an exchange: {e}", n + 1))?);
    }
    Ok(exchanges)
}

/// Writes a trace, secrets in headers redacted.
///
/// # Errors
/// The failure to write.
pub fn write(mut to: impl Write, exchanges: &[Exchange]) -> std::io::Result<()> {
    for exchange in exchanges {
        serde_json::to_writer(&mut to, &exchange.redacted())?;
        to.write_all(b"\n")?;
    }
    to.flush()
}
