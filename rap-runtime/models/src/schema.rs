//! Schemas of arguments in the dialect that a provider takes. Simplified, never made stricter in a way that loses a
//! member: the runtime checks what the model writes against the tool's own schema (INV-02).

use serde_json::{Map, Value, json};

/// How deep references are followed, and how many schemas one tool may hold in all.
const DEPTH: usize = 24;
const SCHEMAS: usize = 4_000;

/// What is put in its place before a schema is fitted.
const UNFOLDED: [&str; 2] = ["$ref", "allOf"];

/// The kinds of schemas that providers take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// JSON Schema without references, and an object at the top.
    Json,
    /// The part of OpenAPI 3.0 that Gemini takes.
    OpenApi,
}

/// A tool's schema in a dialect.
pub fn fit(schema: &Map<String, Value>, dialect: Dialect) -> Value {
    let mut fitting = Fitting { root: schema, dialect, left: SCHEMAS };
    let mut fitted = fitting.object(schema, 0);
    flatten_top(&mut fitted);
    fitted.insert("type".to_owned(), "object".into());
    if fitting.dialect == Dialect::OpenApi {
        // An object without properties is refused; none at all is not.
        fitted.remove("nullable");
        if fitted.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty) {
            fitted.remove("properties");
        }
    } else {
        fitted.entry("properties").or_insert_with(|| json!({}));
    }
    Value::Object(fitted)
}

struct Fitting<'a> {
    root: &'a Map<String, Value>,
    dialect: Dialect,
    left: usize,
}

impl Fitting<'_> {
    fn any(&mut self, schema: &Value, depth: usize) -> Value {
        match schema {
            Value::Object(schema) if depth < DEPTH && self.left > 0 => {
                self.left -= 1;
                Value::Object(self.object(schema, depth))
            }
            // `true`, `false`, and what is too deep: anything; the runtime checks.
            _ => match self.dialect {
                Dialect::Json => json!({}),
                Dialect::OpenApi => json!({"type": "string"}),
            },
        }
    }

    fn object(&mut self, schema: &Map<String, Value>, depth: usize) -> Map<String, Value> {
        let mut schema = schema.clone();
        let mut nullable = false;
        // What is behind "or null" may be a reference again, and one that leads here.
        for _ in depth..DEPTH {
            schema = self.resolved(schema, depth);
            self.merge_all_of(&mut schema, depth);
            let unwrapped = unwrap_null(&mut schema);
            nullable |= unwrapped;
            if !unwrapped && !UNFOLDED.iter().any(|key| schema.contains_key(*key)) {
                break;
            }
        }
        schema.retain(|key, _| !UNFOLDED.contains(&key.as_str()));
        let mut out = Map::new();
        for (key, value) in &schema {
            if let Some(value) = self.member(key, value, &schema, depth) {
                out.insert(key.clone(), value);
            }
        }
        if let Some(constant) = out.remove("const") {
            out.insert("enum".to_owned(), json!([constant]));
        }
        for either in ["oneOf", "anyOf"] {
            if let Some(Value::Array(options)) = schema.get(either) {
                let options: Vec<Value> = options.iter().map(|option| self.any(option, depth + 1)).collect();
                out.insert("anyOf".to_owned(), options.into());
            }
        }
        let listed = out.get("type").and_then(Value::as_str) == Some("array");
        if listed && !out.contains_key("items") {
            let anything = self.any(&Value::Bool(true), 0);
            out.insert("items".to_owned(), anything);
        }
        match self.dialect {
            Dialect::OpenApi => open_api(&mut out),
            Dialect::Json if nullable => {
                if let Some(Value::String(kind)) = out.get("type").cloned() {
                    out.insert("type".to_owned(), json!([kind, "null"]));
                }
                if let Some(Value::Array(values)) = out.get_mut("enum")
                    && !values.contains(&Value::Null)
                {
                    values.push(Value::Null);
                }
            }
            Dialect::Json => {}
        }
        if nullable && self.dialect == Dialect::OpenApi {
            out.insert("nullable".to_owned(), true.into());
        }
        out
    }

    /// A schema with its reference put in its place. One that leads into itself ends as "anything".
    fn resolved(&self, mut schema: Map<String, Value>, depth: usize) -> Map<String, Value> {
        for _ in depth..DEPTH {
            let Some(Value::String(reference)) = schema.remove("$ref") else { return schema };
            let pointer = reference.strip_prefix('#').unwrap_or("/nowhere");
            let mut target = Some(self.root);
            let mut found = None;
            for step in pointer.split('/').skip(1) {
                let step = step.replace("~1", "/").replace("~0", "~");
                found = target.and_then(|map| map.get(&step));
                target = found.and_then(Value::as_object);
            }
            if pointer.is_empty() {
                found = None; // The root itself: endless.
            }
            if let Some(Value::Object(found)) = found {
                for (key, value) in found {
                    schema.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        schema.remove("$ref");
        schema
    }

    fn merge_all_of(&self, schema: &mut Map<String, Value>, depth: usize) {
        for _ in depth..DEPTH {
            let Some(Value::Array(parts)) = schema.remove("allOf") else { return };
            for part in parts.iter().filter_map(Value::as_object) {
                let part = self.resolved(part.clone(), depth + 1);
                merge(schema, &part, true);
            }
        }
        schema.remove("allOf");
    }

    fn member(
        &mut self,
        key: &str,
        value: &Value,
        schema: &Map<String, Value>,
        depth: usize,
    ) -> Option<Value> {
        Some(match key {
            "$schema" | "$id" | "$defs" | "definitions" | "$comment" | "$anchor" | "$dynamicAnchor"
            | "$dynamicRef" | "$vocabulary" | "oneOf" | "anyOf" | "examples" | "readOnly" | "writeOnly"
            | "deprecated" | "title" => return None,
            // Conditions are the runtime's to check.
            "if"
            | "then"
            | "else"
            | "not"
            | "dependentSchemas"
            | "dependentRequired"
            | "unevaluatedProperties"
            | "unevaluatedItems"
            | "contains"
            | "minContains"
            | "maxContains"
            | "propertyNames"
            | "patternProperties"
            | "prefixItems" => return None,
            "properties" => {
                let properties = value.as_object()?;
                let good = properties.iter().filter(|(name, _)| is_good_name(name));
                let fitted: Map<String, Value> =
                    good.map(|(name, schema)| (name.clone(), self.any(schema, depth + 1))).collect();
                Value::Object(fitted)
            }
            "required" => {
                let known = schema.get("properties").and_then(Value::as_object);
                let names = value.as_array()?.iter().filter(|name| {
                    name.as_str()
                        .is_some_and(|name| is_good_name(name) && known.is_some_and(|k| k.contains_key(name)))
                });
                let names: Vec<Value> = names.cloned().collect();
                if names.is_empty() {
                    return None;
                }
                names.into()
            }
            // No value at all is for the runtime to refuse, and for no provider to stumble over.
            "enum" | "type" if value.as_array().is_some_and(Vec::is_empty) => return None,
            "items" => self.any(value, depth + 1),
            "additionalProperties" if value.is_object() => self.any(value, depth + 1),
            _ => value.clone(),
        })
    }
}

/// No choice at the top, where several providers refuse one: what any of its options takes may be given.
fn flatten_top(fitted: &mut Map<String, Value>) {
    for _ in 0..DEPTH {
        let Some(Value::Array(options)) = fitted.remove("anyOf") else { break };
        for option in options.iter().filter_map(Value::as_object) {
            merge(fitted, option, false);
        }
    }
    const OF_OBJECTS: [&str; 5] = ["type", "description", "properties", "required", "additionalProperties"];
    fitted.retain(|key, _| OF_OBJECTS.contains(&key.as_str()));
}

/// Adds the members of a schema to another; the first word on a property counts.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>, required: bool) {
    for (key, value) in from {
        match (key.as_str(), into.get_mut(key), value) {
            ("properties", Some(Value::Object(have)), Value::Object(more)) => {
                for (name, schema) in more {
                    have.entry(name.clone()).or_insert_with(|| schema.clone());
                }
            }
            ("required", _, _) if !required => {}
            ("required", Some(Value::Array(have)), Value::Array(more)) => {
                have.extend(more.iter().cloned());
            }
            (_, None, value) => {
                into.insert(key.clone(), value.clone());
            }
            _ => {}
        }
    }
}

/// Takes "or null" out of a schema; whether it was there.
fn unwrap_null(schema: &mut Map<String, Value>) -> bool {
    let is_null = |option: &Value| option.get("type").and_then(Value::as_str) == Some("null");
    let mut nullable = false;
    for either in ["anyOf", "oneOf"] {
        let Some(Value::Array(options)) = schema.get_mut(either) else { continue };
        let before = options.len();
        options.retain(|option| !is_null(option));
        nullable |= options.len() < before;
        if options.len() == 1
            && let Some(Value::Array(mut options)) = schema.remove(either)
            && let Some(Value::Object(only)) = options.pop()
        {
            merge(schema, &only, true);
        }
    }
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        let before = kinds.len();
        kinds.retain(|kind| kind != "null");
        nullable |= kinds.len() < before;
        if kinds.len() == 1
            && let Some(only) = kinds.pop()
        {
            schema.insert("type".to_owned(), only);
        }
    }
    nullable
}

/// Names of members that every provider takes.
fn is_good_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

/// Leaves what Gemini's dialect knows.
fn open_api(schema: &mut Map<String, Value>) {
    const KNOWN: [&str; 16] = [
        "type",
        "format",
        "description",
        "nullable",
        "enum",
        "items",
        "properties",
        "required",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "pattern",
        "anyOf",
    ];
    schema.retain(|key, _| KNOWN.contains(&key.as_str()));
    if schema.get("type").is_some_and(|kind| kind == "null") {
        schema.remove("type");
        schema.insert("nullable".to_owned(), true.into());
    }
    if let Some(Value::Array(kinds)) = schema.get("type").cloned() {
        let options: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        schema.remove("type");
        schema.insert("anyOf".to_owned(), options.into());
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    let known_format = match kind.as_str() {
        "string" => ["date-time", "enum"].contains(&format),
        "integer" => ["int32", "int64"].contains(&format),
        "number" => ["float", "double"].contains(&format),
        _ => false,
    };
    if !known_format {
        schema.remove("format");
    }
    // An empty string among the values is refused.
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| value != "");
        if values.is_empty() {
            schema.remove("enum");
        }
    }
    let strings = |value: &Value| value.as_array().is_some_and(|v| v.iter().all(Value::is_string));
    match schema.get("enum") {
        Some(values) if !strings(values) => {
            schema.remove("enum");
        }
        Some(_) if kind.is_empty() => {
            schema.insert("type".to_owned(), "string".into());
        }
        Some(_) if kind != "string" => {
            schema.remove("enum");
        }
        _ => {}
    }
    // What belongs to another kind: parts of an `allOf` that contradict each other.
    if !["", "object"].contains(&kind.as_str()) {
        schema.retain(|key, _| !["properties", "required"].contains(&key.as_str()));
    }
    if !["", "array"].contains(&kind.as_str()) {
        schema.remove("items");
    }
    if schema.get("properties").and_then(Value::as_object).is_some_and(Map::is_empty) {
        schema.remove("properties");
    }
    if kind.is_empty() && !schema.contains_key("anyOf") && !schema.contains_key("type") {
        let kind = if schema.contains_key("properties") {
            "object"
        } else if schema.contains_key("items") {
            "array"
        } else {
            "string"
        };
        schema.insert("type".to_owned(), kind.into());
    }
}
