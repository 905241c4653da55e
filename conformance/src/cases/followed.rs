//! What a tool that was called does next, on any server: a question is answered, in other calls with what is no
//! answer; a subscription is cancelled before its result is answered. Views, of which there may be any number before,
//! are let pass.

use crate::{
    bench::{Bench, Call, beside, failed, first_result, text},
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

/// Looks at all tools that may be called, beside each other; how many had something to be looked at.
async fn each<F>(bench: &Bench, look: fn(Bench, String, Value) -> F) -> usize
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let all = bench.tools().into_iter().map(|(name, arguments)| look(bench.clone(), name, arguments));
    beside(all.collect()).await.into_iter().flatten().count()
}

/// The first message that is not a view.
fn telling(all: &[Arrived]) -> Option<Arrived> {
    all.iter().find(|a| !a.is("view_update")).cloned()
}

/// The first message of a call that tells how it goes on.
async fn first(bench: &Bench, name: &str, arguments: Value) -> Option<(Call, Arrived)> {
    let call = bench.call(name, arguments).send().await;
    if !call.acknowledged() {
        return None;
    }
    let message = bench.owed(&call.given, telling).await?;
    Some((call, message))
}

async fn questions(bench: Bench) -> Outcome {
    if each(&bench, question).await == 0 {
        return Err(Stop::Inconclusive("no tool that may be called asked a question".to_owned()));
    }
    Ok(())
}

async fn question(bench: Bench, name: String, arguments: Value) -> Option<()> {
    let (call, question) = first(&bench, &name, arguments.clone()).await?;
    if !question.is("user_choice") {
        return None;
    }
    let choices = question.member("choices").as_array().map_or(0, Vec::len);
    let default = question.member("default").as_u64().and_then(|d| usize::try_from(d).ok());
    if choices == 0 || default.is_none_or(|d| d >= choices) {
        let default = question.member("default");
        let why = format!("`{name}` asks a question whose default is {default} of {choices} choices");
        bench.fault("CHO-02", why, &[call.sent.n, question.n]);
    }
    if !bench.owns(response_url(&question)) {
        let why = format!("the response_url of a question of `{name}` is not the server's own");
        bench.fault("CHO-02", why, &[call.sent.n, question.n]);
        bench.cancel(&call).await;
        return Some(());
    }
    if !answered(&bench, &call, question.clone()).await {
        let why = format!("a question of `{name}` was answered, and no result came");
        bench.fault("CHO-03", why, &[call.sent.n, question.n]);
    }
    let Some((call, question)) = first(&bench, &name, arguments).await else { return Some(()) };
    if question.is("user_choice") && bench.owns(response_url(&question)) {
        let sent = answer(&bench, &question, json!(choices)).await;
        match bench.owed(&call.given, first_result).await {
            Some(result) if failed(&result) => {}
            Some(result) => {
                let said = text(&result);
                let why = format!(
                    "a question of `{name}` got the invalid answer {choices}, and the result is {said:?}"
                );
                bench.fault("CHO-03", why, &[call.sent.n, question.n, sent, result.n]);
            }
            None => {
                let why = format!("a question of `{name}` got an invalid answer, and no error result came");
                bench.fault("CHO-03", why, &[call.sent.n, question.n, sent]);
            }
        }
    }
    Some(())
}

/// How many questions of one call are answered.
const QUESTIONS: usize = 8;

/// Answers a question and those that follow it; whether it ended well: in a result, or in a sign-in that is nobody's
/// here to make. Only ever by the default: another choice may do what nobody consented to.
async fn answered(bench: &Bench, call: &Call, mut question: Arrived) -> bool {
    for _ in 0..QUESTIONS {
        let default = question.member("default").as_u64().unwrap_or(0);
        answer(bench, &question, json!(default)).await;
        let asked = question.n;
        let next = |all: &[Arrived]| {
            let goes_on =
                |a: &&Arrived| a.is("tool_result") || (a.n > asked && (a.is("user_choice") || a.is("oauth")));
            all.iter().find(goes_on).cloned()
        };
        match bench.owed(&call.given, next).await {
            None => return false,
            Some(next) if next.is("user_choice") && bench.owns(response_url(&next)) => {
                // The same question again is a repeat of its delivery.
                if next.message == question.message {
                    return bench.owed(&call.given, first_result).await.is_some();
                }
                question = next;
            }
            Some(_) => break,
        }
    }
    true
}

fn response_url(question: &Arrived) -> &str {
    question.member("response_url").as_str().unwrap_or_default()
}

async fn answer(bench: &Bench, question: &Arrived, selected: Value) -> u64 {
    bench.post(response_url(question), &json!({ "id": question.member("id"), "selected": selected })).await.n
}

async fn subscriptions(bench: Bench) -> Outcome {
    if each(&bench, subscription).await == 0 {
        return Err(Stop::Inconclusive("no tool that may be called made a subscription".to_owned()));
    }
    Ok(())
}

async fn subscription(bench: Bench, name: String, arguments: Value) -> Option<()> {
    let gate = Gate::default();
    let held = Reaction::For("tool_result", Box::new(Reaction::Hold(gate.clone(), 200)));
    let draft = bench.call(&name, arguments).react([held]);
    let call = draft.send().await;
    if !call.acknowledged() {
        return None;
    }
    let result = bench.owed(&call.given, telling).await;
    let says_so = result.is_some_and(|r| r.member("subscription") == true);
    let notice = if says_so { Some(bench.cancel(&call).await.n) } else { None };
    gate.open();
    let notice = notice?;
    bench.fence().await;
    if let Some(event) = call.messages("subscription_event").first() {
        let why = format!("a subscription of `{name}` was cancelled, and an event came afterwards");
        bench.fault("SUB-07", why, &[call.sent.n, notice, event.n]);
    }
    Some(())
}

async fn results(bench: Bench) -> Outcome {
    if each(&bench, result).await == 0 {
        return Err(Stop::Inconclusive("no tool that may be called sent a result".to_owned()));
    }
    Ok(())
}

async fn result(bench: Bench, name: String, arguments: Value) -> Option<()> {
    let (call, message) = first(&bench, &name, arguments).await?;
    if !message.is("tool_result") {
        return None;
    }
    if message.member("text").is_null() && message.member("content").is_null() {
        let why = format!("the result of `{name}` has neither text nor content");
        bench.fault("RES-02", why, &[call.sent.n, message.n]);
    }
    Some(())
}
