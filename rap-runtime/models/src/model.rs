//! A model behind an API: renders the plan, sends it, reads the answer as it comes.

use crate::{
    auth::Auth,
    catalog,
    fault::{self, Place},
    plan::{self, Names, Plan},
    wire::{ChatDialect, Effort, Reader, Target, Wire},
};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::HeaderValue;
use rap_http::{AddressPolicy, ClientError, GuardedClient, client::Opened};
use rap_runtime::{Delta, ModelCard, ModelError, ModelProvider, core::ModelRequest};
use rap_types::HttpUrl;
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// How long an answer may take to begin. What comes after is limited by the runtime, which notices silence.
const BEGIN: Duration = Duration::from_secs(300);
/// How much of an answer that tells of a failure is read, and for how long.
const FAILURE_BYTES: usize = 64 * 1024;
const FAILURE_TIME: Duration = Duration::from_secs(5);

/// A real model. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct HttpModel {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    wire: Wire,
    model: String,
    card: ModelCard,
    effort: Option<Effort>,
    dialect: ChatDialect,
    limited: bool,
    auth: Auth,
    key_variable: String,
    base: HttpUrl,
    client: GuardedClient,
}

/// How to build an [`HttpModel`].
#[derive(Debug)]
#[must_use]
pub struct HttpModelBuilder {
    inner: Inner,
}

impl HttpModel {
    /// A model of a provider, by the API that it speaks and the base URL of that API. `id` is `provider/model`.
    ///
    /// Whoever names a base URL trusts it: any address may be behind it, this machine's included. Redirects are not
    /// followed, so that a key goes nowhere else.
    pub fn builder(id: &str, wire: Wire, base: HttpUrl) -> HttpModelBuilder {
        let model = id.split_once('/').map_or(id, |(_, model)| model).to_owned();
        let dialect = match wire {
            Wire::OpenAiChat => ChatDialect::of(&model, &base),
            _ => ChatDialect::default(),
        };
        let everywhere = ["0.0.0.0/0", "::/0"].map(|net| net.parse::<rap_runtime::IpNet>());
        let mut policy = AddressPolicy::public().allow_loopback().allow_plain_http();
        for network in everywhere.into_iter().flatten() {
            policy = policy.allow(network);
        }
        HttpModelBuilder {
            inner: Inner {
                wire,
                card: dialect.fit(catalog::card(id, wire)),
                model,
                effort: None,
                dialect,
                limited: false,
                auth: Auth::Nobody,
                key_variable: "the provider's key".to_owned(),
                base,
                client: GuardedClient::builder(policy)
                    .connect_timeout(Duration::from_secs(15))
                    .total_timeout(BEGIN)
                    .build(),
            },
        }
    }
}

impl HttpModelBuilder {
    /// With another card than the one that is known for this model.
    pub fn card(mut self, card: ModelCard) -> Self {
        self.inner.card = card;
        self
    }

    /// How the server speaks OpenAI's chat wire, where its host and the model's name do not tell. The card becomes one that
    /// fits: give a card of your own after this.
    pub fn dialect(mut self, dialect: ChatDialect) -> Self {
        self.inner.card = dialect.fit(self.inner.card);
        self.inner.dialect = dialect;
        self
    }

    /// Sends the card's output limit even where the provider has a limit of its own.
    pub fn limited(mut self, limited: bool) -> Self {
        self.inner.limited = limited;
        self
    }

    /// How the provider knows us.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.inner.auth = auth;
        self
    }

    /// The environment variable that holds the key, to be named where the provider refuses it.
    pub fn key_variable(mut self, name: impl Into<String>) -> Self {
        self.inner.key_variable = name.into();
        self
    }

    /// How much the model is to think.
    pub fn effort(mut self, effort: Option<Effort>) -> Self {
        self.inner.effort = effort;
        self
    }

    /// The model's name before its provider, where it is not what follows the slash of its id.
    pub fn model_name(mut self, name: impl Into<String>) -> Self {
        self.inner.model = name.into();
        self
    }

    /// With connections that others use too.
    pub fn client(mut self, client: GuardedClient) -> Self {
        self.inner.client = client;
        self
    }

    /// The model.
    pub fn build(self) -> HttpModel {
        HttpModel { inner: Arc::new(self.inner) }
    }
}

impl ModelProvider for HttpModel {
    fn card(&self) -> ModelCard {
        self.inner.card.clone()
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let plan = Plan::new(request, &self.inner.card, self.inner.wire);
        let completion = Completion {
            model: self.inner.clone(),
            reader: self.inner.wire.reader(&plan::mark(&self.inner.card)),
            names: plan.names.clone(),
            stage: Stage::Ask(plan),
            ready: VecDeque::new(),
        };
        stream::unfold(completion, |mut completion| async move {
            let next = completion.next().await?;
            Some((next, completion))
        })
        .boxed()
    }
}

struct Completion {
    model: Arc<Inner>,
    reader: Reader,
    names: Names,
    stage: Stage,
    ready: VecDeque<Delta>,
}

enum Stage {
    Ask(Plan),
    Read(Opened),
    Over,
}

impl Completion {
    async fn next(&mut self) -> Option<Result<Delta, ModelError>> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                return Some(Ok(delta));
            }
            let mut out = Vec::new();
            let outcome = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Over => return None,
                Stage::Ask(plan) => match self.model.ask(&plan).await {
                    Ok(opened) => {
                        self.stage = Stage::Read(opened);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Stage::Read(mut opened) => match opened.chunk().await {
                    Some(Ok(piece)) => {
                        self.stage = Stage::Read(opened);
                        let read = self.reader.push(&piece, &mut out);
                        if out.is_empty() {
                            out.push(Delta::Alive);
                        }
                        read
                    }
                    None => self.reader.end(&mut out),
                    Some(Err(error)) => {
                        // A turn that is whole stays whole, however its connection ends.
                        self.reader.end(&mut out).map_err(|_| self.model.broke(&error))
                    }
                },
            };
            self.ready.extend(out.into_iter().map(|delta| ours(delta, &self.names)));
            if let Err(error) = outcome {
                self.stage = Stage::Over;
                self.ready.clear();
                return Some(Err(fault::without(error, &self.model.auth.secrets())));
            }
        }
    }
}

/// A delta with our names and ids in it.
fn ours(delta: Delta, names: &Names) -> Delta {
    match delta {
        Delta::Call(mut call) => {
            call.name = names.own_name(call.name);
            call.arguments = names.own_arguments(call.arguments);
            Delta::Call(call)
        }
        other => other,
    }
}

impl Inner {
    async fn ask(&self, plan: &Plan) -> Result<Opened, ModelError> {
        let target = Target {
            effort: self.effort,
            dialect: self.dialect,
            limited: self.limited,
            ..Target::new(&self.model, &self.card)
        };
        let body = self.wire.body(plan, target).to_string();
        let url = self
            .base
            .below(&self.wire.path(&self.model))
            .map_err(|e| ModelError::fatal(format!("the base URL of {} is wrong: {e}", self.card.id)))?;
        let mut headers = self.auth.headers(self.wire, &url, body.as_bytes())?;
        if self.wire == Wire::Anthropic && catalog::is_bound(&self.model) {
            headers
                .insert("anthropic-beta", HeaderValue::from_static("thinking-binding-controls-2026-08-01"));
        }
        let sent = self.client.post_json_opening(&url, Bytes::from(body), headers).await;
        let mut opened = sent.map_err(|error| self.broke(&error))?;
        if opened.status.is_success() {
            return Ok(opened);
        }
        let mut said = Vec::new();
        let reading = async {
            while let Some(Ok(piece)) = opened.chunk().await {
                said.extend_from_slice(&piece);
                if said.len() > FAILURE_BYTES {
                    said.truncate(FAILURE_BYTES);
                    break;
                }
            }
        };
        // What was not said in time is not waited for: the status says enough.
        let _ = tokio::time::timeout(FAILURE_TIME, reading).await;
        Err(fault::answered(&self.place(), opened.status, &opened.headers, &said))
    }

    fn place(&self) -> Place {
        Place {
            provider: self.card.id.split('/').next().unwrap_or_default().to_owned(),
            model: self.model.clone(),
            key_variable: self.key_variable.clone(),
        }
    }

    fn broke(&self, error: &ClientError) -> ModelError {
        let message = format!("{}: {}", self.card.id, error);
        if error.is_blocked() { ModelError::fatal(message) } else { ModelError::passing(message) }
    }
}
