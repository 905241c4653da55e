//! What each provider's stream looks like: a turn, spoken in the words of its wire.

use rap_models::Wire;
use serde_json::{Value, json};

/// A turn as a model makes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoken {
    /// Reasoning and what signs it.
    pub(crate) reasoning: Option<(String, String)>,
    pub(crate) text: String,
    /// Id, name and arguments as text.
    pub(crate) calls: Vec<(String, String, String)>,
    /// `end`, `length` or `refused`.
    pub(crate) stop: &'static str,
}

impl Spoken {
    pub(crate) fn text(text: &str) -> Self {
        Self { text: text.into(), stop: "end", ..Self::default() }
    }

    pub(crate) fn call(mut self, id: &str, name: &str, arguments: &str) -> Self {
        self.calls.push((id.into(), name.into(), arguments.into()));
        self
    }

    pub(crate) fn thought(mut self, text: &str, signature: &str) -> Self {
        self.reasoning = Some((text.into(), signature.into()));
        self
    }

    pub(crate) fn stopped(mut self, stop: &'static str) -> Self {
        self.stop = stop;
        self
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
    if let Some((text, signature)) = &spoken.reasoning {
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
    if !spoken.text.is_empty() {
        let deltas = halves(&spoken.text).map(|text| json!({"type": "text_delta", "text": text}));
        block(json!({"type": "text", "text": ""}), deltas.into());
    }
    for (id, name, arguments) in &spoken.calls {
        let deltas = halves(arguments).map(|json| json!({"type": "input_json_delta", "partial_json": json}));
        block(json!({"type": "tool_use", "id": id, "name": name, "input": {}}), deltas.into());
    }
    let stop = match spoken.stop {
        "length" => "max_tokens",
        "refused" => "refusal",
        _ if spoken.calls.is_empty() => "end_turn",
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
    if let Some((text, _)) = &spoken.reasoning {
        events.push(chunk(json!({"reasoning_content": text}), Value::Null));
    }
    for piece in halves(&spoken.text) {
        events.push(chunk(json!({"content": piece}), Value::Null));
    }
    for (index, (id, name, arguments)) in spoken.calls.iter().enumerate() {
        let [a, b] = halves(arguments);
        events.push(chunk(
            json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": a}}]}),
            Value::Null,
        ));
        events.push(chunk(
            json!({"tool_calls": [{"index": index, "function": {"arguments": b}}]}),
            Value::Null,
        ));
    }
    let stop = match spoken.stop {
        "length" => "length",
        "refused" => "content_filter",
        _ if spoken.calls.is_empty() => "stop",
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
    if let Some((text, signature)) = &spoken.reasoning {
        item(
            vec![json!({"type": "response.reasoning_summary_text.delta", "delta": text})],
            json!({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}], "encrypted_content": signature}),
        );
    }
    if !spoken.text.is_empty() {
        let deltas = halves(&spoken.text).map(|t| json!({"type": "response.output_text.delta", "delta": t}));
        item(
            deltas.into(),
            json!({"type": "message", "content": [{"type": "output_text", "text": spoken.text}]}),
        );
    }
    for (id, name, arguments) in &spoken.calls {
        let deltas = halves(arguments)
            .map(|json| json!({"type": "response.function_call_arguments.delta", "delta": json}));
        item(
            deltas.into(),
            json!({"type": "function_call", "id": "fc_1", "call_id": id, "name": name, "arguments": arguments}),
        );
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
    let mut signature = None;
    if let Some((text, signed)) = &spoken.reasoning {
        events.push(chunk(vec![json!({"text": text, "thought": true})], Value::Null));
        signature = Some(signed.as_str());
    }
    let [a, b] = halves(&spoken.text);
    events.push(chunk(vec![json!({"text": a})], Value::Null));
    let mut last = json!({"text": b});
    if spoken.calls.is_empty()
        && let Some(signature) = signature
    {
        last["thoughtSignature"] = signature.into();
    }
    events.push(chunk(vec![last], Value::Null));
    let mut parts = Vec::new();
    for (n, (_, name, arguments)) in spoken.calls.iter().enumerate() {
        let args: Value = serde_json::from_str(arguments).unwrap_or(arguments.as_str().into());
        let mut part = json!({"functionCall": {"name": name, "args": args}});
        if n == 0
            && let Some(signature) = signature
        {
            part["thoughtSignature"] = signature.into();
        }
        parts.push(part);
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
    if let Some((text, _)) = &spoken.reasoning {
        lines.push(json!({"message": {"role": "assistant", "content": "", "thinking": text}, "done": false}));
    }
    for piece in halves(&spoken.text) {
        lines.push(json!({"message": {"role": "assistant", "content": piece}, "done": false}));
    }
    for (_, name, arguments) in &spoken.calls {
        let args: Value = serde_json::from_str(arguments).unwrap_or(arguments.as_str().into());
        let call = json!({"function": {"name": name, "arguments": args}});
        lines.push(
            json!({"message": {"role": "assistant", "content": "", "tool_calls": [call]}, "done": false}),
        );
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
    if let Some((text, signature)) = &spoken.reasoning {
        let deltas = vec![
            json!({"reasoningContent": {"text": text}}),
            json!({"reasoningContent": {"signature": signature}}),
        ];
        block(None, deltas);
    }
    if !spoken.text.is_empty() {
        block(None, halves(&spoken.text).map(|text| json!({ "text": text })).into());
    }
    for (id, name, arguments) in &spoken.calls {
        let start = json!({"toolUse": {"toolUseId": id, "name": name}});
        block(Some(start), halves(arguments).map(|json| json!({"toolUse": {"input": json}})).into());
    }
    let stop = match spoken.stop {
        "length" => "max_tokens",
        "refused" => "content_filtered",
        _ if spoken.calls.is_empty() => "end_turn",
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
