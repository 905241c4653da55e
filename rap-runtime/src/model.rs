//! Models: what the runtime asks of one, and what comes back as a stream.

use futures_util::stream::BoxStream;
use rap_core::{ModelCall, ModelRequest, ReasoningBlock, StopReason, Usage};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// A model behind some API, or a script.
///
/// `complete` returns at once; all waiting happens in the stream. Dropping the stream ends the completion.
/// Keys never reach a delta or an error.
pub trait ModelProvider: Send + Sync + 'static {
    /// What this model is and takes. A runtime asks once, when it is given the model.
    fn card(&self) -> ModelCard;

    /// Makes one completion. The stream ends after [`Delta::Stop`], or with an error; a stream that just ends
    /// counts as one that stopped.
    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>>;
}

impl<M: ModelProvider + ?Sized> ModelProvider for Arc<M> {
    fn card(&self) -> ModelCard {
        (**self).card()
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        (**self).complete(request)
    }
}

/// A model with its card, which is asked for once.
pub(crate) struct KnownModel {
    pub(crate) provider: Arc<dyn ModelProvider>,
    pub(crate) card: ModelCard,
}

impl KnownModel {
    /// Asks a model for its card. A panic is an error that says so.
    pub(crate) fn new(provider: Arc<dyn ModelProvider>) -> Result<Arc<Self>, String> {
        match catch_unwind(AssertUnwindSafe(|| provider.card())) {
            Ok(card) => Ok(Arc::new(Self { provider, card })),
            Err(_) => Err("a model panicked when it was asked for its card, which is a bug in its adapter; use another model".to_owned()),
        }
    }
}

/// What a model is and takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelCard {
    /// Its id, as `provider/model`; kept with every turn.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Its window, in tokens.
    pub context_window: u64,
    /// The longest turn, in tokens.
    pub output_limit: u64,
    /// It takes images (RES-04).
    pub images: bool,
    /// What ids of calls may look like.
    pub call_ids: CallIds,
    /// The longest name of a tool, in bytes; longer ones are aliased (TLS-14).
    pub tool_name_length: usize,
    /// Who may speak after whom.
    pub roles: Roles,
    /// What becomes of reasoning in later requests.
    pub reasoning: ReasoningPolicy,
}

/// What ids of calls may look like for a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallIds {
    /// The longest id, in bytes.
    pub length: usize,
    /// The characters that it may hold.
    pub alphabet: IdAlphabet,
}

/// The characters of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdAlphabet {
    /// Any visible ASCII.
    Any,
    /// `A-Za-z0-9_-`.
    Portable,
    /// `A-Za-z0-9`, and exactly as long as the longest: Mistral's.
    Alphanumeric,
}

impl CallIds {
    /// Whether an id may go out as it is.
    pub fn fits(&self, id: &str) -> bool {
        let good = |byte: u8| match self.alphabet {
            IdAlphabet::Any => byte.is_ascii_graphic(),
            IdAlphabet::Portable => byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-',
            IdAlphabet::Alphanumeric => byte.is_ascii_alphanumeric(),
        };
        let shortest = if self.alphabet == IdAlphabet::Alphanumeric { self.length } else { 1 };
        (shortest..=self.length).contains(&id.len()) && id.bytes().all(good)
    }
}

/// Who may speak after whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Roles {
    /// Anybody after anybody.
    Free,
    /// The user's side first and last, and never one side twice in a row.
    Alternating,
}

/// What becomes of reasoning in later requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReasoningPolicy {
    /// The provider does not take it back.
    Dropped,
    /// Signed reasoning of this provider goes back as it came; calls may stand without it.
    Kept,
    /// As [`Kept`](Self::Kept), and a call without signed reasoning of this provider is refused: such calls,
    /// events among them (SUB-14), are told as text.
    Required,
}

impl ModelCard {
    /// A card with a window of 128,000 tokens, an output of 8,192 and no images; portable ids and tool names of
    /// up to 64 bytes, alternating roles, and reasoning dropped: what every provider takes.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            context_window: 128_000,
            output_limit: 8_192,
            images: false,
            call_ids: CallIds { length: 64, alphabet: IdAlphabet::Portable },
            tool_name_length: 64,
            roles: Roles::Alternating,
            reasoning: ReasoningPolicy::Dropped,
        }
    }

    /// With another window and output limit, in tokens.
    #[must_use]
    pub fn limits(mut self, context_window: u64, output_limit: u64) -> Self {
        self.context_window = context_window;
        self.output_limit = output_limit;
        self
    }

    /// It takes images, or not.
    #[must_use]
    pub fn images(mut self, images: bool) -> Self {
        self.images = images;
        self
    }

    /// With other ids of calls.
    #[must_use]
    pub fn call_ids(mut self, length: usize, alphabet: IdAlphabet) -> Self {
        self.call_ids = CallIds { length, alphabet };
        self
    }

    /// With another longest name of a tool, in bytes.
    #[must_use]
    pub fn tool_name_length(mut self, bytes: usize) -> Self {
        self.tool_name_length = bytes;
        self
    }

    /// With other rules on who speaks after whom.
    #[must_use]
    pub fn roles(mut self, roles: Roles) -> Self {
        self.roles = roles;
        self
    }

    /// With another treatment of reasoning.
    #[must_use]
    pub fn reasoning(mut self, reasoning: ReasoningPolicy) -> Self {
        self.reasoning = reasoning;
        self
    }
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Delta {
    /// Visible text.
    Text(String),
    /// A piece of reasoning. A signature ends a block.
    Reasoning(ReasoningBlock),
    /// A whole call. Arguments that the output limit cut short are no object, so that the call goes back to the model
    /// and is not made.
    Call(ModelCall),
    /// Tokens used so far; the last one counts.
    Usage(Usage),
    /// Why the model stopped: the turn is whole.
    Stop(StopReason),
    /// Something came that is none of these: a ping, a piece of a call. It keeps the turn from counting as silent.
    Alive,
}

/// Why a completion failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelError {
    /// What happened and what to do, for people; without secrets.
    pub message: String,
    /// Whether another try makes sense.
    pub retry: Retry,
    /// The request does not fit the model's window: as it is, no other try will mend that, but a shorter
    /// history may.
    pub overflow: bool,
}

impl ModelError {
    /// One that no other try will mend.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Never, overflow: false }
    }

    /// One of the moment.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Soon, overflow: false }
    }

    /// One of the moment, and the provider said how long it lasts.
    pub fn retry_after(message: impl Into<String>, wait: Duration) -> Self {
        Self { message: message.into(), retry: Retry::At(wait), overflow: false }
    }

    /// The request does not fit the model's window.
    pub fn overflow(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Never, overflow: true }
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ModelError {}

/// Whether and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not at all.
    Never,
    /// After a short while, which the runtime chooses.
    Soon,
    /// Not before this time has passed.
    At(Duration),
}
