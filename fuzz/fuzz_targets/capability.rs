//! Any text as a token and as a key file. A token that is taken is the very one that is minted for what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rap_client::KeyRing;
use rap_types::{CallId, ThreadId};
use std::sync::LazyLock;

static KEYS: LazyLock<KeyRing> = LazyLock::new(|| {
    let key = "rap-key-1 00000001 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    KeyRing::from_text(key).expect("a key")
});

fuzz_target!(|text: &str| {
    if let Some(capability) = KEYS.check(text) {
        assert_eq!(KEYS.mint(&capability.thread, &capability.call), text);
    }
    if let Some((thread, call)) = text.split_once('\n')
        && let (Ok(thread), Ok(call)) = (ThreadId::new(thread), CallId::new(call))
    {
        let mut token = KEYS.mint(&thread, &call);
        let taken = KEYS.check(&token).expect("our own");
        assert_eq!((taken.thread, taken.call), (thread, call));
        let last = token.pop().expect("a token");
        token.push(if last == 'A' { 'B' } else { 'A' });
        assert!(KEYS.check(&token).is_none(), "altered");
    }
    if let Ok(ring) = KeyRing::from_text(text) {
        let again = KeyRing::from_text(ring.to_text().expose()).expect("reads back");
        assert_eq!(again.ids(), ring.ids());
    }
});
