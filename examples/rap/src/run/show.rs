//! What a person sees of a conversation while it goes on: text as it streams, calls, results, events.

use crate::{
    inspect::age,
    output::{BAD, DIM, NAME, Out, paint},
};
use rap_runtime::{
    ToolsetProblem, Watched,
    core::{ServerNews, Surface, SurfaceEvent},
};
use rap_types::{DisplaySegment, ThreadId};
use std::time::Duration;
use tokio::time::Instant;

/// Longer texts of results are shown by their beginning.
const SHOWN: usize = 2_000;

/// How long a turn may take before its text is shown as it streams. Results of calls are committed with the turn
/// that has seen them: in a quick turn they are shown before its text, in a slow one after it.
const PATIENCE: Duration = Duration::from_millis(150);

/// Shows a session.
pub(crate) struct Show<'a> {
    out: &'a Out,
    root: ThreadId,
    /// Text of the root's running turn.
    text: String,
    /// How much of it stands on the screen.
    streamed: usize,
    /// When the text that waits is shown.
    due: Option<Instant>,
    /// What was committed while text stood on an open line.
    held: Vec<SurfaceEvent>,
    last_error: Option<String>,
    /// What was said of the servers when the session began.
    problems: Vec<ToolsetProblem>,
}

impl<'a> Show<'a> {
    pub(crate) fn new(out: &'a Out, root: ThreadId, problems: Vec<ToolsetProblem>) -> Self {
        let (text, held) = (String::new(), Vec::new());
        Self { out, root, text, streamed: 0, due: None, held, last_error: None, problems }
    }

    /// No streamed text waits for its end.
    pub(crate) fn is_at_line_start(&self) -> bool {
        self.streamed == 0
    }

    /// The root failed, and did not go on since.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Done when [`stream`](Self::stream) is due.
    pub(crate) async fn patience(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Shows the text that waits.
    pub(crate) fn stream(&mut self) {
        self.due = None;
        self.out.piece(&self.text[self.streamed..]);
        self.streamed = self.text.len();
    }

    /// Shows one thing.
    pub(crate) fn show(&mut self, watched: &Watched) {
        self.out.record(watched);
        match watched {
            Watched::Committed(event) => {
                let event = &event.event;
                let ends_text = event.thread == self.root && matches!(event.what, Surface::Text { .. });
                if self.streamed > 0 && !ends_text {
                    self.held.push(event.clone());
                    return;
                }
                self.event(event);
                for event in std::mem::take(&mut self.held) {
                    self.event(&event);
                }
            }
            // Texts of children come whole, so that they do not mix with the root's.
            Watched::Chunk { thread, offset, text, .. }
                if *thread == self.root && *offset == self.text.len() =>
            {
                self.text.push_str(text);
                match self.streamed {
                    0 => self.due = self.due.or(Some(Instant::now() + PATIENCE)),
                    _ => self.stream(),
                }
            }
            Watched::Dropped { thread, .. } if *thread == self.root => {
                self.text.clear();
                self.due = None;
                if std::mem::take(&mut self.streamed) > 0 {
                    self.out.line(paint(DIM, "(that was cut off; again)"));
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, event: &SurfaceEvent) {
        let root = event.thread == self.root;
        let out = self.out;
        let say = |word: &str, text: &str| {
            let whose = if root { String::new() } else { format!("[{}] ", short(&event.thread)) };
            out.line(format_args!("{} {}{text}", paint(DIM, format!("{word:>8}")), paint(DIM, whose)));
        };
        match &event.what {
            Surface::Text { text, interrupted } => {
                if root {
                    self.last_error = None;
                    let shown = &self.text[..std::mem::take(&mut self.streamed)];
                    match text.strip_prefix(shown) {
                        Some(rest) => self.out.piece(rest),
                        None => self.out.line(text),
                    }
                    self.out.end_line();
                    self.text.clear();
                    self.due = None;
                } else {
                    say("text", text);
                }
                if *interrupted {
                    self.out.line(paint(DIM, "(interrupted)"));
                }
            }
            Surface::Reasoning { text } => self.out.line(paint(DIM, text)),
            Surface::Call { name, arguments, .. } => {
                say("call", &format!("{} {arguments}", paint(NAME, name)))
            }
            Surface::Result { name, text, display, is_error, late, .. } => {
                let word = match (is_error, late) {
                    (true, _) => "error",
                    (_, true) => "late",
                    _ => "result",
                };
                say(word, &format!("{}: {}", paint(NAME, name), shown(text, display)));
            }
            Surface::Detached { name, .. } => {
                say("later", &format!("{} goes on; its result will come as an event", paint(NAME, name)));
            }
            Surface::Event { name, text, handled_by, .. } => {
                let by = handled_by.as_ref().map(|id| format!(" (thread {} handles it)", short(id)));
                say("event", &format!("{}: {text}{}", paint(NAME, name), by.unwrap_or_default()));
            }
            Surface::Report { child, text } => say("report", &format!("of thread {}: {text}", short(child))),
            Surface::Model { model } => {
                say("model", &format!("{} from here", model.as_deref().unwrap_or("the default one")));
            }
            Surface::Server { news: ServerNews::Problem, text, .. } => {
                // Each is said once, and those of the beginning were said then.
                match self.problems.iter().position(|problem| problem.message == *text) {
                    Some(said) => drop(self.problems.swap_remove(said)),
                    None => self.out.warning(text),
                }
            }
            Surface::Server { text, .. } => self.out.note(text),
            Surface::Unknown { name, age_ms, subscription, reason, .. } => {
                let what = if *subscription { "the subscription of" } else { "the call of" };
                let age = age(*age_ms);
                self.out.note(format_args!(
                    "nothing is known of {what} {name}, which is {age} old: {reason}; it stays open"
                ));
            }
            Surface::Resent { name, .. } => say("again", &format!("{} is sent once more", paint(NAME, name))),
            Surface::Paused => say("stopped", ""),
            Surface::Closed if root => say("closed", ""),
            Surface::Error { text } => {
                if root {
                    self.last_error = Some(text.clone());
                }
                self.out.note(format_args!("{} {text}", paint(BAD, "error:")));
            }
            _ => {}
        }
    }
}

/// What people are shown of a result: the first segment of a kind that a terminal takes (RES-06).
fn shown(text: &str, display: &[DisplaySegment]) -> String {
    let segment = display.iter().find_map(|segment| match segment {
        DisplaySegment::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let text = segment.unwrap_or(text);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}... ({} bytes in all)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Enough of a thread's id to tell it from its siblings.
pub(crate) fn short(thread: &ThreadId) -> &str {
    thread.as_str().get(..6).unwrap_or(thread.as_str())
}
