//! The runtime with real parts: real tool servers, real HTTP, a store. Nothing here sleeps to wait for something:
//! it watches, with a deadline.
#![allow(clippy::unwrap_used)]

mod alive;
mod api;
mod approvals;
mod compaction;
mod credentials;
mod drivers;
mod failures;
mod gateway;
mod hooks;
mod letters;
mod limits;
mod live;
mod memory;
mod models;
mod own;
mod paid;
mod peer;
#[cfg(feature = "sqlite")]
mod restart;
mod round_trip;
mod scripted;
mod sessions;
#[cfg(feature = "sqlite")]
mod slices;
mod trace;
mod watching;
mod words;
mod world;
