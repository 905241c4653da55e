//! Taking an input: the facts, the core's word, the row, in one transaction (P1, P2).

use crate::{
    bodies,
    fault::{Done, from_json, from_word, json},
    prune,
    rows::{self, count, signed},
    subtree,
    writer::Write,
};
use rap_core::{
    Accepted, Admission, AdmissionFacts, CallState, InputBody, Millis, NewInput, Rules, Surface,
    SurfaceEvent, admit,
};
use rap_types::ThreadId;
use rusqlite::{OptionalExtension, params};
use std::sync::Arc;

/// An inbox's mark for the last event of a subscription; others have 1, what is no event 0.
const FINAL: i64 = 2;
/// An inbox's mark for the end of a compaction.
pub(crate) const COMPACTED: i64 = 3;

struct Target {
    n: i64,
    session: i64,
}

pub(crate) fn accept(write: &mut Write<'_>, new: &NewInput, now: Millis) -> Done<Accepted> {
    let (target, facts) = facts(write, new)?;
    accept_by(write, target, &facts, new, now)
}

/// As [`accept`], what nobody would bring again.
pub(crate) fn accept_once(write: &mut Write<'_>, new: &NewInput, now: Millis) -> Done<Accepted> {
    let (target, facts) = facts(write, new)?;
    accept_by(write, target, &AdmissionFacts { brought_once: true, ..facts }, new, now)
}

fn accept_by(
    write: &mut Write<'_>,
    target: Option<Target>,
    facts: &AdmissionFacts,
    new: &NewInput,
    now: Millis,
) -> Done<Accepted> {
    let rules = match &target {
        Some(target) => rules(write, target.session)?,
        None => Arc::default(),
    };
    Ok(match admit(&new.body, facts, &rules) {
        Admission::Accept => {
            if let Some(target) = target {
                enter(write, &target, new, now)?;
            }
            Accepted::Accepted
        }
        Admission::Duplicate => Accepted::Duplicate,
        Admission::Discard(reason) => {
            if let (Some(target), InputBody::Outcome { call, outcome }) = (&target, &new.body)
                && outcome.subscription
                && facts.call == Some(CallState::Cancelled)
            {
                // The server has a subscription that nobody wants: it is told once more.
                subtree::cancel(write, (target.n, &new.thread), target.session, call, now)?;
            }
            bury(write, &new.thread, new.id.as_str(), &reason, &json(&new.body), now)?;
            Accepted::Discarded(reason)
        }
        Admission::UnknownThread => Accepted::UnknownThread,
        Admission::Ended => Accepted::Ended,
        Admission::Busy => Accepted::Busy,
    })
}

pub(crate) fn rules(write: &Write<'_>, session: i64) -> Done<Arc<Rules>> {
    if let Some(rules) = write.shared.kept_rules(session) {
        return Ok(rules);
    }
    let text: String = write
        .conn
        .prepare_cached("SELECT rules FROM settings WHERE session = ?1")?
        .query_row([session], |row| row.get(0))?;
    let rules = Arc::new(from_json(&text, || format!("the rules of session {session}"))?);
    write.shared.keep_rules(session, &rules);
    Ok(rules)
}

fn facts(write: &Write<'_>, new: &NewInput) -> Done<(Option<Target>, AdmissionFacts)> {
    let mut facts = AdmissionFacts::default();
    let thread = write
        .conn
        .prepare_cached("SELECT n, session, closed, inbox, inbox_bytes FROM threads WHERE id = ?1")?
        .query_row([new.thread.as_str()], |row| {
            Ok((Target { n: row.get(0)?, session: row.get(1)? }, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((target, closed, inbox, bytes)) = thread else { return Ok((None, facts)) };
    facts.thread_exists = true;
    facts.thread_closed = closed;
    facts.inbox = count(inbox);
    facts.inbox_bytes = rows::unsigned(bytes);
    facts.seen = write
        .conn
        .prepare_cached("SELECT 1 FROM inputs WHERE thread = ?1 AND id = ?2")?
        .exists(params![target.n, new.id.as_str()])?;
    if let Some(call) = new.body.call() {
        let row = write
            .conn
            .prepare_cached(
                "SELECT state, outcome_accepted, final_accepted FROM calls WHERE thread = ?1 AND id = ?2",
            )?
            .query_row(params![target.n, call.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, row.get::<_, bool>(2)?))
            })
            .optional()?;
        if let Some((state, outcome_accepted, final_accepted)) = row {
            facts.call = Some(from_word::<CallState>(state, "a call's state")?);
            facts.final_accepted = final_accepted;
            // One outcome per call, whatever name the second one comes under (RES-09).
            facts.seen |= outcome_accepted && matches!(new.body, InputBody::Outcome { .. });
        }
        let state: Option<String> = write
            .conn
            .prepare_cached("SELECT state FROM subscriptions WHERE thread = ?1 AND call = ?2")?
            .query_row(params![target.n, call.as_str()], |row| row.get(0))
            .optional()?;
        facts.subscription = state.map(|s| from_word(s, "a subscription's state")).transpose()?;
        if facts.subscription.is_none() && matches!(new.body, InputBody::Event { .. }) {
            let parked: i64 = write
                .conn
                .prepare_cached("SELECT count(*) FROM inbox WHERE thread = ?1 AND call = ?2 AND event > 0")?
                .query_row(params![target.n, call.as_str()], |row| row.get(0))?;
            facts.parked = count(parked);
        }
    }
    Ok((Some(target), facts))
}

fn enter(write: &mut Write<'_>, target: &Target, new: &NewInput, now: Millis) -> Done<()> {
    let conn = write.conn;
    let body = json(&new.body);
    let bytes = signed(body.len() as u64);
    let body = bodies::put_away(conn, body)?;
    conn.prepare_cached(
        "INSERT INTO inputs (thread, id, accepted_at, source, traceparent, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![target.n, new.id.as_str(), now.0, new.source, new.traceparent, body])?;
    let by_person = new.body.is_by_person();
    let call = new.body.call();
    let event = match new.body {
        InputBody::Event { is_final: true, .. } => FINAL,
        InputBody::Event { .. } => 1,
        _ if new.body.ends_compaction() => COMPACTED,
        _ => 0,
    };
    conn.prepare_cached("INSERT INTO inbox VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        target.n,
        conn.last_insert_rowid(),
        call.map(|call| call.as_str()),
        event,
        by_person,
        bytes
    ])?;
    conn.prepare_cached(
        "UPDATE threads SET inbox = inbox + 1, inbox_bytes = inbox_bytes + ?4, due_at = min(coalesce(due_at, ?2), ?2),
            woken_at = CASE WHEN ?3 THEN min(coalesce(woken_at, ?2), ?2) ELSE woken_at END
        WHERE n = ?1",
    )?
    .execute(params![target.n, now.0, by_person, bytes])?;
    if let InputBody::Event { call, .. } = &new.body {
        prune::events(write, target.n, call, now)?;
    }
    match &new.body {
        InputBody::Outcome { call, .. } => {
            conn.prepare_cached("UPDATE calls SET outcome_accepted = 1 WHERE thread = ?1 AND id = ?2")?
                .execute(params![target.n, call.as_str()])?;
        }
        InputBody::Event { call, is_final: true, .. } => {
            conn.prepare_cached("UPDATE calls SET final_accepted = 1 WHERE thread = ?1 AND id = ?2")?
                .execute(params![target.n, call.as_str()])?;
        }
        InputBody::Message { .. } => {
            // Only where it changes something: most messages follow few completions, but not none.
            conn.prepare_cached(
                "UPDATE sessions SET completions = 0, tokens = 0
                WHERE n = ?1 AND (completions <> 0 OR tokens <> 0)",
            )?
            .execute([target.session])?;
        }
        _ => {}
    }
    Ok(())
}

/// Puts away what cannot be used or delivered. `body` is JSON.
pub(crate) fn bury(
    write: &Write<'_>,
    thread: &ThreadId,
    what: &str,
    reason: &str,
    body: &str,
    now: Millis,
) -> Done<()> {
    keep_letter(write, thread, (what, reason, body), (false, 0), now)?;
    drop_oldest_letter(write, thread)
}

/// As [`bury`], for a request that was tried so often.
pub(crate) fn bury_request(
    write: &Write<'_>,
    thread: &ThreadId,
    what: &str,
    attempts: u32,
    reason: &str,
    body: &str,
    now: Millis,
) -> Done<()> {
    keep_letter(write, thread, (what, reason, body), (false, attempts), now)?;
    drop_oldest_letter(write, thread)
}

fn keep_letter(
    write: &Write<'_>,
    thread: &ThreadId,
    (what, reason, body): (&str, &str, &str),
    (accepted, attempts): (bool, u32),
    now: Millis,
) -> Done<()> {
    write
        .conn
        .prepare_cached(
            "INSERT INTO dead_letters (at, thread, what, reason, body, accepted, attempts)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![now.0, thread.as_str(), what, reason, body, accepted, attempts])?;
    Ok(())
}

/// At the limit, the oldest dead letter of a thread goes that was never accepted.
fn drop_oldest_letter(write: &Write<'_>, thread: &ThreadId) -> Done<()> {
    let kept: i64 = write
        .conn
        .prepare_cached("SELECT count(*) FROM dead_letters WHERE thread = ?1 AND accepted = 0")?
        .query_row([thread.as_str()], |row| row.get(0))?;
    let limit = match rows::numbers(write.conn, thread)? {
        Some((_, session)) => rules(write, session)?.dead_letters,
        None => Rules::default().dead_letters,
    };
    if count(kept) > limit {
        write
            .conn
            .prepare_cached(
                "DELETE FROM dead_letters
                WHERE n = (SELECT min(n) FROM dead_letters WHERE thread = ?1 AND accepted = 0)",
            )?
            .execute([thread.as_str()])?;
    }
    Ok(())
}

/// Puts an unconsumed input away, as [`consume`] takes it out, for good (P1); false if there is none of that number.
pub(crate) fn bury_input(
    write: &Write<'_>,
    thread: (i64, &ThreadId),
    seq: i64,
    reason: &str,
    now: Millis,
) -> Done<bool> {
    if consume(write, thread.0, seq, seq)?.is_empty() {
        return Ok(false);
    }
    let (id, body): (String, String) = write
        .conn
        .prepare_cached("SELECT id, body FROM inputs WHERE seq = ?1")?
        .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let body = bodies::whole(write.conn, &body, || format!("input {id} of thread {}", thread.1))?;
    keep_letter(write, thread.1, (&id, reason, &body), (true, 0), now)?;
    Ok(true)
}

/// Takes inputs out of their thread's inbox, those from one number on up to another; their numbers. The thread's count
/// of them is for the caller to [lower](fewer).
pub(crate) fn consume(write: &Write<'_>, thread: i64, from: i64, upto: i64) -> Done<Vec<i64>> {
    let mut statement = write.conn.prepare_cached(
        "DELETE FROM inbox WHERE thread = ?1 AND seq >= ?2 AND seq <= ?3 RETURNING seq, call, event",
    )?;
    let mut rows = statement.query([thread, from, upto])?;
    let (mut gone, mut finals) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        gone.push(row.get(0)?);
        if row.get::<_, i64>(2)? == FINAL {
            finals.push(row.get::<_, Option<String>>(1)?);
        }
    }
    for call in finals {
        // From here on the subscription's own state speaks; without one the event meant nothing.
        write
            .conn
            .prepare_cached("UPDATE calls SET final_accepted = 0 WHERE thread = ?1 AND id = ?2")?
            .execute(params![thread, call])?;
    }
    Ok(gone)
}

/// What of a thread's inbox is left after inputs were [taken out](consume), `?1` being its number.
pub(crate) const BYTES_LEFT: &str =
    "inbox_bytes = (SELECT coalesce(sum(bytes), 0) FROM inbox WHERE thread = ?1)";

/// Lowers a thread's count of unconsumed inputs.
pub(crate) fn fewer(write: &Write<'_>, thread: i64, by: usize) -> Done<()> {
    if by > 0 {
        write
            .conn
            .prepare_cached(&format!("UPDATE threads SET inbox = inbox - ?2, {BYTES_LEFT} WHERE n = ?1"))?
            .execute([thread, signed(by as u64)])?;
    }
    Ok(())
}

/// Numbers an event for people.
pub(crate) fn show(write: &Write<'_>, session: i64, event: &SurfaceEvent, now: Millis) -> Done<()> {
    write
        .conn
        .prepare_cached("INSERT INTO surface (session, at, body) VALUES (?1, ?2, ?3)")?
        .execute(params![session, now.0, bodies::put_away(write.conn, json(event))?])?;
    Ok(())
}

pub(crate) fn shown(thread: &ThreadId, what: Surface) -> SurfaceEvent {
    SurfaceEvent { thread: thread.clone(), what }
}

/// Makes a session and its root thread, if there is none of that id.
pub(crate) fn create(write: &mut Write<'_>, session: &rap_core::Session) -> Done<()> {
    let conn = write.conn;
    let new = conn
        .prepare_cached(
            "INSERT INTO sessions (id, owner, created_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        )?
        .execute(params![session.id.as_str(), session.owner, session.created_at.0])?;
    if new == 0 {
        return Ok(());
    }
    let n = conn.last_insert_rowid();
    conn.prepare_cached("INSERT INTO settings VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        n,
        session.user.as_ref().map(rap_types::UserId::as_str),
        session.model,
        session.system,
        json(&session.toolbox),
        json(&session.rules)
    ])?;
    let row = rap_core::ThreadRow {
        id: session.id.clone(),
        session: session.id.clone(),
        ancestors: Vec::new(),
        chain: Vec::new(),
        kind: rap_core::ThreadKind::Root,
        version: 0,
        next_entry: 0,
        paused: false,
        closed: false,
        model_owed: false,
        turn_at: None,
        reported: false,
        retry_at: None,
        compaction: rap_core::Compaction::Idle,
        waits_for_room: None,
        model: None,
        last_record: String::new(),
    };
    rows::insert_thread(conn, &row, n, None, session.created_at)?;
    let what = Surface::Opened { parent: None, reason: "session".into() };
    show(write, n, &shown(&session.id, what), session.created_at)
}
