//! What drives threads: at rest it costs nothing, a store that fails for a while stops it for no longer, and another
//! takes over from one that ended. No sockets, so time is tokio's and runs by itself.

use crate::{
    hooks::Hooked,
    models::{Made, driven, history, text, told},
    world::{Story, scripted, within},
};
use futures_util::{StreamExt, stream};
use rap_runtime::{
    AgentHost, Delta, Runtime, Watched,
    core::{ModelCall, Surface},
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// P7: a runtime with nothing to do looks for work when a bell rings, and once a minute to see the clock.
#[tokio::test(start_paused = true)]
async fn idle_is_free() {
    let store = Hooked::default();
    let world = driven(store.clone(), scripted("[[rule]]\ntext = 'done'")).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    story.resting(&session).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = store.hooks.claims.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let looks = store.hooks.claims.load(Ordering::SeqCst) - before;
    assert!((8..=12).contains(&looks), "{looks} looks in ten minutes");
}

/// ERR-02: a load that fails changes nothing; the thread goes on when the store does.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while() {
    let store = Hooked::default();
    store.hooks.failing_loads.store(2, Ordering::SeqCst);
    let world = driven(store, scripted("[[rule]]\ntext = 'done: ${text}'")).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    story.text("done: one").await;
    story.resting(&session).await;
    assert_eq!(history(&world.runtime, &session).await, ["Person: one", "model: done: one"]);
}

/// P4: a worker that is told that it has lost its thread gives its claim back all the same, and the thread is taken up
/// at once, not when somebody looks again.
#[tokio::test(start_paused = true)]
async fn a_claim_is_given_back_after_a_fenced_commit() {
    let store = Hooked::default();
    store.hooks.fenced_commits.store(1, Ordering::SeqCst);
    let asked = Arc::new(AtomicUsize::new(0));
    let world = driven(store, Made(|_| stream::iter([text("done")]).boxed(), asked.clone())).await;
    let begun = tokio::time::Instant::now();
    let (session, mut story) = told(&world.runtime, "one").await;
    story.text("done").await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    story.resting(&session).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "nothing was written of the first");
    assert_eq!(history(&world.runtime, &session).await, ["Person: one", "model: done"]);
}

/// ERR-02: a turn that was paid for is written as soon as the store can, and the model is not asked again.
#[tokio::test(start_paused = true)]
async fn a_turn_that_cannot_be_written_at_first() {
    let store = Hooked::default();
    store.hooks.failing_commits.store(2, Ordering::SeqCst);
    let asked = Arc::new(AtomicUsize::new(0));
    let says = |n| stream::iter([text(if n == 0 { "the first" } else { "another" })]).boxed();
    let world = driven(store.clone(), Made(says, asked.clone())).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    story.text("the first").await;
    story.resting(&session).await;
    assert_eq!(store.hooks.commits.load(Ordering::SeqCst), 3);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(history(&world.runtime, &session).await, ["Person: one", "model: the first"]);
}

/// ERR-02: the same for a turn that names a call of long ago, which cannot be looked up at first.
#[tokio::test(start_paused = true)]
async fn a_turn_whose_old_call_cannot_be_read_at_first() {
    let store = Hooked::default();
    store.hooks.failing_calls.store(2, Ordering::SeqCst);
    let asked = Arc::new(AtomicUsize::new(0));
    let says = |n| {
        let arguments = json!({"tool_call_id": "of-nobody"});
        let call = ModelCall { name: "cancel_subscription".to_owned(), arguments, provider_id: None };
        stream::iter([if n == 0 { Ok(Delta::Call(call)) } else { text("well") }]).boxed()
    };
    let world = driven(store.clone(), Made(says, asked.clone())).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    story.text("well").await;
    story.resting(&session).await;
    assert_eq!(store.hooks.failing_calls.load(Ordering::SeqCst), 0, "it was looked up");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    let told = history(&world.runtime, &session).await.join("\n");
    assert!(told.contains("neither a subscription nor a call"), "{told}");
}

/// P6: a driver that is dropped in the middle of a completion keeps no thread: the next one of the same process goes
/// on at once, on the same runtime or on another one of the same store.
#[tokio::test(start_paused = true)]
async fn a_second_driver_takes_over_from_one_that_was_dropped() {
    for same in [true, false] {
        let store = Hooked::default();
        let script = "[[rule]]\nfault = 'hang'\ntimes = 1\ntext = 'so far'";
        let mut world = driven(store.clone(), scripted(script)).await;
        let (session, mut story) = told(&world.runtime, "one").await;
        while !matches!(story.next().await, Watched::Chunk { text, .. } if text.contains("far")) {}
        world.driver.abort();
        let next = if same {
            let runtime = world.runtime.clone();
            world.driver =
                tokio::spawn(async move { runtime.run_until(std::future::pending()).await.unwrap() });
            world
        } else {
            driven(store, scripted("[[rule]]\ntext = 'so far'")).await
        };
        let mut story = Story { watch: next.runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
        let begun = tokio::time::Instant::now();
        story.text("so far").await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(history(&next.runtime, &session).await, ["Person: one", "model: so far"]);
    }
}

/// The end of the program drops a running completion and commits nothing of it.
#[tokio::test(start_paused = true)]
async fn shutdown_while_the_model_speaks() {
    let store = Hooked::default();
    let script = "[[rule]]\nfault = 'hang'\ntimes = 1\ntext = 'so far'";
    let runtime = Runtime::builder()
        .store(store.clone())
        .model(scripted(script))
        .public_url("http://127.0.0.1:1".parse().unwrap())
        .build()
        .await
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let driver = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.run_until(async { drop(stopped.await) }).await.unwrap() }
    });
    let (session, mut story) = told(&runtime, "one").await;
    while !matches!(story.next().await, Watched::Chunk { text, .. } if text.contains("far")) {}
    drop(stop);
    within("the driver ends", driver).await.unwrap();
    while let Some(watched) = within("the story ends", story.watch.next()).await {
        assert!(
            !matches!(watched.unwrap(), Watched::Committed(n) if matches!(n.event.what, Surface::Text { .. }))
        );
    }
    assert_eq!(history(&runtime, &session).await, Vec::<String>::new(), "the message is still in the inbox");
    // Another process takes it up.
    let world = driven(store, scripted("[[rule]]\ntext = 'done: ${text}'")).await;
    let mut story = Story { watch: world.runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
    story.text("done: one").await;
}
