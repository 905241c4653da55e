//! What a slice starts from: history along the chain, and the rows that a decision may need.

use crate::{
    bodies,
    fault::{Done, Fault, damaged, from_json},
    outbox,
    rows::{self, OPEN, Thread, count, thread_id, unsigned},
    segments::{self, Own},
    shared::Shared,
};
use rap_core::{
    CallRow, Child, ChildKind, Claim, Entry, History, Input, InputId, Millis, Session, Snapshot, StoreError,
    SubscriptionRow,
};
use rap_types::{CallId, ThreadId};
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

/// Children that are closed and still loaded, the newest: a subscription may have made thousands.
const CLOSED_CHILDREN: i64 = 64;

/// The snapshot of a claimed thread. None where more than `most` entries would have to be read for it.
pub(crate) fn load(conn: &Connection, shared: &Shared, claim: &Claim, most: u64) -> Done<Option<Snapshot>> {
    shared.check(claim)?;
    let thread = rows::find_thread(conn, &claim.thread)?.ok_or(StoreError::Fenced)?;
    if thread.row.closed {
        return Err(StoreError::Fenced.into());
    }
    let Some(history) = shown(conn, shared, &thread, most)? else { return Ok(None) };
    let missing = || damaged(format!("thread {}", thread.row.id), "its session is missing");
    let counts = session_counts(conn, thread.session)?.ok_or_else(missing)?;
    Ok(Some(Snapshot {
        session: session(conn, shared, thread.session, counts.revision)?,
        completions: unsigned(counts.completions),
        tokens: unsigned(counts.tokens),
        open_threads: count(counts.open_threads),
        history,
        calls: calls(conn, thread.n, &thread.row.id)?,
        subscriptions: subscriptions(conn, thread.n, &thread.row.id)?,
        asking: asking(conn, thread.n)?,
        children: children(conn, thread.n)?,
        inputs: if thread.inbox == 0 { Vec::new() } else { inputs(conn, thread.n, &thread.row.id)? },
        thread: thread.row,
    }))
}

/// A session's completions and tokens, the revision of its settings, and how many of its threads are open.
struct Counts {
    completions: i64,
    tokens: i64,
    revision: i64,
    open_threads: i64,
}

fn session_counts(conn: &Connection, session: i64) -> Done<Option<Counts>> {
    let mut statement = conn.prepare_cached(
        "SELECT completions, tokens, revision, (SELECT count(*) FROM threads WHERE session = ?1 AND closed = 0)
        FROM sessions WHERE n = ?1",
    )?;
    let counts = |row: &rusqlite::Row<'_>| {
        Ok(Counts {
            completions: row.get(0)?,
            tokens: row.get(1)?,
            revision: row.get(2)?,
            open_threads: row.get(3)?,
        })
    };
    Ok(statement.query_row([session], counts).optional()?)
}

/// Prepares whatever a slice reads, of no thread, so that the first slice after an opening need not.
pub(crate) fn rehearse(conn: &Connection, shared: &Shared) -> Done<()> {
    let (nobody, before) = (-1, Millis(i64::MIN));
    let id = ThreadId::new("nobody").map_err(|e| damaged("a thread's id", e))?;
    claim(conn, shared, before)?;
    outbox::take(conn, shared, before, 1)?;
    conn.prepare_cached(OWED)?;
    conn.prepare_cached(EPOCH)?;
    rows::find_thread(conn, &id)?;
    newest_summary(conn, &[(Own { n: nobody, id: &id, sealed: 0 }, 0)])?;
    // What is missing is an error, which is all that there can be.
    let _ = segments::read(conn, Own { n: nobody, id: &id, sealed: 1 }, 0, 1);
    session_counts(conn, nobody)?;
    calls(conn, nobody, &id)?;
    subscriptions(conn, nobody, &id)?;
    asking(conn, nobody)?;
    children(conn, nobody)?;
    inputs(conn, nobody, &id)?;
    next_due(conn, shared)?;
    outbox::next_due(conn, shared)?;
    Ok(())
}

pub(crate) fn session(conn: &Connection, shared: &Shared, n: i64, revision: i64) -> Done<Arc<Session>> {
    if let Some(session) = shared.kept_session(n, revision) {
        return Ok(session);
    }
    let (session, bytes) = rows::session(conn, n)?;
    let session = Arc::new(session);
    shared.keep_session(n, revision, &session, bytes);
    Ok(session)
}

/// What a thread sees: its chain's entries, then its own.
pub(crate) fn history(conn: &Connection, thread: &Thread) -> Done<History> {
    let mut history = History::default();
    for (own, upto) in line(conn, thread)? {
        history.append(&segments::read(conn, own, 0, upto)?.0);
    }
    Ok(history)
}

/// The threads whose entries a thread sees, itself last, each up to an entry.
fn line<'a>(conn: &Connection, thread: &'a Thread) -> Done<Vec<(Own<'a>, u64)>> {
    let mut line = Vec::with_capacity(thread.row.chain.len() + 1);
    for segment in &thread.row.chain {
        let missing = || damaged(format!("thread {}", thread.row.id), format!("no {}", segment.thread));
        let (n, _) = rows::numbers(conn, &segment.thread)?.ok_or_else(missing)?;
        line.push((Own { n, id: &segment.thread, sealed: u64::MAX }, segment.upto));
    }
    line.push((Own { n: thread.n, id: &thread.row.id, sealed: thread.sealed }, thread.row.next_entry));
    Ok(line)
}

/// What a compaction reads: all entries from the position on that the newest summary covers, and how many lie before.
pub(crate) fn recent(conn: &Connection, shared: &Shared, thread: &Thread) -> Done<(Vec<Arc<Entry>>, usize)> {
    let line = line(conn, thread)?;
    let newest = newest_summary(conn, &line)?;
    let whole = line.iter().map(|(_, upto)| *upto).sum::<u64>();
    let mut entries = History::default();
    for (own, from, upto) in parts(&line, newest.as_ref()) {
        entries.append(&own_entries(conn, shared, own, from, upto)?);
    }
    let left_out = whole.saturating_sub(entries.len() as u64);
    Ok((entries.to_vec(), usize::try_from(left_out).unwrap_or(usize::MAX)))
}

/// What is seen along a line: everything, or from the position on that a summary covers.
fn parts<'a>(line: &[(Own<'a>, u64)], newest: Option<&Newest<'_>>) -> Vec<(Own<'a>, u64, u64)> {
    let Some(newest) = newest else {
        return line.iter().map(|(own, upto)| (*own, 0, *upto)).collect();
    };
    let first = line.iter().position(|(own, _)| own.n == newest.covers_thread).unwrap_or(0);
    let from = |index: usize, upto: u64| if index == first { newest.covers.min(upto) } else { 0 };
    let rest = line.iter().enumerate().skip(first);
    rest.map(|(index, (own, upto))| (*own, from(index, *upto), *upto)).collect()
}

/// What the model is shown: everything, or from the newest summary on. None where more than so many entries would have
/// to be read.
fn shown(conn: &Connection, shared: &Shared, thread: &Thread, most: u64) -> Done<Option<History>> {
    let line = line(conn, thread)?;
    let mut shown = History::default();
    let summary = newest_summary(conn, &line)?;
    let parts = parts(&line, summary.as_ref());
    let missing = parts.iter().map(|(own, from, upto)| shared.missing(own.n, *from, *upto)).sum::<u64>();
    if missing > most {
        return Ok(None);
    }
    if let Some(newest) = &summary {
        let (entry, _) = segments::read(conn, newest.own, newest.entry, newest.entry + 1)?;
        let Some(Entry::Summary(summary)) = entry.last().map(AsRef::as_ref) else {
            return Err(damaged(format!("the summary of thread {}", thread.row.id), "it is another entry"));
        };
        shown.push(Arc::new(summary.shown()));
    }
    for (own, from, upto) in parts {
        let part = own_entries(conn, shared, own, from, upto)?;
        shown.append(&if summary.is_some() { part.without_summaries() } else { part });
    }
    Ok(Some(shown.with_digest(thread.shown)))
}

/// Entries of a thread from one on, before another: those that are kept, and what is new since.
fn own_entries(conn: &Connection, shared: &Shared, own: Own<'_>, from: u64, upto: u64) -> Done<History> {
    let mut entries = shared.kept_history(own.n, from, upto);
    let next = from + entries.len() as u64;
    if next < upto {
        let (new, bytes) = segments::read(conn, own, next, upto)?;
        shared.keep_history(own.n, from, next, &new, bytes);
        entries.append(&new);
    }
    Ok(entries)
}

/// A summary: where it lies, and the position that it covers.
struct Newest<'a> {
    own: Own<'a>,
    entry: u64,
    covers_thread: i64,
    covers: u64,
}

/// The newest summary that a thread sees.
fn newest_summary<'a>(conn: &Connection, line: &[(Own<'a>, u64)]) -> Done<Option<Newest<'a>>> {
    let mut statement = conn.prepare_cached(
        "SELECT entry, covers_thread, covers FROM summaries WHERE thread = ?1 AND entry < ?2
        ORDER BY entry DESC LIMIT 1",
    )?;
    for (own, upto) in line.iter().rev() {
        let mut rows = statement.query([own.n, rows::signed(*upto)])?;
        if let Some(row) = rows.next()? {
            return Ok(Some(Newest {
                own: *own,
                entry: unsigned(row.get(0)?),
                covers_thread: row.get(1)?,
                covers: unsigned(row.get(2)?),
            }));
        }
    }
    Ok(None)
}

const EPOCH: &str = "SELECT value FROM meta WHERE name = 'epoch'";

const OWED: &str = "SELECT id FROM threads t WHERE compaction IN ('asked', 'needed') AND closed = 0
    AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.thread = t.n AND i.event = ?1) ORDER BY n";

/// A thread whose history is to be summarised, that nobody has and whose end is not in the inbox.
pub(crate) fn claim_compaction(conn: &Connection, shared: &Shared) -> Done<Option<ThreadId>> {
    if shared.guest.is_some() {
        return Ok(None); // The owner summarises.
    }
    let mut statement = conn.prepare_cached(OWED)?;
    let mut rows = statement.query([crate::accept::COMPACTED])?;
    while let Some(row) = rows.next()? {
        let id = thread_id(row.get(0)?)?;
        if shared.compacting().insert(id.clone()) {
            still_owned(conn, shared)?;
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Calls that are open, of the newest turn, or named by an input.
fn calls(conn: &Connection, n: i64, id: &ThreadId) -> Done<Vec<CallRow>> {
    let sql = rows::select_calls(
        "",
        &format!(
            "WHERE c.n IN (
                SELECT n FROM calls WHERE thread = ?1 AND {OPEN}
                UNION SELECT n FROM calls
                    WHERE thread = ?1 AND turn = (SELECT max(turn) FROM calls WHERE thread = ?1)
                UNION SELECT k.n FROM inbox i CROSS JOIN calls k ON k.thread = i.thread AND k.id = i.call
                    WHERE i.thread = ?1)
            ORDER BY c.turn, c.idx"
        ),
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([n])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        calls.push(rows::call(conn, row, id)?);
    }
    Ok(calls)
}

/// A call of a thread, whatever became of it.
pub(crate) fn call(conn: &Connection, thread: &ThreadId, id: &CallId) -> Done<Option<CallRow>> {
    let Some((n, _)) = rows::numbers(conn, thread)? else { return Ok(None) };
    let sql = rows::select_calls("", "WHERE c.thread = ?1 AND c.id = ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(rusqlite::params![n, id.as_str()])?;
    rows.next()?.map(|row| rows::call(conn, row, thread)).transpose()
}

/// Subscriptions that are active or named by an input.
fn subscriptions(conn: &Connection, n: i64, id: &ThreadId) -> Done<Vec<SubscriptionRow>> {
    let mut statement = conn.prepare_cached(
        "SELECT call, name, arguments, state, created_at FROM subscriptions
        WHERE thread = ?1 AND call IN (
            SELECT call FROM subscriptions WHERE thread = ?1 AND state = 'active'
            UNION SELECT call FROM inbox WHERE thread = ?1 AND call IS NOT NULL)
        ORDER BY created_at, call",
    )?;
    let mut rows = statement.query([n])?;
    let mut subscriptions = Vec::new();
    while let Some(row) = rows.next()? {
        subscriptions.push(rows::subscription(row, id)?);
    }
    Ok(subscriptions)
}

/// The calls that ask people something nobody has answered.
fn asking(conn: &Connection, n: i64) -> Done<Vec<CallId>> {
    let mut statement =
        conn.prepare_cached("SELECT call FROM questions WHERE thread = ?1 AND answered = 0 ORDER BY call")?;
    let mut rows = statement.query([n])?;
    let mut asking = Vec::new();
    while let Some(row) = rows.next()? {
        asking.push(rows::call_id(row.get(0)?)?);
    }
    Ok(asking)
}

/// The open children, and the newest closed ones.
fn children(conn: &Connection, n: i64) -> Done<Vec<Child>> {
    let mut statement = conn.prepare_cached(
        "SELECT n, id, event, open FROM (
            SELECT t.n, t.id, l.event, 1 AS open FROM threads t JOIN lineages l ON l.thread = t.n
                WHERE t.parent = ?1 AND t.closed = 0
            UNION ALL SELECT * FROM (SELECT t.n, t.id, l.event, 0
                FROM threads t JOIN lineages l ON l.thread = t.n
                WHERE t.parent = ?1 AND t.closed = 1 ORDER BY t.n DESC LIMIT ?2))
        ORDER BY n",
    )?;
    let mut rows = statement.query([n, CLOSED_CHILDREN])?;
    let mut children = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = if row.get(2)? { ChildKind::Event } else { ChildKind::Spawned };
        children.push(Child { id: thread_id(row.get(1)?)?, kind, open: row.get(3)? });
    }
    Ok(children)
}

/// The unconsumed inputs, by arrival.
fn inputs(conn: &Connection, n: i64, thread: &ThreadId) -> Done<Vec<Input>> {
    let mut statement = conn.prepare_cached(
        "SELECT i.seq, i.id, i.accepted_at, i.body, i.traceparent FROM inbox b CROSS JOIN inputs i ON i.seq = b.seq
        WHERE b.thread = ?1 ORDER BY b.seq",
    )?;
    let mut rows = statement.query([n])?;
    let mut inputs = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        let what = || format!("input {id} of thread {thread}");
        let body = row.get_ref(3)?.as_str().map_err(|e| damaged(what(), e))?;
        let body = bodies::whole(conn, body, what)?;
        inputs.push(Input {
            seq: row.get(0)?,
            accepted_at: Millis(row.get(2)?),
            body: from_json(&body, what)?,
            id: InputId::from_stored(id.clone()),
            traceparent: row.get(4)?,
        });
    }
    Ok(inputs)
}

/// An input that a slice saw, whether or not it was used up since; none if it is no longer kept.
pub(crate) fn kept_input(conn: &Connection, n: i64, thread: &ThreadId, id: &InputId) -> Done<Option<Input>> {
    let mut statement = conn.prepare_cached(
        "SELECT seq, accepted_at, body, traceparent FROM inputs WHERE thread = ?1 AND id = ?2",
    )?;
    let mut rows = statement.query(rusqlite::params![n, id.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let what = || format!("input {id} of thread {thread}");
    let body = row.get_ref(2)?.as_str().map_err(|e| damaged(what(), e))?;
    let body = bodies::whole(conn, body, what)?;
    Ok(Some(Input {
        seq: row.get(0)?,
        id: id.clone(),
        accepted_at: Millis(row.get(1)?),
        body: from_json(&body, what)?,
        traceparent: row.get(3)?,
    }))
}

/// Whether the database has the epoch of this process, as far as it is read.
pub(crate) fn still_owned(conn: &Connection, shared: &Shared) -> Done<()> {
    let mut statement = conn.prepare_cached(EPOCH)?;
    let epoch: i64 = statement.query_row([], |row| row.get(0))?;
    if epoch == shared.epoch { Ok(()) } else { Err(shared.is_replaced().into()) }
}

/// The thread that is due longest and that nobody has.
pub(crate) fn claim(conn: &Connection, shared: &Shared, now: Millis) -> Done<Option<Claim>> {
    // Held while reading: a thread that is released in between was committed before, and is read so.
    let mut claims = shared.claims();
    let mut statement =
        conn.prepare_cached("SELECT id FROM threads WHERE ready_at <= ?1 ORDER BY ready_at, n")?;
    let mut rows = statement.query([now.0])?;
    while let Some(row) = rows.next()? {
        // One that cannot be named stops no other.
        let Ok(id) = row.get(0).map_err(Fault::from).and_then(thread_id) else { continue };
        if !claims.is_held(&id) {
            // Whatever a later owner has committed is not for this one to work on.
            still_owned(conn, shared)?;
            return Ok(Some(claims.issue(id, shared.epoch)));
        }
    }
    Ok(None)
}

/// When the earliest thread that nobody has is due.
pub(crate) fn next_due(conn: &Connection, shared: &Shared) -> Done<Option<Millis>> {
    let claims = shared.claims();
    let mut statement = conn
        .prepare_cached("SELECT id, ready_at FROM threads WHERE ready_at IS NOT NULL ORDER BY ready_at, n")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(id) = row.get(0).map_err(Fault::from).and_then(thread_id) else { continue };
        if !claims.is_held(&id) {
            return Ok(Some(Millis(row.get(1)?)));
        }
    }
    Ok(None)
}
