//! Scripts with real tools: templates, kinds of threads, turns.

use crate::world::{World, impatient, scripted, tools};
use rap_runtime::{AgentHost, core::Surface};

/// Every template and every condition once.
#[tokio::test]
async fn a_script() {
    let (base, bench) = tools().await;
    let script = r#"
        [[rule]]
        when = { thread = "event", event = "ticks" }
        text = "handling ${event} of ${args.count}"
        calls = [{ name = "close_thread", arguments = { thread_id = "${thread_id}", report_to_parent = "got ${event}" } }]

        [[rule]]
        when = { event = "t*" }
        text = "reported: ${event}"
        calls = [{ name = "cancel_subscription", arguments = { tool_call_id = "${call.ticks}" } }]

        [[rule]]
        when = { user = "start *", turn = 1 }
        text = "You said: ${text}."
        calls = [
            { name = "quick", arguments = { word = "from ${text}" } },
            { name = "ticks", arguments = { count = 9 } },
        ]

        [[rule]]
        when = { result = "quick" }
        text = "quick said ${result.quick} to ${args.quick.word}, and ticks ${result.ticks}; ${unknown}!"

        [[rule]]
        when = { result = "cancel_subscription" }
        text = "cancelled: ${result.cancel_subscription}"

        [[rule]]
        when = { contains = "bye" }
        text = "bye"
    "#;
    // Patience, so that both results come together.
    let world = World::new(|b| b.toolset(base).model(scripted(script))).await;
    let (session, mut story) = world.told("start now").await;
    story.text("You said: start now.").await;
    story.text("quick said quick from start now to from start now, and ticks ticking; !").await;
    bench.gate.0.add_permits(1);
    story.text("handling tick 1 of 9").await;
    story.text("reported: Report of thread").await;
    story.text("cancelled: The subscription is cancelled.").await;
    world.at_rest(&session, &mut story).await;
    assert_eq!(world.runtime.status(&session).await.unwrap().threads[0].subscriptions, 0);
    // No rule fits: plain words.
    world.runtime.send(&session, "second", "call quick").await.unwrap();
    story.text("Calling quick.").await;
    world.runtime.send(&session, "third", "and so, bye").await.unwrap();
    story.text("bye").await;
}

/// Plain words in a child: it does what it was told, reports and closes.
#[tokio::test]
async fn plain_words_in_a_child() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base).rules(impatient())).await;
    let session = world.session().await.session;
    let mut story = world.story(&session).await;
    let order = format!(
        r#"call spawn_thread {{"instructions":"call quick {{\"word\":\"child\"}}","child_of":["{session}"]}}"#
    );
    world.runtime.send(&session, "first", &order).await.unwrap();
    let report = story
        .until("the report", |e| match &e.what {
            Surface::Report { text, .. } => Some(text.clone()),
            _ => None,
        })
        .await;
    assert_eq!(report, "quick: quick child");
    story.text("quick: quick child").await;
    world.at_rest(&session, &mut story).await;
}

/// An answer to what is no order, with the tools and the form.
#[tokio::test]
async fn a_friendly_sentence() {
    let (base, _bench) = tools().await;
    let world = World::new(|b| b.toolset(base)).await;
    let (_session, mut story) = world.told("what can you do?").await;
    let told = story.text("I am a scripted model").await;
    for word in ["ask, broken, quick, slow and ticks", r#"call get_weather {"city":"Oslo"} and get_time {}"#]
    {
        assert!(told.contains(word), "{told}");
    }
}
