//! The program `rap`.
fn main() {}
