//! What rap-http promises, held on its public interface.
#![allow(clippy::unwrap_used)]

mod client;
mod connections;
mod delivery;
mod guard;
mod listen;
mod outage;
mod policy;
mod serve;
mod small;
#[cfg(feature = "tls")]
mod tls;
