//! What may be called, and with what: decided from the toolset and the options before anything is sent, so that
//! it can be shown first.

use crate::{
    run::Options,
    toolset::{Tool, Toolset},
};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// What will be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Whether the toolset is the fixture toolset.
    pub fixture: bool,
    /// Tools that are called, with valid arguments.
    pub callable: Vec<(String, Value)>,
    /// Those of them whose arguments were given.
    pub fixed: Vec<String>,
    /// Tools that are not, and why.
    pub notes: Vec<String>,
}

/// Toolsets whose name begins so are fixtures, whose owner consents to every call.
pub const FIXTURE: &str = "rap-fixture";

/// What is asked of tools of the fixture whose arguments mean something.
static FOLLOWED: LazyLock<Value> =
    LazyLock::new(|| json!({ "choose": { "prompt": "Which?", "choices": ["yes", "no"], "default": 1 } }));

/// Makes the plan.
pub fn plan(toolset: &Toolset, options: &Options) -> Plan {
    let fixture = toolset.name().starts_with(FIXTURE);
    let mut plan = Plan { fixture, ..Plan::default() };
    for tool in toolset.tools() {
        let given =
            options.arguments.get(tool.name()).or_else(|| FOLLOWED.get(tool.name()).filter(|_| fixture));
        let consented = fixture && ["count", "open", "view", "subscribe"].contains(&tool.name());
        let allowed = consented || given.is_some() || options.allow.iter().any(|name| name == tool.name());
        if given.is_some() {
            plan.fixed.push(tool.name().to_owned());
        }
        match consent(tool, allowed) {
            // What a fixture's other tools are for is in the cases.
            Err(_) if fixture => {}
            Err(why) => plan.notes.push(format!("`{}` is not called: {why}", tool.name())),
            Ok(()) => match given.cloned().ok_or(()).or_else(|()| crate::arguments::valid(tool.schema())) {
                Ok(arguments) => plan.callable.push((tool.name().to_owned(), arguments)),
                Err(why) => plan.notes.push(format!("`{}` is not called: {why}", tool.name())),
            },
        }
    }
    let named = options.allow.iter().map(|name| (name, "--allow-tool"));
    let named = named.chain(options.arguments.keys().map(|name| (name, "--args")));
    for (name, option) in named.filter(|(name, _)| toolset.tool(name).is_none()) {
        plan.notes.push(format!("{option} names `{name}`, and the toolset has no such tool"));
    }
    plan
}

fn consent(tool: Tool<'_>, allowed: bool) -> Result<(), String> {
    if allowed {
        return Ok(());
    }
    for risk in ["destructive", "longRunning"] {
        if tool.is(risk) {
            return Err(format!("it is annotated `{risk}`; hint: --allow-tool {}", tool.name()));
        }
    }
    if tool.is("readOnly") {
        return Ok(());
    }
    Err(format!("it is not annotated `readOnly`; hint: --allow-tool {}", tool.name()))
}
