//! Calls that a person must allow first, over the whole way: asked, answered here and from afar, overtaken, withdrawn
//! (CON-01, CON-02).

use crate::{
    peer::{Peer, answer},
    world::{Story, TOKEN, World},
};
use rap_runtime::{
    AgentHost, Approval, Choices, RemoteHost, Secret,
    core::{CallState, Interaction, Surface, ThreadState},
};
use rap_types::CallId;
use serde_json::json;

/// A server whose one tool destroys something.
async fn destructive() -> Peer {
    let peer = Peer::start("danger", &[]).await;
    let tool = json!({"name": "wipe", "description": "x", "inputSchema": {"type": "object"},
                      "annotations": {"destructive": true}});
    peer.offers(
        json!({"name": "danger", "endpoint": format!("http://{}/invoke", peer.address), "tools": [tool]}),
    );
    peer
}

async fn asking(peer: &Peer) -> World {
    World::new(|b| b.toolset(peer.base.clone()).approval(Approval::AskIfDestructive).choices(Choices::Ask))
        .await
}

async fn asked(story: &mut Story) -> CallId {
    story
        .until("the question", |e| match &e.what {
            Surface::Approval { call, name, .. } if name == "wipe" => Some(call.clone()),
            _ => None,
        })
        .await
}

/// Allowed, it is sent, and only then; declined, it never is. The first word wins. Here and over HTTP.
#[tokio::test]
async fn a_word_from_a_person() {
    for (from_afar, allow) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut peer = destructive().await;
        let world = asking(&peer).await;
        let remote = RemoteHost::new(world.base.clone(), Secret::from(TOKEN));
        let host: &dyn AgentHost = if from_afar { &remote } else { &world.runtime };
        let (session, mut story) = world.told("call wipe").await;
        let call = asked(&mut story).await;
        let open = host.open_questions(&session).await.unwrap();
        assert!(
            matches!(&open[..], [one] if matches!(&one.interaction, Interaction::Approval { call: its, .. } if *its == call))
        );
        assert_eq!(host.status(&session).await.unwrap().threads[0].state, ThreadState::Waiting);
        assert!(peer.seen.try_recv().is_err(), "nothing is sent before a word");

        host.approve(&call, allow).await.unwrap();
        if allow {
            let came = peer.next_at("/invoke").await.body;
            assert_eq!(came["id"], call.as_str());
            assert_eq!(answer(&came, "all is gone").await, 200);
            story.text("wipe: all is gone").await;
        } else {
            story.text("wipe: Error: declined").await;
        }
        story.resting(&session).await;
        assert!(peer.seen.try_recv().is_err(), "nothing more is sent");
        let error = host.approve(&call, true).await.unwrap_err();
        assert!(error.is_unknown() && error.to_string().contains("waits for nobody's word"), "{error}");
        assert!(host.open_questions(&session).await.unwrap().is_empty());
        assert!(host.approve(&"nothing".parse().unwrap(), true).await.unwrap_err().is_unknown());
        world.stop().await;
    }
}

/// CON-02: where somebody is there, destructive tools ask unless told otherwise; a dismissal declines.
#[tokio::test]
async fn asked_unless_told_otherwise() {
    let mut peer = destructive().await;
    let world = World::new(|b| b.toolset(peer.base.clone()).choices(Choices::Ask)).await;
    let (session, mut story) = world.told("call wipe").await;
    let call = asked(&mut story).await;
    let host = RemoteHost::new(world.base.clone(), Secret::from(TOKEN));
    host.dismiss(&call).await.unwrap();
    story.text("wipe: Error: declined").await;
    story.resting(&session).await;
    assert!(host.dismiss(&call).await.unwrap_err().is_unknown());
    assert!(peer.seen.try_recv().is_err(), "nothing was sent");
    world.stop().await;
}

/// Typing instead declines; stop and close withdraw. Nothing is ever sent.
#[tokio::test]
async fn overtaken_and_withdrawn() {
    for way in ["write", "stop", "close"] {
        let mut peer = destructive().await;
        let world = asking(&peer).await;
        let (session, mut story) = world.told("call wipe").await;
        let call = asked(&mut story).await;
        match way {
            "write" => {
                world.runtime.send(&session, "2", "hello").await.unwrap();
                story.text("wipe: Error: declined: the user wrote instead").await;
                story.resting(&session).await;
            }
            "stop" => {
                world.runtime.stop(&session).await.unwrap();
                story.until("the pause", |e| (e.what == Surface::Paused).then_some(())).await;
            }
            _ => {
                world.runtime.close(&session).await.unwrap();
                story.until("the end", |e| (e.what == Surface::Closed).then_some(())).await;
                assert_eq!(peer.next("the close notice").await.path, "/close_thread");
            }
        }
        assert!(world.runtime.open_questions(&session).await.unwrap().is_empty(), "{way}");
        assert!(world.runtime.approve(&call, true).await.is_err(), "{way}");
        world.stop().await;
        assert!(peer.seen.try_recv().is_err(), "{way}: nothing was sent");
    }
}

/// With nobody to ask, the policy decides at once: deny, unless told to allow.
#[tokio::test]
async fn nobody_to_ask() {
    for (approval, runs) in
        [(Approval::AskIfDestructive, false), (Approval::Deny, false), (Approval::Allow, true)]
    {
        let mut peer = destructive().await;
        let world = World::new(|b| b.toolset(peer.base.clone()).approval(approval)).await;
        let (session, mut story) = world.told("call wipe").await;
        if runs {
            let came = peer.next_at("/invoke").await.body;
            assert_eq!(answer(&came, "all is gone").await, 200);
            story.text("wipe: all is gone").await;
        } else {
            story.text("wipe: Error: declined").await;
        }
        story.resting(&session).await;
        assert_eq!(story.count(|what| matches!(what, Surface::Approval { .. })), 0, "{approval:?}");
        let calls = world.runtime.store().calls(false).await.unwrap();
        assert_eq!(calls[0].row.state, if runs { CallState::Done } else { CallState::Refused });
        world.stop().await;
    }
}
