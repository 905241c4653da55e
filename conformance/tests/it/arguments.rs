//! Arguments made from schemas: valid where they can be, refused where nobody should guess, and wrong in one
//! thing where they are meant to be.

use rap_conformance::arguments::{faults, valid};
use serde_json::{Value, json};

fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

#[test]
fn valid_arguments_come_from_what_the_schema_offers() {
    let cases = [
        (object(json!({}), &[]), json!({})),
        (object(json!({ "a": { "type": "string", "examples": ["Oslo"] } }), &["a"]), json!({ "a": "Oslo" })),
        (object(json!({ "a": { "type": "string", "default": "x" } }), &["a"]), json!({ "a": "x" })),
        (object(json!({ "a": { "enum": ["tea", "coffee"] } }), &["a"]), json!({ "a": "tea" })),
        (object(json!({ "a": { "const": 7 } }), &["a"]), json!({ "a": 7 })),
        (object(json!({ "n": { "type": "integer", "minimum": 3 } }), &["n"]), json!({ "n": 3 })),
        (object(json!({ "n": { "type": "integer", "exclusiveMinimum": 3 } }), &["n"]), json!({ "n": 4 })),
        (object(json!({ "n": { "type": "integer", "maximum": -2 } }), &["n"]), json!({ "n": -2 })),
        (
            object(json!({ "n": { "type": "integer", "minimum": 5, "multipleOf": 4 } }), &["n"]),
            json!({ "n": 8 }),
        ),
        (object(json!({ "b": { "type": "boolean" } }), &["b"]), json!({ "b": false })),
        (object(json!({ "l": { "type": "array", "items": {}, "minItems": 0 } }), &["l"]), json!({ "l": [] })),
        (object(json!({ "o": { "type": ["integer", "null"] } }), &["o"]), json!({ "o": 0 })),
        (object(json!({ "optional": { "type": "string" } }), &[]), json!({})),
        (
            json!({
                "type": "object", "properties": { "unit": { "$ref": "#/$defs/Unit" } }, "required": ["unit"],
                "$defs": { "Unit": { "type": "string", "enum": ["C", "F"] } },
            }),
            json!({ "unit": "C" }),
        ),
        (
            object(json!({ "path": { "type": "string", "examples": ["a.txt"] } }), &["path"]),
            json!({ "path": "a.txt" }),
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(valid(&schema), Ok(expected), "{schema}");
    }
}

#[test]
fn strings_are_nonces_of_the_right_length() {
    let schema = object(json!({ "s": { "type": "string", "minLength": 20, "maxLength": 24 } }), &["s"]);
    let (one, two) = (valid(&schema).unwrap(), valid(&schema).unwrap());
    assert_ne!(one, two);
    assert!((20..=24).contains(&one["s"].as_str().unwrap().len()));
}

/// A schema of a few bytes can ask for more than fits anywhere.
#[test]
fn what_would_be_huge_is_not_made() {
    let mut list = json!({ "type": "integer" });
    for _ in 0..8 {
        list = json!({ "type": "array", "minItems": 16, "items": list });
    }
    let why = valid(&object(json!({ "l": list }), &["l"])).unwrap_err();
    assert!(why.contains("too much") && why.contains("--args"), "{why}");
}

#[test]
fn numbers_at_the_edge_are_no_trap() {
    for rules in [
        json!({ "exclusiveMinimum": i64::MAX }),
        json!({ "exclusiveMaximum": i64::MIN }),
        json!({ "minimum": i64::MAX, "multipleOf": 1000 }),
        json!({ "maximum": i64::MIN, "multipleOf": 1000 }),
    ] {
        let mut number = rules.clone();
        number["type"] = json!("integer");
        // Whatever comes of it, it is said.
        if let Ok(made) = valid(&object(json!({ "n": number }), &["n"])) {
            assert!(made["n"].is_i64(), "{rules}: {made}");
        }
    }
}

#[test]
fn what_reaches_into_the_world_is_not_guessed() {
    for name in ["path", "file_name", "url", "command", "sql", "shellScript", "email"] {
        let schema = object(json!({ name: { "type": "string" } }), &[name]);
        let why = valid(&schema).unwrap_err();
        assert!(why.contains(name) && why.contains("--args"), "{why}");
    }
    let why =
        valid(&object(json!({ "s": { "type": "string", "pattern": "^[A-Z]{3}-7$" } }), &["s"])).unwrap_err();
    assert!(why.contains("--args"), "{why}");
}

#[test]
fn each_fault_is_one_that_the_schema_refuses() {
    let schema = object(
        json!({
            "item": { "type": "string", "enum": ["tea", "coffee"] },
            "amount": { "type": "integer", "minimum": 1, "maximum": 10 },
            "note": { "type": "string", "maxLength": 20 },
        }),
        &["item", "amount"],
    );
    let right = valid(&schema).unwrap();
    let validator = rap_conformance::schema::compile(&schema).unwrap();
    let made = faults(&schema, &right);
    for wanted in [
        "no `item`",
        "no `amount`",
        "`item` none of its values",
        "`amount` too small",
        "`amount` too large",
        "`note` too long",
    ] {
        assert!(made.iter().any(|(what, _)| what == wanted), "{wanted} is missing from {made:?}");
    }
    for (what, arguments) in made {
        assert!(!validator.is_valid(&arguments), "{what}: {arguments}");
    }
    // Nothing to refuse, nothing made.
    assert!(faults(&json!({ "type": "object" }), &json!({})).is_empty());
}
