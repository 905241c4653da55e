//! What servers owe, page by page: their outcomes in the order of threads and calls, then the events of subscriptions.

use crate::{
    fault::{Done, Fault},
    rows::{call_id, thread_id},
    shared::{UnderWay, Way},
};
use rap_core::{Millis, Owed};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Open calls that their servers have taken; those that are still to be sent come with the number of their invocation.
const OUTCOMES: &str = "SELECT c.id, t.id, s.id, c.name, c.created_at,
        (SELECT o.id FROM outbox o WHERE o.thread = c.thread AND o.call = c.id AND o.kind = 'invocation')
    FROM calls c JOIN threads t ON t.n = c.thread JOIN sessions s ON s.n = t.session
    WHERE c.state IN ('awaiting_approval', 'pending', 'detached') AND c.state <> 'awaiting_approval'
        AND c.route = 'rap' AND c.outcome IS NULL AND (c.thread, c.n) > (?1, ?2)
    ORDER BY c.thread, c.n";

const EVENTS: &str = "SELECT u.call, t.id, s.id, u.name, u.created_at, NULL
    FROM subscriptions u JOIN threads t ON t.n = u.thread JOIN sessions s ON s.n = t.session
    WHERE u.state = 'active' AND (u.thread, u.call) > (?1, ?2) ORDER BY u.thread, u.call";

pub(crate) fn owed(
    conn: &Connection,
    under_way: &UnderWay,
    after: Option<&Owed>,
    limit: usize,
) -> Done<Vec<Owed>> {
    let mut page = Vec::new();
    if after.is_none_or(|after| !after.subscription) {
        let (thread, call) = place(conn, after)?;
        let mut statement = conn.prepare_cached(OUTCOMES)?;
        fill(&mut page, statement.query([thread, call])?, under_way, limit, false)?;
    }
    if page.len() < limit {
        let after = after.filter(|after| after.subscription);
        let (thread, _) = place(conn, after)?;
        let mut statement = conn.prepare_cached(EVENTS)?;
        let rows = statement.query(params![thread, after.map_or("", |after| after.call.as_str())])?;
        fill(&mut page, rows, under_way, limit, true)?;
    }
    Ok(page)
}

/// The numbers of a call and of its thread; those before all others where there is none.
fn place(conn: &Connection, after: Option<&Owed>) -> Done<(i64, i64)> {
    let Some(after) = after else { return Ok((-1, -1)) };
    let mut statement = conn.prepare_cached(
        "SELECT t.n, coalesce((SELECT c.n FROM calls c WHERE c.thread = t.n AND c.id = ?2), -1)
        FROM threads t WHERE t.id = ?1",
    )?;
    let found = statement
        .query_row([after.thread.as_str(), after.call.as_str()], |row| Ok((row.get(0)?, row.get(1)?)));
    Ok(found.optional()?.unwrap_or((i64::MAX, i64::MAX)))
}

fn fill(
    page: &mut Vec<Owed>,
    mut rows: rusqlite::Rows<'_>,
    under_way: &UnderWay,
    limit: usize,
    subscription: bool,
) -> Done<()> {
    while page.len() < limit
        && let Some(row) = rows.next()?
    {
        let invocation: Option<i64> = row.get(5)?;
        let undelivered = invocation.is_some_and(|id| !matches!(under_way.get(&id), Some(Way::Gone { .. })));
        if undelivered {
            continue;
        }
        match of_row(row, subscription) {
            Ok(owed) => page.push(owed),
            // One that cannot be read hides no other.
            Err(fault) if fault.is_of_one_row() => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

fn of_row(row: &Row<'_>, subscription: bool) -> Result<Owed, Fault> {
    Ok(Owed {
        call: call_id(row.get(0)?)?,
        thread: thread_id(row.get(1)?)?,
        session: thread_id(row.get(2)?)?,
        tool: row.get(3)?,
        since: Millis(row.get(4)?),
        subscription,
    })
}
