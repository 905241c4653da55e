//! Any bytes as the stream of any provider, in pieces of any size: no panic, and the same turn however it is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rap_models::Wire;
use rap_runtime::{Delta, ModelError};

fn read(wire: Wire, bytes: &[u8], size: usize) -> Result<Vec<Delta>, ModelError> {
    let mut reader = wire.reader("p:");
    let mut out = Vec::new();
    for piece in bytes.chunks(size) {
        reader.push(piece, &mut out)?;
    }
    reader.end(&mut out)?;
    Ok(out)
}

/// Frames of AWS with right lengths and checksums, which random bytes would never find: what is behind them is to be read
/// too. Each begins with a byte that names its kind and one that is its length.
fn framed(mut bytes: &[u8]) -> Vec<u8> {
    const KINDS: [(&str, &str); 8] = [
        ("event", "messageStart"),
        ("event", "contentBlockStart"),
        ("event", "contentBlockDelta"),
        ("event", "contentBlockStop"),
        ("event", "messageStop"),
        ("event", "metadata"),
        ("exception", "throttlingException"),
        ("event", "new"),
    ];
    let mut out = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        let (payload, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        let (kind, name) = KINDS[usize::from(*kind) % KINDS.len()];
        let mut headers = Vec::new();
        let named = if kind == "exception" { ":exception-type" } else { ":event-type" };
        for (header, value) in [(":message-type", kind), (named, name)] {
            headers.push(u8::try_from(header.len()).unwrap_or(0));
            headers.extend(header.as_bytes());
            headers.push(7);
            headers.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
            headers.extend(value.as_bytes());
        }
        let mut message = Vec::new();
        for length in [16 + headers.len() + payload.len(), headers.len()] {
            message.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
        }
        message.extend(crc32fast::hash(&message).to_be_bytes());
        message.extend(headers);
        message.extend(payload);
        message.extend(crc32fast::hash(&message).to_be_bytes());
        out.extend(message);
    }
    out
}

fuzz_target!(|bytes: &[u8]| {
    let [wire, size, stream @ ..] = bytes else { return };
    // The last number stands for Bedrock's frames made whole.
    let wires = Wire::ALL.len();
    let chosen = usize::from(*wire) % (wires + 1);
    let whole_frames = (chosen == wires).then(|| framed(stream));
    let stream = whole_frames.as_deref().unwrap_or(stream);
    let wire = if chosen == wires { Wire::Bedrock } else { Wire::ALL[chosen] };
    let whole = read(wire, stream, usize::MAX);
    let pieces = read(wire, stream, usize::from(*size).max(1));
    assert_eq!(whole.ok(), pieces.ok(), "the same, however it is cut");
});
