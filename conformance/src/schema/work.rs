//! What judging by a schema may cost. Schemas come from whoever is judged: a few bytes can ask for work without end, by
//! references that fork at every step, by patterns that repeat repetitions, by chains that nest deeper than any stack.
//! So a schema is looked at before it is compiled, and walked with a value before the value is judged by it.

use serde_json::{Map, Value};
use std::{cell::Cell, collections::HashSet};

/// The most patterns of one schema, and about how many states all of them together may have.
const PATTERNS: usize = 256;
const STATES: u64 = 200_000;

/// The most places that references lead to.
const TARGETS: usize = 1000;

/// The deepest nesting, in JSON levels.
const DEPTH: usize = 64;

/// How many steps a value may take, and how many subschemas may be at work inside of each other.
const STEPS: u64 = 300_000;
const STACKED: usize = 200;

/// Why a schema takes too much to be compiled.
pub(super) fn heavy(schema: &Value) -> Option<&'static str> {
    let mut seen = Seen::default();
    if !seen.look(schema, 0) {
        return Some("it nests too deeply");
    }
    if seen.patterns > PATTERNS || seen.states > STATES {
        return Some("its patterns are too many or too large");
    }
    (seen.targets.len() > TARGETS).then_some("it has too many references")
}

#[derive(Default)]
struct Seen<'a> {
    patterns: usize,
    states: u64,
    targets: HashSet<&'a str>,
}

impl<'a> Seen<'a> {
    /// Looks at everything that might be part of the schema; false where that nests too deeply.
    fn look(&mut self, value: &'a Value, depth: usize) -> bool {
        if depth > DEPTH {
            return false;
        }
        match value {
            Value::Array(items) => items.iter().all(|item| self.look(item, depth + 1)),
            Value::Object(members) => {
                let by_name = members.get("patternProperties").and_then(Value::as_object);
                let names = by_name.into_iter().flat_map(|all| all.keys().map(String::as_str));
                for pattern in members.get("pattern").and_then(Value::as_str).into_iter().chain(names) {
                    self.patterns += 1;
                    self.states = self.states.saturating_add(states(pattern));
                }
                let references =
                    ["$ref", "$dynamicRef"].map(|name| members.get(name).and_then(Value::as_str));
                self.targets.extend(references.into_iter().flatten());
                members.values().all(|member| self.look(member, depth + 1))
            }
            _ => true,
        }
    }
}

/// About how many states a pattern has, at most: as if every repetition that is counted were of all of it.
fn states(pattern: &str) -> u64 {
    let counted = pattern.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
    let most = counted
        .filter_map(|(bounds, _)| bounds.split(',').filter_map(|n| n.trim().parse::<u64>().ok()).max());
    most.fold(pattern.len() as u64, |all, times| all.saturating_mul(times.max(1)))
}

/// Whether a value can be judged by a schema with bounded work: every way of the validator is gone, and counted.
pub(super) fn affordable(schema: &Value, value: &Value) -> bool {
    let walk = Walk { root: schema, left: Cell::new(STEPS) };
    walk.go(schema, value, 0).is_some()
}

struct Walk<'a> {
    root: &'a Value,
    left: Cell<u64>,
}

impl<'a> Walk<'a> {
    /// Pays; nothing where it cannot.
    fn pay(&self, steps: u64) -> Option<()> {
        self.left.set(self.left.get().checked_sub(steps)?);
        Some(())
    }

    fn go(&self, schema: &'a Value, value: &Value, depth: usize) -> Option<()> {
        self.pay(1)?;
        let Value::Object(members) = schema else { return Some(()) };
        if depth > STACKED {
            return None;
        }
        for (keyword, part) in members {
            match keyword.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => {
                    for target in self.targets(part.as_str()?)? {
                        self.go(target, value, depth + 1)?;
                    }
                }
                "not" | "if" | "then" | "else" => self.go(part, value, depth + 1)?,
                "allOf" | "anyOf" | "oneOf" => {
                    for branch in part.as_array().into_iter().flatten() {
                        self.go(branch, value, depth + 1)?;
                    }
                }
                "dependentSchemas" | "dependencies" => {
                    for branch in part.as_object().into_iter().flat_map(Map::values) {
                        self.go(branch, value, depth + 1)?;
                    }
                }
                "pattern" => {
                    self.matched(part.as_str().unwrap_or_default(), value.as_str().unwrap_or_default())?
                }
                "enum" | "const" => {
                    let text = value.as_str().map_or(0, str::len) as u64;
                    self.pay(part.as_array().map_or(1, |all| all.len() as u64).saturating_add(text / 64))?;
                }
                _ => match value {
                    Value::Array(items) => self.items(keyword, part, items, depth)?,
                    Value::Object(values) => self.members(keyword, part, values, depth)?,
                    _ => {}
                },
            }
        }
        Some(())
    }

    fn items(&self, keyword: &str, part: &'a Value, items: &[Value], depth: usize) -> Option<()> {
        match (keyword, part) {
            ("prefixItems" | "items", Value::Array(schemas)) => {
                for (schema, item) in schemas.iter().zip(items) {
                    self.go(schema, item, depth + 1)?;
                }
            }
            ("items" | "additionalItems" | "contains" | "unevaluatedItems", schema) => {
                for item in items {
                    self.go(schema, item, depth + 1)?;
                }
            }
            ("uniqueItems", _) => self.pay(items.len() as u64 * 4)?,
            _ => {}
        }
        Some(())
    }

    fn members(
        &self,
        keyword: &str,
        part: &'a Value,
        values: &Map<String, Value>,
        depth: usize,
    ) -> Option<()> {
        match (keyword, part) {
            ("properties", Value::Object(schemas)) => {
                self.pay(values.len() as u64)?;
                for (name, value) in values {
                    if let Some(schema) = schemas.get(name) {
                        self.go(schema, value, depth + 1)?;
                    }
                }
            }
            ("patternProperties", Value::Object(schemas)) => {
                for (pattern, schema) in schemas {
                    for (name, value) in values {
                        self.matched(pattern, name)?;
                        self.go(schema, value, depth + 1)?;
                    }
                }
            }
            ("additionalProperties" | "unevaluatedProperties", schema) => {
                for value in values.values() {
                    self.go(schema, value, depth + 1)?;
                }
            }
            ("propertyNames", schema) => {
                for name in values.keys() {
                    self.pay(name.len() as u64 / 64)?;
                    self.go(schema, &Value::String(name.clone()), depth + 1)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    fn matched(&self, pattern: &str, text: &str) -> Option<()> {
        self.pay(states(pattern).saturating_mul(text.len() as u64 + 1) / 64)
    }

    /// Where a reference leads; nothing where it takes more than this to tell.
    fn targets(&self, reference: &str) -> Option<Vec<&'a Value>> {
        self.pay(reference.len() as u64 / 8)?;
        if let Some(pointer) = reference.strip_prefix('#')
            && (pointer.is_empty() || pointer.starts_with('/'))
        {
            return Some(vec![self.root.pointer(pointer)?]);
        }
        let name = reference.strip_prefix('#')?;
        let mut found = Vec::new();
        self.anchored(self.root, name, &mut found)?;
        (!found.is_empty()).then_some(found)
    }

    fn anchored(&self, value: &'a Value, name: &str, found: &mut Vec<&'a Value>) -> Option<()> {
        self.pay(1)?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.anchored(item, name, found)),
            Value::Object(members) => {
                if ["$anchor", "$dynamicAnchor"]
                    .iter()
                    .any(|key| members.get(*key).is_some_and(|n| n == name))
                {
                    found.push(value);
                }
                members.values().try_for_each(|member| self.anchored(member, name, found))
            }
            _ => Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Each definition names the next one twice.
    fn doubling(levels: usize) -> Value {
        let mut definitions = Map::new();
        for n in 0..levels {
            let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            definitions.insert(format!("d{n}"), json!({ "anyOf": [next, next] }));
        }
        definitions.insert(format!("d{levels}"), json!({ "type": "string" }));
        json!({ "$ref": "#/$defs/d0", "$defs": definitions })
    }

    #[test]
    fn work_without_end_is_seen_before_it_is_begun() {
        let tree = json!({
            "type": "object", "required": ["left"],
            "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } },
        });
        let named = json!({ "items": { "$ref": "#leaf" }, "$defs": { "l": { "$anchor": "leaf", "type": "integer" } } });
        for (schema, value, bearable) in [
            (json!({}), json!({}), true),
            (doubling(4), json!(7), true),
            (doubling(60), json!(7), false),
            (json!({ "$ref": "#" }), json!(7), false),
            (tree, json!({ "left": { "left": {} }, "right": {} }), true),
            (named, json!([1, 2]), true),
            (json!({ "$ref": "https://example.com/other" }), json!(7), false),
            (json!({ "pattern": "^(a{30}){30}$" }), json!("aaaa"), true),
            (json!({ "pattern": "^(a{1000}){1000}$" }), json!("a".repeat(1000)), false),
        ] {
            assert_eq!(affordable(&schema, &value), bearable, "{schema} {value}");
        }
    }

    #[test]
    fn what_cannot_be_compiled_with_little_work_is_heavy() {
        let mut deep = json!({});
        for _ in 0..40 {
            deep = json!({ "properties": { "p": deep } });
        }
        let patterns: Map<String, Value> = (0..300).map(|n| (format!("^p{n}$"), json!(true))).collect();
        for (schema, heavy_one) in [
            (
                json!({ "type": "object", "properties": { "s": { "type": "string", "pattern": "^[a-z]{1,64}$" } } }),
                false,
            ),
            (doubling(60), false),
            (doubling(2000), true),
            (json!({ "pattern": "(a{1000}){1000}" }), true),
            (json!({ "patternProperties": patterns }), true),
            (deep, true),
        ] {
            assert_eq!(heavy(&schema).is_some(), heavy_one, "{:.200}", schema.to_string());
        }
    }
}
