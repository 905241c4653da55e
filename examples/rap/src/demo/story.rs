//! The demo's story: timed lines for people, and the same as JSON lines for scripts.

use crate::output::{DIM, NAME, Out, paint};
use serde_json::{Map, Value};
use std::{fmt::Display, time::Instant};

/// A story that is being told.
#[derive(Debug)]
pub(crate) struct Story<'a> {
    out: &'a Out,
    began: Instant,
}

impl<'a> Story<'a> {
    pub(crate) fn new(out: &'a Out) -> Self {
        Self { out, began: Instant::now() }
    }

    /// Something happened: who did it, what, and for scripts a word for the step with its data.
    pub(crate) fn tell(&self, who: &str, text: impl Display, step: &str, data: Value) {
        let elapsed = self.began.elapsed();
        let seconds = format!("{:7.2} s", elapsed.as_secs_f64());
        self.out.line(format_args!("{}  {}  {text}", paint(DIM, seconds), paint(NAME, format!("{who:<13}"))));
        let mut record = Map::new();
        record.insert("who".into(), who.into());
        record.insert("text".into(), text.to_string().into());
        if let Value::Object(data) = data {
            record.extend(data);
        }
        self.record(step, record.into());
    }

    /// A step for scripts alone.
    pub(crate) fn record(&self, step: &str, data: Value) {
        let mut record = Map::new();
        let elapsed = self.began.elapsed().as_millis();
        record.insert("at_ms".into(), u64::try_from(elapsed).unwrap_or(u64::MAX).into());
        record.insert("step".into(), step.into());
        if let Value::Object(data) = data {
            record.extend(data);
        }
        self.out.record(&record);
    }

    /// A line that belongs to the one before.
    pub(crate) fn detail(&self, text: impl Display) {
        self.out.line(format_args!("{:26}{text}", ""));
    }

    /// A chapter begins.
    pub(crate) fn chapter(&self, title: &str) {
        self.out.line("");
        self.out.line(paint(anstyle::Style::new().bold(), title));
    }

    /// What is waited for, on a terminal.
    pub(crate) fn waiting(&self, text: &str) -> impl Drop + use<'_> {
        self.out.waiting(text)
    }
}
