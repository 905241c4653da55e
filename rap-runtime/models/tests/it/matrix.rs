//! The matrix: one agent's story through every wire, against a server that enforces the provider's rules. The
//! conversation that is kept is the same, whoever spoke.

use crate::{
    plans::cards,
    serve::{Act, Provider},
    spoken::{Spoken, USAGE},
};
use futures_util::StreamExt;
use rap_models::Wire;
use rap_runtime::{
    AgentHost, MemoryStore, ModelCard, NewSession, Runtime, RuntimeBuilder, Watch, Watched,
    core::{Entry, Surface, Usage},
};
use rap_server::{Call, Subscribed, ToolServer, tool};
use rap_types::{ContentPart, HttpUrl, ThreadId};
use std::time::Duration;
use tokio::net::TcpListener;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// Current weather.
#[tool(read_only)]
async fn get_weather(city: String) -> String {
    format!("12 degrees in {city}")
}

/// Watches the sky: one event, in this conversation, then nothing more.
#[tool]
async fn watch_sky(#[cx] call: Call) -> Subscribed {
    let (subscribed, events) = call.subscribe().confirm("watching");
    let events = events.associative();
    tokio::spawn(async move {
        let _ = events.finish("a comet").await;
    });
    subscribed
}

pub(crate) struct World {
    pub(crate) runtime: Runtime,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl World {
    pub(crate) async fn new(model: impl rap_runtime::ModelProvider) -> Self {
        Self::configured(|builder| builder.model(model)).await
    }

    pub(crate) async fn configured(models: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder) -> Self {
        let bound =
            ToolServer::new("sky").tool(get_weather).tool(watch_sky).bind("127.0.0.1:0").await.unwrap();
        let tools: HttpUrl = format!("http://{}", bound.local_addr()).parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: HttpUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let runtime = models(Runtime::builder())
            .store(MemoryStore::new())
            .toolset(tools)
            .public_url(base)
            .build()
            .await
            .unwrap();
        let gateway = runtime.gateway();
        let driven = runtime.clone();
        let tasks = vec![
            tokio::spawn(async move { drop(bound.run_until(std::future::pending()).await) }),
            tokio::spawn(async move { drop(axum::serve(listener, gateway).await) }),
            tokio::spawn(async move { drop(driven.run_until(std::future::pending()).await) }),
        ];
        Self { runtime, tasks }
    }

    pub(crate) async fn told(&self, text: &str) -> (ThreadId, Watch) {
        let session = self.runtime.create(NewSession::new()).await.unwrap().session;
        let watch = self.runtime.watch(&session, 0).await.unwrap();
        self.runtime.send(&session, "first", text).await.unwrap();
        (session, watch)
    }

    pub(crate) async fn history(&self, thread: &ThreadId) -> Vec<String> {
        let view = self.runtime.store().history(thread).await.unwrap().unwrap();
        view.entries.iter().flat_map(|entry| lines(entry)).collect()
    }
}

/// The surface events up to the first that fits.
pub(crate) async fn until(watch: &mut Watch, fits: impl Fn(&Surface) -> bool) -> Vec<Surface> {
    let mut seen = Vec::new();
    let found = async {
        while let Some(watched) = watch.next().await {
            if let Watched::Committed(numbered) = watched.unwrap() {
                seen.push(numbered.event.what);
                if fits(&seen[seen.len() - 1]) {
                    return;
                }
            }
        }
    };
    if tokio::time::timeout(DEADLINE, found).await.is_err() {
        panic!("not within {DEADLINE:?}; there were {seen:#?}");
    }
    seen
}

/// An entry in words, without what is a provider's own.
fn lines(entry: &Entry) -> Vec<String> {
    let text = |content: &[ContentPart]| {
        let texts: Vec<&str> = content
            .iter()
            .map(|part| match part {
                ContentPart::Text(text) => text.text.as_str(),
                _ => "[something]",
            })
            .collect();
        texts.join("|")
    };
    match entry {
        Entry::User(user) => vec![format!("{:?}: {}", user.author, text(&user.content))],
        Entry::Turn(turn) => std::iter::once(format!("model: {}", turn.text))
            .chain(turn.calls.iter().map(|call| format!("call: {} {}", call.name, call.arguments)))
            .collect(),
        Entry::Results { results } => {
            results.iter().map(|result| format!("result: {}", text(&result.content))).collect()
        }
        Entry::Event(event) => {
            vec![format!("event of {}: {}", event.original_tool_name, text(&event.content))]
        }
        _ => vec!["?".to_owned()],
    }
}

/// Two calls at once, one of which subscribes; malformed arguments; an event; a cut stream that is made again.
fn story() -> Vec<Act> {
    let calls = Spoken::text("Let me look.")
        .thought("two at once", "c2ln-one")
        .call("toolu_1", "get_weather", r#"{"city":"Tromsø"}"#)
        .call("toolu_2", "watch_sky", "{}");
    let malformed =
        Spoken::text("").thought("again", "c2ln-two").call("toolu_3", "get_weather", r#"{"city": "#);
    vec![
        Act::Cut(calls.clone(), 60),
        Act::Say(calls),
        Act::Say(malformed),
        Act::Say(Spoken::text("It is 12 degrees.").thought("done", "c2ln-three")),
        Act::Say(Spoken::text("A comet!")),
        Act::Say(Spoken::text("And another word.")),
    ]
}

async fn lived(wire: Wire, card: ModelCard, known: crate::strict::Known) -> Vec<String> {
    let provider = Provider::new(wire, known, story()).await;
    let world = World::new(provider.model(card)).await;
    let (session, mut watch) = world.told("What is up?").await;
    let seen = until(&mut watch, |what| matches!(what, Surface::Text { text, .. } if text == "It is 12 degrees." || text == "A comet!" || text.contains("another"))).await;
    assert_eq!(provider.seen(|seen| seen.refused.clone()), Vec::<String>::new(), "{wire:?}");
    let usage = Usage { input: USAGE.0, output: USAGE.1 };
    assert!(seen.contains(&Surface::Usage(usage)), "{wire:?}: {seen:#?}");
    // The event comes when it comes: before, between or after; what is made of it is the same.
    let at_rest = async {
        loop {
            let history = world.history(&session).await;
            let status = world.runtime.status(&session).await.unwrap();
            if history.iter().any(|line| line.starts_with("event")) && status.is_at_rest() {
                return history;
            }
            // A thread rests a moment after the last that is told of it.
            let _ = tokio::time::timeout(Duration::from_millis(20), watch.next()).await;
        }
    };
    let history = tokio::time::timeout(DEADLINE, at_rest).await.expect("the session comes to rest");
    assert_eq!(provider.seen(|seen| seen.refused.clone()), Vec::<String>::new(), "{wire:?}");
    let leaked = format!("{seen:?} {history:?}").contains("very-secret");
    assert!(!leaked, "a key is in what people see");
    history
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_conversation_through_every_wire() {
    for wire in Wire::ALL {
        for (card, known) in cards(wire) {
            let policy = card.reasoning;
            let mut history = lived(wire, card, known).await;
            // Where the event falls depends on the clock; everything else does not.
            history.retain(|line| {
                !line.starts_with("event")
                    && !line.starts_with("model: A comet")
                    && !line.starts_with("model: And another")
            });
            let malformed = history
                .iter()
                .position(|line| line.starts_with("result: ") && line.contains("not a JSON object"));
            assert!(malformed.is_some(), "{wire:?} {policy:?}: {history:#?}");
            assert_eq!(
                history[..6],
                [
                    "Person: What is up?",
                    "model: Let me look.",
                    "call: get_weather {\"city\":\"Tromsø\"}",
                    "call: watch_sky {}",
                    "result: 12 degrees in Tromsø",
                    "result: watching",
                ],
                "{wire:?} {policy:?}"
            );
        }
    }
}
