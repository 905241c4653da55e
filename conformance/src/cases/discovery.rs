//! The toolset: that it is served, and that it is one.

use crate::{
    bench::Bench,
    case::{Case, Outcome, Tier, case},
    schema,
};

pub(super) const CASES: &[Case] = &[
    case!(
        "discovery/served",
        "the toolset is served as JSON at the well-known path",
        ["TLS-01"],
        Tier::Look,
        [],
        served
    ),
    case!("discovery/valid", "the toolset conforms to its schema", ["TLS-11"], Tier::Look, [], valid),
];

async fn served(bench: Bench) -> Outcome {
    let sent = bench.send("GET", &bench.at(".well-known/rap-toolset"), &[], "").await;
    let Ok(answer) = &sent.answer else {
        return bench.broken("TLS-01", format!("the fetch of the toolset {}", sent.words()), &[sent.n]);
    };
    if answer.status != 200 {
        return bench.broken("TLS-01", format!("the fetch of the toolset {}", sent.words()), &[sent.n]);
    }
    let media = answer.header("content-type").unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" {
        bench.fault(
            "TLS-01",
            format!("the toolset has the content type {media:?}, not application/json"),
            &[sent.n],
        );
    }
    match answer.body.json() {
        Ok(body) if body.is_object() => {}
        Ok(_) => bench.fault("TLS-01", "the toolset is JSON, but no object", &[sent.n]),
        Err(why) => bench.fault("TLS-01", format!("the toolset is {why}"), &[sent.n]),
    }
    Ok(())
}

async fn valid(bench: Bench) -> Outcome {
    if let Some(why) = schema::faults("toolset", &bench.toolset.raw) {
        bench.fault("TLS-11", format!("the toolset does not conform to its schema, {why}"), &[]);
    }
    Ok(())
}
