//! What each provider's stream looks like: a turn, spoken in the words of its wire.

use rap_models::Wire;
use serde_json::{Value, json};
use std::collections::HashMap;

/// A turn as a model makes it: its pieces in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoken {
    pub(crate) pieces: Vec<Piece>,
    /// `end`, `length` or `refused`.
    pub(crate) stop: &'static str,
}

/// A piece of a turn.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// Reasoning and what signs it.
    Thought(String, String),
    Text(String),
    /// Id, name and arguments as text.
    Call(String, String, String),
}

impl Spoken {
    pub(crate) fn text(text: &str) -> Self {
        if text.is_empty() { Self::begin() } else { Self::begin().then_text(text) }
    }

    /// Nothing yet.
    pub(crate) fn begin() -> Self {
        Self { pieces: Vec::new(), stop: "end" }
    }

    pub(crate) fn call(mut self, id: &str, name: &str, arguments: &str) -> Self {
        self.pieces.push(Piece::Call(id.into(), name.into(), arguments.into()));
        self
    }

    /// Reasoning at the beginning.
    pub(crate) fn thought(mut self, text: &str, signature: &str) -> Self {
        self.pieces.insert(0, Piece::Thought(text.into(), signature.into()));
        self
    }

    /// Reasoning after what was there.
    pub(crate) fn then_thought(mut self, text: &str, signature: &str) -> Self {
        self.pieces.push(Piece::Thought(text.into(), signature.into()));
        self
    }

    /// Text after what was there.
    pub(crate) fn then_text(mut self, text: &str) -> Self {
        self.pieces.push(Piece::Text(text.into()));
        self
    }

    pub(crate) fn stopped(mut self, stop: &'static str) -> Self {
        self.stop = stop;
        self
    }

    pub(crate) fn whole_text(&self) -> String {
        self.pieces.iter().map(|piece| if let Piece::Text(text) = piece { text } else { "" }).collect()
    }

    pub(crate) fn calls(&self) -> Vec<(&str, &str)> {
        let calls = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Call(_, name, arguments) => Some((name.as_str(), arguments.as_str())),
            _ => None,
        });
        calls.collect()
    }

    /// Reasoning and its signatures.
    pub(crate) fn thoughts(&self) -> Vec<(&str, &str)> {
        let thoughts = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Thought(text, signature) => Some((text.as_str(), signature.as_str())),
            _ => None,
        });
        thoughts.collect()
    }

    /// What a provider that signs its turns wants back of this one, in this order; what is signed begins so.
    pub(crate) fn labels(&self, wire: Wire) -> Vec<String> {
        let signed = |signature: &str, what: &str| format!("signed {signature} {what}").trim_end().to_owned();
        let gemini = self.gemini_signatures();
        let label = |(n, piece): (usize, &Piece)| match (piece, gemini.get(&n)) {
            (Piece::Thought(..), _) if wire == Wire::Gemini => None,
            (Piece::Thought(_, signature), _) => Some(signed(signature, "")),
            (Piece::Text(text), Some(signature)) if wire == Wire::Gemini => {
                Some(signed(signature, &format!("text {text}")))
            }
            (Piece::Call(_, name, _), Some(signature)) if wire == Wire::Gemini => {
                Some(signed(signature, &format!("call {name}")))
            }
            (Piece::Text(text), _) => Some(format!("text {text}")),
            (Piece::Call(_, name, _), _) => Some(format!("call {name}")),
        };
        self.pieces.iter().enumerate().filter_map(label).collect()
    }

    /// Where Gemini puts what signs a thought: on the first call that followed from it, or else on the last text.
    fn gemini_signatures(&self) -> HashMap<usize, &str> {
        let mut places = HashMap::new();
        for (n, piece) in self.pieces.iter().enumerate() {
            let Piece::Thought(_, signature) = piece else { continue };
            let rest = self.pieces.iter().enumerate().skip(n + 1);
            let followed: Vec<_> = rest.take_while(|(_, p)| !matches!(p, Piece::Thought(..))).collect();
            let call = followed.iter().find(|(_, piece)| matches!(piece, Piece::Call(..)));
            if let Some((place, _)) = call.or(followed.last()) {
                places.insert(*place, signature.as_str());
            }
        }
        places
    }
}

pub(crate) const USAGE: (u64, u64) = (21, 7);

pub(crate) fn content_type(wire: Wire) -> &'static str {
    match wire {
        Wire::Ollama => "application/x-ndjson",
        Wire::Bedrock => "application/vnd.amazon.eventstream",
        _ => "text/event-stream",
    }
}

/// A text in two pieces, as streams come; the cut is at a character.
fn halves(text: &str) -> [&str; 2] {
    let (a, b) = text.split_at(text.floor_char_boundary(text.len() / 2));
    [a, b]
}

/// The stream.
pub(crate) fn stream(wire: Wire, spoken: &Spoken) -> Vec<u8> {
    match wire {
        Wire::Anthropic => sse(true, anthropic(spoken)),
        Wire::OpenAiChat => {
            let mut bytes = sse(false, chat(spoken));
            bytes.extend(b"data: [DONE]\n\n");
            bytes
        }
        Wire::OpenAiResponses => sse(true, responses(spoken)),
        Wire::Gemini => sse(false, gemini(spoken)),
        Wire::Ollama => ollama(spoken).iter().flat_map(|line| format!("{line}\n").into_bytes()).collect(),
        Wire::Bedrock => bedrock(spoken),
    }
}

fn sse(named: bool, events: Vec<Value>) -> Vec<u8> {
    let mut out = String::from(": hello\n\n");
    for event in events {
        if named {
            out += &format!("event: {}\n", event["type"].as_str().unwrap_or_default());
        }
        out += &format!("data: {event}\n\n");
    }
    out.into_bytes()
}

fn anthropic(spoken: &Spoken) -> Vec<Value> {
    let mut events = vec![
        json!({"type": "message_start", "message": {"usage": {"input_tokens": USAGE.0, "output_tokens": 1}}}),
        json!({"type": "ping"}),
    ];
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>| {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for delta in deltas {
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    };
    for piece in &spoken.pieces {
        match piece {
            Piece::Thought(text, signature) => {
                let [a, b] = halves(signature);
                block(
                    json!({"type": "thinking", "thinking": "", "signature": ""}),
                    vec![
                        json!({"type": "thinking_delta", "thinking": text}),
                        json!({"type": "signature_delta", "signature": a}),
                        json!({"type": "signature_delta", "signature": b}),
                    ],
                );
            }
            Piece::Text(text) => {
                let deltas = halves(text).map(|text| json!({"type": "text_delta", "text": text}));
                block(json!({"type": "text", "text": ""}), deltas.into());
            }
            Piece::Call(id, name, arguments) => {
                let deltas =
                    halves(arguments).map(|json| json!({"type": "input_json_delta", "partial_json": json}));
                block(json!({"type": "tool_use", "id": id, "name": name, "input": {}}), deltas.into());
            }
        }
    }
    let stop = match spoken.stop {
        "length" => "max_tokens",
        "refused" => "refusal",
        _ if spoken.calls().is_empty() => "end_turn",
        _ => "tool_use",
    };
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": USAGE.1}}),
    );
    events.push(json!({"type": "message_stop"}));
    events
}

fn chat(spoken: &Spoken) -> Vec<Value> {
    let chunk = |delta: Value, stop: Value| json!({"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": stop}], "usage": null});
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}), Value::Null)];
    let mut index = 0;
    for piece in &spoken.pieces {
        match piece {
            Piece::Thought(text, _) => events.push(chunk(json!({"reasoning_content": text}), Value::Null)),
            Piece::Text(text) => {
                events.extend(halves(text).map(|piece| chunk(json!({"content": piece}), Value::Null)));
            }
            Piece::Call(id, name, arguments) => {
                let [a, b] = halves(arguments);
                let begins = json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": a}});
                let goes_on = json!({"index": index, "function": {"arguments": b}});
                for call in [begins, goes_on] {
                    events.push(chunk(json!({"tool_calls": [call]}), Value::Null));
                }
                index += 1;
            }
        }
    }
    let stop = match spoken.stop {
        "length" => "length",
        "refused" => "content_filter",
        _ if spoken.calls().is_empty() => "stop",
        _ => "tool_calls",
    };
    events.push(chunk(json!({}), stop.into()));
    events.push(json!({"choices": [], "usage": {"prompt_tokens": USAGE.0, "completion_tokens": USAGE.1}}));
    events
}

fn responses(spoken: &Spoken) -> Vec<Value> {
    let mut events = vec![json!({"type": "response.created", "response": {"id": "resp_1"}})];
    let mut item = |deltas: Vec<Value>, item: Value| {
        events.push(json!({"type": "response.output_item.added", "item": {"type": item["type"]}}));
        events.extend(deltas);
        events.push(json!({"type": "response.output_item.done", "item": item}));
    };
    for (n, piece) in spoken.pieces.iter().enumerate() {
        match piece {
            Piece::Thought(text, signature) => item(
                vec![json!({"type": "response.reasoning_summary_text.delta", "delta": text})],
                json!({
                    "type": "reasoning", "id": format!("rs_{n}"), "encrypted_content": signature,
                    "summary": [{"type": "summary_text", "text": text}],
                }),
            ),
            Piece::Text(text) => {
                let deltas = halves(text).map(|t| json!({"type": "response.output_text.delta", "delta": t}));
                let content = json!([{"type": "output_text", "text": text}]);
                item(deltas.into(), json!({"type": "message", "content": content}));
            }
            Piece::Call(id, name, arguments) => {
                let deltas = halves(arguments)
                    .map(|json| json!({"type": "response.function_call_arguments.delta", "delta": json}));
                item(
                    deltas.into(),
                    json!({
                        "type": "function_call", "id": format!("fc_{n}"), "call_id": id, "name": name,
                        "arguments": arguments,
                    }),
                );
            }
        }
    }
    let usage = json!({"input_tokens": USAGE.0, "output_tokens": USAGE.1});
    events.push(match spoken.stop {
        "end" => json!({"type": "response.completed", "response": {"status": "completed", "usage": usage}}),
        stop => {
            let reason = if stop == "length" { "max_output_tokens" } else { "content_filter" };
            json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}, "usage": usage}})
        }
    });
    events
}

fn gemini(spoken: &Spoken) -> Vec<Value> {
    let chunk = |parts: Vec<Value>, stop: Value| {
        let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
        if !stop.is_null() {
            candidate["finishReason"] = stop;
        }
        let usage = json!({"promptTokenCount": USAGE.0, "candidatesTokenCount": USAGE.1 - 2, "thoughtsTokenCount": 2});
        json!({"candidates": [candidate], "usageMetadata": usage})
    };
    let mut events = Vec::new();
    let signatures = spoken.gemini_signatures();
    let mut parts = Vec::new();
    for (n, piece) in spoken.pieces.iter().enumerate() {
        let mut part = match piece {
            Piece::Thought(text, _) => {
                events.push(chunk(vec![json!({"text": text, "thought": true})], Value::Null));
                continue;
            }
            Piece::Text(text) => {
                let [a, b] = halves(text);
                events.push(chunk(vec![json!({"text": a})], Value::Null));
                json!({ "text": b })
            }
            Piece::Call(_, name, arguments) => {
                let args: Value = serde_json::from_str(arguments).unwrap_or(arguments.as_str().into());
                json!({"functionCall": {"name": name, "args": args}})
            }
        };
        if let Some(signature) = signatures.get(&n) {
            part["thoughtSignature"] = (*signature).into();
        }
        // Calls come together with the end, texts by themselves.
        match piece {
            Piece::Call(..) if n + 1 == spoken.pieces.len() => parts.push(part),
            _ => events.push(chunk(vec![part], Value::Null)),
        }
    }
    let stop = match spoken.stop {
        "length" => "MAX_TOKENS",
        "refused" => "SAFETY",
        _ => "STOP",
    };
    events.push(chunk(parts, stop.into()));
    events
}

fn ollama(spoken: &Spoken) -> Vec<Value> {
    let mut lines = Vec::new();
    let said = |message: Value| json!({"message": message, "done": false});
    for piece in &spoken.pieces {
        match piece {
            Piece::Thought(text, _) => {
                lines.push(said(json!({"role": "assistant", "content": "", "thinking": text})));
            }
            Piece::Text(text) => {
                lines.extend(halves(text).map(|piece| said(json!({"role": "assistant", "content": piece}))))
            }
            Piece::Call(_, name, arguments) => {
                let args: Value = serde_json::from_str(arguments).unwrap_or(arguments.as_str().into());
                let call = json!({"function": {"name": name, "arguments": args}});
                lines.push(said(json!({"role": "assistant", "content": "", "tool_calls": [call]})));
            }
        }
    }
    let reason = if spoken.stop == "length" { "length" } else { "stop" };
    lines.push(json!({
        "message": {"role": "assistant", "content": ""}, "done": true, "done_reason": reason,
        "prompt_eval_count": USAGE.0, "eval_count": USAGE.1,
    }));
    lines
}

fn bedrock(spoken: &Spoken) -> Vec<u8> {
    let mut out = aws_event("event", "messageStart", &json!({"role": "assistant"}));
    let mut index = 0;
    let mut block = |start: Option<Value>, deltas: Vec<Value>| {
        if let Some(start) = start {
            out.extend(aws_event(
                "event",
                "contentBlockStart",
                &json!({"start": start, "contentBlockIndex": index}),
            ));
        }
        for delta in deltas {
            out.extend(aws_event(
                "event",
                "contentBlockDelta",
                &json!({"delta": delta, "contentBlockIndex": index}),
            ));
        }
        out.extend(aws_event("event", "contentBlockStop", &json!({"contentBlockIndex": index})));
        index += 1;
    };
    for piece in &spoken.pieces {
        match piece {
            Piece::Thought(text, signature) => {
                let deltas = vec![
                    json!({"reasoningContent": {"text": text}}),
                    json!({"reasoningContent": {"signature": signature}}),
                ];
                block(None, deltas);
            }
            Piece::Text(text) => block(None, halves(text).map(|text| json!({ "text": text })).into()),
            Piece::Call(id, name, arguments) => {
                let start = json!({"toolUse": {"toolUseId": id, "name": name}});
                let deltas = halves(arguments).map(|json| json!({"toolUse": {"input": json}}));
                block(Some(start), deltas.into());
            }
        }
    }
    let stop = match spoken.stop {
        "length" => "max_tokens",
        "refused" => "content_filtered",
        _ if spoken.calls().is_empty() => "end_turn",
        _ => "tool_use",
    };
    out.extend(aws_event("event", "messageStop", &json!({"stopReason": stop})));
    let usage = json!({"usage": {"inputTokens": USAGE.0, "outputTokens": USAGE.1}});
    out.extend(aws_event("event", "metadata", &usage));
    out
}

/// One message of an AWS event stream.
pub(crate) fn aws_event(kind: &str, name: &str, payload: &Value) -> Vec<u8> {
    let mut headers = Vec::new();
    let named = if kind == "exception" { ":exception-type" } else { ":event-type" };
    for (header, value) in [(":message-type", kind), (named, name), (":content-type", "application/json")] {
        headers.push(u8::try_from(header.len()).unwrap());
        headers.extend(header.as_bytes());
        headers.push(7);
        headers.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        headers.extend(value.as_bytes());
    }
    let payload = payload.to_string();
    let total = u32::try_from(16 + headers.len() + payload.len()).unwrap();
    let mut message = Vec::new();
    message.extend(total.to_be_bytes());
    message.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend(headers);
    message.extend(payload.as_bytes());
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}
