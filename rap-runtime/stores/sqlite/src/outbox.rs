//! Requests on their way out: taken in memory, settled with the next commit.

use crate::{
    accept::{accept, accept_once, bury_request},
    fault::{Done, damaged, from_json, from_word, json},
    load::still_owned,
    rows::{call_id, thread_id},
    shared::{Shared, UnderWay, Way},
    writer::Write,
};
use rap_core::{DeadLetterView, Delivery, DeliveryKind, InputBody, InputId, Millis, NewInput};
use rap_types::{HttpUrl, ThreadId};
use rusqlite::{Connection, OptionalExtension, Row, params, types::ValueRef};
use serde_json::Value;

/// Whether a request may have reached its server: it was tried, or it is of an earlier owner, who may have
/// sent it without living to say so.
pub(crate) fn may_have_been_sent(attempts: i64, begun: bool, epoch: i64, now: i64) -> bool {
    attempts > 0 || begun || epoch != now
}

const ROW: &str = "SELECT o.id, o.kind, t.id, s.id, o.call, o.url, o.body, o.attempts, o.first_attempt,
        o.due_at, o.thread, o.epoch, o.begun, o.traceparent
    FROM outbox o JOIN threads t ON t.n = o.thread JOIN sessions s ON s.n = t.session";

fn delivery(row: &Row<'_>, epoch: i64) -> Done<Delivery> {
    let id: i64 = row.get(0)?;
    let what = || format!("request {id} of the outbox");
    let call = row.get::<_, Option<String>>(4)?;
    Ok(Delivery {
        id,
        kind: from_word(row.get(1)?, "a request's kind")?,
        thread: thread_id(row.get(2)?)?,
        session: thread_id(row.get(3)?)?,
        call: call.map(call_id).transpose()?,
        url: HttpUrl::new(row.get::<_, String>(5)?).map_err(|e| damaged(what(), e))?,
        body: from_json(&row.get::<_, String>(6)?, what)?,
        attempts: u32::try_from(row.get::<_, i64>(7)?).unwrap_or(u32::MAX),
        // What an earlier owner wrote does not count: its window did not pass while nobody was there.
        first_attempt: row
            .get::<_, Option<i64>>(8)?
            .filter(|_| row.get(11).is_ok_and(|written: i64| written == epoch))
            .map(Millis),
        begun: may_have_been_sent(row.get(7)?, row.get(12)?, row.get(11)?, epoch),
        traceparent: row.get(13)?,
    })
}

/// What was found due.
#[derive(Default)]
pub(crate) struct Found {
    /// Taken, to be sent.
    pub(crate) taken: Vec<Delivery>,
    /// Invocations whose call has its outcome: they arrived, and nobody lived to write that down.
    pub(crate) answered: Vec<(i64, Way)>,
    /// Rows that cannot be read, and why.
    pub(crate) unreadable: Vec<(i64, String)>,
}

/// Takes what is due. What cannot be read holds nothing else up.
pub(crate) fn take(conn: &Connection, shared: &Shared, now: Millis, limit: usize) -> Done<Found> {
    let mut under_way = shared.under_way();
    let mut found = Found::default();
    let mut ways = Vec::new();
    let mut statement =
        conn.prepare_cached(&format!("{ROW} WHERE o.due_at <= ?1 ORDER BY o.due_at, o.id"))?;
    let mut rows = statement.query([now.0])?;
    while found.taken.len() < limit
        && let Some(row) = rows.next()?
    {
        let id: i64 = row.get(0)?;
        let mut delivery = match due(conn, shared, &under_way, row, now) {
            Ok(Some(delivery)) => delivery,
            Ok(None) => continue,
            Err(fault) if fault.is_of_one_row() => {
                found.unreadable.push((id, fault.into_error(&shared.path).to_string()));
                ways.push((id, Way::Unreadable));
                continue;
            }
            Err(fault) => return Err(fault),
        };
        if let Some(Way::Again { attempts, first, begun, .. }) = under_way.get(&id) {
            (delivery.attempts, delivery.first_attempt) = (*attempts, Some(*first));
            delivery.begun = *begun;
        }
        if is_answered(conn, &delivery, row)? {
            let way = Way::Gone { attempts: delivery.attempts };
            found.answered.push((id, way));
            ways.push((id, way));
            continue;
        }
        let first = delivery.first_attempt.unwrap_or(now);
        let way = Way::Taken { attempts: delivery.attempts, first, before: delivery.begun, begun: false };
        ways.push((id, way));
        found.taken.push(delivery);
    }
    if !ways.is_empty() {
        // Whatever a later owner has committed is its to send.
        still_owned(conn, shared)?;
    }
    // Only now, with nothing left that can fail: what is marked is handed out.
    under_way.extend(ways);
    Ok(found)
}

/// A request, if it is this process's, due, and free to be taken.
fn due(
    conn: &Connection,
    shared: &Shared,
    under_way: &UnderWay,
    row: &Row<'_>,
    now: Millis,
) -> Done<Option<Delivery>> {
    let mine = shared.is_mine(row.get(10)?, row.get(0)?);
    if !mine || free_at(conn, under_way, row)?.is_none_or(|due| due > now) {
        return Ok(None);
    }
    delivery(row, shared.epoch).map(Some)
}

/// Whether an invocation that may have been sent has arrived for certain.
fn is_answered(conn: &Connection, delivery: &Delivery, row: &Row<'_>) -> Done<bool> {
    let Some(call) = delivery.call.as_ref().filter(|_| delivery.kind == DeliveryKind::Invocation) else {
        return Ok(false);
    };
    if !delivery.begun {
        return Ok(false);
    }
    let mut statement =
        conn.prepare_cached("SELECT 1 FROM calls WHERE thread = ?1 AND id = ?2 AND outcome_accepted = 1")?;
    Ok(statement.exists(params![row.get::<_, i64>(10)?, call.as_str()])?)
}

/// When the earliest request that nobody has is due.
pub(crate) fn next_due(conn: &Connection, shared: &Shared) -> Done<Option<Millis>> {
    let under_way = shared.under_way();
    let mut earliest: Option<Millis> = None;
    let mut statement = conn.prepare_cached(&format!("{ROW} ORDER BY o.due_at, o.id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(stored) = row.get(9).map(Millis) else { continue };
        if earliest.is_some_and(|earliest| earliest <= stored) {
            break; // Whatever follows is due later still.
        }
        if shared.is_mine(row.get(10)?, row.get(0)?)
            && let Ok(Some(due)) = free_at(conn, &under_way, row)
        {
            earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
        }
    }
    Ok(earliest)
}

/// When a request is due; none if it is taken, or behind another one of its call.
fn free_at(conn: &Connection, under_way: &UnderWay, row: &Row<'_>) -> Done<Option<Millis>> {
    let id: i64 = row.get(0)?;
    let due = match under_way.get(&id) {
        Some(Way::Taken { .. } | Way::Gone { .. } | Way::Withdrawn | Way::Elsewhere | Way::Unreadable) => {
            return Ok(None);
        }
        Some(Way::Again { at, .. }) => *at,
        None => Millis(row.get(9)?),
    };
    let Some(call) = row.get::<_, Option<String>>(4)? else { return Ok(Some(due)) };
    // Everything waits for the invocation, and for nothing else: notices are for different servers (CLS-06),
    // and an answer may be retried for days.
    let mut statement = conn.prepare_cached(
        "SELECT id FROM outbox WHERE thread = ?1 AND call = ?2 AND id < ?3 AND kind = 'invocation'",
    )?;
    let mut earlier = statement.query(params![row.get::<_, i64>(10)?, call, id])?;
    while let Some(earlier) = earlier.next()? {
        if !matches!(under_way.get(&earlier.get(0)?), Some(Way::Gone { .. })) {
            return Ok(None);
        }
    }
    Ok(Some(due))
}

/// Marks a taken request as being sent; false if it was taken back meanwhile.
pub(crate) fn begin(shared: &Shared, id: i64) -> bool {
    match shared.under_way().get_mut(&id) {
        Some(Way::Taken { begun, .. }) => {
            *begun = true;
            true
        }
        _ => false,
    }
}

/// A request that is marked as settled and is not yet: dropped, it is taken as it was before.
pub(crate) struct Ending<'a> {
    shared: &'a Shared,
    id: i64,
    before: Way,
    /// How it ends.
    pub(crate) way: Way,
    written: bool,
}

impl Ending<'_> {
    /// It is settled for good.
    pub(crate) fn written(mut self) {
        self.written = true;
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut under_way = self.shared.under_way();
        if !self.written && under_way.get(&self.id) == Some(&self.way) {
            under_way.insert(self.id, self.before);
        }
    }
}

/// As [`settle_in_memory`], for an end that is durable when it is told.
pub(crate) fn end(shared: &Shared, id: i64) -> Option<Ending<'_>> {
    let before = shared.under_way().get(&id).copied()?;
    let way = settle_in_memory(shared, id, None)?;
    Some(Ending { shared, id, before, way, written: false })
}

/// Marks a taken request as settled, so that what waits for it can go. None if nobody has it.
pub(crate) fn settle_in_memory(shared: &Shared, id: i64, again: Option<Millis>) -> Option<Way> {
    let mut under_way = shared.under_way();
    let Some(Way::Taken { attempts, first, before, begun }) = under_way.get(&id).copied() else {
        return None;
    };
    let attempts = attempts + u32::from(begun);
    let way = match again {
        Some(at) => Way::Again { at, attempts, first, begun: before || begun },
        None => Way::Gone { attempts },
    };
    under_way.insert(id, way);
    Some(way)
}

/// Writes a settlement.
pub(crate) fn settle(write: &mut Write<'_>, id: i64, way: Way) -> Done<()> {
    write.after.settled.push((id, way));
    match way {
        Way::Again { at, attempts, first, begun } => {
            write
                .conn
                .prepare_cached(
                    "UPDATE outbox SET due_at = ?2, attempts = ?3, first_attempt = ?4, begun = ?5, epoch = ?6
                    WHERE id = ?1",
                )?
                .execute(params![id, at.0, attempts, first.0, begun, write.shared.epoch])?;
            tried(write, id, attempts)
        }
        Way::Gone { attempts } => {
            tried(write, id, attempts)?;
            write.conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
            Ok(())
        }
        Way::Taken { .. } | Way::Withdrawn | Way::Elsewhere | Way::Unreadable => Ok(()),
    }
}

/// Counts requests as begun that another process may have begun without living to say so; in one transaction.
pub(crate) fn may_be_begun(write: &Write<'_>, ids: &[i64]) -> Done<()> {
    for id in ids {
        write
            .conn
            .prepare_cached("UPDATE outbox SET begun = 1 WHERE id = ?1 AND begun = 0")?
            .execute([id])?;
    }
    Ok(())
}

/// Requests of a thread that another process may have begun, and that count as never begun.
pub(crate) fn lent_out(conn: &Connection, shared: &Shared, thread: i64, fence: i64) -> Done<Vec<i64>> {
    let mut statement = conn.prepare_cached("SELECT id FROM outbox WHERE thread = ?1 AND begun = 0")?;
    let ids = statement.query_map([thread], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
    let under_way = shared.under_way();
    let theirs = |id: &i64| !under_way.contains_key(id) && shared.is_lent(thread, fence, *id);
    Ok(ids.into_iter().filter(theirs).collect())
}

/// Counts the tries of an invocation on its call, where they outlive the outbox.
fn tried(write: &Write<'_>, id: i64, attempts: u32) -> Done<()> {
    write
        .conn
        .prepare_cached(
            "UPDATE calls SET attempts = ?2 FROM outbox o
            WHERE o.id = ?1 AND o.kind = 'invocation' AND calls.thread = o.thread AND calls.id = o.call",
        )?
        .execute(params![id, attempts])?;
    Ok(())
}

/// Gives a request up: a dead letter keeps it, and its thread is told in the same transaction.
pub(crate) fn give_up(
    write: &mut Write<'_>,
    id: i64,
    way: Way,
    reason: &str,
    input: Option<&NewInput>,
    now: Millis,
) -> Done<()> {
    let row: Option<(String, String, Option<String>, String)> = write
        .conn
        .prepare_cached(
            "SELECT o.kind, t.id, o.call, o.body FROM outbox o JOIN threads t ON t.n = o.thread
            WHERE o.id = ?1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    if let Some((kind, thread, call, body)) = row {
        let kind: DeliveryKind = from_word(kind, "a request's kind")?;
        let thread: ThreadId = thread_id(thread)?;
        let what = DeadLetterView::name_of(kind, call.map(call_id).transpose()?.as_ref());
        let attempts = if let Way::Gone { attempts } = way { attempts } else { 0 };
        bury_request(write, &thread, &what, attempts, reason, &body, now)?;
        settle(write, id, way)?;
    }
    if let Some(input) = input {
        accept(write, input, now)?;
    }
    Ok(())
}

/// Settles a request for good, and takes in what came of it.
pub(crate) fn answered(write: &mut Write<'_>, id: i64, way: Way, input: &NewInput, now: Millis) -> Done<()> {
    settle(write, id, way)?;
    accept_once(write, input, now)?;
    Ok(())
}

/// As much of a value as can be read.
fn legible(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// Puts a row away that cannot be read: as much of it as can be is a dead letter, and the thread of an invocation is told.
pub(crate) fn put_away(write: &mut Write<'_>, id: i64, why: &str, now: Millis) -> Done<()> {
    type Parts = (Option<String>, String, Option<String>, Option<String>, i64, bool);
    let row: Option<Parts> = write
        .conn
        .prepare_cached(
            "SELECT o.kind, t.id, o.call, o.body, CAST(o.attempts AS INTEGER), o.attempts <> 0 OR o.begun <> 0 OR o.epoch <> ?2
            FROM outbox o JOIN threads t ON t.n = o.thread WHERE o.id = ?1",
        )?
        .query_row(params![id, write.shared.epoch], |row| {
            let text = |column| row.get_ref(column).map(legible);
            Ok((text(0)?, row.get(1)?, text(2)?, text(3)?, row.get(4)?, row.get(5)?))
        })
        .optional()?;
    write.after.settled.push((id, Way::Unreadable));
    let Some((kind, thread, call, body, attempts, may_have_arrived)) = row else { return Ok(()) };
    let thread = thread_id(thread)?;
    let call = call.and_then(|call| call_id(call).ok());
    let kind = kind.and_then(|kind| from_word::<DeliveryKind>(kind, "a request's kind").ok());
    let what = kind.map_or_else(|| "request".to_owned(), |kind| DeadLetterView::name_of(kind, call.as_ref()));
    let body = body.unwrap_or_default();
    let body = if serde_json::from_str::<Value>(&body).is_ok() { body } else { json(&body) };
    let attempts = u32::try_from(attempts).unwrap_or(0);
    bury_request(write, &thread, &what, attempts, &format!("it cannot be read: {why}"), &body, now)?;
    write.conn.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
    if let (Some(DeliveryKind::Invocation), Some(call)) = (kind, call) {
        let reason =
            "the request was damaged in the runtime's database; call again, and tell the user".to_owned();
        let input = NewInput {
            thread,
            id: InputId::undelivered(&call),
            source: "runtime".to_owned(),
            body: InputBody::Undelivered { call, may_have_arrived, reason },
            traceparent: None,
        };
        accept(write, &input, now)?;
    }
    Ok(())
}
