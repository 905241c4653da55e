//! What reaches beyond the thread of a slice: stop, its lifting, close, and the calls that end with them.

use crate::{
    accept::{bury_input, fewer, show, shown},
    commit::send,
    fault::{Done, json},
    outbox::may_have_been_sent,
    rows::{OPEN, thread_id},
    writer::Write,
};
use rap_core::{DeliveryKind, Millis, NewDelivery, Surface, Toolbox};
use rap_types::{CallId, CancelToolCall, CloseThread, HttpUrl, ThreadId};
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

/// The open threads of a subtree, parents before children.
fn subtree(write: &Write<'_>, root: i64) -> Done<Vec<(i64, ThreadId, i64)>> {
    let mut statement = write.conn.prepare_cached(
        "WITH RECURSIVE below (n) AS
            (SELECT ?1 UNION ALL SELECT t.n FROM threads t JOIN below b ON t.parent = b.n WHERE t.closed = 0)
        SELECT t.n, t.id, t.session FROM threads t JOIN below b ON t.n = b.n WHERE t.closed = 0 ORDER BY t.n",
    )?;
    let mut rows = statement.query([root])?;
    let mut threads = Vec::new();
    while let Some(row) = rows.next()? {
        threads.push((row.get(0)?, thread_id(row.get(1)?)?, row.get(2)?));
    }
    Ok(threads)
}

/// Pauses a thread and its open descendants. A slice that runs in a descendant loses its turn.
pub(crate) fn pause(write: &mut Write<'_>, root: i64, stopped_by: Option<i64>, now: Millis) -> Done<()> {
    for (n, id, _) in subtree(write, root)? {
        let below = n != root;
        // What a person said before the stop does not lift it; what came after it does (P9).
        write
            .conn
            .prepare_cached(
                "UPDATE threads SET paused = 1, version = version + ?2,
                    woken_at = CASE WHEN ?2 AND EXISTS
                        (SELECT 1 FROM inbox WHERE thread = ?1 AND seq > ?3 AND person = 1) THEN ?4 END
                WHERE n = ?1",
            )?
            .execute(params![n, below, stopped_by, now.0])?;
        if below {
            write.after.revoked.push(id);
        }
    }
    Ok(())
}

/// Lifts the pause of a thread and its open descendants. Each that was paused is due, so that its inputs and
/// timers are looked at again; a slice that runs in it thinks that it is paused, and loses its turn.
pub(crate) fn resume(write: &mut Write<'_>, root: i64, now: Millis) -> Done<()> {
    for (n, id, _) in subtree(write, root)? {
        if n == root {
            write.conn.prepare_cached("UPDATE threads SET paused = 0 WHERE n = ?1")?.execute([n])?;
            continue;
        }
        let changed = write
            .conn
            .prepare_cached(
                "UPDATE threads SET paused = 0, woken_at = NULL, version = version + 1, due_at = ?2
                WHERE n = ?1 AND paused = 1",
            )?
            .execute(params![n, now.0])?;
        if changed > 0 {
            write.after.revoked.push(id);
        }
    }
    Ok(())
}

/// Closes a thread and all below it.
pub(crate) fn close(write: &mut Write<'_>, root: i64, now: Millis) -> Done<()> {
    for (n, id, session) in subtree(write, root)? {
        let below = n != root;
        if below {
            write.after.revoked.push(id.clone());
        }
        withdraw_all(write, n)?;
        let conn = write.conn;
        conn.prepare_cached(
            "UPDATE threads SET closed = 1, version = version + ?2, due_at = NULL, woken_at = NULL
            WHERE n = ?1",
        )?
        .execute(params![n, below])?;
        conn.prepare_cached(&format!("UPDATE calls SET state = 'cancelled' WHERE thread = ?1 AND {OPEN}"))?
            .execute([n])?;
        conn.prepare_cached(
            "UPDATE subscriptions SET state = 'cancelled' WHERE thread = ?1 AND state = 'active'",
        )?
        .execute([n])?;
        conn.prepare_cached("DELETE FROM questions WHERE thread = ?1")?.execute([n])?;
        let unconsumed = unconsumed(write, n)?;
        for seq in &unconsumed {
            bury_input(write, (n, &id), *seq, "its thread was closed", now)?;
        }
        fewer(write, n, unconsumed.len())?;
        show(write, session, &shown(&id, Surface::Closed), now)?;
        let body = serde_json::to_value(CloseThread::new(id.clone())).unwrap_or_default();
        notify(write, &id, session, None, DeliveryKind::CloseThread, "close_thread", &body, now)?;
    }
    Ok(())
}

fn unconsumed(write: &Write<'_>, n: i64) -> Done<Vec<i64>> {
    let mut statement = write.conn.prepare_cached("SELECT seq FROM inbox WHERE thread = ?1 ORDER BY seq")?;
    let rows = statement.query_map([n], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Threads whose events wait for room are due when there is some.
pub(crate) fn wake_for_room(write: &Write<'_>, session: i64, now: Millis) -> Done<()> {
    write
        .conn
        .prepare_cached(
            "UPDATE threads SET due_at = ?2 WHERE session = ?1 AND closed = 0 AND room IS NOT NULL
                AND room > (SELECT count(*) FROM threads WHERE session = ?1 AND closed = 0)",
        )?
        .execute(params![session, now.0])?;
    Ok(())
}

/// Takes the invocations of a thread that nobody began to send out of the outbox.
fn withdraw_all(write: &mut Write<'_>, n: i64) -> Done<()> {
    let calls: Vec<String> = {
        let mut statement = write.conn.prepare_cached(
            "SELECT call FROM outbox WHERE thread = ?1 AND kind = 'invocation' AND call IS NOT NULL",
        )?;
        statement.query_map([n], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    for call in calls {
        withdraw(write, n, &call)?;
    }
    Ok(())
}

/// Takes a call's invocation out of the outbox, if nobody began to send it.
fn withdraw(write: &mut Write<'_>, thread: i64, call: &str) -> Done<bool> {
    let row = write
        .conn
        .prepare_cached(
            "SELECT id, attempts, begun, epoch FROM outbox
            WHERE thread = ?1 AND call = ?2 AND kind = 'invocation'",
        )?
        .query_row(params![thread, call], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                may_have_been_sent(row.get(1)?, row.get(2)?, row.get(3)?, write.shared.epoch),
            ))
        })
        .optional()?;
    let Some((id, false)) = row else { return Ok(false) };
    // Where it is not for this process to take, another one may be sending it.
    if !write.shared.is_mine(thread, id) || !write.withdraw(id) {
        return Ok(false);
    }
    write.conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    write
        .conn
        .prepare_cached("UPDATE calls SET invoked = 0 WHERE thread = ?1 AND id = ?2")?
        .execute(params![thread, call])?;
    Ok(true)
}

/// Ends a call at its servers: its invocation leaves the outbox untried, or every server is told, once the
/// invocation has settled (CAN-01). Nobody is told of a call that was never sent.
pub(crate) fn cancel(
    write: &mut Write<'_>,
    (n, thread): (i64, &ThreadId),
    session: i64,
    call: &CallId,
    now: Millis,
) -> Done<()> {
    if withdraw(write, n, call.as_str())? {
        return Ok(());
    }
    let invoked: Option<bool> = write
        .conn
        .prepare_cached("SELECT invoked AND route = 'rap' FROM calls WHERE thread = ?1 AND id = ?2")?
        .query_row(params![n, call.as_str()], |row| row.get(0))
        .optional()?;
    if invoked == Some(false) {
        return Ok(());
    }
    let body = serde_json::to_value(CancelToolCall::new(thread.clone(), call.clone())).unwrap_or_default();
    notify(write, thread, session, Some(call), DeliveryKind::CancelToolCall, "cancel_tool_call", &body, now)
}

/// One notice to every server of the session, wherever it now listens.
#[allow(clippy::too_many_arguments)]
fn notify(
    write: &mut Write<'_>,
    thread: &ThreadId,
    session: i64,
    call: Option<&CallId>,
    kind: DeliveryKind,
    path: &str,
    body: &Value,
    now: Millis,
) -> Done<()> {
    for base in bases(write, session)? {
        match base.below(path) {
            Ok(url) => {
                let delivery = NewDelivery {
                    kind,
                    thread: thread.clone(),
                    call: call.cloned(),
                    url,
                    body: body.clone(),
                    traceparent: None,
                };
                send(write, &delivery, now)?;
            }
            // One failure stops no other (CLS-01).
            Err(error) => crate::accept::bury(
                write,
                thread,
                path,
                &format!("{}: {error}", base.redacted()),
                &json(body),
                now,
            )?,
        }
    }
    Ok(())
}

fn bases(write: &Write<'_>, session: i64) -> Done<Vec<HttpUrl>> {
    Ok(toolbox(write.conn, session)?.bases().cloned().collect())
}

/// The toolbox of a session, as the transaction sees it.
pub(crate) fn toolbox(conn: &Connection, session: i64) -> Done<Toolbox> {
    let text: String = conn
        .prepare_cached("SELECT toolbox FROM settings WHERE session = ?1")?
        .query_row([session], |row| row.get(0))?;
    crate::fault::from_json(&text, || format!("the toolbox of session {session}"))
}
