//! The lines of an output, read so that neither a character that comes in two pieces nor a line that never ends
//! does harm.

use std::io;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line that is told, in bytes; the rest of a longer one is left out.
const LONGEST: usize = 2000;

/// The most bytes that one character takes.
const CHARACTER: usize = 4;

/// Reads lines, whatever bytes they are made of.
pub(crate) struct Lines<R> {
    input: BufReader<R>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input: BufReader::new(input) }
    }

    /// The next line, without its end; none where there are no more.
    pub(crate) async fn next(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let mut begun = false;
        loop {
            let piece = self.input.fill_buf().await?;
            if piece.is_empty() {
                return Ok(begun.then(|| text(&line)));
            }
            begun = true;
            let end = piece.iter().position(|byte| *byte == b'\n');
            let length = end.unwrap_or(piece.len());
            // The last character is kept whole, and cut off as one.
            let room = LONGEST + CHARACTER - line.len();
            line.extend_from_slice(&piece[..length.min(room)]);
            self.input.consume(length + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(text(&line)));
            }
        }
    }
}

/// Decoded when it is whole.
fn text(line: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(line).into_owned();
    text.truncate(text.floor_char_boundary(LONGEST));
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    /// The lines of what comes in pieces of so many bytes.
    async fn lines(bytes: &[u8], piece: usize) -> Vec<String> {
        let (mut writer, reader) = tokio::io::duplex(piece);
        let written = async {
            writer.write_all(bytes).await.unwrap();
            drop(writer);
        };
        let read = async {
            let (mut lines, mut seen) = (Lines::new(reader), Vec::new());
            while let Some(line) = lines.next().await.unwrap() {
                seen.push(line);
            }
            seen
        };
        tokio::join!(written, read).1
    }

    /// Characters of several bytes that come byte by byte are whole; what is no text is told as such; a last line
    /// needs no end.
    #[tokio::test]
    async fn pieces() {
        let bytes = "FAIL ⊘ two\r\n\n漢字 🦀\nFAIL \u{fffd}\nlast".replace('\u{fffd}', "\0").into_bytes();
        let bytes: Vec<u8> = bytes.into_iter().map(|byte| if byte == 0 { 0xff } else { byte }).collect();
        for piece in [1, 2, 3, 5, 4096] {
            let expected = ["FAIL ⊘ two", "", "漢字 🦀", "FAIL \u{fffd}", "last"];
            assert_eq!(lines(&bytes, piece).await, expected, "in pieces of {piece}");
        }
    }

    /// A line without an end is told by its beginning, cut between two characters, and the next one is whole.
    #[tokio::test]
    async fn endless() {
        let mut bytes = "x".to_owned();
        bytes.push_str(&"⊘".repeat(1_000_000));
        bytes.push_str("\nnext\n");
        let got = lines(bytes.as_bytes(), 4096).await;
        assert_eq!((got.len(), got[1].as_str()), (2, "next"));
        assert_eq!(got[0], format!("x{}", "⊘".repeat(666)));
    }
}
