//! Which models there are: `provider/model`, with keys and base URLs from the environment.

use crate::{
    auth::{Auth, AwsKeys},
    catalog,
    model::HttpModel,
    wire::{ChatDialect, Effort, Wire},
};
use rap_http::Secret;
use rap_runtime::ModelCard;
use rap_types::HttpUrl;
use std::{collections::HashMap, fmt};

/// A provider that is known by name.
struct Provider {
    name: &'static str,
    wire: Wire,
    /// Any of these holds the key.
    keys: &'static [&'static str],
    base_variable: &'static str,
    base: &'static str,
}

const PROVIDERS: [Provider; 6] = [
    Provider {
        name: "anthropic",
        wire: Wire::Anthropic,
        keys: &["ANTHROPIC_API_KEY"],
        base_variable: "ANTHROPIC_BASE_URL",
        base: "https://api.anthropic.com",
    },
    Provider {
        name: "openai",
        wire: Wire::OpenAiChat,
        keys: &["OPENAI_API_KEY"],
        base_variable: "OPENAI_BASE_URL",
        base: "https://api.openai.com/v1",
    },
    Provider {
        name: "openai-responses",
        wire: Wire::OpenAiResponses,
        keys: &["OPENAI_API_KEY"],
        base_variable: "OPENAI_BASE_URL",
        base: "https://api.openai.com/v1",
    },
    Provider {
        name: "gemini",
        wire: Wire::Gemini,
        keys: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        base_variable: "GEMINI_BASE_URL",
        base: "https://generativelanguage.googleapis.com",
    },
    Provider {
        name: "ollama",
        wire: Wire::Ollama,
        keys: &["OLLAMA_API_KEY"],
        base_variable: "OLLAMA_HOST",
        base: "http://127.0.0.1:11434",
    },
    Provider {
        name: "bedrock",
        wire: Wire::Bedrock,
        keys: &["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID"],
        base_variable: "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
        base: "",
    },
];

/// Other variables that are read.
const OTHERS: [&str; 8] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "RAP_MODEL",
    "RAP_CONTEXT_WINDOW",
    "RAP_OUTPUT_LIMIT",
    "RAP_IMAGES",
];

/// The providers that the environment configures.
#[derive(Clone, Default)]
pub struct Providers {
    variables: HashMap<String, String>,
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.variables.keys().collect();
        names.sort_unstable();
        f.debug_struct("Providers").field("variables", &names).finish_non_exhaustive()
    }
}

/// A provider that can be used, and models of it that are known. Others of it can be used as well.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Configured {
    /// Its name: what stands before the slash.
    pub provider: &'static str,
    /// What configures it: an environment variable.
    pub variable: &'static str,
    /// Where it is, without secrets.
    pub base: String,
    /// Models of it.
    pub models: Vec<ModelCard>,
}

/// Why a model cannot be used: a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectError(String);

impl fmt::Display for SelectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SelectError {}

impl Providers {
    /// As the environment of this process says.
    pub fn from_env() -> Self {
        let names = PROVIDERS.iter().flat_map(|p| p.keys.iter().copied().chain([p.base_variable]));
        Self::from_vars(
            names.chain(OTHERS).filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))),
        )
    }

    /// As these variables say.
    pub fn from_vars(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = variables.into_iter().filter(|(_, value)| !value.trim().is_empty());
        Self { variables: set.map(|(name, value)| (name, value.trim().to_owned())).collect() }
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The model that `RAP_MODEL` names.
    pub fn default_model(&self) -> Option<&str> {
        self.var("RAP_MODEL")
    }

    /// The names of all providers.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROVIDERS.iter().map(|provider| provider.name)
    }

    /// The providers that can be used as things are.
    pub fn configured(&self) -> Vec<Configured> {
        let usable = PROVIDERS.iter().filter_map(|provider| {
            let by_key = provider.keys.iter().copied().find(|key| self.var(key).is_some());
            let by_base = Some(provider.base_variable)
                .filter(|name| self.var(name).is_some() && provider.wire != Wire::Bedrock);
            let variable = by_key.or(by_base)?;
            let base = self.base(provider).ok()?;
            let ids = catalog::listed(provider.wire).map(|model| format!("{}/{model}", provider.name));
            let models = ids.map(|id| self.card(&id, provider.wire)).collect();
            Some(Configured { provider: provider.name, variable, base: base.redacted(), models })
        });
        usable.collect()
    }

    /// A model by its id, `provider/model`. `+low`, `+medium`, `+high` or `+thinking` at its end say how much it
    /// is to think.
    ///
    /// # Errors
    /// When there is no such provider, or its key is missing: the error names the variable to set.
    pub fn model(&self, id: &str) -> Result<HttpModel, SelectError> {
        let wrong = |why: String| Err(SelectError(why));
        let names: Vec<&str> = Self::names().collect();
        let names = names.join(", ");
        let Some((name, rest)) = id.split_once('/').filter(|(_, rest)| !rest.is_empty()) else {
            return wrong(format!("{id:?} is no model; write provider/model, with one of {names}"));
        };
        let Some(provider) = PROVIDERS.iter().find(|provider| provider.name == name) else {
            return wrong(format!("there is no provider {name:?}; there are {names}"));
        };
        let (model, effort) = match rest.rsplit_once('+') {
            Some((model, "low")) => (model, Some(Effort::Low)),
            Some((model, "medium" | "thinking")) => (model, Some(Effort::Medium)),
            Some((model, "high")) => (model, Some(Effort::High)),
            _ => (rest, None),
        };
        let auth = self.auth(provider)?;
        let base = self.base(provider)?;
        let mut card = self.card(&format!("{name}/{model}"), provider.wire);
        if provider.wire == Wire::OpenAiChat {
            card = ChatDialect::of(model, &base).fit(card);
        }
        if effort.is_some() {
            card = catalog::thinking(card, provider.wire);
        }
        id.clone_into(&mut card.id);
        let builder = HttpModel::builder(id, provider.wire, base)
            .model_name(model)
            .card(card)
            .auth(auth)
            .effort(effort)
            .limited(self.var("RAP_OUTPUT_LIMIT").is_some())
            .key_variable(self.key_variable(provider));
        Ok(builder.build())
    }

    fn card(&self, id: &str, wire: Wire) -> ModelCard {
        let card = catalog::card(id, wire);
        let number = |name: &str| self.var(name).and_then(|text| text.replace('_', "").parse().ok());
        let window = number("RAP_CONTEXT_WINDOW").unwrap_or(card.context_window);
        let output = number("RAP_OUTPUT_LIMIT").unwrap_or(card.output_limit);
        let images = match self.var("RAP_IMAGES").map(str::to_ascii_lowercase).as_deref() {
            Some("1" | "true" | "yes" | "on") => true,
            Some("0" | "false" | "no" | "off") => false,
            _ => card.images,
        };
        card.limits(window, output).images(images)
    }

    fn key_variable(&self, provider: &Provider) -> String {
        let set = provider.keys.iter().find(|key| self.var(key).is_some());
        if provider.wire == Wire::Bedrock && set != provider.keys.first() {
            return "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN".to_owned();
        }
        set.or(provider.keys.first()).map_or_else(String::new, |key| (*key).to_owned())
    }

    fn auth(&self, provider: &Provider) -> Result<Auth, SelectError> {
        if provider.wire == Wire::Bedrock {
            return self.aws();
        }
        if let Some(key) = provider.keys.iter().find_map(|key| self.var(key)) {
            return Ok(Auth::Key(Secret::new(key)));
        }
        // A server of one's own may ask nothing.
        if provider.wire == Wire::Ollama || self.var(provider.base_variable).is_some() {
            return Ok(Auth::Nobody);
        }
        let keys = provider.keys.join(" or ");
        Err(SelectError(format!("{} needs a key: set {keys}", provider.name)))
    }

    fn aws(&self) -> Result<Auth, SelectError> {
        if let Some(token) = self.var("AWS_BEARER_TOKEN_BEDROCK") {
            return Ok(Auth::Key(Secret::new(token)));
        }
        let (Some(id), Some(key)) = (self.var("AWS_ACCESS_KEY_ID"), self.var("AWS_SECRET_ACCESS_KEY")) else {
            let why = "bedrock needs credentials: set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and \
                       AWS_SECRET_ACCESS_KEY (profiles and roles are not read)";
            return Err(SelectError(why.to_owned()));
        };
        let keys = AwsKeys {
            access_key_id: id.to_owned(),
            secret_access_key: Secret::new(key),
            session_token: self.var("AWS_SESSION_TOKEN").map(Secret::new),
        };
        Ok(Auth::Aws(keys, self.region()?.to_owned()))
    }

    fn region(&self) -> Result<&str, SelectError> {
        self.var("AWS_REGION")
            .or_else(|| self.var("AWS_DEFAULT_REGION"))
            .ok_or_else(|| SelectError("bedrock needs a region: set AWS_REGION".to_owned()))
    }

    fn base(&self, provider: &Provider) -> Result<HttpUrl, SelectError> {
        let text = match self.var(provider.base_variable) {
            // `OLLAMA_HOST` is often written without a scheme, and then is the address to listen on.
            Some(host) if provider.wire == Wire::Ollama && !host.contains("://") => ollama(host),
            Some(base) => base.to_owned(),
            None if provider.wire == Wire::Bedrock => {
                format!("https://bedrock-runtime.{}.amazonaws.com", self.region()?)
            }
            None => provider.base.to_owned(),
        };
        HttpUrl::new(text).map_err(|e| SelectError(format!("{} is no URL: {e}", provider.base_variable)))
    }
}

/// The URL of Ollama at an address to listen on: a port, a name, an address of either kind, one with a port.
fn ollama(listens: &str) -> String {
    let (host, port) = match listens.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, port),
        _ => (listens, "11434"),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare {
        "" | "0.0.0.0" => format!("http://127.0.0.1:{port}"),
        "::" => format!("http://[::1]:{port}"),
        bare if bare.contains(':') => format!("http://[{bare}]:{port}"),
        bare => format!("http://{bare}:{port}"),
    }
}
