//! Anthropic Messages and Bedrock Converse: roles alternate, results come first after their calls, nothing is blank.

use super::{
    Checked, Known, base64, ensure, list, only, portable, said, text,
    tools::{Offer, offers},
};
use serde_json::Value;
use std::collections::HashSet;

/// A block, whichever of the two wires it came on.
enum Block {
    Text(String),
    Image,
    Mark,
    Thinking(String),
    Call(String, String),
    Result(String),
}

pub(super) fn anthropic(body: &Value, known: &Known) -> Checked {
    only(
        body,
        &["model", "max_tokens", "stream", "messages", "system", "tools", "thinking", "output_config"],
        "the request",
    )?;
    ensure!(body["max_tokens"].as_u64().is_some_and(|n| n > 0), "max_tokens is missing");
    if let Some(budget) = body.pointer("/thinking/budget_tokens") {
        let budget = budget.as_u64().unwrap_or_default();
        ensure!(budget >= 1_024, "budget_tokens is under 1024");
        ensure!(
            budget < body["max_tokens"].as_u64().unwrap_or_default(),
            "max_tokens is not over the budget"
        );
    }
    only_adaptive(body["model"].as_str().unwrap_or_default(), body)?;
    let marks = body.to_string().matches("\"cache_control\"").count();
    ensure!(marks <= 4, "{marks} blocks have cache_control; at most 4 may");
    for block in body["system"].as_array().into_iter().flatten() {
        said(&block["text"], "the system prompt")?;
    }
    if body.get("tools").is_some() {
        let offer = Offer {
            name: "/name",
            description: "/description",
            schema: "/input_schema",
            longest_description: usize::MAX,
            open_api: false,
        };
        offers(&body["tools"], &offer)?;
    }
    conversation(body, &body["tools"], known, &|block| {
        Ok(match text(&block["type"], "a block's type")? {
            "text" => {
                only(block, &["type", "text", "cache_control"], "a text")?;
                Block::Text(said(&block["text"], "a text")?.to_owned())
            }
            "image" => {
                let source = &block["source"];
                let kinds = ["image/png", "image/jpeg", "image/gif", "image/webp"];
                let kind = source["media_type"].as_str().unwrap_or_default();
                ensure!(kinds.contains(&kind), "an image is {kind}");
                base64(&source["data"], "an image")?;
                Block::Image
            }
            "thinking" => {
                text(&block["thinking"], "thinking")?;
                Block::Thinking(signature(&block["signature"], known)?)
            }
            "redacted_thinking" => Block::Thinking(signature(&block["data"], known)?),
            "tool_use" => {
                only(block, &["type", "id", "name", "input", "cache_control"], "a call")?;
                portable(text(&block["name"], "a name")?, 64, "the name of a called tool")?;
                ensure!(block["input"].is_object(), "the input of a call is no object: {}", block["input"]);
                Block::Call(text(&block["id"], "an id")?.to_owned(), block["name"].to_string())
            }
            "tool_result" => {
                let error = block["is_error"] == true;
                for part in list(&block["content"], "a result's content")? {
                    match text(&part["type"], "a part's type")? {
                        "text" => drop(said(&part["text"], "a result's text")?),
                        "image" if !error => base64(&part["source"]["data"], "a result's image")?,
                        other => return Err(format!("a result holds {other}")),
                    }
                }
                Block::Result(text(&block["tool_use_id"], "an id")?.to_owned())
            }
            other => return Err(format!("a block is {other}")),
        })
    })
}

/// Newer models refuse a budget, and thoughts after a prefix that changed, unless they are told to drop them.
fn only_adaptive(model: &str, body: &Value) -> Checked {
    if ["claude-fable-5-2", "claude-opus-5-5"].contains(&model) {
        let kind = &body["thinking"]["type"];
        ensure!(
            kind.is_null() || kind == "adaptive",
            "thinking.type.enabled is not supported for this model"
        );
        let bound = body["messages"].to_string().contains("\"thinking\"");
        let behavior = &body["thinking"]["block_binding"]["prefix_mismatch_behavior"];
        ensure!(!bound || behavior == "drop_block", "the block is bound to a different conversation");
    }
    Ok(())
}

fn signature(signature: &Value, known: &Known) -> Result<String, String> {
    ensure!(known.takes_reasoning, "thinking is not taken");
    let signature = text(signature, "a signature")?;
    ensure!(known.signatures.contains(signature), "invalid signature in thinking block: {signature:?}");
    Ok(signature.to_owned())
}

pub(super) fn bedrock(body: &Value, known: &Known) -> Checked {
    only(
        body,
        &["messages", "system", "toolConfig", "inferenceConfig", "additionalModelRequestFields"],
        "the request",
    )?;
    if let Some(budget) = body.pointer("/additionalModelRequestFields/thinking/budget_tokens") {
        let most = body["inferenceConfig"]["maxTokens"].as_u64().unwrap_or_default();
        ensure!(budget.as_u64().is_some_and(|n| (1_024..most).contains(&n)), "a budget of {budget}");
    }
    for block in body["system"].as_array().into_iter().flatten() {
        if block.get("cachePoint").is_none() {
            said(&block["text"], "the system prompt")?;
        }
    }
    if body.get("toolConfig").is_some() {
        let offer = Offer {
            name: "/toolSpec/name",
            description: "/toolSpec/description",
            schema: "/toolSpec/inputSchema/json",
            longest_description: usize::MAX,
            open_api: false,
        };
        offers(&body["toolConfig"]["tools"], &offer)?;
    }
    conversation(body, &body["toolConfig"]["tools"], known, &|block| {
        let members = block.as_object().ok_or("a block is no object")?;
        ensure!(members.len() == 1, "a block has {} members", members.len());
        let (kind, inside) = members.iter().next().ok_or("a block is empty")?;
        Ok(match kind.as_str() {
            "text" => Block::Text(said(inside, "a text")?.to_owned()),
            "image" => {
                let kinds = ["png", "jpeg", "gif", "webp"];
                ensure!(kinds.contains(&inside["format"].as_str().unwrap_or_default()), "an image's format");
                base64(&inside["source"]["bytes"], "an image")?;
                Block::Image
            }
            "cachePoint" => Block::Mark,
            "reasoningContent" => {
                let given = inside.pointer("/reasoningText/signature").or(inside.get("redactedContent"));
                Block::Thinking(signature(given.unwrap_or(&Value::Null), known)?)
            }
            "toolUse" => {
                portable(text(&inside["name"], "a name")?, 64, "the name of a called tool")?;
                ensure!(inside["input"].is_object(), "the input of a call is no object");
                Block::Call(text(&inside["toolUseId"], "an id")?.to_owned(), inside["name"].to_string())
            }
            "toolResult" => {
                for part in list(&inside["content"], "a result's content")? {
                    if let Some(said_) = part.get("text") {
                        said(said_, "a result's text")?;
                    } else {
                        base64(&part["image"]["source"]["bytes"], "a result's image")?;
                    }
                }
                Block::Result(text(&inside["toolUseId"], "an id")?.to_owned())
            }
            other => return Err(format!("a block is {other}")),
        })
    })
}

fn conversation(
    body: &Value,
    tools: &Value,
    known: &Known,
    read: &dyn Fn(&Value) -> Result<Block, String>,
) -> Checked {
    let messages = list(&body["messages"], "messages")?;
    let mut open: HashSet<String> = HashSet::new();
    let mut seen = HashSet::new();
    for (n, message) in messages.iter().enumerate() {
        let role = text(&message["role"], "a role")?;
        let expected = if n % 2 == 0 { "user" } else { "assistant" };
        ensure!(role == expected, "message {n} is of the {role}: roles must alternate, the user first");
        let mut blocks = Vec::new();
        for block in list(&message["content"], &format!("the content of message {n}"))? {
            blocks.push(read(block).map_err(|why| format!("message {n}: {why}"))?);
        }
        if role == "user" {
            let mut results_over = false;
            for block in &blocks {
                match block {
                    Block::Result(id) => {
                        ensure!(!results_over, "message {n}: a result comes after something else");
                        ensure!(open.remove(id), "message {n}: the result of {id} has no call before it");
                    }
                    Block::Call(..) | Block::Thinking(_) => {
                        return Err(format!("message {n}: the user calls"));
                    }
                    _ => results_over = true,
                }
            }
            ensure!(open.is_empty(), "message {n}: calls without results: {open:?}");
        } else {
            let mut calls = 0;
            for block in &blocks {
                match block {
                    Block::Call(id, _) => {
                        calls += 1;
                        portable(id, 64, "a call's id")?;
                        ensure!(seen.insert(id.clone()), "message {n}: the id {id} is used twice");
                        open.insert(id.clone());
                    }
                    Block::Result(_) => return Err(format!("message {n}: the assistant has a result")),
                    Block::Image => return Err(format!("message {n}: the assistant shows an image")),
                    Block::Thinking(_) | Block::Text(_) | Block::Mark => {}
                }
            }
            let label = |block: &Block| match block {
                Block::Thinking(signature) => Some(format!("signed {signature}")),
                Block::Text(text) => Some(format!("text {text}")),
                Block::Call(_, name) => Some(format!("call {}", name.trim_matches('"'))),
                _ => None,
            };
            known.as_it_was(&blocks.iter().filter_map(label).collect::<Vec<_>>())?;
            if calls > 0 && known.signed_calls {
                ensure!(
                    matches!(blocks.first(), Some(Block::Thinking(_))),
                    "message {n}: expected `thinking`, found a call: with thinking, a turn with calls begins so"
                );
            }
            ensure!(calls == 0 || tools.is_array(), "message {n}: calls, and no tools are defined");
        }
    }
    ensure!(messages.len() % 2 == 1, "the last message is the assistant's");
    ensure!(open.is_empty(), "calls without results at the end: {open:?}");
    Ok(())
}
