//! Rows as the core knows them, from and into the tables.

use crate::{
    bodies,
    fault::{Done, damaged, from_json, from_word, json, word},
};
use rap_core::{CallRow, HistoryDigest, Millis, Session, StoreError, SubscriptionRow, ThreadKind, ThreadRow};
use rap_types::{CallId, NameError, ThreadId};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// An open call, in the words of the index `calls_open`.
pub(crate) const OPEN: &str = "state IN ('awaiting_approval', 'pending', 'detached')";

pub(crate) fn thread_id(text: String) -> Done<ThreadId> {
    ThreadId::new(text).map_err(|e: NameError| damaged("a thread's id", e))
}

pub(crate) fn call_id(text: String) -> Done<CallId> {
    CallId::new(text).map_err(|e: NameError| damaged("a call's id", e))
}

/// A number that is stored as SQLite can: no count here comes near 2^63.
pub(crate) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(crate) fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

/// Where an entry lies.
pub(crate) fn entry_at(thread: i64, n: u64) -> i64 {
    (thread << 32) | signed(n.min(u64::from(u32::MAX)))
}

/// A thread's row, and what the store alone knows of it.
pub(crate) struct Thread {
    pub(crate) n: i64,
    pub(crate) session: i64,
    pub(crate) inbox: usize,
    /// The newest input that a slice has seen.
    pub(crate) seen: i64,
    pub(crate) created_at: Millis,
    /// Its entries before this one lie in segments.
    pub(crate) sealed: u64,
    /// The digest of what its model is shown.
    pub(crate) shown: Option<HistoryDigest>,
    pub(crate) row: ThreadRow,
}

const THREAD: &str = "
    SELECT t.n, t.id, t.session, s.id, t.version, t.next_entry, t.paused, t.closed, t.model_owed, t.turn_at,
        t.reported, t.last_record, t.inbox, l.ancestors, l.chain, l.kind, l.created_at, t.retry_at, t.room, t.seen,
        t.compaction, t.model, t.sealed, t.shown
    FROM threads t JOIN lineages l ON l.thread = t.n JOIN sessions s ON s.n = t.session";

fn thread(row: &Row<'_>) -> Done<Thread> {
    let id = thread_id(row.get(1)?)?;
    let what = || format!("thread {id}");
    Ok(Thread {
        n: row.get(0)?,
        session: row.get(2)?,
        inbox: count(row.get(12)?),
        seen: row.get(19)?,
        created_at: Millis(row.get(16)?),
        sealed: unsigned(row.get(22)?),
        shown: row.get::<_, Option<[u8; 32]>>(23)?.map(HistoryDigest::from_bytes),
        row: ThreadRow {
            session: thread_id(row.get(3)?)?,
            ancestors: from_json(row.get_ref(13)?.as_str().map_err(|e| damaged(what(), e))?, what)?,
            chain: from_json(row.get_ref(14)?.as_str().map_err(|e| damaged(what(), e))?, what)?,
            kind: from_json(row.get_ref(15)?.as_str().map_err(|e| damaged(what(), e))?, what)?,
            version: row.get(4)?,
            next_entry: unsigned(row.get(5)?),
            paused: row.get(6)?,
            closed: row.get(7)?,
            model_owed: row.get(8)?,
            turn_at: row.get::<_, Option<i64>>(9)?.map(Millis),
            reported: row.get(10)?,
            retry_at: row.get::<_, Option<i64>>(17)?.map(Millis),
            compaction: from_word(row.get(20)?, "a thread's compaction")?,
            waits_for_room: row.get::<_, Option<i64>>(18)?.map(count),
            model: row.get(21)?,
            last_record: row.get(11)?,
            id: id.clone(),
        },
    })
}

pub(crate) fn find_thread(conn: &Connection, id: &ThreadId) -> Done<Option<Thread>> {
    let mut statement = conn.prepare_cached(&format!("{THREAD} WHERE t.id = ?1"))?;
    let mut rows = statement.query([id.as_str()])?;
    rows.next()?.map(thread).transpose()
}

pub(crate) fn threads_of(conn: &Connection, session: &ThreadId) -> Done<Vec<Thread>> {
    let mut statement = conn.prepare_cached(&format!(
        "{THREAD} WHERE t.session = (SELECT n FROM sessions WHERE id = ?1) ORDER BY t.n"
    ))?;
    let mut rows = statement.query([session.as_str()])?;
    let mut threads = Vec::new();
    while let Some(row) = rows.next()? {
        threads.push(thread(row)?);
    }
    Ok(threads)
}

/// A thread's number and its session's.
pub(crate) fn numbers(conn: &Connection, id: &ThreadId) -> Done<Option<(i64, i64)>> {
    let mut statement = conn.prepare_cached("SELECT n, session FROM threads WHERE id = ?1")?;
    Ok(statement.query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

pub(crate) fn insert_thread(
    conn: &Connection,
    row: &ThreadRow,
    session: i64,
    due_at: Option<Millis>,
    now: Millis,
) -> Done<i64> {
    let parent = match row.ancestors.last() {
        Some(parent) => numbers(conn, parent)?.map(|(n, _)| n),
        None => None,
    };
    conn.prepare_cached(
        "INSERT INTO threads (id, session, parent, version, next_entry, paused, closed, model_owed, turn_at,
            reported, last_record, due_at, model)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?
    .execute(params![
        row.id.as_str(),
        session,
        parent,
        row.version,
        signed(row.next_entry),
        row.paused,
        row.closed,
        row.model_owed,
        row.turn_at.map(|at| at.0),
        row.reported,
        row.last_record,
        due_at.map(|at| at.0),
        row.model,
    ])
    .map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => {
            StoreError::Failed(format!("there is a thread {} already", row.id)).into()
        }
        _ => crate::fault::Fault::from(error),
    })?;
    let n = conn.last_insert_rowid();
    let event = matches!(row.kind, ThreadKind::Event { .. });
    conn.prepare_cached("INSERT INTO lineages VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        n,
        json(&row.ancestors),
        json(&row.chain),
        json(&row.kind),
        event,
        now.0
    ])?;
    Ok(n)
}

const CALL: &str = "c.id, c.turn, c.idx, c.name, c.arguments, c.route, c.state, c.long_running, c.created_at,
    c.due_at, c.outcome";

/// `SELECT` for [`call`], to be completed.
pub(crate) fn select_calls(more: &str, rest: &str) -> String {
    format!("SELECT {CALL}{more} FROM calls c {rest}")
}

pub(crate) fn call(conn: &Connection, row: &Row<'_>, thread: &ThreadId) -> Done<CallRow> {
    let id = call_id(row.get(0)?)?;
    let what = || format!("call {id}");
    let outcome = match row.get::<_, Option<String>>(10)? {
        Some(text) => Some(from_json(&bodies::whole(conn, &text, what)?, what)?),
        None => None,
    };
    Ok(CallRow {
        thread: thread.clone(),
        turn: unsigned(row.get(1)?),
        index: count(row.get(2)?),
        name: row.get(3)?,
        arguments: from_json(
            &bodies::whole(conn, row.get_ref(4)?.as_str().map_err(|e| damaged(what(), e))?, what)?,
            what,
        )?,
        route: from_word(row.get(5)?, "a call's route")?,
        state: from_word(row.get(6)?, "a call's state")?,
        long_running: row.get(7)?,
        created_at: Millis(row.get(8)?),
        due_at: row.get::<_, Option<i64>>(9)?.map(Millis),
        outcome,
        id: id.clone(),
    })
}

pub(crate) fn put_call(conn: &Connection, thread: i64, row: &CallRow) -> Done<()> {
    let outcome = row.outcome.as_ref().map(|outcome| bodies::put_away(conn, json(outcome))).transpose()?;
    conn.prepare_cached(
        "INSERT INTO calls (thread, id, turn, idx, name, arguments, route, state, long_running, created_at,
            due_at, outcome)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
        ON CONFLICT (thread, id) DO UPDATE SET turn = ?3, idx = ?4, name = ?5, arguments = ?6, route = ?7,
            state = ?8, long_running = ?9, created_at = ?10, due_at = ?11, outcome = ?12",
    )?
    .execute(params![
        thread,
        row.id.as_str(),
        signed(row.turn),
        signed(row.index as u64),
        row.name,
        bodies::put_away(conn, json(&row.arguments))?,
        word(&row.route),
        word(&row.state),
        row.long_running,
        row.created_at.0,
        row.due_at.map(|at| at.0),
        outcome,
    ])?;
    Ok(())
}

pub(crate) fn subscription(row: &Row<'_>, thread: &ThreadId) -> Done<SubscriptionRow> {
    let call = call_id(row.get(0)?)?;
    let arguments = from_json(&row.get::<_, String>(2)?, || format!("subscription {call}"))?;
    Ok(SubscriptionRow {
        thread: thread.clone(),
        name: row.get(1)?,
        arguments,
        state: from_word(row.get(3)?, "a subscription's state")?,
        created_at: Millis(row.get(4)?),
        call,
    })
}

pub(crate) fn put_subscription(conn: &Connection, thread: i64, row: &SubscriptionRow) -> Done<()> {
    conn.prepare_cached(
        "INSERT INTO subscriptions VALUES (?1, ?2, ?3, ?4, ?5, ?6)
        ON CONFLICT (thread, call) DO UPDATE SET name = ?3, arguments = ?4, state = ?5, created_at = ?6",
    )?
    .execute(params![
        thread,
        row.call.as_str(),
        row.name,
        json(&row.arguments),
        word(&row.state),
        row.created_at.0
    ])?;
    Ok(())
}

/// A session by its number, and how many bytes its settings are.
pub(crate) fn session(conn: &Connection, n: i64) -> Done<(Session, usize)> {
    let mut statement = conn.prepare_cached(
        "SELECT s.id, s.owner, s.created_at, g.user, g.model, g.system, g.toolbox, g.rules
        FROM sessions s JOIN settings g ON g.session = s.n WHERE s.n = ?1",
    )?;
    let mut rows = statement.query([n])?;
    let Some(row) = rows.next()? else { return Err(damaged(format!("session {n}"), "its row is missing")) };
    let id = thread_id(row.get(0)?)?;
    let what = || format!("session {id}");
    let user = row.get::<_, Option<String>>(3)?;
    let (system, toolbox, rules): (String, String, String) = (row.get(5)?, row.get(6)?, row.get(7)?);
    let bytes = system.len() + toolbox.len() + rules.len();
    let session = Session {
        owner: row.get(1)?,
        user: user.map(rap_types::UserId::new).transpose().map_err(|e| damaged(what(), e))?,
        created_at: Millis(row.get(2)?),
        model: row.get(4)?,
        toolbox: from_json(&toolbox, what)?,
        rules: from_json(&rules, what)?,
        id: id.clone(),
        system,
    };
    Ok((session, bytes))
}
