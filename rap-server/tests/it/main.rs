//! The tool server seen from outside: a runtime in memory calls it, or a socket.

mod calls;
