//! Another model in mid-conversation: what one provider has signed is in the history when another is asked, and is there
//! as it was when the first one is asked again.

use crate::{
    matrix::{World, until},
    plans::{cards, dialect},
    serve::{Act, KEY, Provider},
    spoken::Spoken,
};
use rap_models::{Auth, Effort, HttpModel, Wire};
use rap_runtime::{AgentHost, ReasoningPolicy, core::Surface};

/// A provider under a name of its own, with the card of its wire that asks the most.
async fn provider(name: &str, wire: Wire, acts: Vec<Act>) -> (Provider, HttpModel) {
    let (mut card, known) = cards(wire)
        .into_iter()
        .max_by_key(|(card, known)| {
            // What must be signed, else what is taken back, else whatever the wire has.
            (known.signed_calls, card.reasoning == ReasoningPolicy::Kept)
        })
        .unwrap();
    let provider = Provider::new(wire, known, acts).await;
    card.id = format!("{name}/m");
    let effort = (card.reasoning != ReasoningPolicy::Dropped).then_some(Effort::Low);
    let model = HttpModel::builder(&card.id, wire, provider.base.parse().unwrap());
    let model = model.effort(effort).dialect(dialect(wire, &card)).card(card);
    (provider, model.auth(Auth::Key(KEY.into())).build())
}

/// A turn with reasoning on both sides of a call, and what is said once its result is there.
fn turns(who: &str, then: &[&str]) -> Vec<Act> {
    let looks = Spoken::text(&format!("{who} looks."))
        .thought("where?", &format!("{who}-sig-1"))
        .call(&format!("{who}-1"), "get_weather", r#"{"city":"Oslo"}"#)
        .then_thought("and there?", &format!("{who}-sig-2"))
        .call(&format!("{who}-2"), "get_weather", r#"{"city":"Ærø"}"#);
    let says = |text: &&str| Act::Say(Spoken::text(text).thought("so", &format!("{who}-sig-{text}")));
    std::iter::once(Act::Say(looks)).chain(then.iter().map(says)).collect()
}

/// From every wire to every other and back. Both are strict: no signature of the other's is taken, and a signed turn
/// comes back as it was or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_every_wire_to_every_other_and_back() {
    for from in Wire::ALL {
        for to in Wire::ALL {
            let (first, one) = provider("one", from, turns("one", &["one has it.", "one again."])).await;
            let (second, two) = provider("two", to, turns("two", &["two has it."])).await;
            let world = World::configured(|builder| builder.model(one).model(two)).await;
            let (session, mut watch) = world.told("What is up?").await;
            let done = |text: &'static str| move |what: &Surface| matches!(what, Surface::Text { text: t, .. } if t == text);
            until(&mut watch, done("one has it.")).await;
            world.runtime.choose_model(&session, Some("two/m")).await.unwrap();
            world.runtime.send(&session, "second", "And you?").await.unwrap();
            until(&mut watch, done("two has it.")).await;
            world.runtime.choose_model(&session, Some("one/m")).await.unwrap();
            world.runtime.send(&session, "third", "And again?").await.unwrap();
            until(&mut watch, done("one again.")).await;

            for provider in [&first, &second] {
                assert_eq!(
                    provider.seen(|seen| seen.refused.clone()),
                    Vec::<String>::new(),
                    "{from:?} {to:?}"
                );
            }
            let bodies = |provider: &Provider, n: usize| provider.seen(|seen| seen.bodies[n].to_string());
            let (at_two, back) = (bodies(&second, 0), bodies(&first, 2));
            assert!(!at_two.contains("one-sig"), "{from:?} {to:?}: {at_two}");
            assert!(at_two.contains("one looks.") && at_two.contains("12 degrees in Oslo"), "{at_two}");
            assert!(!back.contains("two-sig"), "{from:?} {to:?}: {back}");
            assert!(back.contains("two looks.") && back.contains("two has it."), "{back}");
            let kept = !matches!(from, Wire::OpenAiChat | Wire::Ollama);
            for signature in ["one-sig-1", "one-sig-2"] {
                assert_eq!(back.contains(signature), kept, "{from:?} {to:?}: {signature} in {back}");
            }
            let told = world.history(&session).await;
            assert_eq!(told.iter().filter(|line| line.starts_with("result: 12 degrees")).count(), 4);
        }
    }
}

/// Two models of one provider: what the first has signed is not sent to the second, and is there when the first is asked
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_one_model_to_another_of_its_provider() {
    for wire in [Wire::Anthropic, Wire::Gemini, Wire::OpenAiResponses, Wire::Bedrock] {
        let mut acts = turns("one", &["one has it.", "one again."]);
        acts.insert(2, Act::Say(Spoken::text("two has it.").thought("so", "two-sig")));
        let (server, _) = provider("p", wire, acts).await;
        let (card, _) = cards(wire).into_iter().max_by_key(|(_, known)| known.signed_calls).unwrap();
        let model = |name: &str| {
            let mut card = if card.reasoning == ReasoningPolicy::Dropped {
                card.clone().reasoning(ReasoningPolicy::Kept)
            } else {
                card.clone()
            };
            card.id = format!("p/{name}");
            let model = HttpModel::builder(&card.id, wire, server.base.parse().unwrap());
            model.effort(Some(Effort::Low)).card(card).auth(Auth::Key(KEY.into())).build()
        };
        let (one, two) = (model("one"), model("two"));
        let world = World::configured(|builder| builder.model(one).model(two)).await;
        let (session, mut watch) = world.told("What is up?").await;
        let done = |text: &'static str| move |what: &Surface| matches!(what, Surface::Text { text: t, .. } if t == text);
        for (choice, says) in [("p/two", "one has it."), ("p/one", "two has it."), ("p/one", "one again.")] {
            until(&mut watch, done(says)).await;
            world.runtime.choose_model(&session, Some(choice)).await.unwrap();
            if says != "one again." {
                world.runtime.send(&session, says, "And you?").await.unwrap();
            }
        }
        let (refused, bodies) = server.seen(|seen| (seen.refused.clone(), seen.bodies.clone()));
        assert_eq!(refused, Vec::<String>::new(), "{wire:?}");
        let (at_two, back) = (bodies[2].to_string(), bodies[3].to_string());
        assert!(!at_two.contains("one-sig") && at_two.contains("one looks."), "{wire:?}: {at_two}");
        assert!(!back.contains("two-sig") && back.contains("two has it."), "{wire:?}: {back}");
        for signature in ["one-sig-1", "one-sig-2"] {
            assert!(back.contains(signature), "{wire:?}: {signature} in {back}");
        }
    }
}

/// A choice is the session's business, not the process's: one that the store no longer finds is told, and mended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_not_there() {
    let (_provider, one) = provider("one", Wire::OpenAiChat, turns("one", &["one has it."])).await;
    let world = World::configured(|builder| builder.model(one)).await;
    let (session, mut watch) = world.told("What is up?").await;
    until(&mut watch, |what| *what == Surface::Resting).await;
    let error = world.runtime.choose_model(&session, Some("two/m")).await.unwrap_err();
    assert!(error.is_refused() && error.to_string().contains("there are: one/m"), "{error}");
    let nobody = "nobody".parse().unwrap();
    assert!(world.runtime.choose_model(&nobody, None).await.unwrap_err().is_unknown());
}
