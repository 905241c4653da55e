//! The decisions as data: messages in, effects out, on a store in memory and a clock that tests move.

#![allow(clippy::unwrap_used)]

mod builtins;
mod interactions;
mod replay;
mod situations;
mod strict;
mod waiting;
mod world;
