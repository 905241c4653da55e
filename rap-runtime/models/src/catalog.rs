//! What is known of models: window, output, eyes, reasoning. A model that is not listed gets what its provider's
//! models usually have; any model can be used.

use crate::wire::Wire;
use rap_runtime::{IdAlphabet, ModelCard, ReasoningPolicy, Roles};

/// What is known of models whose name begins, or after a dot continues, in some way.
struct Known {
    wire: Wire,
    begins: &'static str,
    window: u64,
    output: u64,
    images: bool,
    listed: bool,
}

const fn known(
    wire: Wire,
    begins: &'static str,
    window: u64,
    output: u64,
    images: bool,
    listed: bool,
) -> Known {
    Known { wire, begins, window, output, images, listed }
}

/// The first that fits counts.
const MODELS: [Known; 26] = [
    known(Wire::Anthropic, "claude-opus-4-6", 200_000, 64_000, true, true),
    known(Wire::Anthropic, "claude-sonnet-4-6", 200_000, 64_000, true, true),
    known(Wire::Anthropic, "claude-sonnet-4-5", 200_000, 64_000, true, true),
    known(Wire::Anthropic, "claude-haiku-4-5", 200_000, 64_000, true, true),
    known(Wire::Anthropic, "claude-3-5", 200_000, 8_192, true, false),
    known(Wire::Anthropic, "claude-3-haiku", 200_000, 4_096, true, false),
    known(Wire::Anthropic, "claude-opus-4-1", 200_000, 32_000, true, false),
    known(Wire::Anthropic, "", 200_000, 32_000, true, false),
    known(Wire::OpenAiResponses, "gpt-5.1", 400_000, 128_000, true, true),
    known(Wire::OpenAiResponses, "gpt-5", 400_000, 128_000, true, true),
    known(Wire::OpenAiResponses, "o", 200_000, 100_000, true, false),
    known(Wire::OpenAiResponses, "gpt-4.1", 1_047_576, 32_768, true, true),
    known(Wire::OpenAiResponses, "", 128_000, 16_384, true, false),
    known(Wire::OpenAiChat, "gpt-5.1", 400_000, 128_000, true, true),
    known(Wire::OpenAiChat, "gpt-4.1", 1_047_576, 32_768, true, true),
    known(Wire::OpenAiChat, "gpt-4o", 128_000, 16_384, true, true),
    known(Wire::OpenAiChat, "gpt-5", 400_000, 128_000, true, false),
    known(Wire::OpenAiChat, "", 128_000, 16_384, false, false),
    known(Wire::Gemini, "gemini-3-pro-preview", 1_048_576, 65_536, true, true),
    known(Wire::Gemini, "gemini-2.5-flash", 1_048_576, 65_536, true, true),
    known(Wire::Gemini, "", 1_048_576, 65_536, true, false),
    known(Wire::Ollama, "", 32_768, 8_192, false, false),
    known(Wire::Bedrock, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 200_000, 64_000, true, true),
    known(Wire::Bedrock, "amazon.nova-pro-v1:0", 300_000, 10_000, true, true),
    known(Wire::Bedrock, "us.anthropic.", 200_000, 32_000, true, false),
    known(Wire::Bedrock, "", 128_000, 8_192, false, false),
];

/// The models of a wire that are worth listing.
pub(crate) fn listed(wire: Wire) -> impl Iterator<Item = &'static str> {
    MODELS.iter().filter(move |known| known.wire == wire && known.listed).map(|known| known.begins)
}

/// The card of a model, `provider/model`, on a wire.
pub fn card(id: &str, wire: Wire) -> ModelCard {
    let model = id.split_once('/').map_or(id, |(_, model)| model);
    let found = MODELS.iter().find(|known| known.wire == wire && model.starts_with(known.begins));
    let mut card = ModelCard::new(id, model);
    if let Some(known) = found {
        card = card.limits(known.window, known.output).images(known.images);
    }
    match wire {
        Wire::OpenAiChat => card.call_ids(40, IdAlphabet::Any).roles(Roles::Free),
        Wire::OpenAiResponses => {
            let thinks = model.starts_with("gpt-5") || model.starts_with('o');
            let policy = if thinks { ReasoningPolicy::Kept } else { ReasoningPolicy::Dropped };
            card.call_ids(64, IdAlphabet::Any).roles(Roles::Free).reasoning(policy)
        }
        Wire::Gemini => {
            let old = ["gemini-1", "gemini-2.0", "gemma"].iter().any(|old| model.starts_with(old));
            let policy = match model.strip_prefix("gemini-") {
                _ if old => ReasoningPolicy::Dropped,
                Some(rest) if rest.starts_with("2.") => ReasoningPolicy::Kept,
                _ => ReasoningPolicy::Required,
            };
            card.reasoning(policy)
        }
        Wire::Ollama => card.roles(Roles::Free),
        Wire::Anthropic | Wire::Bedrock => card,
    }
}

/// The card of a Claude model that is told to think: those that decide by themselves how much take calls without
/// thinking, the others refuse them.
pub(crate) fn thinking(card: ModelCard, wire: Wire) -> ModelCard {
    if !matches!(wire, Wire::Anthropic | Wire::Bedrock) {
        return card;
    }
    let adaptive = wire == Wire::Anthropic
        && ["claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-7", "claude-opus-5", "claude-sonnet-5"]
            .iter()
            .any(|begins| card.name.starts_with(begins));
    let policy = if adaptive { ReasoningPolicy::Kept } else { ReasoningPolicy::Required };
    card.reasoning(policy)
}
