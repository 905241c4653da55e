//! One binary: histories of every kind against strict checkers, streams cut everywhere, and whole conversations against
//! servers that enforce what each provider publishes.
#![allow(clippy::unwrap_used)]

mod aimock;
mod faults;
mod histories;
mod matrix;
mod plans;
mod pypi;
mod schemas;
mod selection;
mod serve;
mod spoken;
mod streams;
mod strict;
mod switching;
