//! The schema of a tool's arguments, in the plain form that every model API takes: one object, everything
//! inlined, optional values without `anyOf`.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

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
    let Value::Object(map) = schema else { return };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "dependentSchemas" | "$defs", Value::Object(named)) => {
                named.values_mut().for_each(simplify);
            }
            // Values, which may look like schemas.
            ("const" | "enum" | "default" | "examples", _) => {}
            (key, _) if key.starts_with("x-") => {}
            (_, Value::Array(items)) => items.iter_mut().for_each(simplify),
            (_, value) => simplify(value),
        }
    }
    fold_null(map);
    // Formats of Rust's numbers: nobody asserts them, and strict model APIs refuse what they don't know.
    if map.get("format").and_then(Value::as_str).is_some_and(is_number_format) {
        map.remove("format");
    }
}

fn is_number_format(format: &str) -> bool {
    format == "float"
        || format == "double"
        || format.strip_prefix('u').unwrap_or(format).strip_prefix("int").is_some()
}

/// `anyOf: [X, null]` becomes X that takes null as well, where X can be taught to and nothing else stands beside it.
fn fold_null(map: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = map.get("anyOf") else { return };
    let other = match &branches[..] {
        [other, null] | [null, other] if is_null(null) => other,
        _ => return,
    };
    let annotates = |key: &String| {
        let known = ["title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"];
        key == "anyOf" || known.contains(&key.as_str()) || key.starts_with("x-")
    };
    let Value::Object(mut other) = other.clone() else { return };
    if !map.keys().all(annotates) || !take_null(&mut other) {
        return;
    }
    map.remove("anyOf");
    for (key, value) in other {
        map.entry(key).or_insert(value);
    }
}

/// Whether a schema is `{"type": "null"}`.
fn is_null(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("null")
}

/// Makes each keyword that looks at every value take null, and change nothing for any other value. All other
/// keywords look at one type only, which null is not.
///
/// False where that cannot be done; the schema is to be thrown away then.
fn take_null(schema: &mut Map<String, Value>) -> bool {
    for (key, value) in schema.iter_mut() {
        match (key.as_str(), value) {
            ("type", Value::Array(types)) => add(types, "null".into()),
            ("type", kind) => *kind = json!([kind, "null"]),
            ("enum", Value::Array(values)) => add(values, Value::Null),
            ("anyOf", Value::Array(branches)) => add(branches, json!({"type": "null"})),
            // Exactly one: no other branch may take null.
            ("oneOf", Value::Array(branches)) if branches.iter().all(refuses_null) => {
                branches.push(json!({"type": "null"}));
            }
            ("oneOf" | "allOf" | "not" | "if" | "const" | "$ref" | "$dynamicRef", _) => return false,
            _ => {}
        }
    }
    true
}

/// Adds what a list lacks.
fn add(list: &mut Vec<Value>, value: Value) {
    if !list.contains(&value) {
        list.push(value);
    }
}

/// Whether a schema certainly does not take null.
fn refuses_null(schema: &Value) -> bool {
    match (schema.get("type"), schema.get("const"), schema.get("enum")) {
        (Some(Value::String(kind)), ..) => kind != "null",
        (Some(Value::Array(types)), ..) => !types.iter().any(|t| t == "null"),
        (None, Some(value), _) => !value.is_null(),
        (None, None, Some(Value::Array(values))) => !values.contains(&Value::Null),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arguments;
    use rap_types::validate::CompiledSchema;
    use serde::{Deserialize, Serialize};

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

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Unit {
        Metric,
        Imperial,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Told {
        /// Fast.
        Fast,
        /// Slow.
        Slow,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    enum External {
        Nothing,
        Nobody,
        Metres(f64),
        Named { name: String },
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "by", rename_all = "lowercase")]
    #[allow(dead_code)]
    enum Tagged {
        Foot,
        Train { line: u8 },
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(tag = "by", content = "with")]
    #[allow(dead_code)]
    enum Adjacent {
        Nothing,
        Train(u8),
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Flattened {
        name: String,
        #[serde(flatten)]
        how: Tagged,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Twice {
        #[serde(flatten)]
        how: Tagged,
        #[serde(flatten)]
        what: External,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Untagged {
        Number(f64),
        Words(Vec<String>),
    }

    /// One that has a word for nothing itself.
    #[derive(Deserialize, JsonSchema)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Nullable {
        Nothing,
        Number(f64),
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Tree {
        leaf: u8,
        branch: Option<Box<Tree>>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Inner {
        name: String,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Optional {
        unit: Option<Unit>,
        told: Option<Told>,
        external: Option<External>,
        tagged: Option<Tagged>,
        /// With words of its own.
        adjacent: Option<Adjacent>,
        flattened: Option<Flattened>,
        #[serde(default)]
        twice: Option<Twice>,
        untagged: Option<Untagged>,
        nullable: Option<Nullable>,
        tree: Option<Tree>,
        inner: Option<Inner>,
        number: Option<u8>,
        text: Option<String>,
        list: Option<Vec<Inner>>,
        option: Option<Option<Tagged>>,
        result: Option<Result<u8, String>>,
        pair: Option<(u8, String)>,
    }

    /// TLS-08, TLS-09: an optional argument may be left out, be null or be right, whatever its shape; what the schema
    /// takes the type takes, and what one refuses the other does too.
    #[test]
    fn optional() {
        let inner = json!({"name": "a"});
        let table: &[(&str, &[Value], &[Value])] = &[
            ("unit", &[json!("metric")], &[json!("METRIC"), json!(1), json!({})]),
            ("told", &[json!("fast")], &[json!("Fast"), json!(1)]),
            (
                "external",
                &[json!("Nobody"), json!({"Metres": 1.5}), json!({"Named": {"name": "a"}})],
                &[json!("nobody"), json!({"Metres": "far"}), json!({"Named": {}}), json!({"Metres": null})],
            ),
            (
                "tagged",
                &[json!({"by": "foot"}), json!({"by": "train", "line": 7})],
                &[
                    json!({"by": "train"}),
                    json!({"by": "boat"}),
                    json!({}),
                    json!("foot"),
                    json!({"by": null}),
                ],
            ),
            (
                "adjacent",
                &[json!({"by": "Train", "with": 7}), json!({"by": "Nothing"})],
                &[json!({"by": "Train", "with": "7"}), json!({"by": "Boat"}), json!(7)],
            ),
            (
                "flattened",
                &[json!({"name": "a", "by": "foot"}), json!({"name": "a", "by": "train", "line": 7})],
                &[json!({"name": "a"}), json!({"by": "foot"}), json!({"name": "a", "by": "train"}), json!(7)],
            ),
            (
                "twice",
                &[json!({"by": "foot", "Metres": 2.5}), json!({"by": "train", "line": 7, "Nobody": null})],
                &[json!({"by": "foot"}), json!({"Metres": 2.5}), json!("Nobody"), json!([])],
            ),
            ("untagged", &[json!(1.5), json!(["a", "b"])], &[json!("a"), json!({}), json!([1])]),
            ("nullable", &[json!(1.5)], &[json!("a"), json!({})]),
            (
                "tree",
                &[json!({"leaf": 1}), json!({"leaf": 1, "branch": {"leaf": 2, "branch": null}})],
                &[json!({}), json!({"leaf": 1, "branch": {}}), json!(1)],
            ),
            ("inner", std::slice::from_ref(&inner), &[json!({}), json!({"name": null}), json!("a")]),
            ("number", &[json!(0), json!(255)], &[json!(256), json!(-1), json!("1"), json!(1.5)]),
            ("text", &[json!(""), json!("a")], &[json!(1), json!(["a"])]),
            ("list", &[json!([]), json!([inner])], &[json!([null]), json!({}), json!("a")]),
            ("option", &[json!({"by": "foot"})], &[json!({"by": "boat"}), json!("foot")]),
            ("result", &[json!({"Ok": 1}), json!({"Err": "a"})], &[json!({"Ok": "a"}), json!({}), json!(1)]),
            ("pair", &[json!([1, "a"])], &[json!([1]), json!(["a", 1]), json!({})]),
        ];
        let schema = of::<Optional>().unwrap();
        let properties = schema["properties"].as_object().unwrap();
        assert!(!schema.contains_key("required"), "{schema:?}");
        assert_eq!(properties.len(), table.len(), "every shape has its row");
        let compiled = CompiledSchema::new(&schema).unwrap();
        let check = |arguments: Value, fits: bool| {
            let Value::Object(arguments) = arguments else { unreachable!() };
            let found = compiled.check_arguments(&arguments);
            assert_eq!(found.is_ok(), fits, "the schema of {arguments:?}: {found:?}; {properties:#?}");
            assert_eq!(Optional::read(arguments.clone()).is_ok(), fits, "the type of {arguments:?}");
        };
        check(json!({}), true);
        for (name, right, wrong) in table {
            assert!(properties.contains_key(*name), "{name}");
            check(json!({*name: null}), true);
            right.iter().for_each(|value| check(json!({*name: value}), true));
            wrong.iter().for_each(|value| check(json!({*name: value}), false));
        }
    }

    /// TLS-08: a schema that somebody wrote keeps its meaning: what cannot be taught to take null keeps `anyOf`.
    #[test]
    fn by_hand() {
        let none = json!({"type": "null"});
        let table = [
            (json!({"type": "string"}), Some(json!({"type": ["string", "null"]}))),
            (json!({"type": ["string", "integer"]}), Some(json!({"type": ["string", "integer", "null"]}))),
            (json!({"type": ["string", "null"]}), Some(json!({"type": ["string", "null"]}))),
            (
                json!({"type": "string", "enum": ["a"]}),
                Some(json!({"type": ["string", "null"], "enum": ["a", null]})),
            ),
            (json!({"enum": ["a", null]}), Some(json!({"enum": ["a", null]}))),
            (json!({"minLength": 1}), Some(json!({"minLength": 1}))),
            (
                json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
                None, // null fits both
            ),
            (json!({"oneOf": [{"const": "a"}, {}]}), None),
            (json!({"oneOf": [{"const": null}, {"enum": [null]}, {"type": ["string", "null"]}]}), None),
            (json!({"type": "string", "const": "a"}), None),
            (json!({"type": "string", "not": {"const": "a"}}), None),
            (json!({"type": "string", "allOf": [{"const": "a"}]}), None),
            (json!({"$ref": "#/$defs/a"}), None),
            (json!({"anyOf": [{"const": 1}]}), Some(json!({"anyOf": [{"const": 1}, {"type": "null"}]}))),
        ];
        for (inner, expected) in table {
            for branches in [json!([inner, none]), json!([none, inner])] {
                let mut schema = json!({"description": "d", "anyOf": branches});
                let mut expected = expected.clone().unwrap_or_else(|| json!({"anyOf": branches}));
                expected["description"] = "d".into();
                simplify(&mut schema);
                assert_eq!(schema, expected, "{inner}");
            }
        }
        let beside = json!({"type": "object", "anyOf": [{"type": "object", "required": ["a"]}, none]});
        let mut schema = beside.clone();
        simplify(&mut schema);
        assert_eq!(schema, beside, "other words beside it");
    }

    #[derive(Deserialize, Serialize, JsonSchema)]
    struct Column {
        format: String,
    }

    #[derive(Deserialize, JsonSchema)]
    #[allow(dead_code)]
    struct Table {
        #[serde(default = "int32")]
        column: Column,
        /// Named as words of a schema are.
        default: u32,
        #[serde(rename = "const")]
        constant: Option<Tagged>,
    }

    fn int32() -> Column {
        Column { format: "int32".into() }
    }

    /// TLS-08: values are no schemas, and names are no keywords.
    #[test]
    fn values_and_names() {
        let schema = Value::Object(of::<Table>().unwrap());
        let properties = &schema["properties"];
        assert_eq!(properties["column"]["default"], json!({"format": "int32"}));
        assert_eq!(properties["default"].get("format"), None, "{schema}");
        assert_eq!(properties["const"].get("anyOf"), None, "{schema}");
    }

    /// TLS-08: what is no object is refused with a sentence.
    #[test]
    fn no_object() {
        assert!(of::<String>().unwrap_err().contains("struct"));
        assert!(of::<Documented>().unwrap_err().contains("struct"));
    }
}
