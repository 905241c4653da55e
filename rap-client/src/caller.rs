//! What a runtime sends to servers: invocations, notices, answers, questions about calls.
//!
//! An invocation is one attempt: the schedule belongs to whoever keeps the outbox (`rap_http::judge` says
//! what an attempt means). [`Caller::invoke`] runs the schedule for those who keep none.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use rap_http::{Attempt, GiveUp, GuardedClient, Secret, Traffic, Verdict, judge, webhooks};
use rap_types::{
    CancelToolCall, ChoiceResponse, CloseThread, HttpUrl, Invocation, ToolCallAlive, ToolCallStatus,
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// The most of an answer to a status question that is read, in bytes.
const STATUS_BYTES: usize = 4096;

/// How a server is to know us.
///
/// ```
/// use rap_client::{Caller, Credentials};
/// use rap_http::{AddressPolicy, GuardedClient, Secret};
///
/// let caller = Caller::new(GuardedClient::new(AddressPolicy::public()))
///     .with_credentials(&"https://tools.example.com/".parse()?, Credentials::Bearer(Secret::from("a-long-random-token")));
/// # Ok::<(), rap_types::UrlError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// `Authorization: Bearer`. With one that cannot be sent ([`Secret::bearer_header`]) nothing is: the attempt is
    /// [blocked](Attempt::Blocked), and says why.
    Bearer(Secret),
    /// Every POST is signed in the Standard Webhooks form.
    Signed(webhooks::Keys),
}

/// A notice to servers.
///
/// ```
/// use rap_client::{Caller, Notice, Notified};
/// use rap_types::{CloseThread, HttpUrl, ThreadId};
///
/// async fn close(caller: &Caller, servers: &[HttpUrl], thread: ThreadId) {
///     let told: Vec<Notified> = caller.notify(servers, &Notice::CloseThread(CloseThread::new(thread))).await;
///     for server in told.iter().filter(|server| !server.attempt.is_delivered()) {
///         eprintln!("{}: {}", server.base.origin(), server.attempt);
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A thread was closed (CLS-01).
    CloseThread(CloseThread),
    /// A call was cancelled (CAN-01).
    CancelToolCall(CancelToolCall),
}

impl Notice {
    /// The path below a server's base URL.
    pub fn path(&self) -> &'static str {
        match self {
            Self::CloseThread(_) => "close_thread",
            Self::CancelToolCall(_) => "cancel_tool_call",
        }
    }

    fn body(&self) -> Bytes {
        match self {
            Self::CloseThread(notice) => json(notice),
            Self::CancelToolCall(notice) => json(notice),
        }
    }
}

/// What became of a notice at one server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notified {
    /// The server.
    pub base: HttpUrl,
    /// The one attempt that was made.
    pub attempt: Attempt,
}

/// What a server says of a call (STA-03).
///
/// ```
/// use rap_client::{CallStatus, Caller};
/// use rap_types::{HttpUrl, ToolCallStatus};
///
/// /// Whether the call is over for certain (STA-03).
/// async fn is_over(caller: &Caller, server: &HttpUrl, question: &ToolCallStatus) -> bool {
///     matches!(caller.status(server, question).await, CallStatus::Gone)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallStatus {
    /// A result is owed, or a subscription lives.
    Alive,
    /// `alive: false`, the only answer that ends a call.
    Gone,
    /// Anything else: nothing is known of the call.
    Unknown {
        /// Why, in a sentence without secrets.
        reason: String,
        /// The server answered, but not as the extension says: where its toolset declares `status`, this is
        /// to be reported as its fault.
        fault: bool,
    },
}

/// Sends requests to servers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    client: GuardedClient,
    credentials: Arc<HashMap<String, Credentials>>,
}

impl Caller {
    /// A caller over a client, whose policy decides where requests may go.
    pub fn new(client: GuardedClient) -> Self {
        Self { client, credentials: Arc::default() }
    }

    /// Shows these credentials to the origin (scheme, host and port) of `url`, and to no other. A toolset
    /// whose endpoint lives elsewhere needs credentials for that origin too.
    #[must_use]
    pub fn with_credentials(mut self, url: &HttpUrl, credentials: Credentials) -> Self {
        Arc::make_mut(&mut self.credentials).insert(url.origin(), credentials);
        self
    }

    /// The client below.
    ///
    /// ```
    /// use rap_client::Caller;
    /// use rap_types::HttpUrl;
    ///
    /// /// What is no RAP goes out under the same rules: to allowed addresses, within the same time.
    /// async fn is_healthy(caller: &Caller, health: &HttpUrl) -> bool {
    ///     caller.client().get(health, 4096).await.is_ok_and(|reply| reply.status.is_success())
    /// }
    /// ```
    pub fn client(&self) -> &GuardedClient {
        &self.client
    }

    /// Sends an invocation once (INV-11). A 2xx is an acknowledgement; its body is not read.
    pub async fn attempt_invocation(
        &self,
        endpoint: &HttpUrl,
        invocation: &Invocation,
        traceparent: Option<&str>,
    ) -> Attempt {
        self.attempt_invocation_bytes(endpoint, json(invocation), traceparent).await
    }

    /// Sends an invocation that was serialised before, once.
    ///
    /// ```
    /// use rap_client::Caller;
    /// use rap_http::{Traffic, Verdict, judge};
    /// use rap_types::HttpUrl;
    /// use std::time::Duration;
    ///
    /// /// A row of an outbox.
    /// struct Row {
    ///     endpoint: HttpUrl,
    ///     body: bytes::Bytes,
    ///     attempts: u32,
    ///     since_first: Duration,
    /// }
    ///
    /// /// One attempt, and when the next one is due.
    /// async fn send(caller: &Caller, row: &Row, dice: u64) -> Verdict {
    ///     let attempt = caller.attempt_invocation_bytes(&row.endpoint, row.body.clone(), None).await;
    ///     judge(Traffic::Invocation, row.attempts + 1, row.since_first, &attempt, dice)
    /// }
    /// ```
    pub async fn attempt_invocation_bytes(
        &self,
        endpoint: &HttpUrl,
        body: Bytes,
        traceparent: Option<&str>,
    ) -> Attempt {
        self.post(endpoint, body, traceparent).await
    }

    /// Sends an invocation by the schedule: two minutes, and never again after a 4xx (TRN-03, TRN-04). For
    /// those who keep no outbox. `seed` is dice for the jitter.
    ///
    /// # Errors
    /// Why it was given up, `may_have_arrived` over all attempts (INV-08).
    ///
    /// ```
    /// use rap_client::Caller;
    /// use rap_types::{HttpUrl, Invocation};
    ///
    /// /// Calls, or says what the model is to be told.
    /// async fn call(caller: &Caller, endpoint: &HttpUrl, invocation: &Invocation, dice: u64) -> Result<(), String> {
    ///     caller.invoke(endpoint, invocation, None, dice).await.map_err(|end| match end.may_have_arrived {
    ///         true => format!("Error: perhaps the tool was called, and perhaps not: {}", end.reason),
    ///         false => format!("Error: the tool was not called: {}", end.reason),
    ///     })
    /// }
    /// ```
    pub async fn invoke(
        &self,
        endpoint: &HttpUrl,
        invocation: &Invocation,
        traceparent: Option<&str>,
        seed: u64,
    ) -> Result<(), GiveUp> {
        let body = json(invocation);
        let start = tokio::time::Instant::now();
        let mut attempts = 0;
        let mut may_have_arrived = false;
        loop {
            let attempt = self.post(endpoint, body.clone(), traceparent).await;
            attempts += 1;
            may_have_arrived |= attempt.may_have_arrived();
            match judge(Traffic::Invocation, attempts, start.elapsed(), &attempt, seed) {
                Verdict::Delivered => return Ok(()),
                Verdict::Retry { after, .. } => tokio::time::sleep(after).await,
                Verdict::GiveUp(mut end) => {
                    end.may_have_arrived = may_have_arrived;
                    return Err(end);
                }
            }
        }
    }

    /// Tells every server, all at once, each one time (CLS-01, CLS-06, CAN-01): a server that fails or hangs
    /// stops no other. Returns when all have answered or run into the client's time limit; spawn it if
    /// nobody should wait. A base that is listed twice is told once.
    pub async fn notify(&self, bases: &[HttpUrl], notice: &Notice) -> Vec<Notified> {
        let body = notice.body();
        let mut bases = bases.to_vec();
        let mut seen = std::collections::HashSet::new();
        bases.retain(|base| seen.insert(base.as_str().trim_end_matches('/').to_owned()));
        let told = bases.into_iter().map(|base| {
            let body = body.clone();
            async move {
                let attempt = match base.below(notice.path()) {
                    Ok(url) => self.post(&url, body, None).await,
                    Err(e) => Attempt::Blocked(e.to_string()),
                };
                if !attempt.is_delivered() {
                    tracing::warn!(server = base.origin(), notice = notice.path(), %attempt, "a notice was not taken");
                }
                Notified { base, attempt }
            }
        });
        futures_util::future::join_all(told).await
    }

    /// POSTs what a person picked to the `response_url` of their question (CHO-01), once; the schedule
    /// ([`Traffic::Answer`]) belongs to the outbox.
    ///
    /// ```
    /// use rap_client::Caller;
    /// use rap_types::{ChoiceResponse, UserChoice};
    ///
    /// /// The person waved the question away: its default counts (CHO-01).
    /// async fn dismiss(caller: &Caller, question: &UserChoice) -> bool {
    ///     let answer = ChoiceResponse::new(question.id.clone(), question.default_index());
    ///     caller.answer_choice(&question.response_url, &answer).await.is_delivered()
    /// }
    /// ```
    pub async fn answer_choice(&self, response_url: &HttpUrl, answer: &ChoiceResponse) -> Attempt {
        self.post(response_url, json(answer), None).await
    }

    /// Asks a server whether a call is alive (STA-02, STA-03).
    pub async fn status(&self, base: &HttpUrl, question: &ToolCallStatus) -> CallStatus {
        let unknown = |reason: String, fault| CallStatus::Unknown { reason, fault };
        let url = match base.below("tool_call_status") {
            Ok(url) => url,
            Err(e) => return unknown(e.to_string(), false),
        };
        let body = json(question);
        let headers = match self.headers(&url, Some(&body), None) {
            Ok(headers) => headers,
            Err(why) => return unknown(why, false),
        };
        let reply = match self.client.post_json_reading(&url, body, headers, STATUS_BYTES).await {
            Ok(reply) => reply,
            Err(e) => return unknown(e.to_string(), e.is_too_large()),
        };
        let code = reply.status.as_u16();
        if code != 200 {
            // An error of the moment, or of our credentials, is not the server's misunderstanding.
            let fault = !matches!(code, 401 | 403 | 408 | 425 | 429 | 500..=599);
            return unknown(format!("{} answered tool_call_status with {code}", base.origin()), fault);
        }
        match rap_types::parse::<ToolCallAlive>(&reply.body) {
            Ok(ToolCallAlive { alive: true, .. }) => CallStatus::Alive,
            Ok(_) => CallStatus::Gone,
            Err(fault) => unknown(format!("{}: tool_call_status: {fault}", base.origin()), true),
        }
    }

    async fn post(&self, url: &HttpUrl, body: Bytes, traceparent: Option<&str>) -> Attempt {
        let started = Instant::now();
        let attempt = match self.headers(url, Some(&body), traceparent) {
            Ok(headers) => self.client.post_json(url, body, headers).await,
            Err(why) => Attempt::Blocked(why),
        };
        tracing::debug!(to = url.origin(), %attempt, took = ?started.elapsed(), "sent");
        attempt
    }

    /// Credentials for the URL's origin, and the trace; or why there is nothing to send. Without credentials that are
    /// configured the server would only say that there are none.
    pub(crate) fn headers(
        &self,
        url: &HttpUrl,
        body: Option<&Bytes>,
        traceparent: Option<&str>,
    ) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let credentials =
            if self.credentials.is_empty() { None } else { self.credentials.get(&url.origin()) };
        match (credentials, body) {
            (Some(Credentials::Bearer(token)), _) => {
                let value = token.bearer_header().map_err(|e| format!("{}: {e}", url.origin()))?;
                headers.insert(header::AUTHORIZATION, value);
            }
            (Some(Credentials::Signed(keys)), Some(body)) => {
                let signed = keys.sign(&message_id(url, body), unix_now(), body);
                headers.extend(signed.map_err(|e| format!("{}: {e}", url.origin()))?);
            }
            _ => {}
        }
        if let Some(value) = traceparent.and_then(|t| HeaderValue::from_str(t).ok()) {
            headers.insert("traceparent", value);
        }
        Ok(headers)
    }
}

/// The same in every attempt to deliver the same body to the same URL, and says nothing of either.
fn message_id(url: &HttpUrl, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(url.as_str().as_bytes());
    hash.update([0]);
    hash.update(body);
    format!("msg_{}", data_encoding::HEXLOWER.encode(&hash.finalize()[..16]))
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64
}

fn json(message: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(message).expect("bug: a message of the protocol is plain data"))
}
