//! Google Gemini. Roles are `user` and `model`; all results of a turn are one content, in call order; the signature
//! of a thought rides on the first call that followed from it and goes back on the same part.

use super::{
    Effort, Parser, Target, call_of, cut, json_of, number, push_reasoning, push_signature, push_text,
    push_usage, reported, text, unreadable,
};
use crate::{
    frames::Frame,
    plan::{Assistant, Message, Part, Plan, PlanResult, Said, result_text},
};
use rap_runtime::{
    Delta, ModelError, ReasoningPolicy,
    core::{ModelCall, StopReason},
};
use serde_json::{Map, Value, json};

pub(super) fn body(plan: &Plan, target: Target<'_>) -> Value {
    let mut contents: Vec<Value> = Vec::new();
    for message in &plan.messages {
        match message {
            Message::User(parts) => add(&mut contents, "user", parts.iter().map(part)),
            Message::Results(results) => {
                add(&mut contents, "user", results.iter().map(result));
                let images = results.iter().flat_map(|result| &result.content);
                let images: Vec<Value> = images.filter(|part| part.text().is_none()).map(part).collect();
                add(&mut contents, "user", images.into_iter());
            }
            Message::Assistant(turn) => add(&mut contents, "model", model(turn).into_iter()),
        }
    }
    let mut body = json!({
        "contents": contents,
        "generationConfig": {"maxOutputTokens": target.card.output_limit},
    });
    if !plan.system.is_empty() {
        body["systemInstruction"] = json!({"parts": [{"text": plan.system}]});
    }
    if !plan.tools.is_empty() {
        let declarations: Vec<Value> = plan
            .tools
            .iter()
            .map(|tool| {
                let mut tool_ =
                    json!({"name": tool.name, "description": tool.description, "parameters": tool.schema});
                if tool.schema.get("properties").is_none() {
                    tool_.as_object_mut().map(|members| members.remove("parameters"));
                }
                tool_
            })
            .collect();
        body["tools"] = json!([{"functionDeclarations": declarations}]);
    }
    if target.card.reasoning != ReasoningPolicy::Dropped {
        let mut thinking = json!({"includeThoughts": true});
        match (target.effort, target.card.reasoning) {
            (Some(effort), ReasoningPolicy::Required) => {
                thinking["thinkingLevel"] = Effort::word(effort).into();
            }
            (Some(effort), _) => {
                if let Some(budget) = effort.budget(target.card.output_limit) {
                    thinking["thinkingBudget"] = budget.into();
                }
            }
            (None, _) => {}
        }
        body["generationConfig"]["thinkingConfig"] = thinking;
    }
    body
}

/// Adds parts to the last content if it is of the same role, and results stay apart from what comes before them.
fn add(contents: &mut Vec<Value>, role: &str, parts: impl Iterator<Item = Value>) {
    let parts: Vec<Value> = parts.collect();
    if parts.is_empty() {
        return;
    }
    match contents.last_mut() {
        Some(last) if last["role"] == role => {
            if let Some(have) = last["parts"].as_array_mut() {
                have.extend(parts);
            }
        }
        _ => contents.push(json!({"role": role, "parts": parts})),
    }
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"text": text}),
        Part::Image { media_type, data } => json!({"inlineData": {"mimeType": media_type, "data": data}}),
    }
}

fn result(result: &PlanResult) -> Value {
    let kind = if result.is_error { "error" } else { "output" };
    let response = Map::from_iter([(kind.to_owned(), result_text(result).into())]);
    json!({"functionResponse": {"id": result.call, "name": result.name, "response": response}})
}

fn model(turn: &Assistant) -> Vec<Value> {
    let mut parts = Vec::new();
    for piece in &turn.pieces {
        let (mut part, signature) = match piece {
            // Its signature stands on another part.
            Said::Reasoning(_) => continue,
            Said::Text { text, signature } => (json!({ "text": text }), signature),
            Said::Call(call) => {
                let part = json!({"id": call.id, "name": call.name, "args": call.arguments});
                (json!({ "functionCall": part }), &call.signature)
            }
        };
        if let Some(signature) = signature {
            part["thoughtSignature"] = signature.as_str().into();
        }
        parts.push(part);
    }
    parts
}

pub(super) struct Reading {
    mark: String,
    had_calls: bool,
    is_whole: bool,
}

impl Reading {
    pub(super) fn new(mark: String) -> Self {
        Self { mark, had_calls: false, is_whole: false }
    }

    fn part(&mut self, part: &Value, out: &mut Vec<Delta>) {
        let signature = part["thoughtSignature"].as_str().map(|sig| format!("{}{sig}", self.mark));
        if let Some(call) = part.get("functionCall") {
            self.had_calls = true;
            let name = text(call, "/name").to_owned();
            match &call["args"] {
                Value::String(arguments) => out.push(call_of(name, arguments, signature)),
                arguments => {
                    let arguments = arguments.clone();
                    out.push(Delta::Call(ModelCall { name, arguments, provider_id: signature }));
                }
            }
            return;
        }
        if part["thought"] == true {
            push_reasoning(out, text(part, "/text"));
        } else {
            push_text(out, text(part, "/text"));
        }
        if let Some(signature) = signature {
            push_signature(out, signature);
        }
    }
}

impl Parser for Reading {
    fn frame(&mut self, frame: &Frame, out: &mut Vec<Delta>) -> Result<(), ModelError> {
        let data = json_of(&frame.data)?;
        let data = if data.is_array() { &data[0] } else { &data };
        if let Some(error) = data.get("error") {
            return Err(reported(text(error, "/status"), text(error, "/message")));
        }
        for part in data["candidates"][0]["content"]["parts"].as_array().into_iter().flatten() {
            self.part(part, out);
        }
        let usage = &data["usageMetadata"];
        let written = number(usage, "/candidatesTokenCount") + number(usage, "/thoughtsTokenCount");
        let blocked = text(data, "/promptFeedback/blockReason");
        let stop = match text(data, "/candidates/0/finishReason") {
            "" if blocked.is_empty() => {
                push_usage(out, number(usage, "/promptTokenCount"), written);
                return Ok(());
            }
            "STOP" if self.had_calls => StopReason::Calls,
            "STOP" => StopReason::End,
            "MAX_TOKENS" => StopReason::Length,
            // Asked again with the same history, the model would write the same again.
            "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" => {
                out.push(unreadable(text(data, "/candidates/0/finishMessage")));
                StopReason::Calls
            }
            "MALFORMED_RESPONSE" | "MISSING_THOUGHT_SIGNATURE" => {
                return Err(ModelError::passing("the model wrote a turn that its provider could not read"));
            }
            "OTHER" | "FINISH_REASON_UNSPECIFIED" => {
                return Err(ModelError::passing("the provider ended the turn without saying why"));
            }
            _ => StopReason::Refused,
        };
        push_usage(out, number(usage, "/promptTokenCount"), written);
        out.push(Delta::Stop(stop));
        self.is_whole = true;
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<Delta>) -> Result<(), ModelError> {
        if self.is_whole { Ok(()) } else { Err(cut()) }
    }
}
