//! B5: from a turn that calls a tool to the slice that has its result.

use super::slices::{bare_slice, read_all};
use crate::{
    agent::said,
    driver::Driver,
    harness::{Bench, Gate, Plan, Report, Row, percentile},
    host::{Habit, Host},
    peer::Peer,
};
use rap_runtime::{AgentHost, NewSession};
use rap_types::HttpUrl;
use std::{path::Path, time::Instant};

pub(crate) struct FullCircle;

impl Bench for FullCircle {
    fn id(&self) -> &'static str {
        "B5"
    }

    fn title(&self) -> &'static str {
        "dispatch, acknowledgement, callback, next slice"
    }

    fn about(&self) -> &'static str {
        "A runtime on SQLite and a tool server of its own process that does nothing: from the moment at which the model was \
         asked and answered at once with a call, over the durable turn, the invocation, its acknowledgement and the durable \
         callback, to the moment at which the model is asked again with the result. One call after another. Floor: the same \
         with what cannot be left out: bare rusqlite commits the turn, a bare client calls a bare axum program and gets its \
         callback, bare rusqlite commits that and reads the thread."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let folder = tempfile::tempdir().map_err(said)?;
        let path = folder.path().join("agent.db").display().to_string();
        let (_tools, address) = Peer::server(&["tools"])?;
        let toolset = HttpUrl::new(format!("http://{address}")).map_err(said)?;
        let rounds = plan.size(30, 1_000);
        let times = tokio::runtime::Runtime::new().map_err(said)?.block_on(async {
            let mut host = Host::start(&path, Habit::Calls("noop"), Some(toolset)).await?;
            let opened = host.runtime.create(NewSession::new()).await.map_err(said)?;
            let talk = tokio::spawn({
                let runtime = host.runtime.clone();
                async move { Host::talk(&runtime, &opened.session, rounds).await }
            });
            let mut times = Vec::new();
            while times.len() < rounds {
                let (called, first) = host.asked.recv().await.ok_or("the model is gone")?;
                let (told, second) = host.asked.recv().await.ok_or("the model is gone")?;
                if first || !second {
                    return Err("the model was not asked in turns".to_owned());
                }
                times.push(told.duration_since(called).as_secs_f64() * 1e3);
            }
            talk.await.map_err(said)??;
            Ok(times)
        })?;
        let floor = bare(&folder.path().join("floor.db"), rounds)?;
        let mut report = Report::default();
        for (what, share, limit) in [("full circle, p50", 0.5, 4.0), ("full circle, p99", 0.99, 15.0)] {
            let row = Row::new(what, "ms", percentile(times.clone(), share));
            report.rows.push(row.floor(percentile(floor.clone(), share)).gate(Gate::AtMost(limit)));
        }
        report.reading.push(
            "Both make two durable writes, the turn with its call and the callback. What ours takes beyond them and the floor's \
             exchanges is the slice that loads and decides (see B3), the outbox and its row, and the way from task to task and \
             to the threads of the store."
                .to_owned(),
        );
        Ok(report)
    }
}

/// The milliseconds of rounds without a runtime.
fn bare(path: &Path, rounds: usize) -> Result<Vec<f64>, String> {
    super::slices::prepare(path, 10).map_err(said)?;
    let connection = super::slices::open(path).map_err(said)?;
    let (_tools, address) = Peer::server(&["tools-floor"])?;
    tokio::runtime::Runtime::new().map_err(said)?.block_on(async {
        let driver = Driver::start().await?;
        let mut times = Vec::new();
        for _ in 0..rounds {
            let began = Instant::now();
            bare_slice(&connection, false).map_err(said)?;
            driver.round_trip(address, "noop").await?;
            bare_slice(&connection, false).map_err(said)?;
            std::hint::black_box(read_all(&connection).map_err(said)?);
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        Ok(times)
    })
}
