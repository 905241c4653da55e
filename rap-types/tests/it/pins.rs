//! Wire pins: what each message is on the wire, to the byte, and that it is read back. Whoever changes one of
//! these lines breaks peers that are already out there.

use rap_types::{
    Annotations, CallId, CallbackMessage, CancelToolCall, ChoiceIndex, ChoiceResponse, CloseThread,
    ContentPart, DisplaySegment, EventId, HttpUrl, Invocation, Message, Migrate, OAuth, ProviderCallId,
    SubscriptionEvent, ThreadId, Tool, ToolCallAlive, ToolCallStatus, ToolName, ToolResult, Toolset,
    UnknownKind, UserChoice, UserId, ViewUpdate, parse,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Debug;

fn thread() -> ThreadId {
    ThreadId::new("t").expect("an id")
}

fn call() -> CallId {
    CallId::new("c").expect("an id")
}

fn provider() -> Option<ProviderCallId> {
    Some(ProviderCallId::new("p").expect("an id"))
}

fn url(url: &str) -> HttpUrl {
    HttpUrl::new(url).expect("a URL")
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn pin<M: Message + Serialize + PartialEq + Debug>(message: M, wire: &str) {
    assert_eq!(serde_json::to_string(&message).expect("serialises"), wire);
    assert_eq!(parse::<M>(wire.as_bytes()).expect("is read"), message, "{wire}");
}

/// `type` comes first; optional members are left out; `mediaType` alone is in camel case.
#[test]
fn callbacks() {
    let pin = |message: CallbackMessage, wire| pin(message, wire);
    pin(
        CallbackMessage::ToolResult(ToolResult::text(thread(), call(), "ok")),
        r#"{"type":"tool_result","group_id":"t","id":"c","text":"ok"}"#,
    );
    pin(
        CallbackMessage::ToolResult(ToolResult::error(thread(), call(), "no").with_call_id(provider())),
        r#"{"type":"tool_result","group_id":"t","id":"c","call_id":"p","text":"Error: no","is_error":true}"#,
    );
    let parts = vec![
        ContentPart::text("a"),
        ContentPart::image([0_u8, 1], "image/png"),
        ContentPart::Other(UnknownKind::new("audio", map(json!({"x": 1}))).expect("unknown")),
    ];
    let display =
        vec![DisplaySegment::Diff { path: "p".into(), patch: "d".into() }, DisplaySegment::Text("x".into())];
    pin(
        CallbackMessage::ToolResult(
            ToolResult::content(thread(), call(), parts)
                .with_text("a")
                .with_display(display)
                .with_subscription(),
        ),
        concat!(
            r#"{"type":"tool_result","group_id":"t","id":"c","text":"a","content":[{"type":"text","text":"a"},"#,
            r#"{"type":"image","data":"AAE=","mediaType":"image/png"},{"type":"audio","x":1}],"#,
            r#""display_as":[{"type":"diff","content":{"path":"p","patch":"d"}},{"type":"text","content":"x"}],"#,
            r#""subscription":true}"#
        ),
    );
    pin(
        CallbackMessage::SubscriptionEvent(SubscriptionEvent::new(thread(), call(), "e")),
        r#"{"type":"subscription_event","group_id":"t","tool_call_id":"c","text":"e"}"#,
    );
    let event = SubscriptionEvent::new(thread(), call(), "e").associative(true).last(true);
    pin(
        CallbackMessage::SubscriptionEvent(event.event_id(EventId::new("1").expect("an id"))),
        r#"{"type":"subscription_event","group_id":"t","tool_call_id":"c","text":"e","associative":true,"final":true,"event_id":"1"}"#,
    );
    let oauth = OAuth::new(thread(), call(), url("https://a.example/x?state=1")).expect("https");
    pin(
        CallbackMessage::OAuth(oauth.with_call_id(provider())),
        r#"{"type":"oauth","group_id":"t","id":"c","call_id":"p","auth_url":"https://a.example/x?state=1"}"#,
    );
    let choice = UserChoice::new(thread(), call(), "?", vec!["y".into(), "n".into()], 1, url("http://h/r"));
    pin(
        CallbackMessage::UserChoice(choice.expect("valid")),
        r#"{"type":"user_choice","group_id":"t","id":"c","prompt":"?","choices":["y","n"],"default":1,"response_url":"http://h/r"}"#,
    );
    pin(
        CallbackMessage::ViewUpdate(ViewUpdate::new(thread(), "board", map(json!({"n": 1})))),
        r#"{"type":"view_update","group_id":"t","view_type":"board","content":{"n":1}}"#,
    );
}

/// A message alone, not wrapped as a callback, is the same on the wire.
#[test]
fn a_result_alone_carries_its_type() {
    let result = ToolResult::text(thread(), call(), "ok");
    let alone = serde_json::to_string(&result).expect("serialises");
    let wrapped = serde_json::to_string(&CallbackMessage::ToolResult(result)).expect("serialises");
    assert_eq!(alone, wrapped);
}

#[test]
fn requests() {
    pin(
        Invocation::new("f", map(json!({"a": 1})), call(), url("http://h/cb?x=%2F"), thread()),
        r#"{"operation":"f","arguments":{"a":1},"id":"c","callback_url":"http://h/cb?x=%2F","group_id":"t"}"#,
    );
    let full = Invocation::new("f", Map::new(), call(), url("http://h"), thread())
        .call_id(provider())
        .thread_ancestors(vec![thread()])
        .user_id(Some(UserId::new("u").expect("an id")));
    pin(
        full,
        r#"{"operation":"f","arguments":{},"id":"c","call_id":"p","callback_url":"http://h","group_id":"t","thread_ancestors":["t"],"user_id":"u"}"#,
    );
    pin(CloseThread::new(thread()), r#"{"thread_id":"t"}"#);
    pin(CancelToolCall::new(thread(), call()), r#"{"thread_id":"t","tool_call_id":"c"}"#);
    pin(ToolCallStatus::new(thread(), call()), r#"{"thread_id":"t","tool_call_id":"c"}"#);
    pin(ToolCallAlive::new(false), r#"{"alive":false}"#);
    pin(
        Migrate::new(thread(), url("https://h/base/")),
        r#"{"session_id":"t","destination_url":"https://h/base/"}"#,
    );
    pin(ChoiceResponse::new(call(), 0), r#"{"id":"c","selected":0}"#);
}

/// `inputSchema`, `displayScript` and `needsMigration` are in camel case; custom annotations stay.
#[test]
fn toolset() {
    let tool = Tool::new(ToolName::new("f").expect("a name"), "d", map(json!({"type": "object"})));
    pin(
        Toolset::new("n", url("http://h/i"), vec![tool.clone()]).expect("valid"),
        r#"{"name":"n","endpoint":"http://h/i","tools":[{"name":"f","description":"d","inputSchema":{"type":"object"}}]}"#,
    );
    let mut annotations = Annotations::default();
    annotations.requires_auth = Some("x".into());
    annotations.read_only = Some(true);
    annotations.destructive = Some(false);
    annotations.idempotent = Some(true);
    annotations.long_running = Some(true);
    annotations.insert("x-acme", json!([1])).expect("not a known one");
    let tool = tool.with_annotations(annotations).with_display_script("args.a");
    pin(
        Toolset::new("n", url("http://h/i"), vec![tool])
            .expect("valid")
            .with_description("w")
            .with_needs_migration()
            .with_extensions(["status"]),
        concat!(
            r#"{"name":"n","description":"w","endpoint":"http://h/i","tools":[{"name":"f","description":"d","#,
            r#""inputSchema":{"type":"object"},"annotations":{"requiresAuth":"x","readOnly":true,"destructive":false,"#,
            r#""idempotent":true,"longRunning":true,"x-acme":[1]},"displayScript":"args.a"}],"needsMigration":true,"#,
            r#""x-rap-ext":["status"]}"#
        ),
    );
}

/// TRN-11, OAU-03: what carries a secret does not show it when it is printed for debugging or refused.
#[test]
fn secrets_do_not_show() {
    let secret = "s3cr3t";
    let callback = url(&format!("https://user:{secret}@h.example/{secret}?cap={secret}#{secret}"));
    let invocation = Invocation::new("f", Map::new(), call(), callback.clone(), thread());
    let choice = UserChoice::new(thread(), call(), "?", vec!["y".into()], 0, callback.clone());
    let oauth = OAuth::new(thread(), call(), callback).expect("https");
    let shown = format!("{invocation:?} {choice:?} {oauth:?}");
    assert!(!shown.contains(secret), "{shown}");
    assert!(shown.contains("https://h.example"), "{shown}");
    for refused in
        [format!("ftp://h/{secret}"), format!("http://h/ {secret}"), format!("http://h:99999/{secret}")]
    {
        let error = HttpUrl::new(refused).expect_err("refused").to_string();
        assert!(!error.contains(secret), "{error}");
    }
    let body = format!(
        r#"{{"operation":"f","arguments":{{}},"id":"c","callback_url":"ws://h/{secret}","group_id":"t"}}"#
    );
    let fault = parse::<Invocation>(body.as_bytes()).expect_err("refused").to_string();
    assert!(!fault.contains(secret), "{fault}");
    let image = ContentPart::image(secret.as_bytes(), "image/png");
    assert_eq!(format!("{image:?}"), "Image(ImageContent { data: <6 bytes>, media_type: \"image/png\" })");
}

/// Forms that older peers write: `null` where they have nothing, defaults spelt out, an integer as a float, the
/// second id empty. They read as what is written without them (TRN-10).
#[test]
fn old_peers() {
    fn reads<M: Message + Serialize + PartialEq + Debug>(old: &str, now: &str) {
        let read = parse::<M>(old.as_bytes()).expect("is read");
        assert_eq!(serde_json::to_string(&read).expect("serialises"), now, "{old}");
        assert_eq!(parse::<M>(now.as_bytes()).expect("is read"), read, "{now}");
    }
    reads::<Invocation>(
        r#"{"operation":"f","arguments":{},"id":"c","call_id":null,"callback_url":"http://h/","group_id":"t","thread_ancestors":null,"user_id":null}"#,
        r#"{"operation":"f","arguments":{},"id":"c","callback_url":"http://h/","group_id":"t"}"#,
    );
    reads::<CallbackMessage>(
        r#"{"group_id":"t","id":"c","call_id":null,"text":"ok","content":null,"display_as":null,"subscription":null,"is_error":null,"type":"tool_result"}"#,
        r#"{"type":"tool_result","group_id":"t","id":"c","text":"ok"}"#,
    );
    reads::<CallbackMessage>(
        r#"{"type":"tool_result","group_id":"t","id":"c","call_id":"","text":"ok","subscription":false}"#,
        r#"{"type":"tool_result","group_id":"t","id":"c","call_id":"","text":"ok"}"#,
    );
    reads::<CallbackMessage>(
        r#"{"type":"subscription_event","group_id":"t","tool_call_id":"c","id":"x","text":"e","associative":false,"final":null,"event_id":null}"#,
        r#"{"type":"subscription_event","group_id":"t","tool_call_id":"c","text":"e"}"#,
    );
    reads::<CallbackMessage>(
        r#"{"type":"oauth","group_id":"t","id":"c","call_id":null,"auth_url":"http://127.0.0.1/a"}"#,
        r#"{"type":"oauth","group_id":"t","id":"c","auth_url":"http://127.0.0.1/a"}"#,
    );
    reads::<CallbackMessage>(
        r#"{"type":"user_choice","group_id":"t","id":"c","call_id":null,"prompt":"?","choices":["y"],"default":0.0,"response_url":"http://h/r"}"#,
        r#"{"type":"user_choice","group_id":"t","id":"c","prompt":"?","choices":["y"],"default":0,"response_url":"http://h/r"}"#,
    );
    reads::<CallbackMessage>(
        r#"{"type":"view_update","group_id":"t","view_type":"b","content":{"n":null},"id":null}"#,
        r#"{"type":"view_update","group_id":"t","view_type":"b","content":{"n":null}}"#,
    );
    reads::<Toolset>(
        concat!(
            r#"{"name":"n","description":null,"endpoint":"http://h/i","needsMigration":null,"x-rap-ext":null,"tools":[{"name":"f","#,
            r#""description":"d","inputSchema":{"type":"object"},"annotations":null,"displayScript":null}]}"#
        ),
        r#"{"name":"n","endpoint":"http://h/i","tools":[{"name":"f","description":"d","inputSchema":{"type":"object"}}]}"#,
    );
    reads::<ChoiceResponse>(r#"{"selected":1.0,"id":"c"}"#, r#"{"id":"c","selected":1}"#);
    reads::<CloseThread>(r#"{"thread_id":"t","reason":null}"#, r#"{"thread_id":"t"}"#);
}

/// CHO-03: a question gives only its own places, and says what is wrong with others.
#[test]
fn a_question_judges_an_answer() {
    let choices = vec!["y".to_owned(), "n".to_owned()];
    let choice = UserChoice::new(thread(), call(), "?", choices, 1, url("http://h")).expect("valid");
    assert_eq!(choice.default_index(), ChoiceIndex::new(1));
    assert_eq!(choice.pick(1).expect("a choice"), 1);
    assert_eq!((choice.choice(0), choice.choice(2), choice.choice(u64::MAX)), (Some("y"), None, None));
    let fault = choice.pick(2).expect_err("no choice").to_string();
    assert_eq!(fault, "at /selected: 2 is no index of 2 choices; count from 0 (CHO-03)");
    for wire in ["-1", "0.5", "\"0\"", "null", "1e300"] {
        assert!(serde_json::from_str::<ChoiceIndex>(wire).is_err(), "{wire}");
    }
}

/// What breaks a MUST cannot be built (CHO-02, LIM-01, OAU-03, TLS-07, TLS-08, TLS-11).
#[test]
fn wrong_values_cannot_be_built() {
    let tool = |name: &str, schema| Tool::new(ToolName::new(name).expect("a name"), "", map(schema));
    let object = || json!({"type": "object"});
    let toolset = |name: &str, tools| Toolset::new(name, url("http://h"), tools).map(|_| ());
    let choice = |choices: &[&str], default| {
        let choices = choices.iter().map(|c| (*c).to_owned()).collect();
        UserChoice::new(thread(), call(), "?", choices, default, url("http://h")).map(|_| ())
    };
    for (built, obligation, pointer) in [
        (toolset("", vec![tool("a", object())]), "TLS-11", "/name"),
        (toolset("n", vec![]), "TLS-11", "/tools"),
        (toolset("n", vec![tool("a", object()), tool("a", object())]), "TLS-07", "/tools/1/name"),
        (toolset("n", vec![tool("a", json!({}))]), "TLS-08", "/tools/0/inputSchema"),
        (choice(&[], 0), "CHO-02", "/choices"),
        (choice(&["y"], 1), "CHO-02", "/default"),
        (OAuth::new(thread(), call(), url("http://h")).map(|_| ()), "OAU-03", "/auth_url"),
        (Annotations::default().insert("readOnly", 1), "TLS-11", "/readOnly"),
        (UnknownKind::<ContentPart>::new("text", Map::new()).map(|_| ()), "TRN-13", "/type"),
    ] {
        let fault = built.expect_err(obligation);
        assert_eq!((fault.obligation(), fault.pointer()), (obligation, pointer), "{fault}");
    }
    assert_eq!(ThreadId::new("").expect_err("empty").obligation(), "LIM-01");
    assert_eq!(CallId::new("x".repeat(257)).expect_err("long").obligation(), "LIM-01");
    assert_eq!(ToolName::new("a b").expect_err("a space").obligation(), "TLS-07");
}

/// RES-03: what the model is to see.
#[test]
fn content_supersedes_text() {
    let result = ToolResult::content(thread(), call(), vec![ContentPart::text("c")]).with_text("t");
    assert_eq!(result.for_model(), [ContentPart::text("c")]);
    assert_eq!(ToolResult::text(thread(), call(), "t").for_model(), [ContentPart::text("t")]);
}

/// A base URL with or without a slash, with or without a path, gives the same addresses.
#[test]
fn paths_below_a_base_url() {
    for (base, expected) in [
        ("http://h", "http://h/close_thread"),
        ("http://h/", "http://h/close_thread"),
        ("http://h/rap", "http://h/rap/close_thread"),
        ("http://h/rap//", "http://h/rap/close_thread"),
        ("http://h/rap?x=1#y", "http://h/rap/close_thread"),
    ] {
        assert_eq!(url(base).below("close_thread").expect("a URL").as_str(), expected, "{base}");
    }
}
