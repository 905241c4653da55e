//! Writing a slice: all of a commit or nothing, and only by whoever still has the thread (P4).

use crate::{
    accept::{BYTES_LEFT, accept, bury, bury_input, consume, show},
    bodies,
    fault::{Done, damaged, json, word},
    interact,
    rows::{self, entry_at, signed},
    segments, subtree,
    writer::Write,
};
use rap_core::{
    Accepted, Claim, Commit, Committed, DeliveryKind, Entry, HistoryDigest, Millis, NewDelivery, NewInput,
    NewThread, SliceRecord, StoreError,
};
use rusqlite::{OptionalExtension, params};
use std::collections::HashSet;

pub(crate) fn commit(write: &mut Write<'_>, claim: &Claim, commit: &Commit, now: Millis) -> Done<Committed> {
    write.shared.check(claim)?;
    let row = write
        .conn
        .prepare_cached("SELECT n, session, version, next_entry, closed, sealed FROM threads WHERE id = ?1")?
        .query_row([claim.thread.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })
        .optional()?;
    let Some((n, session, version, next_entry, closed, sealed)): Option<(i64, i64, i64, i64, bool, i64)> =
        row
    else {
        return Err(StoreError::Fenced.into());
    };
    if closed || version != commit.version || commit.thread != claim.thread {
        return Err(StoreError::Fenced.into());
    }
    let next_entry = rows::unsigned(next_entry);
    let used = inputs_used(write, n, commit, now)?;
    segments::insert(write.conn, n, next_entry, &commit.entries)?;
    summaries(write, n, next_entry, &commit.entries)?;
    for row in &commit.calls {
        rows::put_call(write.conn, n, row)?;
        interact::forget_ended(write.conn, n, row)?;
    }
    for row in &commit.subscriptions {
        rows::put_subscription(write.conn, n, row)?;
    }
    update(write, n, commit, next_entry, used)?;
    segments::seal(write.conn, n, rows::unsigned(sealed), next_entry + commit.entries.len() as u64)?;
    record(write, n, session, commit)?;
    for event in &commit.surface {
        show(write, session, event, now)?;
    }
    for new in &commit.threads {
        open_thread(write, session, new, now)?;
    }
    for delivery in &commit.outbox {
        send(write, delivery, now)?;
    }
    for call in &commit.cancel {
        subtree::cancel(write, (n, &commit.thread), session, call, now)?;
    }
    for input in &commit.inputs {
        pass_on(write, input, now)?;
    }
    if commit.resume && !commit.pause {
        subtree::resume(write, n, now)?;
    }
    if commit.pause {
        subtree::pause(write, n, commit.stopped_by, now)?;
    }
    if commit.close {
        subtree::close(write, n, now)?;
    }
    if commit.close || commit.update.waits_for_room.is_some() {
        subtree::wake_for_room(write, session, now)?;
    }
    wake(write, n, commit.seen, now)?;
    let due_at: Option<i64> = write
        .conn
        .prepare_cached("SELECT ready_at FROM threads WHERE n = ?1")?
        .query_row([n], |row| row.get(0))?;
    Ok(Committed { version: version + 1, due_at: due_at.map(Millis) })
}

/// Notes where summaries lie and what they cover.
fn summaries(write: &Write<'_>, n: i64, next_entry: u64, entries: &[Entry]) -> Done<()> {
    for (number, entry) in (next_entry..).zip(entries) {
        let Entry::Summary(summary) = entry else { continue };
        let covers = rows::numbers(write.conn, &summary.covers.thread)?;
        let (covers, _) = covers.ok_or_else(|| {
            StoreError::Failed(format!("a summary of thread {}, which is not there", summary.covers.thread))
        })?;
        write.conn.prepare_cached("INSERT INTO summaries VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            n,
            signed(number),
            covers,
            signed(summary.covers.upto)
        ])?;
    }
    Ok(())
}

/// Takes the inputs that a slice used up out of the inbox; how many they are.
fn inputs_used(write: &Write<'_>, n: i64, commit: &Commit, now: Millis) -> Done<usize> {
    let missing =
        |seq: i64| damaged(format!("the inbox of thread {}", commit.thread), format!("no input {seq}"));
    for letter in &commit.dead_letters {
        if !bury_input(write, (n, &commit.thread), letter.seq, &letter.reason, now)? {
            return Err(missing(letter.seq));
        }
    }
    let buried: HashSet<i64> = commit.dead_letters.iter().map(|letter| letter.seq).collect();
    let mut rest: Vec<i64> = commit.consumed.iter().copied().filter(|seq| !buried.contains(seq)).collect();
    rest.sort_unstable();
    let used = buried.len() + rest.len();
    if let [first, .., last] = rest[..]
        && waiting(write, n, first, last)? == rest.len()
    {
        // Nothing that stays lies between them: they go in one statement.
        let mut gone = consume(write, n, first, last)?;
        gone.sort_unstable();
        let other = rest.iter().zip(&gone).find(|(one, other)| one != other);
        return other.map_or(Ok(used), |(seq, _)| Err(missing(*seq)));
    }
    for seq in rest {
        if consume(write, n, seq, seq)?.is_empty() {
            return Err(missing(seq));
        }
    }
    Ok(used)
}

/// How many inputs wait whose numbers are in a range.
fn waiting(write: &Write<'_>, n: i64, first: i64, last: i64) -> Done<usize> {
    let mut statement = write
        .conn
        .prepare_cached("SELECT count(*) FROM inbox WHERE thread = ?1 AND seq >= ?2 AND seq <= ?3")?;
    Ok(rows::count(statement.query_row([n, first, last], |row| row.get(0))?))
}

fn update(write: &Write<'_>, n: i64, commit: &Commit, next_entry: u64, used: usize) -> Done<()> {
    let next_entry = next_entry + commit.entries.len() as u64;
    if entry_at(0, next_entry) >= i64::from(u32::MAX) {
        return Err(StoreError::Failed(format!("thread {} has too many entries", commit.thread)).into());
    }
    write
        .conn
        .prepare_cached(&format!(
            "UPDATE threads SET version = version + 1, next_entry = ?2, model_owed = ?3, turn_at = ?4,
                reported = ?5, last_record = ?6, due_at = ?7, woken_at = NULL, retry_at = ?8, room = ?9,
                seen = max(seen, ?10), compaction = ?11, model = ?12, shown = ?13,
                inbox = inbox - ?14, {BYTES_LEFT}
            WHERE n = ?1",
        ))?
        .execute(params![
            n,
            signed(next_entry),
            commit.update.model_owed,
            commit.update.turn_at.map(|at| at.0),
            commit.update.reported,
            commit.record.hash,
            commit.update.due_at.map(|at| at.0),
            commit.update.retry_at.map(|at| at.0),
            commit.update.waits_for_room.map(|room| signed(room as u64)),
            commit.seen,
            word(&commit.update.compaction),
            commit.update.model,
            commit.shown.as_ref().map(HistoryDigest::as_bytes),
            signed(used as u64),
        ])?;
    Ok(())
}

/// What the body of a slice's row holds.
#[derive(serde::Serialize)]
struct SliceBody<'a> {
    record: &'a SliceRecord,
    consumed: &'a [i64],
}

/// The record of the slice (P12), and the runaway guard's counts.
fn record(write: &Write<'_>, n: i64, session: i64, commit: &Commit) -> Done<()> {
    let body = SliceBody { record: &commit.record, consumed: &commit.consumed };
    write.conn.prepare_cached("INSERT INTO slices VALUES (?1, ?2, ?3)")?.execute(params![
        n,
        commit.version + 1,
        bodies::put_away(write.conn, json(&body))?
    ])?;
    if commit.completed || commit.tokens > 0 {
        write
            .conn
            .prepare_cached(
                // More than there is a number for stays the largest one.
                "UPDATE sessions SET completions = completions + ?2,
                    tokens = CASE WHEN tokens > 9223372036854775807 - ?3 THEN 9223372036854775807 ELSE tokens + ?3 END
                WHERE n = ?1",
            )?
            .execute(params![session, commit.completed, signed(commit.tokens)])?;
    }
    Ok(())
}

fn open_thread(write: &Write<'_>, session: i64, new: &NewThread, now: Millis) -> Done<()> {
    let mut row = new.row.clone();
    row.next_entry = new.entries.len() as u64;
    let n = rows::insert_thread(write.conn, &row, session, Some(now), now)?;
    segments::insert(write.conn, n, 0, &new.entries)?;
    for event in &new.surface {
        show(write, session, event, now)?;
    }
    Ok(())
}

/// Puts a request into the outbox.
pub(crate) fn send(write: &mut Write<'_>, delivery: &NewDelivery, now: Millis) -> Done<()> {
    let Some((thread, _)) = rows::numbers(write.conn, &delivery.thread)? else {
        return Err(StoreError::Failed(format!(
            "a request of thread {}, which is not there",
            delivery.thread
        ))
        .into());
    };
    let call = delivery.call.as_ref().map(|call| call.as_str());
    write
        .conn
        .prepare_cached(
            "INSERT INTO outbox (kind, thread, call, due_at, epoch, route, url, body, traceparent)
            VALUES (?1, ?2, ?3, ?4, ?5, 'rap', ?6, ?7, ?8)",
        )?
        .execute(params![
            word(&delivery.kind),
            thread,
            call,
            now.0,
            write.shared.epoch,
            delivery.url.as_str(),
            json(&delivery.body),
            delivery.traceparent
        ])?;
    write.after.sent.push((thread, write.conn.last_insert_rowid()));
    if delivery.kind == DeliveryKind::Invocation {
        write
            .conn
            .prepare_cached("UPDATE calls SET invoked = 1 WHERE thread = ?1 AND id = ?2")?
            .execute(params![thread, call])?;
    }
    Ok(())
}

/// An input for another thread. Nobody hears a refusal, so it is kept as a dead letter (P1).
fn pass_on(write: &mut Write<'_>, input: &NewInput, now: Millis) -> Done<()> {
    let reason = match accept(write, input, now)? {
        Accepted::Accepted | Accepted::Duplicate | Accepted::Discarded(_) => return Ok(()),
        Accepted::UnknownThread => "there is no such thread",
        Accepted::Ended => "its thread is closed",
        Accepted::Busy => "its thread's inbox is full",
    };
    bury(write, &input.thread, input.id.as_str(), reason, &json(&input.body), now)
}

/// An input that came while the slice ran makes the thread due at once.
fn wake(write: &Write<'_>, n: i64, seen: i64, now: Millis) -> Done<()> {
    write
        .conn
        .prepare_cached(
            "UPDATE threads SET due_at = ?3,
                woken_at = CASE WHEN EXISTS
                    (SELECT 1 FROM inbox WHERE thread = ?1 AND seq > ?2 AND person = 1) THEN ?3 END
            WHERE n = ?1 AND closed = 0 AND EXISTS (SELECT 1 FROM inbox WHERE thread = ?1 AND seq > ?2)",
        )?
        .execute(params![n, seen, now.0])?;
    Ok(())
}
