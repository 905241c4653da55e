//! B3: a slice of a thread with a history of 10, 1,000 and 10,000 messages, on SQLite.

use crate::{
    agent::{MESSAGE_BYTES, Parts, message, now, said, seed, slice, turn},
    harness::{Bench, Gate, Plan, Report, Row, median},
};
use rap_core::Store;
use rap_store_sqlite::SqliteStore;
use rusqlite::{Connection, params};
use std::{path::Path, time::Instant};

pub(crate) struct Slices;

/// Messages of a history; the most milliseconds that a slice may take which finds nothing in memory; and what the floor
/// took on the machine for which that was said.
const SIZES: [(usize, f64, f64); 3] = [(10, 1.0, 0.32), (1_000, 1.5, 0.38), (10_000, 8.0, 4.1)];

impl Bench for Slices {
    fn id(&self) -> &'static str {
        "B3"
    }

    fn title(&self) -> &'static str {
        "a slice on SQLite"
    }

    fn about(&self) -> &'static str {
        "From the claim of a due thread to its release: load, decide, one durable commit; messages of 500 bytes. Cold: the \
         store was just opened and has read nothing. Warm: it ran the thread's slice before. Floor: bare rusqlite, one \
         connection, which reads the thread's row and all its messages, appends two and commits durably (warm: reads the row \
         alone). The limits in milliseconds were said for a disk on which the floor took 0.32, 0.38 and 4.1 ms; the rows \
         beside the floor ask for the same on this one."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(said)?;
        let folder = tempfile::tempdir().map_err(said)?;
        let mut report = Report::default();
        let mut warm = Vec::new();
        for (messages, limit, seen) in SIZES {
            let path = folder.path().join(format!("{messages}.db"));
            let bare = folder.path().join(format!("{messages}-floor.db"));
            let thread = runtime.block_on(async {
                let store = SqliteStore::open(&path).await.map_err(said)?;
                seed(&store, "bench", messages).await
            })?;
            prepare(&bare, messages).map_err(said)?;

            let (mut cold_ours, mut cold_parts, mut cold_floor) = (Vec::new(), Vec::new(), Vec::new());
            for round in 0..3 * plan.rounds() {
                let parts = runtime.block_on(async {
                    let store = SqliteStore::open(&path).await.map_err(said)?;
                    store.accept(message(&thread, &format!("cold {round}")), now()).await.map_err(said)?;
                    slice(&store, &thread).await
                })?;
                cold_ours.push(parts.total());
                cold_parts.push(parts);
                let connection = open(&bare).map_err(said)?;
                connection.query_row("SELECT count(*) FROM thread", [], |_| Ok(())).map_err(said)?;
                cold_floor.push(bare_slice(&connection, true).map_err(said)?);
            }
            report.reading.push(format!("Cold, {messages} messages: {}.", Parts::told(&cold_parts)));
            let (ours, floor) = (median(cold_ours), median(cold_floor));
            let row = Row::new(format!("cold, {messages} messages, p50"), "ms", ours).floor(floor);
            report.rows.push(row.gate(Gate::AtMost(limit)));
            let row =
                Row::new(format!("the same, {messages} messages, beside its floor"), "ms", ours).floor(floor);
            report.rows.push(row.gate(Gate::RatioAtMost((limit / seen * 100.0).round() / 100.0)));

            let (mut warm_ours, mut warm_floor) = (Vec::new(), Vec::new());
            runtime.block_on(async {
                let store = SqliteStore::open(&path).await.map_err(said)?;
                let connection = open(&bare).map_err(said)?;
                turn(&store, &thread, "warm up").await?;
                for round in 0..plan.size(20, 200) {
                    warm_ours.push(turn(&store, &thread, &format!("warm {round}")).await?);
                    warm_floor.push(bare_slice(&connection, false).map_err(said)?);
                }
                Ok::<_, String>(())
            })?;
            let (ours, floor) = (median(warm_ours), median(warm_floor));
            warm.push(ours);
            report.rows.push(Row::new(format!("warm, {messages} messages, p50"), "ms", ours).floor(floor));
        }
        report.reading.push(
            "The parts are medians. A commit is one durable write; of the others only loading grows with the history. A store \
             that was just opened also prepares its statements in them."
                .to_owned(),
        );
        if let [short, .., long] = warm.as_slice() {
            let row = Row::new("warm, 10,000 messages, beside warm, 10 messages", "ms", *long).floor(*short);
            report.rows.push(row.gate(Gate::RatioAtMost(1.5)));
        }
        Ok(report)
    }
}

pub(crate) fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

pub(crate) fn prepare(path: &Path, messages: usize) -> rusqlite::Result<()> {
    let connection = open(path)?;
    connection.execute_batch(
        "CREATE TABLE thread (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, next INTEGER NOT NULL);
         CREATE TABLE message (n INTEGER PRIMARY KEY, body TEXT NOT NULL); BEGIN;",
    )?;
    connection.execute("INSERT INTO thread VALUES (1, 1, ?1)", params![messages as i64])?;
    let body = "x".repeat(MESSAGE_BYTES);
    for n in 0..messages {
        connection.execute("INSERT INTO message VALUES (?1, ?2)", params![n as i64, body])?;
    }
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")
}

/// All messages.
pub(crate) fn read_all(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut all = connection.prepare_cached("SELECT body FROM message ORDER BY n")?;
    all.query_map([], |row| row.get(0))?.collect()
}

/// Milliseconds that a slice takes on bare SQLite; `whole` reads all messages too.
pub(crate) fn bare_slice(connection: &Connection, whole: bool) -> rusqlite::Result<f64> {
    let began = Instant::now();
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let next: i64 =
        connection.prepare_cached("SELECT next FROM thread WHERE id = 1")?.query_row([], |row| row.get(0))?;
    if whole {
        std::hint::black_box(read_all(connection)?);
    }
    let body = "x".repeat(MESSAGE_BYTES);
    for n in [next, next + 1] {
        connection.prepare_cached("INSERT INTO message VALUES (?1, ?2)")?.execute(params![n, body])?;
    }
    let update = "UPDATE thread SET version = version + 1, next = next + 2 WHERE id = 1";
    connection.prepare_cached(update)?.execute([])?;
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
