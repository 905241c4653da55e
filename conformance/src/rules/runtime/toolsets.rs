//! What a runtime makes of the toolsets that it was seen to fetch. Of a tool server whose toolset was not seen nothing
//! is said.

use super::{Rule, View, invocations, notices, own};
use crate::{
    rules::{Seen, view::Message},
    schema,
    trace::Exchange,
    verdict::Finding,
};
use rap_spec::Role;
use serde_json::Value;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/runtime-well-known-path",
        title: "toolsets are fetched from the well-known path",
        obligations: &["TLS-02"],
        role: Role::Runtime,
        check: well_known_path,
    },
    Rule {
        id: "rule/runtime-refuses-invalid-toolset",
        title: "no tool of a toolset that is invalid is called",
        obligations: &["TLS-03"],
        role: Role::Runtime,
        check: refuses_invalid,
    },
    Rule {
        id: "rule/runtime-known-operation",
        title: "every operation is the name of a tool of the toolset",
        obligations: &["INV-01"],
        role: Role::Runtime,
        check: known_operation,
    },
    Rule {
        id: "rule/runtime-valid-arguments",
        title: "arguments match the schema of the tool",
        obligations: &["INV-02"],
        role: Role::Runtime,
        check: valid_arguments,
    },
    Rule {
        id: "rule/runtime-right-endpoint",
        title: "a tool is called at the endpoint of the toolset that defines it",
        obligations: &["INV-11"],
        role: Role::Runtime,
        check: right_endpoint,
    },
    Rule {
        id: "rule/runtime-migrates-if-needed",
        title: "migrate is called only where the toolset says needsMigration",
        obligations: &["MIG-01"],
        role: Role::Runtime,
        check: migrates_if_needed,
    },
];

const WELL_KNOWN: &str = "/.well-known/rap-toolset";

/// A toolset that was fetched.
struct Fetched<'a> {
    exchange: &'a Exchange,
    toolset: Value,
}

impl Fetched<'_> {
    fn base(&self) -> Option<&str> {
        let path = self.exchange.url.split('?').next().unwrap_or_default();
        path.strip_suffix(WELL_KNOWN)
    }

    fn endpoint(&self) -> &str {
        self.toolset["endpoint"].as_str().unwrap_or_default()
    }

    fn tool(&self, name: &str) -> Option<&Value> {
        self.toolset["tools"].as_array()?.iter().find(|tool| tool["name"] == name)
    }

    fn is_valid(&self) -> bool {
        let tools = self.toolset["tools"].as_array();
        schema::faults("toolset", &self.toolset).is_none()
            && tools.into_iter().flatten().all(|tool| schema::wrong(&tool["inputSchema"]).is_none())
    }
}

/// The answers to a runtime's GETs that look like toolsets.
fn fetched<'a>(view: &View<'a>) -> Vec<Fetched<'a>> {
    let gets = view.trace.iter().filter(|e| own(e) && e.method == "GET" && e.status() == Some(200));
    gets.filter_map(|exchange| {
        let toolset = exchange.answer.as_ref()?.body.json().ok()?;
        toolset["tools"].is_array().then_some(Fetched { exchange, toolset })
    })
    .collect()
}

/// The toolsets of an endpoint that had been fetched when a call was made.
fn before<'f, 'a>(all: &'f [Fetched<'a>], call: &Message<'_>) -> Vec<&'f Fetched<'a>> {
    let in_time = |f: &&Fetched<'_>| f.exchange.ended.is_some_and(|ended| ended < call.exchange.began);
    all.iter().filter(|f| f.endpoint() == call.exchange.url).filter(in_time).collect()
}

fn well_known_path(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for fetched in fetched(view) {
        let wrong = fetched.base().is_none().then(|| {
            let why =
                format!("a toolset was fetched from {}, not from the well-known path", fetched.exchange.url);
            Finding::new("TLS-02", why, &[fetched.exchange.n])
        });
        seen.look(wrong);
    }
    seen
}

fn refuses_invalid(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let all = fetched(view);
    let validity: Vec<(u64, bool)> = all.iter().map(|f| (f.exchange.n, f.is_valid())).collect();
    let is_valid = |f: &&Fetched<'_>| validity.contains(&(f.exchange.n, true));
    for call in invocations(view) {
        let toolsets = before(&all, call);
        let Some(last) = toolsets.last() else { continue };
        // A valid one that was fetched before may still be in use.
        let wrong = (!toolsets.iter().any(is_valid)).then(|| {
            let why = "a tool was called of a toolset that is invalid and has to be rejected whole";
            Finding::new("TLS-03", why, &[last.exchange.n, call.exchange.n])
        });
        seen.look(wrong);
    }
    seen
}

fn known_operation(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let all = fetched(view);
    for call in invocations(view) {
        let toolsets = before(&all, call);
        let (Some(last), Some(operation)) = (toolsets.last(), call.string("operation")) else { continue };
        let wrong = toolsets.iter().all(|f| f.tool(operation).is_none()).then(|| {
            let why = format!("the operation {operation:?} was invoked, which is no tool of the toolset");
            Finding::new("INV-01", why, &[last.exchange.n, call.exchange.n])
        });
        seen.look(wrong);
    }
    seen
}

fn valid_arguments(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let all = fetched(view);
    for call in invocations(view) {
        let operation = call.string("operation").unwrap_or_default();
        let mut wrong = None;
        let mut looked = false;
        // A session keeps the toolset that it fetched: any of them may be the one that counts.
        for fetched in before(&all, call) {
            let Some(tool) = fetched.tool(operation) else { continue };
            let Ok(validator) = schema::compile(&tool["inputSchema"]) else { continue };
            if !schema::affordable(&tool["inputSchema"], call.member("arguments")) {
                continue;
            }
            looked = true;
            wrong = schema::first(&validator, call.member("arguments")).map(|why| (fetched.exchange.n, why));
            if wrong.is_none() {
                break;
            }
        }
        if looked {
            seen.look(wrong.map(|(n, why)| {
                let why = format!("the arguments of {operation:?} do not match its schema, {why}");
                Finding::new("INV-02", why, &[n, call.exchange.n])
            }));
        }
    }
    seen
}

fn right_endpoint(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let all = fetched(view);
    for call in invocations(view) {
        let operation = call.string("operation").unwrap_or_default();
        let in_time = |f: &&Fetched<'_>| f.exchange.ended.is_some_and(|ended| ended < call.exchange.began);
        let defining = all.iter().filter(|f| f.tool(operation).is_some()).find(in_time);
        let Some(defining) = defining else { continue };
        let wrong = (!all.iter().any(|f| f.endpoint() == call.exchange.url)).then(|| {
            let (url, right) = (&call.exchange.url, defining.endpoint());
            let why = format!("{operation:?} was invoked at {url}; its toolset names {right}");
            Finding::new("INV-11", why, &[defining.exchange.n, call.exchange.n])
        });
        seen.look(wrong);
    }
    seen
}

fn migrates_if_needed(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let all = fetched(view);
    for (_, notice) in notices(view).filter(|(name, _)| *name == "migrate") {
        let path = notice.exchange.url.split('?').next().unwrap_or_default();
        let Some(base) = path.strip_suffix("/migrate") else { continue };
        let known: Vec<_> = all.iter().filter(|f| f.base() == Some(base)).collect();
        let Some(last) = known.last() else { continue };
        let wrong = known.iter().all(|f| f.toolset["needsMigration"] != true).then(|| {
            let why = "migrate was called at a server whose toolset does not say needsMigration";
            Finding::new("MIG-01", why, &[last.exchange.n, notice.exchange.n])
        });
        seen.look(wrong);
    }
    seen
}
