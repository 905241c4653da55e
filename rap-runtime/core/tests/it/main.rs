//! The decisions as data: messages in, effects out, on a store in memory and a clock that tests move.

#![allow(clippy::unwrap_used)]

mod approvals;
mod builtins;
mod choosing;
mod clock;
mod compaction;
mod documents;
mod interactions;
mod own;
mod refreshing;
mod replay;
mod situations;
mod strict;
mod subscriptions;
mod traps;
mod waiting;
mod walk;
mod world;
