//! The way out against real sockets.
