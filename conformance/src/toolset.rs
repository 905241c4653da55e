//! The toolset as raw JSON, and what the judge reads from it. Nothing here assumes that it is valid: the cases
//! on toolsets say what is wrong with it.

use serde_json::{Map, Value};

/// A toolset as it was served.
#[derive(Debug, Clone, Default)]
pub struct Toolset {
    /// The whole document.
    pub raw: Value,
}

/// A tool of it.
#[derive(Debug, Clone, Copy)]
pub struct Tool<'a> {
    /// The whole document.
    pub raw: &'a Value,
}

impl Toolset {
    /// Its name, empty where there is none.
    pub fn name(&self) -> &str {
        self.raw["name"].as_str().unwrap_or_default()
    }

    /// Where invocations go.
    pub fn endpoint(&self) -> Option<&str> {
        self.raw["endpoint"].as_str()
    }

    /// Its tools.
    pub fn tools(&self) -> impl Iterator<Item = Tool<'_>> {
        self.raw["tools"].as_array().into_iter().flatten().map(|raw| Tool { raw })
    }

    /// A tool by its name.
    pub fn tool(&self, name: &str) -> Option<Tool<'_>> {
        self.tools().find(|tool| tool.name() == name)
    }

    /// Whether it says that it moves state.
    pub fn needs_migration(&self) -> bool {
        self.raw["needsMigration"] == true
    }

    /// Whether `x-rap-ext` lists an extension.
    pub fn speaks(&self, extension: &str) -> bool {
        self.raw["x-rap-ext"].as_array().is_some_and(|all| all.iter().any(|e| e == extension))
    }
}

impl<'a> Tool<'a> {
    /// Its name, empty where there is none.
    pub fn name(&self) -> &'a str {
        self.raw["name"].as_str().unwrap_or_default()
    }

    /// Its schema of arguments.
    pub fn schema(&self) -> &'a Value {
        &self.raw["inputSchema"]
    }

    /// Whether an annotation is `true`.
    pub fn is(&self, annotation: &str) -> bool {
        self.raw["annotations"][annotation] == true
    }

    /// Its properties, where its schema names any.
    pub fn properties(&self) -> Option<&'a Map<String, Value>> {
        self.schema()["properties"].as_object()
    }
}
