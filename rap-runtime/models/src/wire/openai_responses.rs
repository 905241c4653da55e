//! OpenAI Responses, without state on their side. Everything is an item; reasoning goes back encrypted, as the item
//! that it came as, right before what followed from it, and never alone.

use super::{
    Effort, Parser, Target, call_of, cut, json_of, number, push_reasoning, push_signature, push_text,
    push_usage, reported, text,
};
use crate::{
    frames::Frame,
    plan::{Assistant, Message, Part, Plan, Said, result_images, result_text},
};
use rap_runtime::{Delta, ModelError, ReasoningPolicy, core::StopReason};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan, target: Target<'_>) -> Value {
    let mut input = Vec::new();
    for message in &plan.messages {
        match message {
            Message::User(parts) => input.push(user(parts)),
            Message::Assistant(turn) => assistant(turn, &mut input),
            Message::Results(results) => {
                for result in results {
                    let output = result_text(result);
                    input.push(
                        json!({"type": "function_call_output", "call_id": result.call, "output": output}),
                    );
                }
                let images = result_images(results);
                if !images.is_empty() {
                    input.push(user(&images));
                }
            }
        }
    }
    let mut body = json!({
        "model": target.model,
        "input": input,
        "stream": true,
        "store": false,
        "prompt_cache_key": plan.session,
    });
    if target.limited {
        body["max_output_tokens"] = target.card.output_limit.into();
    }
    if !plan.system.is_empty() {
        body["instructions"] = plan.system.as_str().into();
    }
    if !plan.tools.is_empty() {
        let tools = plan.tools.iter().map(|tool| {
            json!({
                "type": "function", "name": tool.name, "description": tool.description,
                "parameters": tool.schema, "strict": false,
            })
        });
        body["tools"] = tools.collect();
    }
    if target.card.reasoning != ReasoningPolicy::Dropped {
        body["include"] = json!(["reasoning.encrypted_content"]);
        body["reasoning"] = json!({"summary": "auto"});
        if let Some(effort) = target.effort {
            body["reasoning"]["effort"] = Effort::word(effort).into();
        }
    }
    body
}

fn user(parts: &[Part]) -> Value {
    let parts: Vec<Value> = parts.iter().map(|part| part.as_openai("input_text", "input_image")).collect();
    json!({"role": "user", "content": parts})
}

fn assistant(turn: &Assistant, input: &mut Vec<Value>) {
    for piece in &turn.pieces {
        match piece {
            Said::Reasoning(block) => input.extend(serde_json::from_str::<Value>(&block.signature).ok()),
            Said::Text { text, .. } => {
                // As text alone: a message in parts wants an id and a status as well.
                input.push(json!({"type": "message", "role": "assistant", "content": text}));
            }
            Said::Call(call) => {
                let arguments = Value::Object(call.arguments.clone()).to_string();
                input.push(json!({
                    "type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments,
                }));
            }
        }
    }
    // Reasoning from which nothing followed is refused.
    while input.last().is_some_and(|item| item["type"] == "reasoning") {
        input.pop();
    }
}

pub(super) struct Reading {
    mark: String,
    is_whole: bool,
    had_calls: bool,
    refused: bool,
}

impl Reading {
    pub(super) fn new(mark: String) -> Self {
        Self { mark, is_whole: false, had_calls: false, refused: false }
    }

    fn item(&mut self, item: &Value, out: &mut Vec<Delta>) {
        match text(item, "/type") {
            "function_call" => {
                self.had_calls = true;
                let id = Some(text(item, "/call_id").to_owned());
                out.push(call_of(text(item, "/name").to_owned(), text(item, "/arguments"), id));
            }
            "reasoning" if !text(item, "/encrypted_content").is_empty() => {
                let kept = json!({
                    "type": "reasoning", "id": item["id"], "summary": item["summary"],
                    "encrypted_content": item["encrypted_content"],
                });
                push_signature(out, format!("{}{kept}", self.mark));
            }
            _ => {}
        }
    }

    fn whole(&mut self, response: &Value, stop: StopReason, out: &mut Vec<Delta>) {
        push_usage(out, number(response, "/usage/input_tokens"), number(response, "/usage/output_tokens"));
        let stop = match stop {
            StopReason::End if self.refused => StopReason::Refused,
            StopReason::End if self.had_calls => StopReason::Calls,
            stop => stop,
        };
        out.push(Delta::Stop(stop));
        self.is_whole = true;
    }
}

impl Parser for Reading {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        if frame.data.trim() == "[DONE]" {
            return Ok(());
        }
        let data = json_of(&frame.data)?;
        match text(&data, "/type") {
            "response.output_text.delta" => push_text(out, text(&data, "/delta")),
            "response.refusal.delta" => {
                self.refused = true;
                push_text(out, text(&data, "/delta"));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                push_reasoning(out, text(&data, "/delta"));
            }
            "response.output_item.done" => self.item(&data["item"], out),
            "response.completed" => self.whole(&data["response"], StopReason::End, out),
            "response.incomplete" => {
                let stop = match text(&data, "/response/incomplete_details/reason") {
                    "content_filter" => StopReason::Refused,
                    _ => StopReason::Length,
                };
                self.whole(&data["response"], stop, out);
            }
            "response.failed" => {
                let error = &data["response"]["error"];
                return Err(reported(text(error, "/code"), text(error, "/message")));
            }
            "error" => {
                let error = if data["error"].is_object() { &data["error"] } else { &data };
                let kind = [text(error, "/code"), text(error, "/type")].join(" ");
                return Err(reported(&kind, text(error, "/message")));
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.is_whole { Ok(()) } else { Err(cut()) }
    }
}
