//! What a tool holds works from any thread: those of rayon, of a file watcher or of C know nothing of tokio.

use crate::subscriptions::{Emitters, watch};
use rap_server::{Call, Tool, ToolError, ToolServer, testing::TestServer};
use serde_json::json;
use std::thread;
use tokio::sync::oneshot;

/// Runs it on a thread of its own, and waits for it without tokio.
fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(work).join().expect("no panic")
}

/// INV-07, VIW-03: a view from a thread outside tokio arrives, and so does the result.
#[tokio::test]
async fn view() {
    let show = Tool::new("show", "d", async |call: Call| -> Result<String, ToolError> {
        // The way out is free: the view itself has to set it in motion.
        let (done, end) = oneshot::channel();
        thread::spawn(move || {
            let shown = call.view("progress", json!({"half": true}));
            let _ = done.send(shown.is_ok());
        });
        Ok(format!("shown: {}", end.await.unwrap_or(false)))
    });
    let server = TestServer::new(ToolServer::new("test").tool(show));
    let mut call = server.start("show", json!({})).await;
    assert_eq!(call.view().await.content["half"], true);
    assert_eq!(call.result().await.text(), "shown: true");
}

/// INV-07, SUB-01, SUB-06: events from a thread outside tokio arrive; dropping the emitter there ends the
/// subscription with a last event, even while that thread panics.
#[tokio::test]
async fn events() {
    let emitters = std::sync::Arc::new(Emitters::default());
    let server = TestServer::new(ToolServer::new("test").tool(watch()).shared_state(emitters.clone()));
    for panics in [false, true] {
        let mut call = server.start("watch", json!({})).await;
        assert!(call.result().await.0.subscription);
        let events = emitters.lock().unwrap().pop().unwrap();
        let clone = events.clone();
        assert_eq!(elsewhere(move || clone.try_emit("one")), Ok(()));
        assert_eq!(call.event().await.text, "one");
        let ended = thread::spawn(move || {
            let _held = events;
            assert!(!panics, "as authors' threads do");
        });
        assert_eq!(ended.join().is_err(), panics);
        let last = call.event().await;
        assert!(last.is_final, "{last:?}");
        assert!(!call.is_alive().await);
    }
    assert_eq!(server.handle().open_calls(), 0);
}
