//! Capabilities: only what a key of the ring made is worth anything (TRN-12).

use crate::{call, thread, url};
use rap_client::{Capability, KeyRing};
use std::collections::HashSet;

#[test]
fn what_was_minted_is_taken() {
    let keys = KeyRing::generate().unwrap();
    let longest = "x".repeat(256);
    for (t, c) in
        [("t", "c"), ("thread/with?odd#things", "a.b"), ("Grüße ☃", "\u{0}\n"), (&longest, &longest)]
    {
        let token = keys.mint(&thread(t), &call(c));
        assert_eq!(keys.check(&token), Some(Capability::new(thread(t), call(c))));
        assert!(token.len() <= 1024, "{}", token.len());
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{token}");
        assert_eq!(token, keys.mint(&thread(t), &call(c)), "no clock, no dice");
    }
}

/// Every bit counts, and so does every other token.
#[test]
fn altered_tokens_are_worth_nothing() {
    let keys = KeyRing::generate().unwrap();
    let token = keys.mint(&thread("thread-1"), &call("call-1"));
    let raw = data_encoding::BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
    for at in 0..raw.len() {
        for bit in 0..8 {
            let mut altered = raw.clone();
            altered[at] ^= 1 << bit;
            assert_eq!(keys.check(&data_encoding::BASE64URL_NOPAD.encode(&altered)), None, "{at}.{bit}");
        }
    }
    for length in 0..raw.len() {
        assert_eq!(keys.check(&data_encoding::BASE64URL_NOPAD.encode(&raw[..length])), None);
    }
    let mut longer = raw.clone();
    longer.push(0);
    assert_eq!(keys.check(&data_encoding::BASE64URL_NOPAD.encode(&longer)), None);
    for at in 0..token.len() {
        let mut altered = token.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(keys.check(std::str::from_utf8(&altered).unwrap()), None, "{at}");
    }
    let odd = [
        "",
        "A",
        "=",
        &format!("{token}="),
        &format!("{token} "),
        &format!(" {token}"),
        "☃",
        &"A".repeat(1_000_000),
    ];
    for text in odd {
        assert_eq!(keys.check(text), None);
    }
}

/// Lengths are signed: no two pairs of ids share a token.
#[test]
fn ids_cannot_be_shifted_into_each_other() {
    let keys = KeyRing::generate().unwrap();
    let pairs = [("ab", "c"), ("a", "bc"), ("abc", "c"), ("a", "b"), ("b", "a")];
    let tokens: HashSet<_> = pairs.iter().map(|(t, c)| keys.mint(&thread(t), &call(c))).collect();
    assert_eq!(tokens.len(), pairs.len());
}

#[test]
fn a_foreign_ring_is_not_heard_even_under_our_keys_id() {
    let ours = KeyRing::generate().unwrap();
    let theirs = KeyRing::generate().unwrap();
    assert_eq!(ours.check(&theirs.mint(&thread("t"), &call("c"))), None);
    let text = theirs.to_text().expose().replace(&theirs.ids()[0], &ours.ids()[0]);
    let forged = KeyRing::from_text(&text).unwrap();
    assert_eq!(forged.ids(), ours.ids());
    assert_eq!(ours.check(&forged.mint(&thread("t"), &call("c"))), None);
}

#[test]
fn keys_are_replaced_while_calls_are_under_way() {
    let first = KeyRing::generate().unwrap();
    let old = first.mint(&thread("t"), &call("c"));
    let both = first.rotate().unwrap();
    let new = both.mint(&thread("t"), &call("c"));
    assert_ne!(old, new, "the new key signs");
    assert!(both.check(&old).is_some() && both.check(&new).is_some());
    assert!(first.check(&new).is_none());
    let second = both.without(&first.ids()[0]).unwrap();
    assert!(second.check(&old).is_none() && second.check(&new).is_some());
    assert!(second.without(&second.ids()[0]).unwrap_err().to_string().contains("rotate first"));
    assert!(second.without("none").unwrap_err().to_string().contains(&second.ids()[0]));
}

#[test]
fn a_ring_survives_its_file() {
    let ring = KeyRing::generate().unwrap().rotate().unwrap();
    let text = ring.to_text();
    let commented = format!("# callback keys\n\n{}\n", text.expose());
    let again = KeyRing::from_text(&commented).unwrap();
    assert_eq!(again.ids(), ring.ids());
    assert_eq!(again.mint(&thread("t"), &call("c")), ring.mint(&thread("t"), &call("c")));
    assert_eq!(again.to_text(), text);
}

#[test]
fn a_damaged_key_file_is_refused_and_never_shown() {
    let text = KeyRing::generate().unwrap().to_text();
    let line = text.expose().trim();
    let key = line.rsplit_once(' ').unwrap().1;
    let damaged = [
        String::new(),
        "# nothing\n".to_owned(),
        line[..line.len() - 1].to_owned(),
        format!("{line} more"),
        line.replace("rap-key-1", "rap-key-2"),
        format!("{line}\n{line}"),
        format!("{line}\nrubbish"),
        line.replace("rap-key-1 ", "rap-key-1 x"),
    ];
    for text in damaged {
        let error = KeyRing::from_text(&text).unwrap_err();
        assert!(!error.to_string().contains(&key[..20]), "{error}");
    }
}

#[test]
fn no_key_and_no_token_in_debug() {
    let keys = KeyRing::generate().unwrap();
    let text = keys.to_text();
    let key = text.expose().trim().rsplit_once(' ').unwrap().1.to_owned();
    assert!(!format!("{keys:?} {text:?}").contains(&key));
    let minted = keys.callback_url(&url("http://127.0.0.1:4000/rap/"), &thread("t"), &call("c")).unwrap();
    let token = minted.as_str().strip_prefix("http://127.0.0.1:4000/rap/callback/").unwrap();
    assert!(keys.check(token).is_some());
}

/// The book shows a token with the key that made it: what it shows is what is minted.
#[test]
fn the_book_shows_a_real_token() {
    let keys = KeyRing::from_text("rap-key-1 00c0ffee AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8").unwrap();
    let token = keys.mint(&thread("thread-7"), &call("call-1"));
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/text/capability.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(&format!("/callback/{token}\n")), "the page shows another token than {token}");
}
