//! What rap-caller promises, held on its public interface.
#![cfg(any(feature = "invoke", feature = "gateway"))]
#![allow(clippy::unwrap_used)]

#[cfg(feature = "gateway")]
mod capability;
#[cfg(feature = "invoke")]
mod catalog;
#[cfg(feature = "invoke")]
mod discover;
#[cfg(feature = "gateway")]
mod gateway;
#[cfg(feature = "invoke")]
mod invoke;
#[cfg(feature = "invoke")]
mod peer;

use rap_types::{CallId, HttpUrl, ThreadId};

pub(crate) fn url(text: &str) -> HttpUrl {
    HttpUrl::new(text).unwrap()
}

pub(crate) fn thread(id: &str) -> ThreadId {
    ThreadId::new(id).unwrap()
}

pub(crate) fn call(id: &str) -> CallId {
    CallId::new(id).unwrap()
}
