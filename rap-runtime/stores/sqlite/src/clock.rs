//! A clock that was set back while nobody owned the database: what waits is told, in one transaction.

use crate::{accept::accept, fault::Done, rows::thread_id, writer::Write};
use rap_core::{InputBody, InputId, Millis, NewInput};
use rap_types::ThreadId;
use rusqlite::{Connection, params};

/// What clocks differ by without having been set.
const UNSTEADY_MS: i64 = 1_000;

/// By how much the newest time that was written is later than now, if that is worth a word.
pub(crate) fn set_back_by(conn: &Connection, now: Millis) -> Done<Option<i64>> {
    let mut newest = conn.prepare_cached(
        "SELECT max(
            coalesce((SELECT at FROM surface ORDER BY n DESC LIMIT 1), ?1),
            coalesce((SELECT accepted_at FROM inputs ORDER BY seq DESC LIMIT 1), ?1))",
    )?;
    let newest: i64 = newest.query_row([now.0], |row| row.get(0))?;
    let by = newest.saturating_sub(now.0);
    Ok((by >= UNSTEADY_MS).then_some(by))
}

/// See [`Store::clock_starts`](rap_core::Store::clock_starts).
pub(crate) fn starts(write: &mut Write<'_>, now: Millis) -> Done<Option<i64>> {
    let Some(by) = set_back_by(write.conn, now)? else { return Ok(None) };
    write
        .conn
        .prepare_cached("UPDATE outbox SET due_at = due_at - ?2 WHERE due_at > ?1")?
        .execute(params![now.0, by])?;
    for thread in waiting(write.conn)? {
        let id = InputId::clock_set_back(now + by);
        let body = InputBody::ClockSetBack { by };
        accept(write, &NewInput { thread, id, source: "clock".into(), body, traceparent: None }, now)?;
    }
    Ok(Some(by))
}

/// The open threads that are due at some time, or would be if they were not paused.
fn waiting(conn: &Connection) -> Done<Vec<ThreadId>> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM threads WHERE closed = 0 AND (due_at IS NOT NULL OR paused = 1) ORDER BY n",
    )?;
    let mut rows = statement.query([])?;
    let mut threads = Vec::new();
    while let Some(row) = rows.next()? {
        threads.push(thread_id(row.get(0)?)?);
    }
    Ok(threads)
}
