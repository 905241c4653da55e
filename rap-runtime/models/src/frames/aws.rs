//! `application/vnd.amazon.eventstream`: length, headers, payload, both checksums held.

use super::{Broken, Frame, LIMIT};

/// Bytes before the headers: total length, length of the headers, checksum of the two.
const PRELUDE: usize = 12;

/// A stream of AWS events.
#[derive(Debug, Default)]
pub struct AwsEvents {
    buffer: Vec<u8>,
}

impl AwsEvents {
    /// Takes a piece in.
    ///
    /// # Errors
    /// When lengths or checksums are wrong.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Frame>, Broken> {
        self.buffer.extend_from_slice(piece);
        let mut frames = Vec::new();
        let mut read = 0;
        while let Some(length) = whole(&self.buffer[read..])? {
            frames.push(message(&self.buffer[read..read + length])?);
            read += length;
        }
        self.buffer.drain(..read);
        Ok(frames)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(four)).ok()
}

fn checked(bytes: &[u8], upto: usize) -> bool {
    number(bytes, upto) == usize::try_from(crc32fast::hash(&bytes[..upto])).ok()
}

/// The length of the message at the front, if all of it is there.
fn whole(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    if bytes.len() < PRELUDE {
        return Ok(None);
    }
    if !checked(bytes, 8) {
        return Err(Broken("the event stream is damaged: a checksum is wrong"));
    }
    let (total, headers) = (number(bytes, 0).unwrap_or(0), number(bytes, 4).unwrap_or(0));
    if !(PRELUDE + 4..=LIMIT).contains(&total) || headers > total - PRELUDE - 4 {
        return Err(Broken("the event stream is damaged: a length is wrong"));
    }
    Ok((bytes.len() >= total).then_some(total))
}

fn message(bytes: &[u8]) -> Result<Frame, Broken> {
    let end = bytes.len() - 4;
    if !checked(bytes, end) {
        return Err(Broken("the event stream is damaged: a checksum is wrong"));
    }
    let payload = PRELUDE + number(bytes, 4).unwrap_or(0);
    let mut headers = &bytes[PRELUDE..payload];
    let (mut kind, mut event) = (String::new(), String::new());
    while !headers.is_empty() {
        let (name, value, rest) = header(headers).ok_or(Broken("the event stream has a damaged header"))?;
        headers = rest;
        match name.as_ref() {
            ":message-type" => kind = value,
            ":event-type" | ":exception-type" | ":error-code" => event = value,
            _ => {}
        }
    }
    if kind == "exception" || kind == "error" {
        event = format!("exception:{event}");
    }
    Ok(Frame { event, data: String::from_utf8_lossy(&bytes[payload..end]).into_owned() })
}

/// A header's name, its value where that is text, and what follows.
fn header(bytes: &[u8]) -> Option<(String, String, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    let (&kind, rest) = rest.split_first()?;
    let fixed = match kind {
        0 | 1 => Some(0),
        2 => Some(1),
        3 => Some(2),
        4 => Some(4),
        5 | 8 => Some(8),
        9 => Some(16),
        _ => None,
    };
    let (value, rest) = match (fixed, kind) {
        (Some(length), _) => rest.split_at_checked(length)?,
        (None, 6 | 7) => {
            let (length, rest) = rest.split_at_checked(2)?;
            rest.split_at_checked(u16::from_be_bytes(length.try_into().ok()?).into())?
        }
        _ => return None,
    };
    let value = if kind == 7 { String::from_utf8_lossy(value).into_owned() } else { String::new() };
    Some((String::from_utf8_lossy(name).into_owned(), value, rest))
}
