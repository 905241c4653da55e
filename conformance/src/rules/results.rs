//! What every result must be.

use super::{Rule, Seen, View, view::Message};
use crate::verdict::Finding;
use rap_spec::Role;
use serde_json::Value;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/ids-echoed",
        title: "every result echoes id, and call_id when it was given",
        obligations: &["RES-01"],
        role: Role::Server,
        check: ids_echoed,
    },
    Rule {
        id: "rule/text-or-content",
        title: "every result has at least one of text and content",
        obligations: &["RES-02"],
        role: Role::Server,
        check: text_or_content,
    },
    Rule {
        id: "rule/image-after-text",
        title: "an image in content has a text before it, and display_as ends with a text",
        obligations: &["RES-12"],
        role: Role::Server,
        check: image_after_text,
    },
];

fn results<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = &'v Message<'a>> {
    view.callbacks.iter().filter(|c| c.string("type") == Some("tool_result"))
}

fn ids_echoed(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for result in results(view) {
        let invocations: Vec<&Message<'_>> = view.invocations_of(&result.exchange.url).collect();
        let Some(first) = invocations.first() else { continue };
        let echoes = |name: &str| invocations.iter().any(|i| i.member(name) == result.member(name));
        // Without one given, a second id of the server's own harms nobody.
        let given = |name: &str| !first.member(name).is_null();
        for name in ["id", "call_id"] {
            let wrong = (given(name) && !echoes(name)).then(|| {
                let (sent, got) = (first.member(name), result.member(name));
                format!("an invocation said {name} {sent}, and its result says {got}")
            });
            seen.look(wrong.map(|why| Finding::new("RES-01", why, &[first.exchange.n, result.exchange.n])));
        }
    }
    seen
}

fn text_or_content(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for result in results(view) {
        let wrong = result.member("text").is_null() && result.member("content").is_null();
        let why = "a result has neither text nor content";
        seen.look(wrong.then(|| Finding::new("RES-02", why, &[result.exchange.n])));
    }
    seen
}

/// What is wrong with the place of an image in a content.
pub(crate) fn image_before_text(content: &[Value]) -> Option<String> {
    let image = content.iter().position(|part| part["type"] == "image")?;
    let text = content.iter().position(|part| part["type"] == "text");
    (text.is_none_or(|text| text > image)).then(|| "an image in content has no text before it".to_owned())
}

fn image_after_text(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for result in results(view) {
        if let Some(content) = result.member("content").as_array() {
            let wrong = image_before_text(content);
            seen.look(wrong.map(|why| Finding::new("RES-12", why, &[result.exchange.n])));
        }
        if let Some(last) = result.member("display_as").as_array().and_then(|all| all.last()) {
            let why = "display_as does not end with a text";
            let wrong = (last["type"] != "text").then(|| Finding::new("RES-12", why, &[result.exchange.n]));
            seen.look(wrong);
        }
    }
    seen
}
