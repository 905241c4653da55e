//! The schema of a tool's arguments, in the plain form that every model API takes: one object, everything
//! inlined, optional values without `anyOf`.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

/// The schema of an arguments type (TLS-08).
///
/// # Errors
/// A sentence, when the type is no object, e.g. an enum or a number.
pub(crate) fn of<T: JsonSchema>() -> Result<Map<String, Value>, String> {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    simplify(&mut schema);
    let Value::Object(mut root) = schema else {
        return Err("the arguments take anything; make them a struct".to_owned());
    };
    root.remove("title");
    match root.get("type") {
        Some(Value::String(kind)) if kind == "object" => {}
        _ => {
            return Err(
                "the arguments are no object; make them a struct with named fields (TLS-08)".to_owned()
            );
        }
    }
    root.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    Ok(root)
}

/// The schema of a tool without arguments.
pub(crate) fn nothing() -> Map<String, Value> {
    let mut root = Map::new();
    root.insert("type".into(), "object".into());
    root.insert("properties".into(), Value::Object(Map::new()));
    root
}

fn simplify(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for value in map.values_mut() {
                simplify(value);
            }
            fold_null(map);
            // Formats of Rust's numbers: nobody asserts them, and strict model APIs refuse what they don't know.
            if map.get("format").and_then(Value::as_str).is_some_and(is_number_format) {
                map.remove("format");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(simplify),
        _ => {}
    }
}

fn is_number_format(format: &str) -> bool {
    format == "float"
        || format == "double"
        || format.strip_prefix('u').unwrap_or(format).strip_prefix("int").is_some()
}

/// `anyOf: [X, null]` becomes X that takes null as well.
fn fold_null(map: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = map.get("anyOf") else { return };
    let null = |v: &Value| v.get("type").and_then(Value::as_str) == Some("null");
    if branches.len() != 2 || !branches.iter().any(null) {
        return;
    }
    let Some(Value::Object(mut other)) = branches.iter().find(|v| !null(v)).cloned() else { return };
    let took = if let Some(Value::Array(options)) = other.get_mut("oneOf") {
        options.push(serde_json::json!({"type": "null"}));
        true
    } else if let Some(Value::String(kind)) = other.get("type").cloned() {
        other.insert("type".into(), serde_json::json!([kind, "null"]));
        if let Some(Value::Array(values)) = other.get_mut("enum") {
            values.push(Value::Null);
        }
        !other.contains_key("const")
    } else {
        false
    };
    if !took {
        return;
    }
    map.remove("anyOf");
    for (key, value) in other {
        map.entry(key).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Units {
        Metric,
        Imperial,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    enum Documented {
        /// Fast.
        Fast,
        /// Slow.
        Slow,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Place {
        name: String,
    }

    #[derive(JsonSchema)]
    #[allow(dead_code)]
    struct Everything {
        /// A city.
        city: String,
        /// Degrees.
        units: Option<Units>,
        speed: Option<Documented>,
        place: Option<Place>,
        days: Option<u32>,
        near: Vec<Place>,
    }

    /// TLS-08: an object at the root, nothing by reference, nullable without `anyOf`.
    #[test]
    fn plain() {
        let schema = Value::Object(of::<Everything>().unwrap());
        let place = |kind: Value| json!({"type": kind, "properties": {"name": {"type": "string"}}, "required": ["name"]});
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "A city."},
                    "units": {"type": ["string", "null"], "enum": ["Metric", "Imperial", null], "description": "Degrees."},
                    "speed": {"oneOf": [
                        {"type": "string", "const": "Fast", "description": "Fast."},
                        {"type": "string", "const": "Slow", "description": "Slow."},
                        {"type": "null"},
                    ]},
                    "place": place(json!(["object", "null"])),
                    "days": {"type": ["integer", "null"], "minimum": 0},
                    "near": {"type": "array", "items": place(json!("object"))},
                },
                "required": ["city", "near"],
            })
        );
    }

    /// TLS-08: what is no object is refused with a sentence.
    #[test]
    fn no_object() {
        assert!(of::<String>().unwrap_err().contains("struct"));
        assert!(of::<Documented>().unwrap_err().contains("struct"));
    }
}
