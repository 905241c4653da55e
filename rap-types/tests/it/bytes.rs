//! TRN-01: a body is read wholly, also where the message has no member for what stands there; the quick way to
//! read it and the slow one agree on every body.

use proptest::{collection::vec, prelude::*, sample};
use rap_spec::{VECTORS, Vector};
use rap_types::{
    CallbackMessage, CancelToolCall, ChoiceResponse, CloseThread, Fault, Invocation, Message, Migrate,
    ToolCallAlive, ToolCallStatus, Toolset, parse,
};
use serde_json::Value;
use std::fmt::Debug;

/// By way of a value, in which everything is looked at.
fn slowly<M: Message>(body: &[u8]) -> Result<M, Fault> {
    match serde_json::from_slice::<Value>(body) {
        Ok(value) if value.is_object() => M::from_value(value),
        Ok(_) => Err(Fault::new("", "TRN-01", "the body is not a JSON object")),
        Err(e) => Err(Fault::new("", "TRN-01", format!("the body is not JSON: {e}"))),
    }
}

/// Reads a body as its kind, both ways; gives the obligation that it breaks.
fn judged(kind: &str, body: &[u8]) -> Result<(), &'static str> {
    fn of<M: Message + PartialEq + Debug>(body: &[u8]) -> Result<(), &'static str> {
        let answer = parse::<M>(body);
        assert_eq!(answer, slowly::<M>(body), "{}", String::from_utf8_lossy(body));
        answer.map(|_| ()).map_err(|fault| fault.obligation())
    }
    match kind {
        "invocation" => of::<Invocation>(body),
        "toolset" => of::<Toolset>(body),
        "close_thread" => of::<CloseThread>(body),
        "cancel_tool_call" => of::<CancelToolCall>(body),
        "tool_call_status" => of::<ToolCallStatus>(body),
        "tool_call_alive" => of::<ToolCallAlive>(body),
        "migrate" => of::<Migrate>(body),
        "choice_response" => of::<ChoiceResponse>(body),
        _ => of::<CallbackMessage>(body),
    }
}

/// Values that no reader may take, wherever they stand.
fn broken() -> Vec<Vec<u8>> {
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    [&b"\"\xff\""[..], br#""\ud800""#, br#""\udc00\ud800""#, b"1e400", b"-1e400", br#"{"\ud800":1}"#]
        .iter()
        .map(|value| value.to_vec())
        .chain([deep])
        .collect()
}

/// An unknown member with a broken value makes every kind of message no JSON, first or last.
#[test]
fn unknown_members_are_looked_at() {
    let mut kinds: Vec<&str> = VECTORS.iter().map(|v| v.kind).collect();
    kinds.dedup();
    assert!(kinds.len() >= 13, "{kinds:?}");
    for kind in kinds {
        let valid = VECTORS.iter().find(|v| v.kind == kind && v.is_valid()).expect("a valid vector");
        let compact: Value = serde_json::from_str(valid.json).expect("JSON");
        for text in [valid.json.trim().to_owned(), compact.to_string()] {
            let members = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).expect("an object");
            for value in broken() {
                let first = [&b"{\"zzz\":"[..], &value, b",", members.as_bytes(), b"}"].concat();
                let last = [b"{", members.as_bytes(), b",\"zzz\":", &value, b"}"].concat();
                assert_eq!(judged(kind, &first), Err("TRN-01"), "{kind}");
                assert_eq!(judged(kind, &last), Err("TRN-01"), "{kind}");
            }
        }
    }
}

/// The same inside of the parts and segments of a result, and in the annotations of a tool.
#[test]
fn unknown_members_of_parts_are_looked_at() {
    for (kind, before, after) in [
        (
            "tool_result",
            r#"{"type":"tool_result","group_id":"t","id":"c","content":[{"type":"text","text":"x","y":"#,
            "}]}",
        ),
        (
            "tool_result",
            r#"{"type":"tool_result","group_id":"t","id":"c","content":[{"type":"image","data":"","mediaType":"image/png","y":"#,
            "}]}",
        ),
        (
            "tool_result",
            r#"{"type":"tool_result","group_id":"t","id":"c","text":"x","display_as":[{"type":"diff","content":{"path":"a","patch":"b","y":"#,
            "}}]}",
        ),
        (
            "toolset",
            r#"{"name":"t","endpoint":"http://127.0.0.1/","tools":[{"name":"a","description":"","inputSchema":{"type":"object"},"y":"#,
            "}]}",
        ),
    ] {
        let body = |value: &[u8]| [before.as_bytes(), value, after.as_bytes()].concat();
        assert_eq!(judged(kind, &body(b"1")), Ok(()), "{before}");
        for value in broken() {
            assert_eq!(judged(kind, &body(&value)), Err("TRN-01"), "{before}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens to the bytes of a vector, both ways say the same of them.
    #[test]
    fn both_ways_agree_on_any_bytes(
        vector in sample::select(VECTORS.iter().collect::<Vec<&Vector>>()),
        cuts in vec(
            (
                any::<sample::Index>(),
                0_usize..3,
                prop_oneof![
                    vec(any::<u8>(), 0..3),
                    sample::select(vec![
                        &b"\xff"[..], b"\\ud800", b"\\udc00", b"1e400", b"\\u0000", b"{", b"}", b"\"", b",",
                        b"\"a\":1e999,", b"\"a\":\"\xc3\",", b"null", b" ",
                    ]).prop_map(<[u8]>::to_vec),
                ],
            ),
            1..3,
        ),
    ) {
        let mut body = vector.json.as_bytes().to_vec();
        for (at, removed, inserted) in cuts {
            let at = at.index(body.len() + 1);
            let end = (at + removed).min(body.len());
            body.splice(at..end, inserted);
        }
        let _ = judged(vector.kind, &body);
    }
}
