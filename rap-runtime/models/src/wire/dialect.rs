//! How servers differ that speak OpenAI's chat wire.

use rap_runtime::{IdAlphabet, ModelCard, ReasoningPolicy, Roles};
use rap_types::HttpUrl;

/// A dialect of OpenAI's chat wire.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChatDialect {
    /// As OpenAI speaks it, and most others.
    #[default]
    OpenAi,
    /// Mistral's: ids of calls have exactly nine letters and digits, and nobody but the model speaks after results.
    Mistral,
    /// DeepSeek's, while it thinks: the `reasoning_content` of a turn with calls goes back with them, and a call without any
    /// is refused, events among them: they are told as text.
    ReasoningBack,
}

impl ChatDialect {
    /// The dialect of a model behind a base URL: known by its host, or by the model's name wherever it is served.
    pub fn of(model: &str, base: &HttpUrl) -> Self {
        const MISTRALS: [&str; 9] = [
            "mistral",
            "ministral",
            "magistral",
            "mixtral",
            "open-mistral",
            "open-mixtral",
            "codestral",
            "devstral",
            "pixtral",
        ];
        let host = base.parsed().host_str().unwrap_or_default().to_ascii_lowercase();
        let is_at = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
        let model = model.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        if is_at("mistral.ai") || MISTRALS.iter().any(|name| model.starts_with(name)) {
            Self::Mistral
        } else if model.starts_with("deepseek-reasoner")
            || (is_at("deepseek.com") && model != "deepseek-chat")
        {
            Self::ReasoningBack
        } else {
            Self::OpenAi
        }
    }

    /// The card of a model that speaks it.
    pub fn fit(self, card: ModelCard) -> ModelCard {
        match self {
            Self::OpenAi => card,
            Self::Mistral => card.call_ids(9, IdAlphabet::Alphanumeric).roles(Roles::Alternating),
            Self::ReasoningBack => card.reasoning(ReasoningPolicy::Required),
        }
    }
}
