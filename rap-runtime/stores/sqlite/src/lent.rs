//! A thread lent to another process: its owner keeps the file, the epoch, the claims and what is on its way; the
//! other one runs the thread's slices and sends its requests, under the owner's epoch.
//!
//! What the two know in memory is kept apart by one rule: while a thread is lent, only the guest takes its requests
//! out of the outbox, and the guest takes no others. A guest that outlives its owner commits nothing: the next
//! owner's epoch is another.

use crate::{
    fault::Done,
    open, rows,
    shared::{Guest, Shared},
    store::SqliteStore,
};
use rap_core::{Claim, StoreError};
use rap_types::ThreadId;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
};

/// What another process needs to run slices of a claimed thread: to be handed to it, and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lease {
    /// The thread.
    pub thread: ThreadId,
    /// The thread's ancestors, root first: what is stopped or closed there ends this lease.
    pub ancestors: Vec<ThreadId>,
    fence: i64,
    epoch: i64,
    number: i64,
    /// Requests that others have, or may have, in hand.
    busy: Vec<i64>,
}

impl Lease {
    /// The claim that was lent.
    pub fn claim(&self) -> Claim {
        Claim { thread: self.thread.clone(), fence: self.fence }
    }
}

impl SqliteStore {
    /// Lends a claimed thread to another process. The claim stays here and must be kept until the other process
    /// runs no more slices, which [`end_slices`](Self::end_slices) says.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the claim is lost.
    pub async fn lend(&self, claim: &Claim) -> Result<Lease, StoreError> {
        let asked = claim.clone();
        self.read(move |conn, shared| {
            shared.check(&asked)?;
            let thread = rows::find_thread(conn, &asked.thread)?.ok_or(StoreError::Fenced)?;
            Ok(Lease {
                busy: shared.lend(thread.n),
                number: thread.n,
                epoch: shared.epoch,
                fence: asked.fence,
                ancestors: thread.row.ancestors,
                thread: asked.thread,
            })
        })
        .await
    }

    /// The other process runs no more slices and takes no more requests; those that it still `holds` are its own until
    /// [`end_sending`](Self::end_sending). The claim may be given back.
    pub fn end_slices(&self, lease: &Lease, holds: &[i64]) {
        self.shared.end_lending(lease.number, holds);
        self.shared.bump();
    }

    /// The other process is gone: what it held and did not settle is to be sent again.
    pub fn end_sending(&self, holds: &[i64]) {
        let mut under_way = self.shared.under_way();
        holds.iter().for_each(|id| {
            under_way.remove(id);
        });
        drop(under_way);
        self.shared.bump();
    }

    /// Opens a database beside its owner, to run slices of a thread that the owner has [lent](Self::lend).
    ///
    /// Dropping it writes what is still in hand. Only what belongs to the lent thread may be claimed, loaded,
    /// committed and taken here.
    ///
    /// # Errors
    /// When the database cannot be opened, is not of this version, or has another owner by now
    /// ([`StoreError::Fenced`]).
    pub async fn join(path: impl AsRef<Path>, lease: Lease) -> Result<Self, StoreError> {
        Self::open_with(path.as_ref().to_owned(), move |path| {
            let conn = open::guest(&path)?;
            let mut shared = Shared::new(path.display().to_string(), lease.epoch);
            shared.guest = Some(Guest { thread: lease.number, version: AtomicI64::new(-1) });
            shared.claims().adopt(&lease.claim());
            shared.lend_out(&lease.busy);
            if epoch(&conn)? != lease.epoch {
                return Err(StoreError::Fenced.into());
            }
            Self::start(&path, conn, shared, None, 1)
        })
        .await
    }

    /// The requests that are taken here, and those whose settlement is not on the disk yet.
    pub fn in_hand(&self) -> Vec<i64> {
        self.shared.in_hand()
    }
}

fn epoch(conn: &Connection) -> Done<i64> {
    let mut statement = conn.prepare_cached("SELECT value FROM meta WHERE name = 'epoch'")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Remembers the version of the lent thread, where this is a guest.
pub(crate) fn knows(shared: &Shared, version: i64) {
    if let Some(guest) = &shared.guest {
        guest.version.store(version, Ordering::Release);
    }
}

/// Whether nobody fenced the guest off: a new owner, or a stop or close further up.
pub(crate) fn still_mine(conn: &Connection, shared: &Shared) -> Done<()> {
    let Some(guest) = &shared.guest else { return Ok(()) };
    let (version, closed): (i64, bool) = conn
        .prepare_cached("SELECT version, closed FROM threads WHERE n = ?1")?
        .query_row([guest.thread], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let known = guest.version.load(Ordering::Acquire);
    if closed || (known >= 0 && version != known) || epoch(conn)? != shared.epoch {
        return Err(StoreError::Fenced.into());
    }
    Ok(())
}
