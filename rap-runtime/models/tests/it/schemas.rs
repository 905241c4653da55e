//! Schemas of tools in the dialects of providers: what was promised is kept, what is refused is gone, and nothing runs
//! away.

use crate::histories::{request, tool, user};
use crate::strict::{Known, check};
use proptest::prelude::*;
use rap_models::{
    Plan, Wire, card,
    schema::{Dialect, fit},
    wire::Target,
};
use serde_json::{Value, json};

fn fitted(schema: &Value, dialect: Dialect) -> Value {
    fit(schema.as_object().unwrap(), dialect)
}

#[test]
fn cases() {
    let reference = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "title": "Args",
        "properties": {"units": {"$ref": "#/$defs/Units", "description": "Which units."}},
        "required": ["units"], "$defs": {"Units": {"type": "string", "enum": ["metric", "imperial"]}},
    });
    let inlined = json!({
        "type": "object", "required": ["units"],
        "properties": {"units": {"type": "string", "enum": ["metric", "imperial"], "description": "Which units."}},
    });
    assert_eq!(fitted(&reference, Dialect::Json), inlined);
    assert_eq!(fitted(&reference, Dialect::OpenApi), inlined);

    // schemars writes an optional enum so.
    let nullable = json!({"type": "object", "properties": {
        "units": {"anyOf": [{"$ref": "#/$defs/Units"}, {"type": "null"}]}, "n": {"type": ["integer", "null"], "format": "uint32"},
    }, "$defs": {"Units": {"type": "string", "enum": ["m"]}}});
    assert_eq!(
        fitted(&nullable, Dialect::Json)["properties"],
        json!({"units": {"type": ["string", "null"], "enum": ["m", null]}, "n": {"type": ["integer", "null"], "format": "uint32"}})
    );
    assert_eq!(
        fitted(&nullable, Dialect::OpenApi)["properties"],
        json!({"units": {"type": "string", "enum": ["m"], "nullable": true}, "n": {"type": "integer", "nullable": true}})
    );

    // Gemini refuses an empty string among the values.
    let empty = json!({"type": "object", "properties": {
        "unit": {"type": "string", "enum": ["", "metric"]}, "none": {"type": "string", "enum": [""]},
    }});
    assert_eq!(
        fitted(&empty, Dialect::OpenApi)["properties"],
        json!({"unit": {"type": "string", "enum": ["metric"]}, "none": {"type": "string"}})
    );
    assert_eq!(fitted(&empty, Dialect::Json)["properties"]["unit"]["enum"], json!(["", "metric"]));

    // Nothing (`()` of Rust), "or null" within "or null", a reference that is "or itself", parts that contradict each
    // other: one such member must not take all tools away.
    let odd = json!({"type": "object", "properties": {
        "nothing": {"type": "null"},
        "twice": {"oneOf": [{"oneOf": [{"type": "string"}, {"type": "null"}]}, {"type": "null"}]},
        "itself": {"$ref": "#/$defs/A"},
        "both": {"allOf": [{"type": "array"}, {"const": "x"}]},
    }, "$defs": {"A": {"oneOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}}});
    assert_eq!(
        fitted(&odd, Dialect::OpenApi)["properties"],
        json!({
            "nothing": {"type": "string", "nullable": true}, "twice": {"type": "string", "nullable": true},
            "itself": {"type": "string", "nullable": true}, "both": {"type": "array", "items": {"type": "string"}},
        })
    );

    // A choice at the top: any member of any option may be given.
    let choice = json!({"type": "object", "oneOf": [
        {"properties": {"id": {"type": "string"}}, "required": ["id"]},
        {"properties": {"name": {"type": "string"}}, "required": ["name"]},
    ]});
    assert_eq!(
        fitted(&choice, Dialect::Json),
        json!({"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}})
    );

    for (endless, dialect) in [
        (json!({"type": "object", "properties": {"next": {"$ref": "#"}}}), Dialect::Json),
        (json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}), Dialect::OpenApi),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {
                "type": "object", "properties": {"l": {"$ref": "#/$defs/A"}, "r": {"$ref": "#/$defs/A"}},
            }}}),
            Dialect::Json,
        ),
    ] {
        let fitted = fitted(&endless, dialect);
        assert!(fitted.to_string().len() < 2_000_000, "bounded");
        assert!(!fitted.to_string().contains("$ref"));
    }
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string", "format": "uri"})),
        Just(json!({"type": ["integer", "null"]})),
        Just(json!({"type": ["integer", "string"]})),
        Just(json!({"enum": [1, "a", null]})),
        Just(json!({"const": "x"})),
        Just(json!({"const": 3})),
        Just(json!({"const": null})),
        Just(json!({"type": "null"})),
        Just(json!({"type": ["null"]})),
        Just(json!({"type": []})),
        Just(json!({"enum": []})),
        Just(json!(true)),
        Just(json!({})),
        Just(json!({"$ref": "#/$defs/A"})),
        Just(json!({"$ref": "#/nowhere"})),
        Just(json!({"type": "array"})),
        Just(json!({"type": "object", "properties": {}})),
        Just(json!({"type": "object", "additionalProperties": {"type": "string"}})),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({
                "type": "object", "properties": {"a": a, "b b": b, "": true}, "required": ["a", "b b", "c"],
            })),
            inner.clone().prop_map(|a| json!({"type": "array", "items": a})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"anyOf": [a, b]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"allOf": [a, b], "description": "both"})),
            inner.clone().prop_map(|a| json!({"oneOf": [a, {"type": "null"}], "default": null})),
            inner.prop_map(|a| json!({"not": a, "if": {}, "title": "t"})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..Default::default() })]

    /// Any schema of any tool goes out in a form that a strict provider takes: one odd tool never takes all others
    /// away.
    #[test]
    fn any_schema(mut schema in schemas(), definition in schemas()) {
        if let Some(members) = schema.as_object_mut() {
            members.insert("$defs".into(), json!({"A": definition}));
        }
        for wire in Wire::ALL {
            let card = card(if wire == Wire::Gemini { "p/gemini-2.0" } else { "p/m" }, wire);
            let request = request(vec![user("hello")], vec![tool("t", schema.clone())]);
            let body = wire.body(&Plan::new(&request, &card, wire), Target::new("m", &card));
            if let Err(why) = check(wire, &body, &Known::default()) {
                panic!("{wire:?} refuses: {why}\n{schema:#}\n{:#}", body["tools"]);
            }
        }
    }
}
