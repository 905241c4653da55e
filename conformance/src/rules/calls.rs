//! What holds between an invocation and its callbacks.

use super::{Rule, Seen, View};
use crate::{trace::Party, verdict::Finding};
use rap_spec::Role;
use serde_json::Value;
use std::collections::HashSet;

/// The rule that speaks of what is owed, and so wants to be asked last.
pub(crate) const EVERY_CALL_ENDS: &str = "rule/every-call-ends";

/// How long a stranger's call may be on its way before it is said to have no end, in microseconds.
const LONG: u64 = 60_000_000;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/group-id-echoed",
        title: "every callback carries the group_id of the invocation whose URL it came to",
        obligations: &["TRN-13"],
        role: Role::Server,
        check: group_id_echoed,
    },
    Rule {
        id: "rule/acknowledged-by-200",
        title: "an invocation that is taken is answered 200, not another 2xx or a redirect",
        obligations: &["TRN-02"],
        role: Role::Server,
        check: acknowledged_by_200,
    },
    Rule {
        id: EVERY_CALL_ENDS,
        title: "every acknowledged call ends in a tool_result, or waits for the user",
        obligations: &["INV-07"],
        role: Role::Server,
        check: every_call_ends,
    },
];

fn group_id_echoed(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for callback in &view.callbacks {
        let groups: Vec<&Value> =
            view.invocations_of(&callback.exchange.url).map(|i| i.member("group_id")).collect();
        let group = callback.member("group_id");
        if groups.is_empty() || group.is_null() {
            continue;
        }
        let wrong = (!groups.contains(&group))
            .then(|| format!("a callback says group_id {group}; the invocation said {}", groups[0]));
        seen.look(wrong.map(|why| Finding::new("TRN-13", why, &[callback.exchange.n])));
    }
    seen
}

fn acknowledged_by_200(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for invocation in &view.invocations {
        let Some(status) = invocation.exchange.status().filter(|s| (200..400).contains(s)) else { continue };
        let wrong = (status != 200).then(|| format!("an invocation was answered {status}, not 200"));
        seen.look(wrong.map(|why| Finding::new("TRN-02", why, &[invocation.exchange.n])));
    }
    seen
}

fn every_call_ends(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let now = view.trace.iter().map(|e| e.at_us + e.took_us).max().unwrap_or(0);
    let long_running = long_running(view);
    for invocation in &view.invocations {
        let exchange = invocation.exchange;
        let well_formed =
            invocation.body.as_ref().is_ok_and(|body| crate::schema::faults("invocation", body).is_none());
        if !exchange.taken() || !well_formed {
            continue;
        }
        // Between strangers nobody knows how long a call may take, and whether more comes after the trace: what is
        // young, or known to take long, is left alone.
        let stranger = exchange.case.is_none();
        let patient = invocation.string("operation").is_some_and(|name| long_running.contains(name));
        let young = now.saturating_sub(exchange.at_us) < LONG;
        let mut ended = false;
        let mut waits = false;
        for callback in view.callbacks_of(invocation) {
            match callback.string("type") {
                Some("tool_result") => ended = true,
                Some("oauth" | "user_choice") => waits = true,
                _ => {}
            }
        }
        // A message at another URL is TRN-07's; one that cannot be read is TRN-01's or TRN-13's.
        let spoiled = view.callbacks.iter().any(|c| {
            c.exchange.case == exchange.case
                && (view.invocations_of(&c.exchange.url).next().is_none() || c.string("type").is_none())
        });
        // A call that was cancelled, or whose thread was closed, owes nothing; one that waits at a gate which
        // nobody opened, or for a person, is not over.
        if !ended && (stranger && (young || patient) || released(view, invocation)) {
            continue;
        }
        let wrong = (!ended && !waits && !spoiled).then(|| {
            let (operation, id) = (invocation.member("operation"), invocation.member("id"));
            let by = exchange.case.as_ref().map(|case| format!(" by {case}")).unwrap_or_default();
            // An exchange that is still open when the trace ends has begun at its end.
            let open = now.saturating_sub(exchange.at_us) / 1000;
            format!("a call of {operation}, {id}{by}, was acknowledged, and no result came in {open} ms")
        });
        seen.look(wrong.map(|why| Finding::new("INV-07", why, &[exchange.n])));
    }
    seen
}

/// The tools that a toolset in the trace annotates as taking long.
fn long_running(view: &View<'_>) -> HashSet<String> {
    let toolsets =
        view.trace.iter().filter(|e| e.method == "GET").filter_map(|e| e.answer.as_ref()?.body.json().ok());
    let mut names = HashSet::new();
    for toolset in toolsets {
        let tools = toolset["tools"].as_array().into_iter().flatten();
        let long = tools.filter(|tool| tool["annotations"]["longRunning"] == true);
        names.extend(long.filter_map(|tool| tool["name"].as_str().map(str::to_owned)));
    }
    names
}

/// Whether a notice ended the call, or its case ended while it waited for another call.
fn released(view: &View<'_>, invocation: &super::view::Message<'_>) -> bool {
    let thread = invocation.member("group_id");
    let call = invocation.member("id");
    let by_notice = view.notices.iter().any(|(name, notice)| {
        notice.exchange.from == Party::Runtime
            && notice.member("thread_id") == thread
            && (*name == "close_thread"
                || (*name == "cancel_tool_call" && notice.member("tool_call_id") == call))
    });
    let key = &invocation.member("arguments")["key"];
    let gate = invocation.string("operation") == Some("gate") && !key.is_null();
    let opened = || {
        view.invocations
            .iter()
            .any(|i| i.string("operation") == Some("open") && i.member("arguments")["key"] == *key)
    };
    by_notice || (gate && !opened())
}
