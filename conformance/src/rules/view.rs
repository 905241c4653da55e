//! A trace, read: which exchanges are invocations, notices, answers and callbacks, and what belongs together.
//! Read once, for all rules. Callbacks are matched to invocations by their URL, never by what they say.

use crate::{
    http::path_and_query,
    trace::{Exchange, Party},
};
use serde_json::Value;
use std::collections::HashMap;

/// An exchange whose body was read.
#[derive(Debug, Clone)]
pub struct Message<'a> {
    /// The exchange.
    pub exchange: &'a Exchange,
    /// The body, or what is wrong with it.
    pub body: Result<Value, String>,
}

impl Message<'_> {
    /// A member of the body, `null` where there is none.
    pub fn member(&self, name: &str) -> &Value {
        self.body.as_ref().ok().and_then(|b| b.get(name)).unwrap_or(&Value::Null)
    }

    /// A member that is a string.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.member(name).as_str()
    }
}

/// A trace, read.
#[derive(Debug, Default)]
pub struct View<'a> {
    /// Everything.
    pub trace: &'a [Exchange],
    /// Requests with a callback URL.
    pub invocations: Vec<Message<'a>>,
    /// `close_thread`, `cancel_tool_call`, `migrate` and `tool_call_status`, with their names.
    pub notices: Vec<(&'static str, Message<'a>)>,
    /// Whatever the server sent, but to the destination of a migration.
    pub callbacks: Vec<Message<'a>>,
    by_url: HashMap<String, Vec<usize>>,
}

/// The last pieces of the paths of notices.
const NOTICES: [&str; 4] = ["close_thread", "cancel_tool_call", "migrate", "tool_call_status"];

impl<'a> View<'a> {
    /// Reads a trace.
    pub fn of(trace: &'a [Exchange]) -> Self {
        let mut view = Self { trace, ..Self::default() };
        let read = |exchange: &'a Exchange| Message { exchange, body: exchange.body.json() };
        let messages: Vec<Message<'a>> = trace.iter().map(read).collect();
        let destinations: Vec<String> = messages
            .iter()
            .filter(|m| m.exchange.from == Party::Runtime)
            .filter_map(|m| m.string("destination_url").map(str::to_owned))
            .filter(|url| url.len() > "http://".len())
            .collect();
        for message in messages {
            let exchange = message.exchange;
            if exchange.from == Party::Server {
                if !destinations.iter().any(|d| exchange.url.starts_with(d.as_str())) {
                    view.callbacks.push(message);
                }
                continue;
            }
            if exchange.method != "POST" {
                continue;
            }
            let path = path_and_query(&exchange.url);
            let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
            if let Some(url) = message.string("callback_url") {
                view.by_url.entry(url.to_owned()).or_default().push(view.invocations.len());
                view.invocations.push(message);
            } else if let Some(name) = NOTICES.into_iter().find(|n| path.ends_with(&format!("/{n}"))) {
                view.notices.push((name, message));
            }
        }
        view
    }

    /// The invocations that gave a URL.
    pub fn invocations_of(&self, url: &str) -> impl Iterator<Item = &Message<'a>> {
        self.by_url.get(url).into_iter().flatten().map(|at| &self.invocations[*at])
    }

    /// The notices that would cancel the calls that are open at the end of the trace: those without a result, and
    /// those whose result said that a subscription lives.
    pub fn open_calls(&self) -> impl Iterator<Item = Value> {
        let open = move |invocation: &&Message<'a>| {
            let (mut ended, mut lives) = (false, false);
            for callback in self.callbacks_of(invocation) {
                match callback.string("type") {
                    Some("tool_result") => {
                        ended = true;
                        lives |= *callback.member("subscription") == true;
                    }
                    Some("subscription_event") => lives &= *callback.member("final") != true,
                    _ => {}
                }
            }
            let cancelled = self.notices.iter().any(|(name, notice)| {
                *name == "cancel_tool_call"
                    && notice.member("tool_call_id") == invocation.member("id")
                    && notice.member("thread_id") == invocation.member("group_id")
            });
            invocation.exchange.taken() && (!ended || lives) && !cancelled
        };
        self.invocations.iter().filter(open).map(|invocation| {
            let (thread, call) = (invocation.member("group_id"), invocation.member("id"));
            serde_json::json!({ "thread_id": thread, "tool_call_id": call })
        })
    }

    /// The callbacks that came to the URL of an invocation.
    pub fn callbacks_of(&self, invocation: &Message<'a>) -> impl Iterator<Item = &Message<'a>> {
        let url = invocation.string("callback_url").unwrap_or_default().to_owned();
        self.callbacks.iter().filter(move |c| c.exchange.url == url)
    }
}
