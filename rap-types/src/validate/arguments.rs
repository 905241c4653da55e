//! What is wrong with arguments, said so that a model can mend its call.

use jsonschema::{
    ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::Value;
use std::fmt;

/// No more faults of one call are listed.
const FAULTS: usize = 20;
/// No more alternatives, options or names are listed in one message.
const LISTED: usize = 20;
/// The longest value shown in a message, in characters.
const SHOWN: usize = 80;

/// One thing that is wrong with arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArgumentFault {
    /// Where: a JSON pointer into the arguments, empty for the whole.
    pub pointer: String,
    /// What, in words that a model can act on.
    pub message: String,
}

impl fmt::Display for ArgumentFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

impl ArgumentFault {
    /// What can be said when a precise answer would cost too much.
    pub(super) fn unexplained() -> Self {
        let message = "the arguments do not fit the tool's inputSchema, and nest too deep to say where; \
                       compare them with the schema, or nest less";
        Self { pointer: String::new(), message: message.to_owned() }
    }

    /// Not judged at all: a thread's stack would not hold what judging needs.
    pub(super) fn too_deep(limit: usize) -> Self {
        let message = format!(
            "the arguments nest too deep to be checked against the tool's inputSchema; nest at most {limit} levels"
        );
        Self { pointer: String::new(), message }
    }

    /// Not judged to the end: it would take too long.
    pub(super) fn too_costly() -> Self {
        let message = "the arguments take too much work to check against the tool's inputSchema; send shorter \
                       strings where it has a pattern, and fewer values where it lists what is allowed";
        Self { pointer: String::new(), message: message.to_owned() }
    }
}

/// What is wrong with a value that is not valid.
pub(super) fn faults(validator: &Validator, schema: &Value, value: &Value) -> Vec<ArgumentFault> {
    let fault = |e: ValidationError<'_>| ArgumentFault {
        pointer: e.instance_path().as_str().to_owned(),
        message: describe(&e, schema),
    };
    validator.iter_errors(value).take(FAULTS).map(fault).collect()
}

/// A validation error in words; `schema` is what the value was checked against.
pub(super) fn describe(error: &ValidationError<'_>, schema: &Value) -> String {
    let value = || shown(error.instance());
    match error.kind() {
        Kind::Required { property } => format!("{} is required and missing", shown(property)),
        Kind::Type { kind } => format!("expected {}, got {}", expected(kind), value()),
        Kind::Contains => "no item is of the form that at least one must have (`contains`)".to_owned(),
        Kind::Enum { options } => match &**options {
            Value::Array(options) => {
                format!("expected one of {}, got {}", listed(options, whole), got(error.instance()))
            }
            _ => format!("{} is not allowed here", value()),
        },
        Kind::Constant { expected_value } => {
            format!("expected {}, got {}", whole(expected_value), got(error.instance()))
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let unknown: Vec<Value> = unexpected.iter().map(|u| Value::from(u.as_str())).collect();
            match siblings(error, schema) {
                Some(known) => format!("unknown {}; known are {known}", listed(&unknown, shown)),
                None => format!("unknown {}; leave it out", listed(&unknown, shown)),
            }
        }
        Kind::Minimum { limit } => format!("{} is too small; at least {limit} is needed", value()),
        Kind::Maximum { limit } => format!("{} is too large; at most {limit} is allowed", value()),
        Kind::ExclusiveMinimum { limit } => format!("{} must be greater than {limit}", value()),
        Kind::ExclusiveMaximum { limit } => format!("{} must be less than {limit}", value()),
        Kind::MultipleOf { multiple_of } => format!("{} is not a multiple of {multiple_of}", value()),
        Kind::MinLength { limit } => {
            format!("{} is too short; at least {limit} characters are needed", value())
        }
        Kind::MaxLength { limit } => {
            format!("{} is too long; at most {limit} characters are allowed", value())
        }
        Kind::MinItems { limit } => format!("too few items; at least {limit} are needed"),
        Kind::MaxItems { limit } => format!("too many items; at most {limit} are allowed"),
        Kind::MinProperties { limit } => format!("too few members; at least {limit} are needed"),
        Kind::MaxProperties { limit } => format!("too many members; at most {limit} are allowed"),
        Kind::UniqueItems => "the items are not all different".to_owned(),
        Kind::Pattern { pattern } => {
            format!("{} does not match the pattern {}", value(), shortened(pattern.clone()))
        }
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => {
            let alternatives: Vec<String> = context
                .iter()
                .take(LISTED)
                .enumerate()
                .filter_map(|(i, errors)| errors.first().map(|e| (i, e)))
                .map(|(i, e)| format!("({}) {}{}", i + 1, at(e), shortened(describe(e, schema))))
                .collect();
            format!("{} fits none of the allowed forms: {}", value(), alternatives.join("; "))
        }
        Kind::OneOfMultipleValid { .. } => {
            format!("{} fits several forms of which exactly one is allowed", value())
        }
        Kind::FalseSchema => "no value is allowed here; leave it out".to_owned(),
        Kind::PropertyNames { error } => {
            format!("a member's name is not allowed: {}", describe(error, schema))
        }
        _ => shortened_to(error.masked().to_string(), 4 * SHOWN),
    }
}

fn at(error: &ValidationError<'_>) -> String {
    match error.instance_path().as_str() {
        "" => String::new(),
        pointer => format!("{pointer}: "),
    }
}

fn expected(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(kind) => kind.to_string(),
        TypeKind::Multiple(kinds) => {
            kinds.iter().map(|kind| kind.to_string()).collect::<Vec<_>>().join(" or ")
        }
    }
}

/// The names that `properties` beside the failing keyword lists.
fn siblings(error: &ValidationError<'_>, schema: &Value) -> Option<String> {
    let (parent, _) = error.schema_path().as_str().rsplit_once('/')?;
    let properties = schema.pointer(parent)?.get("properties")?.as_object()?;
    let names: Vec<Value> = properties.keys().map(|k| Value::from(k.as_str())).collect();
    (!names.is_empty()).then(|| listed(&names, shown))
}

fn listed(values: &[Value], shown: impl Fn(&Value) -> String) -> String {
    let mut out: Vec<String> = values.iter().take(LISTED).map(shown).collect();
    if values.len() > LISTED {
        out.push(format!("… ({} in all)", values.len()));
    }
    out.join(", ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        other => shortened(other.to_string()),
    }
}

/// A value to be met: with its members, since "an object" would not say which.
fn whole(value: &Value) -> String {
    shortened(value.to_string())
}

/// The value that should have been one of those: shown alike.
fn got(value: &Value) -> String {
    // Not written out to be thrown away: arguments may be large, what is shown is not.
    let small = match value {
        Value::Array(items) => items.len() <= LISTED && items.iter().all(|v| !v.is_array() && !v.is_object()),
        Value::Object(members) => {
            members.len() <= LISTED && members.values().all(|v| !v.is_array() && !v.is_object())
        }
        _ => true,
    };
    if small { whole(value) } else { shown(value) }
}

fn shortened(text: String) -> String {
    shortened_to(text, SHOWN)
}

fn shortened_to(text: String, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
