//! A runtime behind HTTP, spoken to as if it were here.

use crate::{
    AgentHost, Asked, HostError, NewSession, Sent, SessionOpened, SessionStatus, Watch, Watched,
    api::{ChosenModel, MessageSent, NewMessage, SLUGS, Selection, Word},
    host::HostErrorKind,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, header};
use rap_core::DeadLetterView;
use rap_http::{AddressPolicy, GuardedClient, Reply, Secret};
use rap_types::{CallId, ContentPart, HttpUrl, ThreadId};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// The largest answer that is read, and the longest line of a stream, in bytes.
const ANSWER_BYTES: usize = 32 << 20;

/// A runtime that serves its [`api`](crate::Runtime::api) elsewhere.
#[derive(Debug, Clone)]
pub struct RemoteHost {
    base: HttpUrl,
    token: Secret,
    client: GuardedClient,
}

impl RemoteHost {
    /// The host at a base URL, with the token of its API. A host on this machine is spoken to by plain http;
    /// any other needs https.
    pub fn new(base: HttpUrl, token: Secret) -> Self {
        let policy = AddressPolicy::public();
        let policy = if base.is_loopback() { policy.allow_loopback() } else { policy };
        Self { base, token, client: GuardedClient::new(policy) }
    }

    fn url(&self, path: &str) -> Result<HttpUrl, HostError> {
        self.base.below(path).map_err(|e| HostError::new(HostErrorKind::Refused, e.to_string()))
    }

    fn headers(&self) -> Result<HeaderMap, HostError> {
        let value = self
            .token
            .bearer_header()
            .map_err(|e| HostError::new(HostErrorKind::Refused, format!("{}: {e}", self.base.origin())))?;
        Ok(HeaderMap::from_iter([(header::AUTHORIZATION, value)]))
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, HostError> {
        let body =
            serde_json::to_vec(body).map_err(|e| HostError::new(HostErrorKind::Refused, e.to_string()))?;
        let url = self.url(path)?;
        let reply =
            self.client.post_json_reading(&url, Bytes::from(body), self.headers()?, ANSWER_BYTES).await;
        self.read(reply.map_err(|e| self.unreachable(e))?)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, HostError> {
        let reply = self.client.get_with(&self.url(path)?, self.headers()?, ANSWER_BYTES).await;
        self.read(reply.map_err(|e| self.unreachable(e))?)
    }

    fn read<T: DeserializeOwned>(&self, reply: Reply) -> Result<T, HostError> {
        if !reply.status.is_success() {
            return Err(self.refusal(reply.status.as_u16(), &reply.body));
        }
        serde_json::from_slice(&reply.body).map_err(|e| self.garbled(e))
    }

    fn garbled(&self, error: serde_json::Error) -> HostError {
        let base = self.base.redacted();
        let message = format!("what {base} answered is not from a RAP runtime of this version: {error}");
        HostError::new(HostErrorKind::Failed, message)
    }

    fn unreachable(&self, error: impl std::fmt::Display) -> HostError {
        let message = format!("the runtime does not answer: {error}; start it, or correct its URL");
        HostError::new(HostErrorKind::Unreachable, message)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> HostError {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let slug = text("type").and_then(|kind| kind.strip_prefix(rap_http::problem::TYPE_PREFIX));
        let kind = SLUGS.iter().find(|(.., known, _)| Some(*known) == slug).map(|(kind, ..)| *kind);
        let base = self.base.redacted();
        match (kind, status) {
            (Some(kind), _) => HostError::new(kind, text("detail").unwrap_or("the host refused")),
            (None, 401 | 403) => {
                let message = format!(
                    "the runtime at {base} does not know this token; use the one beside its database"
                );
                HostError::new(HostErrorKind::Refused, message)
            }
            (None, _) => {
                let detail = text("detail").or(text("title")).unwrap_or("without a word");
                let message = format!("the runtime at {base} answered {status}: {detail}");
                HostError::new(
                    if status < 500 { HostErrorKind::Refused } else { HostErrorKind::Failed },
                    message,
                )
            }
        }
    }
}

#[async_trait::async_trait]
impl AgentHost for RemoteHost {
    async fn create(&self, new: NewSession) -> Result<SessionOpened, HostError> {
        self.post("v1/sessions", &new).await
    }

    async fn send_content(
        &self,
        thread: &ThreadId,
        key: &str,
        content: Vec<ContentPart>,
    ) -> Result<Sent, HostError> {
        let message = NewMessage::new(key, content);
        let sent: MessageSent =
            self.post(&format!("v1/threads/{}/messages", segment(thread.as_str())), &message).await?;
        Ok(sent.sent)
    }

    async fn stop(&self, thread: &ThreadId) -> Result<(), HostError> {
        let _: Value =
            self.post(&format!("v1/threads/{}/stop", segment(thread.as_str())), &json!({})).await?;
        Ok(())
    }

    async fn close(&self, thread: &ThreadId) -> Result<(), HostError> {
        let _: Value =
            self.post(&format!("v1/threads/{}/close", segment(thread.as_str())), &json!({})).await?;
        Ok(())
    }

    async fn compact(&self, thread: &ThreadId) -> Result<(), HostError> {
        let _: Value =
            self.post(&format!("v1/threads/{}/compact", segment(thread.as_str())), &json!({})).await?;
        Ok(())
    }

    async fn refresh(&self, session: &ThreadId) -> Result<SessionOpened, HostError> {
        self.post(&format!("v1/sessions/{}/refresh", segment(session.as_str())), &json!({})).await
    }

    async fn choose_model(&self, thread: &ThreadId, model: Option<&str>) -> Result<(), HostError> {
        let chosen = ChosenModel { model: model.map(str::to_owned) };
        let _: Value = self.post(&format!("v1/threads/{}/model", segment(thread.as_str())), &chosen).await?;
        Ok(())
    }

    async fn watch(&self, session: &ThreadId, after: i64) -> Result<Watch, HostError> {
        let url = self.url(&format!("v1/sessions/{}/events?after={after}", segment(session.as_str())))?;
        let mut opened = self.client.open(&url, self.headers()?).await.map_err(|e| self.unreachable(e))?;
        if !opened.status.is_success() {
            let status = opened.status.as_u16();
            let mut body = Vec::new();
            while let Some(Ok(piece)) = opened.chunk().await {
                body.extend_from_slice(&piece);
                if body.len() > ANSWER_BYTES {
                    break;
                }
            }
            return Err(self.refusal(status, &body));
        }
        let lines = Lines { host: self.clone(), opened, unread: BytesMut::new(), searched: 0, over: false };
        Ok(stream::unfold(lines, async |mut lines| {
            let next = lines.next().await?;
            Some((next, lines))
        })
        .boxed())
    }

    async fn status(&self, session: &ThreadId) -> Result<SessionStatus, HostError> {
        self.get(&format!("v1/sessions/{}/status", segment(session.as_str()))).await
    }

    async fn open_questions(&self, session: &ThreadId) -> Result<Vec<Asked>, HostError> {
        self.get(&format!("v1/sessions/{}/questions", segment(session.as_str()))).await
    }

    async fn answer(&self, call: &CallId, selected: u64) -> Result<(), HostError> {
        let _: Value = self
            .post(&format!("v1/calls/{}/answer", segment(call.as_str())), &Selection { selected })
            .await?;
        Ok(())
    }

    async fn dismiss(&self, call: &CallId) -> Result<(), HostError> {
        let _: Value = self.post(&format!("v1/calls/{}/dismiss", segment(call.as_str())), &json!({})).await?;
        Ok(())
    }

    async fn dead_letters(&self) -> Result<Vec<DeadLetterView>, HostError> {
        self.get("v1/dead-letters").await
    }

    async fn resend(&self, letter: i64) -> Result<(), HostError> {
        let _: Value = self.post(&format!("v1/dead-letters/{letter}/resend"), &json!({})).await?;
        Ok(())
    }

    async fn approve(&self, call: &CallId, allow: bool) -> Result<(), HostError> {
        let _: Value =
            self.post(&format!("v1/approvals/{}", segment(call.as_str())), &Word { allow }).await?;
        Ok(())
    }
}

/// An id as one segment of a path.
fn segment(id: &str) -> String {
    id.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The lines of a stream of events.
struct Lines {
    host: RemoteHost,
    opened: rap_http::client::Opened,
    unread: BytesMut,
    searched: usize,
    over: bool,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Watched, HostError>> {
        if self.over {
            return None;
        }
        loop {
            if let Some(at) = self.unread[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(self.searched + at + 1);
                self.searched = 0;
                if line.len() > 1 {
                    return Some(self.parse(&line));
                }
                continue;
            }
            self.searched = self.unread.len();
            if self.unread.len() > ANSWER_BYTES {
                self.over = true;
                return Some(Err(HostError::new(HostErrorKind::Failed, "the host sent an endless line")));
            }
            match self.opened.chunk().await {
                Some(Ok(piece)) => self.unread.extend_from_slice(&piece),
                Some(Err(error)) => {
                    self.over = true;
                    return Some(Err(self.host.unreachable(error)));
                }
                None => return None,
            }
        }
    }

    fn parse(&mut self, line: &[u8]) -> Result<Watched, HostError> {
        let value: Value = serde_json::from_slice(line).map_err(|e| self.host.garbled(e))?;
        if let Some(error) = value.get("error").and_then(Value::as_str) {
            self.over = true;
            let slug = value.get("type").and_then(Value::as_str);
            let kind = SLUGS.iter().find(|(.., known, _)| Some(*known) == slug).map(|(kind, ..)| *kind);
            return Err(HostError::new(kind.unwrap_or(HostErrorKind::Failed), error));
        }
        serde_json::from_value(value).map_err(|e| self.host.garbled(e))
    }
}
