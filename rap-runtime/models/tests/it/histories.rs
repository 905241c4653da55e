//! Histories of every kind: as our runtime makes them, and as it never would.

use proptest::{collection::vec, option, prelude::*};
use rap_runtime::core::{
    Entry, EventEntry, ModelRequest, ReasoningBlock, ResultEntry, ToolForModel, TurnCall, TurnEntry,
    TurnPart, UserAuthor, UserEntry,
};
use rap_types::{CallId, ContentPart, UnknownKind};
use serde_json::{Value, json};
use std::sync::Arc;

/// Signatures that the checked provider gave; all others are foreign to it.
pub(crate) const OWN: [&str; 2] = ["own-1", "own-2"];

pub(crate) fn request(history: Vec<Entry>, tools: Vec<ToolForModel>) -> ModelRequest {
    ModelRequest {
        session: "session".parse().unwrap(),
        thread: "session".parse().unwrap(),
        depth: 0,
        model: None,
        system: "You are helpful.".into(),
        tools: tools.into(),
        history: history.into_iter().map(Arc::new).collect(),
    }
}

pub(crate) fn tool(name: &str, schema: Value) -> ToolForModel {
    ToolForModel {
        name: name.to_owned(),
        description: format!("Does {name}."),
        input_schema: schema.as_object().cloned().unwrap_or_default(),
    }
}

pub(crate) fn user(text: &str) -> Entry {
    Entry::User(UserEntry { author: UserAuthor::Person, content: vec![ContentPart::text(text)] })
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("  \n".to_owned()),
        Just("hello \n".to_owned()),
        "[ -~]{1,20}",
        "\\PC{0,12}",
    ]
}

fn content() -> impl Strategy<Value = Vec<ContentPart>> {
    let part = prop_oneof![
        4 => texts().prop_map(ContentPart::text),
        1 => prop_oneof![Just("image/png"), Just("image/gif"), Just("image/tiff"), Just("image/heic")]
            .prop_map(|kind| ContentPart::image(*b"bytes", kind)),
        1 => Just(ContentPart::Other(UnknownKind::new("audio", serde_json::Map::new()).unwrap())),
    ];
    vec(part, 0..4)
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("get_weather".to_owned()),
        Just("acme.tools/get:x".to_owned()),
        Just("9lives".to_owned()),
        Just(String::new()),
        Just("n".repeat(120)),
        Just("receive_event".to_owned()),
        Just("ein näme".to_owned()),
    ]
}

fn arguments() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"city": "Oslo"})),
        Just(json!("{\"city\": ")),
        Just(json!([1, 2])),
        Just(json!(null)),
    ]
}

/// Ids are unique in a history, as ours are; some are no id that a provider takes.
fn id(n: u32, odd: bool) -> CallId {
    let id = if odd { format!("call:{n}/{}", "x".repeat(70)) } else { format!("call{n}abcdefghij") };
    CallId::new(id).unwrap()
}

fn reasoning() -> impl Strategy<Value = Vec<ReasoningBlock>> {
    let signature = prop_oneof![
        Just("p:thinking:own-1".to_owned()),
        Just("p:redacted:own-2".to_owned()),
        Just(r#"p:{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"own-1"}"#.to_owned()),
        Just("other:thinking:foreign".to_owned()),
        Just("nobody's".to_owned()),
    ];
    let block =
        (texts(), option::of(signature)).prop_map(|(text, signature)| ReasoningBlock { text, signature });
    vec(block, 0..3)
}

/// Orders that fit a turn, and orders that do not.
fn order() -> impl Strategy<Value = Vec<TurnPart>> {
    let part =
        prop_oneof![Just(TurnPart::Reasoning), (0..16_usize).prop_map(TurnPart::Text), Just(TurnPart::Call),];
    prop_oneof![1 => Just(Vec::new()), 1 => vec(part, 0..8)]
}

type MadeCall = (String, Value, bool, Option<&'static str>);

fn calls() -> impl Strategy<Value = Vec<MadeCall>> {
    let provider_id =
        option::of(prop_oneof![Just("p:own-1"), Just("other:foreign"), Just("toolu_1"), Just("p:own-2")]);
    vec((names(), arguments(), any::<bool>(), provider_id), 0..4)
}

#[derive(Debug, Clone)]
enum Made {
    User(Vec<ContentPart>),
    Turn(String, Vec<ReasoningBlock>, Vec<MadeCall>, Vec<TurnPart>, bool, u8),
    Event(String, Value, Vec<ContentPart>, bool, bool),
    StrayResult(Vec<ContentPart>),
}

/// Any history at all. What follows a turn with calls is drawn: all results, some, none, doubled, in disorder.
pub(crate) fn any_history() -> impl Strategy<Value = Vec<Entry>> {
    let made = prop_oneof![
        3 => content().prop_map(Made::User),
        5 => (texts(), reasoning(), calls(), order(), any::<bool>(), 0..8_u8)
            .prop_map(|(text, thought, calls, order, cut, fate)| {
                Made::Turn(text, thought, calls, order, cut, fate)
            }),
        2 => (names(), arguments(), content(), any::<bool>(), any::<bool>())
            .prop_map(|(name, args, content, bad, odd)| Made::Event(name, args, content, bad, odd)),
        1 => content().prop_map(Made::StrayResult),
    ];
    vec((made, content()), 0..12).prop_map(|made| {
        let mut n = 0;
        let mut next = |odd: bool| {
            n += 1;
            id(n, odd)
        };
        let mut entries = Vec::new();
        for (made, shown) in made {
            match made {
                Made::User(content) => {
                    entries.push(Entry::User(UserEntry { author: UserAuthor::Person, content }));
                }
                Made::Turn(text, reasoning, calls, order, interrupted, fate) => {
                    let calls: Vec<TurnCall> = calls
                        .into_iter()
                        .map(|(name, arguments, odd, provider_id)| TurnCall {
                            id: next(odd),
                            name,
                            arguments,
                            provider_id: provider_id.map(str::to_owned),
                        })
                        .collect();
                    let result = |call: &TurnCall| ResultEntry {
                        call: call.id.clone(),
                        content: shown.clone(),
                        is_error: fate == 3,
                        placeholder: fate == 4,
                    };
                    let mut results: Vec<ResultEntry> = calls.iter().map(result).collect();
                    match fate {
                        0 => results.clear(),
                        1 => drop(results.pop()),
                        2 => results.extend(results.clone().pop()),
                        5 => results.reverse(),
                        _ => {}
                    }
                    let model = "p/m".to_owned();
                    entries.push(Entry::Turn(TurnEntry {
                        text,
                        reasoning,
                        calls,
                        order,
                        interrupted,
                        model,
                    }));
                    if !results.is_empty() {
                        entries.push(Entry::Results { results });
                    }
                }
                Made::Event(name, arguments, content, is_error, odd) => {
                    let original = next(odd);
                    entries.push(Entry::Event(EventEntry {
                        id: next(false),
                        original_tool_name: name,
                        original_tool_call_id: original,
                        original_args: arguments,
                        content,
                        is_error,
                    }));
                }
                Made::StrayResult(content) => entries.push(Entry::Results {
                    results: vec![ResultEntry {
                        call: next(true),
                        content,
                        is_error: false,
                        placeholder: false,
                    }],
                }),
            }
        }
        entries
    })
}
