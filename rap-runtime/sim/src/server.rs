//! The servers: they work each call once (INV-10), some of them late, wrong or never.

use rap_types::{
    CallId, CallbackMessage, EventId, HttpUrl, SubscriptionEvent, ThreadId, ToolResult, UserChoice,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the tools are called; each behaves as its name says.
pub(crate) const TOOLS: [&str; 10] =
    ["quick", "slow", "failing", "never", "refused", "deaf", "build", "watch", "drop", "ask"];

/// The tool that needs a person's word before it is called.
pub(crate) const DESTRUCTIVE: &str = "drop";
/// The tool that asks a person something before it works.
pub(crate) const ASKING: &str = "ask";

#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) thread: ThreadId,
    pub(crate) tool: String,
    /// How often the work was done: never more than once.
    pub(crate) worked: u32,
    pub(crate) cancelled: bool,
    /// The confirming result was answered 2xx: events may be sent (SUB-01).
    pub(crate) confirmed: bool,
    /// The runtime said that nothing more is wanted.
    pub(crate) gone: bool,
    /// A notice came that the call was cancelled, or its thread closed.
    pub(crate) told: bool,
    /// What a person answered to its question.
    pub(crate) chosen: Option<u64>,
    /// The invocation, as it came first.
    body: Value,
}

#[derive(Debug, Default)]
pub(crate) struct Servers {
    pub(crate) jobs: BTreeMap<CallId, Job>,
    closed: BTreeSet<ThreadId>,
}

/// What an invocation is to a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// A new call.
    New(CallId),
    /// One that it knows.
    Again,
    /// One that it knows, with another content.
    Changed,
}

impl Servers {
    /// Takes an invocation.
    pub(crate) fn receive(&mut self, body: &Value) -> Received {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (Ok(call), Ok(thread)) = (CallId::new(text("id")), ThreadId::new(text("group_id"))) else {
            return Received::Changed;
        };
        if let Some(job) = self.jobs.get(&call) {
            return if job.body == *body { Received::Again } else { Received::Changed };
        }
        let job = Job {
            // A request may be slower than the notice that nobody wants it any more (CLS-04).
            told: self.closed.contains(&thread),
            thread,
            tool: text("operation").to_owned(),
            worked: 0,
            cancelled: false,
            confirmed: false,
            gone: false,
            chosen: None,
            body: body.clone(),
        };
        self.jobs.insert(call.clone(), job);
        Received::New(call)
    }

    /// A call was cancelled; the server stops its work, if it heeds that.
    pub(crate) fn cancel(&mut self, call: &CallId, heeds: bool) {
        if let Some(job) = self.jobs.get_mut(call) {
            job.cancelled |= heeds;
            job.gone = true;
            job.told = true;
        }
    }

    /// A thread was closed.
    pub(crate) fn close(&mut self, thread: &ThreadId, heeds: bool) {
        self.closed.insert(thread.clone());
        let calls: Vec<CallId> =
            self.jobs.iter().filter(|(_, job)| job.thread == *thread).map(|(call, _)| call.clone()).collect();
        calls.iter().for_each(|call| self.cancel(call, heeds));
    }

    /// What a call asks a person before it works.
    pub(crate) fn question(&self, call: &CallId) -> Option<CallbackMessage> {
        let job = self.jobs.get(call)?;
        let url = HttpUrl::new("http://sim/answer").expect("bug: a legal URL");
        let choices = vec!["no".into(), "yes".into()];
        let choice = UserChoice::new(job.thread.clone(), call.clone(), "Go on?", choices, 1_u64, url);
        Some(CallbackMessage::UserChoice(choice.expect("bug: a legal question")))
    }

    /// An answer to a call's question: the first one wins. True: now there is work to do.
    ///
    /// # Errors
    /// It is another answer than the first one (CHO-04).
    pub(crate) fn choose(&mut self, call: &CallId, selected: u64) -> Result<bool, u64> {
        let Some(job) = self.jobs.get_mut(call) else { return Ok(false) };
        match job.chosen {
            None => job.chosen = Some(selected),
            Some(before) if before == selected => return Ok(false),
            Some(before) => return Err(before),
        }
        Ok(true)
    }

    /// The outcome of a call's work, if it has one.
    pub(crate) fn work(&mut self, call: &CallId) -> Option<CallbackMessage> {
        let job = self.jobs.get_mut(call)?;
        if job.cancelled || job.tool == "never" {
            return None;
        }
        job.worked += 1;
        let mut text = format!("<out-{call}>");
        if job.tool == "slow" {
            // More than a tenth of the model's window.
            text.push_str(&", and so on".repeat(30));
        }
        let result = match job.tool.as_str() {
            "failing" => ToolResult::error(job.thread.clone(), call.clone(), text),
            "watch" => ToolResult::text(job.thread.clone(), call.clone(), text).with_subscription(),
            _ => ToolResult::text(job.thread.clone(), call.clone(), text),
        };
        Some(CallbackMessage::ToolResult(result))
    }

    /// The nth event of a subscription, if it still has one to send.
    pub(crate) fn emit(&self, call: &CallId, n: u32, last: u32) -> Option<CallbackMessage> {
        let job = self.jobs.get(call)?;
        if job.cancelled || job.gone || n > last {
            return None;
        }
        let event = SubscriptionEvent::new(job.thread.clone(), call.clone(), format!("<evt-{call}-{n}>"))
            .event_id(EventId::new(format!("{n}")).ok()?)
            .associative(n % 3 == 2)
            .last(n == last);
        Some(CallbackMessage::SubscriptionEvent(event))
    }
}

/// How long a tool works, in milliseconds, by the dice of its call.
pub(crate) fn duration(tool: &str, dice: u64) -> i64 {
    let span = match tool {
        "quick" | "failing" => 1_500,
        "slow" => 90_000,
        "build" => 1_200_000,
        _ => 5_000,
    };
    (dice % span) as i64
}

/// The nth retry of a callback comes after this long: the schedule of more than 75 hours, whose end no outage
/// outlasts.
pub(crate) fn retry_after(attempt: u32) -> i64 {
    const SECOND: i64 = 1_000;
    const HOUR: i64 = 3_600 * SECOND;
    const SCHEDULE: [i64; 17] = [
        SECOND / 4,
        SECOND / 2,
        SECOND,
        2 * SECOND,
        4 * SECOND,
        8 * SECOND,
        15 * SECOND,
        30 * SECOND,
        60 * SECOND,
        300 * SECOND,
        HOUR / 2,
        2 * HOUR,
        5 * HOUR,
        10 * HOUR,
        14 * HOUR,
        20 * HOUR,
        24 * HOUR,
    ];
    SCHEDULE.get(attempt as usize).copied().unwrap_or(24 * HOUR)
}
