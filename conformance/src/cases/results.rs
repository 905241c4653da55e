//! Outcomes: whose they are, what is in them, what is not.

use crate::{
    bench::{Bench, Call, UNKNOWN, failed, first_result, given, text},
    case::{Case, Need, Outcome, Tier, case},
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};

pub(super) const CASES: &[Case] = &[
    case!(
        "results/ids-echoed",
        "a result echoes group_id, id, and call_id when it was given, whatever is in them",
        ["RES-01"],
        Tier::Unknown,
        [],
        ids_echoed
    ),
    case!(
        "results/error-text-of-unknown-operation",
        "the error result of an unknown operation begins with \"Error: \" and leaks no internals",
        ["RES-07"],
        Tier::Unknown,
        [],
        error_text_of_unknown_operation
    ),
    case!(
        "results/error-text-of-failing-tool",
        "the error result of a tool that fails or crashes begins with \"Error: \" and leaks no internals",
        ["RES-07"],
        Tier::Fixture,
        [Need::Tool("fail")],
        error_text_of_failing_tool
    ),
    case!(
        "results/error-text-of-bad-arguments",
        "the error result of bad arguments begins with \"Error: \" and leaks no internals",
        ["RES-07"],
        Tier::Fixture,
        [Need::Tool("order")],
        error_text_of_bad_arguments
    ),
    case!(
        "results/image-after-text",
        "an image in content has a text before it, and display_as ends with a text",
        ["RES-12"],
        Tier::Fixture,
        [Need::Tool("image")],
        image_after_text
    ),
    case!(
        "results/diff-ends-with-text",
        "a diff in display_as is followed by a text",
        ["RES-12"],
        Tier::Fixture,
        [Need::Tool("diff")],
        diff_ends_with_text
    ),
    case!(
        "results/text-unchanged",
        "a text of any Unicode comes back as it was sent",
        ["TRN-01"],
        Tier::Fixture,
        [Need::Tool("echo")],
        text_unchanged
    ),
];

async fn ids_echoed(bench: Bench) -> Outcome {
    let odd = [
        "plain",
        "CamelCase",
        "",
        " spaces ",
        "ünï-🦀",
        "../../etc/passwd",
        "a\"b\\c",
        "%2e%2e",
        "null",
        "0",
        "line\nbreak",
    ];
    let error = bench.call(crate::bench::UNKNOWN, json!({})).with("call_id", "of an error").send().await;
    let mut calls = vec![bench.simplest().send().await, error];
    for word in odd {
        let id = format!("{word}{}", nonce());
        let draft = bench.simplest().with("id", id.clone()).thread(&format!("t{id}"));
        let draft = draft.with("thread_ancestors", json!([nonce(), nonce()]));
        calls.push(draft.with("call_id", word).send().await);
    }
    calls.retain(Call::acknowledged);
    let results = bench.all_owed(given(&calls), first_result).await;
    if results.iter().all(Option::is_none) {
        return Err(Stop::Inconclusive("no result came that could echo anything".to_owned()));
    }
    for (call, result) in calls.iter().zip(results) {
        let Some(result) = result else { continue };
        for name in ["group_id", "id", "call_id"] {
            let (sent, got) = (&call.body[name], result.member(name));
            if sent != got {
                let why = format!("the invocation said {name} {sent}, and its result says {got}");
                bench.fault("RES-01", why, &[call.sent.n, result.n]);
            }
        }
    }
    Ok(())
}

/// What betrays the insides of a server.
const INTERNALS: &[&str] = &[
    "Traceback (most recent",
    "panicked at",
    "stack backtrace",
    "\n    at ",
    "File \"/",
    ".rs:",
    ".py\", line",
    "goroutine ",
    "Exception in thread",
    "node_modules/",
    "site-packages/",
];

/// What is wrong with the text of an error result.
fn wrong_text(text: &str, secrets: &[&str]) -> Option<String> {
    if !text.starts_with("Error: ") {
        return Some(format!(
            "an error result does not begin with \"Error: \": {:?}",
            super::shortened(text)
        ));
    }
    if text.trim_end() == "Error:" {
        return Some("an error result says nothing beyond \"Error: \"".to_owned());
    }
    let leak = INTERNALS.iter().chain(secrets).find(|leak| text.contains(**leak))?;
    Some(format!("an error result leaks internals ({:?}): {:?}", leak.trim(), super::shortened(text)))
}

async fn judge_error(bench: &Bench, operation: &str, arguments: Value, secrets: &[&str]) -> Outcome {
    let (call, result) = bench.run(operation, arguments).await?;
    if let Some(why) = wrong_text(text(&result), secrets) {
        bench.fault("RES-07", why, &[call.sent.n, result.n]);
    } else {
        // The secret may stand in another member.
        let whole = result.message.as_ref().map(Value::to_string).unwrap_or_default();
        if let Some(secret) = secrets.iter().find(|secret| whole.contains(**secret)) {
            bench.fault(
                "RES-07",
                format!("an error result leaks internals: {secret:?}"),
                &[call.sent.n, result.n],
            );
        }
    }
    Ok(())
}

async fn error_text_of_unknown_operation(bench: Bench) -> Outcome {
    judge_error(&bench, UNKNOWN, json!({}), &[]).await
}

async fn error_text_of_failing_tool(bench: Bench) -> Outcome {
    let (secret, words) = (format!("secret-{}", nonce()), format!("words-{}", nonce()));
    let arguments = json!({ "how": "error", "text": words, "secret": secret });
    judge_error(&bench, "fail", arguments, &[&secret]).await?;
    judge_error(&bench, "fail", json!({ "how": "crash", "secret": secret }), &[&secret]).await
}

async fn error_text_of_bad_arguments(bench: Bench) -> Outcome {
    for arguments in
        [json!({}), json!({ "item": "milk", "amount": 1 }), json!({ "item": "tea", "amount": "1" })]
    {
        let (_, result) = bench.run("order", arguments.clone()).await?;
        // That it is an error at all is judged elsewhere.
        if failed(&result) {
            judge_error(&bench, "order", arguments, &[]).await?;
        }
    }
    Ok(())
}

async fn image_after_text(bench: Bench) -> Outcome {
    let (call, result) = bench.run("image", json!({})).await?;
    let content = result.member("content").as_array().cloned().unwrap_or_default();
    super::invocation::control(
        content.iter().any(|part| part["type"] == "image"),
        "the fixture's `image` sends no image",
    )?;
    if let Some(why) = crate::rules::image_before_text(&content) {
        bench.fault("RES-12", why, &[call.sent.n, result.n]);
    }
    last_is_text(&bench, &[call.sent.n, result.n], result.member("display_as"));
    Ok(())
}

async fn diff_ends_with_text(bench: Bench) -> Outcome {
    let (call, result) = bench.run("diff", json!({})).await?;
    last_is_text(&bench, &[call.sent.n, result.n], result.member("display_as"));
    Ok(())
}

fn last_is_text(bench: &Bench, numbers: &[u64], display: &Value) {
    if display.as_array().and_then(|all| all.last()).is_some_and(|last| last["type"] != "text") {
        bench.fault("RES-12", "display_as does not end with a text", numbers);
    }
}

async fn text_unchanged(bench: Bench) -> Outcome {
    for said in [
        "",
        "ünïcödé 🦀 \u{1f469}\u{200d}\u{1f680}",
        "\u{0}\u{1}\t\r\n",
        "</script>\"\\\u{2028}",
        "\u{feff}bom",
    ] {
        let (call, result) = bench.run("echo", json!({ "text": said })).await?;
        if text(&result) != said {
            let why = format!("the text {said:?} came back as {:?}", super::shortened(text(&result)));
            bench.fault("TRN-01", why, &[call.sent.n, result.n]);
        }
    }
    Ok(())
}
