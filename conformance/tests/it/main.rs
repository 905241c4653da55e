//! The judge's own tests.

mod baseline;
mod sample;
mod watch;
mod writers;
