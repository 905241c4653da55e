//! The messages and their validation, through the public interface.

#[cfg(feature = "validate")]
mod validate;
#[cfg(feature = "validate")]
mod vectors;
