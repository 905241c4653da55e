//! A run ends when its time is over, whatever the server does, and says what it did not come to.

use crate::toy::Toy;
use rap_conformance::{Options, judge, verdict::Verdict};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

#[tokio::test]
async fn a_server_that_falls_silent_is_judged_in_time() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let toy = Toy::new(format!("http://{}", socket.local_addr().expect("an address")));
    // One answer, which the preflight takes.
    toy.answers.store(1, Ordering::SeqCst);
    let base = toy.base.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            tokio::spawn(toy.clone().serve(stream));
        }
    });
    let budget = Duration::from_secs(2);
    // Four cases at a time, so that some are cut off and others never begun.
    let options = Options { budget, patience: Duration::from_secs(60), jobs: 4, ..Options::at(base) };
    let began = Instant::now();
    let report = judge(options).await.expect("a report").report;
    let took = began.elapsed();
    // Twice as long is room enough for a machine that is busy; without the limit it would take minutes.
    assert!(took < budget * 2, "{took:?}");
    let because = |words: &str| {
        let told = |c: &&rap_conformance::report::CaseReport| {
            c.verdict == Verdict::Inconclusive && c.reason.as_ref().is_some_and(|why| why.contains(words))
        };
        report.cases.iter().filter(told).count()
    };
    assert!(because("when the run had to end") > 0, "{:?}", report.cases);
    assert!(because("used up by what came before") > 0, "{:?}", report.cases);
}
