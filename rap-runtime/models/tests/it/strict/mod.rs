//! What each provider refuses, as its documentation says and its API answers. Written from the APIs' side, on raw JSON,
//! and sharing nothing with the code that renders.

mod alternating;
mod gemini;
mod openai;
mod tools;

use rap_models::{ChatDialect, Wire};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+));
        }
    };
}
pub(crate) use ensure;

/// What the server knows beside the request.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    /// Signatures that this provider has given.
    pub(crate) signatures: HashSet<String>,
    /// Calls must carry a signature of this provider: Anthropic with thinking, Gemini 3.
    pub(crate) signed_calls: bool,
    /// Reasoning is taken back at all.
    pub(crate) takes_reasoning: bool,
    /// Which model gave a signature: another of the same provider does not take it.
    pub(crate) given_by: HashMap<String, String>,
    /// How the server speaks OpenAI's chat wire.
    pub(crate) dialect: ChatDialect,
    /// The turns that this provider has made: what it signed goes back as it was, each piece at its place.
    pub(crate) turns: Vec<Vec<String>>,
}

impl Known {
    /// What a model of the provider knows: its own signatures.
    pub(crate) fn of(&self, model: &str) -> Self {
        let mut known = self.clone();
        known.signatures.retain(|signature| self.given_by.get(signature).is_none_or(|maker| maker == model));
        known
    }

    /// Whether a turn is as it was made, if this provider has signed it.
    pub(crate) fn as_it_was(&self, turn: &[String]) -> Checked {
        let signed = |label: &&String| label.starts_with("signed ");
        for label in turn.iter().filter(signed) {
            if let Some(made) = self.turns.iter().find(|made| made.contains(label)) {
                ensure!(
                    turn.starts_with(made),
                    "a turn was changed: it was {made:?}, and comes back as {turn:?}"
                );
            }
        }
        Ok(())
    }
}

pub(crate) type Checked = Result<(), String>;

/// Whether a provider would take this body.
pub(crate) fn check(wire: Wire, body: &Value, known: &Known) -> Checked {
    match wire {
        Wire::Anthropic => alternating::anthropic(body, known),
        Wire::Bedrock => alternating::bedrock(body, known),
        Wire::OpenAiChat => openai::chat(body, known),
        Wire::OpenAiResponses => openai::responses(body, known),
        Wire::Gemini => gemini::gemini(body, known),
        Wire::Ollama => openai::ollama(body),
    }
}

pub(crate) fn list<'a>(value: &'a Value, what: &str) -> Result<&'a Vec<Value>, String> {
    value.as_array().filter(|list| !list.is_empty()).ok_or(format!("{what} is no list, or empty: {value}"))
}

pub(crate) fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    value.as_str().ok_or(format!("{what} is no string: {value}"))
}

pub(crate) fn said<'a>(value: &'a Value, what: &str) -> Result<&'a str, String> {
    text(value, what)
        .and_then(|text| if text.trim().is_empty() { Err(format!("{what} is blank")) } else { Ok(text) })
}

pub(crate) fn only(value: &Value, known: &[&str], what: &str) -> Checked {
    let members = value.as_object().ok_or(format!("{what} is no object: {value}"))?;
    for name in members.keys() {
        ensure!(known.contains(&name.as_str()), "{what} has an unknown member {name:?}");
    }
    Ok(())
}

pub(crate) fn portable(text: &str, length: usize, what: &str) -> Checked {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    ensure!(good && (1..=length).contains(&text.len()), "{what} is not allowed: {text:?}");
    Ok(())
}

pub(crate) fn base64(value: &Value, what: &str) -> Checked {
    use rap_types::Base64;
    let good = serde_json::from_value::<Base64>(value.clone()).is_ok() && value != "";
    ensure!(good, "{what} is no base64");
    Ok(())
}
