//! All tools of all servers, joined: what may be offered to a model, and what may not and why.
//!
//! A tool name that two toolsets define is offered by neither (TLS-04): a server must not be able to take
//! over another's tool. Names of the runtime's own tools are never taken from a server, and the runtime's
//! synthetic name makes a toolset invalid (SUB-04).

mod names;

pub use names::ModelNames;

use rap_types::{
    HttpUrl, RECEIVE_EVENT, Tool, ToolName, Toolset,
    validate::{CompiledTool, CompiledToolset},
};
use std::{
    collections::{BTreeMap, HashSet},
    fmt,
};

/// The tools of all servers, by name. Cheap to clone per entry; the schemas are shared.
///
/// ```
/// use rap_client::{Catalog, catalog, catalog::{CatalogProblem, CatalogTool}};
///
/// let empty: Catalog = catalog::merge([], ["sleep"]);
/// assert!(empty.is_empty() && empty.get("get_weather").is_none());
///
/// /// What is to be told to people.
/// fn report(catalog: &Catalog) {
///     for problem in catalog.problems() {
///         let blame = if matches!(problem, CatalogProblem::Duplicate { .. }) { "two servers" } else { "one server" };
///         eprintln!("{problem} ({blame})");
///     }
///     let tools: Vec<CatalogTool<'_>> = catalog.iter().collect();
///     eprintln!("{} tools", tools.len());
/// }
/// # report(&empty);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    tools: BTreeMap<ToolName, Entry>,
    problems: Vec<CatalogProblem>,
}

#[derive(Debug, Clone)]
struct Entry {
    base: HttpUrl,
    toolset: CompiledToolset,
}

/// A tool that may be offered, with where it lives.
#[derive(Debug, Clone, Copy)]
pub struct CatalogTool<'a> {
    base: &'a HttpUrl,
    toolset: &'a CompiledToolset,
    tool: CompiledTool<'a>,
}

impl<'a> CatalogTool<'a> {
    /// The base URL of its server, for notices and status questions.
    pub fn base(&self) -> &'a HttpUrl {
        self.base
    }

    /// Where its invocations go (INV-11).
    pub fn endpoint(&self) -> &'a HttpUrl {
        &self.toolset.toolset().endpoint
    }

    /// The toolset that defines it.
    pub fn toolset(&self) -> &'a Toolset {
        self.toolset.toolset()
    }

    /// The tool.
    pub fn tool(&self) -> &'a Tool {
        self.tool.tool()
    }

    /// The tool with its schema, against which arguments are checked (INV-02).
    pub fn compiled(&self) -> CompiledTool<'a> {
        self.tool
    }
}

/// Why a tool or a toolset is not offered; to be reported to people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogProblem {
    /// Several toolsets define the name; none of them is heard (TLS-04).
    Duplicate {
        /// The name.
        name: ToolName,
        /// The servers, in the order given.
        bases: Vec<HttpUrl>,
    },
    /// The name is one of the runtime's own tools.
    BuiltIn {
        /// The name.
        name: ToolName,
        /// The server that wants it.
        base: HttpUrl,
    },
    /// The toolset takes the runtime's synthetic name and is invalid as a whole (SUB-04).
    Reserved {
        /// The server.
        base: HttpUrl,
    },
}

impl fmt::Display for CatalogProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { name, bases } => {
                let bases: Vec<_> = bases.iter().map(HttpUrl::redacted).collect();
                write!(
                    f,
                    "the tool {name} is defined by {}; none of them is offered until all but one are renamed or removed",
                    bases.join(" and ")
                )
            }
            Self::BuiltIn { name, base } => write!(
                f,
                "the tool {name} of {} has the name of a built-in tool and is not offered; rename it there",
                base.redacted()
            ),
            Self::Reserved { base } => write!(
                f,
                "the toolset of {} defines the reserved tool {RECEIVE_EVENT}; none of its tools is offered",
                base.redacted()
            ),
        }
    }
}

/// Joins toolsets. `built_in` are the names of the runtime's own tools. A server (base URL, trailing slash or
/// not) that is listed twice counts once, the first time.
pub fn merge<'n>(
    toolsets: impl IntoIterator<Item = (HttpUrl, CompiledToolset)>,
    built_in: impl IntoIterator<Item = &'n str>,
) -> Catalog {
    let built_in: HashSet<&str> = built_in.into_iter().collect();
    let mut servers = HashSet::new();
    let mut wanted: BTreeMap<ToolName, Vec<Entry>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (base, toolset) in toolsets {
        if !servers.insert(base.as_str().trim_end_matches('/').to_owned()) {
            continue;
        }
        if toolset.tool(RECEIVE_EVENT).is_some() {
            problems.push(CatalogProblem::Reserved { base });
            continue;
        }
        for tool in toolset.toolset().tools() {
            if built_in.contains(tool.name.as_str()) {
                problems.push(CatalogProblem::BuiltIn { name: tool.name.clone(), base: base.clone() });
            } else {
                let entry = Entry { base: base.clone(), toolset: toolset.clone() };
                wanted.entry(tool.name.clone()).or_default().push(entry);
            }
        }
    }
    let mut tools = BTreeMap::new();
    for (name, mut entries) in wanted {
        match entries.pop() {
            Some(only) if entries.is_empty() => {
                tools.insert(name, only);
            }
            Some(last) => {
                let bases = entries.into_iter().chain([last]).map(|e| e.base).collect();
                problems.push(CatalogProblem::Duplicate { name, bases });
            }
            None => {}
        }
    }
    Catalog { tools, problems }
}

impl Catalog {
    /// The tool of a name, exactly as written (INV-01).
    pub fn get(&self, name: &str) -> Option<CatalogTool<'_>> {
        let Entry { base, toolset } = self.tools.get(name)?;
        Some(CatalogTool { base, toolset, tool: toolset.tool(name)? })
    }

    /// All tools that may be offered, by name.
    pub fn iter(&self) -> impl Iterator<Item = CatalogTool<'_>> {
        self.tools.keys().filter_map(|name| self.get(name.as_str()))
    }

    /// How many tools may be offered.
    pub fn len(&self) -> usize {
        self.tools.len()
    }

    /// Whether no tool may be offered.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// What is not offered, and why.
    pub fn problems(&self) -> &[CatalogProblem] {
        &self.problems
    }
}
