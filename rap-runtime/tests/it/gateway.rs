//! The gateway in front of the store: what a server is told, and when.

use crate::{
    hooks::Hooked,
    world::{World, within},
};
use rap_http::{AddressPolicy, GuardedClient, Reply};
use rap_runtime::{AgentHost, KeyRing, NewSession, RuntimeBuilder};
use rap_types::{CallId, HttpUrl, ThreadId};
use serde_json::{Value, json};
use std::sync::{Arc, atomic::Ordering};
use tokio::sync::Semaphore;

async fn post(url: &HttpUrl, body: Value) -> Reply {
    let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
    client.post_json_reading(url, body.to_string().into(), Default::default(), 4096).await.unwrap()
}

struct Callbacks {
    world: World,
    store: Hooked,
    thread: ThreadId,
    call: CallId,
    url: HttpUrl,
}

/// A session whose model has made one call, by hand, and its callback URL.
async fn callbacks() -> Callbacks {
    callbacks_with(|b| b).await
}

async fn callbacks_with(configure: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder) -> Callbacks {
    let store = Hooked::default();
    let keys = KeyRing::generate().unwrap();
    let world = World::idle(Arc::new(store.clone()), keys.clone(), "127.0.0.1:0", configure).await;
    let thread = world.runtime.create(NewSession::new()).await.unwrap().session;
    let call = crate::world::a_call(&*world.runtime.store().clone(), &thread).await;
    let url = keys.callback_url(&world.base, &thread, &call).unwrap();
    Callbacks { world, store, thread, call, url }
}

/// TRN-09, P1: 200 is answered after the accept, never before; an accept that fails is a 503, and changes nothing.
#[tokio::test]
async fn answered_when_it_is_durable() {
    let Callbacks { store, thread, call, url, world } = callbacks().await;
    let gate = Arc::new(Semaphore::new(0));
    *store.hooks.accept_gate.lock().unwrap() = Some(gate.clone());
    let accepts = store.hooks.accepts.load(Ordering::SeqCst);
    let body = json!({"type": "tool_result", "group_id": thread, "id": call, "text": "done"});
    let (target, sent) = (url.clone(), body.clone());
    let answer = tokio::spawn(async move { post(&target, sent).await });
    within("the accept begins", async {
        while store.hooks.accepts.load(Ordering::SeqCst) == accepts {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!answer.is_finished(), "answered before it was durable");
    gate.add_permits(1);
    assert_eq!(within("the answer", answer).await.unwrap().status, 200);
    *store.hooks.accept_gate.lock().unwrap() = None;
    store.hooks.failing_accepts.store(1, Ordering::SeqCst);
    let reply = post(&url, body).await;
    assert_eq!(reply.status, 503);
    assert!(reply.headers.contains_key("retry-after"));
    world.stop().await;
}

/// The answers of the gateway, one by one, with the store's word behind them.
#[tokio::test]
async fn answers() {
    let Callbacks { thread, call, url, world, .. } = callbacks().await;
    let result = json!({"type": "tool_result", "group_id": thread, "id": call, "text": "done"});
    let event = json!({"type": "subscription_event", "group_id": thread, "tool_call_id": call, "text": "x"});
    let view =
        json!({"type": "view_update", "group_id": thread, "view_type": "progress", "content": {"n": 1}});
    let foreign = json!({"type": "tool_result", "group_id": "another", "id": call, "text": "done"});
    let forged: HttpUrl = format!("{url}x").parse().unwrap();
    for (what, url, body, status) in [
        ("not of the form", &url, json!({"type": "tool_result", "group_id": thread, "id": call}), 400),
        ("another thread's", &url, foreign, 403),
        ("a forged URL", &forged, result.clone(), 401),
        ("a view", &url, view, 200),
        ("an event before its confirmation is parked", &url, event.clone(), 200),
        ("a result", &url, result.clone(), 200),
        ("the result again", &url, result, 200),
    ] {
        assert_eq!(post(url, body).await.status.as_u16(), status, "{what}");
    }
    let shown = world.runtime.open_questions(&thread).await.unwrap();
    assert_eq!(shown.len(), 1, "the view's latest content");
    world.runtime.close(&thread).await.unwrap();
    let mut world = world;
    world.drive();
    let mut story = world.story(&thread).await;
    story.until("the end", |e| (e.what == rap_runtime::core::Surface::Closed).then_some(())).await;
    assert_eq!(post(&url, event).await.status, 410, "SUB-12");
}

/// LIM-01: the largest callback that is taken is the program's to say; what everybody takes is always taken.
#[tokio::test]
async fn the_largest_callback() {
    for (limit, megabytes, status) in
        [(None, 3, 200), (None, 17, 413), (Some(4 << 20), 3, 200), (Some(4 << 20), 5, 413), (Some(1), 1, 200)]
    {
        let Callbacks { thread, call, url, world: _world, .. } =
            callbacks_with(|b| limit.into_iter().fold(b, RuntimeBuilder::callback_limit)).await;
        let text = "x".repeat(megabytes << 20);
        let body = json!({"type": "tool_result", "group_id": thread, "id": call, "text": text});
        let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
        let reply = client.post_json_reading(&url, body.to_string().into(), Default::default(), 4096).await;
        // What is too large is not read to its end, so that its sender may not come to read the answer.
        let told = reply.map_or(413, |reply| reply.status.as_u16());
        assert_eq!(told, status, "{limit:?} {megabytes} MiB");
    }
}

/// A page in a browser must not drive the gateway or the API, and a foreign host name is none of ours.
#[tokio::test]
async fn loopback_is_guarded() {
    let Callbacks { url, world: _world, .. } = callbacks().await;
    let client = GuardedClient::new(AddressPolicy::public().allow_loopback());
    let headers =
        http::HeaderMap::from_iter([(http::header::ORIGIN, "http://evil.example".parse().unwrap())]);
    let reply = client.post_json_reading(&url, "{}".into(), headers, 4096).await.unwrap();
    assert_eq!(reply.status, 403);
}
