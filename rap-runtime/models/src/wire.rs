//! The wires: how each API spells a plan, and how its stream is read back. One file for each, pure both ways.

mod anthropic;
mod bedrock;
mod dialect;
mod gemini;
mod ollama;
mod openai_chat;
mod openai_responses;

pub use dialect::ChatDialect;

use crate::{
    fault,
    frames::{AwsEvents, Frame, Framing, Lines, Sse},
    plan::Plan,
    schema::Dialect,
};
use rap_runtime::{
    Delta, ModelCard, ModelError,
    core::{ModelCall, ReasoningBlock, StopReason, Usage},
};
use serde_json::{Map, Value};
use std::fmt;

/// An API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI chat completions, and whatever speaks like it.
    OpenAiChat,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Google Gemini.
    Gemini,
    /// Ollama.
    Ollama,
    /// Amazon Bedrock Converse.
    Bedrock,
}

/// How much a model is to think, where it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Briefly.
    Low,
    /// As usual.
    Medium,
    /// At length.
    High,
}

impl Effort {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Tokens to think with, where a provider wants a number: fewer than those of the turn. None where too few are left.
    pub(crate) fn budget(self, output_limit: u64) -> Option<u64> {
        let wanted = match self {
            Self::Low => 2_048,
            Self::Medium => 8_192,
            Self::High => 24_576,
        };
        (output_limit >= 2_048).then(|| wanted.min(output_limit - 1_024))
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The model's name before its provider.
    pub model: &'a str,
    /// What it takes.
    pub card: &'a ModelCard,
    /// How much it is to think; none leaves that to the provider.
    pub effort: Option<Effort>,
    /// How its server speaks the chat wire, if that is its wire.
    pub dialect: ChatDialect,
    /// The output limit of the card was asked for: it is sent even where the provider has one of its own.
    pub limited: bool,
}

impl<'a> Target<'a> {
    /// A model with a card, and nothing asked for.
    pub fn new(model: &'a str, card: &'a ModelCard) -> Self {
        Self { model, card, effort: None, dialect: ChatDialect::default(), limited: false }
    }
}

impl Wire {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Anthropic, Self::OpenAiChat, Self::OpenAiResponses, Self::Gemini, Self::Ollama, Self::Bedrock];

    /// The body of a request.
    pub fn body(self, plan: &Plan, target: Target<'_>) -> Value {
        match self {
            Self::Anthropic => anthropic::body(plan, target),
            Self::OpenAiChat => openai_chat::body(plan, target),
            Self::OpenAiResponses => openai_responses::body(plan, target),
            Self::Gemini => gemini::body(plan, target),
            Self::Ollama => ollama::body(plan, target),
            Self::Bedrock => bedrock::body(plan, target),
        }
    }

    /// Where below the base URL a request goes.
    pub fn path(self, model: &str) -> String {
        match self {
            Self::Anthropic => "v1/messages".to_owned(),
            Self::OpenAiChat => "chat/completions".to_owned(),
            Self::OpenAiResponses => "responses".to_owned(),
            Self::Gemini => format!("v1beta/models/{}:streamGenerateContent?alt=sse", escaped(model)),
            Self::Ollama => "api/chat".to_owned(),
            Self::Bedrock => format!("model/{}/converse-stream", escaped(model)),
        }
    }

    /// A reader of one answer; `mark` is what its private marks begin with.
    pub fn reader(self, mark: &str) -> Reader {
        let mark = mark.to_owned();
        let (framing, parser): (Framing, Box<dyn Parser>) = match self {
            Self::Anthropic => (Framing::Sse(Sse::default()), Box::new(anthropic::Reading::new(mark))),
            Self::OpenAiChat => (Framing::Sse(Sse::default()), Box::new(openai_chat::Reading::new(mark))),
            Self::OpenAiResponses => {
                (Framing::Sse(Sse::default()), Box::new(openai_responses::Reading::new(mark)))
            }
            Self::Gemini => (Framing::Sse(Sse::default()), Box::new(gemini::Reading::new(mark))),
            Self::Ollama => (Framing::Lines(Lines::default()), Box::new(ollama::Reading::default())),
            Self::Bedrock => (Framing::Aws(AwsEvents::default()), Box::new(bedrock::Reading::new(mark))),
        };
        Reader { framing, parser, call: None, is_over: false, has_frames: false, unframed: Vec::new() }
    }

    pub(crate) fn schema_dialect(self) -> Dialect {
        match self {
            Self::Gemini => Dialect::OpenApi,
            _ => Dialect::Json,
        }
    }

    /// The longest description of a tool, in bytes.
    pub(crate) fn description_limit(self) -> usize {
        match self {
            Self::OpenAiChat | Self::OpenAiResponses => 1_024,
            _ => 8_192,
        }
    }

    pub(crate) fn takes_image(self, media_type: &str) -> bool {
        match media_type {
            "image/png" | "image/jpeg" | "image/webp" => true,
            "image/gif" => self != Self::Gemini,
            "image/heic" | "image/heif" => self == Self::Gemini,
            _ => false,
        }
    }
}

/// Reads an answer: bytes in, deltas out.
pub struct Reader {
    framing: Framing,
    parser: Box<dyn Parser>,
    /// The last call, until it is known whether the output limit cut it short.
    call: Option<ModelCall>,
    /// The turn is whole: what comes after it does not count.
    is_over: bool,
    has_frames: bool,
    /// What came before any frame, in case it is an answer that is no stream.
    unframed: Vec<u8>,
}

/// How much of an answer that is no stream is kept, in bytes.
const UNFRAMED: usize = 64 * 1024;

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("framing", &self.framing).finish_non_exhaustive()
    }
}

impl Reader {
    /// Takes a piece of the answer in.
    ///
    /// # Errors
    /// When the provider reports a failure, or what came is not its wire.
    pub fn push(&mut self, piece: &[u8], out: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.is_over {
            return Ok(());
        }
        if !self.has_frames {
            let room = UNFRAMED - self.unframed.len();
            self.unframed.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        let frames = self.framing.push(piece);
        let frames =
            frames.map_err(|broken| self.no_stream().unwrap_or_else(|| ModelError::passing(broken.0)))?;
        frames.iter().try_for_each(|frame| self.frame(frame, out))
    }

    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        self.has_frames = true;
        // Empty data keeps a connection open, and says nothing.
        if self.is_over || (frame.data.trim().is_empty() && !frame.event.starts_with("exception:")) {
            return Ok(());
        }
        let mut read = Vec::new();
        let outcome = self.parser.frame(frame, &mut read);
        self.pass_on(read, out);
        outcome
    }

    /// Passes on what was read, a call only once it is known to be whole.
    fn pass_on(&mut self, read: Vec<Delta>, out: &mut Vec<Delta>) {
        for delta in read {
            if self.is_over {
                return;
            }
            match delta {
                Delta::Call(call) => {
                    out.extend(self.call.replace(call).map(whole));
                    continue;
                }
                Delta::Usage(_) => {}
                Delta::Stop(stop) => {
                    let call = self.call.take();
                    out.extend(call.map(if stop == StopReason::Length { cut_short } else { whole }));
                    self.is_over = true;
                }
                _ => out.extend(self.call.take().map(whole)),
            }
            out.push(delta);
        }
    }

    /// The answer has ended, or broken off.
    ///
    /// # Errors
    /// Where the turn is not whole.
    pub fn end(&mut self, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.is_over {
            return Ok(());
        }
        if let Some(frame) = self.framing.finish() {
            self.frame(&frame, out)?;
        }
        let mut read = Vec::new();
        let outcome = if self.is_over { Ok(()) } else { self.parser.end(&mut read) };
        self.pass_on(read, out);
        outcome.map_err(|error| self.no_stream().unwrap_or(error))
    }

    /// What an answer says that is JSON in the place of a stream.
    fn no_stream(&self) -> Option<ModelError> {
        let said: Value = serde_json::from_slice(&self.unframed).ok().filter(|_| !self.has_frames)?;
        let said = if said.is_array() { &said[0] } else { &said };
        let error = said.get("error").filter(|error| !error.is_null()).unwrap_or(said);
        let words = [error.as_str().unwrap_or_default(), text(error, "/message"), text(error, "/detail")];
        let message =
            words.into_iter().find(|words| !words.is_empty()).unwrap_or("it answered with no stream");
        let kind = [text(error, "/code"), text(error, "/type"), text(error, "/status")].join(" ");
        Some(reported(&kind, message))
    }
}

/// Reads the frames of one answer.
trait Parser: Send {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError>;

    /// Nothing more comes.
    fn end(&mut self, out: &mut Vec<Delta>) -> Result<(), ModelError>;
}

/// A frame's JSON.
fn json_of(data: &str) -> Result<Value, ModelError> {
    serde_json::from_str(data)
        .map_err(|_| ModelError::passing("the provider's stream broke off, or is not what its API promises"))
}

fn cut() -> ModelError {
    ModelError::passing("the provider's stream ended in the middle of the turn")
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn push_text(out: &mut Vec<Delta>, text: &str) {
    if !text.is_empty() {
        out.push(Delta::Text(text.to_owned()));
    }
}

fn push_reasoning(out: &mut Vec<Delta>, text: &str) {
    if !text.is_empty() {
        out.push(Delta::Reasoning(ReasoningBlock { text: text.to_owned(), signature: None }));
    }
}

fn push_signature(out: &mut Vec<Delta>, signature: String) {
    out.push(Delta::Reasoning(ReasoningBlock { text: String::new(), signature: Some(signature) }));
}

fn push_usage(out: &mut Vec<Delta>, input: u64, output: u64) {
    if input > 0 || output > 0 {
        out.push(Delta::Usage(Usage { input, output }));
    }
}

/// A call from its arguments as text. Text that is no JSON object is handed back as it is: the model is told. None at
/// all are null, until it is known whether there were to be any.
fn call_of(name: String, arguments: &str, provider_id: Option<String>) -> Delta {
    let arguments = match serde_json::from_str::<Value>(arguments) {
        Ok(value) => value,
        Err(_) if arguments.trim().is_empty() => Value::Null,
        Err(_) => Value::String(arguments.to_owned()),
    };
    Delta::Call(ModelCall { name, arguments, provider_id })
}

/// A call as it is passed on: no arguments are an object without members.
fn whole(mut call: ModelCall) -> Delta {
    if call.arguments.is_null() {
        call.arguments = Value::Object(Map::new());
    }
    Delta::Call(call)
}

/// The last call of a turn that reached its output limit: what is not whole goes back to the model, with the reason.
fn cut_short(mut call: ModelCall) -> Delta {
    let written = match &call.arguments {
        Value::Null => Some(""),
        Value::String(written) => Some(written.as_str()),
        _ => None,
    };
    if let Some(written) = written {
        call.arguments = format!("{written}[cut off at the output limit]").into();
    }
    Delta::Call(call)
}

/// A call that the provider itself could not read: it goes back to the model, as one whose arguments are no object.
fn unreadable(said: &str) -> Delta {
    let said = if said.is_empty() { "make it again" } else { said };
    let arguments = format!("your provider could not read the call that you made here: {said}").into();
    Delta::Call(ModelCall { name: "unreadable_call".to_owned(), arguments, provider_id: None })
}

/// What a provider reports in its stream.
fn reported(kind: &str, message: &str) -> ModelError {
    fault::in_stream(kind, message)
}

/// A path segment, percent-encoded.
fn escaped(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
