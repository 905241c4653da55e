//! B5: from a turn that calls a tool to the slice that has its result.

use crate::{
    agent::said,
    harness::{Bench, Gate, Plan, Report, Row, percentile},
    host::{Habit, Host},
    peer::Peer,
};
use rap_runtime::{AgentHost, NewSession};
use rap_types::HttpUrl;

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
         callback, to the moment at which the model is asked again with the result. One call after another."
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
        let mut report = Report::default();
        let p50 = percentile(times.clone(), 0.5);
        report.rows.push(Row::new("full circle, p50", "ms", p50).gate(Gate::AtMost(4.0)));
        report
            .rows
            .push(Row::new("full circle, p99", "ms", percentile(times, 0.99)).gate(Gate::AtMost(15.0)));
        Ok(report)
    }
}
