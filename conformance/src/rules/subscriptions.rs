//! Events: after their result, never after the end. Order is that of ticks, in which an answer counts from before
//! it left the judge.

use super::{Rule, Seen, View, view::Message};
use crate::verdict::Finding;
use rap_spec::Role;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/event-after-result",
        title: "no event is sent before the result with subscription: true has been answered 2xx",
        obligations: &["SUB-01"],
        role: Role::Server,
        check: after_result,
    },
    Rule {
        id: "rule/event-names-the-call",
        title: "every event names the call whose URL it came to",
        obligations: &["TRN-13"],
        role: Role::Server,
        check: names_the_call,
    },
    Rule {
        id: "rule/no-event-after-final",
        title: "no event follows a final one",
        obligations: &["SUB-07"],
        role: Role::Server,
        check: after_final,
    },
];

fn events<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = &'v Message<'a>> {
    view.callbacks.iter().filter(|c| c.string("type") == Some("subscription_event"))
}

fn after_result(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for event in events(view) {
        let Some(invocation) = view.invocations_of(&event.exchange.url).next() else { continue };
        let answered = view.callbacks_of(invocation).any(|c| {
            c.string("type") == Some("tool_result")
                && c.member("subscription") == true
                && c.exchange.taken()
                && c.exchange.ended.is_some_and(|ended| ended < event.exchange.began)
        });
        let why = "an event was sent before a result with subscription: true had been answered 2xx";
        let numbers = [invocation.exchange.n, event.exchange.n];
        seen.look((!answered).then(|| Finding::new("SUB-01", why, &numbers)));
    }
    seen
}

fn names_the_call(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for event in events(view) {
        let Some(invocation) = view.invocations_of(&event.exchange.url).next() else { continue };
        let (id, named) = (invocation.member("id"), event.member("tool_call_id"));
        let wrong = (id != named && !named.is_null()).then(|| {
            let why = format!("an event says tool_call_id {named}; the subscribing call was {id}");
            Finding::new("TRN-13", why, &[invocation.exchange.n, event.exchange.n])
        });
        seen.look(wrong);
    }
    seen
}

fn after_final(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for last in events(view).filter(|e| e.member("final") == true && e.exchange.taken()) {
        let Some(invocation) = view.invocations_of(&last.exchange.url).next() else { continue };
        let ended = last.exchange.ended.unwrap_or(u64::MAX);
        // The final one again, to the byte, is a repeat of its delivery.
        let after = view.callbacks_of(invocation).find(|c| {
            c.string("type") == Some("subscription_event")
                && c.exchange.began > ended
                && c.exchange.body != last.exchange.body
        });
        let why = "an event was sent after the final one had been taken";
        seen.look(after.map(|c| Finding::new("SUB-07", why, &[last.exchange.n, c.exchange.n])));
    }
    seen
}
