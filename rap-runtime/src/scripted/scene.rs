//! What the model has just seen: everything after its own last turn, and what it knows from before.

use rap_core::{Entry, ModelRequest, TurnCall, UserAuthor};
use rap_types::{ContentPart, ThreadId};
use serde_json::Value;
use std::collections::HashMap;

/// A request, looked at.
pub(super) struct Scene<'a> {
    pub(super) thread: &'a ThreadId,
    pub(super) kind: Kind,
    /// Turns of the model in the whole history that it sees, before this one.
    pub(super) turns: usize,
    /// What came after its last turn, oldest first.
    pub(super) news: Vec<News<'a>>,
    /// What a person wrote last, ever.
    pub(super) user: Option<String>,
    /// The newest result or event of each tool, ever.
    results: HashMap<&'a str, String>,
    /// The newest call of each tool, ever.
    calls: HashMap<&'a str, (&'a str, &'a Value)>,
    /// The arguments of the newest call that an event or a result belongs to.
    arguments: Option<&'a Value>,
    /// The names of the tools on offer, servers' tools only.
    pub(super) tools: Vec<&'a str>,
}

/// What kind of thread it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Root,
    Spawned,
    Event,
}

/// One thing that is new.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News<'a> {
    /// A person's message, or one of the parent.
    Message(String),
    /// The result of a call.
    Result { tool: &'a str, text: String, placeholder: bool },
    /// An event, a late outcome or a report.
    Event { tool: &'a str, text: String },
    /// What the thread was made for, in the runtime's words.
    Made(String),
}

impl<'a> Scene<'a> {
    pub(super) fn of(request: &'a ModelRequest) -> Self {
        let mut scene = Self {
            thread: &request.thread,
            kind: Kind::Root,
            turns: 0,
            news: Vec::new(),
            user: None,
            results: HashMap::new(),
            calls: HashMap::new(),
            arguments: None,
            tools: Vec::new(),
        };
        let offered = request.tools.iter().map(|tool| tool.name.as_str());
        scene.tools = offered.filter(|name| !rap_core::BUILT_IN_TOOLS.contains(name)).collect();
        let mut open: &[TurnCall] = &[];
        for entry in &request.history {
            match &**entry {
                Entry::Turn(turn) => {
                    // The spawning call that a child is shown is not a turn of the child's.
                    if !turn.model.is_empty() || turn.calls.is_empty() {
                        scene.turns += 1;
                    }
                    scene.news.clear();
                    open = &turn.calls;
                    for call in open {
                        scene.calls.insert(&call.name, (call.id.as_str(), &call.arguments));
                    }
                }
                Entry::Results { results } => {
                    for result in results {
                        let Some(call) = open.iter().find(|call| call.id == result.call) else { continue };
                        let text = text_of(&result.content);
                        if !result.placeholder {
                            scene.results.insert(&call.name, text.clone());
                            scene.arguments = Some(&call.arguments);
                        }
                        if call.name == "spawn_thread" && text.starts_with("You are a child thread") {
                            scene.kind = Kind::Spawned;
                            scene.news.push(News::Made(text));
                            continue;
                        }
                        let placeholder = result.placeholder;
                        scene.news.push(News::Result { tool: &call.name, text, placeholder });
                    }
                }
                Entry::Event(event) => {
                    let text = text_of(&event.content);
                    let tool = event.original_tool_name.as_str();
                    scene.results.insert(tool, text.clone());
                    scene.calls.insert(tool, (event.original_tool_call_id.as_str(), &event.original_args));
                    scene.arguments = Some(&event.original_args);
                    scene.news.push(News::Event { tool, text });
                }
                Entry::User(user) => {
                    let text = text_of(&user.content);
                    if user.author == UserAuthor::Runtime {
                        if text.contains("made for this one event") {
                            scene.kind = Kind::Event;
                        }
                        scene.news.push(News::Made(text));
                    } else {
                        scene.user = Some(text.clone());
                        scene.news.push(News::Message(text));
                    }
                }
                _ => {}
            }
        }
        if request.depth == 0 {
            scene.kind = Kind::Root;
        }
        scene
    }

    /// The newest thing that is no word of the runtime.
    pub(super) fn last(&self) -> Option<&News<'a>> {
        self.news.iter().rev().find(|news| !matches!(news, News::Made(_)))
    }

    /// The newest event among what is new.
    pub(super) fn event(&self) -> Option<(&'a str, &str)> {
        self.news.iter().rev().find_map(|news| match news {
            News::Event { tool, text } => Some((*tool, text.as_str())),
            _ => None,
        })
    }

    /// Fills in `${…}` in a text. What is not known becomes nothing.
    pub(super) fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                out.push_str("${");
                rest = after;
                continue;
            };
            out.push_str(&self.value(name.trim()));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn value(&self, name: &str) -> String {
        match name.split_once('.') {
            Some(("result", tool)) => self.results.get(tool).cloned().unwrap_or_default(),
            Some(("call", tool)) => self.calls.get(tool).map(|(id, _)| (*id).to_owned()).unwrap_or_default(),
            Some(("args", field)) => self.argument(field),
            _ => match name {
                "thread_id" => self.thread.to_string(),
                "text" => self.user.clone().unwrap_or_default(),
                "event" => self.event().map(|(_, text)| text.to_owned()).unwrap_or_default(),
                _ => String::new(),
            },
        }
    }

    /// `field`, of the newest call that something belongs to, or `tool.field`, of that tool's newest call.
    fn argument(&self, field: &str) -> String {
        let of_tool = field.split_once('.').and_then(|(tool, field)| {
            let (_, arguments) = self.calls.get(tool)?;
            arguments.get(field)
        });
        match of_tool.or_else(|| self.arguments?.get(field)) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// Fills in all strings of a value.
    pub(super) fn fill_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.fill(text)),
            Value::Array(items) => items.iter().map(|item| self.fill_value(item)).collect(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| (name.clone(), self.fill_value(value))).collect()
            }
            other => other.clone(),
        }
    }
}

/// Content as one text; an image is named.
fn text_of(content: &[ContentPart]) -> String {
    let parts: Vec<String> = content
        .iter()
        .map(|part| match part {
            ContentPart::Text(text) => text.text.clone(),
            ContentPart::Image(_) => "[image]".to_owned(),
            _ => "[something else]".to_owned(),
        })
        .collect();
    parts.join("\n")
}
