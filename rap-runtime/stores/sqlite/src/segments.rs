//! Histories on the disk: new entries as rows, old ones put together in segments, so that a long history is read as a
//! few blobs and one copy, and parsed only where somebody looks.
//!
//! A segment is sealed by the commit that makes enough entries old, in the same transaction as its rows go: an entry
//! lies in one place or in the other. Its text is checked against a sum when it is read, since nobody may parse it then.

use crate::{
    fault::{Done, damaged, from_json},
    rows::{entry_at, signed},
};
use rap_core::{Entry, History, Sealed};
use rap_types::ThreadId;
use rusqlite::{Connection, params};
use std::sync::Arc;

/// Entries of a segment, at most.
const SEGMENT: u64 = 256;
/// Bytes of a segment, at most, unless it is a single entry.
const BYTES: usize = 1024 * 1024;
/// From so many rows on, the oldest become segments.
const ROWS: u64 = 2 * SEGMENT;

/// A thread's entries, as [`read`] needs to know them.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) n: i64,
    pub(crate) id: &'a ThreadId,
    /// Entries before this one lie in segments; more than there are where that is not known.
    pub(crate) sealed: u64,
}

/// The entries of a thread from one on, before another, and how many bytes they are.
pub(crate) fn read(conn: &Connection, own: Own<'_>, from: u64, upto: u64) -> Done<(History, usize)> {
    let (n, id) = (own.n, own.id);
    let (mut history, mut bytes) = (History::default(), 0);
    let what = |number: u64| format!("entry {number} of thread {id}");
    if from < upto.min(own.sealed) {
        let first = entry_at(n, from.saturating_sub(SEGMENT - 1));
        let mut statement = conn.prepare_cached(
            "SELECT at, count, flags, crc, body FROM segments WHERE at >= ?1 AND at < ?2 ORDER BY at",
        )?;
        let mut rows = statement.query([first, entry_at(n, upto)])?;
        while let Some(row) = rows.next()? {
            let first = (row.get::<_, i64>(0)? - entry_at(n, 0)).unsigned_abs();
            let count = row.get::<_, u32>(1)?;
            let next = from + history.len() as u64;
            if first + u64::from(count) <= next {
                continue;
            }
            if first > next {
                return Err(damaged(what(next), "it is missing"));
            }
            let text = row.get_ref(4)?.as_str().map_err(|e| damaged(what(first), e))?;
            if crc32fast::hash(text.as_bytes()) != row.get::<_, u32>(3)? {
                return Err(damaged(what(first), "its segment is not what was written"));
            }
            bytes += text.len();
            let sealed = Sealed::from_stored(text, count as usize, row.get(2)?);
            let mut piece = History::default();
            piece.push_sealed(sealed);
            let part = (next - first) as usize..(upto - first).min(u64::from(count)) as usize;
            history.append(&piece.slice(part));
        }
    }
    let next = from + history.len() as u64;
    if next < upto {
        let (rows, more) = rows_of(conn, own, next, upto)?;
        bytes += more;
        history.extend(rows);
    }
    Ok((history, bytes))
}

/// The entries that are rows.
fn rows_of(conn: &Connection, own: Own<'_>, from: u64, upto: u64) -> Done<(Vec<Arc<Entry>>, usize)> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    let mut statement =
        conn.prepare_cached("SELECT at, body FROM entries WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
    let mut rows = statement.query([entry_at(own.n, from), entry_at(own.n, upto)])?;
    let mut next = from;
    while let Some(row) = rows.next()? {
        let what = || format!("entry {next} of thread {}", own.id);
        if row.get::<_, i64>(0)? != entry_at(own.n, next) {
            return Err(damaged(what(), "it is missing"));
        }
        let text = row.get_ref(1)?.as_str().map_err(|e| damaged(what(), e))?;
        bytes += text.len();
        entries.push(Arc::new(from_json(text, what)?));
        next += 1;
    }
    if next != upto {
        return Err(damaged(format!("entry {next} of thread {}", own.id), "it is missing"));
    }
    Ok((entries, bytes))
}

/// Entries of a thread until the first that is wanted.
pub(crate) fn find<T>(
    conn: &Connection,
    own: Own<'_>,
    count: u64,
    wanted: impl Fn(&Entry) -> Option<T>,
) -> Done<Option<T>> {
    let mut from = 0;
    while from < count {
        let upto = count.min(from + SEGMENT);
        let (piece, _) = read(conn, own, from, upto)?;
        if let Some(found) = piece.iter().find_map(|entry| wanted(entry)) {
            return Ok(Some(found));
        }
        from = upto;
    }
    Ok(None)
}

/// Puts the oldest rows of a thread together once there are enough of them. `next`: the number of its next entry.
pub(crate) fn seal(conn: &Connection, n: i64, sealed: u64, next: u64) -> Done<()> {
    let mut from = sealed;
    while next.saturating_sub(from) >= ROWS {
        let Some(segment) = oldest(conn, n, from)? else {
            break; // It cannot be read, which is for whoever needs it to find.
        };
        let upto = from + segment.len() as u64;
        conn.prepare_cached("INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            entry_at(n, from),
            signed(segment.len() as u64),
            segment.flags(),
            crc32fast::hash(segment.text().as_bytes()),
            segment.text()
        ])?;
        conn.prepare_cached("DELETE FROM entries WHERE at >= ?1 AND at < ?2")?
            .execute([entry_at(n, from), entry_at(n, upto)])?;
        from = upto;
    }
    if from != sealed {
        conn.prepare_cached("UPDATE threads SET sealed = ?2 WHERE n = ?1")?.execute([n, signed(from)])?;
    }
    Ok(())
}

/// The rows from an entry on that make a segment.
fn oldest(conn: &Connection, n: i64, from: u64) -> Done<Option<Sealed>> {
    let mut statement =
        conn.prepare_cached("SELECT at, body FROM entries WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
    let mut rows = statement.query([entry_at(n, from), entry_at(n, from + SEGMENT)])?;
    let (mut entries, mut bytes) = (Vec::<Entry>::new(), 0);
    while let Some(row) = rows.next()? {
        let text = row.get_ref(1)?.as_str().unwrap_or_default();
        bytes += text.len();
        if bytes > BYTES && !entries.is_empty() {
            break;
        }
        let in_place = row.get::<_, i64>(0)? == entry_at(n, from + entries.len() as u64);
        match serde_json::from_str(text) {
            Ok(entry) if in_place => entries.push(entry),
            _ => return Ok(None),
        }
    }
    Ok(Sealed::new(&entries))
}
