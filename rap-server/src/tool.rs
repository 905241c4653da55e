//! A tool before it is served: name, description, hints, and the function that does the work.

use crate::{
    extract::States,
    handler::{Handler, Sealed},
};
use rap_types::{Annotations, ToolName, validate::CompiledSchema};
use serde_json::{Map, Value};
use std::sync::Arc;

/// A tool: what `#[tool]` makes of a function, and what can be made without a macro.
///
/// ```
/// use rap_server::{Args, Tool, schemars::{self, JsonSchema}};
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Place {
///     /// City name, e.g. Oslo
///     city: String,
/// }
///
/// async fn get_weather(Args(place): Args<Place>) -> String {
///     format!("rain in {}", place.city)
/// }
///
/// let tool = Tool::new("get_weather", "Current weather for a city.", get_weather).read_only();
/// ```
#[derive(Clone)]
pub struct Tool {
    name: String,
    description: String,
    annotations: Annotations,
    annotated: bool,
    display: Option<String>,
    schema: Option<Value>,
    /// What the builder was given wrongly, told when the server starts.
    wrong: Vec<String>,
    pub(crate) work: Arc<dyn Sealed>,
}

impl Tool {
    /// A tool: the name and description are for the model, the handler does the work.
    ///
    /// What is wrong with the name (TLS-07) or the schema (TLS-08) is said when the server starts, together
    /// with everything else that is.
    pub fn new<H, M>(name: impl Into<String>, description: impl Into<String>, handler: H) -> Self
    where
        H: Handler<M>,
    {
        Self {
            name: name.into(),
            description: description.into(),
            annotations: Annotations::default(),
            annotated: false,
            display: None,
            schema: None,
            wrong: Vec::new(),
            work: handler.into_work(),
        }
    }

    fn annotate(mut self, set: impl FnOnce(&mut Annotations)) -> Self {
        set(&mut self.annotations);
        self.annotated = true;
        self
    }

    /// Says that the tool changes nothing.
    #[must_use]
    pub fn read_only(self) -> Self {
        self.annotate(|a| a.read_only = Some(true))
    }

    /// Says that the tool may destroy something; a careful runtime asks a person first (CON-02).
    #[must_use]
    pub fn destructive(self) -> Self {
        self.annotate(|a| a.destructive = Some(true))
    }

    /// Says that calling the tool twice does no more than calling it once.
    #[must_use]
    pub fn idempotent(self) -> Self {
        self.annotate(|a| a.idempotent = Some(true))
    }

    /// Says that the tool takes long, so that nobody waits for it.
    #[must_use]
    pub fn long_running(self) -> Self {
        self.annotate(|a| a.long_running = Some(true))
    }

    /// Says what the user must be signed in to.
    #[must_use]
    pub fn requires_auth(self, to: impl Into<String>) -> Self {
        self.annotate(|a| a.requires_auth = Some(to.into()))
    }

    /// Adds an annotation of your own, in a namespaced form such as `x-acme-priority`.
    #[must_use]
    pub fn annotation(self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        let mut wrong = None;
        let mut tool = self.annotate(|a| wrong = a.insert(key, value).err());
        tool.wrong.extend(wrong.map(|fault| fault.message().to_owned()));
        tool
    }

    /// Sets the display script: a Rhai expression over the map `args` that returns the line which people
    /// see, e.g. `` `Weather in ${args.city}` ``. Cosmetic: a runtime that fails at it shows the arguments.
    /// It is parsed when the server starts (feature `display-check`) and never run here.
    #[must_use]
    pub fn display(mut self, script: impl Into<String>) -> Self {
        self.display = Some(script.into());
        self
    }

    /// Sets the `inputSchema` by hand, in the place of the one made from the arguments' type.
    #[must_use]
    ///
    /// A tool that is known only when the program runs:
    ///
    /// ```
    /// use rap_server::{Args, Tool, ToolServer};
    /// use serde_json::{Map, Value, json};
    ///
    /// /// Hands calls on to a program that describes its arguments itself.
    /// fn passed_on(name: &str, schema: Value) -> Tool {
    ///     let handler = async |Args(arguments): Args<Map<String, Value>>| format!("{} arguments", arguments.len());
    ///     Tool::new(name, "Deletes old builds of a branch.", handler)
    ///         .input_schema(schema)
    ///         .display("`Clean up ${args.branch}`")
    ///         .destructive()
    ///         .idempotent()
    ///         .long_running()
    ///         .requires_auth("builds")
    ///         .annotation("x-acme-team", "platform")
    /// }
    ///
    /// let schema = json!({"type": "object", "properties": {"branch": {"type": "string"}}, "required": ["branch"]});
    /// let server = ToolServer::new("builds").tool(passed_on("clean_up", schema));
    /// ```
    pub fn input_schema(mut self, schema: impl Into<Value>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// The tool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The definition for the toolset, or what is wrong with it; every fault is pushed.
    pub(crate) fn define(&self, states: &States, faults: &mut Vec<String>) -> Option<rap_types::Tool> {
        let before = faults.len();
        let mut fault = |what: String| faults.push(format!("tool {:?}: {what}", self.name));
        let name = ToolName::new(self.name.as_str()).map_err(|e| fault(e.to_string())).ok();
        if self.name == rap_types::RECEIVE_EVENT {
            fault(format!("the name {:?} is reserved for runtimes; choose another (SUB-04)", self.name));
        }
        if self.description.trim().is_empty() {
            fault("it has no description; say what it does, the model chooses by it (TLS-11)".to_owned());
        }
        self.wrong.iter().cloned().for_each(&mut fault);
        let schema = match &self.schema {
            Some(schema) => by_hand(schema),
            None => self.work.schema(),
        };
        let schema = schema.and_then(|schema| match CompiledSchema::new(&schema) {
            Ok(_) => Ok(schema),
            Err(e) => Err(format!("its input_schema is no valid JSON Schema: {e}")),
        });
        let schema = schema.map_err(&mut fault).ok();
        if let Some(Err(wrong)) = self.display.as_deref().map(crate::display::check) {
            fault(wrong);
        }
        self.work.faults(states).into_iter().for_each(&mut fault);
        if faults.len() > before {
            return None;
        }
        let mut tool = rap_types::Tool::new(name?, self.description.trim(), schema?);
        if self.annotated {
            tool = tool.with_annotations(self.annotations.clone());
        }
        if let Some(script) = &self.display {
            tool = tool.with_display_script(script.as_str());
        }
        Some(tool)
    }
}

fn by_hand(schema: &Value) -> Result<Map<String, Value>, String> {
    match schema {
        Value::Object(map) if map.get("type").and_then(Value::as_str) == Some("object") => Ok(map.clone()),
        _ => Err("its input_schema is no JSON Schema with \"type\": \"object\" (TLS-08)".to_owned()),
    }
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tool").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What can be given to [`ToolServer::tool`](crate::ToolServer::tool): a [`Tool`], or a function with
/// `#[tool]` on it.
///
/// ```
/// use rap_server::{IntoTool, tool};
///
/// /// Says hello.
/// #[tool(read_only)]
/// async fn hello() -> &'static str {
///     "hello"
/// }
///
/// assert_eq!(hello.into_tool().name(), "hello");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no tool",
    note = "put `#[tool]` on the function, or make one with `Tool::new(name, description, function)`"
)]
pub trait IntoTool {
    /// Makes it a tool.
    fn into_tool(self) -> Tool;
}

impl IntoTool for Tool {
    fn into_tool(self) -> Tool {
        self
    }
}

/// What `#[tool]` leaves behind: a function that makes the tool.
impl<F: Fn() -> Tool> IntoTool for F {
    fn into_tool(self) -> Tool {
        self()
    }
}
