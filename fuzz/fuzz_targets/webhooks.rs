//! Any headers and body: never authentic, whatever they say; what is signed is, and is not when altered.
//! The input is header lines, an empty line, the body.
#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use rap_http::{Secret, webhooks::Keys};
use std::sync::LazyLock;

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = Secret::from("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".to_owned());
    Keys::new([&key]).expect("a key")
});
const NOW: i64 = 1_760_000_000;

fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|w| w == b"\n\n").unwrap_or(input.len());
    let body = input.get(end + 2..).unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in input[..end].split(|b| *b == b'\n') {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    assert!(KEYS.verify(&headers, NOW, body).is_err(), "nobody has the key");

    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or("msg");
    if let Ok(signed) = KEYS.sign(id, NOW, body) {
        assert_eq!(KEYS.verify(&signed, NOW, body), Ok(()));
        assert!(KEYS.verify(&signed, NOW, &[body, b"x"].concat()).is_err(), "altered");
        assert!(KEYS.verify(&signed, NOW + 301, body).is_err(), "stale");
    }
});
