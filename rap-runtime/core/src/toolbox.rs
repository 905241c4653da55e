//! A session's tools: frozen when the session begins, so that its prompt never changes under it. Where its servers
//! listen is live, and a server that was not there at the beginning may join: its tools come after all others.

use crate::{DeliveryKind, OwnTool};
use rap_types::{HttpUrl, ToolName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

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
    /// Tools of the program around the runtime.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<OwnTool>,
    /// What is live.
    #[serde(default, skip_serializing_if = "LiveServers::is_empty")]
    pub live: LiveServers,
}

/// What is known of a session's servers beside what it offers. None of it bears on a decision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct LiveServers {
    /// The base URLs of servers that could not be used so far. They are asked again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<HttpUrl>,
    /// Names that several servers define, so that none of them is heard (TLS-04).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<ToolName>,
    /// Where the servers are that have a name in the program's configuration, by that name: found under it, a server
    /// is the same one wherever it listens.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub named: BTreeMap<String, HttpUrl>,
    /// Base URLs that servers had before, the oldest first, each with the one of now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub moved: Vec<(HttpUrl, HttpUrl)>,
}

impl LiveServers {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How many former base URLs a session remembers.
const MOVES: usize = 16;

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

    /// The program's own tool of a name.
    pub fn own_tool(&self, name: &str) -> Option<&OwnTool> {
        self.own.iter().find(|tool| tool.name == name)
    }

    /// The base URLs of all servers of the session, those included that could not be used so far: notices go to each
    /// (CLS-01, CAN-01).
    pub fn bases(&self) -> impl Iterator<Item = &HttpUrl> {
        self.servers.iter().map(|card| &card.base).chain(&self.live.absent)
    }

    /// The server at a base URL, with or without a slash at its end.
    pub fn server_at(&self, base: &HttpUrl) -> Option<usize> {
        self.servers.iter().position(|card| same_base(&card.base, base))
    }

    /// The server that a request was for, by the request's URL and, for an invocation, by its tool.
    pub fn server_of(&self, kind: DeliveryKind, url: &HttpUrl, body: &Value) -> Option<usize> {
        if kind == DeliveryKind::Invocation {
            let operation = body.get("operation").and_then(Value::as_str)?;
            return self
                .tools
                .iter()
                .find(|tool| tool.operation.as_str() == operation)
                .map(|tool| tool.server);
        }
        let url = self.rebased(url);
        self.servers.iter().position(|card| under(&card.base, &url).is_some())
    }

    /// Where a request goes that was written into the outbox for `url`: servers may have moved since (INV-11).
    pub fn now_at(&self, kind: DeliveryKind, url: &HttpUrl, body: &Value) -> HttpUrl {
        match self.server_of(kind, url, body).and_then(|n| self.servers.get(n)) {
            Some(card) if kind == DeliveryKind::Invocation => card.endpoint.clone(),
            _ => self.rebased(url),
        }
    }

    /// A URL of a server that has moved, where it is now.
    fn rebased(&self, url: &HttpUrl) -> HttpUrl {
        for (before, now) in self.live.moved.iter().rev() {
            let found = under(before, url).map(|rest| format!("{}{rest}", trimmed(now)));
            let found = found.or_else(|| {
                let rest = url.as_str().strip_prefix(&before.origin())?;
                rest.starts_with(['/', '?']).then(|| format!("{}{rest}", now.origin()))
            });
            if let Some(found) = found.and_then(|text| HttpUrl::new(text).ok()) {
                return found;
            }
        }
        url.clone()
    }

    /// Notes where a server listens now; whether that is news. Its tools stay as they are.
    pub fn relocate(&mut self, server: usize, base: &HttpUrl, endpoint: &HttpUrl) -> bool {
        let Some(card) = self.servers.get_mut(server) else { return false };
        if same_base(&card.base, base) && card.endpoint == *endpoint {
            return false;
        }
        card.endpoint = endpoint.clone();
        if !same_base(&card.base, base) {
            let before = std::mem::replace(&mut card.base, base.clone());
            self.live.moved.retain(|(from, _)| !same_base(from, base));
            for (_, now) in self.live.moved.iter_mut().filter(|(_, now)| same_base(now, &before)) {
                *now = base.clone();
            }
            self.live
                .named
                .values_mut()
                .filter(|at| same_base(at, &before))
                .for_each(|at| *at = base.clone());
            self.live.moved.push((before, base.clone()));
            if self.live.moved.len() > MOVES {
                self.live.moved.remove(0);
            }
        }
        true
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
        for tool in &self.own {
            add("own");
            add(&tool.name);
        }
        data_encoding::HEXLOWER.encode(&hash.finalize()[..8])
    }

    /// The built-in tools that are switched on, then the program's own, then the servers' tools.
    pub fn for_model(&self) -> Vec<ToolForModel> {
        let mut tools = crate::builtin::definitions(&self.without);
        tools.extend(self.own.iter().map(|tool| ToolForModel {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: tool.input_schema.clone(),
        }));
        tools.extend(self.tools.iter().map(|tool| ToolForModel {
            name: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: tool.input_schema.clone(),
        }));
        tools
    }
}

fn trimmed(base: &HttpUrl) -> &str {
    base.as_str().trim_end_matches('/')
}

fn same_base(one: &HttpUrl, other: &HttpUrl) -> bool {
    trimmed(one) == trimmed(other)
}

/// What of a URL comes after a base URL; none if it is not below it.
fn under<'u>(base: &HttpUrl, url: &'u HttpUrl) -> Option<&'u str> {
    let rest = url.as_str().strip_prefix(trimmed(base))?;
    (rest.is_empty() || rest.starts_with(['/', '?'])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn url(text: &str) -> HttpUrl {
        text.parse().unwrap()
    }

    fn toolbox() -> Toolbox {
        let card = |name: &str| ServerCard {
            name: name.into(),
            base: url(&format!("http://{name}:1/base/")),
            endpoint: url(&format!("http://{name}:1/call")),
        };
        let tool = |name: &str, server| OfferedTool {
            name: name.replace('.', "_"),
            operation: name.parse().unwrap(),
            server,
            description: "x".into(),
            input_schema: Map::new(),
            long_running: false,
            destructive: false,
            display_script: None,
        };
        Toolbox {
            tools: vec![tool("a.b", 0), tool("c", 1)],
            servers: vec![card("one"), card("two")],
            ..Toolbox::default()
        }
    }

    /// INV-11, CLS-01, CHO-01: what lies in the outbox goes where its server is now, whatever was written there, and
    /// only its own server's requests move.
    #[test]
    fn requests_follow_their_server() {
        use DeliveryKind::{CancelToolCall, ChoiceAnswer, CloseThread, Invocation};
        let mut toolbox = toolbox();
        assert!(!toolbox.relocate(0, &url("http://one:1/base"), &url("http://one:1/call")), "no news");
        let before = toolbox.fingerprint();
        assert!(toolbox.relocate(0, &url("http://one:2/base"), &url("http://one:2/call2")));
        assert!(toolbox.relocate(0, &url("http://one:3"), &url("http://one:3/call3")));
        assert!(!toolbox.relocate(7, &url("http://one:3"), &url("http://one:3/call3")), "no such server");
        assert_ne!(toolbox.fingerprint(), before);
        let nothing = json!({});
        for (kind, body, from, to) in [
            (Invocation, json!({"operation": "a.b"}), "http://one:1/call", "http://one:3/call3"),
            (Invocation, json!({"operation": "c"}), "http://two:1/call", "http://two:1/call"),
            (Invocation, json!({"operation": "gone"}), "http://two:1/call", "http://two:1/call"),
            (CloseThread, nothing.clone(), "http://one:1/base/close_thread", "http://one:3/close_thread"),
            (CloseThread, nothing.clone(), "http://one:2/base/close_thread", "http://one:3/close_thread"),
            (
                CancelToolCall,
                nothing.clone(),
                "http://two:1/base/cancel_tool_call",
                "http://two:1/base/cancel_tool_call",
            ),
            (ChoiceAnswer, nothing.clone(), "http://one:1/elsewhere?x=1", "http://one:3/elsewhere?x=1"),
            (ChoiceAnswer, nothing.clone(), "http://one:11/elsewhere", "http://one:11/elsewhere"),
        ] {
            assert_eq!(toolbox.now_at(kind, &url(from), &body), url(to), "{kind:?} {from}");
        }
        assert_eq!(toolbox.server_of(CloseThread, &url("http://one:1/base/close_thread"), &nothing), Some(0));
        assert_eq!(toolbox.server_of(ChoiceAnswer, &url("http://three/x"), &nothing), None);
        // Back where it was: no circle.
        assert!(toolbox.relocate(0, &url("http://one:1/base"), &url("http://one:1/call")));
        let back = toolbox.now_at(CloseThread, &url("http://one:1/base/close_thread"), &nothing);
        assert_eq!(back, url("http://one:1/base/close_thread"));
        let back = toolbox.now_at(CloseThread, &url("http://one:3/close_thread"), &nothing);
        assert_eq!(back, url("http://one:1/base/close_thread"));
    }

    /// What earlier versions stored is read, and what is not needed is not stored.
    #[test]
    fn stored_forms() {
        let old: Toolbox = serde_json::from_value(json!({"tools": [], "servers": []})).unwrap();
        assert_eq!(old, Toolbox::default());
        assert!(serde_json::to_value(&old).unwrap().get("live").is_none());
    }
}
