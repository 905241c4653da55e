//! Any history, to any provider: what goes out is accepted by a strict checker of that provider (P3, RES-04, RES-10,
//! RES-11, SUB-14, TLS-14).

use crate::{
    histories::{self, OWN, request, tool, user},
    strict::{Known, check},
};
use proptest::prelude::*;
use rap_models::{ChatDialect, Effort, Plan, Wire, card, wire::Target};
use rap_runtime::{
    IdAlphabet, ModelCard, ReasoningPolicy,
    core::{Entry, EventEntry, ModelRequest, ReasoningBlock, ResultEntry, TurnCall, TurnEntry, TurnPart},
};
use rap_types::ContentPart;
use serde_json::{Value, json};

/// The cards that a wire is used with, and what its strict side asks under each.
pub(crate) fn cards(wire: Wire) -> Vec<(ModelCard, Known)> {
    let model = match wire {
        Wire::Gemini => "p/gemini-2.0-flash",
        Wire::OpenAiResponses => "p/gpt-4.1",
        _ => "p/m",
    };
    let mut plain = card(model, wire);
    plain.id = "p/m".to_owned();
    let known = |signed_calls, takes_reasoning| Known {
        signatures: OWN.iter().map(ToString::to_string).collect(),
        signed_calls,
        takes_reasoning,
        ..Known::default()
    };
    let mut cards = vec![
        (plain.clone().images(false).reasoning(ReasoningPolicy::Dropped), known(false, false)),
        (plain.clone().images(true).reasoning(ReasoningPolicy::Dropped), known(false, false)),
    ];
    if matches!(wire, Wire::Anthropic | Wire::Bedrock | Wire::Gemini | Wire::OpenAiResponses) {
        cards.push((plain.clone().images(true).reasoning(ReasoningPolicy::Kept), known(false, true)));
    }
    if matches!(wire, Wire::Anthropic | Wire::Bedrock | Wire::Gemini) {
        cards.push((plain.clone().images(true).reasoning(ReasoningPolicy::Required), known(true, true)));
    }
    let dialects: &[ChatDialect] = match wire {
        Wire::OpenAiChat => &[ChatDialect::Mistral, ChatDialect::ReasoningBack],
        _ => &[ChatDialect::Mistral],
    };
    for dialect in dialects {
        let back = *dialect == ChatDialect::ReasoningBack;
        // Elsewhere than on the chat wire, only ids as short as Mistral's.
        let card = match wire {
            Wire::OpenAiChat => dialect.fit(plain.clone()),
            _ => plain.clone().call_ids(9, IdAlphabet::Alphanumeric),
        };
        cards.push((card, Known { dialect: *dialect, ..known(back, back) }));
    }
    cards
}

/// The dialect that a card of the chat wire is for.
pub(crate) fn dialect(wire: Wire, card: &ModelCard) -> ChatDialect {
    match wire {
        Wire::OpenAiChat if card.reasoning == ReasoningPolicy::Required => ChatDialect::ReasoningBack,
        Wire::OpenAiChat if card.call_ids.alphabet == IdAlphabet::Alphanumeric => ChatDialect::Mistral,
        _ => ChatDialect::default(),
    }
}

fn body(wire: Wire, request: &ModelRequest, card: &ModelCard) -> Value {
    let effort = (card.reasoning != ReasoningPolicy::Dropped).then_some(Effort::Medium);
    let dialect = dialect(wire, card);
    wire.body(&Plan::new(request, card, wire), Target { effort, dialect, ..Target::new("m", card) })
}

fn tools() -> Vec<rap_runtime::core::ToolForModel> {
    vec![
        tool("get_weather", json!({"type": "object", "properties": {"city": {"type": "string"}}})),
        tool(&"n".repeat(120), json!({"type": "object"})),
        tool(&format!("{}x", "n".repeat(120)), json!({})),
    ]
}

/// Signatures of the property's histories are of two spellings; a wire reads one of them.
fn fitting(wire: Wire, history: Vec<Entry>) -> Vec<Entry> {
    let fits = |block: &ReasoningBlock| match &block.signature {
        Some(signature) if signature.starts_with("p:") => match wire {
            Wire::OpenAiResponses => signature.starts_with("p:{"),
            Wire::Gemini => false,
            _ => !signature.starts_with("p:{"),
        },
        _ => true,
    };
    history
        .into_iter()
        .map(|entry| match entry {
            Entry::Turn(mut turn) => {
                turn.reasoning.retain(fits);
                Entry::Turn(turn)
            }
            other => other,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_strict_provider_takes_any_history(history in histories::any_history(), with_tools in any::<bool>()) {
        for wire in Wire::ALL {
            for (card, known) in cards(wire) {
                let tools = if with_tools { tools() } else { Vec::new() };
                let request = request(fitting(wire, history.clone()), tools);
                let body = body(wire, &request, &card);
                if let Err(why) = check(wire, &body, &known) {
                    panic!("{wire:?} with {:?} refuses: {why}\n{body:#}", card.reasoning);
                }
            }
        }
    }
}

/// Every prefix of a history with everything in it is accepted (P3).
#[test]
fn any_prefix() {
    let history = everything();
    for wire in Wire::ALL {
        for (card, known) in cards(wire) {
            for upto in 0..=history.len() {
                let request = request(fitting(wire, history[..upto].to_vec()), tools());
                let body = body(wire, &request, &card);
                check(wire, &body, &known)
                    .unwrap_or_else(|why| panic!("{wire:?}, {upto} entries: {why}\n{body:#}"));
            }
        }
    }
}

/// What goes out for each prefix of a history with everything in it, thoughts between calls included.
pub(crate) fn bodies_of_everything(wire: Wire, card: &ModelCard) -> Vec<Value> {
    let signature = |n: u8| match wire {
        Wire::OpenAiResponses => {
            format!(r#"p:{{"type":"reasoning","id":"rs_{n}","summary":[],"encrypted_content":"own-{n}"}}"#)
        }
        Wire::Gemini => format!("p:b3du{n}AA="),
        _ => format!("p:thinking:own-{n}"),
    };
    let mut history = everything();
    if let Entry::Turn(turn) = &mut history[1] {
        let block = |n, text: &str| ReasoningBlock { text: text.to_owned(), signature: Some(signature(n)) };
        turn.reasoning = vec![block(1, "hm"), block(2, "and there?")];
        turn.order = vec![
            TurnPart::Reasoning,
            TurnPart::Text(12),
            TurnPart::Call,
            TurnPart::Reasoning,
            TurnPart::Call,
        ];
        for (n, call) in (3..).zip(&mut turn.calls) {
            call.provider_id = (wire == Wire::Gemini).then(|| signature(n));
        }
    }
    let bodies =
        (1..=history.len()).map(|upto| body(wire, &request(history[..upto].to_vec(), tools()), card));
    bodies.collect()
}

fn call(id: &str, name: &str) -> TurnCall {
    TurnCall {
        id: id.parse().unwrap(),
        name: name.into(),
        arguments: json!({"city": "Oslo"}),
        provider_id: None,
    }
}

fn result(id: &str, text: &str) -> ResultEntry {
    let content = vec![ContentPart::text(text)];
    ResultEntry { call: id.parse().unwrap(), content, is_error: false, placeholder: false }
}

fn event(id: &str) -> Entry {
    Entry::Event(EventEntry {
        id: id.parse().unwrap(),
        original_tool_name: "watch_sky".into(),
        original_tool_call_id: "b".parse().unwrap(),
        original_args: json!({"where": "north"}),
        content: vec![ContentPart::text("a comet")],
        is_error: false,
    })
}

fn turn(text: &str, calls: Vec<TurnCall>) -> TurnEntry {
    TurnEntry {
        text: text.into(),
        reasoning: Vec::new(),
        calls,
        order: Vec::new(),
        interrupted: false,
        model: "p/m".into(),
    }
}

fn everything() -> Vec<Entry> {
    vec![
        user("hello"),
        Entry::Turn(TurnEntry {
            reasoning: vec![ReasoningBlock { text: "hm".into(), signature: Some("p:thinking:own-1".into()) }],
            ..turn("Let me see.", vec![call("a", "get_weather"), call("b", "watch_sky")])
        }),
        Entry::Results {
            results: vec![
                result("a", "rain"),
                ResultEntry {
                    content: vec![ContentPart::text("see"), ContentPart::image(*b"x", "image/png")],
                    ..result("b", "")
                },
            ],
        },
        Entry::Turn(turn("It rains.", vec![])),
        event("e1"),
        event("e2"),
        Entry::Turn(TurnEntry { interrupted: true, ..turn("A com", vec![]) }),
        user("stop that"),
        user("at once"),
        Entry::Turn(turn("", vec![call("c", "get_weather")])),
        Entry::Results { results: vec![ResultEntry { is_error: true, ..result("c", "Error: no") }] },
    ]
}

/// SUB-14: an event is a call of `receive_event` where a provider takes one without a signature, and words of the
/// user's side where it does not. Anthropic with thinking, Gemini 3.
#[test]
fn events_in_the_form_that_is_taken() {
    let history = vec![user("hello"), Entry::Turn(turn("Hello.", vec![])), event("e1")];
    for wire in Wire::ALL {
        for (card, _) in cards(wire) {
            let body = body(wire, &request(history.clone(), tools()), &card).to_string();
            let told = body.contains("[an event, which you did not ask for now");
            assert_eq!(told, card.reasoning == ReasoningPolicy::Required, "{wire:?} {:?}", card.reasoning);
            assert_eq!(body.contains("receive_event"), !told, "{wire:?}: {body}");
            assert!(body.contains("a comet") && body.contains("watch_sky"), "{body}");
        }
    }
}

/// Switched in mid-conversation: a turn of another model keeps its calls where that is allowed, its reasoning never.
#[test]
fn reasoning_goes_back_to_its_maker_only() {
    let mut foreign = everything();
    if let Entry::Turn(turn) = &mut foreign[1] {
        turn.reasoning[0].signature = Some("other:thinking:foreign".into());
    }
    for wire in Wire::ALL {
        for (card, known) in cards(wire) {
            let body = body(wire, &request(foreign.clone(), tools()), &card);
            check(wire, &body, &known).unwrap();
            assert!(!body.to_string().contains("foreign"), "{wire:?}: {body:#}");
        }
    }
}

/// What one model has signed is not sent to another of the same provider; how much it is to think makes it no other.
#[test]
fn signatures_are_the_models_own() {
    for wire in Wire::ALL {
        for (card, known) in cards(wire).into_iter().filter(|(_, known)| known.takes_reasoning) {
            for (maker, own) in [("p/m", true), ("p/m+high", true), ("p/n", false), ("q/m", false)] {
                let mut history = everything();
                let signature = match wire {
                    Wire::OpenAiResponses => {
                        r#"p:{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"own-1"}"#
                    }
                    Wire::Gemini => "p:own-1",
                    _ => "p:thinking:own-1",
                };
                let Entry::Turn(turn) = &mut history[1] else { unreachable!() };
                turn.model = maker.to_owned();
                turn.reasoning[0].signature = Some(signature.to_owned());
                turn.calls[0].provider_id = (wire == Wire::Gemini).then(|| signature.to_owned());
                let body = body(wire, &request(history, tools()), &card);
                check(wire, &body, &known).unwrap_or_else(|why| panic!("{wire:?} {maker}: {why}\n{body:#}"));
                let sent = if wire == Wire::OpenAiChat { "reasoning_content" } else { "own-1" };
                assert_eq!(body.to_string().contains(sent), own, "{wire:?} {maker}: {body:#}");
            }
        }
    }
}

/// What each family of models is told on how much to think, and where a limit that was asked for goes.
#[test]
fn what_families_are_told() {
    let request = request(vec![user("hello")], tools());
    let told = |wire: Wire, model: &str, effort: Option<Effort>, limited: bool, limit: Option<u64>| {
        let providers = rap_models::Providers::from_vars(
            ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_REGION"]
                .map(|name| (name.to_owned(), "x".to_owned())),
        );
        let provider = match wire {
            Wire::Anthropic => "anthropic",
            Wire::OpenAiChat => "openai",
            Wire::OpenAiResponses => "openai-responses",
            Wire::Bedrock => "bedrock",
            Wire::Ollama => "ollama",
            Wire::Gemini => unreachable!(),
        };
        let suffix = effort.map_or("", |_| "+low");
        let model_ = providers.model(&format!("{provider}/{model}{suffix}")).unwrap();
        let mut card = rap_runtime::ModelProvider::card(&model_);
        card.output_limit = limit.unwrap_or(card.output_limit);
        let target = Target { effort, limited, ..Target::new(model, &card) };
        wire.body(&Plan::new(&request, &card, wire), target)
    };
    let low = Some(Effort::Low);
    let adaptive = json!({"type": "adaptive"});
    let bound = json!({"type": "adaptive", "block_binding": {"prefix_mismatch_behavior": "drop_block"}});
    let budget = json!({"type": "enabled", "budget_tokens": 2_048});
    for (model, effort, thinking, words) in [
        ("claude-sonnet-4-5", None, Value::Null, Value::Null),
        ("claude-sonnet-4-5-20250929", low, budget.clone(), Value::Null),
        ("claude-3-7-sonnet-20250219", low, budget.clone(), Value::Null),
        ("claude-opus-4-20250514", low, budget.clone(), Value::Null),
        ("claude-opus-4-6", low, adaptive.clone(), json!({"effort": "low"})),
        ("claude-opus-5", None, adaptive.clone(), Value::Null),
        ("claude-haiku-5-5", low, adaptive.clone(), json!({"effort": "low"})),
        ("claude-fable-5-2", None, bound.clone(), Value::Null),
        ("claude-sonnet-5-5", low, bound.clone(), json!({"effort": "low"})),
    ] {
        let body = told(Wire::Anthropic, model, effort, false, None);
        assert_eq!((&body["thinking"], &body["output_config"]), (&thinking, &words), "{model}");
    }
    // A budget is always less than the turn's tokens, or there is none.
    let tight = told(Wire::Anthropic, "claude-sonnet-4-5", low, true, Some(2_500));
    assert_eq!((&tight["thinking"]["budget_tokens"], &tight["max_tokens"]), (&json!(1_476), &json!(2_500)));
    assert_eq!(told(Wire::Anthropic, "claude-sonnet-4-5", low, true, Some(1_500))["thinking"], Value::Null);

    for (model, fields) in [
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", json!({ "thinking": budget })),
        ("anthropic.claude-opus-4-6-v1", json!({"thinking": adaptive, "output_config": {"effort": "low"}})),
        ("us.anthropic.claude-opus-5-5", json!({"thinking": adaptive, "output_config": {"effort": "low"}})),
        (
            "us.amazon.nova-2-lite-v1:0",
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
        ),
        ("amazon.nova-pro-v1:0", Value::Null),
        ("meta.llama3-3-70b-instruct-v1:0", Value::Null),
    ] {
        let body = told(Wire::Bedrock, model, low, false, None);
        assert_eq!(body["additionalModelRequestFields"], fields, "{model}");
        let caches = body.to_string().contains("cachePoint");
        assert_eq!(caches, !model.contains("llama"), "{model}");
    }
    for model in ["anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-5-sonnet-20240620-v1:0"] {
        assert!(!told(Wire::Bedrock, model, None, false, None).to_string().contains("cachePoint"), "{model}");
    }

    let chat = |model, effort| told(Wire::OpenAiChat, model, effort, true, Some(500));
    assert_eq!(chat("gpt-6-luna", low)["reasoning_effort"], "none");
    assert_eq!(chat("gpt-5.6-sol", low)["reasoning_effort"], "low");
    assert_eq!(
        (&chat("gpt-5.6-sol", None)["max_completion_tokens"], &chat("qwen", None)["max_tokens"]),
        (&json!(500), &json!(500))
    );
    assert_eq!(told(Wire::OpenAiResponses, "gpt-6-astra", low, true, Some(500))["max_output_tokens"], 500);
    assert_eq!(told(Wire::OpenAiResponses, "gpt-6-astra", low, false, None)["reasoning"]["effort"], "low");
    let local = told(Wire::Ollama, "gpt-oss:20b", low, true, Some(500));
    assert_eq!((&local["think"], &local["options"]["num_predict"]), (&json!("low"), &json!(500)));
    assert_eq!(told(Wire::Ollama, "qwen3", low, false, None)["think"], true);
}

/// What goes out for one history, spelled out for each wire: a change here is a change of what providers see.
#[test]
fn anthropic_spelled_out() {
    let (card, _) = cards(Wire::Anthropic).remove(3);
    let body = body(Wire::Anthropic, &request(everything()[..5].to_vec(), tools()), &card);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "own-1"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "b", "name": "watch_sky", "input": {"city": "Oslo"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "rain"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}},
                ], "cache_control": {"type": "ephemeral"}},
            ]},
            {"role": "assistant", "content": [{"type": "text", "text": "It rains."}]},
            {"role": "user", "content": [
                {"type": "text", "text": "[an event, which you did not ask for now: it comes from your call b of watch_sky {\"where\":\"north\"}]"},
                {"type": "text", "text": "a comet", "cache_control": {"type": "ephemeral"}},
            ]},
        ])
    );
    let tools = body["tools"].as_array().unwrap();
    assert_eq!(tools.last().unwrap()["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(body["system"][0]["cache_control"], json!({"type": "ephemeral"}));
}

/// TLS-14: names and ids that a provider does not take are aliased, the same each time, and undone in its calls.
#[test]
fn aliases_are_undone() {
    let long = "n".repeat(120);
    let mut history = everything();
    history.push(event("e3"));
    if let Some(Entry::Event(event)) = history.last_mut() {
        event.original_tool_call_id = "an id/of another: kind".parse().unwrap();
    }
    let (card, _) = cards(Wire::OpenAiChat).remove(0);
    let plan = Plan::new(&request(history.clone(), tools()), &card, Wire::OpenAiChat);
    let alias = plan.names.name(&long);
    assert!(alias.len() <= 64 && alias != plan.names.name(&format!("{long}x")), "{alias}");
    assert_eq!(plan.names.own_name(alias), long);
    let nine = card.call_ids(9, IdAlphabet::Alphanumeric);
    let plan = Plan::new(&request(history, tools()), &nine, Wire::OpenAiChat);
    let id = plan.names.id("an id/of another: kind");
    assert_eq!(id.len(), 9);
    assert_eq!(
        plan.names.own_arguments(json!({"tool_call_id": id, "other": [id]})),
        json!({"tool_call_id": "an id/of another: kind", "other": ["an id/of another: kind"]})
    );
}
