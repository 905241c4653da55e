//! The toolset: what a server offers, served at [`WELL_KNOWN_TOOLSET`](crate::WELL_KNOWN_TOOLSET).

use crate::{Fault, HttpUrl, Message, ToolName, fault::read, limits, object::Object};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// A server's tools and where to call them: 1–128 characters of name, an endpoint, at least one tool,
/// names unique (TLS-07, TLS-11).
///
/// What is checked here is the document's form, and that each `inputSchema` says `"type": "object"` at its
/// root. Whether it is a valid JSON Schema (TLS-08) needs a schema compiler: `validate::CompiledToolset`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(
        description = "What a server offers: a name, an endpoint for invocations and at least one tool."
    )
)]
#[non_exhaustive]
pub struct Toolset {
    /// The toolset's name: 1 to 128 characters.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 128), extend("examples" = ["weather"])))]
    name: String,
    /// What the toolset is for, in words. Untrusted (TLS-09).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["Weather and forecasts"])))]
    pub description: Option<String>,
    /// Where invocations go, on whatever host (INV-11).
    pub endpoint: HttpUrl,
    /// The tools, names unique.
    #[cfg_attr(feature = "schema", schemars(
            length(min = 1),
            extend("examples" = [[{
                "name": "get_weather", "description": "Current weather for a city.",
                "inputSchema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
            }]])
        )
    )]
    tools: Vec<Tool>,
    /// The server keeps state per session that must be moved with it (MIG-01).
    #[serde(rename = "needsMigration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [true])))]
    pub needs_migration: Option<bool>,
    /// An array of the extensions that the server speaks, e.g. `event-id`, `is-error`, `status`.
    #[serde(rename = "x-rap-ext", skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(default, schema_with = "anything"))]
    pub extensions: Vec<String>,
}

impl Toolset {
    /// A toolset.
    ///
    /// # Errors
    /// TLS-11: a name that is empty or over 128 characters, or no tool. TLS-07: two tools of one name.
    /// TLS-08: an `inputSchema` without `"type": "object"` at its root.
    pub fn new(name: impl Into<String>, endpoint: HttpUrl, tools: Vec<Tool>) -> Result<Self, Fault> {
        let name = name.into();
        check(&name, &tools)?;
        Ok(Self { name, description: None, endpoint, tools, needs_migration: None, extensions: Vec::new() })
    }

    /// Sets the description.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Says that the server keeps state per session that must be moved with it (MIG-01).
    #[must_use]
    pub fn with_needs_migration(mut self) -> Self {
        self.needs_migration = Some(true);
        self
    }

    /// Lists the extensions that the server speaks.
    #[must_use]
    pub fn with_extensions(mut self, extensions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.extensions = extensions.into_iter().map(Into::into).collect();
        self
    }

    /// The toolset's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tools, at least one, names unique.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }
}

impl Message for Toolset {
    const OBLIGATION: &'static str = "TLS-11";

    fn from_value(value: Value) -> Result<Self, Fault> {
        let wire: Wire = read(value, Self::OBLIGATION)?;
        wire.checked()
    }
}

#[derive(Deserialize)]
#[serde(rename = "Toolset")]
struct Wire {
    name: String,
    #[serde(default)]
    description: Option<String>,
    endpoint: HttpUrl,
    tools: Vec<Object<Tool>>,
    #[serde(rename = "needsMigration", default)]
    needs_migration: Option<bool>,
    #[serde(rename = "x-rap-ext", default)]
    extensions: Option<Value>,
}

impl Wire {
    fn checked(self) -> Result<Toolset, Fault> {
        let tools: Vec<Tool> = self.tools.into_iter().map(|Object(tool)| tool).collect();
        check(&self.name, &tools)?;
        // An extension of ours: a peer that uses the member otherwise is no worse for it.
        let extensions = self.extensions.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
        Ok(Toolset {
            name: self.name,
            description: self.description,
            endpoint: self.endpoint,
            tools,
            needs_migration: self.needs_migration,
            extensions,
        })
    }
}

impl<'de> Deserialize<'de> for Toolset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer)?.checked().map_err(Fault::into_error)
    }
}

fn check(name: &str, tools: &[Tool]) -> Result<(), Fault> {
    let length = name.chars().count();
    if length == 0 || length > limits::NAME_CHARS {
        let message =
            format!("the toolset's name has {length} characters; 1 to {} are allowed", limits::NAME_CHARS);
        return Err(Fault::new("/name", "TLS-11", message));
    }
    if tools.is_empty() {
        return Err(Fault::new("/tools", "TLS-11", "the toolset has no tool"));
    }
    let mut seen = std::collections::HashSet::new();
    for (index, tool) in tools.iter().enumerate() {
        if !seen.insert(&tool.name) {
            let message = format!("the tool {:?} is defined twice", tool.name.as_str());
            return Err(Fault::new(format!("/tools/{index}/name"), "TLS-07", message));
        }
        check_root_type(&tool.input_schema).map_err(|fault| {
            let pointer = format!("/tools/{index}/inputSchema{}", fault.pointer());
            Fault::new(pointer, fault.obligation(), fault.message())
        })?;
    }
    Ok(())
}

/// Whatever stands there: generators take a schema without `type` for an object.
#[cfg(feature = "schema")]
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": ["array", "object", "string", "number", "boolean", "null"],
        "examples": [["event-id", "is-error", "status"]],
    })
}

/// What can be seen of TLS-08 without a schema compiler: `"type": "object"` at the root.
pub(crate) fn check_root_type(schema: &Map<String, Value>) -> Result<(), Fault> {
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(()),
        Some(_) => {
            Err(Fault::new("/type", "TLS-08", "the type at the root of inputSchema is not \"object\""))
        }
        None => Err(Fault::new("", "TLS-08", "inputSchema has no \"type\": \"object\" at its root")),
    }
}

/// One tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Tool {
    /// The name, unique in the toolset, case-sensitive.
    pub name: ToolName,
    /// What the tool does, for the model. Untrusted (TLS-09).
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["Current weather for a city."])))]
    pub description: String,
    /// JSON Schema (draft 2020-12 unless `$schema` says otherwise) of type object (TLS-08).
    #[serde(rename = "inputSchema")]
    #[cfg_attr(feature = "schema", schemars(extend("properties" = {"type": {"const": "object"}}, "required" = ["type"], "examples" = [{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}])))]
    pub input_schema: Map<String, Value>,
    /// Hints about what the tool does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [{"readOnly": true, "x-acme-priority": 3}])))]
    pub annotations: Option<Annotations>,
    /// A Rhai expression over the map `args` that returns the line shown to people; cosmetic (TLS-09).
    #[serde(rename = "displayScript", default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["`Weather in ${args.city}`"])))]
    pub display_script: Option<String>,
}

impl Tool {
    /// A tool without annotations.
    pub fn new(name: ToolName, description: impl Into<String>, input_schema: Map<String, Value>) -> Self {
        Self { name, description: description.into(), input_schema, annotations: None, display_script: None }
    }

    /// Sets the annotations.
    #[must_use]
    pub fn with_annotations(mut self, annotations: Annotations) -> Self {
        self.annotations = Some(annotations);
        self
    }

    /// Sets the display script.
    #[must_use]
    pub fn with_display_script(mut self, script: impl Into<String>) -> Self {
        self.display_script = Some(script.into());
        self
    }

    /// Whether the tool says of itself that it destroys (CON-02).
    pub fn is_destructive(&self) -> bool {
        self.annotations.as_ref().is_some_and(|a| a.destructive == Some(true))
    }

    /// Whether the tool says of itself that it takes long.
    pub fn is_long_running(&self) -> bool {
        self.annotations.as_ref().is_some_and(|a| a.long_running == Some(true))
    }
}

/// Hints about a tool, untrusted (TLS-09). Keys that this version does not know are kept; a key of one's
/// own takes a namespaced form such as `x-acme-priority`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Annotations {
    /// What the user must be signed in to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = ["github"])))]
    pub requires_auth: Option<String>,
    /// Changes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [true])))]
    pub read_only: Option<bool>,
    /// May destroy something.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [true])))]
    pub destructive: Option<bool>,
    /// Calling it twice does no more than calling it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [true])))]
    pub idempotent: Option<bool>,
    /// Takes long: nobody should wait for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("examples" = [true])))]
    pub long_running: Option<bool>,
    /// Everything else, e.g. `x-acme-priority`.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// The keys that have a field of their own.
const KNOWN: [&str; 5] = ["requiresAuth", "readOnly", "destructive", "idempotent", "longRunning"];

impl Annotations {
    /// What has no field here, e.g. `x-acme-priority`: kept as it was read, whatever its name.
    pub fn other(&self) -> &Map<String, Value> {
        &self.other
    }

    /// Adds an annotation of one's own, in a namespaced form such as `x-acme-priority`, in the place of an older
    /// one of that name.
    ///
    /// # Errors
    /// TLS-11: the key has a field of its own, so that the document would name it twice.
    ///
    /// ```
    /// use rap_types::Annotations;
    ///
    /// let mut hints = Annotations::default();
    /// hints.read_only = Some(true);
    /// hints.insert("x-acme-priority", 3)?;
    /// assert!(hints.insert("readOnly", false).is_err(), "it has a field of its own");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Result<(), Fault> {
        let key = key.into();
        if KNOWN.contains(&key.as_str()) {
            let message = format!("the annotation {key:?} is a known one; set its own field");
            return Err(Fault::new(format!("/{key}"), Toolset::OBLIGATION, message));
        }
        self.other.insert(key, value.into());
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Annotations {
    /// By hand: serde's `flatten` forgets where in the map a fault is.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut other = Map::deserialize(deserializer)?;
        fn take<T: serde::de::DeserializeOwned, E: serde::de::Error>(
            members: &mut Map<String, Value>,
            key: &str,
        ) -> Result<Option<T>, E> {
            let value = members.remove(key).unwrap_or_default();
            read(value, Toolset::OBLIGATION).map_err(|fault| {
                Fault::new(format!("/{key}"), fault.obligation(), fault.message()).into_error()
            })
        }
        Ok(Self {
            requires_auth: take(&mut other, "requiresAuth")?,
            read_only: take(&mut other, "readOnly")?,
            destructive: take(&mut other, "destructive")?,
            idempotent: take(&mut other, "idempotent")?,
            long_running: take(&mut other, "longRunning")?,
            other,
        })
    }
}
