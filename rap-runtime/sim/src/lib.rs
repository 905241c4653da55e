//! The simulation: the pure decisions with a simulated store, network, servers, clock and model.
//!
//! One seed makes one run: what the model says, how long everything takes, what the network loses, doubles
//! and reorders, what people say and when, when histories are summarised, when the store fails, the clock jumps or the
//! toolbox changes, and when the runtime is killed, for a moment or for days. Everything is decided by the seed, so a run that fails is
//! a run that can be looked at again. Beside the random worlds stands the [`reference()`] scenario, which is killed
//! before, during and after each of its writes, sends and completions. The promises of the runtime are checked while it runs
//! and when it has come to rest; each check is shown to be able to fail by a fault that it catches
//! ([`Fault`]).

mod checks;
mod fault;
mod model;
mod network;
mod reference;
mod server;
mod world;

pub use checks::Violation;
pub use fault::Fault;
pub use reference::{Enumerated, reference};
pub use world::{Report, run};
