//! The schemas of the specification, compiled once, and the schemas of tools, compiled with nothing fetched and with
//! bounded work.

mod work;

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

/// The stack on which schemas are compiled, in bytes: references may lead through all of a schema, one into the other.
const STACK: usize = 64 * 1024 * 1024;

/// Compiles a schema; nothing is fetched, patterns match in linear time.
///
/// # Errors
/// In words, why it is no schema, or takes too much work; [`wrong`] tells them apart.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    if let Some(why) = work::heavy(schema) {
        return Err(format!("judging by it takes too much work: {why}"));
    }
    let build = || {
        jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(schema)
            .map_err(|e| format!("at {:?}: {e}", e.instance_path().as_str()))
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, build);
        let thread = thread.map_err(|e| format!("no thread can be started to compile it: {e}"))?;
        thread.join().unwrap_or_else(|_| Err("the validator panicked".to_owned()))
    })
}

/// What is wrong with a schema, in words. One that takes too much work to be compiled is held against the schema of its
/// draft alone: to be large is no fault.
pub fn wrong(schema: &Value) -> Option<String> {
    if work::heavy(schema).is_none() {
        return compile(schema).err();
    }
    let why = jsonschema::meta::validate(schema).err()?;
    Some(format!("at {:?}: {why}", why.instance_path().as_str()))
}

/// Whether a value can be judged by a schema with bounded work; whoever is judged may have made either.
pub fn affordable(schema: &Value, value: &Value) -> bool {
    work::affordable(schema, value)
}
