//! What holds between an invocation and its callbacks.

use super::{Rule, Seen, View};
use crate::verdict::Finding;
use serde_json::Value;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "rule/group-id-echoed",
    title: "every callback carries the group_id of the invocation whose URL it came to",
    obligations: &["TRN-13"],
    check: group_id_echoed,
}];

fn group_id_echoed(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for callback in &view.callbacks {
        let groups: Vec<&Value> =
            view.invocations_of(&callback.exchange.url).map(|i| i.member("group_id")).collect();
        if groups.is_empty() || callback.member("group_id").is_null() {
            continue;
        }
        let group = callback.member("group_id");
        let wrong = (!groups.contains(&group))
            .then(|| format!("a callback says group_id {group}; the invocation said {}", groups[0]));
        seen.look(wrong.map(|why| Finding::new("TRN-13", why, &[callback.exchange.n])));
    }
    seen
}
