//! OpenAI chat completions, OpenAI Responses and Ollama.

use super::{
    Checked, Known, base64, ensure, list, only, portable, said, text,
    tools::{Offer, offers},
};
use rap_models::ChatDialect;
use serde_json::Value;
use std::collections::HashSet;

fn id(value: &Value, length: usize) -> Result<String, String> {
    let id = text(value, "a call's id")?;
    ensure!((1..=length).contains(&id.len()), "a call's id has {} bytes: {id:?}", id.len());
    Ok(id.to_owned())
}

fn arguments(value: &Value) -> Checked {
    let written = text(value, "arguments")?;
    let good = serde_json::from_str::<Value>(written).is_ok_and(|value| value.is_object());
    ensure!(good, "arguments are no object in text: {written:?}");
    Ok(())
}

fn data_url(value: &Value) -> Checked {
    let url = text(value, "an image's URL")?;
    let (kind, data) = url.split_once(";base64,").ok_or("an image is no data URL")?;
    let kinds = ["data:image/png", "data:image/jpeg", "data:image/gif", "data:image/webp"];
    ensure!(kinds.contains(&kind), "an image is {kind}");
    base64(&data.into(), "an image")
}

pub(super) fn chat(body: &Value, known: &Known) -> Checked {
    let mistral = known.dialect == ChatDialect::Mistral;
    only(
        body,
        &["model", "messages", "stream", "stream_options", "tools", "reasoning_effort", "max_tokens"],
        "the request",
    )?;
    ensure!(
        !mistral || body.get("stream_options").is_none(),
        "stream_options: extra inputs are not permitted"
    );
    if body.get("tools").is_some() {
        let offer = Offer {
            name: "/function/name",
            description: "/function/description",
            schema: "/function/parameters",
            longest_description: 1_024,
            open_api: false,
        };
        offers(&body["tools"], &offer)?;
    }
    let mut open: HashSet<String> = HashSet::new();
    let mut seen = HashSet::new();
    let messages = list(&body["messages"], "messages")?;
    for (n, message) in messages.iter().enumerate() {
        let role = text(&message["role"], "a role")?;
        ensure!(
            role == "tool" || open.is_empty(),
            "message {n}: an assistant message with tool_calls must be followed by tool messages: {open:?}"
        );
        match role {
            "system" => {
                ensure!(n == 0, "message {n} is of the system");
                said(&message["content"], "the system prompt")?;
            }
            "user" => {
                only(message, &["role", "content"], "a message")?;
                let after = n.checked_sub(1).map(|before| &messages[before]["role"]);
                ensure!(
                    !mistral || after.is_none_or(|role| role != "tool"),
                    "message {n}: unexpected role 'user' after role 'tool'"
                );
                match &message["content"] {
                    Value::String(_) => drop(said(&message["content"], &format!("message {n}"))?),
                    parts => {
                        for part in list(parts, "a message's parts")? {
                            match text(&part["type"], "a part's type")? {
                                "text" => drop(said(&part["text"], "a text")?),
                                "image_url" => data_url(&part["image_url"]["url"])?,
                                other => return Err(format!("message {n}: a part is {other}")),
                            }
                        }
                    }
                }
            }
            "assistant" => {
                let back = known.dialect == ChatDialect::ReasoningBack;
                only(message, &["role", "content", "tool_calls", "reasoning_content"], "a message")?;
                ensure!(
                    message["reasoning_content"].is_string() == (back && message.get("tool_calls").is_some()),
                    "message {n}: the reasoning_content in the thinking mode must be passed back, and nowhere else"
                );
                let Some(calls) = message.get("tool_calls") else {
                    said(&message["content"], &format!("message {n}"))?;
                    continue;
                };
                ensure!(body.get("tools").is_some(), "message {n}: calls, and no tools are defined");
                for call in list(calls, "tool_calls")? {
                    ensure!(call["type"] == "function", "a call is no function");
                    portable(text(&call["function"]["name"], "a name")?, 64, "a called tool's name")?;
                    arguments(&call["function"]["arguments"])?;
                    let id = id(&call["id"], 40)?;
                    ensure!(
                        !mistral || (id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())),
                        "tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9"
                    );
                    ensure!(seen.insert(id.clone()), "message {n}: the id {id} is used twice");
                    open.insert(id);
                }
            }
            "tool" => {
                said(&message["content"], &format!("message {n}"))?;
                let id = id(&message["tool_call_id"], 40)?;
                ensure!(open.remove(&id), "message {n}: no call before has the id {id}");
            }
            other => return Err(format!("message {n} is of the {other}")),
        }
    }
    ensure!(open.is_empty(), "calls without results at the end: {open:?}");
    let last = messages.last().map(|last| &last["role"]);
    ensure!(last.is_some_and(|role| role != "assistant"), "the last message is the assistant's");
    Ok(())
}

pub(super) fn responses(body: &Value, known: &Known) -> Checked {
    only(
        body,
        &[
            "model",
            "input",
            "stream",
            "store",
            "prompt_cache_key",
            "instructions",
            "tools",
            "include",
            "reasoning",
        ],
        "the request",
    )?;
    if body.get("tools").is_some() {
        let offer = Offer {
            name: "/name",
            description: "/description",
            schema: "/parameters",
            longest_description: 1_024,
            open_api: false,
        };
        offers(&body["tools"], &offer)?;
    }
    let items = list(&body["input"], "input")?;
    let mut open: HashSet<String> = HashSet::new();
    let mut seen = HashSet::new();
    let mut needs_following = false;
    let mut turn: Vec<String> = Vec::new();
    for (n, item) in items.iter().enumerate() {
        let kind = item["type"].as_str().unwrap_or("message");
        let follows = kind == "reasoning" || kind == "function_call" || item["role"] == "assistant";
        ensure!(!needs_following || follows, "item {n}: reasoning without its required following item");
        needs_following = false;
        if !follows {
            known.as_it_was(&std::mem::take(&mut turn))?;
        }
        match kind {
            "message" => {
                let role = text(&item["role"], "a role")?;
                if role == "assistant" {
                    turn.push(format!("text {}", said(&item["content"], &format!("item {n}"))?));
                } else {
                    for part in list(&item["content"], "a message's content")? {
                        match (role, text(&part["type"], "a part's type")?) {
                            ("user", "input_text") => drop(said(&part["text"], &format!("item {n}"))?),
                            ("user", "input_image") => data_url(&part["image_url"])?,
                            (role, part) => return Err(format!("item {n}: the {role} has {part}")),
                        }
                    }
                }
            }
            "function_call" => {
                ensure!(body.get("tools").is_some(), "item {n}: a call, and no tools are defined");
                portable(text(&item["name"], "a name")?, 64, "a called tool's name")?;
                arguments(&item["arguments"])?;
                turn.push(format!("call {}", item["name"].as_str().unwrap_or_default()));
                let id = id(&item["call_id"], 64)?;
                ensure!(seen.insert(id.clone()), "item {n}: the id {id} is used twice");
                open.insert(id);
            }
            "function_call_output" => {
                said(&item["output"], &format!("item {n}"))?;
                let id = id(&item["call_id"], 64)?;
                ensure!(open.remove(&id), "item {n}: no tool call found for the output of {id}");
            }
            "reasoning" => {
                ensure!(known.takes_reasoning, "item {n}: reasoning is not taken");
                let given = text(&item["encrypted_content"], "encrypted_content")?;
                ensure!(
                    known.signatures.contains(given),
                    "item {n}: its encrypted content cannot be verified"
                );
                turn.push(format!("signed {given}"));
                needs_following = true;
            }
            other => return Err(format!("item {n} is {other}")),
        }
    }
    known.as_it_was(&turn)?;
    ensure!(!needs_following, "reasoning at the end, without its required following item");
    ensure!(open.is_empty(), "no tool output found for {open:?}");
    Ok(())
}

pub(super) fn ollama(body: &Value) -> Checked {
    only(
        body,
        &["model", "messages", "stream", "options", "tools", "think", "truncate", "shift"],
        "the request",
    )?;
    ensure!(body["truncate"] == false && body["shift"] == false, "a long history is cut silently");
    ensure!(body["options"]["num_ctx"].as_u64().is_some(), "without num_ctx a long history is cut silently");
    if body.get("tools").is_some() {
        let offer = Offer {
            name: "/function/name",
            description: "/function/description",
            schema: "/function/parameters",
            longest_description: usize::MAX,
            open_api: false,
        };
        offers(&body["tools"], &offer)?;
    }
    let mut open: Vec<String> = Vec::new();
    for (n, message) in list(&body["messages"], "messages")?.iter().enumerate() {
        let role = text(&message["role"], "a role")?;
        ensure!(role == "tool" || open.is_empty(), "message {n}: calls without results: {open:?}");
        match role {
            "system" | "user" => drop(said(&message["content"], &format!("message {n}"))?),
            "assistant" => {
                text(&message["content"], "content")?;
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    ensure!(call["function"]["arguments"].is_object(), "arguments are no object");
                    open.push(text(&call["function"]["name"], "a name")?.to_owned());
                }
                ensure!(!open.is_empty() || message["content"] != "", "message {n} says nothing");
            }
            "tool" => {
                said(&message["content"], &format!("message {n}"))?;
                let name = text(&message["tool_name"], "tool_name")?;
                ensure!(
                    !open.is_empty() && open.remove(0) == name,
                    "message {n}: a result of {name}: which?"
                );
            }
            other => return Err(format!("message {n} is of the {other}")),
        }
        for image in message["images"].as_array().into_iter().flatten() {
            base64(image, "an image")?;
        }
    }
    ensure!(open.is_empty(), "calls without results at the end: {open:?}");
    Ok(())
}
