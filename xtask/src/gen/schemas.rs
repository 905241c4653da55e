//! `spec/schema/`: one JSON Schema (2020-12) per message, and a bundle of all, from the types of `rap-types`.

use super::{Files, ordered, read};
use rap_types::{
    CallbackMessage, CancelToolCall, ChoiceResponse, CloseThread, Invocation, Migrate, OAuth,
    SubscriptionEvent, ToolCallAlive, ToolCallStatus, ToolResult, Toolset, UserChoice, ViewUpdate,
    schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings},
};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The version of the wire, which is in the schemas' names.
const WIRE: &str = "1";
const COMMENT: &str = "Generated from rap-types by `cargo xtask gen`; do not edit.";

/// One kind of message.
pub(crate) struct Kind {
    /// The name of its file and of its folder of vectors.
    pub(crate) name: &'static str,
    /// The name of its type.
    pub(crate) title: &'static str,
    /// Vectors that its schema shows as examples.
    examples: &'static [&'static str],
    add: fn(&mut SchemaGenerator) -> Schema,
    root: fn(SchemaGenerator) -> Schema,
}

const fn kind<T: JsonSchema>(
    name: &'static str,
    title: &'static str,
    examples: &'static [&'static str],
) -> Kind {
    Kind {
        name,
        title,
        examples,
        add: SchemaGenerator::subschema_for::<T>,
        root: SchemaGenerator::into_root_schema_for::<T>,
    }
}

/// All kinds of messages.
pub(crate) const KINDS: &[Kind] = &[
    kind::<Invocation>("invocation", "Invocation", &["invocation/minimal", "invocation/full"]),
    kind::<CallbackMessage>(
        "callback",
        "CallbackMessage",
        &["tool_result/text", "subscription_event/full", "oauth/minimal"],
    ),
    kind::<ToolResult>(
        "tool_result",
        "ToolResult",
        &["tool_result/text", "tool_result/content-image-after-text", "tool_result/is-error-true"],
    ),
    kind::<SubscriptionEvent>(
        "subscription_event",
        "SubscriptionEvent",
        &["subscription_event/minimal", "subscription_event/full"],
    ),
    kind::<OAuth>("oauth", "OAuth", &["oauth/minimal"]),
    kind::<UserChoice>("user_choice", "UserChoice", &["user_choice/minimal"]),
    kind::<ViewUpdate>("view_update", "ViewUpdate", &["view_update/minimal", "view_update/content-empty"]),
    kind::<Toolset>("toolset", "Toolset", &["toolset/minimal", "toolset/full"]),
    kind::<CloseThread>("close_thread", "CloseThread", &["close_thread/minimal"]),
    kind::<CancelToolCall>("cancel_tool_call", "CancelToolCall", &["cancel_tool_call/minimal"]),
    kind::<Migrate>("migrate", "Migrate", &["migrate/minimal"]),
    kind::<ChoiceResponse>("choice_response", "ChoiceResponse", &["choice_response/first"]),
    kind::<ToolCallStatus>("tool_call_status", "ToolCallStatus", &["tool_call_status/minimal"]),
    kind::<ToolCallAlive>("tool_call_alive", "ToolCallAlive", &["tool_call_alive/true"]),
];

/// The kinds that `callback` gathers.
const CALLBACKS: &[&str] = &["tool_result", "subscription_event", "oauth", "user_choice", "view_update"];

/// The schemas, by the name of their file.
pub(crate) struct Schemas {
    pub(crate) all: Vec<(String, Value)>,
}

impl Schemas {
    /// Adds the files.
    pub(crate) fn files(&self, files: &mut Files) {
        for (name, schema) in &self.all {
            files.insert(Path::new("spec/schema").join(format!("{name}.json")), ordered::schema(schema));
        }
    }

    /// A definition of the bundle.
    pub(crate) fn definition(&self, title: &str) -> Option<&Value> {
        self.all.iter().find(|(name, _)| name == "rap")?.1.get("$defs")?.get(title)
    }
}

/// Makes all schemas.
pub(crate) fn make(root: &Path) -> Result<Schemas, String> {
    let settings = || SchemaSettings::draft2020_12().for_deserialize();
    let mut all = Vec::new();
    let mut shown = Vec::new();
    let mut bundle = settings().into_generator();
    for kind in KINDS {
        let mut schema = Value::from((kind.root)(settings().into_generator()));
        let mut examples = Vec::new();
        for name in kind.examples {
            let path = root.join("spec/vectors/valid").join(format!("{name}.json"));
            let example: Value =
                serde_json::from_str(&read(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
            examples.push(example);
        }
        tidy(&mut schema);
        head(&mut schema, kind.name, kind.title);
        if let Some(Value::Object(map)) = schema.get_mut("$defs") {
            for (name, definition) in map {
                definition["title"] = name.as_str().into();
            }
        }
        schema["examples"] = examples.clone().into();
        shown.push((kind.title, examples));
        all.push((kind.name.to_owned(), schema));
        (kind.add)(&mut bundle);
    }
    let mut definitions = Value::Object(bundle.take_definitions(true).into_iter().collect::<Map<_, _>>());
    if let Value::Object(map) = &mut definitions {
        for (name, schema) in map {
            tidy(schema);
            schema["title"] = name.as_str().into();
            if let Some((_, examples)) = shown.iter().find(|(title, _)| title == name) {
                schema["examples"] = examples.clone().into();
            }
        }
    }
    let messages: Vec<Value> = KINDS
        .iter()
        .filter(|k| !CALLBACKS.contains(&k.name))
        .map(|k| json!({"$ref": format!("#/$defs/{}", k.title)}))
        .collect();
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "description": "Any message of the Reactive Agent Protocol; each by its name in $defs.",
        "anyOf": messages,
        "$defs": definitions,
    });
    head(&mut schema, "rap", "RapMessage");
    all.push(("rap".to_owned(), schema));
    Ok(Schemas { all })
}

fn head(schema: &mut Value, name: &str, title: &str) {
    schema["$id"] = format!("urn:rap:{WIRE}:{name}").into();
    schema["$comment"] = COMMENT.into();
    schema["title"] = title.into();
}

/// Doc comments are wrapped where the source is; a description is one paragraph.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
