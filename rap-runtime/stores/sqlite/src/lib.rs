#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod accept;
mod bodies;
mod bystander;
mod clock;
mod commit;
mod fault;
mod interact;
mod lent;
mod load;
mod open;
mod outbox;
mod owed;
mod prune;
mod reader;
mod rehearsal;
mod rows;
mod schema;
mod segments;
mod shared;
mod store;
mod subtree;
mod views;
mod writer;

pub use bystander::SqliteReader;
pub use lent::Lease;
pub use store::SqliteStore;
