//! Models that fail, break, panic, hang and are interrupted. No sockets, so time is tokio's and runs by itself.

use crate::{
    hooks::Hooked,
    world::{Story, impatient, lines_of, scripted, within},
};
use futures_util::{StreamExt, stream, stream::BoxStream};
use rap_runtime::{
    AgentHost, Delta, ModelCard, ModelError, ModelProvider, NewSession, Runtime, Watched,
    core::{Accepted, Millis, ModelRequest, NewInput, Store, Surface, ThreadState},
};
use rap_types::{ContentPart, ThreadId};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

pub(crate) struct Driven {
    pub(crate) runtime: Runtime,
    pub(crate) driver: tokio::task::JoinHandle<()>,
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

pub(crate) async fn driven(store: Hooked, model: impl ModelProvider) -> Driven {
    let runtime = Runtime::builder()
        .store(store)
        .model(model)
        .rules(impatient())
        .public_url("http://127.0.0.1:1".parse().unwrap())
        .build()
        .await
        .unwrap();
    let driver = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.run_until(std::future::pending()).await.unwrap() }
    });
    Driven { runtime, driver }
}

pub(crate) async fn told(runtime: &Runtime, text: &str) -> (ThreadId, Story) {
    let session = runtime.create(NewSession::new()).await.unwrap().session;
    let story = Story { watch: runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
    runtime.send(&session, "first", text).await.unwrap();
    (session, story)
}

pub(crate) async fn history(runtime: &Runtime, thread: &ThreadId) -> Vec<String> {
    let view = runtime.store().history(thread).await.unwrap().unwrap();
    view.entries.iter().flat_map(|entry| lines_of(entry)).collect()
}

pub(crate) async fn error(story: &mut Story, word: &str) -> String {
    story
        .until(&format!("an error with {word:?}"), |event| match &event.what {
            Surface::Error { text } if text.contains(word) => Some(text.clone()),
            _ => None,
        })
        .await
}

/// ERR-01: the message stays, the error is shown, the thread rests, and the next message tries again.
#[tokio::test(start_paused = true)]
async fn a_model_that_fails() {
    let script = "[[rule]]\nwhen = { user = 'one' }\nfault = 'error'\n[[rule]]\ntext = 'well: ${text}'";
    let world = driven(Hooked::default(), scripted(script)).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    error(&mut story, "the model failed: the script says").await;
    story.resting(&session).await;
    assert!(world.runtime.status(&session).await.unwrap().is_at_rest());
    world.runtime.send(&session, "second", "two").await.unwrap();
    story.text("well: two").await;
    assert_eq!(history(&world.runtime, &session).await, ["Person: one", "Person: two", "model: well: two"]);
}

/// A failure of the moment is tried again, and the turn is in history once. Trap: watchers see text repeated.
#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_twice() {
    let script = "[[rule]]\nfault = 'break'\ntimes = 2\ntext = 'a b c d'";
    let world = driven(Hooked::default(), scripted(script)).await;
    let (session, mut story) = told(&world.runtime, "go").await;
    story.text("a b c d").await;
    story.resting(&session).await;
    // A watcher that does what it is told ends up with the text once.
    let mut shown = String::new();
    let mut dropped = 0;
    for watched in &story.told {
        match watched {
            Watched::Chunk { offset, text, .. } => {
                assert_eq!(*offset, shown.len());
                shown.push_str(text);
            }
            Watched::Dropped { .. } => {
                shown.clear();
                dropped += 1;
            }
            Watched::Committed(numbered) => {
                if let Surface::Text { text, .. } = &numbered.event.what {
                    assert!(text.starts_with(&shown), "{shown:?}");
                    shown.clone_from(text);
                }
            }
            _ => {}
        }
    }
    assert_eq!(shown, "a b c d");
    assert!(dropped <= 2);
    assert_eq!(history(&world.runtime, &session).await, ["Person: go", "model: a b c d"]);
}

/// A model as a function: the number of the completion to a stream.
pub(crate) struct Made<F>(pub(crate) F, pub(crate) Arc<AtomicUsize>);

impl<F> ModelProvider for Made<F>
where
    F: Fn(usize) -> BoxStream<'static, Result<Delta, ModelError>> + Send + Sync + 'static,
{
    fn card(&self) -> ModelCard {
        ModelCard::new("test/made", "Made")
    }

    fn complete(&self, _: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        (self.0)(self.1.fetch_add(1, Ordering::SeqCst))
    }
}

pub(crate) fn text(text: &str) -> Result<Delta, ModelError> {
    Ok(Delta::Text(text.to_owned()))
}

/// Trap: the retry counter reset by every chunk. The budget is four, chunks or not.
#[tokio::test(start_paused = true)]
async fn chunks_do_not_refill_the_budget() {
    let asked = Arc::new(AtomicUsize::new(0));
    let breaks = |_| stream::iter([text("so "), text("far"), Err(ModelError::passing("it broke"))]).boxed();
    let world = driven(Hooked::default(), Made(breaks, asked.clone())).await;
    let (session, mut story) = told(&world.runtime, "go").await;
    error(&mut story, "it broke (tried 4 times)").await;
    story.resting(&session).await;
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    assert_eq!(history(&world.runtime, &session).await, ["Person: go"]);
}

/// A wait of more than 10 s ends the slice: the thread is due later, and a message brings it forward.
#[tokio::test(start_paused = true)]
async fn a_long_wait_is_a_row() {
    let script = "[[rule]]\nfault = { retry_after_ms = 3600000 }\ntimes = 1\ntext = 'at last: ${text}'";
    let world = driven(Hooked::default(), scripted(script)).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    error(&mut story, "trying again in 3600 s").await;
    assert!(world.runtime.store().next_due().await.unwrap().is_some(), "due, as a row");
    world.runtime.send(&session, "second", "two").await.unwrap();
    story.text("at last: two").await;
}

/// The error that people are told, within an hour.
async fn error_in(story: &mut Story) -> String {
    let told = async {
        loop {
            if let Watched::Committed(n) = story.watch.next().await.unwrap().unwrap()
                && let Surface::Error { text } = n.event.what
            {
                return text;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(3600), told).await.unwrap()
}

/// A silent model is a broken one, after a limit.
#[tokio::test(start_paused = true)]
async fn a_model_that_says_nothing() {
    let asked = Arc::new(AtomicUsize::new(0));
    let silent = |_| stream::iter([text("so")]).chain(stream::pending()).boxed();
    let world = driven(Hooked::default(), Made(silent, asked.clone())).await;
    let (_session, mut story) = told(&world.runtime, "go").await;
    let told = error_in(&mut story).await;
    assert!(told.contains("silent for 120 s (tried 4 times)"), "{told}");
    assert_eq!(asked.load(Ordering::SeqCst), 4);
}

/// A model that is at work is not silent: pings and pieces of a call come, if slowly, and it may take its time to begin.
#[tokio::test(start_paused = true)]
async fn a_model_that_is_slow() {
    let asked = Arc::new(AtomicUsize::new(0));
    let after = |seconds: u64, delta: Result<Delta, ModelError>| async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        delta
    };
    let slow = move |_| {
        let waits = [290, 110, 110, 110].map(|seconds| after(seconds, Ok(Delta::Alive)));
        let alive = stream::iter(waits).then(|wait| wait);
        alive.chain(stream::once(after(100, text("at last")))).boxed()
    };
    let world = driven(Hooked::default(), Made(slow, asked.clone())).await;
    let (_session, mut story) = told(&world.runtime, "go").await;
    let said = async {
        loop {
            if let Watched::Committed(n) = story.watch.next().await.unwrap().unwrap() {
                match n.event.what {
                    Surface::Text { text, .. } => return text,
                    Surface::Error { text } => panic!("{text}"),
                    _ => {}
                }
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(3600), said).await.unwrap(), "at last");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// One that never begins is broken as well.
#[tokio::test(start_paused = true)]
async fn a_model_that_never_begins() {
    let asked = Arc::new(AtomicUsize::new(0));
    let world = driven(Hooked::default(), Made(|_| stream::pending().boxed(), asked.clone())).await;
    let (_session, mut story) = told(&world.runtime, "go").await;
    let told = error_in(&mut story).await;
    assert!(told.contains("silent for 300 s (tried 4 times)"), "{told}");
}

/// Trap: a panic leaves the thread stuck. A model that panics, at once or in the middle, costs a turn.
#[tokio::test(start_paused = true)]
async fn a_model_that_panics() {
    let asked = Arc::new(AtomicUsize::new(0));
    let panics = |n: usize| match n {
        0 => panic!("at once"),
        1 => stream::iter([text("x")]).chain(stream::once(async { panic!("in the middle") })).boxed(),
        _ => stream::iter([text("fine")]).boxed(),
    };
    let world = driven(Hooked::default(), Made(panics, asked)).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    error(&mut story, "panicked").await;
    world.runtime.send(&session, "second", "two").await.unwrap();
    error(&mut story, "panicked").await;
    world.runtime.send(&session, "third", "three").await.unwrap();
    story.text("fine").await;
    story.resting(&session).await;
    assert_eq!(
        history(&world.runtime, &session).await,
        ["Person: one", "Person: two", "Person: three", "model: fine"]
    );
}

/// What a model says in its turns.
type Turns = fn(usize) -> BoxStream<'static, Result<Delta, ModelError>>;

/// A model whose card can be asked for once, and then panics.
struct Once(Made<Turns>, AtomicUsize);

impl ModelProvider for Once {
    fn card(&self) -> ModelCard {
        assert_eq!(self.1.fetch_add(1, Ordering::SeqCst), 0, "on purpose");
        self.0.card()
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        self.0.complete(request)
    }
}

/// A model whose card panics whenever it is asked for.
struct Never;

impl ModelProvider for Never {
    fn card(&self) -> ModelCard {
        panic!("on purpose")
    }

    fn complete(&self, _: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        unreachable!("nobody knows it")
    }
}

/// Trap: a panic leaves the thread stuck. A card is asked for once, before anything runs; a finder that panics, or finds
/// a model that does, costs a turn and is told.
#[tokio::test(start_paused = true)]
async fn a_card_or_a_finder_that_panics() {
    let address = "http://127.0.0.1:1".parse().unwrap();
    let builder = Runtime::builder().store(Hooked::default()).model(Never).public_url(address);
    let told = builder.build().await.unwrap_err().to_string();
    assert!(told.contains("panicked when it was asked for its card"), "{told}");

    let made: fn(usize) -> BoxStream<'static, Result<Delta, ModelError>> =
        |_| stream::iter([text("fine")]).boxed();
    let calm = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let finder = {
        let calm = calm.clone();
        move |id: &str| match id {
            _ if calm.load(Ordering::SeqCst) => {
                Ok(Arc::new(scripted("[[rule]]\ntext = 'calm'")) as Arc<dyn ModelProvider>)
            }
            "test/never" => Ok(Arc::new(Never) as Arc<dyn ModelProvider>),
            _ => panic!("on purpose"),
        }
    };
    let store = Hooked::default();
    let build = |finder| {
        Runtime::builder()
            .store(store.clone())
            .model(Once(Made(made, Arc::default()), AtomicUsize::new(0)))
            .model_finder(finder)
            .public_url("http://127.0.0.1:1".parse().unwrap())
            .build()
    };
    let before = build(finder.clone()).await.unwrap();
    let named = async |id: &str| before.create(NewSession::new().model(id)).await.unwrap().session;
    let (never, panics) = (named("test/never").await, named("test/panics").await);
    calm.store(false, Ordering::SeqCst);
    // Another program of the same store, which has found nothing yet.
    let runtime = build(finder).await.unwrap();
    let driver = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.run_until(std::future::pending()).await.unwrap() }
    });
    for (session, says) in [(never, "panicked when it was asked"), (panics, "finder of models panicked")] {
        let mut story = Story { watch: runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
        for key in ["first", "second"] {
            runtime.send(&session, key, "x").await.unwrap();
            error(&mut story, says).await;
            story.resting(&session).await;
        }
    }
    let (session, mut story) = crate::models::told(&runtime, "one").await;
    story.text("fine").await;
    story.resting(&session).await;
    assert_eq!(runtime.model_ids(), ["test/made"]);
    driver.abort();
}

/// A message interrupts a stream: the visible text is committed, marked, and the model goes on with the message.
#[tokio::test(start_paused = true)]
async fn a_message_interrupts() {
    let hang =
        "[[rule]]\nwhen = { user = 'one' }\nfault = 'hang'\ntext = 'so far'\n[[rule]]\ntext = 'now: ${text}'";
    let world = driven(Hooked::default(), scripted(hang)).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    let mut seen = String::new();
    while seen != "so far" {
        if let Watched::Chunk { text, .. } = story.next().await {
            seen.push_str(&text);
        }
    }
    world.runtime.send(&session, "second", "two").await.unwrap();
    story.text("now: two").await;
    story.resting(&session).await;
    assert_eq!(
        history(&world.runtime, &session).await,
        ["Person: one", "model: so far [interrupted]", "Person: two", "model: now: two"]
    );
    assert!(
        !story.told.iter().any(|w| matches!(w, Watched::Dropped { .. })),
        "its text stays: {:?}",
        story.told
    );
}

/// A stop ends the stream; the text stays; nothing goes on. A close ends it too.
#[tokio::test(start_paused = true)]
async fn stop_and_close_interrupt() {
    for close in [false, true] {
        let script = "[[rule]]\nfault = 'hang'\ntext = 'so far'";
        let world = driven(Hooked::default(), scripted(script)).await;
        let (session, mut story) = told(&world.runtime, "one").await;
        while !matches!(story.next().await, Watched::Chunk { text, .. } if text.contains("far")) {}
        let state = if close {
            world.runtime.close(&session).await.unwrap();
            story.until("the end", |e| (e.what == Surface::Closed).then_some(())).await;
            ThreadState::Closed
        } else {
            world.runtime.stop(&session).await.unwrap();
            story.until("the pause", |e| (e.what == Surface::Paused).then_some(())).await;
            ThreadState::Paused
        };
        assert_eq!(world.runtime.status(&session).await.unwrap().threads[0].state, state);
        let history = history(&world.runtime, &session).await;
        assert_eq!(history[..2], ["Person: one", "model: so far [interrupted]"], "{history:?}");
    }
}

/// A stop of the parent ends a child's stream: the child's uncommitted turn is lost and it is paused (P4).
#[tokio::test(start_paused = true)]
async fn a_stop_reaches_a_childs_stream() {
    let script = r#"
        [[rule]]
        when = { thread = "spawned" }
        text = "child at work"
        fault = "hang"

        [[rule]]
        when = { user = "spawn" }
        calls = [{ name = "spawn_thread", arguments = { instructions = "work", child_of = ["${thread_id}"] } }]

        [[rule]]
        text = "spawned"
    "#;
    let world = driven(Hooked::default(), scripted(script)).await;
    let (session, mut story) = told(&world.runtime, "spawn").await;
    let child = loop {
        if let Watched::Chunk { thread, text, .. } = story.next().await
            && thread != session
            && text.contains("work")
        {
            break thread;
        }
    };
    let asked = tokio::time::Instant::now();
    world.runtime.stop(&session).await.unwrap();
    // The child's text is erased: it is in no history.
    within("the child's text is dropped", async {
        while !matches!(story.next().await, Watched::Dropped { thread, .. } if thread == child) {}
    })
    .await;
    assert!(asked.elapsed() < Duration::from_secs(1), "at once, not when the claim is next renewed");
    let status = world.runtime.status(&session).await.unwrap();
    assert!(status.threads.iter().all(|thread| thread.state == ThreadState::Paused), "{status:?}");
    let history = history(&world.runtime, &child).await;
    assert!(!history.iter().any(|line| line.contains("child at work")), "{history:?}");
}

/// A message that came while a turn was being written interrupts nothing: the next completion has seen it.
#[tokio::test(start_paused = true)]
async fn a_stale_interrupt() {
    let store = Hooked::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *store.hooks.commit_gate.lock().unwrap() = Some(gate.clone());
    let asked = Arc::new(AtomicUsize::new(0));
    let world = driven(store.clone(), Made(|_| stream::iter([text("so")]).boxed(), asked.clone())).await;
    let (session, mut story) = told(&world.runtime, "one").await;
    within("the turn is about to be written", async {
        while store.hooks.commits.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.runtime.send(&session, "second", "two").await.unwrap();
    gate.add_permits(100);
    story.text("so").await;
    story.text("so").await;
    story.resting(&session).await;
    assert_eq!(asked.load(Ordering::SeqCst), 2, "no completion was thrown away");
    assert_eq!(
        history(&world.runtime, &session).await,
        ["Person: one", "model: so", "Person: two", "model: so"]
    );
}

/// RES-04, RES-11: a model without eyes gets a word where an image was, and all the rest; one with eyes gets it.
#[tokio::test(start_paused = true)]
async fn images() {
    for eyes in [false, true] {
        let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
        let store = Hooked::default();
        let world = driven(store.clone(), Looks { eyes, seen }).await;
        let session = world.runtime.create(NewSession::new()).await.unwrap().session;
        let content = vec![ContentPart::text("look:"), ContentPart::image(*b"secret", "image/png")];
        let input = NewInput::message(session.clone(), "k", content, "test");
        assert_eq!(store.accept(input, Millis(1)).await.unwrap(), Accepted::Accepted);
        let request: String = within("a request", requests.recv()).await.unwrap();
        assert!(request.contains("look:"), "{request}");
        assert_eq!(request.contains("Image("), eyes, "{request}");
        assert_eq!(request.contains("an image (image/png), which this model cannot see"), !eyes, "{request}");
        // History keeps the image.
        assert!(history(&world.runtime, &session).await[0].contains("Image("));
    }
}

struct Looks {
    eyes: bool,
    seen: tokio::sync::mpsc::UnboundedSender<String>,
}

impl ModelProvider for Looks {
    fn card(&self) -> ModelCard {
        ModelCard::new("test/looks", "Looks").images(self.eyes)
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let lines: Vec<String> = request.history.iter().flat_map(|entry| lines_of(entry)).collect();
        let _ = self.seen.send(lines.join("\n"));
        stream::iter([text("seen")]).boxed()
    }
}

/// A session names its model; one that is not there is refused, with those that are.
#[tokio::test(start_paused = true)]
async fn several_models() {
    let (asked, other) = (Arc::new(AtomicUsize::new(0)), scripted("[[rule]]\ntext = 'the other'"));
    let runtime = Runtime::builder()
        .store(Hooked::default())
        .model(other)
        .model(Made(|_| stream::iter([text("made")]).boxed(), asked))
        .public_url("http://127.0.0.1:1".parse().unwrap())
        .build()
        .await
        .unwrap();
    assert_eq!(runtime.model_ids(), ["scripted/demo", "test/made"]);
    let driver = tokio::spawn({
        let runtime = runtime.clone();
        async move { runtime.run_until(std::future::pending()).await.unwrap() }
    });
    for (model, says) in
        [(None, "the other"), (Some("scripted/demo"), "the other"), (Some("test/made"), "made")]
    {
        let new = model.map_or_else(NewSession::new, |model| NewSession::new().model(model));
        let session = runtime.create(new).await.unwrap().session;
        let mut story = Story { watch: runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
        runtime.send(&session, "k", "x").await.unwrap();
        assert_eq!(story.text("").await, says);
    }
    let error = runtime.create(NewSession::new().model("none/such")).await.unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("scripted/demo, test/made"), "{error}");
    driver.abort();
}
