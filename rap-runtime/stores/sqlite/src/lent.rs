//! A thread lent to another process: its owner keeps the file, the epoch, the claims and what is on its way; the
//! other one runs the thread's slices and sends its requests, under the owner's epoch.
//!
//! What the two know in memory is kept apart by one rule: a request is the guest's if the guest has put it into the
//! outbox and has not left it to the owner, and else the owner's. So what stood there before, what the owner adds meanwhile
//! (a person's answer, say) and what has to be tried again is sent by the owner while the guest is at its completion. A guest
//! that outlives its owner commits nothing: the next owner's epoch is another. Of one that is gone without a word nobody
//! knows what it had sent: all that was its own counts as begun.

use crate::{
    fault::Done,
    open, outbox, rows,
    shared::{Guest, Shared},
    store::SqliteStore,
};
use rap_core::{Claim, StoreError};
use rap_types::ThreadId;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::atomic::Ordering};

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
}

impl Lease {
    /// The claim that was lent.
    pub fn claim(&self) -> Claim {
        Claim { thread: self.thread.clone(), fence: self.fence }
    }
}

/// Nothing is lent where that is given up half-way.
struct Lending<'a> {
    shared: &'a Shared,
    lease: &'a Lease,
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        self.shared.end_lending(self.lease.number, self.lease.fence, &[]);
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
        let lease = self.read(move |conn, shared| {
            shared.check(&asked)?;
            let thread = rows::find_thread(conn, &asked.thread)?.ok_or(StoreError::Fenced)?;
            Ok(Lease {
                number: thread.n,
                epoch: shared.epoch,
                fence: asked.fence,
                ancestors: thread.row.ancestors,
                thread: asked.thread,
            })
        });
        let lease = lease.await?;
        self.shared.lend(lease.number, lease.fence);
        let lending = Lending { shared: &self.shared, lease: &lease };
        // Looked up after it is lent, and nothing is missed: what is written from then on is known for its writer's.
        let number = lease.number;
        let there = self.read(move |conn, _| {
            let mut statement = conn.prepare_cached("SELECT id FROM outbox WHERE thread = ?1")?;
            let ids = statement.query_map([number], |row| row.get(0))?;
            Ok(ids.collect::<Result<Vec<i64>, _>>()?)
        });
        let there = there.await?;
        std::mem::forget(lending);
        self.leaves(&lease, &there);
        Ok(lease)
    }

    /// The other process leaves these of its requests to this one: what it has [left](Self::leave).
    pub fn leaves(&self, lease: &Lease, requests: &[i64]) {
        self.shared.stays(lease.number, lease.fence, requests);
        self.shared.bump();
    }

    /// The other process runs no more slices and takes no more requests; those that it still `holds` are its own until
    /// [`end_sending`](Self::end_sending). The claim may be given back.
    pub fn end_slices(&self, lease: &Lease, holds: &[i64]) {
        self.shared.end_lending(lease.number, lease.fence, holds);
        self.shared.bump();
    }

    /// The other process is gone without a word, and its slices with it: whatever it may have been sending counts as
    /// begun, durably, before it is sent again (P10, CAN-01). The claim may be given back.
    ///
    /// # Errors
    /// When that cannot be written: then the thread is still lent. To be tried again.
    pub async fn slices_lost(&self, lease: &Lease) -> Result<(), StoreError> {
        let (thread, fence) = (lease.number, lease.fence);
        self.write(move |write| {
            let theirs = outbox::lent_out(write.conn, write.shared, thread, fence)?;
            outbox::may_be_begun(write, &theirs)
        })
        .await?;
        self.end_slices(lease, &[]);
        Ok(())
    }

    /// The other process is gone: what it held and did not settle counts as begun, durably, and is to be sent again (P10,
    /// CAN-01).
    ///
    /// # Errors
    /// When that cannot be written: then it is still held. To be tried again.
    pub async fn end_sending(&self, holds: &[i64]) -> Result<(), StoreError> {
        if holds.is_empty() {
            return Ok(());
        }
        let asked = holds.to_vec();
        let unsettled = self.read_here(move |conn, _| {
            let mut statement = conn.prepare_cached("SELECT 1 FROM outbox WHERE id = ?1 AND begun = 0")?;
            let mut left = Vec::new();
            for id in asked {
                if statement.exists([id])? {
                    left.push(id);
                }
            }
            Ok(left)
        });
        let unsettled = unsettled.await?;
        if !unsettled.is_empty() {
            self.write(move |write| outbox::may_be_begun(write, &unsettled)).await?;
        }
        self.shared.end_holding(holds);
        self.shared.bump();
        Ok(())
    }

    /// Opens a database beside its owner, to run slices of a thread that the owner has [lent](Self::lend).
    ///
    /// Dropping it writes what is still in hand. Only what belongs to the lent thread may be claimed, loaded and committed
    /// here, and only what is put into the outbox here can be taken.
    ///
    /// # Errors
    /// When the database cannot be opened, is not of this version, or has another owner by now
    /// ([`StoreError::Fenced`]).
    pub async fn join(path: impl AsRef<Path>, lease: Lease) -> Result<Self, StoreError> {
        Self::open_with(path.as_ref().to_owned(), move |path| {
            let conn = open::guest(&path)?;
            let mut shared = Shared::new(path.display().to_string(), lease.epoch);
            shared.guest = Some(Guest::new(lease.number));
            shared.claims().adopt(&lease.claim());
            if epoch(&conn)? != lease.epoch {
                return Err(StoreError::Fenced.into());
            }
            Self::start(&path, conn, shared, None, 1)
        })
        .await
    }

    /// Leaves to the owner of the database what was put into the outbox here and is not in hand: what is to be tried again,
    /// waits for something else, or was not taken. To be told to it ([`leaves`](Self::leaves)); empty where this process is
    /// the owner.
    pub fn leave(&self) -> Vec<i64> {
        self.shared.leave()
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
