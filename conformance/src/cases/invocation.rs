//! Calls: acknowledged, answered, never mixed up.

use crate::{
    bench::{Bench, UNKNOWN},
    case::{Case, Outcome, Tier, case},
};
use serde_json::json;

pub(super) const CASES: &[Case] = &[case!(
    "invocation/unknown-operation",
    "an unknown operation is answered 200, and then by an error result",
    ["INV-06"],
    Tier::Unknown,
    [],
    unknown_operation
)];

async fn unknown_operation(bench: Bench) -> Outcome {
    let call = bench.call(UNKNOWN, json!({})).send().await;
    if call.sent.status() != Some(200) {
        let words = call.sent.words();
        return bench.broken(
            "INV-06",
            format!("an invocation of an unknown operation {words}"),
            &[call.sent.n],
        );
    }
    if bench.owed(&call.given, |all| all.iter().find(|a| a.is("tool_result")).cloned()).await.is_none() {
        bench.fault("INV-06", "an unknown operation was acknowledged, and no result came", &[call.sent.n]);
    }
    Ok(())
}
