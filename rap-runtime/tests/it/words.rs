//! Every word of a script by itself, in TOML and, with the feature `yaml`, in YAML: what the README's table promises.

use futures_util::{FutureExt, StreamExt};
use rap_runtime::{
    Delta, ModelProvider, Retry, ScriptedModel,
    core::{
        Entry, EventEntry, ModelRequest, ResultEntry, StopReason, ToolForModel, TurnCall, TurnEntry,
        UserAuthor, UserEntry,
    },
};
use rap_types::ContentPart;
use serde_json::json;
use std::{collections::BTreeSet, panic::AssertUnwindSafe, time::Duration};
use tokio::time::Instant;

/// What came of a turn, on one line: reasoning in brackets, text, calls, then how it ended and after what time.
async fn turn(model: &ScriptedModel, request: &ModelRequest) -> String {
    let begun = Instant::now();
    let mut told = String::new();
    let mut stream = model.complete(request);
    loop {
        let next = AssertUnwindSafe(tokio::time::timeout(Duration::from_secs(3_600), stream.next()));
        let ended = match next.catch_unwind().await {
            Err(_) => "panic".to_owned(),
            Ok(Err(_)) => "silence".to_owned(),
            Ok(Ok(Some(Err(error)))) => match (error.overflow, error.retry) {
                (true, Retry::Never) => "overflow".to_owned(),
                (false, Retry::Never) => "failure".to_owned(),
                (false, Retry::Soon) => "failure for now".to_owned(),
                (_, Retry::At(wait)) => format!("wait {} ms", wait.as_millis()),
                other => panic!("{other:?}"),
            },
            Ok(Ok(None)) => panic!("the stream ends without a word: {told}"),
            Ok(Ok(Some(Ok(Delta::Stop(stop))))) => match stop {
                StopReason::End | StopReason::Calls => "done".to_owned(),
                other => format!("{other:?}").to_lowercase(),
            },
            Ok(Ok(Some(Ok(delta)))) => {
                match delta {
                    Delta::Text(piece) => told += &piece,
                    Delta::Reasoning(block) => told += &format!("[{}] ", block.text),
                    Delta::Call(call) => told += &format!(" {}{}", call.name, call.arguments),
                    Delta::Usage(usage) => assert!(usage.input > 0),
                    other => panic!("{other:?}"),
                }
                continue;
            }
        };
        let took = match ended.as_str() {
            "silence" => 0,
            _ => begun.elapsed().as_millis(),
        };
        return format!("{} | {ended} | {took} ms", told.trim()).trim().to_owned();
    }
}

fn request(depth: usize, history: Vec<Entry>) -> ModelRequest {
    let tool = ToolForModel {
        name: "look".into(),
        description: "Looks.".into(),
        input_schema: serde_json::Map::new(),
    };
    ModelRequest {
        session: "root".parse().unwrap(),
        thread: if depth == 0 { "root" } else { "child" }.parse().unwrap(),
        depth,
        model: None,
        system: "".into(),
        tools: [tool].into(),
        history: history.into_iter().map(Into::into).collect(),
    }
}

fn user(author: UserAuthor, text: &str) -> Entry {
    Entry::User(UserEntry { author, content: vec![ContentPart::text(text)] })
}

fn called(name: &str, result: &str, placeholder: bool) -> [Entry; 2] {
    let call = TurnCall {
        id: "call-1".parse().unwrap(),
        name: name.into(),
        arguments: json!({"city": "Oslo", "days": 2}),
        provider_id: None,
    };
    let content = vec![ContentPart::text(result)];
    let result = ResultEntry { call: call.id.clone(), content, is_error: false, placeholder };
    let turn = TurnEntry {
        text: "I look".into(),
        reasoning: Vec::new(),
        calls: vec![call],
        order: Vec::new(),
        interrupted: false,
        model: "scripted/demo".into(),
    };
    [Entry::Turn(turn), Entry::Results { results: vec![result] }]
}

fn event(text: &str) -> Entry {
    Entry::Event(EventEntry {
        id: "event-1".parse().unwrap(),
        original_tool_name: "watch".into(),
        original_tool_call_id: "call-9".parse().unwrap(),
        original_args: json!({"what": "sky"}),
        content: vec![ContentPart::text(text)],
        is_error: false,
    })
}

/// What a model may see, by name.
fn scene(name: &str) -> ModelRequest {
    let hello = || user(UserAuthor::Person, "hello there");
    let result = |placeholder| {
        let [turn, result] = called("look", "rain", placeholder);
        request(0, vec![hello(), turn, result])
    };
    match name {
        "message" => request(0, vec![hello()]),
        "result" => result(false),
        "placeholder" => result(true),
        "event" => request(0, vec![hello(), event("a comet")]),
        "late message" => {
            let [turn, result] = called("look", "rain", false);
            request(0, vec![hello(), turn, result, event("a comet"), user(UserAuthor::Person, "bye")])
        }
        "spawned" => {
            let [turn, result] = called("spawn_thread", "You are a child thread. Work.", false);
            request(1, vec![hello(), turn, result])
        }
        "made for an event" => {
            let made = user(UserAuthor::Runtime, "You are thread child, made for this one event.");
            request(1, vec![hello(), event("a comet"), made])
        }
        other => panic!("there is no scene {other}"),
    }
}

/// Where the plain words answer, no rule did.
const NO_RULE: &str = "no rule";

/// A rule, in TOML and in YAML, a scene, and what comes of it: the rule's text is `yes` where only a condition counts.
#[rustfmt::skip]
const WORDS: &[(&str, &str, &str, &str)] = &[
    ("when = { user = 'hello*' }\ntext = 'yes'", "when: { user: 'hello*' }\ntext: 'yes'", "message", "yes | done | 0 ms"),
    ("when = { user = 'hello*' }\ntext = 'yes'", "when: { user: 'hello*' }\ntext: 'yes'", "result", NO_RULE),
    ("when = { contains = 'there' }\ntext = 'yes'", "when: { contains: there }\ntext: 'yes'", "message", "yes | done | 0 ms"),
    ("when = { contains = 'nowhere' }\ntext = 'yes'", "when: { contains: nowhere }\ntext: 'yes'", "message", NO_RULE),
    ("when = { result = 'l*k' }\ntext = 'yes'", "when: { result: l*k }\ntext: 'yes'", "result", "yes | done | 0 ms"),
    ("when = { result = 'look' }\ntext = 'yes'", "when: { result: look }\ntext: 'yes'", "placeholder", NO_RULE),
    ("when = { event = 'watch' }\ntext = 'yes'", "when: { event: watch }\ntext: 'yes'", "event", "yes | done | 0 ms"),
    ("when = { event = 'watch' }\ntext = 'yes'", "when: { event: watch }\ntext: 'yes'", "message", NO_RULE),
    ("when = { says = '*com*' }\ntext = 'yes'", "when: { says: '*com*' }\ntext: 'yes'", "event", "yes | done | 0 ms"),
    ("when = { says = 'rain' }\ntext = 'yes'", "when: { says: rain }\ntext: 'yes'", "result", "yes | done | 0 ms"),
    ("when = { says = 'rain' }\ntext = 'yes'", "when: { says: rain }\ntext: 'yes'", "placeholder", NO_RULE),
    ("when = { says = 'rain' }\ntext = 'yes'", "when: { says: rain }\ntext: 'yes'", "late message", NO_RULE),
    ("when = { thread = 'root' }\ntext = 'yes'", "when: { thread: root }\ntext: 'yes'", "message", "yes | done | 0 ms"),
    ("when = { thread = 'root' }\ntext = 'yes'", "when: { thread: root }\ntext: 'yes'", "spawned", NO_RULE),
    ("when = { thread = 'spawned' }\ntext = 'yes'", "when: { thread: spawned }\ntext: 'yes'", "spawned", "yes | done | 0 ms"),
    ("when = { thread = 'spawned' }\ntext = 'yes'", "when: { thread: spawned }\ntext: 'yes'", "made for an event", NO_RULE),
    ("when = { thread = 'event' }\ntext = 'yes'", "when: { thread: event }\ntext: 'yes'", "made for an event", "yes | done | 0 ms"),
    ("when = { turn = 2 }\ntext = 'yes'", "when: { turn: 2 }\ntext: 'yes'", "result", "yes | done | 0 ms"),
    ("when = { turn = 2 }\ntext = 'yes'", "when: { turn: 2 }\ntext: 'yes'", "message", NO_RULE),
    ("when = { turn = 1, contains = 'x' }\ntext = 'yes'", "when: { turn: 1, contains: x }\ntext: 'yes'", "message", NO_RULE),
    ("reasoning = 'hm, ${text}'", "reasoning: hm, ${text}", "message", "[hm, hello there] | done | 0 ms"),
    ("reasoning = 'hm, ${text}'\ntext = 'yes'", "reasoning: hm, ${text}\ntext: 'yes'", "message", "[hm, hello there] yes | done | 0 ms"),
    ("text = '${text}: ${result.look} in ${args.city}, ${args.look.days} days, ${call.look}, ${thread_id}, ${who}'",
     "text: '${text}: ${result.look} in ${args.city}, ${args.look.days} days, ${call.look}, ${thread_id}, ${who}'",
     "result", "hello there: rain in Oslo, 2 days, call-1, root, | done | 0 ms"),
    ("text = '${event} of the ${args.what}'", "text: ${event} of the ${args.what}", "event", "a comet of the sky | done | 0 ms"),
    ("[[rule.calls]]\nname = 'look'\narguments = { at = ['${text}', 1], deep = { yes = true } }\n[[rule.calls]]\nname = 'rest'",
     "calls:\n  - name: look\n    arguments: { at: ['${text}', 1], deep: { 'yes': true } }\n  - name: rest",
     "message", r#"look{"at":["hello there",1],"deep":{"yes":true}} rest{} | done | 0 ms"#),
    ("text = 'one two three'\ndelay_ms = 300", "text: one two three\ndelay_ms: 300", "message", "one two three | done | 300 ms"),
    ("calls = [{ name = 'look' }]\ndelay_ms = 300", "calls: [{ name: look }]\ndelay_ms: 300", "message", "look{} | done | 300 ms"),
    ("text = 'so fa'\nstop = 'length'", "text: so fa\nstop: length", "message", "so fa | length | 0 ms"),
    ("text = 'no'\nstop = 'refused'", "text: 'no'\nstop: refused", "message", "no | refused | 0 ms"),
    ("text = 'yes'\nfault = 'error'", "text: 'yes'\nfault: error", "message", "| failure | 0 ms"),
    ("text = 'yes'\nfault = 'overloaded'", "text: 'yes'\nfault: overloaded", "message", "| failure for now | 0 ms"),
    ("text = 'yes'\nfault = 'overflow'", "text: 'yes'\nfault: overflow", "message", "| overflow | 0 ms"),
    ("text = 'yes'\nfault = { retry_after_ms = 20 }", "text: 'yes'\nfault: { retry_after_ms: 20 }", "message", "| wait 20 ms | 0 ms"),
    ("text = 'a b c d'\nfault = 'break'", "text: a b c d\nfault: break", "message", "a b | failure for now | 0 ms"),
    ("text = 'a b'\nfault = 'panic'", "text: a b\nfault: panic", "message", "a b | panic | 0 ms"),
    ("text = 'a b'\nfault = 'hang'", "text: a b\nfault: hang", "message", "a b | silence | 0 ms"),
];

/// The scripts of a row, each with the name of its language.
fn scripts(toml: &str, yaml: &str) -> Vec<(&'static str, ScriptedModel)> {
    let toml =
        ScriptedModel::from_toml(&format!("[[rule]]\n{toml}")).unwrap_or_else(|e| panic!("{toml}: {e}"));
    #[allow(unused_mut)]
    let mut scripts = vec![("TOML", toml)];
    #[cfg(feature = "yaml")]
    {
        let lines: Vec<_> = yaml.lines().map(|line| format!("    {line}\n")).collect();
        let text = format!("rules:\n  -\n{}", lines.concat());
        scripts.push(("YAML", ScriptedModel::from_yaml(&text).unwrap_or_else(|e| panic!("{text}{e}"))));
    }
    let _ = yaml;
    scripts
}

#[tokio::test(start_paused = true)]
async fn every_word() {
    for (toml, yaml, scene_name, expected) in WORDS {
        let scene = scene(scene_name);
        let expected = match *expected {
            NO_RULE => turn(&ScriptedModel::demo(), &scene).await,
            expected => expected.to_owned(),
        };
        for (language, model) in scripts(toml, yaml) {
            assert_eq!(turn(&model, &scene).await, expected, "{language}, {scene_name}: {toml}");
        }
    }
}

/// `times`: in each thread for itself; the first rule that fits counts, and where none does, plain words.
#[tokio::test(start_paused = true)]
async fn times_and_order() {
    let script =
        "[[rule]]\nwhen = { user = 'hello there' }\nfault = 'error'\ntimes = 2\ntext = 'third time lucky'
        [[rule]]\ntext = 'never'";
    let model = ScriptedModel::from_toml(script).unwrap();
    let here = scene("message");
    let mut there = scene("message");
    there.thread = "elsewhere".parse().unwrap();
    for (request, expected) in [
        (&here, "| failure | 0 ms"),
        (&here, "| failure | 0 ms"),
        (&there, "| failure | 0 ms"),
        (&here, "third time lucky | done | 0 ms"),
        (&here, "third time lucky | done | 0 ms"),
        (&there, "| failure | 0 ms"),
    ] {
        assert_eq!(turn(&model, request).await, expected);
    }
}

/// A word that is added is documented and has a row here: the parser itself says which there are.
#[test]
fn no_word_is_left_out() {
    let readme = include_str!("../../README.md");
    for (script, prefix) in [
        ("[[rule]]\nnone = 1", ""),
        ("[[rule]]\nwhen = { none = 1 }", "when."),
        ("[[rule]]\nwhen = { thread = 'none' }", ""),
        ("[[rule]]\nfault = 'none'", ""),
        ("[[rule]]\nstop = 'none'", ""),
        ("[[rule]]\ncalls = [{ name = 'x', none = 1 }]", ""),
    ] {
        let error = ScriptedModel::from_toml(script).unwrap_err().to_string();
        let known = error.split_once("expected").expect(&error).1;
        let words: BTreeSet<_> = known.split('`').skip(1).step_by(2).collect();
        assert!(words.len() > 1, "{error}");
        for word in words {
            let has_row = WORDS.iter().any(|(toml, ..)| toml.contains(word));
            assert!(has_row || ["when", "times"].contains(&word), "{word} has no row");
            assert!(readme.contains(&format!("{prefix}{word}")), "{prefix}{word} is not in the README");
        }
    }
}

/// By extension; what is wrong is said with the file's name.
#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        ScriptedModel::from_file(path).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(write("a.toml", "[[rule]]\ntext = 'x'"), Ok(()));
    assert_eq!(write("a", "[[rule]]\ntext = 'x'"), Ok(()));
    let error = write("b.toml", "[[rule]]\ntext = 'x'\ntimes = 1").unwrap_err();
    assert!(error.contains("b.toml") && error.contains("rule 1"), "{error}");
    let missing = ScriptedModel::from_file(folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(missing.contains("none.toml") && missing.contains("cannot read"), "{missing}");
    for name in ["a.yaml", "a.yml"] {
        let good = write(name, "rules:\n  - text: x\n");
        let bad = write(name, "rules:\n  - txt: x\n").unwrap_err();
        if cfg!(feature = "yaml") {
            assert_eq!(good, Ok(()));
            assert!(bad.contains(name) && bad.contains("txt"), "{bad}");
        } else {
            assert!(good.unwrap_err().contains("built without YAML"));
        }
    }
}
