//! What went wrong, in one language: whether to try again and when, whether the request was too long, and what a
//! person can do. Pure.

use http::{HeaderMap, StatusCode};
use rap_runtime::{ModelError, Retry};
use serde_json::Value;
use std::time::Duration;

/// How long an error is, the provider's own words in it, in bytes.
const WORDS: usize = 800;

/// Where a request went: for what people are told.
#[derive(Debug, Clone)]
pub struct Place {
    /// The provider's name.
    pub provider: String,
    /// The model's name before its provider.
    pub model: String,
    /// The environment variable that holds the key.
    pub key_variable: String,
}

/// What an answer other than 2xx means.
pub fn answered(place: &Place, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ModelError {
    let text = String::from_utf8_lossy(body);
    let json: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    let json = if json.is_array() { json[0].clone() } else { json };
    let error = json.get("error").unwrap_or(&json);
    let word = |pointer: &str| error.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let said = [word("/message"), word("/Message"), error.as_str().unwrap_or_default()]
        .into_iter()
        .find(|words| !words.is_empty())
        .unwrap_or(if json.is_null() { text.trim() } else { "" });
    let said = plain(said);
    let errortype = headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut code = vec![word("/code"), word("/type"), word("/status"), word("/__type"), errortype];
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    code.extend(details.filter_map(|detail| detail.get("reason")?.as_str()));
    let code = code.join(" ");
    let Place { provider, model, key_variable } = place;
    let told = |what: &str| {
        if said.is_empty() {
            format!("{provider}: {what} ({status})")
        } else {
            format!("{provider}: {what} ({status}): {said}")
        }
    };
    let wait = wait(headers, error);
    let passing = |what: &str| match wait {
        Some(wait) => ModelError::retry_after(told(what), wait),
        None => ModelError::passing(told(what)),
    };
    match status.as_u16() {
        _ if is_overflow(&code, &said) => {
            ModelError::overflow(told(&format!("the conversation is longer than {model} takes")))
        }
        status if is_of_the_key(&code) || ([401, 403].contains(&status) && !is_throttled(&code)) => {
            ModelError::fatal(told(&format!("it does not accept the key; check {key_variable}")))
        }
        402 => ModelError::fatal(told("the account has no credit left; see to its billing")),
        429 if code.contains("insufficient_quota") => {
            ModelError::fatal(told("the account's quota is used up; see to its billing"))
        }
        404 => ModelError::fatal(told(&format!(
            "there is no model {model:?}, or this key may not use it; `rap models` lists some"
        ))),
        413 => ModelError::overflow(told("the request is too large")),
        408 | 409 | 425 => passing("it asks to be asked again"),
        // Bedrock: the model behind it failed.
        424 => passing("it failed"),
        429 => passing("it wants to be asked less often"),
        503 | 529 => passing("it is overloaded"),
        500..=599 => passing("it failed"),
        300..=399 => ModelError::fatal(told("it redirects, which is not followed; check its base URL")),
        _ if is_throttled(&code) => passing("it wants to be asked less often"),
        _ => ModelError::fatal(told("it refuses the request")),
    }
}

/// What a failure reported in the middle of a stream means.
pub(crate) fn in_stream(kind: &str, message: &str) -> ModelError {
    let kind = kind.trim();
    let said = plain(message);
    let told = match (kind, said.as_str()) {
        ("", "") => "the provider failed in the middle of the turn".to_owned(),
        (kind, "") => format!("the provider failed in the middle of the turn: {kind}"),
        ("", said) => format!("the provider failed in the middle of the turn: {said}"),
        (kind, said) => format!("the provider failed in the middle of the turn: {kind}: {said}"),
    };
    let low = kind.to_ascii_lowercase();
    let final_kinds = [
        "invalid_request",
        "authentication",
        "permission",
        "not_found",
        "insufficient_quota",
        "invalid_argument",
        "validationexception",
        "accessdenied",
        "billing",
        "invalid_prompt",
    ];
    if is_overflow(kind, &said) {
        ModelError::overflow(told)
    } else if is_of_the_key(kind) || final_kinds.iter().any(|word| low.contains(word)) {
        ModelError::fatal(told)
    } else {
        ModelError::passing(told)
    }
}

fn is_throttled(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    ["throttl", "rate_limit", "resource_exhausted", "overloaded"].iter().any(|word| code.contains(word))
}

/// The provider does not know who asks, in whatever status it says so: Gemini's and AWS's may be 400.
fn is_of_the_key(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    [
        "api_key_invalid",
        "api_key_expired",
        "incompletesignature",
        "invalidsignature",
        "signaturedoesnotmatch",
        "missingauthenticationtoken",
        "invalidclienttokenid",
        "unrecognizedclient",
        "expiredtoken",
        "requestexpired",
    ]
    .iter()
    .any(|word| code.contains(word))
}

/// The many ways to say that a request is longer than the window.
fn is_overflow(code: &str, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    code.contains("context_length_exceeded")
        || code.contains("request_too_large")
        || [
            "prompt is too long",
            "input is too long",
            "maximum context length",
            "context length exceeded",
            "exceeds the context window",
            "exceeds the maximum number of tokens",
            "exceed context limit",
            "exceeds the available context size",
            "exceeds the context length",
            "too many tokens in the prompt",
            "input length and `max_tokens` exceed",
            "input tokens exceeded",
            "exceeded max context length",
            "maximum prompt length",
            "maximum model length",
            "exceeded model token limit",
        ]
        .iter()
        .any(|words| message.contains(words))
}

/// How long the provider asks us to wait.
fn wait(headers: &HeaderMap, error: &Value) -> Option<Duration> {
    let header = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    if let Some(ms) = header("retry-after-ms") {
        return Duration::try_from_secs_f64(ms / 1_000.0).ok();
    }
    if let Some(seconds) = header("retry-after") {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    if let Some(wait) = rap_http::client::retry_after(headers) {
        return Some(wait);
    }
    // Gemini says it in the body.
    let details = error.get("details")?.as_array()?;
    let delay = details.iter().find_map(|detail| detail.get("retryDelay")?.as_str())?;
    Duration::try_from_secs_f64(delay.strip_suffix('s')?.parse().ok()?).ok()
}

fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

/// The error without a secret that a provider may have echoed, and not too long. In this order: half a key is no longer
/// known for one.
pub(crate) fn without(mut error: ModelError, secrets: &[&str]) -> ModelError {
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        if error.message.contains(secret) {
            error.message = error.message.replace(secret, "[key]");
        }
    }
    if error.message.len() > WORDS {
        error.message.truncate(error.message.floor_char_boundary(WORDS));
        error.message.push('…');
    }
    // A wait that no person would sit through is the provider's way to say no.
    if let Retry::At(wait) = error.retry {
        error.retry = Retry::At(wait.min(Duration::from_secs(24 * 3_600)));
    }
    error
}
