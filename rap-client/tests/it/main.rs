//! What rap-caller promises, held on its public interface.
#![allow(clippy::unwrap_used)]

mod capability;
mod catalog;
mod discover;
mod gateway;
mod invoke;
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
