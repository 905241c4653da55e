//! What the derived schemas need beside the derive.

use schemars::Schema;
use serde_json::{Value, json};

/// Says that a message carries its own `type`.
pub(crate) fn tag(schema: &mut Schema, kind: &str) {
    let object = schema.ensure_object();
    if let Value::Object(properties) = object.entry("properties").or_insert_with(|| json!({})) {
        let description = "Tells the kind of message.";
        properties
            .insert("type".to_owned(), json!({"const": kind, "type": "string", "description": description}));
    }
    if let Value::Array(required) = object.entry("required").or_insert_with(|| json!([])) {
        required.insert(0, "type".into());
    }
}
