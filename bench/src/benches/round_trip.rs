//! B1: a call of a tool that does nothing, from the invocation to its callback, and what a call in flight weighs.

use crate::{
    driver::Driver,
    harness::{Bench, Gate, Plan, Report, Row, in_turns, median, percentile},
    peer::Peer,
    say,
};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use http::Request;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rap_server::{Args, Call, Tool, ToolServer, schemars};
use serde::Deserialize;
use serde_json::json;
use std::{net::SocketAddr, time::Duration};

pub(crate) struct RoundTrip;

impl Bench for RoundTrip {
    fn id(&self) -> &'static str {
        "B1"
    }

    fn title(&self) -> &'static str {
        "tool call round trip in memory"
    }

    fn about(&self) -> &'static str {
        "A tool that does nothing, served by `rap-server` in a process of its own; invocation, acknowledgement and callback \
         over loopback, so many calls in flight at once, driven by one lean client. Floor: a bare axum program that reads \
         the invocation, acknowledges it and posts a result back, without checks, retries or memory of the call."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let runtime = tokio::runtime::Runtime::new().map_err(|e| e.to_string())?;
        let driver = runtime.block_on(Driver::start())?;
        let mut report = Report::default();
        {
            let (our_peer, ours) = Peer::server(&["tools"])?;
            let (floor_peer, floor) = Peer::server(&["tools-floor"])?;
            for in_flight in [1, 16, 64] {
                let (mut ours_ms, mut floor_ms) = (Vec::new(), Vec::new());
                let measure = |peer: SocketAddr, times: &mut Vec<f64>| {
                    let round = driver.round(peer, "noop", in_flight, plan.round());
                    runtime.block_on(round).map(|round| {
                        times.push(median(round.times));
                        round.per_second
                    })
                };
                measure(ours, &mut Vec::new())?;
                measure(floor, &mut Vec::new())?;
                let (a, b) = in_turns(
                    plan.rounds(),
                    || measure(ours, &mut ours_ms),
                    || measure(floor, &mut floor_ms),
                )?;
                let what = format!("round trips, {in_flight} in flight");
                report.rows.push(Row::new(what, "/s", a).floor(b).gate(Gate::RatioAtLeast(0.8)));
                let what = format!("time of one, {in_flight} in flight, p50");
                report.rows.push(Row::new(what, "ms", median(ours_ms)).floor(median(floor_ms)));
            }
            let mut times = Vec::new();
            let processor = |peer: &Peer, address, times: &mut Vec<f64>| {
                let before = peer.processor_s();
                let round = runtime.block_on(driver.round(address, "noop", 64, plan.round()))?;
                let spent = before.zip(peer.processor_s()).map_or(f64::NAN, |(before, after)| after - before);
                let trips = round.times.len() as f64;
                times.extend(round.times);
                Ok::<_, String>(spent * 1e6 / trips)
            };
            let (a, b) = in_turns(
                3,
                || processor(&our_peer, ours, &mut times),
                || processor(&floor_peer, floor, &mut Vec::new()),
            )?;
            report.rows.push(Row::new("time of one, 64 in flight, p99", "ms", percentile(times, 0.99)));
            if a.is_finite() && b.is_finite() {
                report.reading.push(format!(
                    "With 64 in flight all cores are busy, with the driver too. A round trip takes {a:.0} µs of our server's \
                     processor time and {b:.0} µs of the floor's. What is more is the checks (URL, schema, host) and the \
                     memory of the call."
                ));
            }
        }
        memory(&runtime, &driver, plan, &mut report)?;
        Ok(report)
    }
}

/// What calls weigh that are acknowledged and not yet over.
fn memory(
    runtime: &tokio::runtime::Runtime,
    driver: &Driver,
    plan: &Plan,
    report: &mut Report,
) -> Result<(), String> {
    let calls = plan.size(1_000, 10_000);
    let weigh = |words: &[&str]| -> Result<Option<f64>, String> {
        let (peer, address) = Peer::server(words)?;
        let open = |tool, calls: usize| {
            runtime.block_on(async {
                for _ in 0..calls / 50 {
                    let sent = (0..50).map(|_| {
                        let driver = driver.clone();
                        tokio::spawn(async move { driver.invoke(address, tool).await })
                    });
                    for sent in sent.collect::<Vec<_>>() {
                        sent.await.map_err(|e| e.to_string())??;
                    }
                }
                Ok::<_, String>(())
            })
        };
        // Connections, and what only the first calls bring.
        open("wait", 200)?;
        let before = peer.memory_mb();
        open("wait", calls)?;
        let after = peer.memory_mb();
        Ok(before.zip(after).map(|(before, after)| (after - before) * 10_000.0 / calls as f64))
    };
    match (weigh(&["tools"])?, weigh(&["tools-floor"])?) {
        (Some(ours), Some(floor)) => {
            report.rows.push(Row::new("memory per 10,000 calls in flight", "MB", ours).floor(floor));
        }
        _ => say("memory is not measured: this system does not tell it"),
    }
    Ok(())
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Place {
    city: String,
}

/// The server under measurement.
pub(crate) fn serve_ours() -> Result<(), String> {
    async fn noop(Args(place): Args<Place>) -> String {
        place.city
    }
    async fn wait(call: Call, Args(_place): Args<Place>) -> &'static str {
        call.cancelled().await;
        "cancelled"
    }
    start(async {
        let server = ToolServer::new("bench")
            .tool(Tool::new("noop", "Gives its argument back.", noop))
            .tool(Tool::new("wait", "Waits until it is cancelled.", wait))
            .max_open_calls(1_000_000);
        let bound = server.bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
        say(&bound.local_addr().to_string());
        let _ = bound.run_until(std::future::pending::<()>()).await;
        Ok(())
    })
}

/// Only what cannot be left out.
pub(crate) fn serve_floor() -> Result<(), String> {
    type Out = Client<HttpConnector, Full<Bytes>>;

    #[derive(Deserialize)]
    struct Invocation {
        operation: String,
        arguments: Place,
        id: String,
        callback_url: String,
        group_id: String,
    }

    async fn invoke(State(out): State<Out>, body: Bytes) -> StatusCode {
        let Ok(invocation) = serde_json::from_slice::<Invocation>(&body) else {
            return StatusCode::BAD_REQUEST;
        };
        tokio::spawn(async move {
            if invocation.operation == "wait" {
                tokio::time::sleep(Duration::from_secs(86_400)).await;
            }
            let result = json!({"type": "tool_result", "group_id": invocation.group_id, "id": invocation.id,
                                "text": invocation.arguments.city});
            let request = Request::post(invocation.callback_url)
                .header("content-type", "application/json")
                .body(Full::from(result.to_string()));
            if let Ok(request) = request
                && let Ok(answer) = out.request(request).await
            {
                let _ = http_body_util::BodyExt::collect(answer.into_body()).await;
            }
        });
        StatusCode::OK
    }

    start(async {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let out: Out = Client::builder(TokioExecutor::new()).build(connector);
        let router = Router::new().route("/invoke", post(invoke)).with_state(out);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
        say(&listener.local_addr().map_err(|e| e.to_string())?.to_string());
        axum::serve(axum::serve::ListenerExt::tap_io(listener, |io| drop(io.set_nodelay(true))), router)
            .await
            .map_err(|e| e.to_string())
    })
}

fn start(server: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::runtime::Runtime::new().map_err(|e| e.to_string())?.block_on(server)
}
