//! What a slice starts from: history along the chain, and the rows that a decision may need.

use crate::{
    fault::{Done, damaged, from_json},
    rows::{self, OPEN, Thread, count, entry_at, thread_id, unsigned},
    shared::Shared,
};
use rap_core::{
    CallRow, Child, ChildKind, Claim, Entry, Input, InputId, Millis, Session, Snapshot, StoreError,
    SubscriptionRow,
};
use rap_types::{CallId, ThreadId};
use rusqlite::Connection;
use std::sync::Arc;

/// Children that are closed and still loaded, the newest: a subscription may have made thousands.
const CLOSED_CHILDREN: i64 = 64;

pub(crate) fn load(conn: &Connection, shared: &Shared, claim: &Claim) -> Done<Snapshot> {
    shared.check(claim)?;
    let thread = rows::find_thread(conn, &claim.thread)?.ok_or(StoreError::Fenced)?;
    if thread.row.closed {
        return Err(StoreError::Fenced.into());
    }
    let (completions, revision): (i64, i64) = conn
        .prepare_cached("SELECT completions, revision FROM sessions WHERE n = ?1")?
        .query_row([thread.session], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let open_threads: i64 = conn
        .prepare_cached("SELECT count(*) FROM threads WHERE session = ?1 AND closed = 0")?
        .query_row([thread.session], |row| row.get(0))?;
    Ok(Snapshot {
        session: session(conn, shared, thread.session, revision)?,
        completions: unsigned(completions),
        open_threads: count(open_threads),
        history: shown(conn, shared, &thread)?,
        calls: calls(conn, &thread)?,
        subscriptions: subscriptions(conn, &thread)?,
        asking: asking(conn, &thread)?,
        children: children(conn, &thread)?,
        inputs: inputs(conn, &thread)?,
        thread: thread.row,
    })
}

pub(crate) fn session(conn: &Connection, shared: &Shared, n: i64, revision: i64) -> Done<Arc<Session>> {
    if let Some(session) = shared.kept_session(n, revision) {
        return Ok(session);
    }
    let session = Arc::new(rows::session(conn, n)?);
    shared.keep_session(n, revision, &session);
    Ok(session)
}

/// What a thread sees: its chain's entries, then its own.
pub(crate) fn history(conn: &Connection, shared: Option<&Shared>, thread: &Thread) -> Done<Vec<Arc<Entry>>> {
    let mut history = Vec::new();
    for segment in &thread.row.chain {
        let missing = || damaged(format!("thread {}", thread.row.id), format!("no {}", segment.thread));
        let (n, _) = rows::numbers(conn, &segment.thread)?.ok_or_else(missing)?;
        history.extend(own_entries(conn, shared, n, &segment.thread, 0, segment.upto)?);
    }
    history.extend(own_entries(conn, shared, thread.n, &thread.row.id, 0, thread.row.next_entry)?);
    Ok(history)
}

/// What a thread sees, piece by piece: a thread's number, its id, and where its part ends.
fn segments<'t>(conn: &Connection, thread: &'t Thread) -> Done<Vec<(i64, &'t ThreadId, u64)>> {
    let mut segments = Vec::with_capacity(thread.row.chain.len() + 1);
    for segment in &thread.row.chain {
        let missing = || damaged(format!("thread {}", thread.row.id), format!("no {}", segment.thread));
        let (n, _) = rows::numbers(conn, &segment.thread)?.ok_or_else(missing)?;
        segments.push((n, &segment.thread, segment.upto));
    }
    segments.push((thread.n, &thread.row.id, thread.row.next_entry));
    Ok(segments)
}

/// What a compaction reads: all entries from the position on that the newest summary covers, and how many lie before.
pub(crate) fn recent(conn: &Connection, shared: &Shared, thread: &Thread) -> Done<(Vec<Arc<Entry>>, usize)> {
    let segments = segments(conn, thread)?;
    let Some((_, covers_thread, covers)) = newest_summary(conn, &segments)? else {
        return Ok((history(conn, Some(shared), thread)?, 0));
    };
    let first = segments.iter().position(|(n, ..)| *n == covers_thread).unwrap_or(0);
    let mut left_out = segments[..first].iter().map(|(.., upto)| *upto).sum::<u64>();
    let mut entries = Vec::new();
    for (index, (n, id, upto)) in segments.iter().enumerate().skip(first) {
        let from = if index == first { covers.min(*upto) } else { 0 };
        left_out += if index == first { from } else { 0 };
        entries.extend(own_entries(conn, Some(shared), *n, id, from, *upto)?);
    }
    Ok((entries, usize::try_from(left_out).unwrap_or(usize::MAX)))
}

/// What the model is shown: everything, or from the newest summary on.
fn shown(conn: &Connection, shared: &Shared, thread: &Thread) -> Done<Vec<Arc<Entry>>> {
    let segments = segments(conn, thread)?;
    let Some((at, covers_thread, covers)) = newest_summary(conn, &segments)? else {
        return history(conn, Some(shared), thread);
    };
    let body: String =
        conn.prepare_cached("SELECT body FROM entries WHERE at = ?1")?.query_row([at], |row| row.get(0))?;
    let what = || format!("the summary of thread {}", thread.row.id);
    let Entry::Summary(summary) = from_json(&body, what)? else {
        return Err(damaged(what(), "it is another entry"));
    };
    let mut shown = vec![Arc::new(summary.shown())];
    let first = segments.iter().position(|(n, ..)| *n == covers_thread).unwrap_or(0);
    for (index, (n, id, upto)) in segments.iter().enumerate().skip(first) {
        let from = if index == first { covers.min(*upto) } else { 0 };
        let entries = own_entries(conn, Some(shared), *n, id, from, *upto)?;
        shown.extend(entries.into_iter().filter(|entry| !matches!(**entry, Entry::Summary(_))));
    }
    Ok(shown)
}

/// Where the newest summary lies that a thread sees, and the position that it covers: thread and entry.
fn newest_summary(conn: &Connection, segments: &[(i64, &ThreadId, u64)]) -> Done<Option<(i64, i64, u64)>> {
    let mut statement = conn.prepare_cached(
        "SELECT entry, covers_thread, covers FROM summaries WHERE thread = ?1 AND entry < ?2
        ORDER BY entry DESC LIMIT 1",
    )?;
    for (n, _, upto) in segments.iter().rev() {
        let mut rows = statement.query([*n, rows::signed(*upto)])?;
        if let Some(row) = rows.next()? {
            let at = entry_at(*n, unsigned(row.get(0)?));
            return Ok(Some((at, row.get(1)?, unsigned(row.get(2)?))));
        }
    }
    Ok(None)
}

/// A thread whose history is to be summarised, that nobody has and whose end is not in the inbox.
pub(crate) fn claim_compaction(conn: &Connection, shared: &Shared) -> Done<Option<ThreadId>> {
    if shared.guest.is_some() {
        return Ok(None); // The owner summarises.
    }
    let mut statement = conn.prepare_cached(
        "SELECT id FROM threads t WHERE compaction IN ('asked', 'needed') AND closed = 0
            AND NOT EXISTS (SELECT 1 FROM inbox i WHERE i.thread = t.n AND i.event = ?1) ORDER BY n",
    )?;
    let mut rows = statement.query([crate::accept::COMPACTED])?;
    while let Some(row) = rows.next()? {
        let id = thread_id(row.get(0)?)?;
        if shared.compacting().insert(id.clone()) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// The entries of a thread from one on, up to another. What is read from the first one on is kept parsed.
fn own_entries(
    conn: &Connection,
    shared: Option<&Shared>,
    n: i64,
    id: &ThreadId,
    from: u64,
    upto: u64,
) -> Done<Vec<Arc<Entry>>> {
    let shared = shared.filter(|_| from == 0);
    let mut entries = shared.map_or_else(Vec::new, |shared| shared.kept_history(n, upto));
    let kept = entries.len();
    let next = |entries: &[Arc<Entry>]| from + entries.len() as u64;
    if next(&entries) >= upto {
        return Ok(entries);
    }
    let mut bytes = 0;
    let mut statement =
        conn.prepare_cached("SELECT at, body FROM entries WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
    let mut rows = statement.query([entry_at(n, next(&entries)), entry_at(n, upto)])?;
    while let Some(row) = rows.next()? {
        let what = || format!("entry {} of thread {id}", next(&entries));
        if row.get::<_, i64>(0)? != entry_at(n, next(&entries)) {
            return Err(damaged(what(), "it is missing"));
        }
        let text = row.get_ref(1)?.as_str().map_err(|e| damaged(what(), e))?;
        bytes += text.len();
        let entry = from_json(text, what)?;
        entries.push(Arc::new(entry));
    }
    if next(&entries) != upto {
        return Err(damaged(format!("entry {} of thread {id}", next(&entries)), "it is missing"));
    }
    if let Some(shared) = shared {
        shared.keep_history(n, kept, &entries[kept..], bytes);
    }
    Ok(entries)
}

/// Calls that are open, presumed lost, of the newest turn, or named by an input.
fn calls(conn: &Connection, thread: &Thread) -> Done<Vec<CallRow>> {
    let sql = rows::select_calls(
        "",
        &format!(
            "WHERE c.n IN (
                SELECT n FROM calls WHERE thread = ?1 AND {OPEN}
                UNION SELECT n FROM calls WHERE thread = ?1 AND state = 'presumed_lost'
                UNION SELECT n FROM calls
                    WHERE thread = ?1 AND turn = (SELECT max(turn) FROM calls WHERE thread = ?1)
                UNION SELECT k.n FROM inbox i CROSS JOIN calls k ON k.thread = i.thread AND k.id = i.call
                    WHERE i.thread = ?1)
            ORDER BY c.turn, c.idx"
        ),
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([thread.n])?;
    let mut calls = Vec::new();
    while let Some(row) = rows.next()? {
        calls.push(rows::call(row, &thread.row.id)?);
    }
    Ok(calls)
}

/// Subscriptions that are active or named by an input.
fn subscriptions(conn: &Connection, thread: &Thread) -> Done<Vec<SubscriptionRow>> {
    let mut statement = conn.prepare_cached(
        "SELECT call, name, arguments, state, created_at FROM subscriptions
        WHERE thread = ?1 AND call IN (
            SELECT call FROM subscriptions WHERE thread = ?1 AND state = 'active'
            UNION SELECT call FROM inbox WHERE thread = ?1 AND call IS NOT NULL)
        ORDER BY created_at, call",
    )?;
    let mut rows = statement.query([thread.n])?;
    let mut subscriptions = Vec::new();
    while let Some(row) = rows.next()? {
        subscriptions.push(rows::subscription(row, &thread.row.id)?);
    }
    Ok(subscriptions)
}

/// The calls that ask people something nobody has answered.
fn asking(conn: &Connection, thread: &Thread) -> Done<Vec<CallId>> {
    let mut statement =
        conn.prepare_cached("SELECT call FROM questions WHERE thread = ?1 AND answered = 0 ORDER BY call")?;
    let mut rows = statement.query([thread.n])?;
    let mut asking = Vec::new();
    while let Some(row) = rows.next()? {
        asking.push(rows::call_id(row.get(0)?)?);
    }
    Ok(asking)
}

/// The open children, and the newest closed ones.
fn children(conn: &Connection, thread: &Thread) -> Done<Vec<Child>> {
    let mut statement = conn.prepare_cached(
        "SELECT n, id, event, open FROM (
            SELECT t.n, t.id, l.event, 1 AS open FROM threads t JOIN lineages l ON l.thread = t.n
                WHERE t.parent = ?1 AND t.closed = 0
            UNION ALL SELECT * FROM (SELECT t.n, t.id, l.event, 0
                FROM threads t JOIN lineages l ON l.thread = t.n
                WHERE t.parent = ?1 AND t.closed = 1 ORDER BY t.n DESC LIMIT ?2))
        ORDER BY n",
    )?;
    let mut rows = statement.query([thread.n, CLOSED_CHILDREN])?;
    let mut children = Vec::new();
    while let Some(row) = rows.next()? {
        let kind = if row.get(2)? { ChildKind::Event } else { ChildKind::Spawned };
        children.push(Child { id: thread_id(row.get(1)?)?, kind, open: row.get(3)? });
    }
    Ok(children)
}

/// The unconsumed inputs, by arrival.
fn inputs(conn: &Connection, thread: &Thread) -> Done<Vec<Input>> {
    if thread.inbox == 0 {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare_cached(
        "SELECT i.seq, i.id, i.accepted_at, i.body, i.traceparent FROM inbox b CROSS JOIN inputs i ON i.seq = b.seq
        WHERE b.thread = ?1 ORDER BY b.seq",
    )?;
    let mut rows = statement.query([thread.n])?;
    let mut inputs = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(1)?;
        let what = || format!("input {id} of thread {}", thread.row.id);
        let body = row.get_ref(3)?.as_str().map_err(|e| damaged(what(), e))?;
        inputs.push(Input {
            seq: row.get(0)?,
            accepted_at: Millis(row.get(2)?),
            body: from_json(body, what)?,
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
    Ok(Some(Input {
        seq: row.get(0)?,
        id: id.clone(),
        accepted_at: Millis(row.get(1)?),
        body: from_json(body, what)?,
        traceparent: row.get(3)?,
    }))
}

/// The thread that is due longest and that nobody has.
pub(crate) fn claim(conn: &Connection, shared: &Shared, now: Millis) -> Done<Option<Claim>> {
    // Held while reading: a thread that is released in between was committed before, and is read so.
    let mut claims = shared.claims();
    let mut statement =
        conn.prepare_cached("SELECT id FROM threads WHERE ready_at <= ?1 ORDER BY ready_at, n")?;
    let mut rows = statement.query([now.0])?;
    while let Some(row) = rows.next()? {
        let id = thread_id(row.get(0)?)?;
        if !claims.is_held(&id) {
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
        if !claims.is_held(&thread_id(row.get(0)?)?) {
            return Ok(Some(Millis(row.get(1)?)));
        }
    }
    Ok(None)
}

/// Entries of a thread until the first that is wanted.
pub(crate) fn find_entry<T>(
    conn: &Connection,
    thread: i64,
    wanted: impl Fn(&Entry) -> Option<T>,
) -> Done<Option<T>> {
    let mut statement =
        conn.prepare_cached("SELECT body FROM entries WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
    let mut rows = statement.query([entry_at(thread, 0), entry_at(thread + 1, 0)])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        let entry = from_json(&text, || format!("a history's entry (thread {thread})"))?;
        if let Some(found) = wanted(&entry) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
