//! Faults of providers: what is waited for, what is tried again, what only a person can mend, and what a key is never
//! part of.

use crate::{
    matrix::{World, until},
    plans::cards,
    serve::{Act, KEY, Provider},
    spoken::Spoken,
};
use futures_util::StreamExt;
use rap_models::{Auth, AwsKeys, HttpModel, Wire};
use rap_runtime::{Delta, ModelError, ModelProvider, Retry, core::Surface};
use serde_json::{Value, json};
use std::time::Duration;

async fn asked(wire: Wire, act: Act) -> Result<Vec<Delta>, ModelError> {
    let (card, known) = cards(wire).remove(0);
    let provider = Provider::new(wire, known, vec![act]).await;
    let model = provider.model(card);
    let request = crate::histories::request(vec![crate::histories::user("hello")], Vec::new());
    let deltas: Vec<Result<Delta, ModelError>> = model.complete(&request).collect().await;
    assert!(provider.seen(|seen| seen.refused.is_empty()));
    deltas.into_iter().collect()
}

fn error(message: &str) -> Value {
    json!({"error": {"message": message}})
}

#[tokio::test]
async fn answers_that_are_no_turn() {
    let seconds = |s| Retry::At(Duration::from_secs(s));
    type Case = (u16, Vec<(&'static str, &'static str)>, Value, Retry, bool, &'static str);
    let cases: Vec<Case> = vec![
        (429, vec![("retry-after", "7")], error("slow down"), seconds(7), false, "less often"),
        (
            529,
            vec![("retry-after-ms", "1500")],
            error("busy"),
            Retry::At(Duration::from_millis(1500)),
            false,
            "overloaded",
        ),
        (
            503,
            vec![("retry-after", "Fri, 31 Dec 2010 23:59:59 GMT")],
            error("busy"),
            seconds(0),
            false,
            "overloaded",
        ),
        (
            429,
            vec![],
            json!({"error": {"status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "34.5s"}]}}),
            Retry::At(Duration::from_millis(34_500)),
            false,
            "less often",
        ),
        (
            429,
            vec![],
            json!({"error": {"code": "insufficient_quota", "message": "no"}}),
            Retry::Never,
            false,
            "billing",
        ),
        (500, vec![], json!("oops"), Retry::Soon, false, "it failed"),
        (502, vec![], Value::Null, Retry::Soon, false, "it failed"),
        (401, vec![], error("bad key sk-very-secret"), Retry::Never, false, "check P_API_KEY"),
        (403, vec![], error("no"), Retry::Never, false, "check P_API_KEY"),
        (404, vec![], error("no such model"), Retry::Never, false, "rap models"),
        (301, vec![("location", "http://127.0.0.1:1/")], Value::Null, Retry::Never, false, "redirects"),
        (
            400,
            vec![],
            error("prompt is too long: 210000 tokens > 200000 maximum"),
            Retry::Never,
            true,
            "longer than",
        ),
        (
            400,
            vec![],
            json!({"error": {"code": "context_length_exceeded", "message": "x"}}),
            Retry::Never,
            true,
            "longer than",
        ),
        (
            400,
            vec![],
            error("The input token count (1) exceeds the maximum number of tokens allowed (0)."),
            Retry::Never,
            true,
            "longer than",
        ),
        (
            400,
            vec![],
            json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid. Please pass a valid API key.",
                "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}}),
            Retry::Never,
            false,
            "check P_API_KEY",
        ),
        (
            400,
            vec![("x-amzn-errortype", "IncompleteSignatureException:http://internal.amazon.com/")],
            json!({"message": "the signature is incomplete"}),
            Retry::Never,
            false,
            "check P_API_KEY",
        ),
        (
            400,
            vec![],
            json!({"__type": "com.amazon.coral.service#ExpiredTokenException", "message": "The security token is expired"}),
            Retry::Never,
            false,
            "check P_API_KEY",
        ),
        (424, vec![], json!({"message": "the model failed"}), Retry::Soon, false, "it failed"),
        (408, vec![], json!({"message": "the model took too long"}), Retry::Soon, false, "asked again"),
        // A key at the end of what is passed on.
        (
            500,
            vec![],
            error(&format!("{}sk-very-secret is wrong", "x".repeat(790 - "openai: it failed".len() - 20))),
            Retry::Soon,
            false,
            "it failed",
        ),
        (413, vec![], Value::Null, Retry::Never, true, "too large"),
        (400, vec![], error("no"), Retry::Never, false, "refuses the request"),
    ];
    for (status, headers, body, retry, overflow, says) in cases {
        let error = asked(Wire::OpenAiChat, Act::Status(status, headers, body)).await.unwrap_err();
        assert_eq!((error.retry, error.overflow), (retry, overflow), "{status}: {error}");
        assert!(error.message.contains(says), "{status}: {error}");
        assert!(!error.message.contains("sk-v"), "{status}: {error}");
    }
}

/// Half a key is a secret too: wherever a provider's words are cut, the key has gone before.
#[tokio::test]
async fn no_part_of_a_key() {
    for length in (540..820).step_by(3) {
        let words = format!("{}sk-very-secret is wrong", "x".repeat(length));
        let told =
            asked(Wire::OpenAiChat, Act::Status(401, vec![], error(&words))).await.unwrap_err().message;
        assert!(!told.contains("sk-"), "{length}: {told}");
        assert!(told.len() < 900, "{length}: {told}");
    }
}

/// The many ways to say that a conversation is too long.
#[tokio::test]
async fn too_long_in_many_words() {
    for words in [
        "Input Tokens Exceeded: Number of input tokens exceeds maximum length",
        "exceeded max context length by 1031 tokens",
        "This model's maximum prompt length is 131072 but the request contains 140000 tokens.",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "Invalid request: Your request exceeded model token limit: 131072",
    ] {
        let error = asked(Wire::OpenAiChat, Act::Status(400, vec![], error(words))).await.unwrap_err();
        assert!(error.overflow, "{error}");
    }
}

/// Whatever comes shows that the model is there, even where nothing can be made of it yet.
#[tokio::test]
async fn every_piece_is_a_sign_of_life() {
    for wire in Wire::ALL {
        let spoken = Spoken::text("Let me see.").call("a", "get_weather", r#"{"city":"Troms\u00f8"}"#);
        let deltas = asked(wire, Act::Drip(spoken, 8)).await.unwrap_or_else(|e| panic!("{wire:?}: {e}"));
        let alive = deltas.iter().filter(|delta| **delta == Delta::Alive).count();
        assert!(alive > 10, "{wire:?}: {alive} of {}", deltas.len());
        assert!(matches!(deltas.last(), Some(Delta::Stop(_))), "{wire:?}");
    }
}

/// A connection that breaks is a failure of the moment; a turn that was whole by then is whole.
#[tokio::test]
async fn broken_connections() {
    for wire in Wire::ALL {
        let spoken = Spoken::text("a rather long text, so that there is something to cut");
        for hundredths in [0, 10, 40, 70] {
            let error = asked(wire, Act::Cut(spoken.clone(), hundredths)).await.unwrap_err();
            assert_eq!(error.retry, Retry::Soon, "{wire:?} at {hundredths} %: {error}");
        }
        let whole = asked(wire, Act::Cut(spoken, 100)).await.unwrap_or_else(|e| panic!("{wire:?}: {e}"));
        assert!(matches!(whole.last(), Some(Delta::Stop(_))), "{wire:?}: {whole:?}");
    }
}

/// Credentials of AWS are shown as a signature over what is sent, and the beta that lets thoughts be dropped is asked for.
#[tokio::test]
async fn who_asks() {
    let request = crate::histories::request(vec![crate::histories::user("hello")], Vec::new());
    let keys = AwsKeys {
        access_key_id: "AKID".to_owned(),
        secret_access_key: "secret".into(),
        session_token: Some("token".into()),
    };
    for (wire, id, auth) in [
        (Wire::Bedrock, "p/m", Auth::Aws(keys, "eu-north-1".to_owned())),
        (Wire::Anthropic, "p/claude-fable-5-2", Auth::Key(KEY.into())),
        (Wire::Anthropic, "p/claude-opus-4-6", Auth::Key(KEY.into())),
    ] {
        let (_, known) = cards(wire).remove(0);
        let provider = Provider::new(wire, known, vec![Act::Say(Spoken::text("hello"))]).await;
        let model = HttpModel::builder(id, wire, provider.base.parse().unwrap()).auth(auth).build();
        let deltas: Vec<_> = model.complete(&request).collect().await;
        assert!(matches!(deltas.last(), Some(Ok(Delta::Stop(_)))), "{id}: {deltas:?}");
    }
}

/// Nobody there, and an address that cannot be.
#[tokio::test]
async fn nobody_there() {
    let (card, _) = cards(Wire::Anthropic).remove(0);
    let request = crate::histories::request(vec![crate::histories::user("hello")], Vec::new());
    let model = rap_models::HttpModel::builder("p/m", Wire::Anthropic, "http://127.0.0.1:9".parse().unwrap())
        .card(card.clone())
        .build();
    let error = model.complete(&request).next().await.unwrap().unwrap_err();
    assert_eq!(error.retry, Retry::Soon, "{error}");
    #[cfg(not(feature = "tls"))]
    {
        let model =
            rap_models::HttpModel::builder("p/m", Wire::Anthropic, "https://127.0.0.1:9".parse().unwrap())
                .card(card)
                .build();
        let error = model.complete(&request).next().await.unwrap().unwrap_err();
        assert_eq!(error.retry, Retry::Never);
        assert!(error.message.contains("built without https"), "{error}");
    }
}

/// In a running agent: a short wait is waited for, a stop for its length is said and kept, a refused key is told with
/// the variable to set, and in no case is the key seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_running_agent() {
    let (card, known) = cards(Wire::OpenAiChat).remove(0);
    let acts = vec![
        Act::Status(429, vec![("retry-after-ms", "20")], error("slow down")),
        Act::Say(Spoken::text("This is too lo").stopped("length")),
        Act::Say(Spoken::text("").stopped("refused")),
        Act::Status(401, vec![], error("bad key sk-very-secret")),
    ];
    let provider = Provider::new(Wire::OpenAiChat, known, acts).await;
    let world = World::new(provider.model(card)).await;
    let (session, mut watch) = world.told("one").await;
    use rap_runtime::AgentHost;
    let seen = until(&mut watch, |what| *what == Surface::Resting).await;
    assert!(
        seen.iter().any(|what| matches!(what, Surface::Text { text, .. } if text.starts_with("This is too lo") && text.contains("output limit"))),
        "{seen:#?}"
    );
    world.runtime.send(&session, "second", "two").await.unwrap();
    let seen = until(&mut watch, |what| *what == Surface::Resting).await;
    assert!(
        seen.iter().any(|what| matches!(what, Surface::Text { text, .. } if text.contains("refused"))),
        "{seen:#?}"
    );
    world.runtime.send(&session, "third", "three").await.unwrap();
    let seen = until(&mut watch, |what| matches!(what, Surface::Error { .. })).await;
    let told = format!("{seen:?}");
    assert!(told.contains("check P_API_KEY") && !told.contains("very-secret"), "{told}");
    assert!(provider.seen(|seen| seen.refused.is_empty()));
    // What the model is told of its own turns.
    let last = provider.seen(|seen| seen.bodies.last().unwrap().to_string());
    assert!(last.contains("output limit") && last.contains("refused"), "{last}");
}

/// A provider that falls silent in the middle of a turn: what it had said is dropped, and the next try begins from the same
/// history. A person who watches sees the text once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stall_in_the_middle() {
    for wire in Wire::ALL {
        let (card, known) = cards(wire).remove(0);
        let spoken = Spoken::text("Here is a rather long text, so that there is something to cut.");
        let provider =
            Provider::new(wire, known, vec![Act::Stall(spoken.clone(), 60), Act::Say(spoken.clone())]).await;
        let model = provider.model(card);
        let world = World::configured(|b| b.model(model).model_idle_limit(Duration::from_millis(100))).await;
        let (session, mut watch) = world.told("one").await;
        let seen = until(&mut watch, |what| *what == Surface::Resting).await;
        let texts: Vec<_> = seen.iter().filter(|what| matches!(what, Surface::Text { .. })).collect();
        assert_eq!(texts.len(), 1, "{wire:?}: {seen:#?}");
        assert_eq!(
            world.history(&session).await,
            ["Person: one".to_owned(), format!("model: {}", spoken.whole_text())]
        );
        provider.seen(|seen| {
            assert_eq!((seen.bodies.len(), seen.refused.len()), (2, 0), "{wire:?}");
            assert_eq!(seen.bodies[0], seen.bodies[1], "{wire:?}: the same history");
        });
    }
}

/// A conversation that is longer than the model takes is summarised by the model, and the model is asked again with the
/// summary in the place of what it stands for; in the words of each provider.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overflow_is_summarised_and_asked_again() {
    for (wire, says) in [
        (
            Wire::Anthropic,
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
        ),
        (
            Wire::OpenAiChat,
            json!({"error": {"code": "context_length_exceeded", "message": "This model's maximum context length is 128000 tokens."}}),
        ),
        (
            Wire::OpenAiResponses,
            json!({"error": {"code": "context_length_exceeded", "message": "Your input exceeds the context window of this model."}}),
        ),
        (
            Wire::Gemini,
            json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."}}),
        ),
        (Wire::Ollama, json!({"error": "the input length exceeds the context length"})),
        (Wire::Bedrock, json!({"message": "Input is too long for requested model."})),
    ] {
        let (card, known) = cards(wire).remove(0);
        let acts = vec![
            Act::Say(Spoken::text("The first answer.")),
            Act::Status(400, vec![], says),
            Act::Say(Spoken::text("They greeted each other.")),
            Act::Say(Spoken::text("The second answer.")),
        ];
        let provider = Provider::new(wire, known, acts).await;
        let world = World::new(provider.model(card)).await;
        let (session, mut watch) = world.told("The first question.").await;
        use rap_runtime::AgentHost;
        until(&mut watch, |what| *what == Surface::Resting).await;
        world.runtime.send(&session, "second", "The second question.").await.unwrap();
        let seen = until(&mut watch, |what| matches!(what, Surface::Resting | Surface::Error { .. })).await;
        let says =
            |what: &Surface| matches!(what, Surface::Text { text, .. } if text == "The second answer.");
        assert!(seen.iter().any(says), "{wire:?}: {seen:#?}");
        let summarised = Surface::Compacted { text: "They greeted each other.".into() };
        assert!(seen.contains(&summarised), "{wire:?}: {seen:#?}");
        provider.seen(|seen| {
            assert_eq!((seen.bodies.len(), &seen.refused[..]), (4, &[][..]), "{wire:?}");
            let last = seen.bodies[3].to_string();
            assert!(
                last.contains("They greeted each other.") && last.contains("The second question."),
                "{last}"
            );
            assert!(!last.contains("The first answer."), "{last}");
        });
    }
}
