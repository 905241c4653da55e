//! Reading for people.

use crate::{
    bodies,
    fault::{Done, damaged, from_json},
    load,
    rows::{self, OPEN, Thread, count, thread_id},
    segments::{self, Own},
    shared::{Shared, UnderWay, Way},
};
use rap_core::{
    CallView, DeadLetterView, Entry, HistoryView, Millis, Numbered, SessionView, SliceRecord, SliceView,
    SubscriptionView, SurfaceEvent, ThreadState, ThreadView, UserAuthor,
};
use rap_types::{ContentPart, ThreadId};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Who holds a claim, as far as the reader can know.
pub(crate) type Claimed<'a> = &'a dyn Fn(&ThreadId) -> bool;

const TITLE: usize = 60;

pub(crate) fn get(conn: &Connection, name: &str) -> Done<Option<String>> {
    let mut statement = conn.prepare_cached("SELECT value FROM named_values WHERE name = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?)
}

/// The number and revision of a session.
pub(crate) fn session_number(conn: &Connection, id: &ThreadId) -> Done<Option<(i64, i64)>> {
    let mut statement = conn.prepare_cached("SELECT n, revision FROM sessions WHERE id = ?1")?;
    Ok(statement.query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

pub(crate) fn sessions(conn: &Connection, claimed: Claimed<'_>) -> Done<Vec<SessionView>> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT s.id, s.created_at,
            (SELECT count(*) FROM threads t WHERE t.session = s.n AND t.closed = 0),
            (SELECT count(*) FROM threads t JOIN calls c ON c.thread = t.n
                WHERE t.session = s.n AND t.closed = 0 AND c.{OPEN})
        FROM sessions s ORDER BY s.created_at DESC, s.id"
    ))?;
    let mut rows = statement.query([])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let id = thread_id(row.get(0)?)?;
        let missing = || damaged(format!("session {id}"), "its root thread is missing");
        let root = rows::find_thread(conn, &id)?.ok_or_else(missing)?;
        sessions.push(SessionView {
            created_at: Millis(row.get(1)?),
            title: title(conn, &root)?,
            state: thread_view_state(conn, &root, claimed)?,
            open_threads: count(row.get(2)?),
            open_calls: count(row.get(3)?),
            id,
        });
    }
    Ok(sessions)
}

fn title(conn: &Connection, root: &Thread) -> Done<String> {
    let own = Own { n: root.n, id: &root.row.id, sealed: root.sealed };
    let first = segments::find(conn, own, root.row.next_entry, |entry| match entry {
        Entry::User(user) if user.author == UserAuthor::Person => Some(text(&user.content)),
        _ => None,
    })?;
    Ok(first.unwrap_or_default().chars().take(TITLE).collect())
}

fn text(content: &[ContentPart]) -> String {
    let parts: Vec<&str> = content
        .iter()
        .map(|part| match part {
            ContentPart::Text(text) => text.text.as_str(),
            _ => "[image]",
        })
        .collect();
    parts.join("\n")
}

fn open_calls(conn: &Connection, thread: i64) -> Done<usize> {
    let mut statement =
        conn.prepare_cached(&format!("SELECT count(*) FROM calls WHERE thread = ?1 AND {OPEN}"))?;
    Ok(count(statement.query_row([thread], |row| row.get(0))?))
}

fn thread_view_state(conn: &Connection, thread: &Thread, claimed: Claimed<'_>) -> Done<ThreadState> {
    let row = &thread.row;
    Ok(if row.closed {
        ThreadState::Closed
    } else if row.paused {
        ThreadState::Paused
    } else if row.model_owed || has_unseen_inputs(conn, thread)? || claimed(&row.id) {
        ThreadState::Running
    } else if row.waits_for_room.is_some() || open_calls(conn, thread.n)? > 0 {
        ThreadState::Waiting
    } else {
        ThreadState::Resting
    })
}

/// What a slice has seen and left in the inbox waits for something else.
fn has_unseen_inputs(conn: &Connection, thread: &Thread) -> Done<bool> {
    if thread.inbox == 0 {
        return Ok(false);
    }
    let mut statement = conn.prepare_cached("SELECT 1 FROM inbox WHERE thread = ?1 AND seq > ?2")?;
    Ok(statement.exists([thread.n, thread.seen])?)
}

fn thread_view(conn: &Connection, thread: Thread, claimed: Claimed<'_>) -> Done<ThreadView> {
    let subscriptions: i64 = conn
        .prepare_cached("SELECT count(*) FROM subscriptions WHERE thread = ?1 AND state = 'active'")?
        .query_row([thread.n], |row| row.get(0))?;
    Ok(ThreadView {
        state: thread_view_state(conn, &thread, claimed)?,
        open_calls: open_calls(conn, thread.n)?,
        subscriptions: count(subscriptions),
        created_at: thread.created_at,
        row: thread.row,
    })
}

pub(crate) fn threads(conn: &Connection, session: &ThreadId, claimed: Claimed<'_>) -> Done<Vec<ThreadView>> {
    let threads = rows::threads_of(conn, session)?;
    threads.into_iter().map(|thread| thread_view(conn, thread, claimed)).collect()
}

pub(crate) fn history(
    conn: &Connection,
    thread: &ThreadId,
    claimed: Claimed<'_>,
) -> Done<Option<HistoryView>> {
    let Some(thread) = rows::find_thread(conn, thread)? else { return Ok(None) };
    let entries = load::history(conn, &thread)?.to_vec();
    let inherited = entries.len().saturating_sub(usize::try_from(thread.row.next_entry).unwrap_or(0));
    Ok(Some(HistoryView { thread: thread_view(conn, thread, claimed)?, entries, inherited, left_out: 0 }))
}

/// What a compaction reads: from the newest summary's position on.
pub(crate) fn recent_history(
    conn: &Connection,
    shared: &Shared,
    thread: &ThreadId,
) -> Done<Option<HistoryView>> {
    let Some(thread) = rows::find_thread(conn, thread)? else { return Ok(None) };
    let (entries, left_out) = load::recent(conn, shared, &thread)?;
    let own = usize::try_from(thread.row.next_entry).unwrap_or(usize::MAX);
    let inherited = entries.len().saturating_sub(own);
    let thread = thread_view(conn, thread, &|id| shared.claims().is_held(id))?;
    Ok(Some(HistoryView { thread, entries, inherited, left_out }))
}

/// What the body of a slice's row holds.
#[derive(serde::Deserialize)]
struct SliceBody {
    record: SliceRecord,
    consumed: Vec<i64>,
}

/// Slices of a thread, each with the inputs that it saw, as far as they are kept.
pub(crate) fn slices(conn: &Connection, id: &ThreadId, after: i64, limit: usize) -> Done<Vec<SliceView>> {
    let Some((thread, _)) = rows::numbers(conn, id)? else { return Ok(Vec::new()) };
    let mut statement = conn.prepare_cached(
        "SELECT version, body FROM slices WHERE thread = ?1 AND version > ?2 ORDER BY version LIMIT ?3",
    )?;
    let mut rows = statement.query(params![thread, after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut slices = Vec::new();
    while let Some(row) = rows.next()? {
        let version: i64 = row.get(0)?;
        let what = || format!("slice {version} of thread {id}");
        let body = row.get_ref(1)?.as_str().map_err(|e| damaged(what(), e))?;
        let body: SliceBody = from_json(&bodies::whole(conn, body, what)?, what)?;
        let mut inputs = Vec::with_capacity(body.record.inputs.len());
        for input in &body.record.inputs {
            inputs.extend(load::kept_input(conn, thread, id, input)?);
        }
        slices.push(SliceView { version, record: body.record, inputs, consumed: body.consumed });
    }
    Ok(slices)
}

/// Calls, with what is already settled and not yet written, as far as the reader can know.
pub(crate) fn calls(conn: &Connection, only_open: bool, under_way: &UnderWay) -> Done<Vec<CallView>> {
    let more = ", t.id, s.id, c.attempts, (SELECT o.id FROM outbox o
        WHERE o.thread = c.thread AND o.call = c.id AND o.kind = 'invocation')";
    let filter = if only_open { format!("WHERE c.{OPEN}") } else { String::new() };
    let sql = rows::select_calls(
        more,
        &format!(
            "JOIN threads t ON t.n = c.thread JOIN sessions s ON s.n = t.session {filter}
            ORDER BY c.created_at, c.n"
        ),
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        match call_view(conn, row, under_way) {
            Ok(view) => calls.push(view),
            // One that cannot be read hides no other; its own thread does not run.
            Err(fault) if fault.is_of_one_row() => {
                let error = fault.into_error("the database");
                tracing::error!(%error, "a call cannot be read and is left out of a list");
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(calls)
}

fn call_view(conn: &Connection, row: &Row<'_>, under_way: &UnderWay) -> Done<CallView> {
    let thread = thread_id(row.get(11)?)?;
    let invocation: Option<i64> = row.get(14)?;
    let way = invocation.and_then(|id| under_way.get(&id));
    let attempts = match way {
        Some(Way::Again { attempts, .. } | Way::Gone { attempts }) => *attempts,
        _ => u32::try_from(row.get::<_, i64>(13)?).unwrap_or(u32::MAX),
    };
    Ok(CallView {
        row: rows::call(conn, row, &thread)?,
        session: thread_id(row.get(12)?)?,
        attempts,
        undelivered: invocation.is_some() && !matches!(way, Some(Way::Gone { .. })),
    })
}

pub(crate) fn subscriptions(conn: &Connection) -> Done<Vec<SubscriptionView>> {
    let mut statement = conn.prepare_cached(
        "SELECT u.call, u.name, u.arguments, u.state, u.created_at, t.id, s.id
        FROM subscriptions u JOIN threads t ON t.n = u.thread JOIN sessions s ON s.n = t.session
        WHERE u.state = 'active' ORDER BY u.created_at, u.call",
    )?;
    let mut rows = statement.query([])?;
    let mut subscriptions = Vec::new();
    while let Some(row) = rows.next()? {
        let thread = thread_id(row.get(5)?)?;
        let session = thread_id(row.get(6)?)?;
        subscriptions.push(SubscriptionView { row: rows::subscription(row, &thread)?, session });
    }
    Ok(subscriptions)
}

pub(crate) fn events(conn: &Connection, session: &ThreadId, after: i64, limit: usize) -> Done<Vec<Numbered>> {
    let mut statement = conn.prepare_cached(
        "SELECT n, at, body FROM surface
        WHERE session = (SELECT n FROM sessions WHERE id = ?1) AND n > ?2 ORDER BY n LIMIT ?3",
    )?;
    let mut rows =
        statement.query(params![session.as_str(), after, i64::try_from(limit).unwrap_or(i64::MAX)])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let n: i64 = row.get(0)?;
        let what = || format!("surface event {n}");
        let body = row.get_ref(2)?.as_str().map_err(|e| damaged(what(), e))?;
        let event: SurfaceEvent = from_json(&bodies::whole(conn, body, what)?, what)?;
        events.push(Numbered { n, at: Millis(row.get(1)?), event });
    }
    Ok(events)
}

pub(crate) fn dead_letters(conn: &Connection) -> Done<Vec<DeadLetterView>> {
    let mut statement = conn
        .prepare_cached("SELECT at, thread, what, reason, body, n, attempts FROM dead_letters ORDER BY n")?;
    let mut rows = statement.query([])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        let what: String = row.get(2)?;
        letters.push(DeadLetterView {
            id: row.get(5)?,
            at: Millis(row.get(0)?),
            thread: row.get(1)?,
            reason: row.get(3)?,
            attempts: u32::try_from(row.get::<_, i64>(6)?).unwrap_or(u32::MAX),
            body: from_json(&row.get::<_, String>(4)?, || format!("dead letter {what}"))?,
            what,
        });
    }
    Ok(letters)
}
