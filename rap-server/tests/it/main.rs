//! The tool server seen from outside: a runtime in memory calls it, or a socket.

#![allow(clippy::unwrap_used)]

mod calls;
