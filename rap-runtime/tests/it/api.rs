//! The API and its remote client: the same host, spoken to over HTTP.

use crate::world::{Story, TOKEN, World, tools, within};
use futures_util::StreamExt;
use rap_http::{AddressPolicy, GuardedClient};
use rap_runtime::{
    AgentHost, Choices, KeyRing, MemoryStore, NewSession, RemoteHost, Secret, Sent,
    core::{Entry, Store, Surface},
};
use rap_types::ContentPart;
use serde_json::json;
use std::sync::Arc;

/// Everything that the trait offers, from afar.
#[tokio::test]
async fn the_whole_trip_from_afar() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base).choices(Choices::Ask)).await;
    let host: &dyn AgentHost = &RemoteHost::new(world.base.clone(), Secret::from(TOKEN));
    let opened = host.create(NewSession::new().model("scripted/demo")).await.unwrap();
    let session = opened.session;
    assert_eq!(opened.tools, 5);
    let mut story = Story { watch: host.watch(&session, 0).await.unwrap(), told: Vec::new() };
    assert_eq!(host.send(&session, "k", "call quick and ask").await.unwrap(), Sent::Accepted);
    assert_eq!(host.send(&session, "k", "call quick and ask").await.unwrap(), Sent::Duplicate);
    let call = story
        .until("the question", |e| match &e.what {
            Surface::Choice { call, .. } => Some(call.clone()),
            _ => None,
        })
        .await;
    let asked = host.open_questions(&session).await.unwrap();
    assert_eq!(json!(asked[0])["interaction"], "choice");
    assert!(host.answer(&call, 9).await.unwrap_err().is_refused());
    host.answer(&call, 0).await.unwrap();
    assert!(host.answer(&call, 0).await.unwrap_err().is_already());
    story.text("ask: picked red").await;
    story.resting(&session).await;
    assert_eq!(host.status(&session).await.unwrap(), world.runtime.status(&session).await.unwrap());
    // The same events, the same numbers, near and far.
    let mut near = world.story(&session).await;
    near.resting(&session).await;
    let committed = |story: &Story| -> Vec<_> {
        story.told.iter().filter(|w| matches!(w, rap_runtime::Watched::Committed(_))).cloned().collect()
    };
    assert_eq!(committed(&near), committed(&story));
    host.stop(&session).await.unwrap();
    story.until("the pause", |e| (e.what == Surface::Paused).then_some(())).await;
    host.send(&session, "go on", "hello").await.unwrap();
    story.resting(&session).await;
    host.close(&session).await.unwrap();
    story.until("the end", |e| (e.what == Surface::Closed).then_some(())).await;
    assert!(host.send(&session, "late", "x").await.unwrap_err().is_ended());
    // The end of the host is the end of the stream, and nothing hangs.
    world.stop().await;
    while let Some(rest) = within("the stream ends", story.watch.next()).await {
        drop(rest);
    }
    assert!(host.status(&session).await.unwrap_err().is_unreachable());
}

/// "User message (text, images)": parts come from afar as they are, and the history holds them; a message of nothing is
/// refused, one of text is what it always was on the wire.
#[tokio::test]
async fn an_image_from_afar() {
    let store = Arc::new(MemoryStore::new());
    let world = World::on(store.clone(), KeyRing::generate().unwrap(), "127.0.0.1:0", |b| b).await;
    let host: &dyn AgentHost = &RemoteHost::new(world.base.clone(), Secret::from(TOKEN));
    let session = host.create(NewSession::new().model("scripted/demo")).await.unwrap().session;
    // Over the 2 MiB of most requests.
    let image = ContentPart::image(vec![7; 3 << 20], "image/png");
    let content = vec![ContentPart::text("what is this?"), image];
    assert_eq!(host.send_content(&session, "k", content.clone()).await.unwrap(), Sent::Accepted);
    assert_eq!(host.send_content(&session, "k", content.clone()).await.unwrap(), Sent::Duplicate);
    assert!(host.send_content(&session, "none", vec![]).await.unwrap_err().is_refused());
    let mut story = Story { watch: host.watch(&session, 0).await.unwrap(), told: Vec::new() };
    story.resting(&session).await;
    let view = store.history(&session).await.unwrap().unwrap();
    let Entry::User(user) = &*view.entries[0] else { panic!("a message comes first") };
    assert!(user.content == content);
    world.stop().await;
}

/// What a stranger, a wrong id, a wrong body and a host without servers are told.
#[tokio::test]
async fn refusals() {
    let world = World::new(|b| b).await;
    let stranger = RemoteHost::new(world.base.clone(), Secret::from("guessed"));
    let error = stranger.create(NewSession::new()).await.unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("does not know this token"), "{error}");
    let host = RemoteHost::new(world.base.clone(), Secret::from(TOKEN));
    for id in ["nobody", "no/body", "../x", "ø"] {
        let id = id.parse().unwrap();
        assert!(host.status(&id).await.unwrap_err().is_unknown(), "{id}");
        assert!(host.watch(&id, 0).await.err().unwrap().is_unknown(), "{id}");
        assert!(host.send(&id, "k", "x").await.unwrap_err().is_unknown(), "{id}");
    }
    let none = NewSession::new().toolsets(["http://127.0.0.1:1".parse().unwrap()]);
    let error = host.create(none).await.unwrap_err();
    assert!(error.is_no_tools() && error.to_string().contains("cannot be reached"), "{error}");

    let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let url = world.base.below("v1/threads/x/messages").unwrap();
    for (body, status) in [
        ("{", 400),
        ("{}", 400),
        (r#"{"text":"x","key":""}"#, 400),
        (r#"{"text":"x","key":"k"}"#, 404),
        (r#"{"content":[{"type":"text","text":"x"}],"key":"k"}"#, 404),
        (r#"{"content":[{"type":"sound"}],"key":"k"}"#, 400),
    ] {
        let reply = client.post_json_reading(&url, body.into(), headers.clone(), 4096).await.unwrap();
        assert_eq!(reply.status.as_u16(), status, "{body}");
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
}
