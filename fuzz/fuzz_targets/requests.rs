//! Any body as each of the small requests: no panic; what is taken is written so that it reads back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rap_types::{
    CancelToolCall, ChoiceResponse, CloseThread, Message, Migrate, ToolCallAlive, ToolCallStatus, parse,
};
use serde::Serialize;
use std::fmt::Debug;

fn of<M: Message + Serialize + PartialEq + Debug>(body: &[u8]) {
    if let Ok(message) = parse::<M>(body) {
        let written = serde_json::to_vec(&message).expect("a message serialises");
        assert_eq!(parse::<M>(&written).expect("reads back"), message);
    }
}

fuzz_target!(|body: &[u8]| {
    of::<CloseThread>(body);
    of::<CancelToolCall>(body);
    of::<ToolCallStatus>(body);
    of::<ToolCallAlive>(body);
    of::<Migrate>(body);
    of::<ChoiceResponse>(body);
});
