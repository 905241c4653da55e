//! Questions to the user, and views.

use super::{invocation::control, transport::acknowledged};
use crate::{
    bench::{Bench, Call, beside, failed, first_result, text},
    case::{Case, Need, Outcome, Tier, case},
    http::Sent,
    listen::Arrived,
    nonce::nonce,
    verdict::Stop,
};
use serde_json::{Value, json};

const CHOOSE: Need = Need::Tool("choose");

pub(super) const CASES: &[Case] = &[
    case!(
        "choices/answered",
        "a valid answer is followed by a tool_result",
        ["CHO-03"],
        Tier::Fixture,
        [CHOOSE],
        answered
    ),
    case!(
        "choices/invalid-index",
        "an answer that is no index of the choices is followed by an error result",
        ["CHO-03"],
        Tier::Fixture,
        [CHOOSE],
        invalid_index
    ),
    case!(
        "choices/of-another-call",
        "an answer that names another call is refused, or ends in an error result; it chooses nothing",
        ["CHO-03"],
        Tier::Fixture,
        [CHOOSE],
        of_another_call
    ),
    case!(
        "choices/answered-twice",
        "a second answer has no effect: 200 or 409, and no second result",
        ["CHO-03"],
        Tier::Fixture,
        [CHOOSE],
        answered_twice
    ),
    case!(
        "choices/well-formed",
        "a question has choices, a default among them, and a response_url of the server's own",
        ["CHO-02"],
        Tier::Fixture,
        [CHOOSE],
        well_formed
    ),
    case!(
        "choices/impossible",
        "a question without choices, or with a default that is none of them, is never sent",
        ["CHO-02"],
        Tier::Fixture,
        [CHOOSE],
        impossible
    ),
    case!(
        "choices/waits",
        "a question that was not answered has no result",
        ["CHO-03"],
        Tier::Fixture,
        [CHOOSE],
        waits
    ),
    case!(
        "views/cleared",
        "a view is shown with its content, and cleared by empty content",
        ["VIW-03"],
        Tier::Fixture,
        [Need::Tool("view")],
        cleared
    ),
];

async fn asked(bench: &Bench, counter: Option<&str>) -> Result<(Call, Arrived), Stop> {
    let mut arguments = json!({ "prompt": "Which?", "choices": ["red", "green", "blue"], "default": 1 });
    if let Some(counter) = counter {
        arguments["count"] = counter.into();
    }
    let call = bench.call("choose", arguments).send().await;
    let question = bench.first(&call, "user_choice").await?;
    Ok((call, question))
}

async fn answer(bench: &Bench, question: &Arrived, selected: Value) -> Sent {
    let url = question.member("response_url").as_str().unwrap_or_default().to_owned();
    bench.post(&url, &json!({ "id": question.member("id"), "selected": selected })).await
}

async fn answered(bench: Bench) -> Outcome {
    for (index, word) in [(0, "red"), (2, "blue")] {
        let (call, question) = asked(&bench, None).await?;
        let sent = answer(&bench, &question, json!(index)).await;
        match bench.owed(&call.given, first_result).await {
            None => {
                let why = format!("a valid answer {}, and no result came", sent.words());
                bench.fault("CHO-03", why, &[call.sent.n, question.n, sent.n]);
            }
            Some(result) if text(&result) != word => {
                let why = format!("the answer was {index} ({word}), and the result says {:?}", text(&result));
                bench.fault("CHO-03", why, &[call.sent.n, question.n, sent.n, result.n]);
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Answers that choose nothing. Those that are no number of a choice at all may be refused by 4xx, and leave the
/// question open then.
fn invalid() -> Vec<(Option<Value>, bool)> {
    let out_of_range = [json!(3), json!(4_294_967_296_u64)].map(|it| (Some(it), false));
    let no_index = [json!(-1), json!("0"), json!(1.5), json!(true), json!(null), json!([0])];
    let no_index = no_index.map(|it| (Some(it), true));
    out_of_range.into_iter().chain(no_index).chain([(None, true)]).collect()
}

async fn invalid_index(bench: Bench) -> Outcome {
    let counter = nonce();
    // Beside each other: silence is waited for once.
    let tries = invalid().into_iter().map(|(selected, may_refuse)| {
        let (bench, counter) = (bench.clone(), counter.clone());
        async move { invalid_answer(&bench, &counter, selected, may_refuse).await }
    });
    let mut sent = Vec::new();
    for tried in beside(tries.collect()).await {
        sent.push(tried?);
    }
    let (call, question) = asked(&bench, Some(&counter)).await?;
    sent.push(answer(&bench, &question, json!(0)).await.n);
    bench.result(&call).await?;
    let value = bench.ask("count", json!({ "key": counter })).await?;
    if value != "1" {
        let why = format!("invalid answers and a single valid one had the effect of {value} valid ones");
        bench.fault("CHO-03", why, &sent);
    }
    Ok(())
}

/// Gives an answer that chooses nothing, and returns the number of its exchange.
async fn invalid_answer(
    bench: &Bench,
    counter: &str,
    selected: Option<Value>,
    may_refuse: bool,
) -> Result<u64, Stop> {
    let (call, question) = asked(bench, Some(counter)).await?;
    let shown = selected.as_ref().map_or("without `selected`".to_owned(), Value::to_string);
    let sent = match selected {
        Some(selected) => answer(bench, &question, selected).await,
        None => {
            let url = question.member("response_url").as_str().unwrap_or_default();
            bench.post(url, &json!({ "id": question.member("id") })).await
        }
    };
    let numbers = [call.sent.n, question.n, sent.n];
    let refused = may_refuse && sent.status().is_some_and(|s| (400..500).contains(&s));
    let result = if refused {
        call.given.wait_for(std::time::Duration::ZERO, first_result).await
    } else {
        bench.owed(&call.given, first_result).await
    };
    match result {
        None if refused => {
            answer(bench, &question, json!(3)).await;
        }
        None => {
            let why = format!("the invalid answer {shown} {}, and no error result came", sent.words());
            bench.fault("CHO-03", why, &numbers);
        }
        Some(result) if !failed(&result) => {
            let why = format!("the invalid answer {shown} was taken: {:?}", text(&result));
            bench.fault("CHO-03", why, &numbers);
        }
        Some(_) => {}
    }
    Ok(sent.n)
}

async fn of_another_call(bench: Bench) -> Outcome {
    let (call, question) = asked(&bench, None).await?;
    let (other, second) = asked(&bench, None).await?;
    let url = question.member("response_url").as_str().unwrap_or_default();
    let sent = bench.post(url, &json!({ "id": other.id, "selected": 0 })).await;
    let numbers = [call.sent.n, question.n, sent.n];
    let refused = sent.status().is_some_and(|s| (400..500).contains(&s));
    let result = if refused {
        bench.fence().await;
        first_result(&call.given.arrived())
    } else {
        bench.owed(&call.given, first_result).await
    };
    match &result {
        Some(result) if !failed(result) => {
            let why =
                format!("an answer that names another call was taken for this one's: {:?}", text(result));
            return bench.broken("CHO-03", why, &numbers);
        }
        None if !refused => {
            let why = format!(
                "an answer that names another call {}, and no error result came; it should be 4xx, or an error",
                sent.words()
            );
            bench.fault("CHO-03", why, &numbers);
        }
        _ => {}
    }
    // Neither question is spoilt by it: the control, which names its own call.
    let still_open =
        if result.is_none() { vec![(&call, &question), (&other, &second)] } else { vec![(&other, &second)] };
    for (call, question) in still_open {
        answer(&bench, question, json!(2)).await;
        let result = bench.result(call).await?;
        control(text(&result) == "blue", "an answer that names its own call does not reach the tool")?;
    }
    Ok(())
}

async fn answered_twice(bench: Bench) -> Outcome {
    let counter = nonce();
    let (call, question) = asked(&bench, Some(&counter)).await?;
    answer(&bench, &question, json!(0)).await;
    bench.result(&call).await?;
    let second = answer(&bench, &question, json!(1)).await;
    let numbers = [call.sent.n, question.n, second.n];
    if second.status().is_none_or(|status| status >= 500) {
        bench.fault("CHO-03", format!("a second answer {}", second.words()), &numbers);
    }
    bench.fence().await;
    let value = bench.ask("count", json!({ "key": counter })).await?;
    let other = call.messages("tool_result").into_iter().find(|r| text(r) != "red");
    if value != "1" || other.is_some() {
        bench.fault("CHO-03", "a second answer to a question had an effect", &numbers);
    }
    Ok(())
}

async fn well_formed(bench: Bench) -> Outcome {
    let (call, question) = asked(&bench, None).await?;
    let (other, second) = asked(&bench, None).await?;
    let numbers = [call.sent.n, question.n];
    if *question.member("choices") != json!(["red", "green", "blue"]) {
        let why = format!("the choices are {}, not those that were asked for", question.member("choices"));
        bench.fault("CHO-02", why, &numbers);
    }
    if question.member("default").as_f64() != Some(1.0) {
        let why = format!("the default is {}, not the one that was asked for", question.member("default"));
        bench.fault("CHO-02", why, &numbers);
    }
    let url = question.member("response_url").as_str().unwrap_or_default();
    if !bench.owns(url) {
        bench.fault("CHO-02", format!("the response_url {url:?} is not the server's own"), &numbers);
    }
    if url == second.member("response_url") {
        let why = "two questions have the same response_url";
        bench.fault("CHO-02", why, &[call.sent.n, question.n, other.sent.n, second.n]);
    }
    for (call, question) in [(call, question), (other, second)] {
        answer(&bench, &question, json!(0)).await;
        bench.cancel(&call).await;
    }
    Ok(())
}

async fn impossible(bench: Bench) -> Outcome {
    let prompt = "Which?";
    for arguments in [
        json!({ "prompt": prompt, "choices": [] }),
        json!({ "prompt": prompt, "choices": ["only"], "default": 1 }),
        json!({ "prompt": prompt, "choices": ["only"], "default": 7 }),
    ] {
        let call = bench.call("choose", arguments.clone()).send().await;
        acknowledged!(call);
        let any = bench.owed(&call.given, |all| all.first().cloned()).await;
        let question = call.messages("user_choice");
        if let Some(question) = question.first() {
            let why = format!("a question was asked that nobody can answer: {arguments}");
            bench.fault("CHO-02", why, &[call.sent.n, question.n]);
            bench.cancel(&call).await;
        } else if any.is_none() {
            return Err(Stop::Inconclusive(format!("nothing came of {arguments}")));
        }
    }
    Ok(())
}

async fn waits(bench: Bench) -> Outcome {
    let (call, question) = asked(&bench, None).await?;
    bench.fence().await;
    if let Some(result) = first_result(&call.given.arrived()) {
        let why = "a question that nobody has answered got a result";
        return bench.broken("CHO-03", why, &[call.sent.n, question.n, result.n]);
    }
    answer(&bench, &question, json!(1)).await;
    let result = bench.result(&call).await?;
    control(text(&result) == "green", "the answer did not reach the tool")
}

async fn cleared(bench: Bench) -> Outcome {
    let kind = format!("view-{}", nonce());
    let content = json!({ "rows": [1, 2.5, null, "ü"], "deep": { "a": [] } });
    let (shown, _) = bench.run("view", json!({ "view_type": kind, "content": content })).await?;
    let update = bench.first(&shown, "view_update").await?;
    control(
        *update.member("content") == content && update.member("view_type") == kind.as_str(),
        "the view is not shown with the content that it was given",
    )?;
    let (call, _) = bench.run("view", json!({ "view_type": kind })).await?;
    let Some(update) = bench.owed(&call.given, |all| all.iter().find(|a| a.is("view_update")).cloned()).await
    else {
        return bench.broken("VIW-03", "a view was cleared, and no view_update came", &[call.sent.n]);
    };
    let empty = update.member("content").as_object().is_some_and(serde_json::Map::is_empty);
    if !empty {
        let why =
            format!("a view was cleared by the content {}, which is not empty", update.member("content"));
        bench.fault("VIW-03", why, &[call.sent.n, update.n]);
    }
    Ok(())
}
