//! What the runtime serves over HTTP: the gateway, and the API that a remote host talks to.

use crate::Runtime;
use axum::Router;

impl Runtime {
    /// The callback gateway, to be served where the public URL points.
    pub fn gateway(&self) -> Router {
        self.callbacks().into_router()
    }
}
