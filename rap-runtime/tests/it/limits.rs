//! What the decisions cannot know by themselves and are told: the window of the model, and that the clock was set back.
//! No sockets, so time is tokio's and runs by itself.

use crate::{
    hooks::Hooked,
    world::{Story, impatient, scripted, within},
};
use futures_util::{StreamExt, stream, stream::BoxStream};
use rap_runtime::{
    AgentHost, Delta, ModelCard, ModelError, ModelProvider, NewSession, Runtime,
    core::{Accepted, Entry, InputBody, Millis, ModelCall, ModelRequest, NewInput, Store},
};
use rap_types::{ContentPart, ThreadId};
use std::time::SystemTime;
use tokio::task::JoinHandle;

async fn runtime(store: Hooked, model: impl ModelProvider) -> (Runtime, ThreadId, Story) {
    let built = Runtime::builder().store(store).model(model).rules(impatient());
    let runtime = built.public_url("http://127.0.0.1:1".parse().unwrap()).build().await.unwrap();
    let session = runtime.create(NewSession::new()).await.unwrap().session;
    let story = Story { watch: runtime.watch(&session, 0).await.unwrap(), told: Vec::new() };
    (runtime, session, story)
}

fn drive(runtime: &Runtime) -> JoinHandle<()> {
    let runtime = runtime.clone();
    tokio::spawn(async move { runtime.run_until(std::future::pending()).await.unwrap() })
}

/// A model with a small window, which calls a tool that is not there.
struct Narrow;

impl ModelProvider for Narrow {
    fn card(&self) -> ModelCard {
        ModelCard::new("test/narrow", "Narrow").limits(500, 100)
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let call = ModelCall { name: "x".repeat(1_000), arguments: serde_json::json!({}), provider_id: None };
        let said = if request.history.len() == 1 { Delta::Call(call) } else { Delta::Text("I see".into()) };
        stream::iter([Ok(said)]).boxed()
    }
}

/// "A result shows the model at most … 10 % of its window": the model's card says how large that is.
#[tokio::test(start_paused = true)]
async fn a_result_by_the_window_of_the_model() {
    let store = Hooked::default();
    let (runtime, session, mut story) = runtime(store.clone(), Narrow).await;
    let driver = drive(&runtime);
    runtime.send(&session, "first", "go").await.unwrap();
    story.text("I see").await;
    driver.abort();
    let history = store.history(&session).await.unwrap().unwrap().entries;
    let Entry::Results { results } = &*history[2] else { panic!("{history:?}") };
    let [ContentPart::Text(text)] = &results[0].content[..] else { panic!("{results:?}") };
    assert_eq!(text.text.find("\n[cut here: "), Some(100), "{}", text.text);
    let slices = store.slices(&session, 0, 10).await.unwrap();
    assert_eq!(slices[0].record.facts.as_ref().unwrap().window, Some(500));
}

/// P9: a clock that was set back while nothing ran holds nobody up.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back() {
    let store = Hooked::default();
    let (runtime, session, mut story) = runtime(store.clone(), scripted("[[rule]]\ntext = 'here'")).await;
    let machine = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let before = Millis(i64::try_from(machine).unwrap() + 2 * 3_600_000);
    let input = NewInput::message(session.clone(), "k", vec![ContentPart::text("hello")], "test");
    assert_eq!(store.accept(input, before).await.unwrap(), Accepted::Accepted);
    let driver = drive(&runtime);
    within("an answer", story.text("here")).await;
    driver.abort();
    let slices = store.slices(&session, 0, 10).await.unwrap();
    let heard = |body: &InputBody| matches!(body, InputBody::ClockSetBack { by } if *by > 7_100_000);
    assert!(slices[0].inputs.iter().any(|input| heard(&input.body)), "{slices:?}");
}
