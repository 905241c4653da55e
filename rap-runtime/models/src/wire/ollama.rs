//! Ollama. Calls have no ids there: results follow in call order and name their tool. The window must be asked for,
//! else a long history is cut off silently.

use super::{
    Parser, Target, call_of, cut, json_of, number, push_reasoning, push_text, push_usage, reported, text,
};
use crate::{
    frames::Frame,
    plan::{Message, Part, Plan, result_images, result_text},
};
use rap_runtime::{
    Delta, ModelError,
    core::{ModelCall, StopReason},
};
use serde_json::{Value, json};

pub(super) fn body(plan: &Plan, target: Target<'_>) -> Value {
    let mut messages = Vec::new();
    if !plan.system.is_empty() {
        messages.push(json!({"role": "system", "content": plan.system}));
    }
    for message in &plan.messages {
        match message {
            Message::User(parts) => messages.push(user(parts)),
            Message::Assistant(turn) => {
                let calls: Vec<Value> = turn
                    .calls()
                    .map(|call| {
                        json!({"id": call.id, "function": {"name": call.name, "arguments": call.arguments}})
                    })
                    .collect();
                let mut message = json!({"role": "assistant", "content": turn.text()});
                if !calls.is_empty() {
                    message["tool_calls"] = calls.into();
                }
                messages.push(message);
            }
            Message::Results(results) => {
                for result in results {
                    messages.push(json!({
                        "role": "tool", "tool_name": result.name, "tool_call_id": result.call,
                        "content": result_text(result),
                    }));
                }
                let images = result_images(results);
                if !images.is_empty() {
                    messages.push(user(&images));
                }
            }
        }
    }
    let mut body = json!({
        "model": target.model,
        "messages": messages,
        "stream": true,
        // Too long is to be an error: it is summarised, where Ollama would leave out what came first and say nothing.
        "truncate": false,
        "shift": false,
        "options": {"num_ctx": target.card.context_window},
    });
    if !plan.tools.is_empty() {
        let tools = plan.tools.iter().map(|tool| {
            json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.schema,
            }})
        });
        body["tools"] = tools.collect();
    }
    if target.limited {
        body["options"]["num_predict"] = target.card.output_limit.into();
    }
    if let Some(effort) = target.effort {
        // These know degrees, and take no yes.
        let has_degrees = target.model.rsplit('/').next().is_some_and(|name| name.starts_with("gpt-oss"));
        body["think"] = if has_degrees { effort.word().into() } else { true.into() };
    }
    body
}

fn user(parts: &[Part]) -> Value {
    let texts: Vec<&str> = parts.iter().filter_map(Part::text).collect();
    let images: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Image { data, .. } => Some(data.as_str()),
            Part::Text(_) => None,
        })
        .collect();
    let text = if texts.is_empty() { "[an image]".to_owned() } else { texts.join("\n") };
    let mut message = json!({"role": "user", "content": text});
    if !images.is_empty() {
        message["images"] = json!(images);
    }
    message
}

#[derive(Default)]
pub(super) struct Reading {
    had_calls: bool,
    is_whole: bool,
}

impl Parser for Reading {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        let data = json_of(&frame.data)?;
        if let Some(error) = data.get("error") {
            let message = error.as_str().unwrap_or(text(error, "/message"));
            return Err(reported("", message));
        }
        push_reasoning(out, text(&data, "/message/thinking"));
        push_text(out, text(&data, "/message/content"));
        for call in data["message"]["tool_calls"].as_array().into_iter().flatten() {
            self.had_calls = true;
            let id = call["id"].as_str().map(str::to_owned);
            let name = text(call, "/function/name").to_owned();
            out.push(match &call["function"]["arguments"] {
                Value::String(written) => call_of(name, written, id),
                arguments => Delta::Call(ModelCall { name, arguments: arguments.clone(), provider_id: id }),
            });
        }
        if data["done"] == true {
            push_usage(out, number(&data, "/prompt_eval_count"), number(&data, "/eval_count"));
            out.push(Delta::Stop(match text(&data, "/done_reason") {
                "length" => StopReason::Length,
                _ if self.had_calls => StopReason::Calls,
                _ => StopReason::End,
            }));
            self.is_whole = true;
        }
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.is_whole { Ok(()) } else { Err(cut()) }
    }
}
