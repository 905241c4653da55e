//! Anthropic Messages. Roles alternate; results come first in the user message after their calls; thinking goes back
//! as it came, at its place in the turn; texts are never blank.

use super::{
    Effort, Parser, Target, call_of, cut, json_of, number, push_reasoning, push_signature, push_text,
    push_usage, reported, text,
};
use crate::{
    catalog,
    frames::Frame,
    plan::{Assistant, Message, Part, Plan, PlanResult, Said},
};
use rap_runtime::{Delta, ModelError, ReasoningPolicy, core::StopReason};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan, target: Target<'_>) -> Value {
    let mut messages: Vec<Value> = Vec::new();
    for message in &plan.messages {
        match message {
            Message::User(parts) => user(&mut messages, parts.iter().map(part)),
            Message::Results(results) => user(&mut messages, results.iter().map(result)),
            Message::Assistant(turn) => {
                messages.push(json!({"role": "assistant", "content": assistant(turn)}));
            }
        }
    }
    // Two marks on the conversation: what was read last time, and what will be read next time.
    let users: Vec<usize> = (0..messages.len()).filter(|n| messages[*n]["role"] == "user").collect();
    for n in users.iter().rev().take(2) {
        if let Some(last) = messages[*n]["content"].as_array_mut().and_then(|blocks| blocks.last_mut()) {
            last["cache_control"] = json!({"type": "ephemeral"});
        }
    }
    let mut body = json!({
        "model": target.model,
        "max_tokens": target.card.output_limit,
        "stream": true,
        "messages": messages,
    });
    if !plan.system.is_empty() {
        body["system"] =
            json!([{"type": "text", "text": plan.system, "cache_control": {"type": "ephemeral"}}]);
    }
    let mut tools: Vec<Value> = plan
        .tools
        .iter()
        .map(|tool| json!({"name": tool.name, "description": tool.description, "input_schema": tool.schema}))
        .collect();
    if let Some(last) = tools.last_mut() {
        last["cache_control"] = json!({"type": "ephemeral"});
        body["tools"] = tools.into();
    }
    if let Some(thinking) = thinking(target) {
        body["thinking"] = thinking;
        if let Some(effort) = target.effort.filter(|_| is_adaptive(target)) {
            body["output_config"] = json!({"effort": Effort::word(effort)});
        }
    }
    body
}

/// Models that decide by themselves how much they think; calls of theirs may stand without thinking.
fn is_adaptive(target: Target<'_>) -> bool {
    target.card.reasoning == ReasoningPolicy::Kept
}

fn thinking(target: Target<'_>) -> Option<Value> {
    if is_adaptive(target) {
        let mut thinking = json!({"type": "adaptive"});
        if catalog::is_bound(target.model) {
            // A summary, or other tools, stand before thoughts that were bound to what was there: they are left out then.
            thinking["block_binding"] = json!({"prefix_mismatch_behavior": "drop_block"});
        }
        return Some(thinking);
    }
    let budget = target.effort?.budget(target.card.output_limit)?;
    Some(json!({"type": "enabled", "budget_tokens": budget}))
}

/// Adds blocks to the user's message, which may have begun with results.
fn user(messages: &mut Vec<Value>, blocks: impl Iterator<Item = Value>) {
    if messages.last().is_none_or(|last| last["role"] != "user") {
        messages.push(json!({"role": "user", "content": []}));
    }
    if let Some(content) = messages.last_mut().and_then(|last| last["content"].as_array_mut()) {
        content.extend(blocks);
    }
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image { media_type, data } => {
            json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}})
        }
    }
}

fn result(result: &PlanResult) -> Value {
    let content: Vec<Value> = result.content.iter().map(part).collect();
    let mut block = json!({"type": "tool_result", "tool_use_id": result.call, "content": content});
    // An error's content may be text only.
    if result.is_error && result.content.iter().all(|part| part.text().is_some()) {
        block["is_error"] = true.into();
    }
    block
}

fn assistant(turn: &Assistant) -> Vec<Value> {
    let mut blocks = Vec::new();
    for piece in &turn.pieces {
        blocks.push(match piece {
            Said::Reasoning(block) => match block.signature.split_once(':') {
                Some(("redacted", data)) => json!({"type": "redacted_thinking", "data": data}),
                Some((_, signature)) => {
                    json!({"type": "thinking", "thinking": block.text, "signature": signature})
                }
                None => continue,
            },
            Said::Text { text, .. } => json!({"type": "text", "text": text}),
            Said::Call(call) => {
                json!({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})
            }
        });
    }
    blocks
}

/// The block that is being read.
enum Block {
    Other,
    Thinking { signature: String },
    Call { id: String, name: String, input: String },
}

pub(super) struct Reading {
    mark: String,
    block: Block,
    usage: (u64, u64),
    stop: Option<StopReason>,
    is_whole: bool,
}

impl Reading {
    pub(super) fn new(mark: String) -> Self {
        Self { mark, block: Block::Other, usage: (0, 0), stop: None, is_whole: false }
    }

    fn usage(&mut self, usage: &Value) {
        // What was read from a cache was read all the same.
        let input = ["/input_tokens", "/cache_read_input_tokens", "/cache_creation_input_tokens"];
        let input: u64 = input.iter().map(|pointer| number(usage, pointer)).sum();
        self.usage = (self.usage.0.max(input), self.usage.1.max(number(usage, "/output_tokens")));
    }

    fn begin(&mut self, block: &Value, out: &mut Vec<Delta>) {
        self.block = match text(block, "/type") {
            "thinking" => {
                push_reasoning(out, text(block, "/thinking"));
                Block::Thinking { signature: text(block, "/signature").to_owned() }
            }
            "redacted_thinking" => {
                push_signature(out, format!("{}redacted:{}", self.mark, text(block, "/data")));
                Block::Other
            }
            "tool_use" => Block::Call {
                id: text(block, "/id").to_owned(),
                name: text(block, "/name").to_owned(),
                input: String::new(),
            },
            _ => {
                push_text(out, text(block, "/text"));
                Block::Other
            }
        };
    }

    fn delta(&mut self, delta: &Value, out: &mut Vec<Delta>) {
        match (text(delta, "/type"), &mut self.block) {
            ("text_delta", _) => push_text(out, text(delta, "/text")),
            ("thinking_delta", _) => push_reasoning(out, text(delta, "/thinking")),
            ("signature_delta", Block::Thinking { signature }) => {
                signature.push_str(text(delta, "/signature"));
            }
            ("input_json_delta", Block::Call { input, .. }) => input.push_str(text(delta, "/partial_json")),
            _ => {}
        }
    }

    fn end_block(&mut self, out: &mut Vec<Delta>) {
        match std::mem::replace(&mut self.block, Block::Other) {
            Block::Thinking { signature } if !signature.is_empty() => {
                push_signature(out, format!("{}thinking:{signature}", self.mark));
            }
            Block::Call { id, name, input } => out.push(call_of(name, &input, Some(id))),
            _ => {}
        }
    }
}

impl Parser for Reading {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        let data = json_of(&frame.data)?;
        match text(&data, "/type") {
            "message_start" => self.usage(&data["message"]["usage"]),
            "content_block_start" => self.begin(&data["content_block"], out),
            "content_block_delta" => self.delta(&data["delta"], out),
            "content_block_stop" => self.end_block(out),
            "message_delta" => {
                self.usage(&data["usage"]);
                self.stop = match text(&data, "/delta/stop_reason") {
                    "" => self.stop,
                    "tool_use" => Some(StopReason::Calls),
                    "max_tokens" | "model_context_window_exceeded" => Some(StopReason::Length),
                    "refusal" => Some(StopReason::Refused),
                    _ => Some(StopReason::End),
                };
            }
            "message_stop" => {
                // A call that the limit cut short has no end of its own.
                self.end_block(out);
                push_usage(out, self.usage.0, self.usage.1);
                out.push(Delta::Stop(self.stop.unwrap_or_default()));
                self.is_whole = true;
            }
            "error" => return Err(reported(text(&data, "/error/type"), text(&data, "/error/message"))),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.is_whole { Ok(()) } else { Err(cut()) }
    }
}
