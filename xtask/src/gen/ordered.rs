//! JSON in an order that people read: what a thing is before what it has. Whatever order the maps of this
//! build keep, the text is the same.

use serde_json::{Map, Value};

/// Of a schema.
const KEYWORDS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "$ref",
    "type",
    "const",
    "enum",
    "format",
    "contentEncoding",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "items",
    "properties",
    "required",
    "additionalProperties",
    "anyOf",
    "oneOf",
    "not",
    "default",
    "examples",
    "$defs",
];

/// Of a message.
const MEMBERS: &[&str] = &[
    "type",
    "name",
    "description",
    "operation",
    "arguments",
    "group_id",
    "thread_id",
    "session_id",
    "id",
    "tool_call_id",
    "call_id",
    "text",
    "content",
    "prompt",
    "choices",
    "default",
    "path",
    "data",
];

/// The text of a schema, with a newline at its end.
pub(crate) fn schema(schema: &Value) -> String {
    let mut out = String::new();
    write_schema(&mut out, schema, 0);
    out.push('\n');
    out
}

fn write_schema(out: &mut String, schema: &Value, depth: usize) {
    let Value::Object(members) = schema else { return write_data(out, schema, depth) };
    let entries = sorted(members, KEYWORDS);
    object(out, depth, entries.into_iter(), |out, key, value, depth| match (key, value) {
        ("properties", Value::Object(map)) => {
            let required: Vec<&str> = members
                .get("required")
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default();
            object(out, depth, sorted(map, &required).into_iter(), |out, _, value, depth| {
                write_schema(out, value, depth);
            });
        }
        ("$defs", Value::Object(map)) => {
            object(out, depth, sorted(map, &[]).into_iter(), |out, _, value, depth| {
                write_schema(out, value, depth);
            });
        }
        ("anyOf" | "oneOf" | "allOf", Value::Array(list)) => array(out, depth, list, write_schema),
        ("items" | "not" | "additionalProperties", value) => write_schema(out, value, depth),
        (_, value) => write_data(out, value, depth),
    });
}

fn write_data(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(members) => {
            object(out, depth, sorted(members, MEMBERS).into_iter(), |out, _, value, depth| {
                write_data(out, value, depth);
            });
        }
        Value::Array(list) if list.iter().any(|v| v.is_object() || v.is_array()) => {
            array(out, depth, list, write_data);
        }
        Value::Array(list) => {
            let items: Vec<String> = list.iter().map(Value::to_string).collect();
            out.push_str(&format!("[{}]", items.join(", ")));
        }
        other => out.push_str(&other.to_string()),
    }
}

fn sorted<'v>(members: &'v Map<String, Value>, first: &[&str]) -> Vec<(&'v str, &'v Value)> {
    let mut entries: Vec<(&str, &Value)> = members.iter().map(|(k, v)| (k.as_str(), v)).collect();
    entries.sort_by_key(|(key, _)| (first.iter().position(|f| f == key).unwrap_or(first.len()), *key));
    entries
}

fn object<'v>(
    out: &mut String,
    depth: usize,
    entries: impl ExactSizeIterator<Item = (&'v str, &'v Value)>,
    mut write: impl FnMut(&mut String, &str, &'v Value, usize),
) {
    let last = entries.len();
    if last == 0 {
        return out.push_str("{}");
    }
    out.push('{');
    for (index, (key, value)) in entries.enumerate() {
        line(out, depth + 1);
        out.push_str(&format!("{}: ", Value::from(key)));
        write(out, key, value, depth + 1);
        if index + 1 < last {
            out.push(',');
        }
    }
    line(out, depth);
    out.push('}');
}

fn array(out: &mut String, depth: usize, list: &[Value], write: impl Fn(&mut String, &Value, usize)) {
    if list.is_empty() {
        return out.push_str("[]");
    }
    out.push('[');
    for (index, value) in list.iter().enumerate() {
        line(out, depth + 1);
        write(out, value, depth + 1);
        if index + 1 < list.len() {
            out.push(',');
        }
    }
    line(out, depth);
    out.push(']');
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth));
}
