//! Where an input is two documents: a NUL byte, which no JSON holds, stands between them.

/// What stands before the first NUL, and what follows it.
pub(crate) fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let end = input.iter().position(|b| *b == 0).unwrap_or(input.len());
    let (first, second) = input.split_at(end);
    (first, second.get(1..).unwrap_or_default())
}
