//! What a runtime sends: invocations and notices, their shape, their ids, and how often they are sent.

use super::{Rule, View, callbacks, invocations, key, notices, own};
use crate::{
    rules::{Seen, view::Message},
    schema,
    verdict::Finding,
};
use rap_spec::Role;
use serde_json::Value;
use std::collections::HashMap;
use url::Url;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/runtime-json-by-post",
        title: "every invocation and every notice is a JSON object in UTF-8, posted as application/json",
        obligations: &["TRN-01"],
        role: Role::Runtime,
        check: json_by_post,
    },
    Rule {
        id: "rule/runtime-conforms",
        title: "every invocation and every notice conforms to its schema",
        obligations: &["TRN-14"],
        role: Role::Runtime,
        check: conforms,
    },
    Rule {
        id: "rule/runtime-gives-up-after-4xx",
        title: "an invocation that was answered 4xx is not sent again",
        obligations: &["TRN-04"],
        role: Role::Runtime,
        check: given_up,
    },
    Rule {
        id: "rule/runtime-backs-off",
        title: "an invocation that is sent again and again is sent with growing pauses",
        obligations: &["TRN-03"],
        role: Role::Runtime,
        check: backs_off,
    },
    Rule {
        id: "rule/runtime-ids-unique",
        title: "the id of a call is that of one call in its thread, and its callback URL is an http or https URL",
        obligations: &["INV-03"],
        role: Role::Runtime,
        check: ids_unique,
    },
    Rule {
        id: "rule/runtime-ancestors",
        title: "thread_ancestors goes from the root to the parent, the same for a thread at all times, absent for a root",
        obligations: &["INV-04"],
        role: Role::Runtime,
        check: ancestors,
    },
    Rule {
        id: "rule/runtime-close-once",
        title: "a close_thread that failed is not sent again",
        obligations: &["CLS-01"],
        role: Role::Runtime,
        check: close_once,
    },
    Rule {
        id: "rule/runtime-cancel-once",
        title: "a cancel_tool_call is sent to a server once",
        obligations: &["CAN-01"],
        role: Role::Runtime,
        check: cancel_once,
    },
    Rule {
        id: "rule/runtime-waits-for-sign-in",
        title: "a call that waits for a sign-in is not invoked again",
        obligations: &["OAU-01"],
        role: Role::Runtime,
        check: waits_for_sign_in,
    },
];

fn json_by_post(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let all = invocations(view).map(|i| ("an invocation", i)).chain(notices(view));
    for (what, message) in all {
        let media = message.exchange.header("content-type").unwrap_or_default();
        let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let wrong = if essence != "application/json" {
            Some(format!("{what} has the content type {media:?}, not application/json"))
        } else {
            match &message.body {
                Err(why) => Some(format!("the body of {what} is {why}")),
                Ok(body) if !body.is_object() => Some(format!("the body of {what} is JSON, but no object")),
                Ok(_) => None,
            }
        };
        seen.look(wrong.map(|why| Finding::new("TRN-01", why, &[message.exchange.n])));
    }
    seen
}

fn conforms(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let all = invocations(view).map(|i| ("invocation", i)).chain(notices(view));
    for (kind, message) in all {
        // What is no object is TRN-01's.
        let Some(body) = message.body.as_ref().ok().filter(|body| body.is_object()) else { continue };
        let wrong =
            schema::faults(kind, body).map(|why| format!("{kind} does not conform to its schema, {why}"));
        seen.look(wrong.map(|why| Finding::new("TRN-14", why, &[message.exchange.n])));
    }
    seen
}

/// The attempts of each call: the same thread and id at the same URL, in order.
fn attempts<'v, 'a>(view: &'v View<'a>) -> Vec<Vec<&'v Message<'a>>> {
    let mut places = HashMap::new();
    let mut all: Vec<Vec<&Message<'_>>> = Vec::new();
    for invocation in invocations(view) {
        let Some(key) = key(invocation) else { continue };
        let at = *places.entry((key, invocation.exchange.url.as_str())).or_insert_with(|| {
            all.push(Vec::new());
            all.len() - 1
        });
        all[at].push(invocation);
    }
    all
}

fn given_up(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for attempts in attempts(view) {
        let refused = attempts.iter().find(|a| a.exchange.status().is_some_and(|s| (400..500).contains(&s)));
        let Some(refused) = refused else { continue };
        let ended = refused.exchange.ended.unwrap_or(u64::MAX);
        let again = attempts.iter().find(|a| a.exchange.began > ended);
        seen.look(again.map(|again| {
            let status = refused.exchange.status().unwrap_or_default();
            let why = format!("an invocation that had been answered {status} was sent again");
            Finding::new("TRN-04", why, &[refused.exchange.n, again.exchange.n])
        }));
    }
    seen
}

fn backs_off(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for attempts in attempts(view) {
        let mut failed: Vec<&Message<'_>> = Vec::new();
        for attempt in attempts {
            let exchange = attempt.exchange;
            let advised = exchange.answer.as_ref().is_some_and(|a| a.header("retry-after").is_some());
            failed.push(attempt);
            // The pause after an answer that names one is the server's.
            if advised || !(exchange.failure.is_some() || exchange.status().is_some_and(|s| s >= 500)) {
                break;
            }
        }
        let begun: Vec<u64> = failed.iter().map(|a| a.exchange.at_us + a.exchange.took_us).collect();
        let pauses: Vec<u64> = failed
            .iter()
            .skip(1)
            .zip(&begun)
            .map(|(next, end)| next.exchange.at_us.saturating_sub(*end))
            .collect();
        let [first, .., last] = pauses.as_slice() else { continue };
        let wrong = (*last < first + first / 5).then(|| {
            let (first, last) = (first / 1000, last / 1000);
            let numbers: Vec<u64> = failed.iter().map(|a| a.exchange.n).collect();
            let why =
                format!("the pauses between attempts do not grow: {first} ms at first, {last} ms at last");
            Finding::new("TRN-03", why, &numbers)
        });
        seen.look(wrong);
    }
    seen
}

fn ids_unique(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let mut known: HashMap<(&str, &str), &Message<'_>> = HashMap::new();
    for invocation in invocations(view) {
        let n = invocation.exchange.n;
        let url = invocation.string("callback_url").unwrap_or_default();
        let valid = Url::parse(url).is_ok_and(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let mut wrong = (!valid).then(|| {
            Finding::new("INV-03", "an invocation gives a callback_url that is no http or https URL", &[n])
        });
        if let Some(key) = key(invocation) {
            let first = *known.entry(key).or_insert(invocation);
            // The same call that is sent again is the same to the word.
            let same = ["operation", "arguments"].iter().all(|m| first.member(m) == invocation.member(m));
            if !same {
                let why = format!("two calls of the thread {:?} have the id {:?}", key.0, key.1);
                wrong = Some(Finding::new("INV-03", why, &[first.exchange.n, n]));
            }
        }
        seen.look(wrong);
    }
    seen
}

fn ancestors(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let mut known: HashMap<&str, (Vec<&str>, u64)> = HashMap::new();
    for invocation in invocations(view) {
        let Some(thread) = invocation.string("group_id") else { continue };
        let (n, given) = (invocation.exchange.n, invocation.member("thread_ancestors"));
        let chain: Vec<&str> = match given {
            Value::Null => Vec::new(),
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            // The schema's matter.
            _ => continue,
        };
        let twice =
            chain.iter().enumerate().any(|(at, id)| chain[..at].contains(id)) || chain.contains(&thread);
        let parent = chain.last().and_then(|parent| known.get(parent).map(|seen| (*parent, seen)));
        let before = known.get(thread);
        let wrong = if given.is_array() && chain.is_empty() {
            Some(("thread_ancestors is empty; for a root thread it is absent".to_owned(), vec![n]))
        } else if twice {
            Some((format!("thread_ancestors {given} names a thread twice, or the thread itself"), vec![n]))
        } else if let Some((_, first)) = before.filter(|(first, _)| *first != chain) {
            Some((format!("the thread {thread:?} has other ancestors than before: {given}"), vec![*first, n]))
        } else if let Some((parent, (above, first))) = parent
            && (above.len() + 1 != chain.len() || !chain.starts_with(above))
        {
            let why =
                format!("thread_ancestors {given} is not the ancestors of {parent:?} and then {parent:?}");
            Some((why, vec![*first, n]))
        } else {
            None
        };
        known.entry(thread).or_insert((chain, n));
        seen.look(wrong.map(|(why, numbers)| Finding::new("INV-04", why, &numbers)));
    }
    seen
}

/// The first notice of a kind that was sent again, and the one before it, for each notice.
fn repeated<'v, 'a>(
    view: &'v View<'a>,
    kind: &str,
    after: fn(&Message<'a>) -> bool,
) -> Vec<(&'v Message<'a>, Option<&'v Message<'a>>)> {
    let all: Vec<&Message<'_>> = notices(view).filter(|(name, _)| *name == kind).map(|(_, n)| n).collect();
    let alike = |one: &Message<'_>, other: &Message<'_>| {
        one.exchange.url == other.exchange.url && one.body == other.body && one.body.is_ok()
    };
    let is_first = |at: usize| !all[..at].iter().any(|before| alike(before, all[at]));
    (0..all.len())
        .filter(|at| is_first(*at))
        .map(|at| {
            let first = all[at];
            let ended = first.exchange.ended.unwrap_or(0);
            let again = all[at + 1..].iter().find(|n| alike(n, first) && n.exchange.began > ended);
            (first, again.copied().filter(|_| after(first)))
        })
        .collect()
}

fn close_once(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for (first, again) in repeated(view, "close_thread", |first| !first.exchange.taken()) {
        let why = "a close_thread that had failed was sent again; it is sent without retry";
        seen.look(again.map(|again| Finding::new("CLS-01", why, &[first.exchange.n, again.exchange.n])));
    }
    seen
}

fn cancel_once(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for (first, again) in repeated(view, "cancel_tool_call", |_| true) {
        let why = "a cancel_tool_call was sent to the same server twice";
        seen.look(again.map(|again| Finding::new("CAN-01", why, &[first.exchange.n, again.exchange.n])));
    }
    seen
}

fn waits_for_sign_in(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for oauth in callbacks(view).filter(|c| c.string("type") == Some("oauth") && c.exchange.taken()) {
        let ended = oauth.exchange.ended.unwrap_or(u64::MAX);
        let asking = view.invocations_of(&oauth.exchange.url).find(|i| own(i.exchange));
        let Some(asked) = asking.and_then(|i| key(i)) else { continue };
        let again = invocations(view).find(|i| key(i) == Some(asked) && i.exchange.began > ended);
        let why =
            "a call that waits for a sign-in was invoked again; its server retries the operation itself";
        seen.look(again.map(|again| Finding::new("OAU-01", why, &[oauth.exchange.n, again.exchange.n])));
    }
    seen
}
