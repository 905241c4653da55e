//! What a tool that was called does next, on any server: a question is answered, in other calls with what is no
//! answer; a subscription is cancelled before its result is answered.

use crate::{
    bench::{Bench, failed, first_result, text},
    case::{Case, Need, Outcome, Tier, case},
    listen::{Arrived, Gate, Reaction},
    verdict::Stop,
};
use serde_json::{Value, json};

pub(super) const CASES: &[Case] = &[
    case!(
        "followed/questions",
        "the questions of a tool are well-formed, and each answer is followed by a result",
        ["CHO-02", "CHO-03"],
        Tier::Tools,
        [Need::AnyTool],
        questions
    ),
    case!(
        "followed/subscriptions",
        "a subscription that is cancelled before its result is answered sends no event",
        ["SUB-07"],
        Tier::Tools,
        [Need::AnyTool],
        subscriptions
    ),
    case!(
        "followed/results",
        "the results of a tool are well-formed",
        ["RES-02"],
        Tier::Tools,
        [Need::AnyTool],
        results
    ),
];

/// The first message of a call, whatever it is.
async fn first(bench: &Bench, name: &str, arguments: Value) -> Option<(crate::bench::Call, Arrived)> {
    let call = bench.call(name, arguments).send().await;
    if !call.acknowledged() {
        return None;
    }
    let message = bench.owed(&call.given, |all| all.first().cloned()).await?;
    Some((call, message))
}

async fn questions(bench: Bench) -> Outcome {
    let mut asked = 0;
    for (name, arguments) in bench.tools() {
        let Some((call, question)) = first(&bench, &name, arguments.clone()).await else { continue };
        if !question.is("user_choice") {
            continue;
        }
        asked += 1;
        let choices = question.member("choices").as_array().map_or(0, Vec::len);
        let default = question.member("default").as_u64().and_then(|d| usize::try_from(d).ok());
        if choices == 0 || default.is_none_or(|d| d >= choices) {
            let why = format!(
                "`{name}` asks a question whose default is {} of {choices} choices",
                question.member("default")
            );
            bench.fault("CHO-02", why, &[call.sent.n, question.n]);
        }
        // Only its own default: another choice may do what nobody consented to.
        answer(&bench, &question, json!(default.unwrap_or(0))).await;
        if bench.owed(&call.given, first_result).await.is_none() {
            let why = format!("a question of `{name}` was answered, and no result came");
            bench.fault("CHO-03", why, &[call.sent.n, question.n]);
        }
        let Some((call, question)) = first(&bench, &name, arguments).await else { continue };
        if question.is("user_choice") {
            let sent = answer(&bench, &question, json!(choices)).await;
            match bench.owed(&call.given, first_result).await {
                Some(result) if failed(&result) => {}
                Some(result) => {
                    let why = format!(
                        "a question of `{name}` got the invalid answer {choices}, and the result is {:?}",
                        text(&result)
                    );
                    bench.fault("CHO-03", why, &[call.sent.n, question.n, sent, result.n]);
                }
                None => {
                    let why =
                        format!("a question of `{name}` got an invalid answer, and no error result came");
                    bench.fault("CHO-03", why, &[call.sent.n, question.n, sent]);
                }
            }
        }
    }
    if asked == 0 {
        return Err(Stop::Inconclusive("no tool that may be called asked a question".to_owned()));
    }
    Ok(())
}

async fn answer(bench: &Bench, question: &Arrived, selected: Value) -> u64 {
    let url = question.member("response_url").as_str().unwrap_or_default();
    bench.post(url, &json!({ "id": question.member("id"), "selected": selected })).await.n
}

async fn subscriptions(bench: Bench) -> Outcome {
    let mut subscribed = 0;
    for (name, arguments) in bench.tools() {
        let gate = Gate::default();
        let draft = bench.call(&name, arguments).react([Reaction::Hold(gate.clone(), 200)]);
        let call = draft.send().await;
        if !call.acknowledged() {
            continue;
        }
        let result = bench.owed(&call.given, |all| all.first().cloned()).await;
        let says_so = result.is_some_and(|r| r.member("subscription") == true);
        let notice = if says_so { Some(bench.cancel(&call).await.n) } else { None };
        gate.open();
        let Some(notice) = notice else { continue };
        subscribed += 1;
        bench.fence().await;
        if let Some(event) = call.messages("subscription_event").first() {
            let why = format!("a subscription of `{name}` was cancelled, and an event came afterwards");
            bench.fault("SUB-07", why, &[call.sent.n, notice, event.n]);
        }
    }
    if subscribed == 0 {
        return Err(Stop::Inconclusive("no tool that may be called made a subscription".to_owned()));
    }
    Ok(())
}

async fn results(bench: Bench) -> Outcome {
    for (name, arguments) in bench.tools() {
        let Some((call, message)) = first(&bench, &name, arguments).await else { continue };
        let bare = message.member("text").is_null() && message.member("content").is_null();
        if message.is("tool_result") && bare {
            let why = format!("the result of `{name}` has neither text nor content");
            bench.fault("RES-02", why, &[call.sent.n, message.n]);
        }
    }
    Ok(())
}
