//! The judge's own tests.

mod arguments;
mod baseline;
mod cases;
mod matrix;
mod rehearsal;
mod rules;
mod sample;
mod watch;
mod writers;
