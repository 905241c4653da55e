//! The scripted model: deterministic, offline, the default.

use crate::{Delta, ModelCard, ModelError, ModelProvider};
use futures_util::stream::{self, BoxStream};
use rap_core::{ModelRequest, StopReason};

/// A model that follows rules.
#[derive(Debug, Clone)]
pub struct ScriptedModel {}

/// What is wrong with a script: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

impl ScriptedModel {
    /// The model without a script: it understands `call TOOL {"argument": "value"} and TOOL`.
    pub fn demo() -> Self {
        Self {}
    }

    /// A model that follows the rules of a script.
    ///
    /// # Errors
    /// [`ScriptError`], with the place in the script.
    pub fn from_toml(_script: &str) -> Result<Self, ScriptError> {
        Ok(Self {})
    }
}

impl ModelProvider for ScriptedModel {
    fn card(&self) -> ModelCard {
        ModelCard::new("scripted/demo", "Scripted demo model")
    }

    fn complete(&self, _request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        Box::pin(stream::iter([Ok(Delta::Stop(StopReason::End))]))
    }
}
