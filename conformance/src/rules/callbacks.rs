//! What every callback must be, whatever it answers.

use super::{Rule, Seen, View, view::Message};
use crate::{schema, verdict::Finding};
use rap_spec::Role;
use std::collections::HashMap;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/callback-is-json-by-post",
        title: "every callback is a JSON object in UTF-8, posted as application/json",
        obligations: &["TRN-01"],
        role: Role::Server,
        check: json_by_post,
    },
    Rule {
        id: "rule/callback-url-kept",
        title: "every callback goes to a URL that was given, exactly as it was given",
        obligations: &["TRN-07"],
        role: Role::Server,
        check: url_kept,
    },
    Rule {
        id: "rule/callback-conforms",
        title: "every callback conforms to its schema",
        obligations: &["TRN-13"],
        role: Role::Server,
        check: conforms,
    },
    Rule {
        id: "rule/callback-given-up",
        title: "a message that was answered 4xx is not sent again (408, 425 and 429 excepted)",
        obligations: &["TRN-06"],
        role: Role::Server,
        check: given_up,
    },
];

fn json_by_post(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for callback in &view.callbacks {
        let exchange = callback.exchange;
        let media = exchange.header("content-type").unwrap_or_default();
        let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let wrong = if exchange.method != "POST" {
            Some(format!("a callback was sent by {}, not by POST", exchange.method))
        } else if essence != "application/json" {
            Some(format!("a callback has the content type {media:?}, not application/json"))
        } else {
            match &callback.body {
                Err(why) => Some(format!("the body of a callback is {why}")),
                Ok(body) if !body.is_object() => {
                    Some("the body of a callback is JSON, but no object".to_owned())
                }
                Ok(_) => None,
            }
        };
        seen.look(wrong.map(|why| Finding::new("TRN-01", why, &[exchange.n])));
    }
    seen
}

fn url_kept(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for callback in &view.callbacks {
        let url = &callback.exchange.url;
        let given = view.invocations_of(url).next().is_some();
        let wrong =
            (!given).then(|| format!("a message was sent to {url}, which is no callback URL that was given"));
        seen.look(wrong.map(|why| Finding::new("TRN-07", why, &[callback.exchange.n])));
    }
    seen
}

/// Messages that can be read at all; the others are TRN-01's.
fn readable<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = &'v Message<'a>> {
    view.callbacks.iter().filter(|c| c.body.as_ref().is_ok_and(serde_json::Value::is_object))
}

fn conforms(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for callback in readable(view) {
        let Ok(body) = &callback.body else { continue };
        let kind = callback.string("type").unwrap_or_default();
        // A result with neither is RES-02's.
        if kind == "tool_result" && callback.member("text").is_null() && callback.member("content").is_null()
        {
            continue;
        }
        let known = ["tool_result", "subscription_event", "oauth", "user_choice", "view_update"];
        let wrong = if known.contains(&kind) {
            schema::faults(kind, body).map(|why| format!("a {kind} does not conform to its schema, {why}"))
        } else {
            Some(format!("a callback has the type {:?}, which is none of {}", kind, known.join(", ")))
        };
        seen.look(wrong.map(|why| Finding::new("TRN-13", why, &[callback.exchange.n])));
    }
    seen
}

fn given_up(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    let mut refused: HashMap<(&str, &[u8]), u64> = HashMap::new();
    for callback in &view.callbacks {
        let exchange = callback.exchange;
        let key = (exchange.url.as_str(), exchange.body.0.as_ref());
        // Two events may be alike to the byte; a result is one.
        if callback.string("type") != Some("tool_result") {
            continue;
        }
        if let Some(first) = refused.get(&key) {
            let why = "a result that had been answered 4xx was sent again";
            seen.look(Some(Finding::new("TRN-06", why, &[*first, exchange.n])));
        }
        if exchange.status().is_some_and(|s| (400..500).contains(&s) && ![408, 425, 429].contains(&s)) {
            seen.looked_at += 1;
            refused.entry(key).or_insert(exchange.n);
        }
    }
    seen
}
