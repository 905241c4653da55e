//! What the server counts, by the `metrics` facade: whatever recorder the program installed before the server
//! started gets it, and without one it costs next to nothing. Labels are names of tools and kinds of messages,
//! never what a stranger sent.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use std::{collections::HashMap, time::Duration};

/// The handles, made once.
pub(crate) struct Gauges {
    tools: HashMap<String, OfTool>,
    unknown: OfTool,
    pub(crate) open_calls: Gauge,
    pub(crate) refused: Counter,
}

struct OfTool {
    good: Counter,
    failed: Counter,
    seconds: Histogram,
}

impl OfTool {
    fn new(tool: &str) -> Self {
        let of = |outcome: &'static str| counter!("rap_server_calls_total", "tool" => tool.to_owned(), "outcome" => outcome);
        Self {
            good: of("ok"),
            failed: of("error"),
            seconds: histogram!("rap_server_call_duration_seconds", "tool" => tool.to_owned()),
        }
    }
}

impl Gauges {
    pub(crate) fn new<'a>(tools: impl Iterator<Item = &'a str>) -> Self {
        Self {
            tools: tools.map(|tool| (tool.to_owned(), OfTool::new(tool))).collect(),
            unknown: OfTool::new("(unknown)"),
            open_calls: gauge!("rap_server_open_calls"),
            refused: counter!("rap_server_invocations_refused_total"),
        }
    }

    /// A call's function has ended, this long after its invocation.
    pub(crate) fn ended(&self, tool: &str, good: bool, after: Duration) {
        let of = self.tools.get(tool).unwrap_or(&self.unknown);
        if good { &of.good } else { &of.failed }.increment(1);
        of.seconds.record(after.as_secs_f64());
    }
}

/// Attempts to deliver a callback, by what came of them.
pub(crate) fn attempts(outcome: &'static str) -> Counter {
    counter!("rap_server_callback_attempts_total", "outcome" => outcome)
}

/// A callback of this kind was given up.
pub(crate) fn given_up(kind: &'static str) {
    counter!("rap_server_dead_letters_total", "type" => kind).increment(1);
}
