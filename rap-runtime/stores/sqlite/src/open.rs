//! Opening: look before touching, own before writing, migrate forward only.

use crate::{
    fault::{Done, damaged},
    schema,
};
use rap_core::StoreError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// Pages of the log from which on they are moved into the file, which takes three flushes of its own: a turn has about
/// eighteen. What a kill leaves behind is read at the next opening, 8 MiB at most but for what came in one go.
const LOG_PAGES: i64 = 2_000;
/// What the writer keeps of the file, in KiB, negative for SQLite: the upper pages of a large database.
const CACHE_KIB: i64 = -8_192;
/// Links that lead from one to the next, at most.
const LINKS: usize = 40;
const BUSY: Duration = Duration::from_secs(5);
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What a look at a file showed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// There is nothing, or an empty file.
    Nothing,
    /// A database of ours, of this format.
    Ours(i64),
}

/// A file that cannot be used as it is.
fn failed(text: String) -> crate::fault::Fault {
    StoreError::Failed(text).into()
}

/// Reads the file's header, and nothing else of it, without SQLite: not even a file beside it comes to be.
pub(crate) fn look(path: &Path) -> Done<Look> {
    let shown = path.display();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Look::Nothing),
        Err(error) => return Err(failed(format!("{shown} cannot be read: {error}"))),
    };
    let length = file.metadata().map_err(|e| failed(format!("{shown} cannot be read: {e}")))?.len();
    if length == 0 {
        return Ok(Look::Nothing);
    }
    let what = || format!("the database {shown}");
    let mut header = [0; 100];
    if let Err(error) = file.read_exact(&mut header) {
        if error.kind() == ErrorKind::IsADirectory {
            return Err(failed(format!("{shown} is a directory; name a file")));
        }
        return Err(damaged(what(), "it is too short to be a database"));
    }
    if header[..16] != *MAGIC {
        return Err(damaged(what(), "it is not an SQLite database"));
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if word(68) != schema::APPLICATION.unsigned_abs() {
        return Err(failed(format!("{shown} is a database of another program; use another file")));
    }
    let format = i64::from(word(60));
    if format > schema::FORMAT {
        let (found, known) = (format, schema::FORMAT);
        return Err(StoreError::Newer { path: shown.to_string(), found, known }.into());
    }
    let page = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        page => u64::from(page),
    };
    // With a log beside it the file may be behind its own header.
    if u64::from(word(28)) * page > length && !has_log(path) {
        return Err(damaged(what(), "its end is missing"));
    }
    Ok(Look::Ours(format))
}

/// The file that a path leads to, every link followed, so that it has one lock and one log under all its names. It need
/// not be there yet. A path that leads nowhere stays as it is: whoever opens it says what is wrong.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        if let Ok(whole) = path.canonicalize() {
            return whole;
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        match (std::fs::read_link(&path), directory.canonicalize(), path.file_name()) {
            (Ok(target), ..) => path = directory.join(target),
            (Err(_), Ok(directory), Some(name)) => return directory.join(name),
            _ => break,
        }
    }
    path
}

/// Whether there is a write-ahead log that the file needs.
fn has_log(path: &Path) -> bool {
    std::fs::metadata(beside(&resolved(path), "-wal")).is_ok_and(|log| log.len() > 0)
}

/// The path of a file that belongs to the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Takes the database for this process. Given up when the file is closed, or the process ends.
pub(crate) fn own(path: &Path) -> Done<File> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !directory.is_dir() {
        return Err(failed(format!("the directory {} does not exist; make it first", directory.display())));
    }
    let lock = beside(&resolved(path), ".lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&lock).map_err(|error| {
        failed(format!("{} cannot be written: {error}; the store needs to write there", lock.display()))
    })?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            let pid: Option<u32> = text.trim().parse().ok();
            let owner = pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
            return Err(StoreError::Owned { path: path.display().to_string(), owner }.into());
        }
        Err(TryLockError::Error(error)) => {
            return Err(failed(format!("{} cannot be locked: {error}", lock.display())));
        }
    }
    let named = file
        .set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    named.map_err(|error| failed(format!("{} cannot be written: {error}", lock.display())))?;
    Ok(file)
}

/// Opens the database for writing, brings it to this program's format, and begins an epoch.
pub(crate) fn writer(path: &Path, found: &Look) -> Done<(Connection, i64)> {
    if *found == Look::Nothing {
        make(path)?;
    }
    let mut conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    settle(&conn)?;
    if format_of(&conn, path)? == 0 {
        // Before anything else is in the file: a kill from here on leaves one that is known for ours.
        conn.pragma_update(None, "application_id", schema::APPLICATION)?;
    }
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    // What is deleted is overwritten where that costs no extra page: an authorization's URL, say (OAU-04).
    conn.query_row("PRAGMA secure_delete = fast", [], |_| Ok(()))?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    conn.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    conn.pragma_update(None, "cache_size", CACHE_KIB)?;
    // What a savepoint keeps of large commits needs no file.
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    let transaction = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let format = format_of(&transaction, path)?;
    if format < schema::FORMAT {
        schema::migrate(&transaction, format)?;
    }
    transaction.execute("UPDATE meta SET value = value + 1 WHERE name = 'epoch'", [])?;
    // What the last owner put off for a moment is owed now: its calls have waited for this one long enough.
    transaction.execute("UPDATE outbox SET due_at = 0 WHERE kind = 'invocation' AND due_at > 0", [])?;
    let epoch = transaction.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| row.get(0))?;
    transaction.commit()?;
    if format < schema::FORMAT {
        // From here on a look at the file tells its format.
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok((conn, epoch))
}

/// Opens the database beside its owner, for a process that was lent a thread: nothing of it is made, brought
/// forward or tidied away here.
pub(crate) fn guest(path: &Path) -> Done<Connection> {
    match look(path)? {
        Look::Ours(format) if format == schema::FORMAT => {}
        _ => {
            let shown = path.display();
            return Err(failed(format!(
                "{shown} is not the database of this version that its owner has open"
            )));
        }
    }
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    settle(&conn)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.query_row("PRAGMA secure_delete = fast", [], |_| Ok(()))?;
    // The owner moves the log into the file.
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    format_of(&conn, path)?;
    Ok(conn)
}

/// Makes the file, for its owner's eyes only: what agents say and do is nobody else's.
fn make(path: &Path) -> Done<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| failed(format!("{} cannot be made: {error}", path.display())))?;
    Ok(())
}

fn settle(conn: &Connection) -> Done<()> {
    conn.busy_timeout(BUSY)?;
    conn.set_prepared_statement_cache_capacity(128);
    // Without it a statement that has a range is planned anew for each value that is bound: a fifth of a slice's work.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(())
}

/// The format as SQLite sees it, its log included.
fn format_of(conn: &Connection, path: &Path) -> Done<i64> {
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > schema::FORMAT {
        let path = path.display().to_string();
        return Err(StoreError::Newer { path, found, known: schema::FORMAT }.into());
    }
    Ok(found)
}

/// A connection that reads beside the owner's writer.
pub(crate) fn reader(path: &Path) -> Done<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    settle(&conn)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

/// A connection that reads in another process than the owner's, and neither makes nor changes a file.
pub(crate) fn bystander(path: &Path) -> Done<Connection> {
    match look(path)? {
        Look::Nothing => {
            return Err(failed(format!("there is no database {}; start the runtime first", path.display())));
        }
        Look::Ours(format) if format < schema::FORMAT => {
            return Err(failed(format!(
                "the database {} has an older format ({format}); start the runtime once to bring it up to date",
                path.display()
            )));
        }
        Look::Ours(_) => {}
    }
    let conn = if has_log(path) { reader(path)? } else { unchanging(path)? };
    format_of(&conn, path)?;
    Ok(conn)
}

/// Nobody writes a database without a log: it is read as it stands, without one of its own.
fn unchanging(path: &Path) -> Done<Connection> {
    let path = std::path::absolute(path).map_err(|e| failed(format!("{}: {e}", path.display())))?;
    let Some(text) = path.to_str() else { return reader(&path) };
    let mut uri = String::from("file:");
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' | b':' => {
                uri.push(char::from(byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let conn = Connection::open_with_flags(
        uri,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI,
    )?;
    settle(&conn)?;
    Ok(conn)
}
