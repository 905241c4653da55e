//! Names of tools and ids of calls, as a provider takes them: ours where they fit, else an alias made from them, the
//! same in every request, and undone in what the model writes.

use rap_runtime::{
    ModelCard,
    core::{Entry, ModelRequest},
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The aliases of a request.
#[derive(Debug, Clone, Default)]
pub struct Names {
    names: HashMap<String, String>,
    ids: HashMap<String, String>,
    own_names: HashMap<String, String>,
    own_ids: HashMap<String, String>,
}

impl Names {
    pub(super) fn of(request: &ModelRequest, card: &ModelCard) -> Self {
        let mut names = Self::default();
        for tool in request.tools.iter() {
            names.add_name(&tool.name, card);
        }
        for entry in &request.history {
            match &**entry {
                Entry::Turn(turn) => {
                    for call in &turn.calls {
                        names.add_name(&call.name, card);
                        names.add_id(call.id.as_str(), card);
                    }
                }
                Entry::Event(event) => {
                    names.add_name(&event.original_tool_name, card);
                    names.add_id(event.id.as_str(), card);
                    names.add_id(event.original_tool_call_id.as_str(), card);
                }
                Entry::Results { results } => {
                    for result in results {
                        names.add_id(result.call.as_str(), card);
                    }
                }
                _ => {}
            }
        }
        names
    }

    fn add_name(&mut self, name: &str, card: &ModelCard) {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if (begins_well && name.len() <= card.tool_name_length && name.chars().all(plain))
            || self.names.contains_key(name)
        {
            return;
        }
        let head: String = name.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let head = if begins_well { head } else { format!("t_{head}") };
        let room = card.tool_name_length.saturating_sub(9);
        let alias = format!("{}_{}", &head[..head.len().min(room)], short_hash(name, 8));
        self.own_names.insert(alias.clone(), name.to_owned());
        self.names.insert(name.to_owned(), alias);
    }

    fn add_id(&mut self, id: &str, card: &ModelCard) {
        if card.call_ids.fits(id) || self.ids.contains_key(id) {
            return;
        }
        let alias = short_hash(id, card.call_ids.length.clamp(1, 20));
        self.own_ids.insert(alias.clone(), id.to_owned());
        self.ids.insert(id.to_owned(), alias);
    }

    /// A tool's name for the provider.
    pub fn name(&self, name: &str) -> String {
        self.names.get(name).cloned().unwrap_or_else(|| name.to_owned())
    }

    /// A call's id for the provider.
    pub fn id(&self, id: &str) -> String {
        self.ids.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    /// The tool that the model means.
    pub fn own_name(&self, name: String) -> String {
        self.own_names.get(&name).cloned().unwrap_or(name)
    }

    /// Arguments in which aliases of ids are ours again: the model may name calls in them.
    pub fn own_arguments(&self, arguments: Value) -> Value {
        match arguments {
            Value::String(text) => self.own_ids.get(&text).cloned().unwrap_or(text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.own_arguments(item)).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name, self.own_arguments(value))).collect()
            }
            other => other,
        }
    }
}

/// Lower-case letters and digits that stand for a text.
fn short_hash(text: &str, length: usize) -> String {
    let mut hash = data_encoding::BASE32_NOPAD.encode(&Sha256::digest(text)).to_ascii_lowercase();
    hash.truncate(length);
    hash
}
