//! The schemas of the specification, compiled once, and the schemas of tools, compiled with nothing fetched.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use std::{collections::HashMap, sync::OnceLock};

static COMPILED: OnceLock<HashMap<&'static str, Validator>> = OnceLock::new();

/// What is wrong with a message of a kind (a name of `rap_spec::SCHEMAS`): pointer and rule, or nothing.
pub fn faults(kind: &str, message: &Value) -> Option<String> {
    let all = COMPILED.get_or_init(|| {
        rap_spec::SCHEMAS
            .iter()
            .filter_map(|s| Some((s.name, compile(&serde_json::from_str(s.json).ok()?).ok()?)))
            .collect()
    });
    match all.get(kind) {
        Some(validator) => first(validator, message),
        None => Some(format!("bug: no schema of the kind {kind}")),
    }
}

/// The first fault of a value, as pointer and words.
pub fn first(validator: &Validator, value: &Value) -> Option<String> {
    let error = validator.iter_errors(value).next()?;
    let at = error.instance_path().as_str().to_owned();
    let mut words = error.to_string();
    if words.len() > 300 {
        let end = (0..=300).rev().find(|at| words.is_char_boundary(*at)).unwrap_or(0);
        words.truncate(end);
        words.push('…');
    }
    Some(format!("at {:?}: {words}", if at.is_empty() { "/" } else { &at }))
}

/// Compiles a schema; nothing is fetched, patterns match in linear time.
///
/// # Errors
/// In words, why it is no schema.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|e| format!("at {:?}: {e}", e.instance_path().as_str()))
}
