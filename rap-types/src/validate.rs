//! JSON Schema for toolsets and arguments: every `inputSchema` compiled once, arguments checked against it.
//!
//! A toolset comes from somebody else, so its schemas are taken as hostile (TLS-03, TLS-08): nothing is
//! fetched and no file is opened for a `$ref`, size and depth are bounded, patterns match in linear time,
//! and a `$ref` loop, which would validate everything or never end, is refused. The draft is the one that
//! `$schema` names, 2020-12 where it names none. `format` is an annotation, never an assertion.

mod arguments;
mod cost;
mod references;
mod work;

pub use arguments::ArgumentFault;

use crate::{Fault, Tool, Toolset, toolset::check_root_type};
use jsonschema::Validator;
use serde_json::{Map, Value};
use std::{collections::HashMap, fmt, sync::Arc};
use work::Metered;

/// The largest `inputSchema`, in bytes of compact JSON.
pub const SCHEMA_BYTES: usize = 256 * 1024;
/// The deepest nesting of an `inputSchema`, in JSON levels; also the longest chain of `$ref`s.
pub const SCHEMA_DEPTH: usize = 64;
/// The most patterns in one `inputSchema`, and in all those of a toolset together.
pub const PATTERNS: usize = 256;

/// What one broken schema can fill: no more faults of a toolset are listed.
const TOOLSET_FAULTS: usize = 20;

/// A toolset whose every `inputSchema` is valid and compiled (TLS-03, TLS-08). Cheap to clone.
///
/// ```
/// use rap_types::{Tool, ToolName, Toolset, validate::{CompiledTool, CompiledToolset}};
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "required": ["city"]});
/// let schema = schema.as_object().cloned().ok_or("an object")?;
/// let tool = Tool::new(ToolName::new("get_weather")?, "Current weather.", schema);
/// let toolset = Toolset::new("weather", "http://127.0.0.1:3001/invoke".parse()?, vec![tool])?;
/// let compiled = CompiledToolset::new(toolset).map_err(|faults| format!("{faults:?}"))?;
/// let tool: CompiledTool<'_> = compiled.tool("get_weather").ok_or("no such tool")?;
/// assert!(tool.check_arguments(&serde_json::Map::new()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CompiledToolset(Arc<Inner>);

struct Inner {
    toolset: Toolset,
    schemas: Vec<CompiledSchema>,
    by_name: HashMap<crate::ToolName, usize>,
}

/// A tool of a [`CompiledToolset`] with its schema.
#[derive(Debug, Clone, Copy)]
pub struct CompiledTool<'a> {
    tool: &'a Tool,
    schema: &'a CompiledSchema,
}

impl CompiledToolset {
    /// Checks and compiles every schema of a toolset.
    ///
    /// # Errors
    /// TLS-08: all schemas that are broken (at most 20 faults), each with its pointer into the toolset.
    /// One fault rejects the whole toolset (TLS-03).
    pub fn new(toolset: Toolset) -> Result<Self, Vec<Fault>> {
        let mut schemas = Vec::with_capacity(toolset.tools().len());
        let mut faults = Vec::new();
        let mut patterns = PATTERNS;
        for (index, tool) in toolset.tools().iter().enumerate() {
            match CompiledSchema::compile(&tool.input_schema, &mut patterns) {
                Ok(schema) => schemas.push(schema),
                Err(fault) => {
                    let pointer = format!("/tools/{index}/inputSchema{}", fault.pointer());
                    let message = format!("tool {:?}: {}", tool.name.as_str(), fault.message());
                    faults.push(Fault::new(pointer, fault.obligation(), message));
                    if faults.len() == TOOLSET_FAULTS {
                        break;
                    }
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let by_name = toolset.tools().iter().enumerate().map(|(i, t)| (t.name.clone(), i)).collect();
        Ok(Self(Arc::new(Inner { toolset, schemas, by_name })))
    }

    /// The toolset as it was given.
    pub fn toolset(&self) -> &Toolset {
        &self.0.toolset
    }

    /// The tool of a name, exactly as written.
    pub fn tool(&self, name: &str) -> Option<CompiledTool<'_>> {
        let index = *self.0.by_name.get(name)?;
        Some(CompiledTool { tool: &self.0.toolset.tools()[index], schema: &self.0.schemas[index] })
    }
}

impl fmt::Debug for CompiledToolset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CompiledToolset").field(&self.0.toolset.name()).finish()
    }
}

impl<'a> CompiledTool<'a> {
    /// The tool.
    pub fn tool(&self) -> &'a Tool {
        self.tool
    }

    /// Its compiled `inputSchema`.
    pub fn schema(&self) -> &'a CompiledSchema {
        self.schema
    }

    /// Checks arguments (INV-02, INV-06); see [`CompiledSchema::check_arguments`].
    ///
    /// # Errors
    /// What is wrong with the arguments, at most 20 faults.
    pub fn check_arguments(&self, arguments: &Map<String, Value>) -> Result<(), Vec<ArgumentFault>> {
        self.schema.check_arguments(arguments)
    }
}

/// A compiled `inputSchema`. Cheap to clone.
///
/// ```
/// use rap_types::validate::{ArgumentFault, CompiledSchema};
/// use serde_json::json;
///
/// let schema = json!({"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}});
/// let schema = CompiledSchema::new(schema.as_object().ok_or("an object")?)?;
/// let wrong = json!({"city": 7});
/// let faults: Vec<ArgumentFault> = schema.check_arguments(wrong.as_object().ok_or("an object")?).unwrap_err();
/// assert_eq!(faults[0].pointer, "/city");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CompiledSchema(Arc<Compiled>);

struct Compiled {
    schema: Value,
    validator: Validator,
    limits: references::Limits,
}

impl CompiledSchema {
    /// Checks and compiles an `inputSchema` (TLS-08).
    ///
    /// # Errors
    /// TLS-08, with a pointer into the schema: not a valid JSON Schema, not of type object, larger or deeper
    /// than [`SCHEMA_BYTES`] and [`SCHEMA_DEPTH`], a `$ref` that leaves the document, leads nowhere or loops,
    /// more than [`PATTERNS`] patterns or one that needs back-tracking.
    pub fn new(schema: &Map<String, Value>) -> Result<Self, Fault> {
        Self::compile(schema, &mut { PATTERNS })
    }

    fn compile(schema: &Map<String, Value>, patterns: &mut usize) -> Result<Self, Fault> {
        check_root_type(schema)?;
        let schema = Value::Object(schema.clone());
        bounded(&schema)?;
        let limits = references::check(&schema, patterns)?;
        let validator = jsonschema::options()
            .with_retriever(Denied)
            .with_pattern_options(work::patterns())
            .with_keyword("pattern", |_, value, _| Metered::pattern(value))
            .with_keyword("enum", |_, value, _| Metered::list(value))
            .should_validate_formats(false)
            .build(&schema)
            .map_err(|e| match unknown_draft(&schema) {
                Some(fault) => fault,
                None => fault(e.instance_path().as_str(), arguments::describe(&e, &schema)),
            })?;
        Ok(Self(Arc::new(Compiled { schema, validator, limits })))
    }

    /// Checks arguments against the schema.
    ///
    /// # Errors
    /// All that is wrong, by pointer, in words that a model can act on; at most 20 faults. Where the schema
    /// forks at every level and the arguments nest deep, only that they do not fit. Arguments that nest too deep
    /// for the schema, or that take too much work to judge, are refused without being judged.
    pub fn check_arguments(&self, arguments: &Map<String, Value>) -> Result<(), Vec<ArgumentFault>> {
        let Compiled { schema, validator, limits } = &*self.0;
        let value = Value::Object(arguments.clone());
        if depth_over(&value, limits.judged) {
            return Err(vec![ArgumentFault::too_deep(limits.judged)]);
        }
        if limits.name_states > 0 && limits.name_states.saturating_mul(work::name_bytes(&value)) > work::WORK
        {
            return Err(vec![ArgumentFault::too_costly()]);
        }
        match work::metered(|| validator.is_valid(&value)) {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => return Err(vec![ArgumentFault::too_costly()]),
        }
        if depth_over(&value, limits.explained) {
            return Err(vec![ArgumentFault::unexplained()]);
        }
        let faults = work::metered(|| arguments::faults(validator, schema, &value));
        Err(faults.unwrap_or_else(|| vec![ArgumentFault::unexplained()]))
    }
}

impl fmt::Debug for CompiledSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompiledSchema")
    }
}

fn fault(pointer: &str, message: impl Into<String>) -> Fault {
    Fault::new(pointer, "TLS-08", message)
}

/// A `$schema` that names no draft that is known.
fn unknown_draft(schema: &Value) -> Option<Fault> {
    const DRAFTS: &[&str] = &[
        "https://json-schema.org/draft/2020-12/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "http://json-schema.org/draft-07/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-04/schema",
    ];
    let named = schema.get("$schema")?.as_str()?;
    if DRAFTS.contains(&named.trim_end_matches('#')) {
        return None;
    }
    let message =
        format!("`$schema` names no draft that is known; leave it out, or name {}", DRAFTS.join(", "));
    Some(fault("/$schema", message))
}

/// Refuses to resolve anything outside the document, whatever features the build has switched on.
struct Denied;

impl jsonschema::Retrieve for Denied {
    fn retrieve(
        &self,
        _: &jsonschema::Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("a reference out of the document is never followed".into())
    }
}

fn bounded(schema: &Value) -> Result<(), Fault> {
    if depth_over(schema, SCHEMA_DEPTH) {
        return Err(fault("", format!("the schema nests deeper than {SCHEMA_DEPTH} levels")));
    }
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    let written = serde_json::to_writer(&mut counter, schema);
    if written.is_err() || counter.0 > SCHEMA_BYTES {
        let message = format!("the schema has {} bytes of JSON; at most {SCHEMA_BYTES} are taken", counter.0);
        return Err(fault("", message));
    }
    Ok(())
}

fn depth_over(value: &Value, left: usize) -> bool {
    match value {
        Value::Array(items) => left == 0 || items.iter().any(|v| depth_over(v, left - 1)),
        Value::Object(members) => left == 0 || members.values().any(|v| depth_over(v, left - 1)),
        _ => false,
    }
}
