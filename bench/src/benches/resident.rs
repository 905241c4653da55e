//! B10: resident memory of a runtime, idle and after 10,000 slices.

use crate::{
    agent::{said, session},
    harness::{Bench, Gate, Plan, Report, Row},
    host::{Habit, Host},
    peer::{Peer, wait_for_go},
    say,
};
use std::time::Duration;

pub(crate) struct Resident;

/// Sessions that the slices are spread over.
const SESSIONS: usize = 16;

impl Bench for Resident {
    fn id(&self) -> &'static str {
        "B10"
    }

    fn title(&self) -> &'static str {
        "resident memory"
    }

    fn about(&self) -> &'static str {
        "A runtime on SQLite with its gateway, in a process of its own: at rest after its start, and after slices for \
         messages to 16 sessions, side by side, each watched. Floor at rest: a process of bare rusqlite that has read as many \
         messages as one session has at its start."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let folder = tempfile::tempdir().map_err(said)?;
        let path = folder.path().join("agent.db").display().to_string();
        let slices = plan.size(320, 10_000);
        let mut peer = Peer::start(&["resident", &path, &(slices / SESSIONS).to_string()])?;
        // What a start has left to do in the background.
        std::thread::sleep(Duration::from_secs(1));
        let idle = peer.memory_mb();
        peer.go_on()?;
        if peer.line()? != "done" {
            return Err("the runtime ended before its slices".to_owned());
        }
        let after = peer.memory_mb();
        let (Some(idle), Some(after)) = (idle, after) else {
            return Err("this system does not tell a process's memory".to_owned());
        };
        let bare = folder.path().join("floor.db");
        super::slices::prepare(&bare, 10).map_err(said)?;
        let floor = Peer::start(&["cold-start-floor", &bare.display().to_string()])?.memory_mb();
        let mut report = Report::default();
        let floor = floor.ok_or("this system does not tell a process's memory")?;
        report.rows.push(Row::new("idle", "MB", idle).floor(floor).gate(Gate::AtMost(25.0)));
        report.rows.push(Row::new(format!("after {slices} slices"), "MB", after).gate(Gate::AtMost(60.0)));
        Ok(report)
    }
}

/// The runtime.
pub(crate) fn serve(path: &str, messages: &str) -> Result<(), String> {
    let messages: usize = messages.parse().map_err(said)?;
    tokio::runtime::Runtime::new().map_err(said)?.block_on(async {
        let host = Host::start(path, Habit::Answers, None).await?;
        say("idle");
        tokio::task::spawn_blocking(wait_for_go).await.map_err(said)??;
        let mut talks = Vec::new();
        for number in 0..SESSIONS {
            let session = session(&format!("session-{number}"));
            host.runtime.store().create(&session).await.map_err(said)?;
            let runtime = host.runtime.clone();
            talks.push(tokio::spawn(async move { Host::talk(&runtime, &session.id, messages).await }));
        }
        for talk in talks {
            talk.await.map_err(said)??;
        }
        say("done");
        std::future::pending().await
    })
}
