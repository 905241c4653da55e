//! Dead letters, sent again by a person (P1).

use crate::{
    peer::{Peer, answer, toolset},
    world::{TOKEN, World, impatient},
};
use rap_runtime::{
    AgentHost, RemoteHost, Secret,
    core::{CallState, Surface},
};
use serde_json::json;

/// P1, P10, TRN-04: an invocation that was given up goes out once more, under its id, to where its server is now; its outcome
/// reaches the model as an event, once. From afar as here. By itself the runtime never sends again what was refused: only a
/// person's order does, once each, and people see that.
#[tokio::test]
async fn an_invocation() {
    for from_afar in [false, true] {
        let mut peer = Peer::start("weather", &["rain"]).await;
        peer.answers("/old", 422, json!(null));
        peer.offers(toolset("weather", &format!("http://{}/old", peer.address), &["rain"]));
        let world = World::new(|b| b.toolset(peer.base.clone()).rules(impatient())).await;
        let (session, mut story) = world.told("call rain").await;
        let first = peer.next("the first try").await;
        story.text("rain: Error: the tool server refused the call").await;
        story.resting(&session).await;
        let remote = RemoteHost::new(world.base.clone(), Secret::from(TOKEN));
        let host: &dyn AgentHost = if from_afar { &remote } else { &world.runtime };
        let letters = host.dead_letters().await.unwrap();
        assert_eq!((letters.len(), letters[0].thread.as_str()), (1, session.as_str()));
        assert!(letters[0].what.starts_with("invocation of call "), "{}", letters[0].what);
        assert_eq!(
            (letters[0].attempts, letters[0].reason.as_str()),
            (1, "the peer answered 422; a 4xx is final")
        );
        assert!(host.resend(letters[0].id + 1).await.unwrap_err().is_unknown());

        // Refused again: it is a dead letter again, and nothing more is sent.
        host.resend(letters[0].id).await.unwrap();
        story
            .until("the order", |e| {
                matches!(&e.what, Surface::Resent { name, .. } if name == "rain").then_some(())
            })
            .await;
        assert_eq!(peer.next("the order is carried out").await.path, "/old");
        let letters = crate::world::within("it is a dead letter again", async {
            loop {
                let again = host.dead_letters().await.unwrap();
                if !again.is_empty() {
                    return again;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(peer.seen.try_recv().is_err(), "once for each order");
        peer.answers("/invoke", 200, json!(null));
        peer.offers(toolset("weather", &format!("http://{}/invoke", peer.address), &["rain"]));
        world.runtime.refresh(&session).await.unwrap();
        host.resend(letters[0].id).await.unwrap();
        assert!(host.dead_letters().await.unwrap().is_empty());
        let again = peer.next("the second try").await;
        assert_eq!((again.path.as_str(), &again.body), ("/invoke", &first.body), "the same request");
        assert_eq!(answer(&again.body, "wet").await, 200);
        story.text("rain: wet").await;
        story.resting(&session).await;
        let calls = world.runtime.store().calls(false).await.unwrap();
        assert_eq!((calls.len(), calls[0].row.state), (1, CallState::Done));
        let history = world.history(&session).await;
        assert_eq!(history.iter().filter(|line| *line == "event of rain: wet").count(), 1, "{history:#?}");
        // It has its outcome: nothing is left to be sent.
        assert!(host.resend(letters[0].id).await.unwrap_err().is_unknown());
        world.stop().await;
    }
}

/// CLS-01: a notice that a server missed reaches it when a person says so; until then it stays a dead letter.
#[tokio::test]
async fn a_notice() {
    let peer = Peer::start("weather", &["rain"]).await;
    let world = World::new(|b| b.toolset(peer.base.clone())).await;
    let session = world.session().await.session;
    let address = peer.stop().await;
    world.runtime.close(&session).await.unwrap();
    let letter = crate::world::within("the notice is given up", async {
        loop {
            if let Some(letter) = world.runtime.dead_letters().await.unwrap().pop() {
                return letter;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(letter.attempts, 1);
    assert!(letter.reason.ends_with("a notice is sent once"), "{}", letter.reason);
    let error = world.runtime.resend(letter.id).await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("no connection could be made"), "{error}");
    assert_eq!(world.runtime.dead_letters().await.unwrap().len(), 1);
    let mut back = Peer::at(address, "weather", &["rain"]).await;
    world.runtime.resend(letter.id).await.unwrap();
    assert_eq!(back.next_at("/close_thread").await.body, json!({"thread_id": session}));
    assert!(world.runtime.dead_letters().await.unwrap().is_empty());
}

/// CHO-01: an answer that a server has refused goes to it once more on a person's order, as it was.
#[tokio::test]
async fn an_answer_to_a_choice() {
    let mut peer = Peer::start("danger", &["ask"]).await;
    peer.answers("/answers", 400, json!(null));
    let world = World::new(|b| b.toolset(peer.base.clone()).choices(rap_runtime::Choices::Ask)).await;
    let (_, mut story) = world.told("call ask").await;
    let taken = peer.next("the call").await.body;
    let url = format!("http://{}/answers", peer.address);
    let question = json!({"type": "user_choice", "prompt": "Red or blue?", "choices": ["red", "blue"],
                          "default": 1, "response_url": url});
    assert_eq!(crate::peer::Said::of(&taken).post(question).await, 200);
    let call = story
        .until("the question", |e| match &e.what {
            Surface::Choice { call, .. } => Some(call.clone()),
            _ => None,
        })
        .await;
    world.runtime.answer(&call, 0).await.unwrap();
    let first = peer.next_at("/answers").await.body;
    let letter = crate::world::within("the answer is given up", async {
        loop {
            if let Some(letter) = world.runtime.dead_letters().await.unwrap().pop() {
                return letter;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!((letter.attempts, letter.reason.as_str()), (1, "the peer answered 400; a 4xx is final"));
    assert!(!format!("{letter:?}").contains("/answers"), "where answers go is nobody else's: {letter:?}");
    peer.answers("/answers", 200, json!(null));
    world.runtime.resend(letter.id).await.unwrap();
    assert_eq!(peer.next_at("/answers").await.body, first);
    assert!(world.runtime.dead_letters().await.unwrap().is_empty());
    assert_eq!(answer(&taken, "picked red").await, 200);
    story.text("ask: picked red").await;
    world.stop().await;
}

/// What cannot be of use any more says why and stays: an outcome of a cancelled call, a call of a closed thread (CAN-03).
#[tokio::test]
async fn what_cannot_be_sent_again() {
    let mut peer = Peer::start("weather", &["rain"]).await;
    let world = World::new(|b| b.toolset(peer.base.clone()).rules(impatient())).await;
    let (session, mut story) = world.told("call rain").await;
    let taken = peer.next("the call").await.body;
    world.runtime.stop(&session).await.unwrap();
    story.until("the pause", |e| (e.what == rap_runtime::core::Surface::Paused).then_some(())).await;
    assert_eq!(answer(&taken, "too late").await, 200);
    let letter = world.runtime.dead_letters().await.unwrap().remove(0);
    let error = world.runtime.resend(letter.id).await.unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("the call was cancelled"), "{error}");
    assert_eq!(world.runtime.dead_letters().await.unwrap().len(), 1);

    peer.answers("/invoke", 422, json!(null));
    world.runtime.send(&session, "2", "call rain").await.unwrap();
    story.text("refused the call").await;
    let letter = world.runtime.dead_letters().await.unwrap().pop().unwrap();
    world.runtime.close(&session).await.unwrap();
    story.until("the end", |e| (e.what == rap_runtime::core::Surface::Closed).then_some(())).await;
    let error = world.runtime.resend(letter.id).await.unwrap_err();
    assert!(error.is_ended(), "{error}");
}
