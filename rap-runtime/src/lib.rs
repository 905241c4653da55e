#![cfg_attr(feature = "sqlite", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "sqlite"),
    doc = "A durable agent runtime for RAP; its guide needs the feature `sqlite`."
)]
#![forbid(unsafe_code)]

mod api;
mod clock;
mod driver;
mod files;
pub mod guide {
    #![doc = include_str!("../docs/guide.md")]
}
mod host;
mod hub;
mod inbox;
mod letters;
mod memory;
mod model;
mod net;
mod own;
mod remote;
mod runtime;
mod scripted;
mod servers;
mod session;
mod toolsets;
mod watch;

pub use driver::{NOTHING_KNOWN, NothingKnown, nothing_known};
#[cfg(feature = "sqlite")]
pub use driver::{SliceErrand, SliceProcesses};
pub use files::{FilesError, LocalFiles};
pub use host::{
    AgentHost, Asked, HostError, NewSession, Sent, SessionOpened, SessionStatus, ThreadStatus,
    ToolsetProblem, ToolsetProblemKind, Watch, Watched,
};
pub use memory::MemoryStore;
pub use model::{
    CallIds, Delta, IdAlphabet, ModelCard, ModelError, ModelProvider, ReasoningPolicy, Retry, Roles,
};
pub use own::OwnCall;
pub use remote::RemoteHost;
pub use runtime::{Approval, Choices, DEFAULT_SYSTEM_PROMPT, Runtime, RuntimeBuilder, RuntimeError};
pub use scripted::{ScriptError, ScriptedModel};
pub use servers::ServerConfig;

pub use ipnet::IpNet;
pub use rap_client::{KeyRing, gateway::KeyRingError};
pub use rap_core as core;
pub use rap_http::Secret;
#[cfg(feature = "sqlite")]
pub use rap_store_sqlite as sqlite;
