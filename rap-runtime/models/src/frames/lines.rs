//! Lines, ended by `\n`, `\r\n` or `\r`, whose text is decoded whole, so that no character is broken.

use super::{Broken, Frame, LIMIT};

/// A stream of lines; each that is not empty is a frame.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    after_cr: bool,
}

impl Lines {
    /// Takes a piece in.
    ///
    /// # Errors
    /// When a line is too long.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Frame>, Broken> {
        let mut frames = Vec::new();
        self.each(piece, |line| {
            if !line.trim().is_empty() {
                frames.push(Frame { event: String::new(), data: line });
            }
        })?;
        Ok(frames)
    }

    /// The last line, where nothing ended it.
    pub fn finish(&mut self) -> Option<Frame> {
        let line = self.rest();
        (!line.trim().is_empty()).then(|| Frame { event: String::new(), data: line })
    }

    pub(super) fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.buffer)).into_owned()
    }

    pub(super) fn each(&mut self, piece: &[u8], mut take: impl FnMut(String)) -> Result<(), Broken> {
        for &byte in piece {
            let joins_cr = std::mem::take(&mut self.after_cr) && byte == b'\n';
            if joins_cr {
                continue;
            }
            if byte == b'\n' || byte == b'\r' {
                self.after_cr = byte == b'\r';
                take(self.rest());
                continue;
            }
            if self.buffer.len() >= LIMIT {
                return Err(Broken("a line of the stream is longer than 16 MiB"));
            }
            self.buffer.push(byte);
        }
        Ok(())
    }
}
