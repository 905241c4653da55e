//! Every vector of `spec/vectors`, through the types and through the schemas: both must agree, or the vector
//! says why a schema cannot tell.

use rap_spec::{VECTORS, Vector};
use rap_types::{
    CallbackMessage, CancelToolCall, ChoiceResponse, CloseThread, Fault, Invocation, Message, Migrate,
    ToolCallAlive, ToolCallStatus, Toolset, parse, validate::CompiledToolset,
};
use serde::Serialize;
use serde_json::Value;
use std::{collections::HashMap, fmt::Debug};

/// Reads a vector as its kind and writes it again.
pub(crate) fn round_trip(kind: &str, body: &[u8]) -> Result<Value, Fault> {
    fn of<M: Message + Serialize + PartialEq + Debug>(body: &[u8]) -> Result<Value, Fault> {
        let message: M = parse(body)?;
        let written = serde_json::to_vec(&message).expect("a message serialises");
        let again: M = parse(&written).expect("what is written can be read");
        assert_eq!(again, message, "{}", String::from_utf8_lossy(&written));
        Ok(serde_json::from_slice(&written).expect("JSON"))
    }
    match kind {
        "invocation" => of::<Invocation>(body),
        "tool_result" | "subscription_event" | "oauth" | "user_choice" | "view_update" => {
            of::<CallbackMessage>(body)
        }
        "toolset" => {
            CompiledToolset::new(parse(body)?).map_err(|mut faults| faults.remove(0))?;
            of::<Toolset>(body)
        }
        "close_thread" => of::<CloseThread>(body),
        "cancel_tool_call" => of::<CancelToolCall>(body),
        "tool_call_status" => of::<ToolCallStatus>(body),
        "tool_call_alive" => of::<ToolCallAlive>(body),
        "migrate" => of::<Migrate>(body),
        "choice_response" => of::<ChoiceResponse>(body),
        other => panic!("no type for vectors of kind {other:?}"),
    }
}

pub(crate) struct Schemas(HashMap<&'static str, jsonschema::Validator>);

impl Schemas {
    pub(crate) fn new() -> Self {
        let compiled = rap_spec::SCHEMAS.iter().map(|schema| {
            let document: Value = serde_json::from_str(schema.json).expect("a schema is JSON");
            jsonschema::draft202012::meta::validate(&document).expect("a schema is a schema");
            (schema.name, jsonschema::validator_for(&document).expect("a schema compiles"))
        });
        Self(compiled.collect())
    }

    pub(crate) fn accepts(&self, kind: &str, document: &Value) -> bool {
        self.0[kind].is_valid(document)
    }
}

fn is_callback(kind: &str) -> bool {
    matches!(kind, "tool_result" | "subscription_event" | "oauth" | "user_choice" | "view_update")
}

fn faults(check: impl Fn(&Vector) -> Result<(), String>) {
    let found: Vec<String> = VECTORS
        .iter()
        .filter_map(|vector| check(vector).err().map(|e| format!("{}/{}: {e}", vector.kind, vector.name)))
        .collect();
    assert!(found.is_empty(), "{} vectors:\n{}", found.len(), found.join("\n"));
}

/// TRN-08, TRN-13, TRN-14, TLS-03: the types take what is valid, and refuse the rest by obligation and pointer.
#[test]
fn types_judge_every_vector() {
    faults(|vector| match (round_trip(vector.kind, vector.json.as_bytes()), vector.expected) {
        (Ok(_), None) => Ok(()),
        (Ok(_), Some(expected)) => Err(format!("taken, though {}", expected.why)),
        (Err(fault), None) => Err(format!("refused: {fault}")),
        (Err(fault), Some(expected)) => {
            if (fault.obligation(), fault.pointer()) == (expected.obligation, expected.pointer) {
                Ok(())
            } else {
                Err(format!("expected {} at {:?}, got: {fault}", expected.obligation, expected.pointer))
            }
        }
    });
}

/// The generated schemas agree with the types, and say the same of what the types write.
#[test]
fn schemas_judge_every_vector() {
    let schemas = Schemas::new();
    faults(|vector| {
        let Ok(document) = serde_json::from_str::<Value>(vector.json) else {
            return if vector.is_valid() { Err("not JSON".to_owned()) } else { Ok(()) };
        };
        let accepted = schemas.accepts(vector.kind, &document);
        if is_callback(vector.kind) && schemas.accepts("callback", &document) != accepted {
            return Err("its own schema and the schema `callback` disagree".to_owned());
        }
        if vector.is_valid() && !schemas.accepts("rap", &document) {
            return Err("the bundle refuses it".to_owned());
        }
        match (accepted, vector.expected) {
            (true, None) => {
                let written = round_trip(vector.kind, vector.json.as_bytes()).map_err(|e| e.to_string())?;
                if schemas.accepts(vector.kind, &written) {
                    Ok(())
                } else {
                    Err(format!("refuses {written}"))
                }
            }
            (false, None) => Err("the schema refuses it".to_owned()),
            (accepted, Some(expected)) => match (accepted, expected.schema_accepts) {
                (true, None) => Err(format!("the schema accepts it, though {}", expected.why)),
                (false, Some(why)) => Err(format!("the schema refuses it, though {why}")),
                _ => Ok(()),
            },
        }
    });
}

/// The promise of the specification: at least 200, and both sides of every kind.
#[test]
fn vectors_cover_every_kind() {
    assert!(VECTORS.len() >= 200, "{}", VECTORS.len());
    for schema in rap_spec::SCHEMAS {
        if matches!(schema.name, "rap" | "callback") {
            continue;
        }
        for valid in [true, false] {
            let any = VECTORS.iter().any(|v| v.kind == schema.name && v.is_valid() == valid);
            assert!(any, "no vector of kind {} with valid = {valid}", schema.name);
        }
    }
    for vector in VECTORS {
        assert!(rap_spec::schema(vector.kind).is_some(), "{}: no schema", vector.kind);
    }
}
