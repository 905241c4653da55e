//! The hand-written OpenAPI documents: whether they speak of what is there, and of all of it.
//!
//! Their schemas are references to `spec/schema/`, so that there is nothing to drift but the surface: which
//! paths there are, what they take and what they answer. That is told once more here, and compared.

use super::read;
use serde_json::{Map, Value};
use std::path::Path;
use yaml_rust2::{Yaml, YamlLoader};

/// An operation: the document, its path, its method, and the schemas of its body and of its 200.
struct Operation(&'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);

const SURFACE: &[Operation] = &[
    Operation("server", "/.well-known/rap-toolset", "get", None, Some("toolset")),
    Operation("server", "/invoke", "post", Some("invocation"), None),
    Operation("server", "/close_thread", "post", Some("close_thread"), None),
    Operation("server", "/cancel_tool_call", "post", Some("cancel_tool_call"), None),
    Operation("server", "/migrate", "post", Some("migrate"), None),
    Operation("server", "/choices/{choice}", "post", Some("choice_response"), None),
    Operation("server", "/tool_call_status", "post", Some("tool_call_status"), Some("tool_call_alive")),
    Operation("runtime", "/callback/{capability}", "post", Some("callback"), None),
];

/// What does not hold.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let folder = root.join("spec/openapi");
    let mut faults = Vec::new();
    for name in ["server", "runtime"] {
        let path = folder.join(format!("{name}.yaml"));
        let mut documents =
            YamlLoader::load_from_str(&read(&path)?).map_err(|e| format!("{}: {e}", path.display()))?;
        let document = json(&documents.pop().unwrap_or(Yaml::Null))?;
        let mut found = Vec::new();
        if document["openapi"] != "3.1.0" {
            found.push("`openapi` is not 3.1.0".to_owned());
        }
        references(&folder, &document, &document, &mut found);
        surface(name, &document, &mut found);
        faults.extend(found.into_iter().map(|f| format!("spec/openapi/{name}.yaml: {f}")));
    }
    Ok(faults)
}

fn references(folder: &Path, root: &Value, value: &Value, faults: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let (Value::String(target), "$ref" | "externalValue") = (value, key.as_str()) else {
                    references(folder, root, value, faults);
                    continue;
                };
                let there = match target.strip_prefix('#') {
                    Some(pointer) => root.pointer(pointer).is_some(),
                    None => folder.join(target).exists(),
                };
                if !there {
                    faults.push(format!("{key} {target}: not there"));
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|v| references(folder, root, v, faults)),
        _ => {}
    }
}

fn surface(name: &str, document: &Value, faults: &mut Vec<String>) {
    let expected: Vec<&Operation> = SURFACE.iter().filter(|o| o.0 == name).collect();
    let empty = Map::new();
    let paths = document["paths"].as_object().unwrap_or(&empty);
    for path in paths.keys().filter(|p| !expected.iter().any(|o| o.1 == **p)) {
        faults.push(format!("{path}: no path of the protocol"));
    }
    for Operation(_, path, method, body, answer) in expected {
        let Some(operation) = paths.get(*path).and_then(|p| p.get(*method)) else {
            faults.push(format!("{path}: {method} is missing"));
            continue;
        };
        let schema = |content: &Value| {
            let target = content["content"]["application/json"]["schema"]["$ref"].as_str()?;
            Some(target.strip_prefix("../schema/")?.strip_suffix(".json")?.to_owned())
        };
        let (takes, gives) = (schema(&operation["requestBody"]), schema(&operation["responses"]["200"]));
        if takes.as_deref() != *body {
            faults.push(format!("{path}: takes {takes:?}, expected {body:?}"));
        }
        if gives.as_deref() != *answer {
            faults.push(format!("{path}: answers 200 with {gives:?}, expected {answer:?}"));
        }
        if operation["responses"].get("200").is_none() {
            faults.push(format!("{path}: no answer 200"));
        }
    }
}

fn json(yaml: &Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::String(text) | Yaml::Real(text) => text.as_str().into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(truth) => (*truth).into(),
        Yaml::Null => Value::Null,
        Yaml::Array(items) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Yaml::Hash(members) => {
            let mut map = Map::new();
            for (key, value) in members {
                let key = key.as_str().ok_or_else(|| format!("a key that is no string: {key:?}"))?;
                map.insert(key.to_owned(), json(value)?);
            }
            Value::Object(map)
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err("aliases are not used here".to_owned()),
    })
}
