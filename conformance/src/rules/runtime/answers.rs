//! How a runtime answers: callbacks by a status, questions by a choice.

use super::{Rule, View, callbacks, own};
use crate::{rules::Seen, schema, verdict::Finding};
use rap_spec::Role;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rule/runtime-refuses-bad-callback",
        title: "a callback that does not conform to its schema is refused with 4xx",
        obligations: &["TRN-08"],
        role: Role::Runtime,
        check: refuses_bad,
    },
    Rule {
        id: "rule/runtime-takes-by-200",
        title: "a callback that is taken is answered 200, not another 2xx or a redirect",
        obligations: &["TRN-09"],
        role: Role::Runtime,
        check: takes_by_200,
    },
    Rule {
        id: "rule/runtime-answers-question",
        title: "a question is answered with its id and the index of one of its choices",
        obligations: &["CHO-01"],
        role: Role::Runtime,
        check: answers_question,
    },
];

fn refuses_bad(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for callback in callbacks(view) {
        let fault = match &callback.body {
            Err(why) => Some(format!("is {why}")),
            Ok(body) => {
                schema::faults("callback", body).map(|why| format!("does not conform to its schema, {why}"))
            }
        };
        let (Some(why), Some(status)) = (fault, callback.exchange.status()) else { continue };
        let wrong = (!(400..500).contains(&status)).then(|| {
            let why = format!("a callback that {why}, was answered {status}, not 4xx");
            Finding::new("TRN-08", why, &[callback.exchange.n])
        });
        seen.look(wrong);
    }
    seen
}

fn takes_by_200(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for callback in callbacks(view) {
        let Some(status) = callback.exchange.status().filter(|s| (200..400).contains(s)) else { continue };
        let wrong = (status != 200).then(|| format!("a callback was answered {status}, not 200"));
        seen.look(wrong.map(|why| Finding::new("TRN-09", why, &[callback.exchange.n])));
    }
    seen
}

fn answers_question(view: &View<'_>) -> Seen {
    let mut seen = Seen::default();
    for question in callbacks(view).filter(|c| c.string("type") == Some("user_choice")) {
        let Some(url) = question.string("response_url") else { continue };
        let choices = question.member("choices").as_array().map_or(0, Vec::len) as u64;
        let answers = view.trace.iter().filter(|e| own(e) && e.method == "POST" && e.url == url);
        for answer in answers {
            let body = answer.body.json();
            let wrong = match &body {
                Err(why) => Some(format!("the answer to a question is {why}")),
                Ok(body) => {
                    let (id, selected) = (&body["id"], &body["selected"]);
                    if let Some(why) = schema::faults("choice_response", body) {
                        Some(format!("the answer to a question does not conform to its schema, {why}"))
                    } else if id != question.member("id") {
                        Some(format!("the answer to the question of {} says id {id}", question.member("id")))
                    } else if selected.as_u64().is_none_or(|index| index >= choices) {
                        Some(format!("a question with {choices} choices is answered with {selected}"))
                    } else {
                        None
                    }
                }
            };
            seen.look(wrong.map(|why| Finding::new("CHO-01", why, &[question.exchange.n, answer.n])));
        }
    }
    seen
}
