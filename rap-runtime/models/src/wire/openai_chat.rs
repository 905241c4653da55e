//! OpenAI chat completions, and the many that speak like it. Results are messages of their own, right after their
//! calls, text only; what they show follows as a user's message. Arguments are text.

use super::{
    ChatDialect, Effort, Parser, Target, call_of, cut, json_of, number, push_reasoning, push_signature,
    push_text, push_usage, reported, text,
};
use crate::{
    frames::Frame,
    plan::{Assistant, Message, Part, Plan, Said, result_images, result_text},
};
use rap_runtime::{Delta, ModelError, core::StopReason};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan, target: Target<'_>) -> Value {
    let mut messages = Vec::new();
    if !plan.system.is_empty() {
        messages.push(json!({"role": "system", "content": plan.system}));
    }
    for message in &plan.messages {
        match message {
            Message::User(parts) => add_user(&mut messages, user(parts), target),
            Message::Assistant(turn) => {
                let calls: Vec<Value> = turn
                    .calls()
                    .map(|call| {
                        let arguments = Value::Object(call.arguments.clone()).to_string();
                        json!({
                            "id": call.id, "type": "function",
                            "function": {"name": call.name, "arguments": arguments},
                        })
                    })
                    .collect();
                let mut message = json!({"role": "assistant"});
                let text = turn.text();
                message["content"] = if text.is_empty() { Value::Null } else { text.into() };
                if !calls.is_empty() {
                    message["tool_calls"] = calls.into();
                    if target.dialect == ChatDialect::ReasoningBack {
                        message["reasoning_content"] = reasoning(turn).into();
                    }
                }
                messages.push(message);
            }
            Message::Results(results) => {
                for result in results {
                    let text = result_text(result);
                    messages.push(json!({"role": "tool", "tool_call_id": result.call, "content": text}));
                }
                let images = result_images(results);
                if !images.is_empty() {
                    add_user(&mut messages, user(&images), target);
                }
            }
        }
    }
    let mut body = json!({"model": target.model, "messages": messages, "stream": true});
    if target.dialect != ChatDialect::Mistral {
        body["stream_options"] = json!({"include_usage": true});
    }
    let is_openais = ["gpt-", "o1", "o3", "o4"].iter().any(|begins| target.model.starts_with(begins));
    if target.limited {
        let name = if is_openais { "max_completion_tokens" } else { "max_tokens" };
        body[name] = target.card.output_limit.into();
    }
    if !plan.tools.is_empty() {
        let tools = plan.tools.iter().map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.schema,
            }})
        });
        body["tools"] = tools.collect();
    }
    match target.effort {
        // On this wire these call tools only where they do not think; on Responses they do both.
        _ if target.model.starts_with("gpt-6") && !plan.tools.is_empty() => {
            body["reasoning_effort"] = "none".into();
        }
        Some(effort) if target.dialect != ChatDialect::Mistral => {
            body["reasoning_effort"] = Effort::word(effort).into();
        }
        _ => {}
    }
    body
}

/// Adds a message of the user's side, which for Mistral may not follow results.
fn add_user(messages: &mut Vec<Value>, message: Value, target: Target<'_>) {
    let after_results = messages.last().is_some_and(|last| last["role"] == "tool");
    if after_results && target.dialect == ChatDialect::Mistral {
        messages.push(json!({"role": "assistant", "content": "(I have the results.)"}));
    }
    messages.push(message);
}

/// All thoughts of a turn as one.
fn reasoning(turn: &Assistant) -> String {
    let thoughts = turn.pieces.iter().filter_map(|piece| match piece {
        Said::Reasoning(block) => Some(block.text.as_str()),
        _ => None,
    });
    thoughts.collect()
}

fn user(parts: &[Part]) -> Value {
    // Plain text as plain text: not every server of this wire takes parts.
    let texts: Option<Vec<&str>> = parts.iter().map(Part::text).collect();
    match texts {
        Some(texts) => json!({"role": "user", "content": texts.join("\n")}),
        None => {
            let parts: Vec<Value> = parts.iter().map(|part| part.as_openai("text", "image_url")).collect();
            json!({"role": "user", "content": parts})
        }
    }
}

#[derive(Default)]
struct Call {
    index: Option<u64>,
    id: String,
    name: String,
    arguments: String,
}

impl Call {
    /// Whether a piece begins another call: by another id, or without ids by a name after arguments that are whole.
    fn is_followed_by(&self, piece: &Value) -> bool {
        let (id, name) = (text(piece, "/id"), text(piece, "/function/name"));
        if id.is_empty() || self.id.is_empty() {
            let is_whole =
                || serde_json::from_str::<Value>(&self.arguments).is_ok_and(|value| value.is_object());
            return !name.is_empty() && !self.name.is_empty() && is_whole();
        }
        id != self.id
    }
}

pub(super) struct Reading {
    mark: String,
    /// There are thoughts that nothing ends but what comes after them.
    is_thinking: bool,
    calls: Vec<Call>,
    refusal: bool,
    usage: (u64, u64),
    stop: Option<StopReason>,
    is_done: bool,
}

impl Reading {
    pub(super) fn new(mark: String) -> Self {
        Self {
            mark,
            is_thinking: false,
            calls: Vec::new(),
            refusal: false,
            usage: (0, 0),
            stop: None,
            is_done: false,
        }
    }

    /// Thoughts are signed with whose they are: some want them back.
    fn end_thoughts(&mut self, out: &mut Vec<Delta>) {
        if std::mem::take(&mut self.is_thinking) {
            push_signature(out, format!("{}reasoning_content", self.mark));
        }
    }

    fn calls(&mut self, calls: &Value) {
        for piece in calls.as_array().into_iter().flatten() {
            let index = piece["index"].as_u64();
            let known = match index {
                Some(_) => self.calls.iter().rposition(|call| call.index == index),
                None => self.calls.len().checked_sub(1),
            };
            // Some servers leave the index out or make it 0 for all: what begins anew is a call of its own.
            let place = known.filter(|at| !self.calls[*at].is_followed_by(piece)).unwrap_or_else(|| {
                self.calls.push(Call { index, ..Call::default() });
                self.calls.len() - 1
            });
            let call = &mut self.calls[place];
            if call.id.is_empty() {
                text(piece, "/id").clone_into(&mut call.id);
            }
            if call.name.is_empty() {
                text(piece, "/function/name").clone_into(&mut call.name);
            }
            match &piece["function"]["arguments"] {
                Value::String(piece) => call.arguments.push_str(piece),
                Value::Object(whole) => call.arguments = Value::Object(whole.clone()).to_string(),
                _ => {}
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<Delta>) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        self.end_thoughts(out);
        let had_calls = !self.calls.is_empty();
        for call in std::mem::take(&mut self.calls) {
            let id = (!call.id.is_empty()).then_some(call.id);
            out.push(call_of(call.name, &call.arguments, id));
        }
        push_usage(out, self.usage.0, self.usage.1);
        let stop = match self.stop {
            _ if self.refusal => StopReason::Refused,
            Some(StopReason::End) if had_calls => StopReason::Calls,
            stop => stop.unwrap_or_default(),
        };
        out.push(Delta::Stop(stop));
    }
}

/// Content as text, or as parts of which some may be thoughts.
fn content(content: &Value, out: &mut Vec<Delta>) {
    let Some(parts) = content.as_array() else { return push_text(out, content.as_str().unwrap_or_default()) };
    for part in parts {
        push_text(out, part.as_str().unwrap_or(text(part, "/text")));
        match &part["thinking"] {
            Value::String(thought) => push_reasoning(out, thought),
            thoughts => {
                for thought in thoughts.as_array().into_iter().flatten() {
                    push_reasoning(out, text(thought, "/text"));
                }
            }
        }
    }
}

impl Parser for Reading {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        if frame.data.trim() == "[DONE]" {
            return self.end(out);
        }
        let data = json_of(&frame.data)?;
        if let Some(error) = data.get("error").filter(|error| !error.is_null()) {
            let kind = [text(error, "/code"), text(error, "/type")].join(" ");
            let message = if text(error, "/message").is_empty() {
                error.as_str().unwrap_or_default()
            } else {
                text(error, "/message")
            };
            return Err(reported(&kind, message));
        }
        if data["usage"].is_object() {
            self.usage = (number(&data, "/usage/prompt_tokens"), number(&data, "/usage/completion_tokens"));
        }
        let choice = &data["choices"][0];
        let delta = &choice["delta"];
        let thought = text(delta, "/reasoning_content");
        push_reasoning(out, if thought.is_empty() { text(delta, "/reasoning") } else { thought });
        self.is_thinking |= !out.is_empty();
        let mut said = Vec::new();
        content(&delta["content"], &mut said);
        for piece in said {
            match piece {
                Delta::Reasoning(_) => self.is_thinking = true,
                _ => self.end_thoughts(out),
            }
            out.push(piece);
        }
        if delta["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty()) {
            self.end_thoughts(out);
        }
        if !text(delta, "/refusal").is_empty() {
            self.refusal = true;
            push_text(out, text(delta, "/refusal"));
        }
        self.calls(&delta["tool_calls"]);
        self.stop = match text(choice, "/finish_reason") {
            "" => self.stop,
            "tool_calls" | "function_call" => Some(StopReason::Calls),
            "length" => Some(StopReason::Length),
            "content_filter" => Some(StopReason::Refused),
            "error" => return Err(cut()),
            _ => Some(StopReason::End),
        };
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        // `[DONE]` alone is no end of a turn: some gateways write it after a stream that broke.
        if self.stop.is_none() {
            return Err(cut());
        }
        self.finish(out);
        Ok(())
    }
}
