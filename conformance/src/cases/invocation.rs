//! Calls: checked, answered, done once, never mixed up.

use super::transport::acknowledged;
use crate::{
    arguments,
    bench::{Bench, Call, UNKNOWN, failed, first_result, given, text},
    case::{Case, Need, Outcome, Tier, case},
    listen::Arrived,
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};

pub(super) const CASES: &[Case] = &[
    case!(
        "invocation/unknown-operation",
        "an unknown operation is answered 200, and then by an error result",
        ["INV-05", "INV-06"],
        Tier::Unknown,
        [],
        unknown_operation
    ),
    case!(
        "invocation/near-names",
        "a name that is almost that of a tool is unknown: other case, spaces, a prefix",
        ["INV-05"],
        Tier::Fixture,
        [Need::Tool("count")],
        near_names
    ),
    case!(
        "invocation/bad-arguments",
        "arguments with a single fault are answered 200, and then by an error result",
        ["INV-06", "TLS-10"],
        Tier::Tools,
        [Need::AnyTool],
        bad_arguments
    ),
    case!(
        "invocation/arguments-no-object",
        "arguments that are no object are refused, not taken and not a failure of the server",
        ["INV-06"],
        Tier::Tools,
        [Need::AnyTool],
        arguments_no_object
    ),
    case!(
        "invocation/refused-has-no-effect",
        "a call with bad arguments changes nothing",
        ["INV-06"],
        Tier::Fixture,
        [Need::Tool("count")],
        refused_has_no_effect
    ),
    case!(
        "invocation/older-schema",
        "arguments that were made for an older schema get an error result",
        ["TLS-10"],
        Tier::Fixture,
        [Need::Tool("order")],
        older_schema
    ),
    case!(
        "invocation/valid-arguments",
        "a call with valid arguments is acknowledged and ends",
        ["INV-06", "INV-07"],
        Tier::Tools,
        [Need::AnyTool],
        valid_arguments
    ),
    case!(
        "invocation/failing-tool-ends",
        "a tool that fails, or crashes, ends its call in a result",
        ["INV-07"],
        Tier::Fixture,
        [Need::Tool("fail")],
        failing_tool_ends
    ),
    case!(
        "invocation/concurrent",
        "many calls at once, finished in another order, each reach their own URL with their own ids",
        ["INV-09"],
        Tier::Fixture,
        [Need::Tool("gate")],
        concurrent
    ),
    case!(
        "invocation/concurrent-texts",
        "many calls at once each get their own outcome",
        ["INV-09"],
        Tier::Fixture,
        [Need::Tool("echo")],
        concurrent_texts
    ),
    case!(
        "invocation/same-id-in-another-thread",
        "the same id in another thread is another call",
        ["INV-09"],
        Tier::Unknown,
        [],
        same_id_in_another_thread
    ),
    case!(
        "invocation/sent-again",
        "a call that arrives again does its work once",
        ["INV-10"],
        Tier::Fixture,
        [Need::Tool("count")],
        sent_again
    ),
    case!(
        "invocation/sent-again-while-it-works",
        "a call that arrives again while it works does its work once",
        ["INV-10"],
        Tier::Fixture,
        [Need::Tool("gate")],
        sent_again_while_it_works
    ),
    case!(
        "invocation/large",
        "ids of 256 bytes and arguments of 256 KiB are taken",
        ["LIM-01"],
        Tier::Unknown,
        [],
        large
    ),
    case!(
        "invocation/large-text-returned",
        "a text of 250 KiB and a result of a megabyte arrive whole",
        ["LIM-01"],
        Tier::Fixture,
        [Need::Tool("big")],
        large_text_returned
    ),
];

/// Words by which a result says that it does not know an operation.
const UNKNOWN_WORDS: &[&str] =
    &["unknown", "not found", "no such", "no tool", "unsupported", "not supported", "invalid"];

/// That the server takes nothing at the moment is no answer to what was asked.
fn not_now(call: &Call) -> Outcome {
    if matches!(call.sent.status(), Some(429 | 503)) {
        let words = call.sent.words();
        return Err(Stop::Inconclusive(format!("the call {words}: too much at once; hint: --jobs 1")));
    }
    Ok(())
}

async fn unknown_operation(bench: Bench) -> Outcome {
    let operation = format!("{UNKNOWN}_{}", nonce());
    let call = bench.call(&operation, json!({})).send().await;
    not_now(&call)?;
    if call.sent.status() != Some(200) {
        let words = call.sent.words();
        return bench.broken(
            "INV-06",
            format!("an invocation of an unknown operation {words}, not 200"),
            &[call.sent.n],
        );
    }
    let Some(result) = bench.owed(&call.given, first_result).await else {
        let why = "an unknown operation was acknowledged, and no result came";
        return bench.broken("INV-06", why, &[call.sent.n]);
    };
    let said = text(&result);
    let words = said.to_lowercase();
    if failed(&result) || (!bench.fixture && UNKNOWN_WORDS.iter().any(|word| words.contains(word))) {
        return Ok(());
    }
    if bench.fixture {
        let why = format!("an operation that no tool has got the result {said:?}, which is no error");
        bench.fault("INV-05", why, &[call.sent.n, result.n]);
        return Ok(());
    }
    // Who names what it does not have has looked; for the rest, errors are told in many words and languages.
    if said.contains(&operation) || said.contains(UNKNOWN) {
        return Ok(());
    }
    Err(Stop::Inconclusive(format!(
        "whether the result {:?} is an error nobody can tell; hint: error texts begin with \"Error: \" (RES-07)",
        shortened(said)
    )))
}

async fn near_names(bench: Bench) -> Outcome {
    let mut calls = Vec::new();
    for name in
        ["COUNT", "Count", " count", "count ", "coun", "counter", "count\u{0}", "../count", "rap:count"]
    {
        calls.push(bench.call(name, json!({ "key": nonce(), "add": 1 })).send().await);
    }
    bench.all_owed(given(calls.iter().filter(|call| call.acknowledged())), first_result).await;
    for call in &calls {
        let value = bench.ask("count", json!({ "key": call.body["arguments"]["key"] })).await?;
        if value != "0" {
            let name = &call.body["operation"];
            let why = format!("the operation {name}, which no tool has, did the work of `count`");
            return bench.broken("INV-05", why, &[call.sent.n]);
        }
    }
    let key = nonce();
    let value = bench.ask("count", json!({ "key": key, "add": 1 })).await?;
    control(value == "1", "the right name does not count either")
}

/// A positive control that does not hold leaves the case without ground.
pub(super) fn control(holds: bool, why: &str) -> Outcome {
    if holds { Ok(()) } else { Err(Stop::Inconclusive(format!("the control does not hold: {why}"))) }
}

/// How many single faults are tried on one tool of a stranger.
const FAULTS_A_TOOL: usize = 8;

async fn bad_arguments(bench: Bench) -> Outcome {
    let mut tried = 0;
    for (name, valid) in bench.tools() {
        let Some(tool) = bench.toolset.tool(&name) else { continue };
        let faults: Vec<(String, Value)> =
            arguments::faults(tool.schema(), &valid).into_iter().take(FAULTS_A_TOOL).collect();
        let mut calls = Vec::new();
        for (fault, arguments) in faults {
            calls.push((fault, bench.call(&name, arguments).send().await));
        }
        for (fault, call) in calls {
            tried += 1;
            let what = format!("`{name}` with {fault}");
            not_now(&call)?;
            if judge_refusal(&bench, &what, &call, &["INV-06", "TLS-10"]).await {
                // Silence is waited for; once is enough.
                return Ok(());
            }
        }
    }
    if tried == 0 {
        return Err(Stop::Inconclusive(
            "the schemas of the tools that may be called refuse nothing".to_owned(),
        ));
    }
    Ok(())
}

/// A call that should have been acknowledged and then ended in an error result. The first obligation is broken by
/// anything else, the second by silence after the acknowledgement, which is said.
async fn judge_refusal(bench: &Bench, what: &str, call: &Call, [refused, silent]: &[&str; 2]) -> bool {
    if call.sent.status() != Some(200) {
        let words = call.sent.words();
        bench.fault(
            refused,
            format!("a call of {what} {words}; it should be 200 and then an error result"),
            &[call.sent.n],
        );
        return false;
    }
    match bench.owed(&call.given, first_result).await {
        None => {
            let why = format!("a call of {what} was acknowledged, and no result came");
            bench.fault(silent, why, &[call.sent.n]);
            return true;
        }
        Some(result) if !failed(&result) => {
            let why =
                format!("a call of {what} was not refused; its result is {:?}", shortened(text(&result)));
            bench.fault(refused, why, &[call.sent.n, result.n]);
        }
        Some(_) => {}
    }
    false
}

/// A text for a sentence.
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

async fn arguments_no_object(bench: Bench) -> Outcome {
    let Some((name, _)) = bench.tools().into_iter().next() else { return Ok(()) };
    let mut calls = Vec::new();
    for arguments in [json!("text"), json!([1]), json!(7), json!(null)] {
        calls.push(bench.call(&name, arguments).send().await);
    }
    for call in &calls {
        let arguments = &call.body["arguments"];
        if call.sent.status().is_none_or(|status| status >= 500) {
            let why = format!("an invocation whose arguments are {arguments} {}", call.sent.words());
            bench.fault("INV-06", why, &[call.sent.n]);
        }
    }
    calls.retain(Call::acknowledged);
    let results = bench.all_owed(given(&calls), first_result).await;
    for (call, result) in calls.iter().zip(results) {
        let arguments = &call.body["arguments"];
        if let Some(result) = result
            && !failed(&result)
            && !arguments.is_null()
        {
            let why = format!("an invocation whose arguments are {arguments} was not refused");
            bench.fault("INV-06", why, &[call.sent.n, result.n]);
        }
    }
    Ok(())
}

async fn refused_has_no_effect(bench: Bench) -> Outcome {
    let mut calls = Vec::new();
    for add in [json!("1"), json!(1.5), json!(-1), json!(1001), json!([1]), json!(true)] {
        calls.push(bench.call("count", json!({ "key": nonce(), "add": add })).send().await);
    }
    bench.all_owed(given(calls.iter().filter(|call| call.acknowledged())), first_result).await;
    for call in &calls {
        let value = bench.ask("count", json!({ "key": call.body["arguments"]["key"] })).await?;
        if value != "0" {
            let add = &call.body["arguments"]["add"];
            let why = format!(
                "`count` with \"add\": {add}, which its schema refuses, changed the counter to {value}"
            );
            return bench.broken("INV-06", why, &[call.sent.n]);
        }
    }
    let value = bench.ask("count", json!({ "key": nonce(), "add": 1 })).await?;
    control(value == "1", "a right call does not count either")
}

async fn older_schema(bench: Bench) -> Outcome {
    let (_, right) = bench.run("order", json!({ "item": "tea", "amount": 1 })).await?;
    control(!failed(&right), "an order by the present schema is refused")?;
    let call = bench.call("order", json!({ "drink": "tea", "amount": 1 })).send().await;
    if !call.acknowledged() {
        // Not silence: the runtime makes an error of it; that it should be 200 is INV-06's.
        return Ok(());
    }
    match bench.owed(&call.given, first_result).await {
        None => bench.fault(
            "TLS-10",
            "a call by an older schema was acknowledged, and no result came",
            &[call.sent.n],
        ),
        Some(result) if !failed(&result) => {
            bench.fault("TLS-10", "a call by an older schema was not refused", &[call.sent.n, result.n]);
        }
        Some(_) => {}
    }
    Ok(())
}

async fn valid_arguments(bench: Bench) -> Outcome {
    let mut calls = Vec::new();
    for (name, arguments) in bench.tools() {
        calls.push((name.clone(), bench.call(&name, arguments).send().await));
    }
    let outcome = |all: &[Arrived]| {
        let is = |a: &&Arrived| a.is("tool_result") || a.is("oauth") || a.is("user_choice");
        all.iter().find(is).cloned()
    };
    let came = bench.all_owed(given(calls.iter().map(|(_, call)| call)), outcome).await;
    let mut busy = Ok(());
    for ((name, call), came) in calls.into_iter().zip(came) {
        if matches!(call.sent.status(), Some(429 | 503)) {
            busy = busy.and(not_now(&call));
        } else if !call.acknowledged() {
            // Only what was acknowledged has to end; that it is acknowledged first, INV-06 says.
            let why = format!("a valid call of `{name}` {}", call.sent.words());
            bench.fault("INV-06", why, &[call.sent.n]);
        } else if came.is_none() {
            let why = format!("a valid call of `{name}` was acknowledged, and no outcome came");
            bench.fault("INV-07", why, &[call.sent.n]);
        }
    }
    busy
}

async fn failing_tool_ends(bench: Bench) -> Outcome {
    let mut calls = Vec::new();
    for how in ["error", "crash"] {
        let call = bench.call("fail", json!({ "how": how, "secret": nonce() })).send().await;
        acknowledged!(call);
        calls.push((how, call));
    }
    let came = bench.all_owed(given(calls.iter().map(|(_, call)| call)), first_result).await;
    for ((how, call), came) in calls.iter().zip(came) {
        if came.is_none() {
            let why = format!("a tool that fails (how: {how}) left its call without a result");
            bench.fault("INV-07", why, &[call.sent.n]);
        }
    }
    Ok(())
}

const MANY: usize = 12;

async fn concurrent(bench: Bench) -> Outcome {
    let shared = nonce();
    let mut calls = Vec::new();
    for n in 0..MANY {
        let key = nonce();
        let draft = bench.call("gate", json!({ "key": key })).with("call_id", format!("second-{n}"));
        // Pairs share their id, in threads of their own.
        let call = draft.with("id", format!("call-{shared}-{}", n / 2)).send().await;
        acknowledged!(call);
        calls.push((key, call));
    }
    for (key, _) in calls.iter().rev() {
        bench.call("open", json!({ "key": key })).send().await;
    }
    for (_, call) in &calls {
        own_outcome(&bench, call, None).await?;
    }
    Ok(())
}

/// Whether exactly the outcome of this call came to its URL.
async fn own_outcome(bench: &Bench, call: &Call, said: Option<&str>) -> Outcome {
    let Some(result) = bench.owed(&call.given, first_result).await else {
        let why = "of calls made at once, one got no outcome at its URL";
        return bench.broken("INV-09", why, &[call.sent.n]);
    };
    for name in ["group_id", "id", "call_id"] {
        let (sent, got) = (&call.body[name], result.member(name));
        if !sent.is_null() && sent != got {
            let why = format!("of calls made at once, one said {name} {sent}, and its outcome says {got}");
            bench.fault("INV-09", why, &[call.sent.n, result.n]);
        }
    }
    if said.is_some_and(|said| said != text(&result)) {
        bench.fault("INV-09", "of calls made at once, one got the text of another", &[call.sent.n, result.n]);
    }
    Ok(())
}

async fn concurrent_texts(bench: Bench) -> Outcome {
    let mut sending = tokio::task::JoinSet::new();
    // All in one thread, where only ids and URLs tell them apart.
    let thread = format!("thread-{}", nonce());
    for _ in 0..MANY {
        let said = nonce();
        let draft = bench.call("echo", json!({ "text": said })).thread(&thread);
        sending.spawn(async move { (said, draft.send().await) });
    }
    while let Some(Ok((said, call))) = sending.join_next().await {
        acknowledged!(call);
        own_outcome(&bench, &call, Some(&said)).await?;
    }
    Ok(())
}

async fn same_id_in_another_thread(bench: Bench) -> Outcome {
    let id = format!("call-{}", nonce());
    let first = bench.simplest().with("id", id.clone()).send().await;
    let second = bench.simplest().with("id", id).send().await;
    acknowledged!(first);
    bench.result(&first).await?;
    if !second.acknowledged() || bench.owed(&second.given, first_result).await.is_none() {
        let why = "a call with the id of another thread's call got no outcome of its own";
        bench.fault("INV-09", why, &[first.sent.n, second.sent.n]);
    }
    Ok(())
}

/// Sends the same bytes again.
async fn again(bench: &Bench, call: &Call) -> crate::http::Sent {
    bench.post(&bench.place().endpoint, &call.body).await
}

async fn sent_again(bench: Bench) -> Outcome {
    let key = nonce();
    let (call, _) = bench.run("count", json!({ "key": key, "add": 1 })).await?;
    let second = again(&bench, &call).await;
    let third = again(&bench, &call).await;
    if second.status() != Some(200) {
        let why =
            format!("a call that was sent again {}; a runtime takes that for a failed call", second.words());
        bench.fault("INV-10", why, &[call.sent.n, second.n]);
    }
    // The fence of the counter itself: whatever the repeats do, they had their time.
    bench.fence().await;
    bench.fence().await;
    let value = bench.ask("count", json!({ "key": key })).await?;
    if value != "1" {
        let why = format!("a call that was sent three times, with the same ids, did its work {value} times");
        return bench.broken("INV-10", why, &[call.sent.n, second.n, third.n]);
    }
    let value = bench.ask("count", json!({ "key": key, "add": 1 })).await?;
    control(value == "2", "a call with an id of its own does not count")
}

async fn sent_again_while_it_works(bench: Bench) -> Outcome {
    let (key, counter) = (nonce(), nonce());
    let call = bench.call("gate", json!({ "key": key, "count": counter })).send().await;
    acknowledged!(call);
    bench.waiting(&key, 1).await?;
    let second = again(&bench, &call).await;
    bench.fence().await;
    bench.run("open", json!({ "key": key })).await?;
    bench.result(&call).await?;
    bench.fence().await;
    let value = bench.ask("count", json!({ "key": counter })).await?;
    if value != "1" {
        let why = format!("a call that was sent again while it worked did its work {value} times");
        bench.fault("INV-10", why, &[call.sent.n, second.n]);
    }
    Ok(())
}

/// An id of 256 bytes that nobody used before.
fn longest_id() -> String {
    let mut id = format!("{}-{}", nonce(), "i".repeat(240));
    id.truncate(256);
    id
}

async fn large(bench: Bench) -> Outcome {
    let draft = bench.simplest().with("id", longest_id()).with("call_id", longest_id());
    let call = draft.thread(&longest_id()).with("user_id", longest_id()).send().await;
    let ids = call;
    // Within the arguments' limit with room for their names; a member that no schema knows may be refused by the
    // tool, never by the transport.
    let mut arguments = bench.fence.1.clone();
    arguments["text"] = json!("x".repeat(250 * 1024));
    let call = bench.call(&bench.fence.0, arguments).send().await;
    tokio::join!(
        judge_size(&bench, "ids of 256 bytes", &ids),
        judge_size(&bench, "arguments of 250 KiB", &call)
    );
    Ok(())
}

async fn judge_size(bench: &Bench, what: &str, call: &Call) {
    if !call.acknowledged() {
        bench.fault("LIM-01", format!("an invocation with {what} {}", call.sent.words()), &[call.sent.n]);
    } else if bench.owed(&call.given, first_result).await.is_none() {
        bench.fault(
            "LIM-01",
            format!("an invocation with {what} was acknowledged, and no result came"),
            &[call.sent.n],
        );
    }
}

async fn large_text_returned(bench: Bench) -> Outcome {
    let said = format!("{}{}", nonce(), "é".repeat(125 * 1024));
    let (call, result) = bench.run("echo", json!({ "text": said })).await?;
    if text(&result) != said {
        let why = format!("a text of {} bytes came back with {} bytes", said.len(), text(&result).len());
        bench.fault("LIM-01", why, &[call.sent.n]);
    }
    let (call, result) = bench.run("big", json!({ "bytes": 1_000_000 })).await?;
    if text(&result).len() != 1_000_000 {
        let why = format!("a result of 1000000 bytes came with {}", text(&result).len());
        bench.fault("LIM-01", why, &[call.sent.n]);
    }
    Ok(())
}
