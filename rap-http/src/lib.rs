#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod alarm;
pub mod client;
pub mod delivery;
pub mod guard;
pub mod listen;
pub mod policy;
pub mod problem;
mod secret;
pub mod serve;
mod trace;
pub mod webhooks;

pub use client::{ClientError, GuardedClient, Reply};
pub use delivery::{Attempt, GiveUp, Origins, Traffic, Verdict, judge};
pub use guard::Guard;
pub use listen::{Auth, ListenError, Listener};
pub use policy::{AddressPolicy, Refusal};
pub use problem::Problem;
pub use secret::{Secret, TokenError};
pub use serve::Serving;
pub use trace::TraceContext;
