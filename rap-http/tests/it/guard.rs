//! The way in, on an axum router.
