//! B7: threads that sleep: what they take on the disk, in memory and of the processor, and how fast one wakes.

use crate::{
    agent::{MESSAGE_BYTES, said, seed_sleeping, thread, turn},
    harness::{Bench, Effort, Gate, Plan, Report, Row, median},
    host::{Habit, Host},
    peer::Peer,
    say,
};
use rap_core::Store;
use rap_store_sqlite::SqliteStore;
use rusqlite::params;
use std::{path::Path, sync::Arc, time::Duration};

pub(crate) struct Hibernation;

/// Sleepers that are made side by side.
const MAKERS: usize = 64;

impl Bench for Hibernation {
    fn id(&self) -> &'static str {
        "B7"
    }

    fn title(&self) -> &'static str {
        "hibernating threads"
    }

    fn about(&self) -> &'static str {
        "Sessions whose root threads have 10 messages of 500 bytes and a timer that is due in a day; 100,000, with --full a \
         million. Their size on the disk; what a runtime, in a process of its own, takes of memory and processor while \
         nothing happens, beside one on a store of 300; the p50 of the first slice of one of them beside the same there. Floor of \
         the size: the same messages and times in two tables of bare rusqlite."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let sleepers = match plan.effort {
            Effort::Quick => 500,
            Effort::Normal => 100_000,
            Effort::Full => 1_000_000,
        };
        let folder = tempfile::tempdir().map_err(said)?;
        let (full, empty) = (folder.path().join("full.db"), folder.path().join("empty.db"));
        let runtime = tokio::runtime::Runtime::new().map_err(said)?;
        runtime.block_on(make(&full, sleepers))?;
        // As many as are woken: whoever is woken twice is warm the second time.
        let turns = plan.size(20, 300);
        runtime.block_on(make(&empty, turns))?;

        let mut report = Report::default();
        let bytes = std::fs::metadata(&full).map_err(said)?.len() as f64;
        let per_gib = sleepers as f64 * f64::from(1 << 30) / bytes;
        let bare = bare_per_gib(&folder.path().join("floor.db"), sleepers.min(10_000)).map_err(said)?;
        report.rows.push(Row::new("threads per GiB", "", per_gib).floor(bare).gate(Gate::AtLeast(100_000.0)));

        let lasting = Duration::from_secs(plan.size(3, 30) as u64);
        match (rest(&full, lasting)?, rest(&empty, lasting)?) {
            (Some(ours), Some(alone)) => {
                let more = (ours.memory_mb - alone.memory_mb) * 100_000.0 / sleepers as f64;
                report.rows.push(Row::new("memory per 100,000 more", "MB", more).gate(Gate::AtMost(1.0)));
                let row = Row::new("processor, share of a core", "%", ours.processor * 100.0);
                report.rows.push(row.floor(alone.processor * 100.0).gate(Gate::AtMost(0.1)));
                // A poll every second would already be one per second and thread of the process.
                let row = Row::new("wake-ups of the whole process", "/s", ours.naps_per_second);
                report.rows.push(row.floor(alone.naps_per_second).gate(Gate::AtMost(1.0)));
            }
            _ => say("memory and processor are not measured: this system does not tell them"),
        }

        let wake = |path: &Path, among: usize| {
            runtime.block_on(async {
                let store = SqliteStore::open(path).await.map_err(said)?;
                let mut times = Vec::new();
                for round in 0..turns {
                    let sleeper = thread(&name(round * 7919 % among));
                    times.push(turn(&store, &sleeper, &format!("wake {round}")).await?);
                }
                Ok::<_, String>(median(times))
            })
        };
        let row = Row::new("slice of a sleeper, p50", "ms", wake(&full, sleepers)?);
        report.rows.push(row.floor(wake(&empty, turns)?).gate(Gate::RatioAtMost(1.2)));
        Ok(report)
    }
}

/// How many threads bare rows would have in a GiB.
fn bare_per_gib(path: &Path, sleepers: usize) -> rusqlite::Result<f64> {
    let connection = super::slices::open(path)?;
    connection.execute_batch(
        "CREATE TABLE thread (id INTEGER PRIMARY KEY, due INTEGER NOT NULL);
         CREATE TABLE message (thread INTEGER NOT NULL, n INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (thread, n))
         WITHOUT ROWID; BEGIN;",
    )?;
    let body = "x".repeat(MESSAGE_BYTES);
    for id in 0..sleepers as i64 {
        connection.prepare_cached("INSERT INTO thread VALUES (?1, ?1)")?.execute([id])?;
        for n in 0..10_i64 {
            connection
                .prepare_cached("INSERT INTO message VALUES (?1, ?2, ?3)")?
                .execute(params![id, n, body])?;
        }
    }
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")?;
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let bytes: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    Ok(sleepers as f64 * f64::from(1 << 30) / (pages * bytes) as f64)
}

fn name(number: usize) -> String {
    format!("sleeper-{number}")
}

async fn make(path: &Path, sleepers: usize) -> Result<(), String> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(path).await.map_err(said)?);
    let makers: Vec<_> = (0..MAKERS.min(sleepers))
        .map(|maker| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in (maker..sleepers).step_by(MAKERS) {
                    seed_sleeping(store.as_ref(), &name(number), 10).await?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for maker in makers {
        maker.await.map_err(said)??;
    }
    Ok(())
}

/// What a runtime takes while nothing happens.
struct AtRest {
    memory_mb: f64,
    processor: f64,
    naps_per_second: f64,
}

fn rest(path: &Path, lasting: Duration) -> Result<Option<AtRest>, String> {
    let peer = Peer::start(&["asleep", &path.display().to_string()])?;
    std::thread::sleep(Duration::from_secs(2));
    let look = || Some((peer.processor_s()?, peer.naps()?));
    let before = look();
    std::thread::sleep(lasting);
    let (Some((processor, naps)), Some((later, more)), Some(memory_mb)) = (before, look(), peer.memory_mb())
    else {
        return Ok(None);
    };
    let seconds = lasting.as_secs_f64();
    let naps_per_second = more.saturating_sub(naps) as f64 / seconds;
    Ok(Some(AtRest { memory_mb, processor: (later - processor) / seconds, naps_per_second }))
}

/// A runtime that has nothing to do.
pub(crate) fn serve(path: &str) -> Result<(), String> {
    tokio::runtime::Runtime::new().map_err(said)?.block_on(async {
        let _host = Host::start(path, Habit::Answers, None).await?;
        say("asleep");
        std::future::pending().await
    })
}
