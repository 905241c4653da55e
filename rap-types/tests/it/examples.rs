//! The schemas as a reader meets them: every member of every message says what it is and shows a value, and
//! every value that is shown is a valid one.

use rap_spec::SCHEMAS;
use serde_json::{Value, json};

/// Calls with the place and the schema of every member that is described, at any depth.
fn members<'a>(place: &str, schema: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    match schema {
        Value::Object(keywords) => {
            for (keyword, inner) in keywords {
                match (keyword.as_str(), inner) {
                    // What stands there is data, or says what must not be.
                    ("examples" | "not", _) => {}
                    ("properties", Value::Object(properties)) => {
                        for (name, member) in properties {
                            let place = format!("{place}/{name}");
                            members(&place, member, found);
                            found.push((place, member));
                        }
                    }
                    _ => members(&format!("{place}/{keyword}"), inner, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(place, item, found)),
        _ => {}
    }
}

#[test]
fn every_member_is_described_and_shown() {
    for schema in SCHEMAS {
        let document: Value = serde_json::from_str(schema.json).expect("a schema is JSON");
        let mut found = Vec::new();
        members("", &document, &mut found);
        assert!(!found.is_empty(), "{}", schema.name);
        for (place, member) in found {
            // A constant shows itself; a part of a schema that only narrows another place describes nothing.
            let narrows = member.get("type").is_none() && member.get("anyOf").is_none();
            if member.get("const").is_some() || (narrows && member.get("$ref").is_some()) {
                continue;
            }
            for needed in ["description", "examples"] {
                assert!(member.get(needed).is_some(), "{}: {place} has no {needed}", schema.name);
            }
        }
    }
}

#[test]
fn every_example_is_valid() {
    let mut shown = 0;
    for schema in SCHEMAS {
        let document: Value = serde_json::from_str(schema.json).expect("a schema is JSON");
        let definitions = document.get("$defs").cloned().unwrap_or_else(|| json!({}));
        let mut found = Vec::new();
        members("", &document, &mut found);
        found.push((String::new(), &document));
        if let Some(definitions) = definitions.as_object() {
            found.extend(definitions.iter().map(|(name, schema)| (format!("/$defs/{name}"), schema)));
        }
        for (place, member) in found {
            let Some(Value::Array(examples)) = member.get("examples") else { continue };
            let mut alone = member.clone();
            alone["$defs"] = definitions.clone();
            let validator = jsonschema::validator_for(&alone).expect("a schema compiles");
            for example in examples {
                shown += 1;
                assert!(validator.is_valid(example), "{}: {place}: {example}", schema.name);
            }
        }
    }
    assert!(shown > 100, "{shown}");
}
