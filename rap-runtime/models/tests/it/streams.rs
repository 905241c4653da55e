//! Streams: cut at every byte, in pieces of every size, with failures in them. A turn is whole or it is an error; never
//! half of one taken for the whole.

use crate::spoken::{Spoken, USAGE, aws_event, stream};
use rap_models::Wire;
use rap_runtime::{
    Delta, ModelError, Retry,
    core::{ModelCall, StopReason, Usage},
};
use serde_json::{Value, json};

fn turns() -> Vec<Spoken> {
    vec![
        Spoken::text("Hello, Ærøskøbing 🌧!"),
        Spoken::text("Let me see.")
            .thought("hm, \"rain\"", "c2lnbmF0dXJl")
            .call("a1", "get_weather", r#"{"city":"Ærø"}"#)
            .call("a2", "get_time", "{}"),
        Spoken::begin().call("b1", "get_time", "").stopped("end"),
        Spoken::text("This is too lo").stopped("length"),
        Spoken::text("First.")
            .thought("where?", "c2ln-one")
            .call("c1", "get_time", "{}")
            .then_thought("there!", "c2ln-two")
            .then_text("Second."),
    ]
}

/// What is read, with reasoning and text each in one piece.
#[derive(Debug, Default, Clone, PartialEq)]
struct Read {
    text: String,
    thought: String,
    signatures: Vec<String>,
    calls: Vec<ModelCall>,
    usage: Usage,
    stop: Option<StopReason>,
}

fn read(wire: Wire, pieces: &[&[u8]]) -> Result<Read, ModelError> {
    let mut reader = wire.reader("p:");
    let mut out = Vec::new();
    for piece in pieces {
        reader.push(piece, &mut out)?;
    }
    reader.end(&mut out)?;
    let mut read = Read::default();
    for delta in out {
        assert_eq!(read.stop, None, "nothing comes after the stop");
        match delta {
            Delta::Text(text) => read.text += &text,
            Delta::Reasoning(block) => {
                read.thought += &block.text;
                read.signatures.extend(block.signature);
            }
            Delta::Call(call) => read.calls.push(call),
            Delta::Usage(usage) => read.usage = usage,
            Delta::Stop(stop) => read.stop = Some(stop),
            other => panic!("{other:?}"),
        }
    }
    Ok(read)
}

#[test]
fn what_is_spoken_is_read() {
    for wire in Wire::ALL {
        for spoken in turns() {
            let bytes = stream(wire, &spoken);
            let read = read(wire, &[&bytes]).unwrap_or_else(|e| panic!("{wire:?}: {e}"));
            assert_eq!(read.text, spoken.whole_text(), "{wire:?}");
            assert_eq!(read.usage, Usage { input: USAGE.0, output: USAGE.1 }, "{wire:?}");
            let thought: String = spoken.thoughts().into_iter().map(|(text, _)| text).collect();
            assert_eq!(read.thought, thought, "{wire:?}");
            let calls: Vec<_> = read.calls.iter().map(|c| (c.name.as_str(), c.arguments.clone())).collect();
            let expected: Vec<_> = spoken
                .calls()
                .into_iter()
                .map(|(name, args)| (name, serde_json::from_str(args).unwrap_or(json!({}))))
                .collect();
            if !spoken.calls().iter().any(|(_, args)| args.is_empty()) {
                assert_eq!(calls, expected, "{wire:?}");
            }
            let stop = match (spoken.stop, spoken.calls().len()) {
                ("length", _) => StopReason::Length,
                (_, 0) => StopReason::End,
                _ => StopReason::Calls,
            };
            assert_eq!(read.stop, Some(stop), "{wire:?}");
        }
    }
}

/// The signature comes back where the wire keeps one, marked with whose it is.
#[test]
fn signatures() {
    let bytes = |wire| stream(wire, &turns()[1]);
    for (wire, signature) in
        [(Wire::Anthropic, "p:thinking:c2lnbmF0dXJl"), (Wire::Bedrock, "p:thinking:c2lnbmF0dXJl")]
    {
        assert_eq!(read(wire, &[&bytes(wire)]).unwrap().signatures, [signature], "{wire:?}");
    }
    let kept = read(Wire::OpenAiResponses, &[&bytes(Wire::OpenAiResponses)]).unwrap().signatures;
    let item: Value = serde_json::from_str(kept[0].strip_prefix("p:").unwrap()).unwrap();
    assert_eq!(item["encrypted_content"], "c2lnbmF0dXJl");
    let calls = read(Wire::Gemini, &[&bytes(Wire::Gemini)]).unwrap().calls;
    assert_eq!(calls[0].provider_id.as_deref(), Some("p:c2lnbmF0dXJl"));
    assert_eq!(calls[1].provider_id, None);
}

/// Trap: output decoded chunk by chunk. Cuts into two pieces everywhere, and byte by byte.
#[test]
fn pieces_of_any_size() {
    for wire in Wire::ALL {
        for spoken in turns() {
            let bytes = stream(wire, &spoken);
            let whole = read(wire, &[&bytes]).unwrap();
            for at in (0..bytes.len()).step_by(3) {
                assert_eq!(read(wire, &[&bytes[..at], &bytes[at..]]).unwrap(), whole, "{wire:?} cut at {at}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(read(wire, &single).unwrap(), whole, "{wire:?} byte by byte");
        }
    }
}

/// A stream that ends early is an error of the moment, unless all that counts was said.
#[test]
fn cut_anywhere() {
    for wire in Wire::ALL {
        for spoken in turns() {
            let bytes = stream(wire, &spoken);
            let whole = read(wire, &[&bytes]).unwrap();
            let mut failed = 0;
            for at in 0..bytes.len() {
                match read(wire, &[&bytes[..at]]) {
                    Ok(mut read) => {
                        // Only the count of tokens may be missing.
                        read.usage = whole.usage;
                        assert_eq!(read, whole, "{wire:?} cut at {at}");
                    }
                    Err(error) => {
                        failed += 1;
                        assert_eq!(error.retry, Retry::Soon, "{wire:?} cut at {at}: {error}");
                    }
                }
            }
            assert!(failed * 2 > bytes.len(), "{wire:?}: most cuts are failures");
        }
    }
}

/// Malformed arguments are handed on as they were written, so that the model is told.
#[test]
fn malformed_arguments() {
    for wire in Wire::ALL {
        let bytes = stream(wire, &Spoken::text("x").call("a", "get_time", r#"{"city": "#));
        let read = read(wire, &[&bytes]).unwrap();
        assert_eq!(read.calls[0].arguments, json!(r#"{"city": "#), "{wire:?}");
    }
}

#[test]
fn failures_in_the_stream() {
    let sse = |value: Value| format!("event: x\ndata: {value}\n\n").into_bytes();
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let too_long = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 3 > 2"}});
    let cases: Vec<(Wire, Vec<u8>, Retry, bool)> = vec![
        (Wire::Anthropic, sse(overloaded), Retry::Soon, false),
        (Wire::Anthropic, sse(too_long), Retry::Never, true),
        (
            Wire::OpenAiChat,
            sse(json!({"error": {"message": "The server had an error", "type": "server_error"}})),
            Retry::Soon,
            false,
        ),
        (
            Wire::OpenAiChat,
            sse(json!({"error": {"message": "too long", "code": "context_length_exceeded"}})),
            Retry::Never,
            true,
        ),
        (
            Wire::OpenAiResponses,
            sse(
                json!({"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "slow"}}}),
            ),
            Retry::Soon,
            false,
        ),
        (
            Wire::OpenAiResponses,
            sse(json!({"type": "error", "code": "context_length_exceeded", "message": "too long"})),
            Retry::Never,
            true,
        ),
        (
            Wire::Gemini,
            sse(json!({"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}})),
            Retry::Soon,
            false,
        ),
        (
            Wire::Gemini,
            sse(json!({"candidates": [{"finishReason": "MALFORMED_RESPONSE"}]})),
            Retry::Soon,
            false,
        ),
        // JSON in the place of a stream, as some gateways answer with 200.
        (
            Wire::OpenAiChat,
            br#"{"error": {"message": "This model's maximum prompt length is 131072", "code": 400}}"#
                .to_vec(),
            Retry::Never,
            true,
        ),
        (Wire::Anthropic, b"{\n  \"detail\": \"the backend is away\"\n}".to_vec(), Retry::Soon, false),
        (
            Wire::Bedrock,
            br#"{"message": "Input is too long for requested model."}"#.to_vec(),
            Retry::Never,
            true,
        ),
        (Wire::Ollama, b"{\"error\":\"an error was encountered\"}\n".to_vec(), Retry::Soon, false),
        (
            Wire::Bedrock,
            aws_event("exception", "throttlingException", &json!({"message": "slow"})),
            Retry::Soon,
            false,
        ),
        (
            Wire::Bedrock,
            aws_event(
                "exception",
                "validationException",
                &json!({"message": "Input is too long for requested model."}),
            ),
            Retry::Never,
            true,
        ),
        (
            Wire::Bedrock,
            aws_event("exception", "validationException", &json!({"message": "no"})),
            Retry::Never,
            false,
        ),
    ];
    for (wire, bytes, retry, overflow) in cases {
        let error = read(wire, &[&bytes]).unwrap_err();
        assert_eq!((error.retry, error.overflow), (retry, overflow), "{wire:?}: {error}");
    }
}

/// What an answer says that is no stream is told.
#[test]
fn an_answer_that_is_no_stream() {
    for body in [r#"{"error": "the backend is away"}"#, "{\n\"message\":\n\"the backend is away\"\n}\n"] {
        for wire in Wire::ALL.into_iter().filter(|wire| *wire != Wire::Ollama) {
            let error = read(wire, &[body.as_bytes()]).unwrap_err();
            assert!(error.message.contains("the backend is away"), "{wire:?}: {error}");
        }
    }
}

/// A call that the output limit cut short is never made: without arguments, or with half of them, it goes back to the model
/// with the reason. One that is whole stays.
#[test]
fn calls_cut_by_the_output_limit() {
    for wire in Wire::ALL {
        for written in ["", r#"{"city": "Os"#] {
            let spoken = Spoken::text("x").call("a", "get_time", "{}").call("b", "get_weather", written);
            let bytes = stream(wire, &spoken.clone().stopped("length"));
            let calls = read(wire, &[&bytes]).unwrap().calls;
            assert_eq!(calls[0].arguments, json!({}), "{wire:?}");
            let told = calls[1].arguments.as_str().unwrap_or_else(|| panic!("{wire:?}: {calls:?}"));
            assert_eq!(told, format!("{written}[cut off at the output limit]"), "{wire:?}");
            if written.is_empty() {
                let natural = read(wire, &[&stream(wire, &spoken)]).unwrap().calls;
                assert_eq!(natural[1].arguments, json!({}), "{wire:?}: none are none");
            }
        }
        let spoken = Spoken::text("").call("a", "get_weather", r#"{"city":"Oslo"}"#).stopped("length");
        let read = read(wire, &[&stream(wire, &spoken)]).unwrap();
        assert_eq!(read.calls[0].arguments, json!({"city": "Oslo"}), "{wire:?}");
    }
}

/// A call that the provider itself could not read is a turn with a call that goes back to the model; asked again with the
/// same history, it would write the same again.
#[test]
fn calls_that_the_provider_cannot_read() {
    let gemini = json!({"candidates": [{
        "finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "Malformed function call: print(get_weather(",
    }]});
    let gemini = format!("data: {gemini}\n\n").into_bytes();
    let mut bedrock = aws_event("event", "messageStop", &json!({"stopReason": "malformed_tool_use"}));
    bedrock.extend(aws_event("event", "metadata", &json!({"usage": {"inputTokens": 1, "outputTokens": 1}})));
    for (wire, bytes, says) in
        [(Wire::Gemini, gemini, "print(get_weather("), (Wire::Bedrock, bedrock, "make it again")]
    {
        let read = read(wire, &[&bytes]).unwrap();
        assert_eq!(read.stop, Some(StopReason::Calls), "{wire:?}");
        let told = read.calls[0].arguments.as_str().unwrap();
        assert!(told.contains("could not read") && told.contains(says), "{wire:?}: {told}");
    }
}

/// A turn ends once: what comes after its end does not count, and neither does data that is empty.
#[test]
fn after_the_end_and_in_between() {
    let gemini = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]});
    let gemini = format!("data:\n\ndata: {}\n\ndata: {}\n\n", gemini("one"), gemini("two"));
    let mut chat = b"data:\n\n".to_vec();
    chat.extend(stream(Wire::OpenAiChat, &Spoken::text("one")));
    chat.extend(b"data: {\"error\": {\"message\": \"no\"}}\n\n");
    let mut anthropic = b"event: ping\ndata:\n\n".to_vec();
    anthropic.extend(stream(Wire::Anthropic, &Spoken::text("one")));
    anthropic.extend(b"data: {\"type\": \"error\", \"error\": {\"type\": \"overloaded_error\"}}\n\n");
    for (wire, bytes) in
        [(Wire::Gemini, gemini.into_bytes()), (Wire::OpenAiChat, chat), (Wire::Anthropic, anthropic)]
    {
        let read = read(wire, &[&bytes]).unwrap();
        assert_eq!((read.text.as_str(), read.stop), ("one", Some(StopReason::End)), "{wire:?}");
    }
}

/// Refusals say so, whoever refuses.
#[test]
fn refusals() {
    for wire in Wire::ALL.into_iter().filter(|wire| *wire != Wire::Ollama) {
        let bytes = stream(wire, &Spoken::text("I can't").stopped("refused"));
        assert_eq!(read(wire, &[&bytes]).unwrap().stop, Some(StopReason::Refused), "{wire:?}");
    }
    let blocked = b"data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"}}\r\n\r\n";
    assert_eq!(read(Wire::Gemini, &[blocked]).unwrap().stop, Some(StopReason::Refused));
}

/// Anthropic's redacted thinking goes back as it came.
#[test]
fn redacted_thinking() {
    let events = [
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "ZGF0YQ=="}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        json!({"type": "message_stop"}),
    ];
    let bytes: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    assert_eq!(read(Wire::Anthropic, &[bytes.as_bytes()]).unwrap().signatures, ["p:redacted:ZGF0YQ=="]);
}

/// A server that leaves indexes out, and one that sends arguments as an object: both are met in the field.
#[test]
fn chat_in_dialects() {
    let chunk = |calls: Value, stop: Value| json!({"choices": [{"delta": {"tool_calls": calls}, "finish_reason": stop}]});
    let events = [
        chunk(json!([{"id": "a", "function": {"name": "x", "arguments": "{\"n\":"}}]), Value::Null),
        chunk(json!([{"function": {"arguments": "1}"}}]), Value::Null),
        chunk(json!([{"id": "b", "function": {"name": "y", "arguments": {"n": 2}}}]), "stop".into()),
    ];
    let bytes: String = events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect();
    let read = read(Wire::OpenAiChat, &[bytes.as_bytes()]).unwrap();
    let calls: Vec<_> = read.calls.iter().map(|c| (c.name.as_str(), c.arguments.clone())).collect();
    assert_eq!(calls, [("x", json!({"n": 1})), ("y", json!({"n": 2}))]);
    assert_eq!(read.stop, Some(StopReason::Calls));
}

/// Parallel calls that are all the first, by their ids or, where there are none, their names; and content in parts.
#[test]
fn chat_in_more_dialects() {
    let chunk = |delta: Value, stop: Value| json!({"choices": [{"delta": delta, "finish_reason": stop}]});
    let call = |id: &str, name: &str, arguments: &str| json!({"tool_calls": [{"index": 0, "id": id, "function": {"name": name, "arguments": arguments}}]});
    let read = |deltas: Vec<Value>| {
        let mut events: Vec<Value> = deltas.into_iter().map(|delta| chunk(delta, Value::Null)).collect();
        events.push(chunk(json!({}), "stop".into()));
        let bytes: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        read(Wire::OpenAiChat, &[bytes.as_bytes()]).unwrap()
    };
    for ids in [["a", "b"], ["", ""]] {
        let pieces = vec![
            call(ids[0], "x", "{\"n\":"),
            call(ids[0], "", "1}"),
            call(ids[1], "x", "{\"n\":2"),
            call(ids[1], "x", "}"),
        ];
        let calls: Vec<Value> = read(pieces).calls.into_iter().map(|call| call.arguments).collect();
        assert_eq!(calls, [json!({"n": 1}), json!({"n": 2})], "{ids:?}");
    }
    let parts = json!({"content": [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hello"},
    ]});
    let read = read(vec![parts, json!({"content": " you"})]);
    assert_eq!((read.thought.as_str(), read.text.as_str()), ("hm", "Hello you"));
}

/// Damage is noticed, and nothing grows without a limit.
#[test]
fn damaged_streams() {
    let mut bytes = stream(Wire::Bedrock, &turns()[1]);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    assert!(read(Wire::Bedrock, &[&bytes]).is_err());
    assert!(read(Wire::Bedrock, &[&[0xff; 64]]).is_err());
    let endless = vec![b'x'; 1 << 20];
    for wire in [Wire::Anthropic, Wire::Ollama] {
        let pieces: Vec<&[u8]> = std::iter::repeat_n(&endless[..], 18).collect();
        assert!(read(wire, &pieces).unwrap_err().message.contains("16 MiB"), "{wire:?}");
    }
}
