//! The local driver.

use crate::Runtime;

impl Runtime {
    /// Drives the runtime until `shutdown` resolves.
    pub async fn run_until(&self, shutdown: impl Future<Output = ()>) {
        shutdown.await;
        self.inner.hub.stop();
    }
}
