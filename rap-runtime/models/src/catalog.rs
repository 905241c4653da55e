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

/// The first that fits counts. As the providers' pages had it on 2026-11-21. What is not listed but known is old, or leaves
/// soon: Gemini 2.5 is being shut down; GPT-5 and o3 leave OpenAI's API on 2026-12-11, GPT-4o and GPT-4.1 on 2027-01-14.
const MODELS: [Known; 43] = [
    known(Wire::Anthropic, "claude-fable-5-2", 1_000_000, 128_000, true, true),
    known(Wire::Anthropic, "claude-opus-5-5", 1_000_000, 128_000, true, true),
    known(Wire::Anthropic, "claude-sonnet-5-5", 1_000_000, 128_000, true, true),
    known(Wire::Anthropic, "claude-haiku-5-5", 1_000_000, 128_000, true, true),
    known(Wire::Anthropic, "claude-haiku-4-5", 200_000, 64_000, true, true),
    known(Wire::Anthropic, "claude-fable-5", 1_000_000, 128_000, true, false),
    known(Wire::Anthropic, "claude-mythos-5", 1_000_000, 128_000, true, false),
    known(Wire::Anthropic, "claude-opus-5", 1_000_000, 128_000, true, false),
    known(Wire::Anthropic, "claude-sonnet-5", 1_000_000, 128_000, true, false),
    known(Wire::Anthropic, "claude-opus-4-6", 1_000_000, 64_000, true, false),
    known(Wire::Anthropic, "claude-sonnet-4-6", 200_000, 64_000, true, false),
    known(Wire::Anthropic, "claude-sonnet-4-5", 200_000, 64_000, true, false),
    known(Wire::Anthropic, "claude-3-5", 200_000, 8_192, true, false),
    known(Wire::Anthropic, "claude-3-haiku", 200_000, 4_096, true, false),
    known(Wire::Anthropic, "", 200_000, 32_000, true, false),
    known(Wire::OpenAiResponses, "gpt-6-astra", 1_050_000, 128_000, true, true),
    known(Wire::OpenAiResponses, "gpt-6.1-sol", 1_050_000, 128_000, true, true),
    known(Wire::OpenAiResponses, "gpt-6-luna", 1_050_000, 128_000, true, true),
    known(Wire::OpenAiResponses, "gpt-6", 1_050_000, 128_000, true, false),
    known(Wire::OpenAiResponses, "gpt-5.6", 1_050_000, 128_000, true, false),
    known(Wire::OpenAiResponses, "gpt-5.5", 1_050_000, 128_000, true, false),
    known(Wire::OpenAiResponses, "gpt-5", 400_000, 128_000, true, false),
    known(Wire::OpenAiResponses, "o", 200_000, 100_000, true, false),
    known(Wire::OpenAiResponses, "gpt-4.1", 1_047_576, 32_768, true, false),
    known(Wire::OpenAiResponses, "", 128_000, 16_384, true, false),
    known(Wire::OpenAiChat, "gpt-5.6-sol", 1_050_000, 128_000, true, true),
    known(Wire::OpenAiChat, "gpt-5.6-luna", 1_050_000, 128_000, true, true),
    known(Wire::OpenAiChat, "gpt-6", 1_050_000, 128_000, true, false),
    known(Wire::OpenAiChat, "gpt-5.6", 1_050_000, 128_000, true, false),
    known(Wire::OpenAiChat, "gpt-5.5", 1_050_000, 128_000, true, false),
    known(Wire::OpenAiChat, "gpt-5", 400_000, 128_000, true, false),
    known(Wire::OpenAiChat, "gpt-4.1", 1_047_576, 32_768, true, false),
    known(Wire::OpenAiChat, "gpt-4o", 128_000, 16_384, true, false),
    known(Wire::OpenAiChat, "", 128_000, 16_384, false, false),
    known(Wire::Gemini, "gemini-3.8-flash", 1_000_000, 65_536, true, true),
    known(Wire::Gemini, "gemini-3.1-pro-preview", 1_048_576, 65_536, true, true),
    known(Wire::Gemini, "", 1_048_576, 65_536, true, false),
    known(Wire::Ollama, "", 32_768, 8_192, false, false),
    known(Wire::Bedrock, "amazon.nova-2-lite", 1_000_000, 10_000, true, false),
    known(Wire::Bedrock, "amazon.nova-premier", 1_000_000, 10_000, true, false),
    known(Wire::Bedrock, "amazon.nova-micro", 128_000, 10_000, false, false),
    known(Wire::Bedrock, "amazon.nova", 300_000, 10_000, true, false),
    known(Wire::Bedrock, "", 128_000, 8_192, false, false),
];

/// Models of Bedrock that are worth listing: their names there say a region and a version.
const ON_BEDROCK: [&str; 3] =
    ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.amazon.nova-2-lite-v1:0", "amazon.nova-pro-v1:0"];

/// The models of a wire that are worth listing.
pub(crate) fn listed(wire: Wire) -> impl Iterator<Item = &'static str> {
    let on_bedrock = ON_BEDROCK.into_iter().filter(move |_| wire == Wire::Bedrock);
    let others = MODELS.iter().filter(move |known| known.wire == wire && known.listed);
    others.map(|known| known.begins).chain(on_bedrock)
}

/// The card of a model, `provider/model`, on a wire.
pub fn card(id: &str, wire: Wire) -> ModelCard {
    let model = id.split_once('/').map_or(id, |(_, model)| model);
    let claude = if wire == Wire::Bedrock { claude_on_bedrock(model) } else { None };
    let (table, name) = match claude {
        Some(name) => (Wire::Anthropic, name),
        None if wire == Wire::Bedrock => (wire, bedrock_name(model)),
        None => (wire, model),
    };
    let found = MODELS.iter().find(|known| known.wire == table && name.starts_with(known.begins));
    let mut card = ModelCard::new(id, model);
    if let Some(known) = found {
        card = card.limits(known.window, known.output).images(known.images);
    }
    match wire {
        Wire::OpenAiChat => card.call_ids(40, IdAlphabet::Any).roles(Roles::Free),
        Wire::OpenAiResponses => {
            let thinks = model.starts_with('o') || gpt(model).is_some_and(|major| major >= 5);
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
        // These think unless they are told not to, and say so in blocks that may go back.
        Wire::Anthropic if claude_version(model).is_some_and(|version| version >= (5, 0)) => {
            card.reasoning(ReasoningPolicy::Kept)
        }
        Wire::Anthropic | Wire::Bedrock => card,
    }
}

/// The card of a Claude model that is told to think: those that decide by themselves how much take calls without
/// thinking, the others refuse them.
pub(crate) fn thinking(card: ModelCard, wire: Wire) -> ModelCard {
    let claude = match wire {
        Wire::Anthropic => Some(card.name.as_str()),
        Wire::Bedrock => claude_on_bedrock(&card.name),
        _ => None,
    };
    let Some(name) = claude else { return card };
    let policy = match is_adaptive(name) {
        // Only Anthropic's own API can be asked to leave out what is bound to what is no longer there.
        true if wire == Wire::Bedrock && is_bound(name) => ReasoningPolicy::Dropped,
        true => ReasoningPolicy::Kept,
        false => ReasoningPolicy::Required,
    };
    card.reasoning(policy)
}

/// The version of a Claude model: `claude-opus-4-6`, `claude-3-7-sonnet-20250219`.
fn claude_version(name: &str) -> Option<(u32, u32)> {
    let short = |part: &&str| part.len() <= 2;
    let mut parts = name.strip_prefix("claude-")?.split(['-', '.', '@', ':']);
    let major = parts.find_map(|part| short(&part).then(|| part.parse().ok()).flatten())?;
    let minor = parts.next().filter(short).and_then(|part| part.parse().ok());
    Some((major, minor.unwrap_or(0)))
}

/// Claude decides by itself how much it thinks, and takes an effort in the place of a budget: since 4.6; later ones refuse
/// budgets.
pub(crate) fn is_adaptive(name: &str) -> bool {
    name.starts_with("claude-mythos") || claude_version(name).is_some_and(|version| version >= (4, 6))
}

/// Claude's thoughts are bound to all that stands before them ("preserved thinking"): since Fable 5.1, and not for Haiku.
pub(crate) fn is_bound(name: &str) -> bool {
    claude_version(name).is_some_and(|version| version >= (5, 1)) && !name.starts_with("claude-haiku")
}

/// The major version of a GPT.
fn gpt(model: &str) -> Option<u32> {
    model.strip_prefix("gpt-")?.split(['.', '-']).next()?.parse().ok()
}

/// The name of a model on Bedrock without the region that its profile is for.
pub(crate) fn bedrock_name(model: &str) -> &str {
    const REGIONS: [&str; 8] = ["us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"];
    model.split_once('.').filter(|(region, _)| REGIONS.contains(region)).map_or(model, |(_, name)| name)
}

/// The name of a Claude model on Bedrock, as Anthropic has it.
pub(crate) fn claude_on_bedrock(model: &str) -> Option<&str> {
    bedrock_name(model).strip_prefix("anthropic.")
}

/// Second-generation Novas can be told how much to think.
pub(crate) fn is_nova_2(model: &str) -> bool {
    bedrock_name(model).starts_with("amazon.nova-2")
}

/// Whether a model of Bedrock takes marks for its prompt cache. The others refuse a request with one.
pub(crate) fn bedrock_caches(model: &str) -> bool {
    match claude_on_bedrock(model).map(claude_version) {
        Some(Some((3, 5))) => model.contains("haiku"),
        Some(version) => version.is_some_and(|version| version >= (3, 7)),
        None => bedrock_name(model).starts_with("amazon.nova"),
    }
}
