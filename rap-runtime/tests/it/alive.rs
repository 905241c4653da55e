//! P11: each open call and each active subscription is alive at its server, or reported as lost or unknown, with its age.

use crate::{
    peer::{Peer, Said, toolset},
    world::{Story, World, impatient, within},
};
use rap_runtime::{
    AgentHost, KeyRing, MemoryStore, NOTHING_KNOWN, RuntimeBuilder,
    core::{Store, Surface, ThreadState},
    nothing_known,
};
use rap_types::{CallId, ThreadId};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// A store that outlives its worlds, and a session in it that has subscribed to a peer's `watch`.
struct Subscribed {
    store: Arc<dyn Store>,
    keys: KeyRing,
    address: String,
    session: ThreadId,
    invocation: Value,
}

impl Subscribed {
    /// Subscribes in a world of its own, which is gone afterwards.
    async fn to(peer: &mut Peer) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let keys = KeyRing::generate().unwrap();
        let base = peer.base.clone();
        let world = World::on(store.clone(), keys.clone(), "127.0.0.1:0", |b| b.toolset(base)).await;
        let address = world.base.parsed().authority().to_owned();
        let (session, mut story) = world.told("call watch").await;
        let invocation = peer.next_at("/invoke").await.body;
        let said = Said::of(&invocation);
        assert_eq!(
            said.post(json!({"type": "tool_result", "text": "watching", "subscription": true})).await,
            200
        );
        story.text("watch: watching").await;
        story.resting(&session).await;
        drop(story);
        world.stop().await;
        Self { store, keys, address, session, invocation }
    }

    async fn world(&self, configure: impl FnOnce(RuntimeBuilder) -> RuntimeBuilder) -> World {
        World::on(self.store.clone(), self.keys.clone(), &self.address, configure).await
    }

    fn call(&self) -> CallId {
        self.invocation["id"].as_str().unwrap().parse().unwrap()
    }

    async fn event(&self, text: &str) -> u16 {
        let event = json!({"type": "subscription_event", "tool_call_id": self.call(), "text": text, "associative": true});
        Said::of(&self.invocation).post(event).await
    }

    /// The thread and people are told once that it is lost, with its age; it is over (STA-04, SUB-08).
    async fn is_lost(&self, world: &World, story: &mut Story) {
        let text = story
            .until("the last event", |e| match &e.what {
                Surface::Event { text, .. } => Some(text.clone()),
                _ => None,
            })
            .await;
        assert!(
            text.starts_with("Error: the server feed no longer knows this subscription, made "),
            "{text}"
        );
        assert!(text.contains(" s ago, "), "{text}");
        story.text("no longer knows this subscription").await;
        world.at_rest(&self.session, story).await;
        assert_eq!(self.store.subscriptions().await.unwrap(), []);
        assert_eq!(self.event("too late").await, 410);
        let history = world.history(&self.session).await;
        let told = history.iter().filter(|line| line.starts_with("event of watch: ")).count();
        assert_eq!(told, 1, "{history:#?}");
    }
}

/// STA-02, STA-04: after our start each subscription is asked about, at its server alone; one that is gone ends.
#[tokio::test]
async fn a_subscription_is_asked_about_after_our_start() {
    let mut peer = Peer::start("feed", &["watch"]).await;
    let subscribed = Subscribed::to(&mut peer).await;
    peer.answers("/tool_call_status", 200, json!({"alive": false}));
    let world = subscribed.world(|b| b).await;
    let mut story = world.story(&subscribed.session).await;
    let asked = peer.next_at("/tool_call_status").await.body;
    assert_eq!(asked, json!({"thread_id": subscribed.session, "tool_call_id": subscribed.call()}));
    subscribed.is_lost(&world, &mut story).await;
    world.stop().await;
}

/// P11: from time to time as well, and one that is alive goes on.
#[tokio::test]
async fn a_subscription_is_asked_about_from_time_to_time() {
    let mut peer = Peer::start("feed", &["watch"]).await;
    peer.answers("/tool_call_status", 200, json!({"alive": true}));
    let subscribed = Subscribed::to(&mut peer).await;
    let world = subscribed.world(|b| b.ask_every(Duration::from_millis(20))).await;
    let mut story = world.story(&subscribed.session).await;
    for _ in 0..3 {
        peer.next_at("/tool_call_status").await;
    }
    assert_eq!(subscribed.event("news").await, 200);
    story.text("watch: news").await;
    assert_eq!(subscribed.store.subscriptions().await.unwrap().len(), 1);
    assert_eq!(story.count(|what| matches!(what, Surface::Unknown { .. })), 0);
    peer.answers("/tool_call_status", 200, json!({"alive": false}));
    story.text("no longer knows this subscription").await;
    world.at_rest(&subscribed.session, &mut story).await;
    assert_eq!(subscribed.store.subscriptions().await.unwrap(), []);
    world.stop().await;
}

/// P11: a server that was away when we started is asked as soon as it is there again.
#[tokio::test]
async fn a_subscription_is_asked_about_after_its_servers_restart() {
    let mut peer = Peer::start("feed", &["watch"]).await;
    let subscribed = Subscribed::to(&mut peer).await;
    let address = peer.stop().await;
    let world = subscribed.world(|b| b).await;
    let mut story = world.story(&subscribed.session).await;
    let (age, reason) = story.until("that nothing is known", unknown).await;
    assert!(age >= 0 && reason.contains("refused"), "{age} {reason}");
    let back = Peer::at(address, "feed", &["watch"]).await;
    back.answers("/tool_call_status", 200, json!({"alive": false}));
    subscribed.is_lost(&world, &mut story).await;
    world.stop().await;
}

fn unknown(event: &rap_runtime::core::SurfaceEvent) -> Option<(i64, String)> {
    match &event.what {
        Surface::Unknown { name, subscription: true, age_ms, reason, .. } => {
            assert_eq!(name, "watch");
            Some((*age_ms, reason.clone()))
        }
        _ => None,
    }
}

/// STA-03: whatever is no `alive: false` ends nothing: an operation that is not there, a server that fails, nonsense. That
/// nothing is known is told once, across restarts, and kept with its reason until the server says something.
#[tokio::test]
async fn a_fault_of_the_answer_ends_nothing() {
    for (status, answer, says) in [
        (404, json!(null), "answered tool_call_status with 404"),
        (405, json!(null), "with 405"),
        (500, json!({"alive": false}), "with 500"),
        (503, json!(null), "with 503"),
        (200, json!({"alive": "no"}), "tool_call_status: "),
        (200, json!([false]), "tool_call_status: "),
        (204, json!({"alive": false}), "with 204"),
    ] {
        let mut peer = Peer::start("feed", &["watch"]).await;
        let subscribed = Subscribed::to(&mut peer).await;
        peer.answers("/tool_call_status", status, answer.clone());
        let world = subscribed.world(|b| b.ask_every(Duration::from_millis(20))).await;
        let mut story = world.story(&subscribed.session).await;
        let (_, reason) = story.until("that nothing is known", unknown).await;
        assert!(reason.contains(says), "{status} {answer}: {reason}");
        assert!(!reason.contains("declares"), "its toolset promises nothing: {reason}");
        for _ in 0..3 {
            peer.next_at("/tool_call_status").await;
        }
        world.stop().await;
        let kept = nothing_known(subscribed.store.get(NOTHING_KNOWN).await.unwrap().as_deref());
        assert_eq!(kept[&subscribed.call()].reason, reason);

        let world = subscribed.world(|b| b.ask_every(Duration::from_millis(20))).await;
        let mut story = world.story(&subscribed.session).await;
        peer.next_at("/tool_call_status").await;
        assert_eq!(subscribed.event("news").await, 200, "it lives");
        story.text("watch: news").await;
        assert_eq!(story.count(|what| matches!(what, Surface::Unknown { .. })), 1, "told once");
        peer.answers("/tool_call_status", 200, json!({"alive": true}));
        within("it is known again", async {
            let kept = async || subscribed.store.get(NOTHING_KNOWN).await.unwrap();
            while !nothing_known(kept().await.as_deref()).is_empty() {
                peer.next_at("/tool_call_status").await;
            }
        })
        .await;
        assert_eq!(subscribed.store.subscriptions().await.unwrap().len(), 1);
        world.stop().await;
    }
}

/// STA-03: where the toolset declares `status`, an answer that does not keep to it is told as the server's fault.
#[tokio::test]
async fn a_server_that_does_not_keep_its_word() {
    let mut peer = Peer::start("feed", &["watch"]).await;
    let mut declares = toolset("feed", &format!("http://{}/invoke", peer.address), &["watch"]);
    declares["x-rap-ext"] = json!(["status"]);
    peer.offers(declares);
    let subscribed = Subscribed::to(&mut peer).await;
    peer.answers("/tool_call_status", 404, json!(null));
    let world = subscribed.world(|b| b).await;
    let mut story = world.story(&subscribed.session).await;
    let (_, reason) = story.until("that nothing is known", unknown).await;
    assert!(
        reason.contains("its server feed declares the extension status and does not keep to it"),
        "{reason}"
    );
    world.stop().await;
}

/// P9, P11: a lost subscription is told to a thread that is at work on something else, beside it, and to one that is
/// stopped when it goes on.
#[tokio::test]
async fn a_stopped_thread_hears_of_it_later() {
    let mut peer = Peer::start("feed", &["watch"]).await;
    let subscribed = Subscribed::to(&mut peer).await;
    let world = subscribed.world(|b| b.rules(impatient())).await;
    let mut story = world.story(&subscribed.session).await;
    peer.answers("/tool_call_status", 200, json!({"alive": true}));
    world.runtime.stop(&subscribed.session).await.unwrap();
    story.until("the pause", |e| (e.what == Surface::Paused).then_some(())).await;
    world.stop().await;
    peer.answers("/tool_call_status", 200, json!({"alive": false}));
    let world = subscribed.world(|b| b.rules(impatient())).await;
    let mut story = world.story(&subscribed.session).await;
    peer.next_at("/tool_call_status").await;
    within("it is in the inbox", async {
        // A final event in the inbox ends the subscription for its server.
        while subscribed.event("more").await != 410 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(
        world.runtime.status(&subscribed.session).await.unwrap().threads[0].state,
        ThreadState::Paused
    );
    world.runtime.send(&subscribed.session, "go on", "hello").await.unwrap();
    story.text("no longer knows this subscription").await;
    world.stop().await;
}
