#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod arguments;
pub mod baseline;
pub mod bench;
pub mod call;
pub mod case;
pub mod cases;
pub mod connect;
pub mod credentials;
pub mod discreet;
pub mod explain;
pub mod http;
pub mod listen;
mod nonce;
pub mod plan;
pub mod rendezvous;
pub mod report;
pub mod rules;
pub mod run;
pub mod runner;
pub mod schema;
pub mod spawn;
pub mod toolset;
pub mod trace;
pub mod verdict;
pub mod watch;
pub mod writers;

#[doc(hidden)]
pub mod cli;

pub use run::{Halt, Judged, Options, check, judge};
