//! From our history to what any provider may be sent: a plan, which the wires then only have to spell.
//!
//! Pure. Whatever the history looks like (cut short anywhere, inherited, written by another model), the plan keeps
//! the rules that providers check: every call is followed by its results and every result has its call, the user's
//! side speaks first and last, no text is empty, ids and names fit, reasoning goes back only to whom it came from.

mod names;
mod told;

pub use names::Names;

use crate::{catalog, schema, wire::Wire};
use rap_runtime::{
    ModelCard, ReasoningPolicy, Roles,
    core::{
        Entry, EventEntry, History, ModelRequest, ReasoningBlock, ResultEntry, TurnCall, TurnEntry, TurnPiece,
    },
};
use rap_types::{ContentPart, RECEIVE_EVENT};
use serde_json::{Map, Value, json};

/// A request as any provider may see it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The system prompt; may be empty.
    pub system: String,
    /// The tools.
    pub tools: Vec<PlanTool>,
    /// The conversation.
    pub messages: Vec<Message>,
    /// The names and ids that stand for ours.
    pub names: Names,
    /// The session: requests of one session share a prompt cache.
    pub session: String,
}

/// A tool on offer.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanTool {
    /// Its name, or an alias that the provider takes.
    pub name: String,
    /// What it does; never empty, and not too long for the provider.
    pub description: String,
    /// The schema of its arguments, in the provider's dialect.
    pub schema: Value,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The user's side says something: at least one part, none of them empty.
    User(Vec<Part>),
    /// The model's turn: a text or a call at least.
    Assistant(Assistant),
    /// The results of the calls of the turn before: all of them, in call order.
    Results(Vec<PlanResult>),
}

/// A turn of the model: its pieces in the order in which it made them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assistant {
    /// At least one text or call.
    pub pieces: Vec<Said>,
}

/// A piece of a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// Reasoning that this provider made and signed.
    Reasoning(Signed),
    /// Text with something in it.
    Text {
        /// The text.
        text: String,
        /// What its wire wants to send back with it: Gemini's.
        signature: Option<String>,
    },
    /// A call.
    Call(PlanCall),
}

impl Said {
    fn text(text: String) -> Self {
        Self::Text { text, signature: None }
    }
}

impl Assistant {
    /// The calls, in order.
    pub fn calls(&self) -> impl Iterator<Item = &PlanCall> {
        self.pieces.iter().filter_map(|piece| match piece {
            Said::Call(call) => Some(call),
            _ => None,
        })
    }

    /// Whether this provider has signed any of it.
    fn is_signed(&self) -> bool {
        self.pieces.iter().any(|piece| match piece {
            Said::Reasoning(_) => true,
            Said::Text { signature, .. } => signature.is_some(),
            Said::Call(call) => call.signature.is_some(),
        })
    }

    /// Goes on with another turn, which is not signed. What is signed of this one stays as it is.
    fn add(&mut self, turn: Self) {
        let joins = !self.is_signed();
        let mut more = turn.pieces.into_iter();
        match (self.pieces.last_mut(), more.next()) {
            (Some(Said::Text { text, .. }), Some(Said::Text { text: next, .. })) if joins => {
                told::line(text, &next);
            }
            (_, next) => self.pieces.extend(next),
        }
        self.pieces.extend(more);
    }

    /// All text as one; may be empty where there are calls.
    pub fn text(&self) -> String {
        let mut all = String::new();
        for piece in &self.pieces {
            if let Said::Text { text, .. } = piece {
                told::line(&mut all, text);
            }
        }
        all
    }
}

/// A reasoning block and its provider's signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    /// The text.
    pub text: String,
    /// What its wire needs to send it back.
    pub signature: String,
}

/// A call.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanCall {
    /// Its id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments: an object, always.
    pub arguments: Map<String, Value>,
    /// What its wire wants to send back with it.
    pub signature: Option<String>,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanResult {
    /// The call's id.
    pub call: String,
    /// The tool's name.
    pub name: String,
    /// At least one part, none of them empty.
    pub content: Vec<Part>,
    /// The call failed.
    pub is_error: bool,
}

/// A piece of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text with something in it.
    Text(String),
    /// An image of a kind that the provider takes.
    Image {
        /// Its media type.
        media_type: String,
        /// Its bytes, as base64.
        data: String,
    },
}

/// What a private mark of a provider begins with, so that it goes back to nobody else.
pub(crate) fn mark(card: &ModelCard) -> String {
    format!("{}:", card.id.split('/').next().unwrap_or_default())
}

impl Plan {
    /// The plan for a request, to a model with this card, over this wire.
    pub fn new(request: &ModelRequest, card: &ModelCard, wire: Wire) -> Self {
        let names = Names::of(request, card);
        let limit = wire.description_limit();
        let tools = request.tools.iter().map(|tool| PlanTool {
            name: names.name(&tool.name),
            description: described(&tool.description, limit),
            schema: schema::fit(&tool.input_schema, wire.schema_dialect()),
        });
        let mut building = Building {
            card,
            wire,
            mark: mark(card),
            names: &names,
            // Providers refuse calls in a history without tools on offer.
            no_tools: request.tools.is_empty(),
            messages: Vec::new(),
        };
        building.history(&request.history);
        let messages = building.finish();
        Self {
            system: request.system.trim().to_owned(),
            tools: tools.collect(),
            messages,
            names,
            session: request.session.to_string(),
        }
    }
}

fn described(text: &str, limit: usize) -> String {
    let text = if text.trim().is_empty() { "(no description)" } else { text.trim() };
    if text.len() <= limit {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(limit - '…'.len_utf8())])
}

struct Building<'a> {
    card: &'a ModelCard,
    wire: Wire,
    mark: String,
    names: &'a Names,
    no_tools: bool,
    messages: Vec<Message>,
}

impl Building<'_> {
    fn history(&mut self, history: &History) {
        let mut entries = history.iter().peekable();
        while let Some(entry) = entries.next() {
            match &**entry {
                Entry::User(user) => {
                    let parts = self.parts(&user.content, "(an empty message)");
                    self.user(parts);
                }
                Entry::Turn(turn) if turn.calls.is_empty() => self.turn_without_calls(turn),
                Entry::Turn(turn) => {
                    let results = match entries.peek().map(|next| &***next) {
                        Some(Entry::Results { results }) => {
                            entries.next();
                            results.as_slice()
                        }
                        _ => &[],
                    };
                    self.turn_with_calls(turn, results);
                }
                // Results whose turn is not there: told, so that nothing is lost.
                Entry::Results { results } => {
                    for result in results {
                        let mut parts =
                            vec![Part::Text(told::result_head("a tool", self.names, &result.call))];
                        parts.extend(self.parts(&result.content, "(no output)"));
                        self.user(parts);
                    }
                }
                Entry::Event(event) => self.event(event),
                _ => {}
            }
        }
    }

    fn turn_without_calls(&mut self, turn: &TurnEntry) {
        let pieces = self.pieces(turn);
        if pieces.iter().any(|piece| matches!(piece, Said::Text { .. })) {
            self.assistant(Assistant { pieces });
        }
    }

    fn turn_with_calls(&mut self, turn: &TurnEntry, results: &[ResultEntry]) {
        let pieces = self.pieces(turn);
        let signed = match self.wire {
            // Gemini's signature stands on the first call itself.
            Wire::Gemini => {
                let first = pieces.iter().find_map(|piece| match piece {
                    Said::Call(call) => Some(call),
                    _ => None,
                });
                first.is_some_and(|call| call.signature.is_some())
            }
            _ => matches!(pieces.first(), Some(Said::Reasoning(_))),
        };
        let answered: Vec<PlanResult> = turn
            .calls
            .iter()
            .map(|call| match results.iter().find(|result| result.call == call.id) {
                Some(result) => PlanResult {
                    call: self.names.id(call.id.as_str()),
                    name: self.names.name(&call.name),
                    content: self.parts(&result.content, "(no output)"),
                    is_error: result.is_error,
                },
                None => PlanResult {
                    call: self.names.id(call.id.as_str()),
                    name: self.names.name(&call.name),
                    content: vec![Part::Text("(no result yet)".to_owned())],
                    is_error: false,
                },
            })
            .collect();
        let told = self.no_tools || (self.card.reasoning == ReasoningPolicy::Required && !signed);
        let turn = Assistant { pieces };
        if told {
            self.tell(&turn, answered);
        } else {
            self.assistant(turn);
            self.messages.push(Message::Results(answered));
        }
    }

    /// Calls and results as text.
    fn tell(&mut self, turn: &Assistant, results: Vec<PlanResult>) {
        let mut text = turn.text();
        for call in turn.calls() {
            told::line(&mut text, &told::call(call));
        }
        self.assistant(Assistant { pieces: vec![Said::text(text)] });
        for result in results {
            let mut parts = vec![Part::Text(format!("[result of {} ({})]", result.name, result.call))];
            parts.extend(result.content);
            self.user(parts);
        }
    }

    /// An event (SUB-14): a call of `receive_event` with its result, or words of the user's side where calls need
    /// a signature that nobody has given this one.
    fn event(&mut self, event: &EventEntry) {
        let content = self.parts(&event.content, "(an event without text)");
        let origin = self.names.id(event.original_tool_call_id.as_str());
        let tool = self.names.name(&event.original_tool_name);
        if self.no_tools || self.card.reasoning == ReasoningPolicy::Required {
            let mut parts = vec![Part::Text(told::event_head(&tool, &origin, &event.original_args))];
            parts.extend(content);
            return self.user(parts);
        }
        let mut arguments = event.arguments();
        arguments.insert("original_tool_name".to_owned(), tool.into());
        arguments.insert("original_tool_call_id".to_owned(), origin.into());
        let id = self.names.id(event.id.as_str());
        let call = PlanCall { id: id.clone(), name: RECEIVE_EVENT.to_owned(), arguments, signature: None };
        self.assistant(Assistant { pieces: vec![Said::Call(call)] });
        self.messages.push(Message::Results(vec![PlanResult {
            call: id,
            name: RECEIVE_EVENT.to_owned(),
            content,
            is_error: event.is_error,
        }]));
    }

    /// Whether this very model made a turn, however much it was to think: what one model has signed, another of the same
    /// provider may not read.
    fn is_own(&self, turn: &TurnEntry) -> bool {
        let bare = |id: &str| {
            let (provider, model) = id.split_once('/').unwrap_or(("", id));
            let model = match model.rsplit_once('+') {
                Some((model, "low" | "medium" | "high" | "thinking")) => model,
                _ => model,
            };
            let model = if self.wire == Wire::Bedrock { catalog::bedrock_name(model) } else { model };
            format!("{provider}/{model}")
        };
        bare(&turn.model) == bare(&self.card.id)
    }

    fn call(&self, call: &TurnCall, is_own: bool) -> PlanCall {
        let arguments = match &call.arguments {
            Value::Object(arguments) => arguments.clone(),
            // The model wrote something else, and was told so by the result.
            other => Map::from_iter([("not_an_object".to_owned(), other.clone())]),
        };
        let signature = match self.card.reasoning {
            ReasoningPolicy::Dropped => None,
            _ if self.wire != Wire::Gemini || !is_own => None,
            _ => call.provider_id.as_deref().and_then(|mark| mark.strip_prefix(&self.mark)),
        };
        PlanCall {
            id: self.names.id(call.id.as_str()),
            name: self.names.name(&call.name),
            arguments,
            signature: signature.map(str::to_owned),
        }
    }

    /// A turn's pieces as this provider may have them back, in their order; blank ones and others' reasoning left out.
    fn pieces(&self, turn: &TurnEntry) -> Vec<Said> {
        let mut pieces = Vec::new();
        let is_own = self.is_own(turn);
        for piece in turn.pieces() {
            match piece {
                TurnPiece::Reasoning(block) if is_own => {
                    pieces.extend(self.signed(block).map(Said::Reasoning));
                }
                TurnPiece::Reasoning(_) => {}
                TurnPiece::Text(text) if text.trim().is_empty() => {}
                TurnPiece::Text(text) => pieces.push(Said::text(text.trim_end().to_owned())),
                TurnPiece::Call(call) => pieces.push(Said::Call(self.call(call, is_own))),
            }
        }
        if turn.interrupted
            && let Some(Said::Text { text, .. }) = pieces.last_mut()
        {
            text.push_str(" [interrupted]");
        }
        if self.wire == Wire::Gemini { on_their_parts(pieces) } else { pieces }
    }

    /// Reasoning that this provider made and signed.
    fn signed(&self, block: &ReasoningBlock) -> Option<Signed> {
        if self.card.reasoning == ReasoningPolicy::Dropped {
            return None;
        }
        let signature = block.signature.as_deref()?.strip_prefix(&self.mark)?;
        Some(Signed { text: block.text.clone(), signature: signature.to_owned() })
    }

    /// Content as parts of which none is empty.
    fn parts(&self, content: &[ContentPart], nothing: &str) -> Vec<Part> {
        let part = |part: &ContentPart| match part {
            ContentPart::Text(text) if text.text.trim().is_empty() => None,
            ContentPart::Text(text) => Some(Part::Text(text.text.clone())),
            ContentPart::Image(image) if !self.card.images => {
                Some(Part::Text(format!("[an image ({}), which this model cannot see]", image.media_type)))
            }
            ContentPart::Image(image) if self.wire.takes_image(&image.media_type) => {
                Some(Part::Image { media_type: image.media_type.clone(), data: image.data.encode() })
            }
            ContentPart::Image(image) => Some(Part::Text(format!(
                "[an image ({}), of a kind that this model does not take]",
                image.media_type
            ))),
            ContentPart::Other(other) => {
                Some(Part::Text(format!("[content of the kind {:?}, which cannot be shown]", other.kind())))
            }
            _ => Some(Part::Text("[content of an unknown kind]".to_owned())),
        };
        let mut parts: Vec<Part> = content.iter().filter_map(part).collect();
        if parts.is_empty() {
            parts.push(Part::Text(nothing.to_owned()));
        }
        parts
    }

    fn user(&mut self, parts: Vec<Part>) {
        match self.messages.last_mut() {
            Some(Message::User(last)) if self.card.roles == Roles::Alternating => last.extend(parts),
            _ => self.messages.push(Message::User(parts)),
        }
    }

    fn assistant(&mut self, turn: Assistant) {
        match self.messages.last_mut() {
            Some(Message::Assistant(_)) if self.card.roles == Roles::Alternating && turn.is_signed() => {
                // What a provider has signed goes back as it was, as a turn of its own.
                self.messages.push(words("(Go on.)"));
                self.messages.push(Message::Assistant(turn));
            }
            Some(Message::Assistant(last))
                if self.card.roles == Roles::Alternating && last.calls().next().is_none() =>
            {
                last.add(turn);
            }
            _ => self.messages.push(Message::Assistant(turn)),
        }
    }

    fn finish(mut self) -> Vec<Message> {
        if !matches!(self.messages.first(), Some(Message::User(_))) {
            self.messages.insert(0, words("(What came before is not shown.)"));
        }
        if matches!(self.messages.last(), Some(Message::Assistant(_))) {
            self.messages.push(words("(Go on.)"));
        }
        self.messages
    }
}

/// Something for the user's side to say where the model's would come twice, first or last.
fn words(text: &str) -> Message {
    Message::User(vec![Part::Text(text.to_owned())])
}

/// Gemini signs parts, not thoughts: a signature that came without a text of its own belongs to the text before it, any
/// other to what followed.
fn on_their_parts(pieces: Vec<Said>) -> Vec<Said> {
    let mut parts: Vec<Said> = Vec::new();
    let mut held = None;
    for piece in pieces {
        match (piece, parts.last_mut()) {
            (Said::Reasoning(block), Some(Said::Text { signature: signature @ None, .. }))
                if block.text.is_empty() =>
            {
                *signature = Some(block.signature);
            }
            (Said::Reasoning(block), _) => held = Some(block.signature),
            (Said::Text { text, .. }, _) => parts.push(Said::Text { text, signature: held.take() }),
            (Said::Call(mut call), _) => {
                let held = held.take();
                call.signature = call.signature.or(held);
                parts.push(Said::Call(call));
            }
        }
    }
    match parts.last_mut() {
        Some(Said::Text { signature, .. }) => *signature = signature.take().or(held),
        Some(Said::Call(call)) => call.signature = call.signature.take().or(held),
        _ => {}
    }
    parts
}

/// A result's text as one, images left out; errors say so.
pub(crate) fn result_text(result: &PlanResult) -> String {
    let texts: Vec<&str> = result.content.iter().filter_map(Part::text).collect();
    let text = if texts.is_empty() { "[an image, which follows]".to_owned() } else { texts.join("\n") };
    if result.is_error && !text.starts_with("Error") { format!("Error: {text}") } else { text }
}

/// The images of results, to be sent after them, with a word on what each belongs to.
pub(crate) fn result_images(results: &[PlanResult]) -> Vec<Part> {
    let mut parts = Vec::new();
    for result in results {
        let images: Vec<&Part> = result.content.iter().filter(|part| part.text().is_none()).collect();
        if !images.is_empty() {
            parts.push(Part::Text(format!("[shown by {} ({})]", result.name, result.call)));
            parts.extend(images.into_iter().cloned());
        }
    }
    parts
}

impl Part {
    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image { .. } => None,
        }
    }

    /// As a data URL, where it is an image; its text otherwise.
    pub(crate) fn as_openai(&self, text_kind: &str, image_kind: &str) -> Value {
        match self {
            Self::Text(text) => json!({"type": text_kind, "text": text}),
            Self::Image { media_type, data } => {
                let url = format!("data:{media_type};base64,{data}");
                match image_kind {
                    "image_url" => json!({"type": image_kind, "image_url": {"url": url}}),
                    _ => json!({"type": image_kind, "image_url": url, "detail": "auto"}),
                }
            }
        }
    }
}
