//! What tools are called before a model: their own names where every model takes them, an alias elsewhere
//! (TLS-14). An alias is for the model alone; invocations carry the tool's own name.

use super::Catalog;
use rap_types::ToolName;
use std::collections::{BTreeMap, BTreeSet};

/// The names of a catalog's tools before one model. No two tools have the same.
///
/// ```
/// use rap_client::{Catalog, catalog::ModelNames};
///
/// /// The names for a model that takes 64 characters, and the tool that it calls by one of them.
/// fn called<'a>(names: &'a ModelNames, by_the_model: &str) -> Option<&'a str> {
///     names.tool(by_the_model).map(|tool| tool.as_str())
/// }
///
/// let names = Catalog::default().model_names(64, ["sleep"]);
/// assert_eq!(called(&names, "files_move"), None);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelNames {
    tools: BTreeMap<String, ToolName>,
    names: BTreeMap<ToolName, String>,
}

impl ModelNames {
    /// The tool that the model means by a name.
    pub fn tool(&self, name: &str) -> Option<&ToolName> {
        self.tools.get(name)
    }

    /// What the tool is called before the model.
    pub fn name_of(&self, tool: &str) -> Option<&str> {
        self.names.get(tool).map(String::as_str)
    }

    /// Every name, with its tool.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ToolName)> {
        self.tools.iter().map(|(name, tool)| (name.as_str(), tool))
    }
}

impl Catalog {
    /// Gives every tool a name that a model takes: only `A-Za-z0-9_-`, at most `longest` characters (64 for
    /// most), and none of `taken`, e.g. the runtime's own tools. A tool whose own name fits keeps it, whatever
    /// other tools are called; the same catalog gives the same names every time.
    ///
    /// ```
    /// # use rap_client::catalog;
    /// # let toolset: rap_types::Toolset = serde_json::from_str(r#"{"name": "t", "endpoint": "http://127.0.0.1:1/x", "tools": [
    /// #     {"name": "files.move", "description": "d", "inputSchema": {"type": "object"}}]}"#)?;
    /// # let toolset = rap_types::validate::CompiledToolset::new(toolset).map_err(|faults| format!("{faults:?}"))?;
    /// let catalog = catalog::merge([("http://127.0.0.1:1".parse()?, toolset)], ["sleep"]);
    /// let names = catalog.model_names(64, ["sleep"]);
    /// assert_eq!(names.name_of("files.move"), Some("files_move"));
    /// assert_eq!(names.tool("files_move").map(|tool| tool.as_str()), Some("files.move"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn model_names<'n>(&self, longest: usize, taken: impl IntoIterator<Item = &'n str>) -> ModelNames {
        // Room for a number, however many tools there are.
        let longest = longest.max(16);
        let mut used: BTreeSet<String> = taken.into_iter().map(str::to_owned).collect();
        let mut found = ModelNames::default();
        let mut others = Vec::new();
        for tool in self.tools.keys() {
            let name = tool.as_str();
            if tool.is_portable() && name.len() <= longest && used.insert(name.to_owned()) {
                found.put(name.to_owned(), tool);
            } else {
                others.push(tool);
            }
        }
        for tool in others {
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
            let plain: String = tool.as_str().chars().map(plain).collect();
            let mut alias: String = plain.chars().take(longest).collect();
            let mut number = 1;
            while !used.insert(alias.clone()) {
                number += 1;
                let end = format!("_{number}");
                alias = plain.chars().take(longest - end.len()).chain(end.chars()).collect();
            }
            found.put(alias, tool);
        }
        found
    }
}

impl ModelNames {
    fn put(&mut self, name: String, tool: &ToolName) {
        self.names.insert(tool.clone(), name.clone());
        self.tools.insert(name, tool.clone());
    }
}
