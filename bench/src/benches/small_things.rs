//! B11: what is done to every message: a capability checked, arguments judged, a callback read.

use crate::harness::{Bench, Gate, Plan, Report, Row, in_turns, micros};
use rap_client::KeyRing;
use rap_types::{
    CallId, CallbackMessage, ContentPart, HttpUrl, SubscriptionEvent, ThreadId, ToolResult, UserChoice,
    parse, validate::CompiledSchema,
};
use serde_json::{Map, Value, json};
use std::{convert::Infallible, hint::black_box, time::Duration};

pub(crate) struct SmallThings;

impl Bench for SmallThings {
    fn id(&self) -> &'static str {
        "B11"
    }

    fn title(&self) -> &'static str {
        "capability, arguments, callback"
    }

    fn about(&self) -> &'static str {
        "One thread, in memory. A capability is checked from its text; arguments of six members are judged by a compiled \
         schema; a callback is read from bytes into the types, all its rules checked. Floor of the last: `serde_json::Value` \
         from the same bytes."
    }

    fn run(&self, plan: &Plan) -> Result<Report, String> {
        let mut report = Report::default();
        let round = plan.round() / 10;
        let rounds = plan.rounds();

        let keys = KeyRing::generate().map_err(|e| e.to_string())?;
        let token = keys.mint(&thread(), &call());
        let check = crate::harness::median(
            (0..rounds).map(|_| micros(round, || drop(black_box(keys.check(black_box(&token)))))).collect(),
        );
        report.rows.push(Row::new("capability check", "µs", check).gate(Gate::AtMost(20.0)));

        for (what, arguments) in arguments() {
            let schema = schema()?;
            let judged = schema.check_arguments(&arguments).is_ok();
            let what = format!("arguments, {what}");
            let time = crate::harness::median(
                (0..rounds)
                    .map(|_| micros(round, || drop(black_box(schema.check_arguments(black_box(&arguments))))))
                    .collect(),
            );
            // Telling what is wrong is not in the gate: it happens once, and a model waits for it.
            let gate = if judged { Gate::AtMost(10.0) } else { Gate::None };
            report.rows.push(Row::new(what, "µs", time).gate(gate));
        }

        for (what, message) in messages() {
            let body = serde_json::to_vec(&message).map_err(|e| e.to_string())?;
            parse::<CallbackMessage>(&body).map_err(|fault| fault.to_string())?;
            let what = format!("{what} ({} bytes)", body.len());
            let (ours, floor) = beside(round, rounds, &body);
            report.rows.push(Row::new(what, "µs", ours).floor(floor).gate(Gate::RatioAtMost(1.3)));
        }
        Ok(report)
    }
}

fn beside(round: Duration, rounds: usize, body: &[u8]) -> (f64, f64) {
    let ours = || Ok(micros(round, || drop(black_box(parse::<CallbackMessage>(black_box(body))))));
    let floor = || Ok(micros(round, || drop(black_box(serde_json::from_slice::<Value>(black_box(body))))));
    match in_turns::<Infallible>(rounds, ours, floor) {
        Ok(figures) => figures,
        Err(never) => match never {},
    }
}

fn thread() -> ThreadId {
    ThreadId::new("01981f0e-3c1a-7b6e-9a51-6f3d2b8c4e70").expect("bug: a thread's id")
}

fn call() -> CallId {
    CallId::new("01981f0e-3c1b-7d02-8f44-0a9b7c6d5e4f").expect("bug: a call's id")
}

fn schema() -> Result<CompiledSchema, String> {
    let schema = json!({"type": "object", "required": ["city", "days"], "additionalProperties": false, "properties": {
        "city": {"type": "string", "minLength": 2, "maxLength": 100},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "units": {"enum": ["metric", "imperial"]},
        "at": {"type": "object", "required": ["lat", "lon"], "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}}},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "maxItems": 10},
        "verbose": {"type": "boolean"}
    }});
    let Value::Object(schema) = schema else { return Err("bug: a schema is an object".to_owned()) };
    CompiledSchema::new(&schema).map_err(|fault| fault.to_string())
}

fn arguments() -> [(&'static str, Map<String, Value>); 3] {
    let object = |value: Value| if let Value::Object(map) = value { map } else { Map::new() };
    let good = json!({"city": "Oslo", "days": 3, "units": "metric", "at": {"lat": 59.9, "lon": 10.7},
                      "tags": ["rain", "wind"], "verbose": false});
    let mut large = good.clone();
    large["city"] = "é".repeat(90).into();
    large["tags"] = (0..10).map(|_| "abcdefgh").collect();
    let wrong = json!({"city": "O", "days": 99, "tags": ["A"]});
    [("good", object(good)), ("good, larger", object(large)), ("four faults told", object(wrong))]
}

fn messages() -> Vec<(&'static str, CallbackMessage)> {
    let url = HttpUrl::new("http://127.0.0.1:3001/choices/abcdefghijklmnop").expect("bug: a URL");
    let image: Vec<u8> = (0..750_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let words = "It rains in Oslo; take an umbrella, and mind the \"tram\".\n".repeat(1800);
    let parts = vec![ContentPart::text("the chart"), ContentPart::image(image, "image/png")];
    let choices = vec!["Yes".to_owned(), "No".to_owned()];
    let choice = UserChoice::new(thread(), call(), "Deploy?", choices, 1, url).expect("bug: a choice");
    vec![
        (
            "a short result",
            CallbackMessage::ToolResult(ToolResult::text(thread(), call(), "12 °C, light rain")),
        ),
        (
            "an event",
            CallbackMessage::SubscriptionEvent(SubscriptionEvent::new(thread(), call(), "build 17 failed")),
        ),
        ("a question", CallbackMessage::UserChoice(choice)),
        ("a long text", CallbackMessage::ToolResult(ToolResult::text(thread(), call(), words))),
        ("a large image", CallbackMessage::ToolResult(ToolResult::content(thread(), call(), parts))),
    ]
}
