//! Plain words: what the model does without a rule. It makes the calls it is told to make, in exactly one form, and
//! tells what came of them.

use super::{
    Act,
    scene::{Kind, News, Scene},
};
use rap_core::ModelCall;
use serde_json::{Map, Value, json};

/// How to tell it to call something.
const FORM: &str = r#"call get_weather {"city":"Oslo"} and get_time {}"#;

pub(super) fn act(scene: &Scene<'_>) -> Act {
    match scene.kind {
        Kind::Root => in_root(scene),
        Kind::Event => in_event(scene),
        Kind::Spawned => in_child(scene),
    }
}

fn in_root(scene: &Scene<'_>) -> Act {
    let mut lines = told(scene);
    let message = scene.news.iter().rev().find_map(|news| match news {
        News::Message(text) => Some(text),
        _ => None,
    });
    let calls = match message.map(|text| parse(text)) {
        Some(Parsed::Calls(calls)) => calls,
        Some(Parsed::Wrong(why)) => {
            lines.push(format!("I cannot read that: {why}. Write it exactly so: {FORM}"));
            Vec::new()
        }
        Some(Parsed::Other) => {
            lines.push(friendly(scene));
            Vec::new()
        }
        None => Vec::new(),
    };
    say(lines, calls)
}

/// An event is told to the parent, in the words in which it came.
fn in_event(scene: &Scene<'_>) -> Act {
    let report = match scene.event() {
        Some((tool, text)) => format!("{tool}: {text}"),
        None => return say(told(scene), Vec::new()),
    };
    close(scene, report)
}

/// A child does what its instructions tell it, then reports.
fn in_child(scene: &Scene<'_>) -> Act {
    let instructions = scene.news.iter().find_map(|news| match news {
        News::Made(text) => text.split_once("Your instructions: ").map(|(_, rest)| rest),
        _ => None,
    });
    let written = scene.news.iter().rev().find_map(|news| match news {
        News::Message(text) => Some(text.strip_prefix("Message from your parent thread: ").unwrap_or(text)),
        _ => None,
    });
    let order = written.or(instructions).map(|text| parse(text.lines().next().unwrap_or_default()));
    match order {
        Some(Parsed::Calls(calls)) => say(told(scene), calls),
        _ => {
            let mut lines = told(scene);
            if lines.is_empty() {
                let told = instructions.or(written).and_then(|text| text.lines().next());
                lines.push(format!("I was told: {}", told.unwrap_or("nothing")));
            }
            close(scene, lines.join("\n"))
        }
    }
}

fn close(scene: &Scene<'_>, report: String) -> Act {
    let arguments = json!({"thread_id": scene.thread, "report_to_parent": report});
    let call = ModelCall { name: "close_thread".into(), arguments, provider_id: None };
    Act { text: report, calls: vec![call], ..Act::default() }
}

/// What is new, told line by line.
fn told(scene: &Scene<'_>) -> Vec<String> {
    scene
        .news
        .iter()
        .filter_map(|news| match news {
            News::Result { tool, placeholder: true, .. } => Some(format!("{tool}: still running.")),
            News::Result { tool, text, .. } | News::Event { tool, text } => Some(format!("{tool}: {text}")),
            News::Message(_) | News::Made(_) => None,
        })
        .collect()
}

fn say(mut lines: Vec<String>, calls: Vec<ModelCall>) -> Act {
    if !calls.is_empty() {
        let names: Vec<&str> = calls.iter().map(|call| call.name.as_str()).collect();
        lines.push(format!("Calling {}.", joined(&names)));
    }
    Act { text: lines.join("\n"), calls, ..Act::default() }
}

fn friendly(scene: &Scene<'_>) -> String {
    if scene.tools.is_empty() {
        return "Hello. I am a scripted model and have no tool of a server to call. Start me with a tool server, \
                then write, for instance: call get_time {}"
            .to_owned();
    }
    format!(
        "Hello. I am a scripted model and can call {}. Tell me so, exactly in this form: {FORM}",
        joined(&scene.tools)
    )
}

/// `a`, `a and b`, `a, b and c`.
fn joined(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// What a message says.
#[derive(Debug, PartialEq)]
enum Parsed {
    Calls(Vec<ModelCall>),
    /// It begins like an order and is none; why.
    Wrong(String),
    Other,
}

/// `call TOOL [ARGUMENTS] [and TOOL [ARGUMENTS]]…`. Arguments are read by a JSON parser, so that ` and ` in a string
/// ends nothing.
fn parse(text: &str) -> Parsed {
    let text = text.trim();
    let Some(mut rest) = text.strip_prefix("call ").map(str::trim_start) else { return Parsed::Other };
    let mut calls = Vec::new();
    loop {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        // `get_time{}` is as clear as `get_time {}`.
        let (name, after) = match name.find('{') {
            Some(brace) => (&name[..brace], &rest[brace..]),
            None => (name, after),
        };
        if name.is_empty() {
            return Parsed::Wrong("a tool's name is missing".to_owned());
        }
        let after = after.trim_start();
        let (arguments, after) = if after.starts_with('{') {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<Map<String, Value>>();
            match values.next() {
                Some(Ok(arguments)) => (arguments, &after[values.byte_offset()..]),
                Some(Err(error)) => {
                    return Parsed::Wrong(format!("the arguments of {name} are not JSON ({error})"));
                }
                None => (Map::new(), after),
            }
        } else {
            (Map::new(), after)
        };
        calls.push(ModelCall {
            name: name.to_owned(),
            arguments: Value::Object(arguments),
            provider_id: None,
        });
        let after = after.trim_start();
        if after.is_empty() {
            return Parsed::Calls(calls);
        }
        match after.strip_prefix("and").filter(|next| next.starts_with(char::is_whitespace)) {
            Some(next) => rest = next.trim_start(),
            // "call me tomorrow" is no order.
            None if calls.len() == 1 && !text.contains('{') => return Parsed::Other,
            None => {
                return Parsed::Wrong(format!("after the call of {name} comes {after:?} instead of `and`"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(text: &str) -> Vec<(String, String)> {
        match parse(text) {
            Parsed::Calls(calls) => {
                calls.into_iter().map(|call| (call.name, call.arguments.to_string())).collect()
            }
            other => panic!("{text:?} is {other:?}"),
        }
    }

    /// The one form in which the model is told to call, and its edges.
    #[test]
    fn orders() {
        for (text, expected) in [
            (FORM, vec![("get_weather", r#"{"city":"Oslo"}"#), ("get_time", "{}")]),
            ("call get_time", vec![("get_time", "{}")]),
            ("  call get_time {}  ", vec![("get_time", "{}")]),
            ("call a and b and c {}", vec![("a", "{}"), ("b", "{}"), ("c", "{}")]),
            (
                r#"call say {"text":"this and that {"} and b"#,
                vec![("say", r#"{"text":"this and that {"}"#), ("b", "{}")],
            ),
            ("call a{\"x\":1}", vec![("a", r#"{"x":1}"#)]),
            ("call a {\"x\": {\"y\": [1, 2]}}\nand b", vec![("a", r#"{"x":{"y":[1,2]}}"#), ("b", "{}")]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(name, args)| (name.to_owned(), args.to_owned())).collect();
            assert_eq!(calls(text), expected, "{text:?}");
        }
    }

    #[test]
    fn no_orders() {
        for text in ["hello", "call", "call me tomorrow", "please call get_time {}", ""] {
            assert_eq!(parse(text), Parsed::Other, "{text:?}");
        }
        for text in ["call a {\"x\":}", "call a {} or b {}", "call a {} and", "call a {} and {}"] {
            assert!(matches!(parse(text), Parsed::Wrong(_)), "{text:?}: {:?}", parse(text));
        }
    }
}
