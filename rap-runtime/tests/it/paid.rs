//! What a model has done is paid for once: whatever becomes of the store, it is kept and not asked for again.

use crate::{
    hooks::Hooked,
    models::{Made, driven, error, text, told},
    world::{lines_of, within},
};
use futures_util::{StreamExt, stream, stream::BoxStream};
use rap_runtime::{
    AgentHost, Delta, ModelCard, ModelError, ModelProvider,
    core::{InputBody, ModelRequest, Surface},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// P4, P6: a runtime whose database another process has taken over ends and says so: its model is asked at most once, and
/// nothing of what the other commits is worked on here.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_database_that_was_taken_over() {
    use rap_runtime::{
        NewSession, Runtime,
        core::{NewInput, Store, StoreError},
        sqlite::SqliteStore,
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.db");
    let store = Arc::new(SqliteStore::open(&path).await.unwrap());
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let model = {
        let gate = gate.clone();
        Made(
            move |_| {
                let gate = gate.clone();
                stream::once(async move {
                    gate.acquire().await.unwrap().forget();
                    text("done")
                })
                .boxed()
            },
            asked.clone(),
        )
    };
    let address = "http://127.0.0.1:1".parse().unwrap();
    let runtime =
        Runtime::builder().shared_store(store).model(model).public_url(address).build().await.unwrap();
    let driver = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.run_until(std::future::pending()).await }
    });
    let session = runtime.create(NewSession::new()).await.unwrap().session;
    runtime.send(&session, "first", "go").await.unwrap();
    within("the model is asked", async {
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The lock is removed, as a script that tidies up might do, and a second runtime is started.
    std::fs::remove_file(folder.path().join("agent.db.lock")).unwrap();
    let second = SqliteStore::open(&path).await.unwrap();
    let more = NewInput::message(session.clone(), "more", vec![rap_types::ContentPart::text("more")], "test");
    second.accept(more, rap_runtime::core::Millis(1)).await.unwrap();
    gate.add_permits(1_000);
    let ended = within("the first ends", driver).await.unwrap();
    assert!(matches!(&ended, Err(StoreError::Owned { .. })), "{ended:?}");
    assert!(ended.unwrap_err().to_string().contains("in use by a later process"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(runtime.send(&session, "late", "x").await.is_err());
    let snapshot = second.history(&session).await.unwrap().unwrap();
    assert!(snapshot.entries.is_empty(), "nothing was written: {:?}", snapshot.entries);
}

/// P4: a store that says of every commit that the thread is another's, and lets it be claimed all the same, costs a model
/// call now and then, not one after another.
#[tokio::test(start_paused = true)]
async fn a_thread_that_is_always_lost() {
    let store = Hooked::default();
    let asked = Arc::new(AtomicUsize::new(0));
    store.hooks.fenced_commits.store(usize::MAX, Ordering::SeqCst);
    let model = Made(|_| stream::iter([text("done")]).boxed(), asked.clone());
    let world = driven(store.clone(), model).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let times = asked.load(Ordering::SeqCst);
    assert!((2..=9).contains(&times), "asked {times} times in a minute");
    store.hooks.fenced_commits.store(0, Ordering::SeqCst);
    // Within the longest pause: the test's own patience is shorter.
    tokio::time::sleep(Duration::from_secs(30)).await;
    story.text("done").await;
    story.resting(&session).await;
}

/// ERR-02: a turn whose commit finds a damaged page is kept and written when that can be; people are told, the model is not
/// asked again, and other threads go on, however many are stuck so.
#[tokio::test(start_paused = true)]
async fn a_commit_that_finds_damage() {
    let store = Hooked::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let model = Made(|_| stream::iter([text("done")]).boxed(), asked.clone());
    let world = driven(store.clone(), model).await;
    store.hooks.damaged_commits.store(usize::MAX, Ordering::SeqCst);
    let mut stuck = Vec::new();
    // More than run at once.
    for _ in 0..70 {
        stuck.push(told(&world.runtime, "one").await);
    }
    for (_, story) in &mut stuck {
        error(story, "cannot be written yet: a page is damaged").await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 70, "each is asked once in a minute");
    assert!(store.hooks.commits.load(Ordering::SeqCst) > 3 * 70, "and its turn is tried to be written");
    store.hooks.damaged_commits.store(0, Ordering::SeqCst);
    for (session, story) in &mut stuck {
        story.text("done").await;
        story.resting(session).await;
    }
    assert_eq!(asked.load(Ordering::SeqCst), 70);
}

/// A model that says `fine`, and of summaries what a test says.
struct Summarises<F>(F, Arc<AtomicUsize>);

impl<F> ModelProvider for Summarises<F>
where
    F: Fn() -> BoxStream<'static, Result<Delta, ModelError>> + Send + Sync + 'static,
{
    fn card(&self) -> ModelCard {
        ModelCard::new("test/summarises", "Summarises")
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let last = request.history.iter().last().map(|entry| lines_of(entry).join("\n"));
        if last.is_some_and(|last| last.contains("Summarise the conversation above")) {
            self.1.fetch_add(1, Ordering::SeqCst);
            return (self.0)();
        }
        stream::iter([text("fine")]).boxed()
    }
}

/// A summary that cannot be written is kept and not asked for again.
#[tokio::test(start_paused = true)]
async fn a_summary_that_cannot_be_written() {
    let store = Hooked::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let world =
        driven(store.clone(), Summarises(|| stream::iter([text("so far")]).boxed(), asked.clone())).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    story.resting(&session).await;
    world.runtime.send(&session, "second", "two").await.unwrap();
    story.resting(&session).await;
    world.runtime.compact(&session).await.unwrap();
    store.hooks.failing_accepts.store(usize::MAX, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    store.hooks.failing_accepts.store(0, Ordering::SeqCst);
    let text = story
        .until("the summary", |e| match &e.what {
            Surface::Compacted { text } => Some(text.clone()),
            _ => None,
        })
        .await;
    assert_eq!((text.as_str(), asked.load(Ordering::SeqCst)), ("so far", 1));
}

/// A model that falls silent over a summary, before its first word or after it, is given up after a while; the thread goes
/// on without. So is one that panics.
#[tokio::test(start_paused = true)]
async fn a_summary_that_never_comes() {
    let never: fn() -> BoxStream<'static, Result<Delta, ModelError>> = || stream::pending().boxed();
    let breaks_off: fn() -> BoxStream<'static, Result<Delta, ModelError>> =
        || stream::iter([text("so")]).chain(stream::pending()).boxed();
    let panics: fn() -> BoxStream<'static, Result<Delta, ModelError>> = || panic!("on purpose");
    let panics_later: fn() -> BoxStream<'static, Result<Delta, ModelError>> =
        || stream::iter([text("so")]).chain(stream::once(async { panic!("on purpose") })).boxed();
    for (summary, tries, says) in [
        (never, 4, "silent for 300 s"),
        (breaks_off, 4, "silent for 120 s"),
        (panics, 1, "panicked"),
        (panics_later, 1, "panicked"),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let world = driven(Hooked::default(), Summarises(summary, asked.clone())).await;
        let (session, mut story) = told(&world.runtime, "one").await;
        story.resting(&session).await;
        world.runtime.send(&session, "second", "two").await.unwrap();
        story.resting(&session).await;
        world.runtime.compact(&session).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let slices = world.runtime.store().slices(&session, 0, 100).await.unwrap();
        let mut inputs = slices.into_iter().flat_map(|slice| slice.inputs);
        let why = inputs.find_map(|input| match input.body {
            InputBody::NotCompacted { reason } => Some(reason),
            _ => None,
        });
        assert!(why.as_ref().is_some_and(|why| why.contains(says)), "{says}: {why:?}");
        assert_eq!(asked.load(Ordering::SeqCst), tries, "{says}");
        world.runtime.send(&session, "third", "three").await.unwrap();
        story.text("fine").await;
    }
}
