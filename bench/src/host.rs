//! A whole runtime for measurements: the local driver on SQLite, its gateway on loopback, a model that takes no time.

use crate::agent::said;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use rap_core::{Entry, ModelCall, ModelRequest, StopReason, Surface};
use rap_runtime::{AgentHost, Delta, ModelCard, ModelError, ModelProvider, Runtime, Watched};
use rap_store_sqlite::SqliteStore;
use rap_types::{HttpUrl, ThreadId};
use serde_json::json;
use std::{future::IntoFuture, sync::Arc, time::Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// What a model does that takes no time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Habit {
    /// Answers.
    Answers,
    /// Calls this tool once for each message, then tells the result.
    Calls(&'static str),
    /// Never answers, so that nothing is committed.
    IsSilent,
}

/// A model that takes no time.
pub(crate) struct Instantly {
    habit: Habit,
    /// Is told of every request, and whether it asks for what follows a result.
    asked: UnboundedSender<(Instant, bool)>,
}

impl ModelProvider for Instantly {
    fn card(&self) -> ModelCard {
        ModelCard::new("bench/instantly", "answers at once").limits(100_000_000, 8_192)
    }

    fn complete(&self, request: &ModelRequest) -> BoxStream<'static, Result<Delta, ModelError>> {
        let after_result = matches!(request.history.last().map(AsRef::as_ref), Some(Entry::Results { .. }));
        let _ = self.asked.send((Instant::now(), after_result));
        let deltas = match self.habit {
            Habit::IsSilent => return stream::pending().boxed(),
            Habit::Calls(tool) if !after_result => {
                let arguments = json!({"city": "Oslo"});
                let call = ModelCall { name: tool.to_owned(), arguments, provider_id: None };
                vec![Ok(Delta::Call(call)), Ok(Delta::Stop(StopReason::Calls))]
            }
            _ => vec![Ok(Delta::Text("so be it".to_owned())), Ok(Delta::Stop(StopReason::End))],
        };
        stream::iter(deltas).boxed()
    }
}

/// A running runtime; it stops when this is dropped together with its tokio runtime.
pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    /// When the model was asked, and whether for what follows a result.
    pub(crate) asked: tokio::sync::mpsc::UnboundedReceiver<(Instant, bool)>,
    driving: tokio::task::JoinHandle<()>,
}

impl Host {
    /// Opens the store, listens, drives.
    pub(crate) async fn start(path: &str, habit: Habit, toolset: Option<HttpUrl>) -> Result<Self, String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(said)?;
        let here = format!("http://{}", listener.local_addr().map_err(said)?);
        let (sender, asked) = unbounded_channel();
        let store = SqliteStore::open(path).await.map_err(said)?;
        let mut builder = Runtime::builder()
            .shared_store(Arc::new(store))
            .model(Instantly { habit, asked: sender })
            .public_url(HttpUrl::new(here).map_err(said)?);
        if let Some(toolset) = toolset {
            builder = builder.toolset(toolset);
        }
        let runtime = builder.build().await.map_err(said)?;
        tokio::spawn(axum::serve(listener, runtime.gateway()).into_future());
        let driving = tokio::spawn({
            let runtime = runtime.clone();
            async move { drop(runtime.run_until(std::future::pending()).await) }
        });
        Ok(Self { runtime, asked, driving })
    }

    /// Sends messages to a session, each when the one before is answered.
    pub(crate) async fn talk(runtime: &Runtime, session: &ThreadId, messages: usize) -> Result<(), String> {
        let mut watch = runtime.watch(session, 0).await.map_err(said)?;
        for number in 0..messages {
            runtime.send(session, &format!("message-{number}"), "go on").await.map_err(said)?;
            loop {
                match watch.next().await {
                    Some(Ok(Watched::Committed(numbered)))
                        if matches!(numbered.event.what, Surface::Resting) =>
                    {
                        break;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(said(error)),
                    None => return Err("the watch ended".to_owned()),
                }
            }
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.driving.abort();
    }
}
