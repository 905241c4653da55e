//! The only way in which this program writes: data to stdout, all else to stderr, colour only on a terminal,
//! and a progress line that never gets between them.

mod defuse;
mod progress;
mod style;

pub(crate) use style::{BAD, DIM, GOOD, NAME, paint};

use crate::failure::Failure;
use defuse::defuse;
use progress::Progress;
use serde::Serialize;
use std::{
    fmt::Display,
    io::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Where the program writes.
#[derive(Debug)]
pub(crate) struct Out {
    json: bool,
    progress: Progress,
    /// Text of a stream stands on the line that is being written.
    open_line: Mutex<bool>,
    /// Why data could not be written, if so.
    broken: Mutex<Option<String>>,
}

impl Out {
    /// An output for people, or, with `json`, for scripts.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, progress: Progress::new(json), open_line: Mutex::new(false), broken: Mutex::default() }
    }

    /// Whether a script reads.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of data for people; nothing where a script reads.
    pub(crate) fn line(&self, text: impl Display) {
        if self.json {
            return;
        }
        let _line = self.begin();
        let mut out = anstream::stdout().lock();
        self.wrote(writeln!(out, "{}", defuse(&text.to_string())).and_then(|()| out.flush()));
    }

    /// Remembers that data could not be written. Whoever closed the pipe knows that: it is no failure.
    fn wrote(&self, written: std::io::Result<()>) {
        if let Err(error) = written
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            lock(&self.broken).get_or_insert_with(|| error.to_string());
        }
    }

    /// The failure of a command whose data could not be written.
    pub(crate) fn written(&self) -> Result<(), Failure> {
        match lock(&self.broken).take() {
            Some(why) => Err(Failure::new(format!("the output cannot be written: {why}"))
                .hint("make room where stdout goes, and run it again")),
            None => Ok(()),
        }
    }

    /// A piece of a line, for text that is streamed. The next line begins a new one.
    pub(crate) fn piece(&self, text: &str) {
        if self.json || text.is_empty() {
            return;
        }
        let _paused = self.progress.pause();
        let mut open = lock(&self.open_line);
        let mut out = anstream::stdout().lock();
        self.wrote(write!(out, "{}", defuse(text)).and_then(|()| out.flush()));
        *open = !text.ends_with('\n');
    }

    /// Ends the line of pieces, if one is open.
    pub(crate) fn end_line(&self) {
        drop(self.begin());
    }

    /// A line of JSON for scripts; nothing where a person reads.
    pub(crate) fn record(&self, value: &impl Serialize) {
        if !self.json {
            return;
        }
        let mut out = std::io::stdout().lock();
        if let Ok(text) = serde_json::to_string(value) {
            self.wrote(writeln!(out, "{text}").and_then(|()| out.flush()));
        }
    }

    /// A line to stderr: what a person may want to know, and no script reads.
    pub(crate) fn note(&self, text: impl Display) {
        let _line = self.begin();
        let _ = writeln!(anstream::stderr().lock(), "{}", defuse(&text.to_string()));
    }

    /// A warning: something is wrong, and the command goes on.
    pub(crate) fn warning(&self, text: impl Display) {
        self.note(format_args!("{} {text}", paint(style::WARNING, "warning:")));
    }

    /// Why the command ends.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            let record = serde_json::json!({"error": failure.message(), "hint": failure.as_hint()});
            let _ = writeln!(std::io::stderr().lock(), "{record}");
            return;
        }
        self.note(format_args!("{} {}", paint(BAD, "error:"), failure.message()));
        if let Some(hint) = failure.as_hint() {
            self.note(format_args!("{} {hint}", paint(NAME, "hint:")));
        }
    }

    /// Shows, on a terminal, that something is waited for, until the guard is dropped.
    pub(crate) fn waiting(&self, text: impl Into<String>) -> progress::Waiting<'_> {
        self.progress.show(text.into())
    }

    /// Makes room for a line of its own; while the guard lives, nothing else is written.
    fn begin(&self) -> impl Sized + use<'_> {
        let paused = self.progress.pause();
        let mut open = lock(&self.open_line);
        if std::mem::take(&mut *open) {
            let _ = writeln!(anstream::stdout().lock());
        }
        (open, paused)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
