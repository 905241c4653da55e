//! What a task of the driver has taken from the store. A task that ends gives it back itself; one that is cut off, with
//! the driver that was dropped or by a panic, leaves that to its last breath: a store whose process lives on would else
//! keep it for nobody.

use crate::{Runtime, clock};
use rap_core::{Claim, Settlement, StoreError};
#[cfg(feature = "sqlite")]
use rap_store_sqlite::{Lease, SqliteStore};
use rap_types::ThreadId;
#[cfg(feature = "sqlite")]
use std::sync::Arc;
use tokio::runtime::Handle;

/// Something taken.
#[derive(Debug)]
pub(super) enum Taken {
    /// A thread.
    Claim(Claim),
    /// A request of the outbox.
    Delivery(i64),
    /// The summarising of a thread's history.
    Compaction(ThreadId),
    /// A thread that is lent to another process, which is gone when this is given back, and its claim.
    #[cfg(feature = "sqlite")]
    Lent(Arc<SqliteStore>, Box<Lease>),
    /// Requests that another process, which is gone when this is given back, was sending.
    #[cfg(feature = "sqlite")]
    Elsewhere(Arc<SqliteStore>, Vec<i64>),
}

/// Holds what was taken until the task has given it back.
pub(super) struct Held {
    runtime: Runtime,
    handle: Handle,
    taken: Option<Taken>,
}

impl Held {
    pub(super) fn new(runtime: &Runtime, taken: Taken) -> Self {
        Self { runtime: runtime.clone(), handle: Handle::current(), taken: Some(taken) }
    }

    /// It is held no more.
    pub(super) fn given_back(mut self) {
        self.taken = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        let runtime = self.runtime.clone();
        // Where the process ends, this is not run, and its successor finds nothing taken.
        self.handle.spawn(async move {
            if let Err(error) = give_back(&runtime, taken).await {
                tracing::error!(%error, "what a task left behind could not be given back; the next start takes it up");
            }
            runtime.inner.hub.ring();
        });
    }
}

async fn give_back(runtime: &Runtime, taken: Taken) -> Result<(), StoreError> {
    let (store, now) = (&runtime.inner.store, clock::now());
    match taken {
        Taken::Claim(claim) => store.release(claim).await,
        Taken::Delivery(id) => store.settle(id, Settlement::RetryAt(now), now).await,
        Taken::Compaction(thread) => store.release_compaction(&thread).await,
        #[cfg(feature = "sqlite")]
        Taken::Lent(lender, lease) => {
            lender.slices_lost(&lease).await?;
            store.release(lease.claim()).await
        }
        #[cfg(feature = "sqlite")]
        Taken::Elsewhere(lender, requests) => lender.end_sending(&requests).await,
    }
}
