//! Tools on offer.

use super::{Checked, ensure, list, only, portable, said};
use serde_json::Value;
use std::collections::HashSet;

pub(super) struct Offer {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: &'static str,
    pub(super) longest_description: usize,
    pub(super) open_api: bool,
}

pub(super) fn offers(tools: &Value, offer: &Offer) -> Checked {
    let mut names = HashSet::new();
    for tool in list(tools, "tools")? {
        let name = tool.pointer(offer.name).and_then(Value::as_str).unwrap_or_default();
        portable(name, 64, "a tool's name")?;
        ensure!(names.insert(name.to_owned()), "two tools are named {name:?}");
        let described = said(tool.pointer(offer.description).unwrap_or(&Value::Null), "a description")?;
        ensure!(described.len() <= offer.longest_description, "the description of {name} is too long");
        match tool.pointer(offer.schema) {
            Some(schema) if offer.open_api => open_api(schema, name, true)?,
            Some(schema) => json_schema(schema, name, true)?,
            None => ensure!(offer.open_api, "{name} has no schema"),
        }
    }
    Ok(())
}

/// JSON Schema as providers take it: no references, an object at the top without choices.
fn json_schema(schema: &Value, tool: &str, top: bool) -> Checked {
    let Some(members) = schema.as_object() else { return Ok(()) };
    for refused in ["$ref", "$defs", "definitions", "$schema"] {
        ensure!(!members.contains_key(refused), "the schema of {tool} has {refused}");
    }
    if top {
        ensure!(schema["type"] == "object", "the schema of {tool} is of no object");
        ensure!(schema["properties"].is_object(), "the schema of {tool} has no properties");
        for refused in ["anyOf", "oneOf", "allOf", "enum", "not"] {
            ensure!(!members.contains_key(refused), "the schema of {tool} has {refused} at its top");
        }
    }
    if schema["type"] == "array" {
        ensure!(members.contains_key("items"), "an array in the schema of {tool} has no items");
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        ensure!(good && (1..=64).contains(&name.len()), "a property of {tool} is named {name:?}");
        json_schema(property, tool, false)?;
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        ensure!(schema["properties"].get(name).is_some(), "{tool} requires {name:?}, which it does not have");
    }
    json_schema(&schema["items"], tool, false)?;
    for either in ["anyOf", "oneOf", "allOf"] {
        for option in schema[either].as_array().into_iter().flatten() {
            json_schema(option, tool, false)?;
        }
    }
    Ok(())
}

/// The part of OpenAPI that Gemini takes; anything else is "Unknown name".
fn open_api(schema: &Value, tool: &str, top: bool) -> Checked {
    only(
        schema,
        &[
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
        ],
        &format!("the schema of {tool}"),
    )?;
    let kind = schema["type"].as_str();
    let kinds = ["string", "number", "integer", "boolean", "array", "object"];
    ensure!(
        kind.is_some_and(|kind| kinds.contains(&kind)) || schema["anyOf"].is_array(),
        "a schema of {tool} has no type: {schema}"
    );
    ensure!(!top || kind == Some("object"), "the schema of {tool} is of no object");
    if let Some(properties) = schema.get("properties") {
        let properties = properties.as_object().ok_or("properties is no object")?;
        ensure!(!properties.is_empty(), "an object in the schema of {tool} has empty properties");
        properties.values().try_for_each(|property| open_api(property, tool, false))?;
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        ensure!(schema["properties"].get(name).is_some(), "{tool} requires {name:?}, which it does not have");
    }
    if kind == Some("array") {
        ensure!(schema.get("items").is_some(), "an array in the schema of {tool} has no items");
    }
    if let Some(items) = schema.get("items") {
        open_api(items, tool, false)?;
    }
    if let Some(values) = schema.get("enum") {
        ensure!(kind == Some("string"), "an enum in the schema of {tool} is not of strings");
        let good = |value: &Value| value.as_str().is_some_and(|value| !value.is_empty());
        ensure!(list(values, "enum")?.iter().all(good), "an enum of {tool} holds no string, or an empty one");
    }
    if let Some(format) = schema.get("format") {
        let good = ["date-time", "enum", "int32", "int64", "float", "double"];
        ensure!(good.contains(&format.as_str().unwrap_or_default()), "the format {format} is unknown");
    }
    schema["anyOf"].as_array().into_iter().flatten().try_for_each(|option| open_api(option, tool, false))
}
