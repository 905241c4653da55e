//! The main job: calls, parallel and late, subscriptions, threads of events, questions, stop and close.

use crate::world::{World, impatient, tools, within};
use rap_runtime::{
    AgentHost, Choices, Sent, Watched,
    core::{Interaction, Surface, ThreadState},
};
use serde_json::json;
use std::sync::atomic::Ordering;

/// A person writes, the model calls, a server answers, the model tells it. P1, P3, INV-03, RES-01.
#[tokio::test]
async fn one_call() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told(r#"call quick {"word":"one"}"#).await;
    story.text("quick: quick one").await;
    story.resting(&session).await;
    assert_eq!(
        world.history(&session).await,
        [
            r#"Person: call quick {"word":"one"}"#,
            "model: Calling quick.",
            r#"call: quick {"word":"one"}"#,
            "result: quick one",
            "model: quick: quick one",
        ]
    );
    assert!(world.runtime.status(&session).await.unwrap().is_at_rest());
    world.stop().await;
}

/// Two calls in one turn run at the same time; the answers enter history together, in call order.
#[tokio::test]
async fn parallel_calls() {
    let (base, bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told("call slow and slow and quick").await;
    story
        .until("the quick result", |e| {
            matches!(&e.what, Surface::Result { name, .. } if name == "quick").then_some(())
        })
        .await;
    within("both slow calls begin", async {
        while bench.begun.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(world.runtime.status(&session).await.unwrap().threads[0].state, ThreadState::Waiting);
    bench.gate.0.add_permits(2);
    let told = story.text("slow:").await;
    assert_eq!(told, "slow: slow at last\nslow: slow at last\nquick: quick ");
    story.resting(&session).await;
}

/// P9, P10: a person's message goes past a call that is pending; its outcome comes late, as an event, once.
#[tokio::test]
async fn a_late_result_is_an_event() {
    let (base, bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told("call slow").await;
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
    assert_eq!(world.runtime.send(&session, "second", "call quick").await.unwrap(), Sent::Accepted);
    assert_eq!(world.runtime.send(&session, "second", "call quick").await.unwrap(), Sent::Duplicate);
    story.text("slow: still running.\nCalling quick.").await;
    story.text("quick: quick").await;
    bench.gate.0.add_permits(1);
    story.text("slow: slow at last").await;
    world.at_rest(&session, &mut story).await;
    let history = world.history(&session).await;
    assert_eq!(history.iter().filter(|line| line.contains("slow at last")).count(), 2, "{history:#?}");
    assert!(history.contains(&"event of slow: slow at last".to_owned()), "{history:#?}");
    assert_eq!(bench.quick.load(Ordering::SeqCst), 1);
}

/// SUB-02, SUB-05, SUB-06: each event gets a thread of its own, which reports and closes; the last one ends it.
#[tokio::test]
async fn events_get_threads_that_report() {
    let (base, bench) = tools().await;
    let world = World::new(|b| b.toolset(base).rules(impatient())).await;
    let (session, mut story) = world.told(r#"call ticks {"count":2}"#).await;
    story.text("ticks: ticking").await;
    story.resting(&session).await;
    assert_eq!(world.runtime.status(&session).await.unwrap().threads[0].subscriptions, 1);
    for event in ["tick 1", "tick 2, the last"] {
        bench.gate.0.add_permits(1);
        let thread = story
            .until("the event", |e| match &e.what {
                Surface::Event { text, handled_by, .. } if text == event => Some(handled_by.clone().unwrap()),
                _ => None,
            })
            .await;
        story
            .until("its report", |e| match &e.what {
                Surface::Report { child, text } if *child == thread => {
                    assert_eq!(*text, format!("ticks: {event}"));
                    Some(())
                }
                _ => None,
            })
            .await;
        story.text(event).await;
    }
    world.at_rest(&session, &mut story).await;
    let status = world.runtime.status(&session).await.unwrap();
    assert_eq!(status.threads.len(), 3);
    assert_eq!(status.threads[0].subscriptions, 0, "the final event ended it");
    assert!(
        status.threads[1..]
            .iter()
            .all(|t| t.state == ThreadState::Closed && t.parent == Some(session.clone()))
    );
}

/// SUB-05: an associative event goes into the subscribing thread.
#[tokio::test]
async fn associative_events() {
    let (base, bench) = tools().await;
    let world = World::new(|b| b.toolset(base).rules(impatient())).await;
    let (session, mut story) = world.told(r#"call ticks {"count":1,"inside":true}"#).await;
    story.text("ticks: ticking").await;
    bench.gate.0.add_permits(1);
    story.text("ticks: tick 1, the last").await;
    world.at_rest(&session, &mut story).await;
    assert_eq!(world.runtime.status(&session).await.unwrap().threads.len(), 1);
}

/// CHO-01: with nobody to ask, a question is shown and dismissed, which picks its default.
#[tokio::test]
async fn a_question_is_dismissed() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told("call ask").await;
    story
        .until("the question", |e| matches!(&e.what, Surface::Choice { default: 1, .. }).then_some(()))
        .await;
    story.text("ask: picked blue").await;
    assert!(world.runtime.open_questions(&session).await.unwrap().is_empty());
}

/// CHO-01: with somebody to ask, it waits; the first answer wins and a wrong index is told.
#[tokio::test]
async fn a_question_is_answered() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base).choices(Choices::Ask)).await;
    let (session, mut story) = world.told("call ask").await;
    let call = story
        .until("the question", |e| match &e.what {
            Surface::Choice { call, .. } => Some(call.clone()),
            _ => None,
        })
        .await;
    let open = world.runtime.open_questions(&session).await.unwrap();
    assert!(matches!(&open[0].interaction, Interaction::Choice { prompt, .. } if prompt == "Red or blue?"));
    assert!(world.runtime.answer(&call, 7).await.unwrap_err().is_refused());
    world.runtime.answer(&call, 0).await.unwrap();
    assert!(world.runtime.answer(&call, 1).await.unwrap_err().is_already());
    story.text("ask: picked red").await;
}

/// CHO-01: a person may dismiss a question, here and from afar: its server is told the default, once.
#[tokio::test]
async fn a_person_dismisses_a_question() {
    for from_afar in [false, true] {
        let (base, _bench) = tools().await;
        let world = World::new(|b| b.toolset(base).choices(Choices::Ask)).await;
        let remote = rap_runtime::RemoteHost::new(world.base.clone(), crate::world::TOKEN.into());
        let host: &dyn AgentHost = if from_afar { &remote } else { &world.runtime };
        let (_session, mut story) = world.told("call ask").await;
        let call = story
            .until("the question", |e| match &e.what {
                Surface::Choice { call, .. } => Some(call.clone()),
                _ => None,
            })
            .await;
        host.dismiss(&call).await.unwrap();
        let error = host.answer(&call, 0).await.unwrap_err();
        assert!(error.is_already() && !error.is_ended(), "{error}");
        story.text("ask: picked blue").await;
    }
}

/// An error result of a tool is told like any other, marked as an error.
#[tokio::test]
async fn a_tool_that_fails() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (_session, mut story) = world.told("call broken").await;
    story
        .until("the error", |e| matches!(&e.what, Surface::Result { is_error: true, .. }).then_some(()))
        .await;
    story.text("broken: Error: it is broken").await;
}

/// Stop cancels the calls and pauses the thread, for good until a person writes. Watching does not lift it.
#[tokio::test]
async fn stop_and_go_on() {
    let (base, bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told("call slow").await;
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
    world.runtime.stop(&session).await.unwrap();
    story.until("the pause", |e| (e.what == Surface::Paused).then_some(())).await;
    let mut second = world.story(&session).await;
    second.until("the pause again", |e| (e.what == Surface::Paused).then_some(())).await;
    let status = world.runtime.status(&session).await.unwrap();
    assert_eq!((status.threads[0].state, status.threads[0].open_calls), (ThreadState::Paused, 0));
    assert!(status.is_at_rest());
    world.runtime.send(&session, "go", "call quick").await.unwrap();
    story.text("quick: quick").await;
    bench.gate.0.add_permits(1);
}

/// CLS-01: a closed thread takes nothing more, and its servers were told.
#[tokio::test]
async fn close() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told("call slow").await;
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
    world.runtime.close(&session).await.unwrap();
    story.until("the end", |e| (e.what == Surface::Closed).then_some(())).await;
    let error = world.runtime.send(&session, "late", "hello").await.unwrap_err();
    assert!(error.is_ended(), "{error}");
    assert_eq!(world.runtime.status(&session).await.unwrap().threads[0].state, ThreadState::Closed);
}

/// Chunks come before the committed text, hold its beginning, and none comes after it; a second watcher from a
/// later number sees only what is newer.
#[tokio::test]
async fn watching() {
    let world = World::new(|b| b).await;
    let (session, mut story) = world.told("hello").await;
    let text = story.text("scripted model").await;
    story.resting(&session).await;
    let mut so_far = String::new();
    let mut committed = false;
    let mut caught_up = 0;
    let mut last = 0;
    for watched in &story.told {
        match watched {
            Watched::Chunk { offset, text, thread, .. } => {
                assert!(!committed && *offset == so_far.len() && *thread == session);
                so_far.push_str(text);
            }
            Watched::Committed(numbered) => {
                assert!(numbered.n > last);
                last = numbered.n;
                committed |= matches!(numbered.event.what, Surface::Text { .. });
            }
            Watched::CaughtUp => caught_up += 1,
            Watched::Dropped { .. } => panic!("nothing was dropped"),
            other => panic!("{other:?}"),
        }
    }
    assert!(text.starts_with(&so_far));
    assert_eq!(caught_up, 1);
    use futures_util::StreamExt;
    let mut later = world.runtime.watch(&session, last).await.unwrap();
    assert_eq!(within("caught up", later.next()).await.unwrap().unwrap(), Watched::CaughtUp);
    assert_eq!(json!(story.told[0])["watched"], "committed");
}

/// A stopped thread can be closed: a close is a person's word, and waits for no message.
#[tokio::test]
async fn close_what_is_stopped() {
    let world = World::new(|b| b).await;
    let (session, mut story) = world.told("hello").await;
    story.resting(&session).await;
    world.runtime.stop(&session).await.unwrap();
    story.until("the pause", |e| (e.what == Surface::Paused).then_some(())).await;
    world.runtime.close(&session).await.unwrap();
    story.until("the end", |e| (e.what == Surface::Closed).then_some(())).await;
}
