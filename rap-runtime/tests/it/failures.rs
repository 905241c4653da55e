//! Tool servers that are down, hang, refuse and stumble.

use crate::world::{World, impatient, tools, within};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use rap_runtime::{
    AgentHost,
    core::{Surface, ThreadState},
};
use rap_types::HttpUrl;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc};

type Answer = Arc<dyn Fn(usize) -> Option<u16> + Send + Sync>;

#[derive(Clone)]
struct Odd {
    answer: Answer,
    alive: fn() -> Response,
    seen: mpsc::UnboundedSender<Value>,
    count: Arc<std::sync::atomic::AtomicUsize>,
}

/// A server with one tool `odd`, whose answers to invocations a test decides; none: it never answers.
async fn odd(
    answer: impl Fn(usize) -> Option<u16> + Send + Sync + 'static,
) -> (HttpUrl, mpsc::UnboundedReceiver<Value>) {
    odd_with(answer, || StatusCode::NOT_FOUND.into_response()).await
}

async fn odd_with(
    answer: impl Fn(usize) -> Option<u16> + Send + Sync + 'static,
    alive: fn() -> Response,
) -> (HttpUrl, mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let toolset = json!({
        "name": "odd", "endpoint": format!("{base}/invoke"),
        "tools": [{"name": "odd", "description": "x", "inputSchema": {"type": "object"}}],
    });
    let (seen, invocations) = mpsc::unbounded_channel();
    let state = Odd { answer: Arc::new(answer), alive, seen, count: Arc::default() };
    let router = Router::new()
        .route("/.well-known/rap-toolset", get(move || async move { Json(toolset) }))
        .route(
            "/invoke",
            post(|State(odd): State<Odd>, Json(invocation): Json<Value>| async move {
                let number = odd.count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let _ = odd.seen.send(invocation);
                match (odd.answer)(number) {
                    Some(status) => StatusCode::from_u16(status).unwrap(),
                    None => std::future::pending().await,
                }
            }),
        )
        .route("/tool_call_status", post(|State(odd): State<Odd>| async move { (odd.alive)() }))
        .with_state(state);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (base.parse().unwrap(), invocations)
}

async fn answer(invocation: &Value, text: &str) -> u16 {
    let url: HttpUrl = invocation["callback_url"].as_str().unwrap().parse().unwrap();
    let body = json!({"type": "tool_result", "group_id": invocation["group_id"], "id": invocation["id"], "text": text});
    let client = rap_http::GuardedClient::new(rap_http::AddressPolicy::public().allow_loopback());
    let reply =
        client.post_json_reading(&url, body.to_string().into(), Default::default(), 4096).await.unwrap();
    reply.status.as_u16()
}

/// Trap: a tool server that never answers stalls every session. Other calls, other threads and the person go on.
#[tokio::test]
async fn a_server_that_never_answers() {
    let (good, _bench) = tools().await;
    let (hanging, mut seen) = odd(|_| None).await;
    let world = World::new(|b| b.toolset(good).toolset(hanging).rules(impatient())).await;
    let (first, mut story) = world.told("call odd").await;
    within("the invocation", seen.recv()).await.unwrap();
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
    let (_second, mut other) = world.told("call quick").await;
    other.text("quick: quick").await;
    world.runtime.send(&first, "second", "call quick").await.unwrap();
    story.text("quick: quick").await;
    // The server worked all the same, and its outcome is not lost.
}

/// P6: a driver that is dropped while a request is on its way keeps it for nobody: the next one of the same process sends
/// it again, with the same id and the same callback URL.
#[tokio::test]
async fn a_second_driver_sends_what_the_first_had_taken() {
    let (base, mut seen) = odd(|n| (n > 0).then_some(200)).await;
    let mut world = World::new(|b| b.toolset(base)).await;
    let (_session, mut story) = world.told("call odd").await;
    let first = within("the first try", seen.recv()).await.unwrap();
    world.kill_driver();
    world.drive();
    let second = within("the second try", seen.recv()).await.unwrap();
    assert_eq!(second, first);
    assert_eq!(answer(&second, "done").await, 200);
    story.text("odd: done").await;
}

/// TRN-04, INV-08: a 4xx is never tried again and becomes an error that the model can act on.
#[tokio::test]
async fn a_server_that_refuses() {
    for (status, says) in [
        (404, "does not know its own endpoint"),
        (401, "turned us away (it answered 401)"),
        (413, "too large"),
        (422, "refused the call (it answered 422)"),
    ] {
        let (base, mut seen) = odd(move |_| Some(status)).await;
        let world = World::new(|b| b.toolset(base)).await;
        let (session, mut story) = world.told("call odd").await;
        let told = story.text("odd: Error: ").await;
        assert!(told.contains(says), "{told}");
        story.resting(&session).await;
        seen.recv().await.unwrap();
        assert!(seen.try_recv().is_err(), "{status} was tried again");
        let history = world.history(&session).await.join("\n");
        assert!(!history.contains("http://"), "no address leaks to the model: {history}");
    }
}

/// TRN-04, CLS-01: a refusal whose end cannot be written at first is told as soon as it can be; meanwhile nothing is sent
/// again, neither an invocation nor a notice.
#[tokio::test]
async fn an_end_that_cannot_be_written_at_first() {
    let mut peer = crate::peer::Peer::start("odd", &["odd"]).await;
    peer.answers("/invoke", 422, json!(null));
    peer.answers("/close_thread", 500, json!(null));
    let store = crate::hooks::Hooked::default();
    let keys = rap_runtime::KeyRing::generate().unwrap();
    let world =
        World::on(Arc::new(store.clone()), keys, "127.0.0.1:0", |b| b.toolset(peer.base.clone())).await;
    let failing = &store.hooks.failing_settles;
    failing.store(2, std::sync::atomic::Ordering::SeqCst);
    let (session, mut story) = world.told("call odd").await;
    story.text("odd: Error: the tool server refused the call").await;
    story.resting(&session).await;
    assert_eq!(peer.next("the call").await.path, "/invoke");
    failing.store(2, std::sync::atomic::Ordering::SeqCst);
    world.runtime.close(&session).await.unwrap();
    assert_eq!(peer.next("the notice").await.path, "/close_thread");
    within("both are dead letters", async {
        while world.runtime.dead_letters().await.unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(peer.seen.try_recv().is_err(), "each was sent once");
    assert_eq!(store.hooks.settles.load(std::sync::atomic::Ordering::SeqCst), 6);
    world.stop().await;
}

/// TRN-03, INV-10, P5: a 5xx is tried again, with the same id and the same callback URL.
#[tokio::test]
async fn a_server_that_stumbles() {
    let (base, mut seen) = odd(|n| Some(if n < 2 { 500 } else { 200 })).await;
    let world = World::new(|b| b.toolset(base)).await;
    let (_session, mut story) = world.told("call odd").await;
    let mut tries = Vec::new();
    for _ in 0..3 {
        tries.push(within("a try", seen.recv()).await.unwrap());
    }
    assert!(tries.iter().all(|t| *t == tries[0]), "{tries:#?}");
    assert_eq!(answer(&tries[0], "done").await, 200);
    story.text("odd: done").await;
}

/// Any 2xx is an acknowledgement; an outcome may come before it.
#[tokio::test]
async fn any_2xx_is_taken() {
    let (base, mut seen) = odd(|_| Some(202)).await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told("call odd").await;
    let invocation = within("the invocation", seen.recv()).await.unwrap();
    assert_eq!(invocation["operation"], "odd");
    assert_eq!(invocation["group_id"], session.as_str());
    assert!(invocation.get("thread_ancestors").is_none(), "INV-04: absent for a root");
    assert_eq!(answer(&invocation, "done").await, 200);
    story.text("odd: done").await;
    story.resting(&session).await;
    // RES-09, RES-10: said again, it changes nothing.
    let before = world.history(&session).await;
    assert_eq!(answer(&invocation, "something else").await, 200);
    assert_eq!(world.runtime.status(&session).await.unwrap().threads[0].state, ThreadState::Resting);
    assert_eq!(world.history(&session).await, before);
    let open = world.runtime.store().calls(true).await.unwrap();
    assert!(open.is_empty());
}

/// CAN-01, CAN-03, RES-08: a cancelled call's outcome reaches no history, and the server was told.
#[tokio::test]
async fn cancelled_calls() {
    let (base, mut seen) = odd(|_| Some(200)).await;
    let world = World::new(|b| b.toolset(base)).await;
    let (session, mut story) = world.told("call odd").await;
    let invocation = within("the invocation", seen.recv()).await.unwrap();
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
    world.runtime.stop(&session).await.unwrap();
    story.until("the pause", |e| (e.what == Surface::Paused).then_some(())).await;
    assert_eq!(answer(&invocation, "too late").await, 200);
    let history = world.history(&session).await.join("\n");
    assert!(!history.contains("too late"), "{history}");
    assert_eq!(
        world
            .runtime
            .store()
            .dead_letters()
            .await
            .unwrap()
            .iter()
            .filter(|l| l.reason.contains("cancelled"))
            .count(),
        1
    );
}

/// A server that is down when it is called: what was committed goes out when it is back, in order of nothing but need.
#[tokio::test]
async fn a_server_that_comes_back() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let toolset = json!({
        "name": "late", "endpoint": format!("http://{address}/invoke"),
        "tools": [{"name": "late", "description": "x", "inputSchema": {"type": "object"}}],
    });
    let (base, _) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base: HttpUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router =
            Router::new().route("/.well-known/rap-toolset", get(move || async move { Json(toolset) }));
        (base, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
    };
    let world = World::new(|b| b.toolset(base)).await;
    let (_session, mut story) = world.told("call late and late").await;
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { open: 2 }).then_some(())).await;
    within("a try that failed", async {
        while world.runtime.store().calls(true).await.unwrap().iter().map(|call| call.attempts).sum::<u32>()
            == 0
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let (seen, mut invocations) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/invoke",
        post(move |Json(invocation): Json<Value>| async move {
            let _ = seen.send(invocation);
            StatusCode::OK
        }),
    );
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    for _ in 0..2 {
        let invocation = within("an invocation", invocations.recv()).await.unwrap();
        assert_eq!(answer(&invocation, "there").await, 200);
    }
    story.text("late: there\nlate: there").await;
}

/// STA-02, STA-03, STA-04: after a restart the server is asked; only `alive: false` ends the call.
#[tokio::test]
async fn asked_after_a_restart() {
    let answers: [(fn() -> Response, bool); 4] = [
        (|| Json(json!({"alive": false})).into_response(), true),
        (|| Json(json!({"alive": true})).into_response(), false),
        (|| StatusCode::NOT_FOUND.into_response(), false),
        (|| "alive: false".into_response(), false),
    ];
    for (alive, ends) in answers {
        let (base, mut seen) = odd_with(|_| Some(200), alive).await;
        let store: Arc<dyn rap_runtime::core::Store> = Arc::new(rap_runtime::MemoryStore::new());
        let keys = rap_runtime::KeyRing::generate().unwrap();
        let world = World::on(store.clone(), keys.clone(), "127.0.0.1:0", |b| b.toolset(base)).await;
        let address = world.base.parsed().authority().to_owned();
        let (session, mut story) = world.told("call odd").await;
        let invocation = within("the invocation", seen.recv()).await.unwrap();
        within("it is settled", async {
            while store.calls(true).await.unwrap().iter().any(|call| call.undelivered) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
        drop(story);
        world.stop().await;

        let world = World::on(store, keys, &address, |b| b).await;
        let mut story = world.story(&session).await;
        if ends {
            story.text("odd: Error: the server odd no longer knows this call").await;
        } else {
            // It is not ended: its outcome is taken, whenever it comes.
            assert_eq!(answer(&invocation, "done").await, 200);
            story.text("odd: done").await;
        }
        world.stop().await;
    }
}

/// P11, STA-02, STA-04: while the runtime runs, a call that has been open for long is asked about as well.
#[tokio::test]
async fn asked_while_it_runs() {
    let (base, mut seen) = odd_with(|_| Some(200), || Json(json!({"alive": false})).into_response()).await;
    let every = std::time::Duration::from_millis(20);
    let world = World::new(|b| b.toolset(base).ask_every(every)).await;
    let (_, mut story) = world.told("call odd").await;
    within("the invocation", seen.recv()).await.unwrap();
    story.text("odd: Error: the server odd no longer knows this call").await;
    drop(story);
    world.stop().await;
}
