//! Amazon Bedrock Converse. As Anthropic's, in other words: roles alternate, results come first in the user message
//! after their calls, no text is blank.

use super::{
    Effort, Parser, Target, call_of, cut, json_of, number, push_reasoning, push_signature, push_text,
    push_usage, reported, text, unreadable,
};
use crate::{
    catalog,
    frames::Frame,
    plan::{Assistant, Message, Part, Plan, PlanResult, Said},
};
use rap_runtime::{Delta, ModelError, ReasoningPolicy, core::StopReason};
use serde_json::{Map, Value, json};

pub(super) fn body(plan: &Plan, target: Target<'_>) -> Value {
    let mut messages: Vec<Value> = Vec::new();
    let mut add = |role: &str, blocks: Vec<Value>| match messages.last_mut() {
        Some(last) if last["role"] == role => {
            if let Some(content) = last["content"].as_array_mut() {
                content.extend(blocks);
            }
        }
        _ => messages.push(json!({"role": role, "content": blocks})),
    };
    for message in &plan.messages {
        match message {
            Message::User(parts) => add("user", parts.iter().map(part).collect()),
            Message::Results(results) => add("user", results.iter().map(result).collect()),
            Message::Assistant(turn) => add("assistant", assistant(turn)),
        }
    }
    let caches = catalog::bedrock_caches(target.model);
    if caches && let Some(content) = messages.last_mut().and_then(|last| last["content"].as_array_mut()) {
        content.push(cache_point());
    }
    let mut body = json!({
        "messages": messages,
        "inferenceConfig": {"maxTokens": target.card.output_limit},
    });
    if !plan.system.is_empty() {
        let mut system = vec![json!({"text": plan.system})];
        if caches {
            system.push(cache_point());
        }
        body["system"] = system.into();
    }
    if !plan.tools.is_empty() {
        let tools: Vec<Value> = plan
            .tools
            .iter()
            .map(|tool| {
                json!({"toolSpec": {
                    "name": tool.name, "description": tool.description, "inputSchema": {"json": tool.schema},
                }})
            })
            .collect();
        body["toolConfig"] = json!({ "tools": tools });
    }
    if let Some(fields) = target.effort.and_then(|effort| thinking(target, effort)) {
        body["additionalModelRequestFields"] = fields;
    }
    body
}

/// Each family has its own words for how much it is to think; most have none.
fn thinking(target: Target<'_>, effort: Effort) -> Option<Value> {
    let kept = target.card.reasoning;
    match catalog::claude_on_bedrock(target.model) {
        _ if catalog::is_nova_2(target.model) => {
            Some(json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": effort.word()}}))
        }
        Some(name) if catalog::is_adaptive(name) => Some(adaptive(effort)),
        None if kept == ReasoningPolicy::Kept => Some(adaptive(effort)),
        None if kept == ReasoningPolicy::Dropped => None,
        _ => {
            let budget = effort.budget(target.card.output_limit)?;
            Some(json!({"thinking": {"type": "enabled", "budget_tokens": budget}}))
        }
    }
}

fn adaptive(effort: Effort) -> Value {
    json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": effort.word()}})
}

fn cache_point() -> Value {
    json!({"cachePoint": {"type": "default"}})
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"text": text}),
        Part::Image { media_type, data } => {
            let format = media_type.strip_prefix("image/").unwrap_or(media_type);
            json!({"image": {"format": format, "source": {"bytes": data}}})
        }
    }
}

fn result(result: &PlanResult) -> Value {
    let content: Vec<Value> = result.content.iter().map(part).collect();
    let status = if result.is_error { "error" } else { "success" };
    json!({"toolResult": {"toolUseId": result.call, "content": content, "status": status}})
}

fn assistant(turn: &Assistant) -> Vec<Value> {
    let mut blocks = Vec::new();
    for piece in &turn.pieces {
        blocks.push(match piece {
            Said::Reasoning(block) => {
                let content = match block.signature.split_once(':') {
                    Some(("redacted", data)) => json!({"redactedContent": data}),
                    Some((_, signature)) => {
                        json!({"reasoningText": {"text": block.text, "signature": signature}})
                    }
                    None => continue,
                };
                json!({ "reasoningContent": content })
            }
            Said::Text { text, .. } => json!({ "text": text }),
            Said::Call(call) => {
                json!({"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}})
            }
        });
    }
    blocks
}

/// The block that is being read.
#[derive(Default)]
struct Block {
    call: Option<(String, String)>,
    input: String,
    signature: String,
    redacted: String,
}

pub(super) struct Reading {
    mark: String,
    block: Block,
    usage: (u64, u64),
    stop: Option<StopReason>,
    is_done: bool,
}

impl Reading {
    pub(super) fn new(mark: String) -> Self {
        Self { mark, block: Block::default(), usage: (0, 0), stop: None, is_done: false }
    }

    fn delta(&mut self, delta: &Value, out: &mut Vec<Delta>) {
        push_text(out, text(delta, "/text"));
        self.block.input.push_str(text(delta, "/toolUse/input"));
        push_reasoning(out, text(delta, "/reasoningContent/text"));
        self.block.signature.push_str(text(delta, "/reasoningContent/signature"));
        self.block.redacted.push_str(text(delta, "/reasoningContent/redactedContent"));
    }

    fn end_block(&mut self, out: &mut Vec<Delta>) {
        let block = std::mem::take(&mut self.block);
        if let Some((id, name)) = block.call {
            out.push(call_of(name, &block.input, Some(id)));
        }
        if !block.signature.is_empty() {
            push_signature(out, format!("{}thinking:{}", self.mark, block.signature));
        }
        if !block.redacted.is_empty() {
            push_signature(out, format!("{}redacted:{}", self.mark, block.redacted));
        }
    }
}

impl Parser for Reading {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        if let Some(exception) = frame.event.strip_prefix("exception:") {
            let data: Value = serde_json::from_str(&frame.data).unwrap_or(Value::Object(Map::new()));
            return Err(reported(exception, text(&data, "/message")));
        }
        let data = json_of(&frame.data)?;
        match frame.event.as_str() {
            "contentBlockStart" => {
                let tool = &data["start"]["toolUse"];
                let call = (text(tool, "/toolUseId").to_owned(), text(tool, "/name").to_owned());
                self.block = Block { call: tool.is_object().then_some(call), ..Block::default() };
            }
            "contentBlockDelta" => self.delta(&data["delta"], out),
            "contentBlockStop" => self.end_block(out),
            "messageStop" => {
                self.end_block(out);
                self.stop = Some(match text(&data, "/stopReason") {
                    "tool_use" => StopReason::Calls,
                    "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
                    "guardrail_intervened" | "content_filtered" => StopReason::Refused,
                    // Asked again with the same history, the model would write the same again.
                    "malformed_tool_use" => {
                        out.push(unreadable(""));
                        StopReason::Calls
                    }
                    "malformed_model_output" => {
                        let message = "the model wrote a turn that its provider could not read";
                        return Err(ModelError::passing(message));
                    }
                    _ => StopReason::End,
                });
            }
            "metadata" => {
                let input =
                    ["/usage/inputTokens", "/usage/cacheReadInputTokens", "/usage/cacheWriteInputTokens"];
                let input = input.iter().map(|pointer| number(&data, pointer)).sum();
                self.usage = (input, number(&data, "/usage/outputTokens"));
                return self.end(out);
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        let Some(stop) = self.stop else { return Err(cut()) };
        if !std::mem::replace(&mut self.is_done, true) {
            push_usage(out, self.usage.0, self.usage.1);
            out.push(Delta::Stop(stop));
        }
        Ok(())
    }
}
