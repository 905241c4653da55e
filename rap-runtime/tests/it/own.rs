//! Tools of the program's own: instant ones, and calls that are worked from the outbox by their id. No sockets.

use crate::{
    hooks::Hooked,
    world::{Story, impatient, lines_of, scripted, within},
};
use rap_runtime::{
    AgentHost, NewSession, OwnCall, Runtime, RuntimeBuilder,
    core::{CallState, Outcome, OwnTool, Store, Surface},
};
use rap_types::ThreadId;
use serde_json::{Map, Value, json};
use std::sync::{Arc, atomic::Ordering};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};

fn any() -> Map<String, Value> {
    json!({"type": "object"}).as_object().unwrap().clone()
}

const SCRIPT: &str = r#"
[[rule]]
when = { user = "go" }
calls = [{ name = "greet", arguments = { name = "Ada" } }, { name = "job" }]

[[rule]]
text = "well: ${text}"
"#;

/// The program's tools: `greet`, and `job`, each of whose calls is told and then waits for a permit.
fn with_tools(builder: RuntimeBuilder) -> (RuntimeBuilder, mpsc::UnboundedReceiver<OwnCall>, Arc<Semaphore>) {
    let (begun, calls) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let builder = builder
        .instant_tool(OwnTool::new("greet", "Greets.", any()), |call| {
            Outcome::text(format!("hello {}", call.arguments["name"].as_str().unwrap_or_default()))
        })
        .own_tool(OwnTool::new("job", "Works.", any()), {
            let gate = gate.clone();
            move |call| {
                let (gate, begun) = (gate.clone(), begun.clone());
                async move {
                    let id = call.id.clone();
                    let _ = begun.send(call);
                    gate.acquire().await.unwrap().forget();
                    Outcome::text(format!("worked {id}"))
                }
            }
        })
        .own_tool(OwnTool::new("panics", "Panics.", any()), |_| async { panic!("on purpose") });
    (builder, calls, gate)
}

async fn built(
    store: Hooked,
    script: &str,
    tools: bool,
) -> (Runtime, mpsc::UnboundedReceiver<OwnCall>, Arc<Semaphore>) {
    let builder = Runtime::builder().store(store).model(scripted(script)).rules(impatient());
    let builder = builder.public_url("http://127.0.0.1:1".parse().unwrap());
    if !tools {
        let (_, calls) = mpsc::unbounded_channel();
        return (builder.build().await.unwrap(), calls, Arc::new(Semaphore::new(0)));
    }
    let (builder, calls, gate) = with_tools(builder);
    (builder.build().await.unwrap(), calls, gate)
}

fn drive(runtime: &Runtime) -> JoinHandle<()> {
    let runtime = runtime.clone();
    tokio::spawn(async move { runtime.run_until(std::future::pending()).await.unwrap() })
}

async fn told(runtime: &Runtime, text: &str) -> (ThreadId, Story) {
    let session = runtime.create(NewSession::new()).await.unwrap().session;
    let story = Story { watch: runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
    runtime.send(&session, "first", text).await.unwrap();
    (session, story)
}

pub(crate) async fn history(runtime: &Runtime, thread: &ThreadId) -> Vec<String> {
    let view = runtime.store().history(thread).await.unwrap().unwrap();
    view.entries.iter().flat_map(|entry| lines_of(entry)).collect()
}

pub(crate) async fn a_result(story: &mut Story, word: &str) {
    let what = format!("a result with {word:?}");
    story
        .until(&what, |event| match &event.what {
            Surface::Result { text, .. } if text.contains(word) => Some(()),
            _ => None,
        })
        .await;
}

/// The one is answered in the same turn, the other when its outcome is durable; both are in the prompt.
#[tokio::test(start_paused = true)]
async fn both_kinds() {
    let store = Hooked::default();
    let (runtime, mut calls, gate) = built(store.clone(), SCRIPT, true).await;
    let driver = drive(&runtime);
    let (session, mut story) = told(&runtime, "go").await;
    a_result(&mut story, "hello Ada").await;
    let call = within("a call", calls.recv()).await.unwrap();
    assert_eq!((call.tool.as_str(), &call.thread, call.again), ("job", &session, false));
    let row = store.calls(true).await.unwrap().remove(0);
    assert_eq!((&row.row.id, row.row.state, row.undelivered), (&call.id, CallState::Detached, true));
    gate.add_permits(1);
    a_result(&mut story, "worked").await;
    story.resting(&session).await;
    assert!(store.calls(true).await.unwrap().is_empty());
    assert!(store.take(rap_runtime::core::Millis(i64::MAX), 10).await.unwrap().is_empty(), "it is settled");
    driver.abort();
    let offered = store.session(&session).await.unwrap().unwrap().toolbox.for_model();
    let names: Vec<_> = offered.iter().map(|tool| tool.name.as_str()).collect();
    assert!(names.ends_with(&["greet", "job", "panics"]), "{names:?}");
}

/// P6: killed while it works, it is worked again under the same id, and its outcome counts once.
#[tokio::test(start_paused = true)]
async fn a_kill_while_it_works() {
    let store = Hooked::default();
    let (runtime, mut calls, gate) = built(store.clone(), SCRIPT, true).await;
    let driver = drive(&runtime);
    let (session, mut story) = told(&runtime, "go").await;
    let first = within("a call", calls.recv()).await.unwrap();
    driver.abort();
    let _ = driver.await;
    let driver = drive(&runtime);
    let second = within("the call again", calls.recv()).await.unwrap();
    assert_eq!((&second.id, second.again), (&first.id, true));
    gate.add_permits(2);
    a_result(&mut story, "worked").await;
    story.resting(&session).await;
    driver.abort();
    let lines = history(&runtime, &session).await;
    assert_eq!(lines.iter().filter(|line| line.contains("worked")).count(), 1, "{lines:?}");
}

/// P6: an outcome and the end of its call are one step, tried again until it is written; the tool is called once, and what
/// it did is never in the inbox while its call is still owed.
#[tokio::test(start_paused = true)]
async fn an_outcome_that_cannot_be_written_at_first() {
    let store = Hooked::default();
    let (runtime, mut calls, gate) = built(store.clone(), SCRIPT, true).await;
    let driver = drive(&runtime);
    let (session, mut story) = told(&runtime, "go").await;
    within("a call", calls.recv()).await.unwrap();
    let accepts = store.hooks.accepts.load(Ordering::SeqCst);
    store.hooks.failing_settles.store(3, Ordering::SeqCst);
    gate.add_permits(1);
    a_result(&mut story, "worked").await;
    story.resting(&session).await;
    assert_eq!(store.hooks.settles.load(Ordering::SeqCst), 4);
    assert_eq!(store.hooks.accepts.load(Ordering::SeqCst), accepts, "it was not accepted apart");
    assert!(calls.try_recv().is_err(), "the tool was called once");
    driver.abort();
}

/// P9: however many calls of the program's own tools run, requests to servers find their way.
#[tokio::test]
async fn own_calls_keep_no_request_waiting() {
    const SESSIONS: usize = 16;
    let many: Vec<_> = (0..64).map(|n| format!("{{ name = \"job\", arguments = {{ n = {n} }} }}")).collect();
    let script = format!(
        "[[rule]]\nwhen = {{ user = \"many\" }}\ncalls = [{}]\n[[rule]]\nwhen = {{ user = \"one\" }}\n\
         calls = [{{ name = \"rain\" }}]\n[[rule]]\ntext = \"well\"",
        many.join(", ")
    );
    let mut peer = crate::peer::Peer::start("weather", &["rain"]).await;
    let mut begun = None;
    let world = crate::world::World::new(|b| {
        let (builder, calls, _gate) = with_tools(b.toolset(peer.base.clone()).model(scripted(&script)));
        begun = Some(calls);
        builder
    })
    .await;
    let mut begun = begun.unwrap();
    for _ in 0..SESSIONS {
        world.told("many").await;
    }
    for _ in 0..64 * SESSIONS {
        within("all of them run", begun.recv()).await.unwrap();
    }
    world.told("one").await;
    assert_eq!(peer.next("the request").await.path, "/invoke");
}

/// A panic is an error result; so is a tool that a later program has no more.
#[tokio::test(start_paused = true)]
async fn what_goes_wrong() {
    let store = Hooked::default();
    let script = SCRIPT.replace("\"job\"", "\"panics\"");
    let (runtime, _calls, _gate) = built(store.clone(), &script, true).await;
    let driver = drive(&runtime);
    let (_, mut story) = told(&runtime, "go").await;
    a_result(&mut story, "panics panicked, which is a bug in it").await;
    driver.abort();

    let store = Hooked::default();
    let (runtime, _calls, _gate) = built(store.clone(), SCRIPT, true).await;
    let session = runtime.create(NewSession::new()).await.unwrap().session;
    let (later, _calls, _gate) = built(store.clone(), SCRIPT, false).await;
    let mut story = Story { watch: later.watch(&session, 0).await.unwrap(), told: Vec::new() };
    let driver = drive(&later);
    later.send(&session, "first", "go").await.unwrap();
    a_result(&mut story, "does not have the tool greet any more").await;
    a_result(&mut story, "does not have the tool job any more").await;
    driver.abort();
}

/// Names and schemas are looked at before anything runs.
#[tokio::test]
async fn tools_that_cannot_be_offered() {
    let closed = json!({"type": "strange"}).as_object().unwrap().clone();
    for (names, schema, fault) in [
        (vec!["sleep"], any(), "the runtime has one of that name"),
        (vec!["receive_event"], any(), "the runtime has one of that name"),
        (vec!["a b"], any(), "1 to 64 characters"),
        (vec![""], any(), "1 to 64 characters"),
        (vec!["a", "a"], any(), "two of that name"),
        (vec!["a"], closed, "its schema"),
    ] {
        let mut builder =
            Runtime::builder().store(Hooked::default()).public_url("http://127.0.0.1:1".parse().unwrap());
        for name in &names {
            builder = builder.instant_tool(OwnTool::new(*name, "x", schema.clone()), |_| Outcome::text("x"));
        }
        let told = builder.build().await.unwrap_err().to_string();
        assert!(told.contains(fault), "{names:?}: {told}");
    }
    let own_sleep = Runtime::builder()
        .store(Hooked::default())
        .public_url("http://127.0.0.1:1".parse().unwrap())
        .without_tool("sleep")
        .instant_tool(OwnTool::new("sleep", "x", any()), |_| Outcome::text("x"));
    own_sleep.build().await.unwrap();
}
