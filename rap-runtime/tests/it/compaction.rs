//! Compaction over the driver: on request, at 75 % of the window, by the model that was chosen, reading no more than the
//! model is sent (P8).

use crate::world::{TOKEN, World, lines_of};
use futures_util::{StreamExt, stream, stream::BoxStream};
use rap_runtime::{
    AgentHost, Delta, ModelCard, ModelError, ModelProvider, RemoteHost, ScriptedModel, Secret,
    core::{ModelRequest, Surface, Usage},
};
use std::sync::{Arc, Mutex};

/// The scripted model with a small window; it writes summaries, counts tokens as it is told, and keeps what it was asked.
#[derive(Clone)]
struct Small {
    id: &'static str,
    inner: Arc<ScriptedModel>,
    usage: Arc<Mutex<u64>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Small {
    fn new(id: &'static str) -> Self {
        let inner = Arc::new(ScriptedModel::from_toml("[[rule]]\ntext = 'said: ${text}'").unwrap());
        Self { id, inner, usage: Arc::default(), asked: Arc::default() }
    }

    fn last(&self) -> String {
        self.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

impl ModelProvider for Small {
    fn card(&self) -> ModelCard {
        ModelCard::new(self.id, "Small").limits(1000, 100)
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let lines: Vec<String> = request.history.iter().flat_map(|entry| lines_of(entry)).collect();
        let summarise = lines.last().is_some_and(|line| line.contains("Summarise the conversation above"));
        self.asked.lock().unwrap().push(lines.join("\n"));
        if summarise {
            assert!(request.tools.is_empty(), "a summary is made without tools");
            let text = format!("summary of {} by {}", lines.len() - 1, self.id);
            return stream::iter([Ok(Delta::Text(text))]).boxed();
        }
        let input = *self.usage.lock().unwrap();
        let usage = Usage { input, output: 0 };
        self.inner
            .complete(request)
            .map(move |delta| match delta {
                Ok(Delta::Usage(_)) => Ok(Delta::Usage(usage)),
                other => other,
            })
            .boxed()
    }
}

fn compacted(event: &rap_runtime::core::SurfaceEvent) -> Option<String> {
    match &event.what {
        Surface::Compacted { text } => Some(text.clone()),
        _ => None,
    }
}

/// On request, over HTTP: the model sees the summary in the place of what is older; a second one reads from the first on,
/// and people still see all.
#[tokio::test]
async fn on_request() {
    let model = Small::new("test/small");
    let world = World::new(|b| b.model(model.clone())).await;
    let host = RemoteHost::new(world.base.clone(), Secret::from(TOKEN));
    let (session, mut story) = world.told("one").await;
    for text in ["two", "three"] {
        story.resting(&session).await;
        host.send(&session, text, text).await.unwrap();
    }
    story.text("said: three").await;
    story.resting(&session).await;
    host.compact(&session).await.unwrap();
    assert_eq!(story.until("the summary", compacted).await, "summary of 4 by test/small");
    host.send(&session, "four", "four").await.unwrap();
    story.text("said: four").await;
    story.resting(&session).await;
    let seen = model.last();
    assert!(seen.contains("summary of 4 by") && seen.contains("three") && !seen.contains("one"), "{seen}");

    let recent = world.runtime.store().recent_history(&session).await.unwrap().unwrap();
    let whole = world.runtime.store().history(&session).await.unwrap().unwrap();
    assert_eq!((recent.left_out, whole.left_out), (4, 0));
    assert_eq!(
        recent.entries[..],
        whole.entries[4..],
        "a compaction reads what the model is sent, and no more"
    );
    host.compact(&session).await.unwrap();
    story.until("the second summary", compacted).await;
    let asked = model.last();
    assert!(asked.contains("summary of 4 by") && asked.contains("said: three"), "{asked}");
    assert!(!asked.contains("Person: one") && !asked.contains("Person: two"), "{asked}");
    host.send(&session, "five", "five").await.unwrap();
    story.text("said: five").await;
    let seen = model.last();
    assert!(!seen.contains("Person: three") && seen.contains("Person: four"), "{seen}");
    assert!(world.history(&session).await.iter().any(|line| line == "Person: one"), "nothing is deleted");
    world.stop().await;
}

/// At 75 % of the window by itself, and not below; the model that was chosen for the session writes the summary.
#[tokio::test]
async fn as_the_window_fills() {
    let (first, second) = (Small::new("test/first"), Small::new("test/second"));
    let world = World::new(|b| b.model(first.clone()).model(second.clone())).await;
    let (session, mut story) = world.told("one").await;
    story.resting(&session).await;
    world.runtime.choose_model(&session, Some("test/second")).await.unwrap();
    for (text, usage) in [("two", 740), ("three", 760)] {
        *second.usage.lock().unwrap() = usage;
        assert_eq!(story.count(|what| matches!(what, Surface::Compacted { .. })), 0, "not below 75 %");
        world.runtime.send(&session, text, text).await.unwrap();
        story.text(&format!("said: {text}")).await;
        story.resting(&session).await;
    }
    let text = story.until("the summary", compacted).await;
    assert!(text.ends_with("by test/second"), "{text}");
    assert!(!first.last().contains("Summarise"), "{}", first.last());
    world.stop().await;
}
