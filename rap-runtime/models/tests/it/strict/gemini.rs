//! Google Gemini.

use super::{
    Checked, Known, base64, ensure, list, only, said, text,
    tools::{Offer, offers},
};
use serde_json::Value;

pub(super) fn gemini(body: &Value, known: &Known) -> Checked {
    only(body, &["contents", "generationConfig", "systemInstruction", "tools"], "the request")?;
    if body.get("tools").is_some() {
        let offer = Offer {
            name: "/name",
            description: "/description",
            schema: "/parameters",
            longest_description: usize::MAX,
            open_api: true,
        };
        offers(&body["tools"][0]["functionDeclarations"], &offer)?;
    }
    let mut open: Vec<(String, String)> = Vec::new();
    let contents = list(&body["contents"], "contents")?;
    for (n, content) in contents.iter().enumerate() {
        let role = text(&content["role"], "a role")?;
        let expected = if n % 2 == 0 { "user" } else { "model" };
        ensure!(role == expected, "content {n} is of the {role}: turns must alternate, the user first");
        let mut answered = Vec::new();
        let mut calls = Vec::new();
        let mut labels = Vec::new();
        for (at, part) in list(&content["parts"], "parts")?.iter().enumerate() {
            only(
                part,
                &["text", "inlineData", "functionCall", "functionResponse", "thoughtSignature"],
                "a part",
            )?;
            let data = part
                .as_object()
                .map_or(0, |part| part.keys().filter(|name| *name != "thoughtSignature").count());
            ensure!(data == 1, "content {n}: a part has {data} kinds of data");
            if let Some(signature) = part.get("thoughtSignature") {
                let signature = text(signature, "a signature")?;
                ensure!(known.takes_reasoning && role == "model", "content {n}: a signature is not taken");
                ensure!(known.signatures.contains(signature), "content {n}: thought signature is not valid");
            }
            let signed =
                part["thoughtSignature"].as_str().map(|s| format!("signed {s} ")).unwrap_or_default();
            if let Some(text) = part.get("text") {
                labels.push(format!("{signed}text {}", said(text, &format!("content {n}"))?));
            } else if let Some(image) = part.get("inlineData") {
                let kinds = ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"];
                ensure!(kinds.contains(&image["mimeType"].as_str().unwrap_or_default()), "an image's kind");
                base64(&image["data"], "an image")?;
            } else if let Some(call) = part.get("functionCall") {
                ensure!(role == "model", "content {n}: the user calls");
                ensure!(call["args"].is_object(), "content {n}: arguments are no object");
                if calls.is_empty() && known.signed_calls {
                    let signed = part.get("thoughtSignature").is_some();
                    ensure!(signed, "content {n}: function call is missing a thought_signature in part {at}");
                }
                let name = text(&call["name"], "a name")?;
                let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                ensure!(begins_well && name.len() <= 64, "content {n}: a call of {name:?}");
                labels.push(format!("{signed}call {name}"));
                calls.push((name.to_owned(), call["id"].as_str().unwrap_or_default().to_owned()));
            } else {
                let response = &part["functionResponse"];
                ensure!(role == "user", "content {n}: the model has a result");
                ensure!(at == answered.len(), "content {n}: a result comes after something else");
                ensure!(response["response"].is_object(), "content {n}: a response is no object");
                let name = text(&response["name"], "a name")?.to_owned();
                answered.push((name, response["id"].as_str().unwrap_or_default().to_owned()));
            }
        }
        if role == "user" {
            ensure!(
                answered == open,
                "content {n}: function responses must equal the function calls of the turn before: \
                 {answered:?}, {open:?}"
            );
            open.clear();
        } else {
            known.as_it_was(&labels)?;
            open = calls;
            ensure!(open.is_empty() || body.get("tools").is_some(), "content {n}: calls without tools");
        }
    }
    ensure!(contents.len() % 2 == 1, "the last content is the model's");
    Ok(())
}
