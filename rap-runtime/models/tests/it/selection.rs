//! Models by name, with keys and addresses from the environment.

use rap_models::Providers;
use rap_runtime::{ModelProvider, ReasoningPolicy};

fn providers(variables: &[(&str, &str)]) -> Providers {
    Providers::from_vars(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn what_is_missing_is_named() {
    for (variables, id, says) in [
        (&[][..], "anthropic/claude-sonnet-4-5", "set ANTHROPIC_API_KEY"),
        (&[], "openai/gpt-4o", "set OPENAI_API_KEY"),
        (&[("OPENAI_API_KEY", "  ")], "openai/gpt-4o", "set OPENAI_API_KEY"),
        (&[], "gemini/gemini-2.5-flash", "set GEMINI_API_KEY or GOOGLE_API_KEY"),
        (&[], "bedrock/amazon.nova-pro-v1:0", "AWS_BEARER_TOKEN_BEDROCK"),
        (&[("AWS_BEARER_TOKEN_BEDROCK", "x")], "bedrock/amazon.nova-pro-v1:0", "set AWS_REGION"),
        (&[("OPENAI_BASE_URL", "nowhere")], "openai/x", "OPENAI_BASE_URL"),
        (&[], "gpt-4o", "write provider/model"),
        (&[], "openai/", "write provider/model"),
        (&[], "acme/x", "there are anthropic, openai"),
    ] {
        let error = providers(variables).model(id).unwrap_err().to_string();
        assert!(error.contains(says), "{id}: {error}");
    }
}

#[test]
fn what_is_there_can_be_used() {
    let all = providers(&[
        ("ANTHROPIC_API_KEY", "sk-very-secret"),
        ("OPENAI_BASE_URL", "http://10.0.0.7:8000/v1"),
        ("OLLAMA_HOST", "0.0.0.0"),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", "very-secret"),
        ("AWS_REGION", "eu-north-1"),
        ("RAP_MODEL", "ollama/qwen3:8b"),
        ("RAP_CONTEXT_WINDOW", "65_536"),
    ]);
    let configured: Vec<_> = all.configured().into_iter().map(|c| (c.provider, c.variable, c.base)).collect();
    let expected = [
        ("anthropic", "ANTHROPIC_API_KEY", "https://api.anthropic.com/"),
        ("openai", "OPENAI_BASE_URL", "http://10.0.0.7:8000/v1"),
        ("openai-responses", "OPENAI_BASE_URL", "http://10.0.0.7:8000/v1"),
        ("ollama", "OLLAMA_HOST", "http://127.0.0.1:11434/"),
        ("bedrock", "AWS_ACCESS_KEY_ID", "https://bedrock-runtime.eu-north-1.amazonaws.com/"),
    ];
    assert_eq!(configured.iter().map(|c| (c.0, c.1, c.2.as_str())).collect::<Vec<_>>(), expected);
    assert_eq!(all.default_model(), Some("ollama/qwen3:8b"));
    for id in ["openai/my-model", "ollama/qwen3:8b", "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0"] {
        let model = all.model(id).unwrap();
        assert_eq!((model.card().id.as_str(), model.card().context_window), (id, 65_536));
    }
    let shown =
        format!("{all:?} {:?} {:?}", all.model("anthropic/x").unwrap(), all.model("bedrock/x").unwrap());
    assert!(!shown.contains("very-secret"), "{shown}");
}

/// An address to listen on is one to ask at, however it is written; images and limits are as one's own model has them.
#[test]
fn ollama_as_it_is_configured() {
    for (host, base) in [
        (":11500", "http://127.0.0.1:11500/"),
        ("0.0.0.0:11500", "http://127.0.0.1:11500/"),
        ("[::1]", "http://[::1]:11434/"),
        ("[::]:11500", "http://[::1]:11500/"),
        ("::1", "http://[::1]:11434/"),
        ("box", "http://box:11434/"),
        ("https://ollama.example", "https://ollama.example/"),
    ] {
        let configured = providers(&[("OLLAMA_HOST", host)]).configured();
        let found = configured.iter().find(|c| c.provider == "ollama").unwrap();
        assert_eq!(found.base, base, "{host}");
    }
    let card = |images: &str| providers(&[("RAP_IMAGES", images)]).model("ollama/llava").unwrap().card();
    assert!(card("1").images && card("true").images && !card("no").images && !card("perhaps").images);
}

/// One model, whatever region its profile is for; and servers that speak OpenAI's wire in their own way.
#[test]
fn cards_by_name() {
    let all = providers(&[
        ("AWS_BEARER_TOKEN_BEDROCK", "k"),
        ("AWS_REGION", "eu-north-1"),
        ("OPENAI_API_KEY", "k"),
    ]);
    for region in ["", "us.", "eu.", "apac.", "global."] {
        let card = |name: &str| all.model(&format!("bedrock/{region}{name}")).unwrap().card();
        let sonnet = card("anthropic.claude-sonnet-4-5-20250929-v1:0");
        assert_eq!(
            (sonnet.context_window, sonnet.output_limit, sonnet.images),
            (200_000, 64_000, true),
            "{region}"
        );
        let lite = card("amazon.nova-lite-v1:0");
        assert_eq!((lite.context_window, lite.images), (300_000, true), "{region}");
        assert!(!card("amazon.nova-micro-v1:0").images && !card("meta.llama3-3-70b-instruct-v1:0").images);
    }
    assert_eq!(all.model("openai/mistral-large-latest").unwrap().card().call_ids.length, 9);
    let deepseek = providers(&[("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "https://api.deepseek.com")]);
    let policy = |model: &str| deepseek.model(model).unwrap().card().reasoning;
    assert_eq!(policy("openai/deepseek-v4-pro"), ReasoningPolicy::Required);
    assert_eq!(policy("openai/deepseek-chat"), ReasoningPolicy::Dropped);
}

/// How much a model is to think is part of its id, and decides what becomes of its reasoning.
#[test]
fn thinking() {
    let all = providers(&[
        ("ANTHROPIC_API_KEY", "k"),
        ("GEMINI_API_KEY", "k"),
        ("AWS_BEARER_TOKEN_BEDROCK", "k"),
        ("AWS_REGION", "eu-north-1"),
    ]);
    for (id, policy) in [
        ("anthropic/claude-sonnet-4-5", ReasoningPolicy::Dropped),
        ("anthropic/claude-sonnet-4-5+thinking", ReasoningPolicy::Required),
        ("anthropic/claude-opus-4-6+high", ReasoningPolicy::Kept),
        ("anthropic/claude-opus-5-5", ReasoningPolicy::Kept),
        ("bedrock/us.anthropic.claude-opus-4-6-v1+high", ReasoningPolicy::Kept),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0+high", ReasoningPolicy::Required),
        ("bedrock/us.anthropic.claude-opus-5-5+high", ReasoningPolicy::Dropped),
        ("bedrock/us.amazon.nova-2-lite-v1:0+low", ReasoningPolicy::Dropped),
        ("gemini/gemini-3-pro-preview", ReasoningPolicy::Required),
        ("gemini/gemini-2.5-flash", ReasoningPolicy::Kept),
        ("gemini/gemini-2.0-flash", ReasoningPolicy::Dropped),
    ] {
        let card = all.model(id).unwrap().card();
        assert_eq!((card.id.as_str(), card.reasoning), (id, policy));
    }
}
