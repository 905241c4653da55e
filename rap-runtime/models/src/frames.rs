//! Bytes to frames: server-sent events, lines of JSON, AWS event streams. Pure: bytes in, in pieces of any size, frames
//! out; what is not finished waits for more, within a limit.

mod aws;
mod lines;
mod sse;

pub use aws::AwsEvents;
pub use lines::Lines;
pub use sse::Sse;

/// The largest frame, in bytes.
pub(crate) const LIMIT: usize = 16 << 20;

/// One frame of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// Its kind, where the stream names one. AWS exceptions are `exception:NAME`.
    pub event: String,
    /// What it carries.
    pub data: String,
}

/// A stream that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// One of the framings.
#[derive(Debug)]
pub enum Framing {
    /// Server-sent events.
    Sse(Sse),
    /// Lines of JSON.
    Lines(Lines),
    /// `application/vnd.amazon.eventstream`.
    Aws(AwsEvents),
}

impl Framing {
    /// Takes a piece in and gives the frames that are whole.
    ///
    /// # Errors
    /// When the stream is not of this framing, or a frame is larger than 16 MiB.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Frame>, Broken> {
        match self {
            Self::Sse(sse) => sse.push(piece),
            Self::Lines(lines) => lines.push(piece),
            Self::Aws(events) => events.push(piece),
        }
    }

    /// What stands whole at the end of the stream without its closing mark. A frame of AWS has none.
    pub fn finish(&mut self) -> Option<Frame> {
        match self {
            Self::Sse(sse) => sse.finish(),
            Self::Lines(lines) => lines.finish(),
            Self::Aws(_) => None,
        }
    }
}
