//! The judge's own tests.

mod arguments;
mod baseline;
mod budget;
mod cases;
mod cli;
mod credentials;
mod discreet;
mod explain;
mod hostile;
#[cfg(feature = "tls")]
mod https;
mod matrix;
mod program;
mod rehearsal;
mod rules;
mod runtime;
mod sample;
mod strangers;
mod toy;
mod watch;
mod writers;
