#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod auth;
mod catalog;
pub mod fault;
pub mod frames;
mod model;
pub mod plan;
pub mod schema;
mod select;
mod sigv4;
pub mod wire;

pub use auth::{Auth, AwsKeys};
pub use catalog::card;
pub use model::{HttpModel, HttpModelBuilder};
pub use plan::Plan;
pub use select::{Configured, Providers, SelectError};
pub use wire::{ChatDialect, Effort, Wire};
