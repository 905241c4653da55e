//! Any text as a URL: kept as written, never shown by `Debug`, and judged by the address policy without panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rap_http::AddressPolicy;
use rap_types::HttpUrl;

fuzz_target!(|text: &str| {
    let Ok(url) = HttpUrl::new(text) else { return };
    assert_eq!(url.as_str(), text);
    let _ = (url.origin(), url.redacted(), url.is_loopback(), url.is_https());
    if let Ok(below) = url.below("close_thread") {
        assert_eq!(below.origin(), url.origin());
    }
    let public = AddressPolicy::public().check_url(&url);
    let open = AddressPolicy::public().allow_loopback().allow_plain_http().check_url(&url);
    assert!(public.is_err() || open.is_ok(), "what the public may reach, whoever may more reaches too");
});
