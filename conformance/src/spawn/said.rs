//! What a server says beside the protocol: read to its end whatever it is, so that the server never blocks on a
//! full pipe and never writes into a closed one. The last of it is kept, and searched as it comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _},
    task::JoinHandle,
};

/// How much of each stream is kept, in bytes.
const KEPT: usize = 4 * 1024 * 1024;

/// The longest first line, in bytes.
const LONGEST_FIRST: u64 = 64 * 1024;

/// What both streams of a server, and of those that came before it, have said.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// One each, so that what one says cannot tear what the other says.
    pub(super) out: Stream,
    pub(super) err: Stream,
}

impl Said {
    /// The last of both, what is not UTF-8 replaced.
    pub(super) fn text(&self) -> String {
        let (err, out) = (self.err.lock(), self.out.lock());
        String::from_utf8_lossy(&[err.last(), out.last()].concat()).into_owned()
    }

    /// Whether a word was said in what is kept, and from now on in all that comes.
    pub(super) fn has(&self, word: &str) -> bool {
        self.out.has(word) | self.err.has(word)
    }
}

/// What one stream has said.
#[derive(Debug, Clone, Default)]
pub(super) struct Stream(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    /// Words that are searched for, and whether they were found.
    words: Vec<(String, bool)>,
}

impl Heard {
    fn last(&self) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(KEPT)..]
    }

    fn hear(&mut self, piece: &[u8]) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(piece);
        for (word, found) in self.words.iter_mut().filter(|(_, found)| !found) {
            // A word may have begun in the piece before.
            let from = before.saturating_sub(word.len());
            *found = contains(&self.bytes[from..], word.as_bytes());
        }
        // Seldom, since it moves all that is kept.
        if self.bytes.len() > 2 * KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
        }
    }
}

impl Stream {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, word: &str) -> bool {
        let mut heard = self.lock();
        if let Some((_, found)) = heard.words.iter().find(|(known, _)| known == word) {
            return *found;
        }
        let found = contains(&heard.bytes, word.as_bytes());
        heard.words.push((word.to_owned(), found));
        found
    }

    /// Reads on to the end.
    pub(super) fn listen(&self, mut stream: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            let mut piece = vec![0; 16 * 1024];
            loop {
                match stream.read(&mut piece).await {
                    Ok(0) => break,
                    Ok(n) => this.lock().hear(&piece[..n]),
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        })
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    let Some(first) = word.first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| b == first) {
        if rest[at..].starts_with(word) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// The first line, without its end; none where the stream ends before one began.
///
/// # Errors
/// The stream cannot be read.
pub(super) async fn first_line(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = stream.take(LONGEST_FIRST).read_until(b'\n', &mut line).await?;
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_as_it_flows_by_and_where_it_is_torn() {
        let stream = Stream::default();
        assert!(!stream.has("secret"));
        stream.lock().hear(b"\xff sec");
        stream.lock().hear(b"ret \xfe");
        for _ in 0..1000 {
            stream.lock().hear(&[b'x'; 16 * 1024]);
        }
        assert!(stream.has("secret"), "found, though no longer kept");
        assert!(!stream.has("ret \u{fe}"));
        let heard = stream.lock();
        assert!(heard.bytes.len() <= 2 * KEPT && heard.last().len() == KEPT, "{}", heard.bytes.len());
    }

    #[test]
    fn the_last_of_it_is_kept() {
        let said = Said::default();
        for n in 0..600 {
            said.out.lock().hear(format!("{n}:{}\n", "x".repeat(16 * 1024)).as_bytes());
        }
        let text = said.text();
        assert!(text.contains("\n599:") && text.contains("\n400:") && !text.contains("\n100:"));
    }

    #[tokio::test]
    async fn a_first_line_has_an_end() {
        let mut endless = tokio::io::BufReader::new(tokio::io::repeat(b'x'));
        let line = first_line(&mut endless).await.expect("a line").expect("a line");
        assert_eq!(line.len() as u64, LONGEST_FIRST);
        let mut none: &[u8] = b"";
        assert_eq!(first_line(&mut none).await.expect("an end"), None);
    }
}
