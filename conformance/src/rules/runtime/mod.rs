//! What a runtime must be seen to do. These rules look at traffic that passes between strangers: what a case of
//! this judge sent, odd on purpose, says nothing of any runtime and is left out.

mod answers;
mod calls;
mod toolsets;

use super::{Rule, View, view::Message};
use crate::trace::{Exchange, Party};

pub(super) fn rules() -> impl Iterator<Item = &'static Rule> {
    [calls::RULES, toolsets::RULES, answers::RULES].into_iter().flatten()
}

/// Whether a runtime under judgement sent it.
fn own(exchange: &Exchange) -> bool {
    exchange.from == Party::Runtime && exchange.case.is_none()
}

/// The invocations that a runtime sent, in order.
fn invocations<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = &'v Message<'a>> {
    view.invocations.iter().filter(|i| own(i.exchange))
}

/// The notices that a runtime sent, with their names.
fn notices<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = (&'static str, &'v Message<'a>)> {
    view.notices.iter().filter(|(_, n)| own(n.exchange)).map(|(name, n)| (*name, n))
}

/// The callbacks that a runtime was sent at a URL of its own.
fn callbacks<'v, 'a>(view: &'v View<'a>) -> impl Iterator<Item = &'v Message<'a>> {
    view.callbacks.iter().filter(|c| view.invocations_of(&c.exchange.url).any(|i| own(i.exchange)))
}

/// The thread and the id of a call, where both are texts.
fn key<'m>(invocation: &'m Message<'_>) -> Option<(&'m str, &'m str)> {
    Some((invocation.string("group_id")?, invocation.string("id")?))
}
