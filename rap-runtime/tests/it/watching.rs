//! Watchers that are slow. Trap: unbounded queues to slow watchers.

use crate::world::{TOKEN, World};
use axum::{Router, body::Body, routing::get};
use futures_util::StreamExt;
use http::{Request, header};
use rap_runtime::{AgentHost, RemoteHost, Secret, Watched, core::Numbered};
use rap_types::ThreadId;
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;

/// What a watcher may hold unread, in events.
const HELD: usize = 64;

/// A session in which much has happened.
async fn busy(world: &World) -> (ThreadId, Vec<Numbered>) {
    let session = world.session().await.session;
    for n in 0..HELD {
        world.runtime.send(&session, &n.to_string(), "hello").await.unwrap();
        while !world.runtime.status(&session).await.unwrap().is_at_rest() {
            tokio::task::yield_now().await;
        }
    }
    let events = world.runtime.store().events(&session, 0, 10_000).await.unwrap();
    assert!(events.len() > 2 * HELD);
    (session, events)
}

fn number(watched: &Watched) -> Option<i64> {
    match watched {
        Watched::Committed(event) => Some(event.n),
        _ => None,
    }
}

/// A watcher that reads nothing is dropped after a while, is told so with the number after which it may come again, and
/// misses nothing then. One that reads slowly stays.
#[tokio::test(start_paused = true)]
async fn a_watcher_that_reads_nothing() {
    let world = World::new(|b| b.watch_patience(Duration::from_secs(30))).await;
    let (session, events) = busy(&world).await;
    let idle = world.runtime.watch(&session, 0).await.unwrap();
    let mut slow = world.runtime.watch(&session, 0).await.unwrap();
    let mut read = Vec::new();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(29)).await;
        read.push(slow.next().await.unwrap().unwrap());
    }
    let mut told: Vec<_> = idle.collect().await;
    let last = told.pop().unwrap().unwrap_err();
    let told: Vec<i64> = told.into_iter().map(|watched| number(&watched.unwrap()).unwrap()).collect();
    assert_eq!(told.len(), HELD, "what it held is bounded");
    let after = *told.last().unwrap();
    assert!(last.is_busy(), "{last}");
    assert!(last.to_string().contains(&format!("watch again after event {after}")), "{last}");

    let mut rest = world.runtime.watch(&session, after).await.unwrap();
    let mut all = told;
    loop {
        match rest.next().await.unwrap().unwrap() {
            Watched::CaughtUp => break,
            watched => all.extend(number(&watched)),
        }
    }
    let expected: Vec<i64> = events.iter().map(|event| event.n).collect();
    assert_eq!(all, expected, "nothing is missing, nothing is there twice");
    while read.last() != Some(&Watched::CaughtUp) {
        read.push(slow.next().await.unwrap().unwrap());
    }
    assert_eq!(read.iter().filter_map(number).collect::<Vec<_>>(), expected, "slow is not idle");
}

/// The same over HTTP: the stream of lines ends with one that says so, and a remote host understands it.
#[tokio::test(start_paused = true)]
async fn a_watcher_from_afar_that_reads_nothing() {
    let world = World::new(|b| b).await;
    let (session, _) = busy(&world).await;
    let request = Request::get(format!("/v1/sessions/{session}/events"))
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::HOST, world.base.parsed().authority())
        .body(Body::empty())
        .unwrap();
    let answer = world.runtime.api(Secret::from(TOKEN)).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    tokio::time::sleep(Duration::from_secs(31)).await;
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), HELD + 1);
    let last = lines[HELD].to_vec();
    let told: Value = serde_json::from_slice(&last).unwrap();
    assert!(told["error"].as_str().unwrap().contains("watch again after event"), "{told}");

    tokio::time::resume();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().fallback(get(move || async move { [&last[..], b"\n"].concat() }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let remote = RemoteHost::new(base, Secret::from(TOKEN));
    let mut watch = remote.watch(&session, 0).await.unwrap();
    assert!(watch.next().await.unwrap().unwrap_err().is_busy());
    assert!(watch.next().await.is_none());
}
