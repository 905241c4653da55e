//! Histories on the disk: new entries as rows, old ones put together in segments, so that a long history is read as a
//! few blobs and one copy, and parsed only where somebody looks.
//!
//! A segment is sealed by the commit that makes enough entries old, in the same transaction as its rows go: an entry
//! lies in one place or in the other. Texts are checked against a sum when they are read, since nobody may parse them
//! then.

use crate::{
    bodies,
    fault::{Done, damaged, from_json},
    rows::{entry_at, signed},
};
use rap_core::{Entry, History, Sealed};
use rap_types::ThreadId;
use rusqlite::{Connection, Row, params};
use std::sync::Arc;

/// Entries of a segment, at most.
const SEGMENT: u64 = 256;
/// Bytes of a segment, at most, unless it is a single entry.
const BYTES: usize = 1024 * 1024;
/// From so many rows on, the oldest become segments.
const ROWS: u64 = SEGMENT + 64;
/// The newest entries, which every slice looks at, are parsed with the reading.
const LOOKED_AT: u64 = 4;

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
            let text = bodies::whole(conn, text, || what(first))?;
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
        bytes += read_rows(conn, own, next, upto, &mut history)?;
    }
    Ok((history, bytes))
}

/// Adds the entries that are rows, all but the newest unparsed; how many bytes they are.
fn read_rows(conn: &Connection, own: Own<'_>, from: u64, upto: u64, history: &mut History) -> Done<usize> {
    let (mut unparsed, mut parsed, mut bytes) = (Unparsed::default(), Vec::new(), 0);
    let mut statement = conn
        .prepare_cached("SELECT at, body, flags, crc FROM entries WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
    let mut rows = statement.query([entry_at(own.n, from), entry_at(own.n, upto)])?;
    let mut next = from;
    while let Some(row) = rows.next()? {
        let what = || format!("entry {next} of thread {}", own.id);
        if row.get::<_, i64>(0)? != entry_at(own.n, next) {
            return Err(damaged(what(), "it is missing"));
        }
        let text = row.get_ref(1)?.as_str().map_err(|e| damaged(what(), e))?;
        let known = sum_of(row)?;
        if known.is_some_and(|(_, crc)| crc != crc32fast::hash(text.as_bytes())) {
            return Err(damaged(what(), "it is not what was written"));
        }
        let text = bodies::whole(conn, text, what)?;
        bytes += text.len();
        match known {
            Some((flags, _)) if next + LOOKED_AT < upto => {
                history.extend(parsed.drain(..));
                unparsed.add(&text, flags, history);
            }
            _ => {
                unparsed.flush(history);
                parsed.push(Arc::new(from_json(&text, what)?));
            }
        }
        next += 1;
    }
    if next != upto {
        return Err(damaged(format!("entry {next} of thread {}", own.id), "it is missing"));
    }
    unparsed.flush(history);
    history.extend(parsed);
    Ok(bytes)
}

/// What is known of a row's text: its flags and its sum, in the columns 2 and 3. Rows of older versions have neither.
fn sum_of(row: &Row<'_>) -> Done<Option<(u8, u32)>> {
    Ok(match (row.get(2)?, row.get(3)?) {
        (Some(flags), Some(crc)) => Some((flags, crc)),
        _ => None,
    })
}

/// Rows put together without having been parsed.
#[derive(Default)]
struct Unparsed {
    text: String,
    count: usize,
    flags: u8,
}

impl Unparsed {
    fn join(&mut self, line: &str, flags: u8) {
        if self.count > 0 {
            self.text.push('\n');
        }
        self.text.push_str(line);
        self.flags |= flags;
        self.count += 1;
    }

    fn add(&mut self, line: &str, flags: u8, history: &mut History) {
        self.join(line, flags);
        if self.count as u64 == SEGMENT {
            self.flush(history);
        }
    }

    fn flush(&mut self, history: &mut History) {
        if self.count > 0 {
            let text = std::mem::take(&mut self.text);
            history.push_sealed(Sealed::from_stored(text, self.count, self.flags));
            (self.count, self.flags) = (0, 0);
        }
    }
}

/// Adds entries to a thread, numbered from one on.
pub(crate) fn insert(conn: &Connection, thread: i64, from: u64, entries: &[Entry]) -> Done<()> {
    let mut statement =
        conn.prepare_cached("INSERT INTO entries (at, body, flags, crc) VALUES (?1, ?2, ?3, ?4)")?;
    for (n, entry) in (from..).zip(entries) {
        let Some(sealed) = Sealed::new([entry]) else { continue };
        let (flags, text) = (sealed.flags(), bodies::put_away(conn, sealed.text().to_owned())?);
        let crc = crc32fast::hash(text.as_bytes());
        statement.execute(params![entry_at(thread, n), text, flags, crc])?;
    }
    Ok(())
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
        let upto = from + segment.count as u64;
        conn.prepare_cached("INSERT INTO segments VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            entry_at(n, from),
            signed(segment.count as u64),
            segment.flags,
            crc32fast::hash(segment.text.as_bytes()),
            segment.text
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

/// The rows from an entry on that make a segment, as they are stored; none where one of them cannot be read.
fn oldest(conn: &Connection, n: i64, from: u64) -> Done<Option<Unparsed>> {
    let mut statement = conn
        .prepare_cached("SELECT at, body, flags, crc FROM entries WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
    let mut rows = statement.query([entry_at(n, from), entry_at(n, from + SEGMENT)])?;
    let mut oldest = Unparsed::default();
    while let Some(row) = rows.next()? {
        let text = row.get_ref(1)?.as_str().unwrap_or_default();
        if oldest.text.len() + text.len() > BYTES && oldest.count > 0 {
            break;
        }
        if row.get::<_, i64>(0)? != entry_at(n, from + oldest.count as u64) {
            return Ok(None);
        }
        match sum_of(row)? {
            Some((flags, crc)) if crc == crc32fast::hash(text.as_bytes()) => oldest.join(text, flags),
            Some(_) => return Ok(None),
            // Of an older version: looked at once, and its large texts put away.
            None => {
                let Ok(entry) = serde_json::from_str::<Entry>(text) else { return Ok(None) };
                let Some(sealed) = Sealed::new([&entry]) else { return Ok(None) };
                let flags = sealed.flags();
                oldest.join(&bodies::put_away(conn, sealed.text().to_owned())?, flags);
            }
        }
    }
    Ok((oldest.count > 0).then_some(oldest))
}
