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

fuzz_target!(|bytes: &[u8]| {
    let [wire, size, stream @ ..] = bytes else { return };
    let wire = Wire::ALL[usize::from(*wire) % Wire::ALL.len()];
    let whole = read(wire, stream, usize::MAX);
    let pieces = read(wire, stream, usize::from(*size).max(1));
    assert_eq!(whole.ok(), pieces.ok(), "the same, however it is cut");
});
