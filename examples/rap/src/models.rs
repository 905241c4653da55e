//! Which model answers: the scripted one, or with the feature `models` a real one, whose keys are in the environment.

use crate::{
    cli::ModelArgs,
    failure::Failure,
    inspect::unknown_thread,
    output::{DIM, NAME, Out, paint},
    reach,
};
use rap_runtime::{ModelProvider, RuntimeBuilder, ScriptedModel};
use serde_json::json;
use std::{path::Path, sync::Arc};

/// What answers, unless a session says otherwise.
pub(crate) struct Chosen {
    model: Arc<dyn ModelProvider>,
    plain: bool,
}

impl Chosen {
    /// It is the scripted one without a script, which does what plain words tell it.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// A runtime with this model, that finds others by name.
    pub(crate) fn into_builder(self, builder: RuntimeBuilder) -> RuntimeBuilder {
        // The scripted one is always there, for threads that were given it.
        real::finding(builder.model(self.model).model(ScriptedModel::demo()))
    }
}

/// The model that was asked for; without a word, the one of the environment; without that, the scripted one.
pub(crate) fn choose(id: Option<&str>, script: Option<&Path>) -> Result<Chosen, Failure> {
    let is_scripted = |id: &str| id == "scripted" || id.starts_with("scripted/");
    let asked = match id {
        Some(id) if is_scripted(id) => None,
        Some(id) if script.is_some() => {
            return Err(Failure::new(format!("a script is for the scripted model, not for {id:?}"))
                .hint("leave out --script or --model"));
        }
        Some(id) => Some(id.to_owned()),
        None if script.is_some() => None,
        None => real::from_environment().filter(|id| !is_scripted(id)),
    };
    if let Some(id) = asked {
        return Ok(Chosen { model: real::model(&id)?, plain: false });
    }
    let model = match script {
        Some(path) => ScriptedModel::from_file(path).map_err(Failure::of)?,
        None => ScriptedModel::demo(),
    };
    Ok(Chosen { model: Arc::new(model), plain: script.is_none() })
}

/// The id under which a session goes on with a model: `scripted` stands for whatever is scripted here.
pub(crate) fn id_of(model: &str) -> &str {
    if model == "scripted" { "scripted/demo" } else { model }
}

/// `rap model`
pub(crate) async fn switch(args: ModelArgs, out: &Out) -> Result<(), Failure> {
    let host = reach::host(&args.db).await?;
    let model = (args.model != "default").then(|| id_of(&args.model));
    host.choose_model(&args.thread, model).await.map_err(|error| {
        if error.is_unknown() { unknown_thread(&args.thread, &args.db) } else { Failure::of(error) }
    })?;
    out.record(&json!({"thread": args.thread, "model": model}));
    out.line(format_args!(
        "from its next turn on {} is answered by {}",
        paint(NAME, &args.thread),
        model.unwrap_or("the model that its session began with")
    ));
    Ok(())
}

/// `rap models`
pub(crate) fn list(out: &Out) -> Result<(), Failure> {
    let line = |id: &str, window: u64, note: &str| {
        out.record(&json!({"model": id, "context_window": window, "configured_by": note}));
        out.line(format_args!(
            "{}  {}  {}",
            paint(NAME, format!("{id:<44}")),
            paint(DIM, format!("{window:>9} tokens")),
            note
        ));
    };
    let scripted = ScriptedModel::demo().card();
    line(&scripted.id, scripted.context_window, "always there");
    real::list(&line);
    real::hint(out);
    Ok(())
}

#[cfg(feature = "models")]
mod real {
    use super::{Arc, Failure, ModelProvider, Out, RuntimeBuilder};
    use rap_models::Providers;

    pub(super) fn from_environment() -> Option<String> {
        let providers = Providers::from_env();
        if let Some(id) = providers.default_model() {
            return Some(id.to_owned());
        }
        // Credentials of AWS are in many environments for other reasons.
        let configured = providers.configured();
        let first =
            configured.iter().find(|c| c.provider != "bedrock" && c.variable.ends_with("_API_KEY"))?;
        Some(first.models.first()?.id.clone())
    }

    pub(super) fn model(id: &str) -> Result<Arc<dyn ModelProvider>, Failure> {
        match Providers::from_env().model(id) {
            Ok(model) => Ok(Arc::new(model)),
            Err(error) => Err(Failure::of(error).hint("rap models lists what can be used as things are")),
        }
    }

    pub(super) fn finding(builder: RuntimeBuilder) -> RuntimeBuilder {
        let providers = Providers::from_env();
        builder.model_finder(move |id| match providers.model(id) {
            Ok(model) => Ok(Arc::new(model) as Arc<dyn ModelProvider>),
            Err(error) => Err(error.to_string()),
        })
    }

    pub(super) fn list(line: &dyn Fn(&str, u64, &str)) {
        for configured in Providers::from_env().configured() {
            for card in configured.models {
                line(&card.id, card.context_window, configured.variable);
            }
        }
    }

    pub(super) fn hint(out: &Out) {
        let configured = Providers::from_env().configured();
        for configured in &configured {
            out.note(format_args!(
                "{}/… is configured by {} ({}); any model of it can be named",
                configured.provider, configured.variable, configured.base
            ));
        }
        if configured.is_empty() {
            out.note("no provider is configured; set ANTHROPIC_API_KEY, OPENAI_API_KEY, OPENAI_BASE_URL, GEMINI_API_KEY, OLLAMA_HOST, or AWS_BEARER_TOKEN_BEDROCK and AWS_REGION");
        }
    }
}

#[cfg(not(feature = "models"))]
mod real {
    use super::{Arc, Failure, ModelProvider, Out, RuntimeBuilder};

    const BUILD: &str = "cargo install --path examples/rap --features models";

    pub(super) fn from_environment() -> Option<String> {
        None
    }

    pub(super) fn model(id: &str) -> Result<Arc<dyn ModelProvider>, Failure> {
        Err(Failure::new(format!("no model {id:?}: this program was built without real models"))
            .hint(format!("build it with the feature `models`: {BUILD}")))
    }

    pub(super) fn finding(builder: RuntimeBuilder) -> RuntimeBuilder {
        builder
    }

    pub(super) fn list(_: &dyn Fn(&str, u64, &str)) {}

    pub(super) fn hint(out: &Out) {
        out.note(format_args!("this program was built without real models; for those: {BUILD}"));
    }
}
