//! What holds for every value, and for every document near a message.

use super::vectors::{Schemas, round_trip};
use proptest::{collection::vec, option, prelude::*};
use rap_spec::VECTORS;
use rap_types::{
    Annotations, CallId, CallbackMessage, CancelToolCall, ChoiceResponse, CloseThread, ContentPart,
    DisplaySegment, EventId, HttpUrl, ImageContent, Invocation, Message, Migrate, OAuth, ProviderCallId,
    SubscriptionEvent, ThreadId, Tool, ToolCallAlive, ToolCallStatus, ToolName, ToolResult, Toolset,
    UnknownKind, UserChoice, UserId, ViewUpdate, parse,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{fmt::Debug, sync::LazyLock};

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::new);

fn short(limit: usize) -> impl Strategy<Value = String> {
    vec(any::<char>(), 1..limit).prop_map(|chars| chars.into_iter().collect())
}

fn thread() -> impl Strategy<Value = ThreadId> {
    short(60).prop_map(|s| ThreadId::new(s).expect("an id"))
}

fn call() -> impl Strategy<Value = CallId> {
    short(60).prop_map(|s| CallId::new(s).expect("an id"))
}

fn provider() -> impl Strategy<Value = Option<ProviderCallId>> {
    option::of(
        vec(any::<char>(), 0..60)
            .prop_map(|chars| ProviderCallId::new(chars.into_iter().collect::<String>()).expect("an id")),
    )
}

fn url() -> impl Strategy<Value = HttpUrl> {
    let hosts =
        prop_oneof![Just("127.0.0.1:3000"), Just("[::1]"), Just("example.com"), Just("bücher.example")];
    let tail =
        short(20).prop_map(|s| s.replace(|c: char| c.is_whitespace() || c.is_control() || c == '\\', ""));
    (any::<bool>(), hosts, tail).prop_map(|(tls, host, tail)| {
        let scheme = if tls { "https" } else { "http" };
        HttpUrl::new(format!("{scheme}://{host}/{tail}")).expect("a URL")
    })
}

/// JSON without the floats that lose digits in print: equality is what is judged.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any::<String>(), inner), 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    vec((any::<String>(), json_value()), 0..4).prop_map(|members| members.into_iter().collect())
}

fn unknown<Of: 'static>() -> impl Strategy<Value = UnknownKind<Of>> {
    (short(10), object())
        .prop_filter_map("a known kind", |(kind, members)| UnknownKind::new(kind, members).ok())
}

fn part() -> impl Strategy<Value = ContentPart> {
    prop_oneof![
        any::<String>().prop_map(ContentPart::text),
        (vec(any::<u8>(), 0..50), any::<String>()).prop_map(|(data, kind)| ContentPart::image(data, kind)),
        unknown().prop_map(ContentPart::Other),
    ]
}

fn segment() -> impl Strategy<Value = DisplaySegment> {
    prop_oneof![
        any::<String>().prop_map(DisplaySegment::Text),
        (any::<String>(), any::<String>()).prop_map(|(path, patch)| DisplaySegment::Diff { path, patch }),
        (vec(any::<u8>(), 0..50), any::<String>())
            .prop_map(|(data, kind)| DisplaySegment::Image(ImageContent::new(data, kind))),
        unknown().prop_map(DisplaySegment::Other),
    ]
}

fn result() -> impl Strategy<Value = CallbackMessage> {
    let outcome = (option::of(any::<String>()), option::of(vec(part(), 0..4)), option::of(any::<bool>()));
    (thread(), call(), provider(), outcome, vec(segment(), 0..3), any::<bool>()).prop_map(
        |(thread, call, provider, (text, content, is_error), display, subscription)| {
            let mut message = match (content, text) {
                (Some(content), None) => ToolResult::content(thread, call, content),
                (Some(content), Some(text)) => ToolResult::content(thread, call, content).with_text(text),
                (None, text) => ToolResult::text(thread, call, text.unwrap_or_default()),
            };
            message.is_error = is_error;
            message = message.with_call_id(provider).with_display(display);
            CallbackMessage::ToolResult(if subscription { message.with_subscription() } else { message })
        },
    )
}

fn callback() -> impl Strategy<Value = CallbackMessage> {
    let event_id = option::of(short(60).prop_map(|s| EventId::new(s).expect("an id")));
    let event = (thread(), call(), any::<String>(), any::<bool>(), any::<bool>(), event_id).prop_map(
        |(thread, call, text, associative, last, event_id)| {
            let mut event = SubscriptionEvent::new(thread, call, text).associative(associative).last(last);
            event.event_id = event_id;
            CallbackMessage::SubscriptionEvent(event)
        },
    );
    let oauth =
        (thread(), call(), url(), provider()).prop_filter_map("https", |(thread, call, url, provider)| {
            Some(CallbackMessage::OAuth(OAuth::new(thread, call, url).ok()?.with_call_id(provider)))
        });
    let choice = (thread(), call(), any::<String>(), vec(any::<String>(), 1..5), any::<u64>(), url())
        .prop_map(|(thread, call, prompt, choices, default, url)| {
            let default = default % choices.len() as u64;
            CallbackMessage::UserChoice(
                UserChoice::new(thread, call, prompt, choices, default, url).expect("valid"),
            )
        });
    let view = (thread(), any::<String>(), object()).prop_map(|(thread, kind, content)| {
        CallbackMessage::ViewUpdate(ViewUpdate::new(thread, kind, content))
    });
    prop_oneof![result(), event, oauth, choice, view]
}

fn invocation() -> impl Strategy<Value = Invocation> {
    let user = option::of(short(60).prop_map(|s| UserId::new(s).expect("an id")));
    (any::<String>(), object(), call(), url(), thread(), provider(), vec(thread(), 0..3), user).prop_map(
        |(operation, arguments, call, url, thread, provider, ancestors, user)| {
            Invocation::new(operation, arguments, call, url, thread)
                .call_id(provider)
                .thread_ancestors(ancestors)
                .user_id(user)
        },
    )
}

fn toolset() -> impl Strategy<Value = Toolset> {
    let flags = (option::of(any::<bool>()), option::of(any::<String>()), object());
    let tool = (any::<String>(), flags, option::of(any::<String>())).prop_map(
        |(description, (flag, auth, other), script)| {
            let schema = json!({"type": "object", "properties": {"x": {"type": "string"}}});
            let name = ToolName::new("x").expect("a name");
            let schema = schema.as_object().expect("an object").clone();
            let mut annotations = Annotations::default();
            (annotations.read_only, annotations.destructive, annotations.requires_auth) = (flag, flag, auth);
            for (key, value) in other {
                let _ = annotations.insert(key, value);
            }
            let mut tool = Tool::new(name, description, schema).with_annotations(annotations);
            tool.display_script = script;
            tool
        },
    );
    (short(120), url(), vec(tool, 1..4), option::of(any::<String>()), any::<bool>()).prop_map(
        |(name, url, mut tools, description, migrates)| {
            for (index, tool) in tools.iter_mut().enumerate() {
                tool.name = ToolName::new(format!("tool/{index}")).expect("a name");
            }
            let mut toolset = Toolset::new(name, url, tools).expect("valid").with_extensions(["status"]);
            toolset.description = description;
            if migrates { toolset.with_needs_migration() } else { toolset }
        },
    )
}

/// What is built is written, accepted by the schema, and read back equal.
fn holds<M: Message + Serialize + PartialEq + Debug>(kind: &str, message: &M) -> Result<(), TestCaseError> {
    let written = serde_json::to_vec(message).expect("a message serialises");
    let document: Value = serde_json::from_slice(&written).expect("JSON");
    prop_assert!(SCHEMAS.accepts(kind, &document), "the schema {kind} refuses {document}");
    let again: M = parse(&written).map_err(|fault| TestCaseError::fail(fault.to_string()))?;
    prop_assert_eq!(&again, message);
    Ok(())
}

/// A document with one value replaced, removed or added.
fn mutate(document: &mut Value, path: &[usize], value: &Value, remove: bool) {
    let Some((step, rest)) = path.split_first() else {
        *document = value.clone();
        return;
    };
    match document {
        Value::Object(members) if !members.is_empty() => {
            let key = members.keys().nth(step % members.len()).cloned().unwrap_or_default();
            if remove && rest.is_empty() {
                members.remove(&key);
            } else if let Some(inner) = members.get_mut(&key) {
                mutate(inner, rest, value, remove);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let index = step % items.len();
            mutate(&mut items[index], rest, value, remove);
        }
        other => *other = value.clone(),
    }
}

/// A document as text, the members of each object in some order and some of them twice.
fn jumbled(document: &Value, dice: &mut impl Iterator<Item = usize>, twice: bool) -> String {
    fn roll(sides: usize, dice: &mut impl Iterator<Item = usize>) -> usize {
        dice.next().unwrap_or(0) % sides
    }
    match document {
        Value::Object(members) => {
            let mut left: Vec<_> = members.iter().collect();
            let mut written = Vec::new();
            while !left.is_empty() {
                let (name, value) = left.swap_remove(roll(left.len(), dice));
                if twice && roll(4, dice) == 0 {
                    written.push(format!(
                        "{}:{}",
                        json!(name),
                        [json!(null), json!("image"), json!(7)][roll(3, dice)]
                    ));
                }
                let value = jumbled(value, dice, twice);
                written.push(format!("{}:{value}", json!(name)));
            }
            format!("{{{}}}", written.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| jumbled(item, dice, twice)).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// TRN-08, TRN-13: the order of members changes nothing, of two members of one name the last counts, and what is
    /// read in one go is what is read from a value, faults included.
    #[test]
    fn every_way_of_reading_says_the_same(
        message in callback(), dice in vec(any::<usize>(), 40), twice in any::<bool>(),
        path in vec(any::<usize>(), 1..5), other in option::of(json_value()), remove in any::<bool>(),
    ) {
        let mut document = serde_json::to_value(&message).expect("a message serialises");
        if let Some(other) = &other {
            mutate(&mut document, &path, other, remove);
        }
        prop_assume!(document.is_object());
        let text = jumbled(&document, &mut dice.into_iter(), twice);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let read = parse::<CallbackMessage>(text.as_bytes());
        if other.is_none() && !twice {
            prop_assert_eq!(read.as_ref(), Ok(&message), "{}", text);
        }
        prop_assert_eq!(read, CallbackMessage::from_value(value), "{}", text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// TRN-13.
    #[test]
    fn callbacks_hold(message in callback()) {
        holds("callback", &message)?;
    }

    /// TRN-14.
    #[test]
    fn invocations_hold(message in invocation()) {
        holds("invocation", &message)?;
    }

    /// TRN-14, STA-01, STA-03: the small requests.
    #[test]
    fn requests_hold(thread in thread(), call in call(), url in url(), index in any::<u64>(), alive in any::<bool>()) {
        holds("close_thread", &CloseThread::new(thread.clone()))?;
        holds("cancel_tool_call", &CancelToolCall::new(thread.clone(), call.clone()))?;
        holds("tool_call_status", &ToolCallStatus::new(thread.clone(), call.clone()))?;
        holds("tool_call_alive", &ToolCallAlive::new(alive))?;
        holds("migrate", &Migrate::new(thread, url))?;
        holds("choice_response", &ChoiceResponse::new(call, index))?;
    }

    /// TLS-11.
    #[test]
    fn toolsets_hold(message in toolset()) {
        holds("toolset", &message)?;
    }

    /// No body makes a reader panic (TRN-08).
    #[test]
    fn no_body_panics(body in vec(any::<u8>(), 0..200)) {
        let _ = parse::<CallbackMessage>(&body);
        let _ = parse::<Invocation>(&body);
        let _ = parse::<Toolset>(&body);
    }

    /// Near every vector: what the types take, the schema takes. (The other way round some rules are only the
    /// types'; the vectors name them.)
    #[test]
    fn types_are_never_laxer_than_schemas(
        index in any::<prop::sample::Index>(),
        path in vec(any::<usize>(), 0..4),
        value in json_value(),
        remove in any::<bool>(),
    ) {
        let vector = &VECTORS[index.index(VECTORS.len())];
        let Ok(mut document) = serde_json::from_str::<Value>(vector.json) else { return Ok(()) };
        mutate(&mut document, &path, &value, remove);
        let body = document.to_string();
        if round_trip(vector.kind, body.as_bytes()).is_ok() {
            let document: Value = serde_json::from_str(&body).expect("JSON");
            let schema = match document.get("type").and_then(Value::as_str) {
                Some(kind) if rap_spec::schema(kind).is_some() => kind,
                _ => vector.kind,
            };
            prop_assert!(SCHEMAS.accepts(schema, &document), "{}/{}: {body}", vector.kind, vector.name);
        }
    }
}
