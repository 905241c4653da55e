//! Finding out what a server offers: its toolset, fetched, checked whole, or refused with all its faults.

mod cache;

pub use cache::{Discovered, ToolsetCache};

use crate::Caller;
use http::StatusCode;
use rap_http::{ClientError, Reply};
use rap_types::{
    Fault, HttpUrl, RECEIVE_EVENT, Toolset, WELL_KNOWN_TOOLSET, limits, validate::CompiledToolset,
};
use serde_json::{Value, json};

impl Caller {
    /// Fetches and checks the toolset of the server at `base`, which may have a path prefix, with or without a
    /// trailing slash (TLS-02, TLS-03). At most 1 MiB is read (LIM-01).
    ///
    /// # Errors
    /// [`DiscoverError`]: unreachable, not a RAP server, or an invalid toolset with all its faults.
    pub async fn discover(&self, base: &HttpUrl) -> Result<CompiledToolset, DiscoverError> {
        let fail = |kind| DiscoverError { base: base.redacted(), kind };
        let url = base.below(WELL_KNOWN_TOOLSET).map_err(|e| fail(Kind::NotRap(e.to_string())))?;
        let headers = self.headers(&url, None, None).map_err(|why| fail(Kind::NotAsked(why)))?;
        let reply = self
            .client()
            .get_with(&url, headers, limits::TOOLSET_BYTES)
            .await
            .map_err(|e| fail(Kind::of_client(e)))?;
        if !reply.status.is_success() {
            return Err(fail(Kind::of_status(&reply)));
        }
        let value: Value =
            serde_json::from_slice(&reply.body).map_err(|e| fail(Kind::not_json(&reply, &e)))?;
        check(value).map_err(|faults| fail(Kind::Invalid(faults)))
    }
}

/// Checks a toolset document whole: its form, its schemas, and that it takes no reserved name (TLS-03, SUB-04).
fn check(value: Value) -> Result<CompiledToolset, Vec<Fault>> {
    if !value.is_object() {
        return Err(vec![Fault::new("", "TLS-01", "the toolset is not a JSON object")]);
    }
    let bytes = value.to_string();
    let toolset = rap_types::parse::<Toolset>(bytes.as_bytes()).map_err(|first| {
        let all = form_faults(&value);
        if all.is_empty() { vec![first] } else { all }
    })?;
    let mut faults: Vec<Fault> = toolset
        .tools()
        .iter()
        .enumerate()
        .filter(|(_, tool)| tool.name.as_str() == RECEIVE_EVENT)
        .map(|(index, _)| {
            let message = format!("the tool name {RECEIVE_EVENT:?} is reserved for runtimes");
            Fault::new(format!("/tools/{index}/name"), "SUB-04", message)
        })
        .collect();
    match CompiledToolset::new(toolset) {
        Ok(compiled) if faults.is_empty() => Ok(compiled),
        Ok(_) => Err(faults),
        Err(more) => {
            faults.extend(more);
            Err(faults)
        }
    }
}

/// All faults of the form, where reading stops at the first: each part is read in an otherwise good document.
fn form_faults(value: &Value) -> Vec<Fault> {
    let read = |document: Value| rap_types::parse::<Toolset>(document.to_string().as_bytes()).err();
    let good = json!({"name": "x", "description": "x", "inputSchema": {"type": "object"}});
    let mut faults = Vec::new();
    let mut frame = value.clone();
    let tools = value.get("tools").and_then(Value::as_array);
    if tools.is_some_and(|tools| !tools.is_empty()) {
        frame["tools"] = json!([good]);
    }
    // The members of the document, one after the other: what is wrong is put right, and the rest is read.
    for _ in 0..8 {
        let Some(fault) = read(frame.clone()) else { break };
        let member = fault.pointer().split('/').nth(1).unwrap_or_default().to_owned();
        let missing = ["name", "endpoint", "tools"].into_iter().find(|m| frame.get(m).is_none());
        let member = if member.is_empty() { missing.unwrap_or_default().to_owned() } else { member };
        faults.push(fault);
        match member.as_str() {
            "name" => frame["name"] = json!("x"),
            "endpoint" => frame["endpoint"] = json!("http://x"),
            "tools" => frame["tools"] = json!([good]),
            "" => break,
            other => {
                frame.as_object_mut().map(|members| members.remove(other));
            }
        }
    }
    for (index, tool) in tools.into_iter().flatten().enumerate() {
        if faults.len() >= 20 {
            break;
        }
        if let Some(fault) = read(json!({"name": "x", "endpoint": "http://x", "tools": [tool]})) {
            let within = fault.pointer().strip_prefix("/tools/0").unwrap_or_default();
            let pointer = format!("/tools/{index}{within}");
            faults.push(Fault::new(pointer, fault.obligation(), fault.message()));
        }
    }
    faults
}

/// Why there is no toolset: opaque, with predicates. A sentence, and a hint at what to do.
#[derive(Debug, Clone)]
pub struct DiscoverError {
    base: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Unreachable(ClientError),
    Failing(StatusCode),
    Unauthorized(StatusCode),
    NotAsked(String),
    NotRap(String),
    Invalid(Vec<Fault>),
}

impl Kind {
    fn of_client(error: ClientError) -> Self {
        if error.is_too_large() {
            let message = format!("the toolset has over {} bytes", limits::TOOLSET_BYTES);
            return Self::Invalid(vec![Fault::new("", "LIM-01", message)]);
        }
        Self::Unreachable(error)
    }

    fn of_status(reply: &Reply) -> Self {
        match reply.status.as_u16() {
            401 | 403 => Self::Unauthorized(reply.status),
            408 | 425 | 429 | 500..=599 => Self::Failing(reply.status),
            300..=399 => {
                Self::NotRap(format!("it answered {} and redirects are not followed", reply.status.as_u16()))
            }
            code => Self::NotRap(format!("it answered {code} at /{WELL_KNOWN_TOOLSET}")),
        }
    }

    fn not_json(reply: &Reply, error: &serde_json::Error) -> Self {
        let start = reply.body.trim_ascii_start();
        if start.is_empty() {
            return Self::NotRap(format!("it answered with nothing at /{WELL_KNOWN_TOOLSET}"));
        }
        if start.starts_with(b"<") {
            return Self::NotRap(format!("it answered with a web page at /{WELL_KNOWN_TOOLSET}"));
        }
        Self::NotRap(format!("what it answered at /{WELL_KNOWN_TOOLSET} is not JSON: {error}"))
    }
}

impl DiscoverError {
    /// No answer, or one that says "not now". A cached toolset stays good (TLS-06).
    pub fn is_unreachable(&self) -> bool {
        matches!(self.kind, Kind::Unreachable(_) | Kind::Failing(_))
    }

    /// The server wants credentials, or others; or those that are configured for it cannot be sent.
    pub fn is_unauthorized(&self) -> bool {
        matches!(self.kind, Kind::Unauthorized(_) | Kind::NotAsked(_))
    }

    /// Something answers there, but no RAP server: 404, a redirect, a web page, not JSON.
    pub fn is_not_a_server(&self) -> bool {
        matches!(self.kind, Kind::NotRap(_))
    }

    /// There is a toolset, and it is invalid (TLS-03).
    pub fn is_invalid(&self) -> bool {
        matches!(self.kind, Kind::Invalid(_))
    }

    /// All that is wrong with the toolset; empty for other errors.
    pub fn faults(&self) -> &[Fault] {
        match &self.kind {
            Kind::Invalid(faults) => faults,
            _ => &[],
        }
    }

    /// What to do.
    pub fn hint(&self) -> &'static str {
        match &self.kind {
            Kind::Unreachable(e) if e.is_blocked() => "correct the URL, or allow the target",
            Kind::Unreachable(e) if e.is_timeout() => "see whether the server hangs, or correct its URL",
            Kind::Unreachable(_) => "start the server, or correct its URL",
            Kind::Failing(_) => "see the server's log, and try again",
            Kind::Unauthorized(_) => "configure the token or the signing key that the server expects",
            Kind::NotAsked(_) => "correct the credentials that are configured for it",
            Kind::NotRap(_) => "give the server's base URL, with its path prefix if it has one",
            Kind::Invalid(_) => "none of its tools is offered until its author mends it",
        }
    }
}

impl std::fmt::Display for DiscoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base = &self.base;
        match &self.kind {
            Kind::Unreachable(e) => write!(f, "the tool server at {base} cannot be reached: {}", e.what())?,
            Kind::Failing(status) => {
                write!(f, "the tool server at {base} fails: it answered {}", status.as_u16())?
            }
            Kind::Unauthorized(status) => {
                write!(f, "the tool server at {base} turned us away: it answered {}", status.as_u16())?;
            }
            Kind::NotAsked(why) => write!(f, "the tool server at {base} was not asked: {why}")?,
            Kind::NotRap(why) => write!(f, "what answers at {base} is not a RAP tool server: {why}")?,
            Kind::Invalid(faults) => {
                write!(f, "the toolset of {base} is invalid: ")?;
                for (n, fault) in faults.iter().enumerate() {
                    let between = if n == 0 { "" } else { "; " };
                    write!(f, "{between}{fault}")?;
                }
            }
        }
        write!(f, "; {}", self.hint())
    }
}

impl std::error::Error for DiscoverError {}
