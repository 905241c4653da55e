#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "invoke")]
mod caller;
#[cfg(feature = "invoke")]
pub mod catalog;
#[cfg(feature = "invoke")]
mod discover;
#[cfg(feature = "gateway")]
pub mod gateway;

#[cfg(feature = "invoke")]
pub use caller::{CallStatus, Caller, Credentials, Notice, Notified};
#[cfg(feature = "invoke")]
pub use catalog::Catalog;
#[cfg(feature = "invoke")]
pub use discover::{DiscoverError, Discovered, ToolsetCache};
#[cfg(feature = "gateway")]
pub use gateway::{Callback, Capability, Gateway, GatewayService, Inbox, InboxError, KeyRing, Taken};
