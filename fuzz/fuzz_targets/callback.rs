//! Any body: no panic; what is taken is written so that it reads back equal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rap_types::{CallbackMessage, parse};

fuzz_target!(|body: &[u8]| {
    if let Ok(message) = parse::<CallbackMessage>(body) {
        let written = serde_json::to_vec(&message).expect("a message serialises");
        assert_eq!(parse::<CallbackMessage>(&written).expect("reads back"), message);
    }
});
