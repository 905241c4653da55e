//! The messages and their validation, through the public interface.

#[cfg(feature = "validate")]
mod bytes;
mod examples;
mod pins;
#[cfg(all(feature = "validate", feature = "schema"))]
mod properties;
#[cfg(feature = "validate")]
mod validate;
#[cfg(feature = "validate")]
mod vectors;
