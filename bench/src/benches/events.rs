//! B6: how much comes in: inputs accepted durably in a second, and inputs that became persisted slices.

use crate::{
    agent::{message, now, said, seed, slice_any, thread},
    harness::{Bench, Gate, Plan, Report, Row, median},
};
use rap_core::Store;
use rap_store_sqlite::SqliteStore;
use rap_types::ThreadId;
use rusqlite::params;
use std::{sync::Arc, time::Instant};

pub(crate) struct Events;

/// Threads that the inputs go to.
const THREADS: usize = 1_000;
/// Callers at once.
const CALLERS: usize = 64;

impl Bench for Events {
    fn id(&self) -> &'static str {
        "B6"
    }

    fn title(&self) -> &'static str {
        "inputs per second"
    }

    fn about(&self) -> &'static str {
        "Inputs for 1,000 threads of 10 messages each on SQLite, 64 callers at once: accepted, each answered when it is on \
         the disk; then worked off, one slice each, 16 workers at once. Floor of the first: bare rusqlite, one connection, 64 \
         rows in each durable transaction; of the second: bare slices one after another, a durable transaction each."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let folder = tempfile::tempdir().map_err(said)?;
        let inputs = plan.size(2 * CALLERS, 20 * THREADS);
        let threads = plan.size(CALLERS, THREADS);
        let runtime = tokio::runtime::Runtime::new().map_err(said)?;
        let (accepted, worked) = runtime.block_on(async {
            let store = SqliteStore::open(folder.path().join("agent.db")).await.map_err(said)?;
            let store: Arc<dyn Store> = Arc::new(store);
            for number in 0..threads {
                seed(store.as_ref(), &name(number), 10).await?;
            }
            let (mut accepted, mut worked) = (Vec::new(), Vec::new());
            for round in 0..3 {
                accepted.push(accept(&store, round, inputs, threads).await?);
                worked.push(work_off(&store, threads.min(inputs)).await?);
            }
            Ok::<_, String>((median(accepted), median(worked)))
        })?;
        let floor = bare(&folder.path().join("floor.db"), inputs).map_err(said)?;
        let mut report = Report::default();
        let row = Row::new("accepted durably", "/s", accepted).floor(floor);
        report.rows.push(row.gate(Gate::AtLeast(10_000.0)));
        let slices = bare_slices(&folder.path().join("slices.db"), threads).map_err(said)?;
        let row = Row::new("to persisted slices", "/s", worked).floor(slices);
        report.rows.push(row.gate(Gate::AtLeast(1_000.0)));
        report.reading.push(
            "Inputs of one thread that wait together are one slice: the second figure counts slices. Accepting looks at the \
             thread, at doubles and at the bounds of its inbox for each input, and hands it to the thread that writes; many \
             share a commit."
                .to_owned(),
        );
        Ok(report)
    }
}

fn name(number: usize) -> String {
    format!("session-{number}")
}

/// So many inputs from all callers; gives how many in a second.
async fn accept(store: &Arc<dyn Store>, round: usize, inputs: usize, threads: usize) -> Result<f64, String> {
    let began = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in (caller..inputs).step_by(CALLERS) {
                    let to: ThreadId = thread(&name(number % threads));
                    let input = message(&to, &format!("round {round} input {number}"));
                    store.accept(input, now()).await.map_err(said)?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await.map_err(said)??;
    }
    Ok(inputs as f64 / began.elapsed().as_secs_f64())
}

/// One slice for each thread that is due; gives how many in a second.
async fn work_off(store: &Arc<dyn Store>, slices: usize) -> Result<f64, String> {
    let began = Instant::now();
    let workers: Vec<_> = (0..16)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0_usize;
                while slice_any(store.as_ref()).await? {
                    done += 1;
                }
                Ok::<_, String>(done)
            })
        })
        .collect();
    let mut done = 0;
    for worker in workers {
        done += worker.await.map_err(said)??;
    }
    if done < slices {
        return Err(format!("{done} slices were run, not {slices}"));
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

/// Bare slices in a second, of histories of 10 messages.
fn bare_slices(path: &std::path::Path, slices: usize) -> rusqlite::Result<f64> {
    super::slices::prepare(path, 10)?;
    let connection = super::slices::open(path)?;
    let began = Instant::now();
    for _ in 0..slices {
        super::slices::bare_slice(&connection, false)?;
        let mut last = connection.prepare_cached("SELECT body FROM message ORDER BY n LIMIT 10")?;
        let read: Vec<String> = last.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        std::hint::black_box(read);
    }
    Ok(slices as f64 / began.elapsed().as_secs_f64())
}

fn bare(path: &std::path::Path, inputs: usize) -> rusqlite::Result<f64> {
    super::slices::prepare(path, 0)?;
    let connection = super::slices::open(path)?;
    let body = "x".repeat(120);
    let began = Instant::now();
    for batch in 0..inputs / CALLERS {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for number in 0..CALLERS {
            let n = (batch * CALLERS + number) as i64;
            connection.prepare_cached("INSERT INTO message VALUES (?1, ?2)")?.execute(params![n, body])?;
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
    }
    Ok((inputs / CALLERS * CALLERS) as f64 / began.elapsed().as_secs_f64())
}
