//! The scripted model: deterministic, offline, the default. The same history gives the same turn, so a run with
//! it can be repeated, killed and compared.
//!
//! Three rooms: [`script`] reads rules from TOML or YAML, [`scene`] looks at what the model has just seen, and [`words`] is what
//! it does without a script, or where no rule fits: it does what plain words tell it.

mod scene;
mod script;
mod words;

use crate::{Delta, ModelCard, ModelError, ModelProvider};
use futures_util::{StreamExt, stream::BoxStream};
use rap_core::{ModelCall, ModelRequest, ModelTurn, ReasoningBlock, StopReason, Usage};
use rap_types::ThreadId;
use scene::Scene;
use script::{Fault, Script};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// A model that follows rules. Clones share how often their faults were used.
#[derive(Debug, Clone)]
pub struct ScriptedModel {
    script: Arc<Script>,
    used: Arc<Mutex<HashMap<(ThreadId, usize), u32>>>,
}

/// What is wrong with a script: where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(String);

/// What the model does in a turn.
#[derive(Debug, Clone, Default, PartialEq)]
struct Act {
    reasoning: String,
    text: String,
    calls: Vec<ModelCall>,
    delay: Duration,
    stop: Option<StopReason>,
    fault: Option<Fault>,
}

impl ScriptedModel {
    /// The model without a script: told `call TOOL {"argument": "value"} and TOOL`, it does so and tells what came
    /// of it.
    pub fn demo() -> Self {
        Self::of(Script::default())
    }

    /// A model that follows the rules of a script in TOML; the README says how it is written. Where no rule fits,
    /// it does what [`demo`](Self::demo) does.
    ///
    /// # Errors
    /// [`ScriptError`], with the place in the script.
    pub fn from_toml(script: &str) -> Result<Self, ScriptError> {
        Script::from_toml(script).map(Self::of)
    }

    /// The same, in YAML.
    ///
    /// # Errors
    /// [`ScriptError`], with the place in the script.
    #[cfg(feature = "yaml")]
    pub fn from_yaml(script: &str) -> Result<Self, ScriptError> {
        Script::from_yaml(script).map(Self::of)
    }

    /// A model that follows the rules of a script in a file: in YAML where its name ends in `.yaml` or `.yml` (feature
    /// `yaml`), else in TOML.
    ///
    /// # Errors
    /// [`ScriptError`], with the file and the place in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ScriptError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| {
            let path = path.display();
            ScriptError(format!(
                "cannot read the script {path}: {e}; give a file with rules for the scripted model"
            ))
        })?;
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        let script = if is_yaml { Self::yaml(&text) } else { Self::from_toml(&text) };
        script.map_err(|e| ScriptError(format!("the script {} is wrong: {e}", path.display())))
    }

    #[cfg(feature = "yaml")]
    fn yaml(text: &str) -> Result<Self, ScriptError> {
        Self::from_yaml(text)
    }

    #[cfg(not(feature = "yaml"))]
    fn yaml(_: &str) -> Result<Self, ScriptError> {
        let why = "this program was built without YAML; write it in TOML, or build with the feature `yaml`";
        Err(ScriptError(why.to_owned()))
    }

    fn of(script: Script) -> Self {
        Self { script: Arc::new(script), used: Arc::default() }
    }

    /// What [`complete`](ModelProvider::complete) streams, whole and at once: for simulations, which have no time of
    /// their own. Pauses are left out, and a stream that would break or fall silent is an error at once.
    ///
    /// # Errors
    /// The fault of the rule that fits.
    ///
    /// # Panics
    /// Where the rule says so (`fault = "panic"`).
    ///
    /// ```
    /// use rap_runtime::ScriptedModel;
    /// use rap_runtime::core::{Entry, History, ModelRequest, UserAuthor, UserEntry};
    /// use rap_types::ContentPart;
    ///
    /// let model = ScriptedModel::from_toml("[[rule]]\nwhen = { user = 'hello' }\ntext = 'Good day.'")?;
    /// let said = UserEntry { author: UserAuthor::Person, content: vec![ContentPart::text("hello")] };
    /// let request = ModelRequest {
    ///     session: "session".parse()?,
    ///     thread: "session".parse()?,
    ///     depth: 0,
    ///     model: None,
    ///     system: "".into(),
    ///     tools: [].into(),
    ///     history: [Entry::User(said).into()].into_iter().collect::<History>(),
    /// };
    /// assert_eq!(model.turn(&request)?.text, "Good day.");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn turn(&self, request: &ModelRequest) -> Result<ModelTurn, ModelError> {
        let mut turn = ModelTurn { model: self.card().id, ..ModelTurn::default() };
        for piece in deltas(self.act(request), request.history.len() as u64) {
            match piece {
                Piece::Delta(delta) | Piece::After(_, delta) => match delta {
                    Delta::Text(text) => turn.text.push_str(&text),
                    Delta::Reasoning(block) => turn.reasoning.push(block),
                    Delta::Call(call) => turn.calls.push(call),
                    Delta::Usage(usage) => turn.usage = usage,
                    Delta::Stop(stop) => turn.stop = stop,
                    Delta::Alive => {}
                },
                Piece::Error(error) => return Err(error),
                Piece::Hang => {
                    return Err(ModelError::passing("the script says that the model falls silent"));
                }
                Piece::Panic => panic!("the script says so"),
            }
        }
        Ok(turn)
    }

    fn act(&self, request: &ModelRequest) -> Act {
        let scene = Scene::of(request);
        let Some((number, rule)) = self.script.rule_for(&scene) else { return words::act(&scene) };
        let mut act = rule.act(&scene);
        if let (Some(_), Some(times)) = (&act.fault, rule.times) {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let used = used.entry((request.thread.clone(), number)).or_default();
            if *used >= times {
                act.fault = None;
            } else {
                *used += 1;
            }
        }
        act
    }
}

impl ModelProvider for ScriptedModel {
    fn card(&self) -> ModelCard {
        ModelCard::new("scripted/demo", "Scripted demo model")
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let act = self.act(request);
        let seen = request.history.len() as u64;
        let deltas = deltas(act, seen);
        futures_util::stream::unfold(deltas.into_iter(), async |mut left| {
            let step = left.next()?;
            let delta = step.take().await;
            Some((delta, left))
        })
        .boxed()
    }
}

/// A step of a stream.
enum Piece {
    Delta(Delta),
    After(Duration, Delta),
    Error(ModelError),
    Panic,
    Hang,
}

impl Piece {
    async fn take(self) -> Result<Delta, ModelError> {
        match self {
            Self::Delta(delta) => Ok(delta),
            Self::After(pause, delta) => {
                tokio::time::sleep(pause).await;
                Ok(delta)
            }
            Self::Error(error) => Err(error),
            Self::Panic => panic!("the script says so"),
            Self::Hang => std::future::pending().await,
        }
    }
}

/// A turn as a stream: the text word by word, over the time it takes; then the calls.
fn deltas(act: Act, seen: u64) -> Vec<Piece> {
    let words: Vec<String> = act.text.split_inclusive(' ').map(str::to_owned).collect();
    let share = |pieces: usize| act.delay / u32::try_from(pieces.max(1)).unwrap_or(u32::MAX);
    let usage = Usage { input: seen, output: (words.len() + act.calls.len()) as u64 };
    let mut pieces: Vec<Piece> = if words.is_empty() && !act.delay.is_zero() {
        vec![Piece::After(act.delay, Delta::Text(String::new()))]
    } else {
        let pause = share(words.len());
        words.into_iter().map(|word| Piece::After(pause, Delta::Text(word))).collect()
    };
    if !act.reasoning.is_empty() {
        let thought = ReasoningBlock { text: act.reasoning.clone(), signature: None };
        pieces.insert(0, Piece::Delta(Delta::Reasoning(thought)));
    }
    let natural = if act.calls.is_empty() { StopReason::End } else { StopReason::Calls };
    let stop = act.stop.unwrap_or(natural);
    let whole = |pieces: &mut Vec<Piece>| {
        pieces.extend(act.calls.iter().cloned().map(|call| Piece::Delta(Delta::Call(call))));
        pieces.push(Piece::Delta(Delta::Usage(usage)));
        pieces.push(Piece::Delta(Delta::Stop(stop)));
    };
    match &act.fault {
        None => whole(&mut pieces),
        Some(Fault::Error) => {
            pieces = vec![Piece::Error(ModelError::fatal("the script says that the model fails"))];
        }
        Some(Fault::Overloaded) => {
            pieces = vec![Piece::Error(ModelError::passing("the script says that the model is overloaded"))];
        }
        Some(Fault::Overflow) => {
            let message = "the script says that the conversation is longer than the model takes";
            pieces = vec![Piece::Error(ModelError::overflow(message))];
        }
        Some(Fault::RetryAfter(wait)) => {
            let message = "the script says that the model wants to be left alone".to_owned();
            pieces = vec![Piece::Error(ModelError::retry_after(message, *wait))];
        }
        Some(Fault::Break) => {
            pieces.truncate(pieces.len().div_ceil(2));
            pieces.push(Piece::Error(ModelError::passing("the script says that the stream breaks")));
        }
        Some(Fault::Panic) => pieces.push(Piece::Panic),
        Some(Fault::Hang) => pieces.push(Piece::Hang),
    }
    pieces
}
