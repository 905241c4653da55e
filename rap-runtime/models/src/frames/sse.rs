//! Server-sent events, as the HTML standard reads them.

use super::{Broken, Frame, LIMIT, Lines};

/// A stream of events.
#[derive(Debug, Default)]
pub struct Sse {
    lines: Lines,
    begun: bool,
    event: String,
    data: String,
    has_data: bool,
}

impl Sse {
    /// Takes a piece in.
    ///
    /// # Errors
    /// When an event is too large.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Frame>, Broken> {
        let mut lines = Vec::new();
        self.lines.each(piece, |line| lines.push(line))?;
        let mut frames = Vec::new();
        for line in lines {
            frames.extend(self.line(&line));
            if self.data.len() > LIMIT {
                return Err(Broken("an event of the stream is larger than 16 MiB"));
            }
        }
        Ok(frames)
    }

    /// The last event, where no empty line ended it.
    pub fn finish(&mut self) -> Option<Frame> {
        let line = self.lines.rest();
        let ended = if line.is_empty() { None } else { self.line(&line) };
        ended.or_else(|| self.dispatch())
    }

    fn line(&mut self, line: &str) -> Option<Frame> {
        let line = if std::mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix('\u{feff}').unwrap_or(line)
        };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Frame> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        std::mem::take(&mut self.has_data).then_some(Frame { event, data })
    }
}
