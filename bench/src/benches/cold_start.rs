//! B8: from the start of a process to its first request to the model, for a thread that is owed a turn.

use crate::{
    agent::{message, now, said, seed, slice},
    harness::{Bench, Gate, Plan, Report, Row, median},
    host::{Habit, Host},
    peer::Peer,
    say,
};
use rap_core::Store;
use rap_store_sqlite::SqliteStore;
use std::time::Instant;

pub(crate) struct ColdStart;

/// Messages of the history, and the most milliseconds.
const SIZES: [(usize, f64); 3] = [(10, 15.0), (1_000, 20.0), (10_000, 40.0)];

impl Bench for ColdStart {
    fn id(&self) -> &'static str {
        "B8"
    }

    fn title(&self) -> &'static str {
        "cold start to model request"
    }

    fn about(&self) -> &'static str {
        "A process is started on a database in which a message waits: open, listen for callbacks, claim, load, decide, ask \
         the model; the time is the one that the parent sees. Floor: a process of bare rusqlite that opens its file, reads \
         the messages and says so."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let folder = tempfile::tempdir().map_err(said)?;
        let mut report = Report::default();
        for (messages, limit) in SIZES {
            let path = folder.path().join(format!("{messages}.db"));
            let bare = folder.path().join(format!("{messages}-floor.db"));
            tokio::runtime::Runtime::new().map_err(said)?.block_on(async {
                let store = SqliteStore::open(&path).await.map_err(said)?;
                let root = seed(&store, "bench", messages).await?;
                // What was made in one go lacks what every slice leaves behind: the digest of its history.
                store.accept(message(&root, "before"), now()).await.map_err(said)?;
                slice(&store, &root).await?;
                store.accept(message(&root, "waiting"), now()).await.map_err(said)
            })?;
            super::slices::prepare(&bare, messages).map_err(said)?;
            let (path, bare) = (path.display().to_string(), bare.display().to_string());
            let (mut ours, mut parts, mut floor) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..3 * plan.rounds() {
                // The model is silent: nothing is committed, and the next process finds the same.
                let peer = Peer::start(&["cold-start", &path])?;
                ours.push(peer.took.as_secs_f64() * 1e3);
                parts.push(
                    peer.first.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<f64>>(),
                );
                floor.push(Peer::start(&["cold-start-floor", &bare])?.took.as_secs_f64() * 1e3);
            }
            let of = |at: usize| median(parts.iter().filter_map(|parts| parts.get(at).copied()).collect());
            report.reading.push(format!(
                "{messages} messages: {:.1} ms for opening the store, listening and starting to drive, {:.1} from there to the request \
                 to the model; the rest is the start of the process.",
                of(0),
                of(1)
            ));
            let row = Row::new(format!("{messages} messages, p50"), "ms", median(ours)).floor(median(floor));
            report.rows.push(row.gate(Gate::AtMost(limit)));
        }
        Ok(report)
    }
}

/// Starts as a program does, and says when the model is asked.
pub(crate) fn serve(path: &str) -> Result<(), String> {
    tokio::runtime::Runtime::new().map_err(said)?.block_on(async {
        let began = Instant::now();
        let mut host = Host::start(path, Habit::IsSilent, None).await?;
        let started = Instant::now();
        let (asked, _) = host.asked.recv().await.ok_or("the model is gone")?;
        let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
        say(&format!("asked {:.3} {:.3}", ms(started - began), ms(asked.saturating_duration_since(started))));
        std::future::pending().await
    })
}

/// Only what cannot be left out.
pub(crate) fn serve_floor(path: &str) -> Result<(), String> {
    let connection = super::slices::open(path.as_ref()).map_err(said)?;
    std::hint::black_box(super::slices::read_all(&connection).map_err(said)?);
    say("asked");
    crate::peer::wait_for_go()
}
