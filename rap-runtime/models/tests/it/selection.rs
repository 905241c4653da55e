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

/// How much a model is to think is part of its id, and decides what becomes of its reasoning.
#[test]
fn thinking() {
    let all = providers(&[("ANTHROPIC_API_KEY", "k"), ("GEMINI_API_KEY", "k")]);
    for (id, policy) in [
        ("anthropic/claude-sonnet-4-5", ReasoningPolicy::Dropped),
        ("anthropic/claude-sonnet-4-5+thinking", ReasoningPolicy::Required),
        ("anthropic/claude-opus-4-6+high", ReasoningPolicy::Kept),
        ("gemini/gemini-3-pro-preview", ReasoningPolicy::Required),
        ("gemini/gemini-2.5-flash", ReasoningPolicy::Kept),
        ("gemini/gemini-2.0-flash", ReasoningPolicy::Dropped),
    ] {
        let card = all.model(id).unwrap().card();
        assert_eq!((card.id.as_str(), card.reasoning), (id, policy));
    }
}
