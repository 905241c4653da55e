//! The toolset: that it is served, and that it is one.

use crate::{
    bench::Bench,
    case::{Case, Need, Outcome, Tier, case},
    http::Sent,
    schema,
    toolset::Tool,
    verdict::Stop,
};
use serde_json::Value;
use std::collections::HashSet;

pub(super) const CASES: &[Case] = &[
    case!(
        "discovery/served",
        "the toolset is served as JSON at the well-known path",
        ["TLS-01"],
        Tier::Look,
        [],
        served
    ),
    case!(
        "discovery/ready-at-once",
        "a server that was started serves its toolset before it says that it is ready",
        ["TLS-01"],
        Tier::Look,
        [Need::Spawn],
        ready_at_once,
        alone
    ),
    case!(
        "discovery/whole",
        "the toolset has a name, an endpoint and tools; each tool has a name, a description and a schema",
        ["TLS-11"],
        Tier::Look,
        [],
        whole
    ),
    case!(
        "discovery/tool-names",
        "tool names are unique, 1 to 128 characters of the alphabet",
        ["TLS-07"],
        Tier::Look,
        [],
        tool_names
    ),
    case!(
        "discovery/tool-names-plain",
        "tool names are such that every model takes them",
        ["TLS-14"],
        Tier::Look,
        [],
        tool_names_plain
    ),
    case!(
        "discovery/input-schemas",
        "each inputSchema is a valid JSON Schema of type object",
        ["TLS-08"],
        Tier::Look,
        [],
        input_schemas
    ),
];

async fn fetch(bench: &Bench) -> Sent {
    bench.send("GET", &bench.at(".well-known/rap-toolset"), &[], "").await
}

async fn served(bench: Bench) -> Outcome {
    let sent = fetch(&bench).await;
    let (Ok(answer), Some(200)) = (&sent.answer, sent.status()) else {
        return bench.broken("TLS-01", format!("the fetch of the toolset {}", sent.words()), &[sent.n]);
    };
    let media = answer.header("content-type").unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" {
        let why = format!("the toolset has the content type {media:?}, not application/json");
        bench.fault("TLS-01", why, &[sent.n]);
    }
    match answer.body.json() {
        Ok(body) if body.is_object() => {}
        Ok(_) => bench.fault("TLS-01", "the toolset is JSON, but no object", &[sent.n]),
        Err(why) => bench.fault("TLS-01", format!("the toolset is {why}"), &[sent.n]),
    }
    Ok(())
}

async fn ready_at_once(bench: Bench) -> Outcome {
    bench.restart().await?;
    let sent = fetch(&bench).await;
    if sent.status() != Some(200) {
        let why = format!("right after the server said its port, the fetch of the toolset {}", sent.words());
        bench.fault("TLS-01", why, &[sent.n]);
    }
    Ok(())
}

/// What is wrong with a toolset beyond names and schemas, which have cases of their own.
fn faults(toolset: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let length = toolset["name"].as_str().map(|name| name.chars().count());
    match length {
        None => faults.push("it has no `name`".to_owned()),
        Some(1..=128) => {}
        Some(n) => faults.push(format!("its name has {n} characters, not 1 to 128")),
    }
    let endpoint = toolset["endpoint"].as_str().and_then(|e| url::Url::parse(e).ok());
    if endpoint.is_none_or(|url| !matches!(url.scheme(), "http" | "https") || !url.has_host()) {
        faults.push(format!("its endpoint is {}, not an http or https URL", toolset["endpoint"]));
    }
    let tools = toolset["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    if tools.is_empty() {
        faults.push("it has no tools".to_owned());
    }
    for (n, tool) in tools.iter().enumerate() {
        for member in ["name", "description"] {
            if !tool[member].is_string() {
                faults.push(format!("tool {n} ({}) has no `{member}`", tool["name"]));
            }
        }
        if !tool["inputSchema"].is_object() {
            faults.push(format!("tool {n} ({}) has no `inputSchema`", tool["name"]));
        }
    }
    faults
}

async fn whole(bench: Bench) -> Outcome {
    if !bench.toolset.raw.is_object() {
        return Err(Stop::Inconclusive("what is served is no toolset at all (discovery/served)".to_owned()));
    }
    let found = faults(&bench.toolset.raw);
    for why in &found {
        bench.fault("TLS-11", format!("the toolset is not whole: {why}"), &[1]);
    }
    let names = bench.toolset.tools().flat_map(name_faults).next();
    let schemas = bench.toolset.tools().filter_map(schema_fault).next();
    if found.is_empty() && names.is_none() && schemas.is_none() {
        // Whatever else the schema says, such as the types of annotations.
        if let Some(why) = schema::faults("toolset", &bench.toolset.raw) {
            bench.fault("TLS-11", format!("the toolset does not conform to its schema, {why}"), &[1]);
        }
    }
    Ok(())
}

fn name_faults(tool: Tool<'_>) -> Option<String> {
    let name = tool.raw["name"].as_str()?;
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    match name.chars().count() {
        0 => Some("a tool's name is empty".to_owned()),
        n if n > 128 => Some(format!("the name of a tool has {n} characters, not 1 to 128")),
        _ if !name.chars().all(legal) => {
            Some(format!("the tool name {name:?} has other characters than letters, digits and _ - . / :"))
        }
        _ => None,
    }
}

async fn tool_names(bench: Bench) -> Outcome {
    let mut seen = HashSet::new();
    for tool in bench.toolset.tools() {
        if let Some(why) = name_faults(tool) {
            bench.fault("TLS-07", why, &[1]);
        }
        if !seen.insert(tool.name()) {
            bench.fault("TLS-07", format!("two tools have the name {:?}", tool.name()), &[1]);
        }
    }
    Ok(())
}

async fn tool_names_plain(bench: Bench) -> Outcome {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    for tool in bench.toolset.tools() {
        let legal = name_faults(tool).is_none();
        if legal && !tool.name().chars().all(plain) {
            let why =
                format!("the tool name {:?} has other characters than letters, digits, _ and -", tool.name());
            bench.fault("TLS-14", why, &[1]);
        }
    }
    Ok(())
}

fn schema_fault(tool: Tool<'_>) -> Option<String> {
    let schema = tool.schema();
    if !schema.is_object() {
        return None;
    }
    if schema["type"] != "object" {
        return Some(format!(
            "the inputSchema of {:?} has the type {}, not \"object\"",
            tool.name(),
            schema["type"]
        ));
    }
    schema::wrong(schema).map(|why| format!("the inputSchema of {:?} is no JSON Schema, {why}", tool.name()))
}

async fn input_schemas(bench: Bench) -> Outcome {
    for tool in bench.toolset.tools() {
        if let Some(why) = schema_fault(tool) {
            bench.fault("TLS-08", why, &[1]);
        }
    }
    Ok(())
}
