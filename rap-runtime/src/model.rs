//! Models: what the runtime asks of one, and what comes back as a stream.

use futures_util::stream::BoxStream;
use rap_core::{ModelCall, ModelRequest, ReasoningBlock, StopReason, Usage};
use std::{fmt, sync::Arc, time::Duration};

/// A model behind some API, or a script.
///
/// `complete` returns at once; all waiting happens in the stream. Dropping the stream ends the completion.
/// Keys never reach a delta or an error.
pub trait ModelProvider: Send + Sync + 'static {
    /// What this model is and takes.
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
}

impl ModelCard {
    /// A card with a window of 128,000 tokens, an output of 8,192 and no images.
    pub fn new(id: impl Into<String>, name: impl Into<String>) -> Self {
        Self { id: id.into(), name: name.into(), context_window: 128_000, output_limit: 8_192, images: false }
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
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Delta {
    /// Visible text.
    Text(String),
    /// A piece of reasoning. A signature ends a block.
    Reasoning(ReasoningBlock),
    /// A whole call.
    Call(ModelCall),
    /// Tokens used so far; the last one counts.
    Usage(Usage),
    /// Why the model stopped: the turn is whole.
    Stop(StopReason),
}

/// Why a completion failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelError {
    /// What happened and what to do, for people; without secrets.
    pub message: String,
    /// Whether another try makes sense.
    pub retry: Retry,
}

impl ModelError {
    /// One that no other try will mend.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Never }
    }

    /// One of the moment.
    pub fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: Retry::Soon }
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
