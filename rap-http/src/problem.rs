//! Problem details (RFC 9457): the body of every 4xx and 5xx of ours.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use std::{borrow::Cow, time::Duration};

/// Before the slug in a problem's `type`.
pub const TYPE_PREFIX: &str = "urn:rap:problem:";

/// What went wrong, for a program (`type`) and for a person (`title`, `detail`).
///
/// ```
/// let problem = rap_http::Problem::new(413, "body-too-large", "The body is too large")
///     .detail("the body has over 1048576 bytes; send a smaller one");
/// assert_eq!(problem.into_response().status(), 413);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: Cow<'static, str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    challenge: bool,
    #[serde(skip)]
    allow: Option<&'static str>,
    #[serde(skip)]
    plain: bool,
}

impl Problem {
    /// A problem. `slug` is stable: programs may compare it; `title` says the same to a person in a few
    /// words. A `status` that is no status becomes 500.
    pub fn new(status: u16, slug: &str, title: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{slug}"),
            title: title.into(),
            status: if (400..600).contains(&status) { status } else { 500 },
            detail: None,
            retry_after: None,
            challenge: false,
            allow: None,
            plain: false,
        }
    }

    /// Says what happened here and what to do. Must hold no secret and no internals.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a `Retry-After` header, in whole seconds, rounded up.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds `WWW-Authenticate: Bearer`, as a 401 needs.
    #[must_use]
    pub fn bearer_challenge(mut self) -> Self {
        self.challenge = true;
        self
    }

    /// Adds an `Allow` header, as a 405 needs: the methods that are served, e.g. `GET, HEAD`.
    ///
    /// ```
    /// let response = rap_http::Problem::method_not_allowed("ask with GET").allow("GET, HEAD").into_response();
    /// assert_eq!(response.headers()["allow"], "GET, HEAD");
    /// ```
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The stable slug.
    pub fn slug(&self) -> &str {
        self.kind.strip_prefix(TYPE_PREFIX).unwrap_or(&self.kind)
    }

    /// What happened here, if it was said.
    pub fn as_detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The answer: `application/problem+json`.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let body = serde_json::to_vec(&self).expect("bug: a problem is plain data");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(methods) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        if self.plain {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        response
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.status, self.title)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Problem {}

/// The problems that every part of the suite answers with.
impl Problem {
    /// 400: the body is not JSON, or not what is expected. Name the fault, not the value.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(400, "invalid-message", "The message is not valid").detail(detail)
    }
    /// 401.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(401, "unauthorized", "Authentication is needed").detail(detail).bearer_challenge()
    }
    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, "forbidden", "This is not allowed here").detail(detail)
    }
    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not-found", "There is no such thing").detail(detail)
    }
    /// 405; say which methods are served with [`allow`](Self::allow).
    pub fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(405, "method-not-allowed", "The method is not served here").detail(detail)
    }
    /// 408.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Self::new(408, "body-too-slow", "The body did not come in time").detail(detail)
    }
    /// 410: stop sending to this URL.
    pub fn gone(detail: impl Into<String>) -> Self {
        Self::new(410, "gone", "Nothing more is taken here").detail(detail)
    }
    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "body-too-large", "The body is too large")
            .detail(format!("at most {limit} bytes are taken; send less"))
    }
    /// 415.
    pub fn not_json() -> Self {
        Self::new(415, "not-json", "Only JSON is taken")
            .detail("send the body with `content-type: application/json`")
    }
    /// 415: a body that is compressed.
    pub fn encoded() -> Self {
        let problem = Self::new(415, "encoded", "Only plain bodies are taken")
            .detail("send the body as it is, without `content-encoding`");
        Self { plain: true, ..problem }
    }
    /// 429 with `Retry-After`.
    pub fn too_many(after: Duration) -> Self {
        Self::new(429, "too-many-requests", "Too many requests").retry_after(after)
    }
    /// 503 with `Retry-After`.
    pub fn busy(after: Duration) -> Self {
        Self::new(503, "busy", "Not now")
            .detail("nothing was done; send it again after the time in `retry-after`")
            .retry_after(after)
    }
    /// 500, without internals.
    pub fn internal() -> Self {
        Self::new(500, "internal", "Something failed here")
            .detail("the cause is in this program's log; nothing was acknowledged")
    }
}
