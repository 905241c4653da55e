//! Arguments made from a schema: the smallest that are valid, and single faults in them.

use crate::nonce::nonce;
use serde_json::{Map, Value, json};
use std::cell::Cell;

/// Makes arguments that the schema takes: examples, defaults and enums first, then the smallest of each type;
/// strings are nonces.
///
/// # Errors
/// Why none can be made: a parameter that a stranger should not guess, or a schema that is too clever.
pub fn valid(schema: &Value) -> Result<Value, String> {
    let made = Value::Object(object(&Schema::new(schema), "", schema, 0)?);
    if let Some(why) = crate::schema::wrong(schema) {
        return Err(format!("its schema is none: {why}"));
    }
    let heavy =
        |why: String| format!("its schema is too much to make arguments from ({why}); hint: --args FILE");
    let validator = crate::schema::compile(schema).map_err(heavy)?;
    if !crate::schema::affordable(schema, &made) {
        return Err(heavy("judging by it takes too much work".to_owned()));
    }
    match crate::schema::first(&validator, &made) {
        None => Ok(made),
        Some(why) => {
            Err(format!("no valid arguments could be made from its schema ({why}); hint: --args FILE"))
        }
    }
}

/// Words in a name, or as a whole word in a title or a description, by which a parameter reaches into the world.
const RISKY: &[&str] = &[
    "path", "file", "dir", "folder", "url", "uri", "link", "host", "address", "command", "cmd", "shell",
    "script", "sql", "query", "exec", "code", "email",
];

/// Words that are these in a text.
const ALSO: &[&str] =
    &["directory", "directories", "addresses", "hostname", "filename", "pathname", "queries"];

/// Formats of texts that name a place in the world.
const PLACES: &[&str] = &[
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uri-template",
    "email",
    "idn-email",
    "hostname",
    "idn-hostname",
    "ipv4",
    "ipv6",
];

/// Whether a parameter reaches into the world, and takes a text that says where.
fn risky(root: &Schema<'_>, name: &str, property: &Value) -> bool {
    let name = name.to_ascii_lowercase();
    let named = RISKY.iter().any(|risk| name.contains(risk));
    let placed = property["format"].as_str().is_some_and(|format| PLACES.contains(&format));
    let told = ["title", "description"].iter().filter_map(|member| property[*member].as_str()).any(|text| {
        text.to_ascii_lowercase().split(|c: char| !c.is_ascii_alphanumeric()).any(|word| {
            let one = word.strip_suffix('s').unwrap_or(word);
            RISKY.contains(&word) || RISKY.contains(&one) || ALSO.contains(&word)
        })
    });
    (named || placed || told) && takes_text(root, property, 0)
}

/// Whether a schema takes texts, as far as can be seen without judging by it; what cannot be seen does.
fn takes_text(root: &Schema<'_>, schema: &Value, depth: usize) -> bool {
    // References may go round in a circle, or fork at every step.
    let left = root.left.get();
    root.left.set(left.saturating_sub(1));
    if depth > 12 || left == 0 {
        return true;
    }
    let kinds = match &schema["type"] {
        Value::String(kind) => kind == "string",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "string"),
        _ => true,
    };
    let target = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')).and_then(|p| root.root.pointer(p));
    let takes = |schema: &Value| takes_text(root, schema, depth + 1);
    let any = |name: &str| schema[name].as_array().is_none_or(|all| all.iter().any(takes));
    kinds
        && target.is_none_or(takes)
        && any("anyOf")
        && any("oneOf")
        && schema["allOf"].as_array().is_none_or(|all| all.iter().all(takes))
}

/// Values in the arguments of one call, at most: schemas can be small and their smallest instance huge.
const MOST: usize = 1000;

/// A whole schema, and how much of an instance may still be made.
struct Schema<'a> {
    root: &'a Value,
    left: Cell<usize>,
}

impl<'a> Schema<'a> {
    fn new(root: &'a Value) -> Self {
        Self { root, left: Cell::new(MOST) }
    }
}

fn object(root: &Schema<'_>, of: &str, schema: &Value, depth: usize) -> Result<Map<String, Value>, String> {
    if let Some(Value::Object(example)) = schema["examples"].get(0) {
        return Ok(example.clone());
    }
    let mut made = Map::new();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let property = &schema["properties"][name];
        // What is in a `file` is about a file, whatever it is called.
        let whole = if of.is_empty() { name.to_owned() } else { format!("{of}.{name}") };
        made.insert(name.to_owned(), value(root, &whole, property, depth + 1)?);
    }
    Ok(made)
}

fn value(root: &Schema<'_>, name: &str, schema: &Value, depth: usize) -> Result<Value, String> {
    if depth > 12 {
        return Err("its schema is nested too deeply; hint: --args FILE".to_owned());
    }
    let left = root.left.get().checked_sub(1);
    root.left.set(left.ok_or("its schema asks for too much; hint: --args FILE")?);
    let known = [&schema["const"], &schema["examples"][0], &schema["default"], &schema["enum"][0]];
    if let Some(known) = known.into_iter().find(|v| !v.is_null()) {
        return Ok(known.clone());
    }
    if let Some(pointer) = schema["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
        let target = root
            .root
            .pointer(pointer)
            .ok_or_else(|| format!("its schema refers to {pointer:?}, which is not there"))?;
        // Words beside the reference are about the parameter too.
        if !is_known(target) && risky(root, name, schema) {
            return Err(reaches(name));
        }
        return value(root, name, target, depth + 1);
    }
    if risky(root, name, schema) {
        return Err(reaches(name));
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[choice].as_array().and_then(|all| all.first()) {
            return value(root, name, first, depth + 1);
        }
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str());
    Ok(match kind {
        Some("string") | None => string(schema),
        Some("integer") => json!(integer(schema)),
        Some("number") => json!(schema["minimum"].as_f64().unwrap_or(0.0)),
        Some("boolean") => json!(false),
        Some("null") => Value::Null,
        Some("array") => {
            let count = schema["minItems"].as_u64().unwrap_or(0).min(16);
            let items: Result<Vec<Value>, String> =
                (0..count).map(|_| value(root, name, &schema["items"], depth + 1)).collect();
            Value::Array(items?)
        }
        Some("object") => Value::Object(object(root, name, schema, depth)?),
        Some(other) => return Err(format!("its schema has the type {other:?}")),
    })
}

/// Whether a schema offers a value of its own.
fn is_known(schema: &Value) -> bool {
    [&schema["const"], &schema["examples"][0], &schema["default"], &schema["enum"][0]]
        .iter()
        .any(|v| !v.is_null())
}

fn reaches(name: &str) -> String {
    format!(
        "`{name}` looks like something that reaches into the world, and has no example; hint: --args FILE"
    )
}

fn string(schema: &Value) -> Value {
    let least = usize::try_from(schema["minLength"].as_u64().unwrap_or(1)).unwrap_or(1).min(4096);
    let most = usize::try_from(schema["maxLength"].as_u64().unwrap_or(16)).unwrap_or(16);
    let mut text = nonce();
    while text.len() < least {
        text.push_str(&nonce());
    }
    text.truncate(most.clamp(least, 16.max(least)));
    Value::String(text)
}

fn integer(schema: &Value) -> i64 {
    let least = schema["minimum"]
        .as_i64()
        .or_else(|| schema["exclusiveMinimum"].as_i64().map(|n| n.saturating_add(1)));
    let most = schema["maximum"]
        .as_i64()
        .or_else(|| schema["exclusiveMaximum"].as_i64().map(|n| n.saturating_sub(1)));
    let chosen = least.unwrap_or_else(|| most.map_or(0, |most| most.min(0)));
    match schema["multipleOf"].as_i64().filter(|step| *step > 1) {
        Some(step) => match chosen.rem_euclid(step) {
            0 => chosen,
            over => chosen.saturating_sub(over).saturating_add(step),
        },
        None => chosen,
    }
}

/// Arguments with a single fault each, by what the schema says: what is wrong, and the arguments. The schema
/// refuses every one of them.
pub fn faults(schema: &Value, valid: &Value) -> Vec<(String, Value)> {
    let Ok(validator) = crate::schema::compile(schema) else { return Vec::new() };
    let mut made: Vec<(String, Value)> = Vec::new();
    let mut with = |what: String, name: &str, value: Value| {
        let mut arguments = valid.clone();
        arguments[name] = value;
        made.push((what, arguments));
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let property = resolved(schema, property);
        if property["enum"].is_array() {
            with(format!("`{name}` none of its values"), name, json!(nonce()));
        }
        match property["type"].as_str() {
            Some("string") => {
                with(format!("a list as `{name}`"), name, json!(["x"]));
                if let Some(most) = property["maxLength"].as_u64().filter(|most| *most < 100_000) {
                    let most = usize::try_from(most).unwrap_or(0);
                    with(format!("`{name}` too long"), name, json!("x".repeat(most + 1)));
                }
            }
            Some("integer" | "number") => {
                with(format!("a text as `{name}`"), name, json!("twelve"));
                if let Some(least) = property["minimum"].as_i64() {
                    with(format!("`{name}` too small"), name, json!(least.saturating_sub(1)));
                }
                if let Some(most) = property["maximum"].as_i64() {
                    with(format!("`{name}` too large"), name, json!(most.saturating_add(1)));
                }
            }
            Some("boolean") => with(format!("a list as `{name}`"), name, json!([true])),
            Some("array") => with(format!("a text as `{name}`"), name, json!("x")),
            Some("object") => with(format!("a number as `{name}`"), name, json!(7)),
            _ => {}
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let mut arguments = valid.clone();
        if let Some(members) = arguments.as_object_mut() {
            members.remove(name);
        }
        made.insert(0, (format!("no `{name}`"), arguments));
    }
    made.retain(|(_, arguments)| crate::schema::affordable(schema, arguments));
    made.retain(|(_, arguments)| crate::schema::first(&validator, arguments).is_some());
    made
}

fn resolved<'a>(root: &'a Value, property: &'a Value) -> &'a Value {
    let target = property["$ref"].as_str().and_then(|r| r.strip_prefix('#'));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(property)
}
