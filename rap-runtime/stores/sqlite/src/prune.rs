//! What need not be remembered for ever: the events of a subscription, by which a re-sent one is known, are kept for
//! 30 days or as 100,000, whatever is less (P2). Outcomes and messages are known for the life of their thread.

use crate::{fault::Done, writer::Write};
use rap_core::{EVENT_IDS_KEPT, EVENT_IDS_KEPT_MS, Millis};
use rap_types::CallId;
use rusqlite::params;

/// A look at a subscription's events costs a walk over their names, so it is taken once in so many events.
const EVERY: u64 = 1_024;

/// Forgets old events of a subscription that has just got one; now and then, beginning with the first event after
/// the database was opened.
pub(crate) fn events(write: &Write<'_>, thread: i64, call: &CallId, now: Millis) -> Done<()> {
    if !write.shared.count_event().is_multiple_of(EVERY) {
        return Ok(());
    }
    let (from, to) = (format!("event:{call}:"), format!("event:{call};"));
    write
        .conn
        .prepare_cached(
            "DELETE FROM inputs WHERE thread = ?1 AND id > ?2 AND id < ?3
                AND seq NOT IN (SELECT seq FROM inbox WHERE thread = ?1)
                AND (accepted_at < ?4 OR seq <= (SELECT seq FROM inputs
                    WHERE thread = ?1 AND id > ?2 AND id < ?3 ORDER BY seq DESC LIMIT 1 OFFSET ?5))",
        )?
        .execute(params![thread, from, to, now.0 - EVENT_IDS_KEPT_MS, EVENT_IDS_KEPT as i64])?;
    Ok(())
}
