//! The hand-written OpenAPI documents: whether they speak of what is there, and of all of it.
//!
//! Their schemas are references to `spec/schema/`, so that there is nothing to drift but the surface: which
//! paths there are, what they take and what they answer. That is told once more here, and compared.

use super::read;
use serde_json::{Map, Value};
use std::path::Path;
use yaml_rust2::{Yaml, YamlLoader};

/// An operation: the document, its path, its method, the schemas of its body and of its 200, and the statuses
/// that it answers.
struct Operation(
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    &'static [&'static str],
);

/// What an authenticated POST of a message may be answered by a server.
const POSTED: &[&str] = &["200", "400", "401", "413", "415", "503"];

/// The body of what the endpoint promises to post later.
const OUTCOME: (&str, &str, &str) = ("{$request.body#/callback_url}", "outcome", "callback");

const SURFACE: &[Operation] = &[
    Operation("server", "/.well-known/rap-toolset", "get", None, Some("toolset"), &["200"]),
    Operation("server", "/invoke", "post", Some("invocation"), None, POSTED),
    Operation("server", "/close_thread", "post", Some("close_thread"), None, POSTED),
    Operation("server", "/cancel_tool_call", "post", Some("cancel_tool_call"), None, POSTED),
    Operation(
        "server",
        "/migrate",
        "post",
        Some("migrate"),
        None,
        &["200", "400", "401", "413", "415", "502", "503"],
    ),
    Operation(
        "server",
        "/choices/{choice}",
        "post",
        Some("choice_response"),
        None,
        &["200", "400", "401", "409", "413", "415", "503"],
    ),
    Operation(
        "server",
        "/tool_call_status",
        "post",
        Some("tool_call_status"),
        Some("tool_call_alive"),
        POSTED,
    ),
    Operation(
        "runtime",
        "/callback/{capability}",
        "post",
        Some("callback"),
        None,
        &["200", "400", "401", "403", "404", "410", "413", "415", "429", "503"],
    ),
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
    for Operation(_, path, method, body, answer, statuses) in expected {
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
        let answers: Vec<&str> =
            operation["responses"].as_object().unwrap_or(&empty).keys().map(String::as_str).collect();
        for status in answers.iter().filter(|s| !statuses.contains(s)) {
            faults.push(format!("{path}: {status} is no answer of this operation"));
        }
        for status in statuses.iter().filter(|s| !answers.contains(s)) {
            faults.push(format!("{path}: the answer {status} is missing"));
        }
        if *body == Some("invocation") {
            let (url, name, expected) = OUTCOME;
            let later = schema(&operation["callbacks"][name][url]["post"]["requestBody"]);
            if later.as_deref() != Some(expected) {
                faults.push(format!("{path}: posts {later:?} later, expected {expected:?}"));
            }
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

#[cfg(test)]
mod tests {
    use super::{json, surface};
    use crate::r#gen::{read, root};
    use yaml_rust2::YamlLoader;

    /// What the check must see, each by one change of the document as it is.
    #[test]
    fn changes_of_the_surface_are_seen() {
        let text = read(&root().join("spec/openapi/server.yaml")).expect("read");
        for (before, after, fault) in [
            ("", "", ""),
            ("$ref: ../schema/callback.json", "$ref: ../schema/oauth.json", "later"),
            ("$ref: ../schema/migrate.json", "$ref: ../schema/oauth.json", "takes"),
            ("\"415\":", "\"418\":", "415 is missing"),
            ("\"502\":", "\"500\":", "500 is no answer"),
            ("/close_thread:", "/close:", "no path of the protocol"),
        ] {
            let changed = text.replacen(before, after, usize::from(!before.is_empty()));
            let document = json(&YamlLoader::load_from_str(&changed).expect("YAML").remove(0)).expect("JSON");
            let mut faults = Vec::new();
            surface("server", &document, &mut faults);
            assert_eq!(faults.is_empty(), before.is_empty(), "{before}: {faults:?}");
            assert!(faults.iter().any(|f| f.contains(fault)) || before.is_empty(), "{before}: {faults:?}");
        }
    }
}
