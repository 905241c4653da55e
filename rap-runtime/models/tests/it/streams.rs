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
            sse(json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]})),
            Retry::Soon,
            false,
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
