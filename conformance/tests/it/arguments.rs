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
    let reaches = |name: &str, property: Value| {
        let schema = json!({
            "type": "object", "properties": { name: property }, "required": [name],
            "$defs": { "Text": { "type": "string" }, "Number": { "type": "integer" }, "Kind": { "enum": ["a"] } },
        });
        valid(&schema).is_err_and(|why| why.contains("reaches into the world"))
    };
    // Whatever takes a text.
    for property in [
        json!({}),
        json!({ "type": ["string", "null"] }),
        json!({ "type": ["null", "string"] }),
        json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] }),
        json!({ "oneOf": [{ "type": "integer" }, { "$ref": "#/$defs/Text" }] }),
        json!({ "$ref": "#/$defs/Text" }),
        json!({ "allOf": [{ "$ref": "#/$defs/Text" }, {}] }),
        json!({ "type": "array", "items": { "type": "string" }, "minItems": 1 }),
        json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] }),
    ] {
        assert!(reaches("path", property.clone()), "{property}");
    }
    for property in [
        json!({ "type": "integer" }),
        json!({ "type": ["integer", "null"] }),
        json!({ "$ref": "#/$defs/Number" }),
        json!({ "$ref": "#/$defs/Kind" }),
        json!({ "type": ["string", "null"], "examples": ["a.txt"] }),
        json!({ "type": "array", "items": { "type": "string" } }),
    ] {
        assert!(!reaches("path", property.clone()), "{property}");
    }
    // Whatever is said of it.
    for (property, reached) in [
        (json!({ "type": "string", "description": "Where the file is" }), true),
        (json!({ "type": "string", "title": "URLs to fetch" }), true),
        (json!({ "$ref": "#/$defs/Text", "description": "A directory." }), true),
        (json!({ "type": "string", "format": "ipv4" }), true),
        (json!({ "type": "string", "description": "A city's profile" }), false),
        (json!({ "type": "integer", "description": "Lines of the file" }), false),
    ] {
        assert_eq!(reaches("x", property.clone()), reached, "{property}");
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

/// A few bytes of schema can ask for work without end: the run ends all the same, and the tool is left out.
#[test]
fn a_schema_that_takes_work_without_end_is_left_alone() {
    let chain = |count: usize, body: fn(&Value) -> Value| {
        let mut definitions = serde_json::Map::new();
        for n in 0..count {
            definitions.insert(format!("d{n}"), body(&json!({ "$ref": format!("#/$defs/d{}", n + 1) })));
        }
        definitions.insert(format!("d{count}"), json!({ "type": "string" }));
        json!({ "type": "object", "properties": { "s": { "$ref": "#/$defs/d0" } }, "required": ["s"], "$defs": definitions })
    };
    // No way through it leads to a text, and there are more ways than can be gone.
    let mut forks = chain(5, |next| json!({ "anyOf": vec![next.clone(); 100], "description": "a file" }));
    forks["$defs"]["d5"] = json!({ "type": "integer" });
    for schema in [
        chain(60, |next| json!({ "anyOf": [{ "type": "integer" }, next, next], "default": "x" })),
        forks,
        chain(900, |next| json!({ "allOf": [next] })),
        chain(20_000, |next| json!({ "not": { "not": next } })),
        object(
            json!({ "s": { "type": "string", "default": "a", "pattern": "^(((a{90}){90}){90}){90}" } }),
            &["s"],
        ),
        object(json!({ "s": { "type": "string", "pattern": "x{1,1000}y{1,1000}" } }), &["s"]),
    ] {
        let why = valid(&schema).unwrap_err();
        assert!(why.contains("--args"), "{why}");
        faults(&schema, &json!({ "s": "x" }));
    }
}
