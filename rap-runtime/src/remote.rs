//! A runtime behind HTTP.
