//! A session's tools: frozen when the session begins, so that its prompt never changes under it.

use rap_types::{HttpUrl, ToolName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a session offers its model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Toolbox {
    /// The tools of servers.
    pub tools: Vec<OfferedTool>,
    /// The servers; all of them get notices (CLS-01, CAN-01).
    pub servers: Vec<ServerCard>,
    /// Built-in tools that are switched off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

/// A tool of a server, as it is offered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfferedTool {
    /// The name before the model: the tool's own, or an alias where that is not portable (TLS-14).
    pub name: String,
    /// The name on the wire.
    pub operation: ToolName,
    /// The index of its server in [`Toolbox::servers`].
    pub server: usize,
    /// What it does. Untrusted (TLS-09).
    pub description: String,
    /// The schema of its arguments.
    pub input_schema: Map<String, Value>,
    /// Nobody should wait for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub long_running: bool,
    /// Ask first (CON-02).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destructive: bool,
    /// The line shown to people, as a script (TLS-09).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_script: Option<String>,
}

/// A server of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerCard {
    /// The toolset's name.
    pub name: String,
    /// Its base URL: notices go below it.
    pub base: HttpUrl,
    /// Where invocations go (INV-11).
    pub endpoint: HttpUrl,
}

/// A tool as a model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolForModel {
    /// The name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The schema of its arguments.
    pub input_schema: Map<String, Value>,
}

impl Toolbox {
    /// The tool that the model calls by a name.
    pub fn tool(&self, name: &str) -> Option<&OfferedTool> {
        self.tools.iter().find(|tool| tool.name == name)
    }

    /// A short name for this toolbox among those of its session: which servers it has and where they listen, and
    /// which tools it offers. 16 hex digits.
    pub fn fingerprint(&self) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        for server in &self.servers {
            for text in [server.name.as_str(), server.base.as_str(), server.endpoint.as_str()] {
                add(text);
            }
        }
        for tool in &self.tools {
            add(&tool.name);
            add(&tool.server.to_string());
        }
        self.without.iter().for_each(|name| add(name));
        data_encoding::HEXLOWER.encode(&hash.finalize()[..8])
    }

    /// The built-in tools that are switched on, then the servers' tools.
    pub fn for_model(&self) -> Vec<ToolForModel> {
        let mut tools = crate::builtin::definitions(&self.without);
        tools.extend(self.tools.iter().map(|tool| ToolForModel {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: tool.input_schema.clone(),
        }));
        tools
    }
}
