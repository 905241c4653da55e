//! TLS-03, TLS-08: schemas of strangers are compiled within bounds; arguments are judged in useful words.

use rap_types::{
    HttpUrl, Tool, ToolName, Toolset,
    validate::{CompiledSchema, CompiledToolset},
};
use serde_json::{Map, Value, json};

fn map(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn refused(schema: Value) -> (String, String) {
    let fault = CompiledSchema::new(&map(schema.clone())).expect_err(&format!("taken: {schema}"));
    assert_eq!(fault.obligation(), "TLS-08");
    (fault.pointer().to_owned(), fault.message().to_owned())
}

/// TLS-08: what is taken.
#[test]
fn valid_schemas_compile() {
    for schema in [
        json!({"type": "object"}),
        json!({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "string"}}, "properties": {"x": {"$ref": "#/definitions/a"}}}),
        json!({"type": "object", "$schema": "http://json-schema.org/draft-04/schema#", "properties": {"x": {"type": "integer", "minimum": 1, "exclusiveMinimum": true}}}),
        json!({"type": "object", "$schema": "https://json-schema.org/draft/2019-09/schema"}),
        // A tree: the circle steps into a smaller value.
        json!({"type": "object", "$defs": {"node": {"type": "object", "properties": {"left": {"$ref": "#/$defs/node"}, "right": {"$ref": "#/$defs/node"}}}}, "properties": {"root": {"$ref": "#/$defs/node"}}}),
        json!({"type": "object", "properties": {"child": {"$ref": "#"}}}),
        json!({"type": "object", "properties": {"child": {"$dynamicRef": "#node"}}, "$dynamicAnchor": "node"}),
        json!({"type": "object", "$defs": {"a": {"$anchor": "here", "type": "string"}}, "properties": {"x": {"$ref": "#here"}}}),
        json!({"type": "object", "$id": "https://example.com/s.json", "$defs": {"a": {"$id": "a.json", "type": "string"}}, "properties": {"x": {"$ref": "a.json"}, "y": {"$ref": "https://example.com/s.json#/$defs/a"}}}),
        // Data, not references.
        json!({"type": "object", "properties": {"x": {"const": {"$ref": "http://example.com/"}}}, "default": {"$ref": "file:///etc/passwd"}}),
        json!({"type": "object", "properties": {"$ref": {"type": "string"}}}),
        json!({"type": "object", "properties": {"a/b~c": {"type": "string"}, "x": {"$ref": "#/properties/a~1b~0c"}, "y": {"$ref": "#/properties/a~1b%7E0c"}}}),
        json!({"type": "object", "properties": {"x": {"pattern": "^[a-z]{1,64}$"}, "y": {"pattern": "^\\w{1,128}$"}}}),
        json!({"type": "object", "x-vendor": [1, 2], "properties": {"x": {"format": "no-such-format"}}}),
    ] {
        if let Err(fault) = CompiledSchema::new(&map(schema.clone())) {
            panic!("{schema}: {fault}");
        }
    }
}

/// TLS-08: what is not a schema of type object.
#[test]
fn invalid_schemas_are_refused_by_pointer() {
    for (schema, pointer, words) in [
        (json!({}), "", "\"type\": \"object\""),
        (json!({"type": "string"}), "/type", "object"),
        (json!({"type": ["object", "null"]}), "/type", "object"),
        (json!({"type": "object", "properties": {"x": {"type": "strin"}}}), "/properties/x/type", ""),
        (json!({"type": "object", "properties": {"x": {"minimum": "1"}}}), "/properties/x/minimum", "number"),
        (json!({"type": "object", "required": "x"}), "/required", "array"),
        (json!({"type": "object", "properties": []}), "/properties", "object"),
        (
            json!({"type": "object", "$schema": "https://example.com/my-draft"}),
            "/$schema",
            "https://json-schema.org/draft/2020-12/schema",
        ),
        (json!({"type": "object", "properties": {"x": {"pattern": "("}}}), "/properties/x/pattern", ""),
        (json!({"type": "object", "properties": {"x": {"pattern": "(?=a)b"}}}), "/properties/x/pattern", ""),
        (json!({"type": "object", "properties": {"x": {"pattern": "(a)\\1"}}}), "/properties/x/pattern", ""),
        (
            json!({"type": "object", "properties": {"x": {"pattern": "((\\p{L}{100}){100}){100}"}}}),
            "/properties/x/pattern",
            "",
        ),
    ] {
        let (at, message) = refused(schema.clone());
        assert_eq!(at, pointer, "{schema}: {message}");
        assert!(message.contains(words), "{schema}: {message}");
    }
}

/// TLS-08 and the trap of fetching schemas: no reference leaves the document, none loops.
#[test]
fn references_stay_inside_and_end() {
    for target in [
        "http://127.0.0.1:1/schema.json",
        "https://json-schema.org/draft/2020-12/schema",
        "file:///etc/passwd",
        "other.json",
        "//example.com/x",
        "urn:example:x",
        "#/$defs/none",
        "#none",
        "#/%ff",
    ] {
        let schema = json!({"type": "object", "properties": {"x": {"$ref": target}}});
        assert_eq!(refused(schema).0, "/properties/x/$ref", "{target}");
    }
    for schema in [
        json!({"type": "object", "$ref": "#"}),
        json!({"type": "object", "anyOf": [{"$ref": "#"}]}),
        json!({"type": "object", "$dynamicAnchor": "a", "not": {"$dynamicRef": "#a"}}),
        json!({"type": "object", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}}),
        json!({"type": "object", "properties": {"x": {"$ref": "#/properties/x"}}}),
        json!({"type": "object", "$id": "https://example.com/s", "properties": {"x": {"$anchor": "a", "if": {"$ref": "https://example.com/s#a"}}}}),
    ] {
        let (_, message) = refused(schema.clone());
        assert!(message.contains("loop"), "{schema}: {message}");
    }
}

/// TLS-08: size, depth, patterns and fan-out are bounded before anything is compiled.
#[test]
fn hostile_schemas_are_bounded() {
    let mut deep = json!({"type": "string"});
    for _ in 0..40 {
        deep = json!({"items": {"not": deep}});
    }
    assert!(refused(json!({"type": "object", "properties": {"x": deep}})).1.contains("deeper"));
    let long = "x".repeat(rap_types::validate::SCHEMA_BYTES);
    assert!(refused(json!({"type": "object", "description": long})).1.contains("bytes"));
    let patterns: Map<String, Value> = (0..257).map(|i| (format!("^a{i}"), json!(true))).collect();
    assert!(refused(json!({"type": "object", "patternProperties": patterns})).1.contains("patterns"));

    // Each level judges the next one twice: 2^30 in all.
    let doubling: Map<String, Value> = (0..30)
        .map(|i| {
            let next = format!("#/$defs/d{}", i + 1);
            (format!("d{i}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}))
        })
        .chain([("d30".to_owned(), json!({"type": "string"}))])
        .collect();
    refused(json!({"type": "object", "$defs": doubling, "properties": {"x": {"$ref": "#/$defs/d0"}}}));

    // The same through parts of the value: judging is quick for what fits at once, and endless for what does not.
    for keyword in ["allOf", "anyOf"] {
        let chain: Map<String, Value> = (0..40)
            .map(|i| {
                let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
                (format!("d{i}"), json!({"properties": {"x": {keyword: [next, next]}}}))
            })
            .chain([("d40".to_owned(), json!({"type": "string"}))])
            .collect();
        let schema = json!({"type": "object", "$defs": chain, "properties": {"x": {"$ref": "#/$defs/d0"}}});
        assert!(refused(schema).1.contains("ways"));
    }

    // A chain of references through values and in place, far longer than a stack of calls likes.
    for link in ["properties", "in place"] {
        let chain: Map<String, Value> = (0..5000)
            .map(|i| {
                let next = json!({"$ref": format!("#/$defs/d{}", (i + 1) % 5000)});
                (format!("d{i}"), if link == "in place" { next } else { json!({"properties": {"x": next}}) })
            })
            .collect();
        refused(json!({"type": "object", "$defs": chain, "properties": {"x": {"$ref": "#/$defs/d0"}}}));
    }
}

/// The bounds leave room on the small stack of a worker thread.
#[test]
fn the_longest_allowed_chain_fits_a_small_stack() {
    let chain: Map<String, Value> = (0..990)
        .map(|i| {
            let next = json!({"$ref": format!("#/$defs/d{}", (i + 1) % 990)});
            (format!("d{i}"), json!({"properties": {"x": next}}))
        })
        .collect();
    let schema = map(json!({"type": "object", "$defs": chain, "properties": {"x": {"$ref": "#/$defs/d0"}}}));
    let worker = std::thread::Builder::new().stack_size(1024 * 1024);
    let compiled = worker.spawn(move || CompiledSchema::new(&schema).map(|_| ())).expect("a thread");
    compiled.join().expect("no overflow").expect("a valid schema");
}

/// A thread with little stack judges whatever the bounds let through, and says so where they do not: a chain of
/// subschemas for one value is gone through at every level of the arguments.
#[test]
fn deep_arguments_fit_a_small_stack() {
    for keyword in ["$ref", "allOf", "anyOf", "oneOf", "not"] {
        for links in [1, 2, 8, 20, 29] {
            let chain: Map<String, Value> = (0..links)
                .map(|i| {
                    let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
                    let link = match keyword {
                        "$ref" => next,
                        "not" => json!({"not": next}),
                        "oneOf" => json!({"oneOf": [next, false]}),
                        list => json!({list: [next]}),
                    };
                    (format!("d{i}"), link)
                })
                .chain([(
                    format!("d{links}"),
                    json!({"properties": {"x": {"$ref": "#/$defs/d0"}}, "required": ["zz"]}),
                )])
                .collect();
            let schema = json!({"type": "object", "$defs": chain, "$ref": "#/$defs/d0"});
            for depth in [3, 10, 20, 60, 124] {
                let schema = schema.clone();
                let worker = std::thread::Builder::new().stack_size(1024 * 1024);
                let judge = move || {
                    let arguments = (0..depth).fold(json!({}), |value, _| json!({"x": value}));
                    judged(schema, arguments)
                };
                let faults = worker.spawn(judge).expect("a thread").join().expect("no overflow");
                let refused = faults.iter().any(|f| f.contains("nest too deep to be checked"));
                assert!(depth > 3 || !refused, "{keyword} {links} {depth}: {faults:?}");
                assert!(links < 20 || depth < 60 || refused, "{keyword} {links} {depth}: {faults:?}");
            }
        }
    }
}

/// What a check costs is bounded, also where schema and arguments are small enough by themselves: a pattern by
/// its size times the string, a list of allowed values by its size times how often it is asked.
#[test]
fn the_work_of_a_check_is_bounded() {
    let pattern = json!({"type": "object", "properties": {"x": {"pattern": "[ab]*a[ab]{200}c"}}});
    assert!(judged(pattern.clone(), json!({"x": "ab".repeat(300)}))[0].contains("does not match"));
    assert_eq!(judged(pattern.clone(), json!({"y": "ab".repeat(100_000)})), Vec::<String>::new());
    let costly = judged(pattern.clone(), json!({"x": "ab".repeat(100_000)}));
    assert!(costly[0].contains("too much work"), "{costly:?}");
    // What was too much is no "no", either.
    let not = json!({"type": "object", "properties": {"x": {"not": {"pattern": "[ab]*a[ab]{200}c"}}}});
    assert!(judged(not, json!({"x": "ab".repeat(100_000)}))[0].contains("too much work"));
    // One check pays nothing of the next.
    assert!(judged(pattern, json!({"x": "ab"}))[0].contains("does not match"));

    let allowed: Vec<Value> = (0..4000).map(|i| json!({"a": i})).collect();
    let list = json!({"type": "object", "properties": {"x": {"items": {"enum": allowed}}}});
    assert_eq!(judged(list.clone(), json!({"x": &allowed[..10]})), Vec::<String>::new());
    assert!(judged(list, json!({"x": allowed}))[0].contains("too much work"));

    let names = json!({"type": "object", "patternProperties": {"[ab]*a[ab]{200}c": false}});
    assert_eq!(judged(names.clone(), json!({"ab".repeat(300): 1})), Vec::<String>::new());
    assert!(judged(names, json!({"ab".repeat(100_000): 1}))[0].contains("too much work"));
}

/// What a pattern costs at most is bounded before it is used, and what is wrong with it is said.
#[test]
fn patterns_are_refused_in_words() {
    for (pattern, words) in [
        ("[ab]*a[ab]{1000}c", "too large"),
        ("(?=a)b", "look-around"),
        ("(a)\\1", "back-references"),
        ("(", "regular expression"),
    ] {
        let (at, message) = refused(json!({"type": "object", "properties": {"x": {"pattern": pattern}}}));
        assert_eq!(at, "/properties/x/pattern");
        assert!(message.contains(words), "{pattern}: {message}");
        let (at, message) = refused(json!({"type": "object", "patternProperties": {pattern: true}}));
        assert!(at.starts_with("/patternProperties/"), "{at}");
        assert!(message.contains(words), "{pattern}: {message}");
    }
}

fn judged(schema: Value, arguments: Value) -> Vec<String> {
    let schema = CompiledSchema::new(&map(schema)).expect("a valid schema");
    match schema.check_arguments(&map(arguments)) {
        Ok(()) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// INV-02, INV-06: all faults, by pointer, in words to act on.
#[test]
fn arguments_are_judged_in_words() {
    let schema = json!({"type": "object", "required": ["city", "days"], "additionalProperties": false, "properties": {
        "city": {"type": "string", "minLength": 2},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "units": {"enum": ["metric", "imperial"]},
        "where": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["lat"]}]},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "maxItems": 2}
    }});
    for (arguments, expected) in [
        (json!({"city": "Oslo", "days": 3}), &[][..]),
        (json!({"city": "Oslo", "days": 3.0}), &[]),
        (json!({"city": "Oslo"}), &["\"days\" is required and missing"]),
        (json!({"city": "Oslo", "days": "3"}), &["/days: expected integer, got \"3\""]),
        (json!({"city": "Oslo", "days": 99}), &["/days: 99 is too large; at most 14 is allowed"]),
        (
            json!({"city": "Oslo", "days": 3, "units": "kelvin"}),
            &["/units: expected one of \"metric\", \"imperial\", got \"kelvin\""],
        ),
        (
            json!({"city": "Oslo", "days": 3, "town": 1}),
            &["unknown \"town\"; known are \"city\", \"days\", \"units\", \"where\", \"tags\""],
        ),
        (
            json!({"city": "Oslo", "days": 3, "tags": ["A"]}),
            &["/tags/0: \"A\" does not match the pattern ^[a-z]+$"],
        ),
        (
            json!({"city": "Oslo", "days": 3, "where": {}}),
            &[
                "/where: an object fits none of the allowed forms: (1) /where: expected string, got an object; (2) /where: \"lat\" is required and missing",
            ],
        ),
        (
            json!({"city": 1, "days": null}),
            &["/city: expected string, got 1", "/days: expected integer, got null"],
        ),
    ] {
        let mut found = judged(schema.clone(), arguments.clone());
        let mut expected: Vec<String> = expected.iter().map(|s| (*s).to_owned()).collect();
        // Members come in no promised order.
        let words = |list: &mut Vec<String>| {
            list.iter_mut().for_each(|s| {
                if let Some((head, names)) = s.split_once("known are ") {
                    let mut names: Vec<&str> = names.split(", ").collect();
                    names.sort_unstable();
                    *s = format!("{head}known are {}", names.join(", "));
                }
            });
            list.sort();
        };
        words(&mut found);
        words(&mut expected);
        assert_eq!(found, expected, "{arguments}");
    }
}

/// Rules that ask for a whole object or item say which.
#[test]
fn what_is_asked_for_is_shown() {
    for (rule, value, expected) in [
        (
            json!({"enum": [{"a": 1}, [2]]}),
            json!({"a": 2}),
            "/x: expected one of {\"a\":1}, [2], got {\"a\":2}",
        ),
        (json!({"const": {"a": 1}}), json!([1]), "/x: expected {\"a\":1}, got [1]"),
        (
            json!({"contains": {"type": "string"}}),
            json!([1, 2]),
            "/x: no item is of the form that at least one must have (`contains`)",
        ),
    ] {
        let schema = json!({"type": "object", "properties": {"x": rule}});
        assert_eq!(judged(schema, json!({"x": value})), [expected]);
    }
}

/// What goes back to a model is bounded in number and length.
#[test]
fn faults_are_bounded() {
    let schema = json!({"type": "object", "additionalProperties": {"type": "integer"}});
    let arguments: Map<String, Value> =
        (0..100).map(|i| (format!("a{i}"), json!("é".repeat(5000)))).collect();
    let faults = judged(schema, Value::Object(arguments));
    assert_eq!(faults.len(), 20);
    assert!(faults.iter().all(|f| f.chars().count() < 200), "{faults:?}");
}

/// A schema that forks at every level is judged at once; where telling all faults would take for ever, less is
/// told.
#[test]
fn deep_arguments_are_judged_in_time() {
    let both = |a: &str| json!([{"$ref": format!("#/$defs/{a}")}, {"$ref": format!("#/$defs/{a}")}]);
    let recursive = json!({"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {
        "a": {"properties": {"bad": {"type": "string"}, "x": {"allOf": both("a")}}}}});
    let nested = |depth: usize, inner: Value| (0..depth).fold(inner, |value, _| json!({"x": value}));
    assert_eq!(judged(recursive.clone(), nested(50, json!({"bad": "good"}))), Vec::<String>::new());
    let deep = judged(recursive.clone(), nested(50, json!({"bad": 5})));
    assert!(deep[0].contains("do not fit"), "{deep:?}");
    let shallow = judged(recursive, nested(3, json!({"bad": 5})));
    assert!(shallow[0].starts_with("/x"), "{shallow:?}");
    // An ordinary tree does not fork: all is told, however deep.
    let tree = json!({"type": "object", "properties": {"bad": {"type": "string"}, "x": {"$ref": "#"}, "y": {"$ref": "#"}}});
    let found = judged(tree, nested(50, json!({"bad": 5})));
    assert!(found[0].ends_with("/bad: expected string, got 5"), "{found:?}");
}

/// `format` is an annotation in every draft: servers differ in what they assert.
#[test]
fn format_is_not_asserted() {
    for draft in ["https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#"] {
        let schema = json!({"type": "object", "$schema": draft, "properties": {"x": {"format": "date"}}});
        assert_eq!(judged(schema, json!({"x": "yesterday"})), Vec::<String>::new());
    }
}

fn toolset(schemas: Vec<(&str, Value)>) -> Toolset {
    let endpoint = HttpUrl::new("http://127.0.0.1:3001/rap").expect("a URL");
    let tools = schemas
        .into_iter()
        .map(|(name, schema)| Tool::new(ToolName::new(name).expect("a name"), "", map(schema)))
        .collect();
    Toolset::new("t", endpoint, tools).expect("a toolset")
}

/// TLS-03: one fault rejects the whole toolset, and all faults are told.
#[test]
fn a_toolset_is_taken_whole_or_not_at_all() {
    let good = json!({"type": "object", "required": ["x"]});
    let compiled =
        CompiledToolset::new(toolset(vec![("a", good.clone()), ("B", good.clone())])).expect("valid");
    assert_eq!(compiled.toolset().tools().len(), 2);
    assert!(compiled.tool("b").is_none(), "names are case-sensitive");
    let tool = compiled.tool("B").expect("offered");
    assert_eq!(tool.tool().name.as_str(), "B");
    assert!(tool.check_arguments(&Map::new()).is_err());
    assert!(tool.check_arguments(&map(json!({"x": 1}))).is_ok());

    let bad = json!({"type": "object", "properties": {"x": {"type": 1}}});
    let loops = json!({"type": "object", "allOf": [{"$ref": "#"}]});
    let faults =
        CompiledToolset::new(toolset(vec![("a", good), ("b", bad), ("c", loops)])).expect_err("broken");
    let places: Vec<&str> = faults.iter().map(rap_types::Fault::pointer).collect();
    assert_eq!(places, ["/tools/1/inputSchema/properties/x/type", "/tools/2/inputSchema"]);
    assert!(faults[0].message().contains("\"b\""), "{}", faults[0]);
}

/// The pattern budget is the toolset's: many small schemas cannot each spend it.
#[test]
fn patterns_are_bounded_over_the_toolset() {
    let names: Vec<String> = (0..300).map(|i| format!("t{i}")).collect();
    let schema = json!({"type": "object", "properties": {"x": {"pattern": "^a$"}}});
    let tools = names.iter().map(|n| (n.as_str(), schema.clone())).collect();
    let faults = CompiledToolset::new(toolset(tools)).expect_err("too many");
    assert!(faults[0].message().contains("patterns"), "{}", faults[0]);
}

#[test]
fn compiled_things_cross_threads() {
    fn assert<T: Send + Sync + Clone + 'static>() {}
    assert::<CompiledToolset>();
    assert::<CompiledSchema>();
}
