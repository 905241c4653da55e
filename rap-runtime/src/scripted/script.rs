//! Scripts: rules in TOML or YAML, the first that fits wins.

use super::{
    Act, ScriptError,
    scene::{Kind, News, Scene},
};
use rap_core::{ModelCall, StopReason};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// A list of rules.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    #[serde(default, rename = "rule", alias = "rules")]
    rules: Vec<Rule>,
}

/// One rule: when it fits, and what the model does then.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    #[serde(default)]
    when: When,
    #[serde(default)]
    reasoning: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    calls: Vec<Call>,
    #[serde(default)]
    delay_ms: u64,
    /// Why the turn ends, where it is not because the model is done or calls something.
    #[serde(default)]
    stop: Option<StopName>,
    #[serde(default)]
    fault: Option<FaultName>,
    /// How often in a thread the fault happens; always, if it is left out.
    #[serde(default)]
    pub(super) times: Option<u32>,
}

/// All that is given must fit.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct When {
    /// The newest thing is a message, and fits this pattern (`*` for anything).
    user: Option<String>,
    /// The newest thing is a message, and contains this.
    contains: Option<String>,
    /// Among what is new is the result of this tool (pattern).
    result: Option<String>,
    /// Among what is new is an event, late outcome or report of this tool (pattern).
    event: Option<String>,
    /// What the newest result or event among what is new says (pattern).
    says: Option<String>,
    /// The kind of the thread.
    thread: Option<KindName>,
    /// The number of the turn, from 1.
    turn: Option<usize>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    Root,
    Spawned,
    Event,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    #[serde(default)]
    arguments: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StopName {
    Length,
    Refused,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum FaultName {
    Error,
    Overloaded,
    Overflow,
    RetryAfterMs(u64),
    Break,
    Panic,
    Hang,
}

/// How a turn fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// For good, before the first word.
    Error,
    /// For the moment, before the first word.
    Overloaded,
    /// The conversation is longer than the model takes.
    Overflow,
    /// With a time to wait.
    RetryAfter(Duration),
    /// After half of the text.
    Break,
    /// With a panic, after the text.
    Panic,
    /// Not at all: it falls silent after the text.
    Hang,
}

impl Script {
    pub(super) fn from_toml(text: &str) -> Result<Self, ScriptError> {
        toml::from_str::<Self>(text).map_err(unreadable)?.checked()
    }

    #[cfg(feature = "yaml")]
    pub(super) fn from_yaml(text: &str) -> Result<Self, ScriptError> {
        serde_saphyr::from_str::<Self>(text).map_err(unreadable)?.checked()
    }

    /// Refuses what would not do what it seems to say.
    fn checked(self) -> Result<Self, ScriptError> {
        let script = self;
        for (number, rule) in script.rules.iter().enumerate() {
            let wrong = |what: &str| Err(ScriptError(format!("rule {} of the script {what}", number + 1)));
            if rule.when.turn == Some(0) {
                return wrong("counts turns from 0; the first turn is 1");
            }
            if rule.times.is_some() && rule.fault.is_none() {
                return wrong("has `times` without a `fault`; add one, or remove `times`");
            }
            if rule.text.is_empty()
                && rule.reasoning.is_empty()
                && rule.calls.is_empty()
                && rule.fault.is_none()
            {
                return wrong("does nothing; give it `text`, `calls` or a `fault`");
            }
        }
        Ok(script)
    }

    /// The first rule that fits, with its number.
    pub(super) fn rule_for(&self, scene: &Scene<'_>) -> Option<(usize, &Rule)> {
        self.rules.iter().enumerate().find(|(_, rule)| rule.when.fits(scene))
    }
}

fn unreadable(error: impl std::fmt::Display) -> ScriptError {
    ScriptError(format!("the script cannot be read: {error}"))
}

impl When {
    fn fits(&self, scene: &Scene<'_>) -> bool {
        let kind = match self.thread {
            None => true,
            Some(KindName::Root) => scene.kind == Kind::Root,
            Some(KindName::Spawned) => scene.kind == Kind::Spawned,
            Some(KindName::Event) => scene.kind == Kind::Event,
        };
        let message = match scene.last() {
            Some(News::Message(text)) => Some(text.as_str()),
            _ => None,
        };
        let said = |test: &dyn Fn(&str) -> bool| message.is_some_and(test);
        let result = |pattern: &String| {
            scene.news.iter().any(
                |news| matches!(news, News::Result { tool, placeholder: false, .. } if glob(pattern, tool)),
            )
        };
        let event = |pattern: &String| {
            scene.news.iter().any(|news| matches!(news, News::Event { tool, .. } if glob(pattern, tool)))
        };
        let told = scene.news.iter().rev().find_map(|news| match news {
            News::Result { placeholder: false, text, .. } | News::Event { text, .. } => Some(text.as_str()),
            _ => None,
        });
        kind && self.says.as_ref().is_none_or(|pattern| told.is_some_and(|text| glob(pattern, text)))
            && self.turn.is_none_or(|turn| turn == scene.turns + 1)
            && self.user.as_ref().is_none_or(|pattern| said(&|text| glob(pattern, text)))
            && self.contains.as_ref().is_none_or(|part| said(&|text| text.contains(part.as_str())))
            && self.result.as_ref().is_none_or(result)
            && self.event.as_ref().is_none_or(event)
    }
}

impl Rule {
    pub(super) fn act(&self, scene: &Scene<'_>) -> Act {
        let calls = self.calls.iter().map(|call| ModelCall {
            name: call.name.clone(),
            arguments: scene.fill_value(&Value::Object(call.arguments.clone())),
            provider_id: None,
        });
        Act {
            reasoning: scene.fill(&self.reasoning),
            text: scene.fill(&self.text),
            calls: calls.collect(),
            delay: Duration::from_millis(self.delay_ms),
            stop: self.stop.map(|stop| match stop {
                StopName::Length => StopReason::Length,
                StopName::Refused => StopReason::Refused,
            }),
            fault: self.fault.map(|fault| match fault {
                FaultName::Error => Fault::Error,
                FaultName::Overloaded => Fault::Overloaded,
                FaultName::Overflow => Fault::Overflow,
                FaultName::RetryAfterMs(ms) => Fault::RetryAfter(Duration::from_millis(ms)),
                FaultName::Break => Fault::Break,
                FaultName::Panic => Fault::Panic,
                FaultName::Hang => Fault::Hang,
            }),
        }
    }
}

/// Whether a text fits a pattern in which `*` stands for anything. Letters' case matters.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("hello", "hello", true),
            ("hello", "hello!", false),
            ("*", "", true),
            ("hel*", "hello", true),
            ("*lo", "hello", true),
            ("h*l*o", "hello", true),
            ("h*x*o", "hello", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(glob(pattern, text), fits, "{pattern:?} {text:?}");
        }
    }

    /// A script that would not do what it seems to say is refused, with the rule's number.
    #[test]
    fn faulty_scripts() {
        for (script, says) in [
            ("[[rule]]\nwhen = { usr = 'x' }\ntext = 'y'", "unknown field `usr`"),
            ("[[rule]]\ntext = 'y'\n[[rule]]\nwhen = { turn = 0 }\ntext = 'z'", "rule 2"),
            ("[[rule]]\ntext = 'y'\ntimes = 1", "without a `fault`"),
            ("[[rule]]", "does nothing"),
            ("[[rule]]\nfault = 'explode'", "unknown variant `explode`"),
            ("[roles]", "unknown field `roles`"),
            ("[[rule]]\ntext = 'y'\nstop = 'soon'", "unknown variant `soon`"),
        ] {
            let error = Script::from_toml(script).unwrap_err().to_string();
            assert!(error.contains(says), "{script:?}: {error}");
        }
        let script = "[[rule]]\nfault = { retry_after_ms = 20 }\ntimes = 2";
        assert_eq!(Script::from_toml(script).unwrap().rules.len(), 1);
    }
}
