//! An invocation as a case makes it, alters it and sends it, and what can be said of its result.

use crate::{
    bench::Bench,
    http::Sent,
    listen::{Arrived, Given, Reaction},
};
use serde_json::{Map, Value};

/// An invocation before it is sent.
#[derive(Debug, Clone)]
#[must_use = "it is not sent yet"]
pub struct Draft {
    pub(crate) bench: Bench,
    /// The message, to be altered at will.
    pub body: Map<String, Value>,
    pub(crate) given: Given,
}

/// An invocation that was sent.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// Its thread.
    pub thread: String,
    /// What was sent.
    pub body: Value,
    /// Its callback URL.
    pub given: Given,
    /// What came of the sending.
    pub sent: Sent,
}

impl Call {
    /// Whether it was acknowledged.
    pub fn acknowledged(&self) -> bool {
        self.sent.status().is_some_and(|s| (200..300).contains(&s))
    }

    /// The messages of a type that have arrived.
    pub fn messages(&self, kind: &str) -> Vec<Arrived> {
        self.given.arrived().into_iter().filter(|a| a.is(kind)).collect()
    }
}

/// The URLs of calls.
pub fn given<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Vec<Given> {
    calls.into_iter().map(|call| call.given.clone()).collect()
}

/// The text of a result: `text`, else the first text of `content`.
pub fn text(result: &Arrived) -> &str {
    let content = result.member("content").as_array().into_iter().flatten();
    let first = content.filter(|part| part["type"] == "text").find_map(|part| part["text"].as_str());
    result.member("text").as_str().or(first).unwrap_or_default()
}

/// Whether a result says that the call failed, in any form.
pub fn failed(result: &Arrived) -> bool {
    let begins = text(result).get(..5).is_some_and(|five| five.eq_ignore_ascii_case("error"));
    begins || result.member("is_error") == true
}

/// A copy of the first result among what has arrived.
pub fn first_result(all: &[Arrived]) -> Option<Arrived> {
    all.iter().find(|a| a.is("tool_result")).cloned()
}

impl Draft {
    /// Sets a member of the message.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a member out.
    pub fn without(mut self, name: &str) -> Self {
        self.body.remove(name);
        self
    }

    /// In this thread.
    pub fn thread(self, thread: &str) -> Self {
        self.with("group_id", thread)
    }

    /// What the callbacks of this call are answered.
    pub fn react(self, reactions: impl IntoIterator<Item = Reaction>) -> Self {
        self.given.react(reactions);
        self
    }

    /// Outcomes go to a URL that another call was given.
    pub fn to(mut self, given: &Given) -> Self {
        self.given = given.clone();
        let url = given.url.clone();
        self.with("callback_url", url)
    }

    /// Sends it and waits for the acknowledgement.
    pub async fn send(self) -> Call {
        let endpoint = self.bench.place().endpoint;
        self.send_to(&endpoint).await
    }

    /// Sends it to another endpoint.
    pub async fn send_to(self, endpoint: &str) -> Call {
        let Self { bench, body, given } = self;
        let body = Value::Object(body);
        let sent = bench.post(endpoint, &body).await;
        let string = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        Call { id: string("id"), thread: string("group_id"), given, sent, body }
    }
}
