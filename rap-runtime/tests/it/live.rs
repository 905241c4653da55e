//! Toolsets live: servers that come later, move, go and come back.

use crate::{
    hooks::Hooked,
    peer::{Peer, answer, base_of, nobody, toolset},
    world::{Story, World, impatient, tools, within},
};
use rap_runtime::{
    AgentHost, KeyRing, MemoryStore, NewSession, ServerConfig, ToolsetProblemKind, Watched,
    core::{
        Accepted, InputBody, InputId, Millis, NewInput, ServerNews, Store, Surface, replay::ThreadReplay,
    },
};
use rap_types::ThreadId;
use serde_json::json;
use std::sync::{Arc, atomic::Ordering::SeqCst};
use tokio::sync::Semaphore;

async fn offered(world: &World, session: &ThreadId) -> Vec<String> {
    let session = world.runtime.store().session(session).await.unwrap().unwrap();
    session.toolbox.tools.iter().map(|tool| tool.name.clone()).collect()
}

/// Waits until the session offers a tool.
async fn joined(world: &World, session: &ThreadId, tool: &str) {
    within("the tools join", async {
        while !offered(world, session).await.iter().any(|name| name == tool) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The next news of servers.
async fn news(story: &mut Story, count: usize) -> Vec<(ServerNews, String)> {
    let mut told = Vec::new();
    // Some may have been told already.
    for watched in &story.told {
        if let Watched::Committed(event) = watched
            && let Surface::Server { news, text, .. } = &event.event.what
        {
            told.push((*news, text.clone()));
        }
    }
    while told.len() < count {
        let one = story.until("news of a server", |e| match &e.what {
            Surface::Server { news, text, .. } => Some((*news, text.clone())),
            _ => None,
        });
        told.push(one.await);
    }
    told
}

async fn waits(story: &mut Story) {
    story.until("the wait", |e| matches!(e.what, Surface::Waiting { .. }).then_some(())).await;
}

/// Every slice of a thread comes out the same, with the toolboxes that the store kept (P12).
async fn replays(store: &dyn Store, thread: &ThreadId) -> usize {
    let history = store.history(thread).await.unwrap().unwrap();
    let session = store.session(&history.thread.row.session).await.unwrap().unwrap();
    let mut replay = ThreadReplay::new(session, history);
    let slices = store.slices(thread, 0, 1000).await.unwrap();
    for view in &slices {
        if let Some(name) = replay.wants_toolbox(view) {
            let kept = store.get(&name).await.unwrap().expect("an earlier toolbox is kept");
            replay.add_toolbox(serde_json::from_str(&kept).unwrap());
        }
        let replayed = replay.slice(view);
        assert!(replayed.verdict.is_same(), "slice {}: {}", view.version, replayed.verdict);
    }
    slices.len()
}

/// Traps: one unreachable toolset takes all tools away from a session; a server that was down when the session began gets
/// no close notice. It is asked again, joins, and takes nothing from the others (TLS-04, TLS-13, CLS-01).
#[tokio::test]
async fn a_server_that_was_down_joins() {
    let (good, _bench) = tools().await;
    let address = nobody().await;
    let world = World::new(|b| b.toolset(good).toolset(base_of(address)).rules(impatient())).await;
    let opened = world.session().await;
    assert_eq!(opened.problems.len(), 1);
    assert_eq!(opened.problems[0].kind, ToolsetProblemKind::Unreachable);
    let session = opened.session;
    let before = offered(&world, &session).await;
    let mut story = world.story(&session).await;
    world.runtime.send(&session, "1", "call quick").await.unwrap();
    story.text("quick: quick").await;

    let mut late = Peer::at(address, "late", &["late", "quick", "late.er", "sleep"]).await;
    joined(&world, &session, "late").await;
    // People are told: what was missing, who has joined, and what of it is not offered.
    let told = news(&mut story, 4).await;
    let kinds: Vec<_> = told.iter().map(|(kind, _)| *kind).collect();
    use ServerNews::{Joined, Problem};
    assert_eq!(kinds, [Problem, Joined, Problem, Problem], "{told:#?}");
    assert!(told[0].1.contains("cannot be reached"), "{told:#?}");
    assert!(told[1].1.starts_with("the tool server late at http://"), "{told:#?}");
    assert!(told[1].1.ends_with("has joined, with late, late_er"), "{told:#?}");
    assert!(told[2].1.contains("the tool quick of http://"), "{told:#?}");
    assert!(told[3].1.contains("sleep") && told[3].1.contains("built-in"), "{told:#?}");
    let now = offered(&world, &session).await;
    assert_eq!(now[..before.len()], before, "what was there stays, in its place");
    assert_eq!(now[before.len()..], ["late", "late_er"], "`quick` is the other's");
    let twice = world.runtime.refresh(&session).await.unwrap();
    assert_eq!((offered(&world, &session).await, twice.problems.len()), (now, 0), "it joins once");
    assert!(story.count(|what| matches!(what, Surface::Server { .. })) <= 4, "and is told once");

    world.runtime.send(&session, "2", "call late and late_er").await.unwrap();
    for _ in 0..2 {
        let invocation = late.next_at("/invoke").await.body;
        assert_eq!(answer(&invocation, "better than never").await, 200);
    }
    story.text("better than never").await;
    world.runtime.close(&session).await.unwrap();
    assert_eq!(late.next_at("/close_thread").await.body["thread_id"], session.as_str());
    assert!(replays(&**world.runtime.store(), &session).await > 3);
    world.stop().await;
}

/// CLS-01: a server that never was there is told all the same that a thread was closed, once.
#[tokio::test]
async fn a_server_that_cannot_be_used_is_told() {
    let (good, _bench) = tools().await;
    let mut odd = Peer::start("odd", &["odd"]).await;
    odd.offers(json!({"name": "odd", "endpoint": odd.base, "tools": []}));
    let world = World::new(|b| b.toolset(good).toolset(odd.base.clone())).await;
    let opened = world.session().await;
    assert_eq!(opened.problems[0].kind, ToolsetProblemKind::Invalid);
    world.runtime.close(&opened.session).await.unwrap();
    assert_eq!(odd.next("the notice").await.path, "/close_thread");
    // Mended, it joins other sessions on request, whatever the backoff says.
    let opened = world.session().await;
    odd.offers(toolset("odd", &format!("http://{}/invoke", odd.address), &["odd"]));
    let refreshed = world.runtime.refresh(&opened.session).await.unwrap();
    assert_eq!((refreshed.tools, refreshed.problems.len()), (opened.tools + 1, 0));
    world.stop().await;
}

/// INV-11, TRN-04: a server that does not know its endpoint any more is asked where it is; the call is not sent again, the
/// model is told to make it again, and that one arrives.
#[tokio::test]
async fn an_endpoint_that_moves() {
    for gone in [404, 410] {
        let mut peer = Peer::start("mover", &["move"]).await;
        let world = World::new(|b| b.toolset(peer.base.clone())).await;
        let session = world.session().await.session;
        let mut story = world.story(&session).await;
        peer.answers("/invoke", gone, json!(null));
        peer.offers(toolset("mover", &format!("http://{}/elsewhere", peer.address), &["move", "new"]));
        world.runtime.send(&session, "1", "call move").await.unwrap();
        let first = peer.next("the first call").await;
        assert_eq!(first.path, "/invoke");
        story.text("move: Error: the tool server has moved its endpoint").await;
        story.resting(&session).await;
        world.runtime.send(&session, "2", "call move").await.unwrap();
        let second = peer.next("the second call").await;
        assert_eq!(second.path, "/elsewhere");
        assert_ne!(first.body["id"], second.body["id"], "never again after a 4xx");
        let told = news(&mut story, 1).await;
        assert_eq!(told[0].0, ServerNews::Moved);
        assert!(
            told[0].1.starts_with("the tool server mover listens elsewhere now, at http://"),
            "{told:#?}"
        );
        assert_eq!(answer(&second.body, "there").await, 200);
        story.text("move: there").await;
        assert_eq!(offered(&world, &session).await, ["move"], "frozen: only where it listens is live");
        story.resting(&session).await;
        replays(&**world.runtime.store(), &session).await;
        world.stop().await;
    }
}

/// INV-10, INV-11: an invocation that was refused goes, with the same id, to where its server is by then.
#[tokio::test]
async fn a_refused_invocation_follows_its_server() {
    let mut peer = Peer::start("mover", &["move"]).await;
    let dead = nobody().await;
    peer.offers(toolset("mover", &format!("http://{dead}/invoke"), &["move"]));
    let world = World::new(|b| b.toolset(peer.base.clone())).await;
    let session = world.session().await.session;
    let mut story = world.story(&session).await;
    peer.offers(toolset("mover", &format!("http://{}/invoke", peer.address), &["move"]));
    world.runtime.send(&session, "1", "call move").await.unwrap();
    let came = peer.next("the call").await;
    assert_eq!(answer(&came.body, "there").await, 200);
    story.text("move: there").await;
    world.stop().await;
}

/// Trap: a tool server that comes back on another port gets no notices. Known by its name, it gets what was open for it,
/// and hears that the thread is closed.
#[tokio::test]
async fn a_named_server_comes_back_elsewhere() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let keys = KeyRing::generate().unwrap();
    let first = Peer::start("weather", &["rain"]).await;
    let config = ServerConfig::new(first.base.clone()).named("weather");
    let world = World::on(store.clone(), keys.clone(), "127.0.0.1:0", |b| b.server(config)).await;
    let address = world.base.parsed().authority().to_owned();
    let session = world.session().await.session;
    world.stop().await;
    first.stop().await;

    let mut second = Peer::start("weather", &["rain"]).await;
    let config = ServerConfig::new(second.base.clone()).named("weather");
    let world = World::on(store.clone(), keys.clone(), &address, |b| b.server(config)).await;
    let mut story = world.story(&session).await;
    world.runtime.send(&session, "1", "call rain").await.unwrap();
    let came = second.next_at("/invoke").await;
    assert_eq!(answer(&came.body, "wet").await, 200);
    story.text("rain: wet").await;
    story.resting(&session).await;
    world.stop().await;
    second.stop().await;

    // Closed before anybody asked the new one: the notice finds it all the same.
    let mut third = Peer::start("weather", &["rain"]).await;
    let config = ServerConfig::new(third.base.clone()).named("weather");
    let world = World::on(store.clone(), keys, &address, |b| b.server(config)).await;
    world.runtime.close(&session).await.unwrap();
    assert_eq!(third.next_at("/close_thread").await.body["thread_id"], session.as_str());
    world.stop().await;
    assert!(replays(&*store, &session).await >= 3);
}

/// P11, STA-02, STA-04: a server that was away is asked about the calls that it had taken, as soon as it is back.
#[tokio::test]
async fn asked_after_the_servers_restart() {
    let mut peer = Peer::start("fickle", &["work"]).await;
    let world = World::new(|b| b.toolset(peer.base.clone()).rules(impatient())).await;
    let session = world.session().await.session;
    let mut story = world.story(&session).await;
    world.runtime.send(&session, "1", "call work").await.unwrap();
    let taken = peer.next("the first call").await.body;
    waits(&mut story).await;
    let address = peer.stop().await;
    // Something has to be sent there for anybody to notice.
    world.runtime.send(&session, "2", "call work").await.unwrap();
    within("a try is refused", async {
        while !world.runtime.store().calls(true).await.unwrap().iter().any(|call| call.attempts > 0) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let mut back = Peer::at(address, "fickle", &["work"]).await;
    back.answers("/tool_call_status", 200, json!({"alive": false}));
    let asked = back.next_at("/tool_call_status").await.body;
    assert_eq!(asked["tool_call_id"], taken["id"]);
    story.text("no longer knows this call").await;
    world.stop().await;
}

/// A session that is not there cannot be refreshed.
#[tokio::test]
async fn refresh_of_nothing() {
    let world = World::new(|b| b).await;
    assert!(world.runtime.refresh(&"nobody".parse().unwrap()).await.unwrap_err().is_unknown());
    let none = world.runtime.create(NewSession::new().toolsets([])).await.unwrap();
    let refreshed = world.runtime.refresh(&none.session).await.unwrap();
    assert_eq!((refreshed.tools, refreshed.problems.len()), (0, 0));
}

/// A name of a built-in tool is not offered, and that is told to whoever watches, whenever they come (SUB-04).
#[tokio::test]
async fn what_is_not_offered_is_told() {
    let peer = Peer::start("greedy", &["sleep", "fine"]).await;
    let world = World::new(|b| b.toolset(peer.base.clone())).await;
    let opened = world.session().await;
    assert_eq!(opened.problems[0].kind, ToolsetProblemKind::BuiltInName);
    let mut story = world.story(&opened.session).await;
    let told = news(&mut story, 1).await;
    assert_eq!(told, [(ServerNews::Problem, opened.problems[0].message.clone())]);
    assert_eq!(offered(&world, &opened.session).await, ["fine"]);
    world.stop().await;
}

fn refresh(session: &ThreadId) -> NewInput {
    NewInput {
        thread: session.clone(),
        id: InputId::control("by hand"),
        source: "person".to_owned(),
        body: InputBody::Refresh,
        traceparent: None,
    }
}

/// P1, P6: a refresh is a control like any other: taken in by a process that dies at once, it is done by the next one, once.
#[tokio::test]
async fn a_refresh_outlives_its_process() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let keys = KeyRing::generate().unwrap();
    let peer = Peer::start("mover", &["move"]).await;
    let world =
        World::idle(store.clone(), keys.clone(), "127.0.0.1:0", |b| b.toolset(peer.base.clone())).await;
    let session = world.session().await.session;
    assert_eq!(store.accept(refresh(&session), Millis(1)).await.unwrap(), Accepted::Accepted);
    drop(world);
    peer.offers(toolset("mover", &format!("http://{}/elsewhere", peer.address), &["move"]));
    let world = World::on(store.clone(), keys, "127.0.0.1:0", |b| b).await;
    let mut story = world.story(&session).await;
    let told = news(&mut story, 1).await;
    assert_eq!(told[0].0, ServerNews::Moved, "{told:#?}");
    let now = store.session(&session).await.unwrap().unwrap();
    assert!(now.toolbox.servers[0].endpoint.as_str().ends_with("/elsewhere"));
    within("nothing more is owed", async {
        while store.next_due().await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(peer.state.lock().unwrap().discovered, 2, "at the beginning, and once more");
    assert_eq!(store.accept(refresh(&session), Millis(2)).await.unwrap(), Accepted::Duplicate);
    replays(&*store, &session).await;
    world.stop().await;
}

/// What a person waits for is not done a second time from the inbox; a server that cannot be used is told.
#[tokio::test]
async fn a_refresh_is_done_once() {
    let peer = Peer::start("mover", &["move"]).await;
    let world = World::new(|b| b.toolset(peer.base.clone())).await;
    let session = world.session().await.session;
    let rested = async || {
        let store = world.runtime.store();
        within("nothing more is owed", async {
            while store.next_due().await.unwrap().is_some() || !store.dead_letters().await.unwrap().is_empty()
            {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    assert!(world.runtime.refresh(&session).await.unwrap().problems.is_empty());
    rested().await;
    assert_eq!(peer.state.lock().unwrap().discovered, 2, "when the session began, and then");
    // Two people at once: each hears what came of it.
    let (one, two) = tokio::join!(world.runtime.refresh(&session), world.runtime.refresh(&session));
    assert_eq!((one.unwrap().tools, two.unwrap().tools), (1, 1));
    rested().await;
    assert_eq!(peer.state.lock().unwrap().discovered, 4);
    let mut story = world.story(&session).await;
    let address = peer.stop().await;
    let refreshed = world.runtime.refresh(&session).await.unwrap();
    assert_eq!(refreshed.problems[0].kind, ToolsetProblemKind::Unreachable, "{address}");
    let told = news(&mut story, 1).await;
    assert_eq!(told, [(ServerNews::Problem, refreshed.problems[0].message.clone())]);
    rested().await;
    let told = story.count(|what| matches!(what, Surface::Server { .. } | Surface::Resting));
    assert_eq!(told, 1, "and nothing else: no turn was made, nothing rests anew");
    world.runtime.close(&session).await.unwrap();
    story.until("the end", |e| (e.what == Surface::Closed).then_some(())).await;
    assert!(world.runtime.refresh(&session).await.unwrap_err().is_ended());
    world.stop().await;
}

/// INV-11: a server that moves while a slice runs gets the slice's calls where it is by then.
#[tokio::test]
async fn a_move_beside_a_slice() {
    let mut peer = Peer::start("mover", &["move"]).await;
    let hooked = Hooked::default();
    let (store, keys) = (Arc::new(hooked.clone()), KeyRing::generate().unwrap());
    let world = World::on(store, keys, "127.0.0.1:0", |b| b.toolset(peer.base.clone())).await;
    let session = world.session().await.session;
    let mut story = world.story(&session).await;
    let gate = Arc::new(Semaphore::new(0));
    *hooked.hooks.commit_gate.lock().unwrap() = Some(gate.clone());
    world.runtime.send(&session, "1", "call move").await.unwrap();
    within("the slice is decided", async {
        while hooked.hooks.commits.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    peer.answers("/invoke", 404, json!(null));
    peer.offers(toolset("mover", &format!("http://{}/elsewhere", peer.address), &["move"]));
    assert!(world.runtime.refresh(&session).await.unwrap().problems.is_empty());
    *hooked.hooks.commit_gate.lock().unwrap() = None;
    gate.add_permits(1);
    let came = peer.next("the call").await;
    assert_eq!(came.path, "/elsewhere");
    assert_eq!(answer(&came.body, "there").await, 200);
    story.text("move: there").await;
    world.stop().await;
}
