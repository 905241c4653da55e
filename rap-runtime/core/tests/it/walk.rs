//! Sentences of the design that no situation and no trap names: `docs/walk.md` says which sentence is held by which test.

use crate::{
    situations::{STILL, called, starts, subscribed},
    world::{World, says, turn, with_text},
};
use rap_core::{
    Answered, BUILT_IN_TOOLS, CallState, DeliveryKind, Entry, InputBody, InputId, Interaction, Moment,
    NewInput, Rules, SliceMachine, Step, ThreadState,
};
use rap_types::{CallId, ContentPart, HttpUrl, ThreadId};
use serde_json::{Value, json};

fn input(world: &World, thread: &ThreadId, body: InputBody) -> NewInput {
    let id = InputId::between_threads(&format!("test:{}", world.now.0));
    NewInput { thread: thread.clone(), id, source: "test".into(), body, traceparent: None }
}

fn question(call: CallId) -> Interaction {
    Interaction::Choice {
        call,
        prompt: "Sure?".into(),
        choices: vec!["no".into(), "yes".into()],
        default: 0,
        response_url: HttpUrl::new("http://one/answer").unwrap(),
    }
}

/// A root that waits for `a`, with a child at rest below it.
fn with_a_child() -> (World, ThreadId) {
    let mut world = World::new();
    world.model([
        turn("", &[("spawn_thread", json!({"instructions": "count", "child_of": ["root"]}))]),
        says("spawned"),
        says("counted"),
        says("I hear"),
    ]);
    world.user("go");
    world.run();
    let child = world.children()[0].clone();
    (world, child)
}

/// "Events, reports, late outcomes and messages of a parent wait while the thread has calls that may soon end: at most
/// 30 s from acceptance".
#[test]
fn whatever_is_not_urgent_waits_thirty_seconds() {
    for kind in ["report", "late outcome", "message of the parent"] {
        let mut world = called(&["b"]);
        world.model([turn("working", &[("a", json!({}))])]);
        world.user("and a");
        world.run();
        let root = world.root.clone();
        let (body, line) = match kind {
            "report" => (
                InputBody::Report {
                    child: ThreadId::new("kid").unwrap(),
                    original_tool_name: "spawn_thread".into(),
                    original_tool_call_id: CallId::new("c").unwrap(),
                    original_args: json!({}),
                    text: "done".into(),
                    state: "idle".into(),
                },
                "event of spawn_thread: Report of thread kid (idle): done",
            ),
            "late outcome" => (InputBody::Stop, "event of b: 2"),
            _ => (
                InputBody::FromParent { text: "hurry".into() },
                "Parent: Message from your parent thread: hurry",
            ),
        };
        let told = world.told().len();
        match kind {
            "late outcome" => drop(world.result("b", "2")),
            _ => drop(world.accept(input(&world, &root, body))),
        }
        world.run();
        world.advance(29_999);
        world.run();
        assert_eq!(world.told().len(), told, "{kind} is held back");
        assert_eq!(world.store.next_due(), Some(world.now + 1), "{kind}: a due time, and no timer");
        world.model([says("seen")]);
        world.advance(1);
        world.run();
        starts(&world.told()[told], &format!("results: {STILL}"));
        assert_eq!(world.told()[told + 1..], [line, "model: seen []"], "{kind}");
    }
}

/// "At most 30 s from acceptance (new calls do not extend it)": what came while the model was still speaking has waited
/// since then.
#[test]
fn a_wait_counts_from_acceptance_and_not_from_new_calls() {
    let mut world = subscribed();
    world.user("work");
    let claim = world.store.claim(world.now).unwrap();
    let snapshot = world.store.load(&claim).unwrap();
    let mut machine = SliceMachine::new(snapshot, Moment { now: world.now, seed: 1 });
    assert!(matches!(machine.step(), Step::Complete(_)));
    world.event_with("watch", "e1", |event| with_text(event, "psst").associative(true));
    let accepted_at = world.now;
    world.advance(20_000);
    machine.turn(turn("working", &[("a", json!({}))]));
    let Step::Commit(commit) = machine.step() else { panic!() };
    world.store.commit(&claim, *commit, world.now).unwrap();
    world.store.release(&claim);
    world.run();
    assert_eq!(world.store.next_due(), Some(accepted_at + 30_000));
    world.model([says("saw it")]);
    world.advance(10_000);
    world.run();
    assert_eq!(world.told().last().unwrap(), "model: saw it []");
}

/// "No wait if all that is open is a timer, … an OAuth or already detached."
#[test]
fn what_does_not_end_soon_holds_nothing_back() {
    for open in ["sleep", "authorize", "detached"] {
        let mut world = subscribed();
        let call = match open {
            "sleep" => ("sleep", json!({"seconds": 600})),
            _ => ("a", json!({})),
        };
        world.model([turn("working", &[call])]);
        world.user("work");
        world.run();
        let (root, now) = (world.root.clone(), world.now);
        if open == "authorize" {
            let url = HttpUrl::new("https://login/now").unwrap();
            world.store.interact(&root, Interaction::Authorize { call: world.call("a").id, url }, now);
        }
        if open == "detached" {
            world.model([says("yes?")]);
            world.user("hello?");
            world.run();
        }
        world.model([says("saw it")]);
        world.event_with("watch", "e1", |event| with_text(event, "psst").associative(true));
        world.run();
        let told = world.told();
        assert_eq!(told[told.len() - 2..], ["event of watch: psst", "model: saw it []"], "{open}");
    }
}

/// "It and its open descendants are paused … Descendants keep their calls … A user message to that thread lifts the pause
/// for the subtree."
#[test]
fn a_stop_pauses_descendants_and_keeps_their_calls() {
    let (mut world, child) = with_a_child();
    world.model([turn("working", &[("b", json!({}))])]);
    world.user_of(&child, "do b");
    world.run();
    world.control(InputBody::Stop);
    world.run();
    for thread in [&world.root.clone(), &child] {
        assert_eq!(world.thread_state(thread), ThreadState::Paused);
    }
    assert_eq!(world.state("b"), CallState::Pending, "the child keeps its call");
    assert_eq!(world.sent(DeliveryKind::CancelToolCall).len(), 0);
    world.result("b", "2");
    world.run();
    assert_eq!(world.thread_state(&child), ThreadState::Paused, "its outcome is accepted, and waits");
    world.model([says("back"), says("b is 2")]);
    world.user("go on");
    world.run();
    assert!(world.told_of(&child).contains(&"results: 2".to_owned()), "{:#?}", world.told_of(&child));
    assert_eq!(world.thread_state(&child), ThreadState::Resting);
}

/// "Typing is no dismissal": the question stays, and its call is only no longer waited for.
#[test]
fn typing_is_no_dismissal() {
    let mut world = called(&["a"]);
    let (root, now, call) = (world.root.clone(), world.now, world.call("a").id);
    world.store.interact(&root, question(call.clone()), now);
    world.model([says("one moment")]);
    world.user("something else");
    world.run();
    assert_eq!(world.state("a"), CallState::Detached);
    assert_eq!(world.store.interactions(&root).len(), 1);
    assert_eq!(world.sent(DeliveryKind::ChoiceAnswer).len(), 0);
    assert_eq!(world.store.answer(&call, 1, now), Answered::Accepted);
}

/// "Stop, cancel and close withdraw without an answer."
#[test]
fn a_question_is_withdrawn_without_an_answer() {
    for by in ["stop", "close", "cancel"] {
        let mut world = called(&["a"]);
        let (root, now, call) = (world.root.clone(), world.now, world.call("a").id);
        world.store.interact(&root, question(call.clone()), now);
        match by {
            "stop" => world.control(InputBody::Stop),
            "close" => world.control(InputBody::Close),
            _ => {
                world.model([
                    turn("", &[("cancel_subscription", json!({"tool_call_id": call}))]),
                    says("cancelled"),
                ]);
                world.user("leave it");
            }
        }
        world.run();
        assert_eq!(world.store.interactions(&root), [], "{by}");
        assert_eq!(world.store.answer(&call, 1, now), Answered::NoQuestion, "{by}");
        assert_eq!(world.sent(DeliveryKind::ChoiceAnswer).len(), 0, "{by}");
    }
}

/// "Any client of the session may answer for any thread of it", and the trap "a client attached to the root cannot answer
/// a child's choice".
#[test]
fn a_childs_question_is_the_sessions() {
    let (mut world, child) = with_a_child();
    world.model([turn("working", &[("b", json!({}))])]);
    world.user_of(&child, "do b");
    world.run();
    let (root, now, call) = (world.root.clone(), world.now, world.call("b").id);
    world.store.interact(&child, question(call.clone()), now);
    let open = world.store.interactions(&root);
    assert_eq!((open.len(), &open[0].thread), (1, &child));
    assert_eq!(world.store.answer(&call, 1, now), Answered::Accepted);
    assert_eq!(world.store.answer(&call, 0, now), Answered::Already, "the first answer wins");
}

/// "System prompt and tool list are byte-identical for all threads of a session."
#[test]
fn all_threads_share_the_prompt() {
    let (world, _) = with_a_child();
    let told = |n: usize| (world.requests[n].system.clone(), world.requests[n].tools.clone());
    assert!(world.requests.iter().any(|request| request.depth == 1));
    assert!((1..world.requests.len()).all(|n| told(n) == told(0)));
}

/// The built-in tools have exactly these names and parameters.
#[test]
fn built_in_tools_and_their_parameters() {
    let mut world = World::new();
    world.model([says("hi")]);
    world.user("hello");
    world.run();
    let offered: Vec<(String, Vec<String>, Vec<String>)> = world.requests[0]
        .tools
        .iter()
        .filter(|tool| BUILT_IN_TOOLS.contains(&tool.name.as_str()))
        .map(|tool| {
            let mut all: Vec<String> =
                tool.input_schema["properties"].as_object().unwrap().keys().cloned().collect();
            all.sort();
            let mut required: Vec<String> =
                serde_json::from_value(tool.input_schema["required"].clone()).unwrap();
            required.sort();
            (tool.name.clone(), all, required)
        })
        .collect();
    let words = |text: &str| -> Vec<String> { text.split_whitespace().map(Into::into).collect() };
    let expected: Vec<_> = [
        ("sleep", "seconds", "seconds"),
        ("sleep_until", "date time timezone", "date time timezone"),
        ("sleep_until_event_or_input", "", ""),
        ("spawn_thread", "child_of instructions", "child_of instructions"),
        ("report_to_parent", "report", "report"),
        ("close_thread", "report_to_parent thread_id", "thread_id"),
        ("send_message_to_child", "message thread_id", "message thread_id"),
        ("cancel_subscription", "tool_call_id", "tool_call_id"),
    ]
    .map(|(name, all, required)| (name.to_owned(), words(all), words(required)))
    .into();
    assert_eq!(offered, expected);
}

/// "Each can be switched off": it is not offered, and a call of it is one of an unknown tool.
#[test]
fn each_built_in_tool_can_be_switched_off() {
    for name in BUILT_IN_TOOLS {
        let mut world = World::new();
        let before = world.store.session(&world.root).unwrap().toolbox.clone();
        let mut toolbox = before.clone();
        toolbox.without = vec![name.to_owned()];
        assert!(world.store.update_toolbox(&world.root.clone(), &before, &toolbox));
        world.model([turn("", &[(name, json!({}))]), says("well")]);
        world.user("go");
        world.run();
        assert!(world.requests[0].tools.iter().all(|tool| tool.name != name), "{name}");
        starts(&world.told()[2], &format!("results: Error: there is no tool \"{name}\""));
    }
}

/// "Limits, configurable, each with a clear error."
#[test]
fn limits_have_clear_errors() {
    let spawn = ("spawn_thread", json!({"instructions": "x", "child_of": ["root"]}));
    type Case<'c> = (fn(&mut Rules), Vec<(&'c str, Value)>, &'c str);
    let cases: [Case<'_>; 3] = [
        (|rules| rules.depth = 0, vec![spawn.clone()], "Error: threads may nest 0 deep"),
        (|rules| rules.open_threads = 1, vec![spawn], "Error: the session has 1 open threads"),
        (
            |rules| rules.calls_per_turn = 1,
            vec![("report_to_parent", json!({"report": "x"})), ("a", json!({}))],
            "| Error: a turn may make 1 calls",
        ),
    ];
    for (limit, calls, told) in cases {
        let mut rules = Rules::default();
        limit(&mut rules);
        let mut world = World::with(rules);
        world.model([turn("", &calls), says("I see")]);
        world.user("go");
        world.run();
        assert!(world.told()[2].contains(told), "{:?}", world.told());
    }
    let defaults = Rules::default();
    assert_eq!(
        (defaults.depth, defaults.open_threads, defaults.subscriptions, defaults.calls_per_turn),
        (8, 256, 64, 64)
    );
    assert_eq!((defaults.patience_ms, defaults.hold_ms, defaults.completions), (30_000, 30_000, 200));
    assert_eq!((defaults.result_bytes, defaults.parked_events, defaults.compact_at), (64 * 1024, 64, 75));
    assert_eq!(
        (defaults.inbox, defaults.inbox_bytes, defaults.dead_letters),
        (10_000, 64 * 1024 * 1024, 1_000)
    );
}

/// "A result shows the model at most 64 KiB …, with a note; it is whole in the store."
#[test]
fn a_long_result_is_cut_for_the_model_and_whole_in_the_store() {
    let mut rules = Rules::default();
    rules.result_bytes = 10;
    let mut world = World::with(rules);
    world.model([turn("", &[("a", json!({}))]), says("long")]);
    world.user("go");
    world.run();
    world.result("a", "æææææææ");
    world.run();
    assert_eq!(world.told()[2], "results: æææææ\n[cut here: 4 more bytes of this result are not shown]");
    let outcome = world.call("a").outcome.unwrap();
    assert!(format!("{outcome:?}").contains("æææææææ"), "{outcome:?}");
}

/// "… or 10 % of its window", for results and for events; the model that the slice asks counts, and the record says what
/// its window was (P12; that all of this replays is asserted where worlds are dropped).
#[test]
fn a_long_result_is_cut_by_the_models_window() {
    let long = "x".repeat(100_000);
    for (window, shown) in [
        (None, 64 * 1024),
        (Some(0), 64 * 1024),
        (Some(1_000_000), 64 * 1024),
        (Some(128_000), 25_600),
        (Some(500), 100),
    ] {
        let mut world = World::new();
        world.window = window;
        world.model([turn("", &[("a", json!({})), ("watch", json!({}))]), says("long")]);
        world.user("go");
        world.run();
        world.result("a", &long);
        world.confirm("watch", "watching");
        world.run();
        world.event_with("watch", "1", |event| with_text(event, &long).associative(true));
        world.model([says("long as well")]);
        world.run();
        let history = world.store.history(&world.root).unwrap();
        let cut = |content: &[ContentPart]| match content {
            [ContentPart::Text(text)] => text.text.find("\n[cut here: ").unwrap(),
            other => panic!("{other:?}"),
        };
        let sizes: Vec<_> = history
            .entries
            .iter()
            .filter_map(|entry| match &**entry {
                Entry::Results { results } => Some(cut(&results[0].content)),
                Entry::Event(event) => Some(cut(&event.content)),
                _ => None,
            })
            .collect();
        assert_eq!(sizes, [shown, shown], "{window:?}");
        let facts = |slice: rap_core::SliceView| slice.record.facts.unwrap().window;
        let kept: Vec<_> = world.store.slices(&world.root, 0, 100).into_iter().map(facts).collect();
        assert!(kept.iter().all(|kept| *kept == window.filter(|window| *window > 0)), "{kept:?}");
        let outcome = world.call("a").outcome.unwrap();
        assert!(format!("{outcome:?}").contains(&long), "whole in the store");
    }
}

/// The model that a slice asks is known before it is made: the newest choice counts, then the thread's, then the session's.
#[test]
fn the_model_that_a_slice_will_ask() {
    let mut world = World::new();
    let root = world.root.clone();
    let next = |world: &mut World| {
        world.user("look");
        let claim = world.store.claim(world.now).unwrap();
        let next = world.store.load(&claim).unwrap().next_model().map(str::to_owned);
        world.store.release(&claim);
        next
    };
    assert_eq!(next(&mut world), None);
    for (key, model) in [("1", Some("p/m")), ("2", Some("q/n")), ("3", None)] {
        let body = InputBody::UseModel { model: model.map(str::to_owned) };
        let choice = NewInput { id: InputId::control(key), ..input(&world, &root, body) };
        world.accept(choice);
        assert_eq!(next(&mut world).as_deref(), model);
        world.model([says("done")]);
        world.run();
        assert_eq!(world.requests.last().unwrap().model.as_deref(), model);
        assert_eq!(next(&mut world).as_deref(), model);
        world.model([says("done")]);
        world.run();
    }
}
