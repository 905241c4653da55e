//! Who the judge says it is: signatures as others make them, secrets that are never shown, strangers that differ in one
//! thing.

use rap_conformance::{
    Options,
    credentials::{Credentials, Key, Secret, Stranger},
    trace::{Begun, Party, Recorder},
};
use serde_json::json;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn key() -> Key {
    Key::parse(&Secret::from(SECRET)).expect("a key")
}

/// The example of the Standard Webhooks libraries.
#[test]
fn a_signature_is_that_of_standard_webhooks() {
    let made = key().signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
    assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

#[test]
fn no_secret_is_in_what_debugging_shows() {
    let secret = || Some(Secret::from(SECRET));
    let options = Options { bearer: secret(), webhook_secret: secret(), ..Options::at("http://127.0.0.1:1") };
    let credentials = Credentials { key: Some(key()), bearer: secret(), headers: Vec::new() };
    for shown in [format!("{options:?}"), format!("{credentials:?}"), format!("{:?}", key())] {
        assert!(!shown.contains(&SECRET[6..]) && shown.contains("<redacted>"), "{shown}");
    }
}

#[test]
fn a_stranger_differs_from_whom_the_server_knows_in_what_it_shows() {
    let body = b"[]";
    let signed = Credentials { key: Some(key()), ..Credentials::default() };
    let header = |headers: &[(String, String)], name: &str| -> String {
        headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let right = |headers: &[(String, String)], body: &[u8]| {
        let at = header(headers, "webhook-timestamp").parse().unwrap_or(0);
        header(headers, "webhook-signature") == key().signature(&header(headers, "webhook-id"), at, body)
    };
    assert!(right(&signed.headers(body), body));
    let age = |headers: &[(String, String)]| {
        let of = |headers| header(headers, "webhook-timestamp").parse::<u64>().unwrap_or(0);
        of(&signed.headers(body)).saturating_sub(of(headers))
    };
    for stranger in signed.strangers() {
        let shown = signed.of(stranger, body);
        match stranger {
            Stranger::Nobody => assert!(shown.is_empty()),
            Stranger::OtherKey => assert!(shown.len() == 3 && !right(&shown, body) && age(&shown) < 60),
            Stranger::OtherBody => assert!(!right(&shown, body) && right(&shown, b"{}") && age(&shown) < 60),
            Stranger::Replay => assert!(right(&shown, body) && age(&shown) >= 3600),
            other => panic!("{other:?} is about tokens"),
        }
    }
    let token = Credentials { bearer: Some(Secret::from("t")), ..Credentials::default() };
    assert_eq!(header(&token.headers(body), "authorization"), "Bearer t");
    for stranger in token.strangers() {
        assert_ne!(header(&token.of(stranger, body), "authorization"), "Bearer t", "{stranger:?}");
    }
}

/// What is no secret stays readable in a trace that is kept; what is one is nowhere in it.
#[test]
fn of_a_header_only_what_may_be_secret_is_taken_out_of_what_was_said() {
    for (name, value, said, kept) in [
        ("x-client", "acme text", "a text", true),
        ("x-client", "acme text", "an acme text", false),
        ("x-tenant", "result", "the result", true),
        ("x-api-key", "12345678", "key 12345678", false),
        ("Authorization", "Bearer abcd", "it is abcd", false),
        ("authorization", "Basic  abcd", "it is abcd", false),
        ("proxy-authorization", "Basic abcd", "it is abcd", false),
        ("host", "agents.example.org", "http://agents.example.org/", true),
        ("Forwarded", "for=192.0.2.1", "for=192.0.2.1", true),
        ("x-forwarded-host", "agents.example.org", "http://agents.example.org/", true),
    ] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let credentials = Credentials { headers, ..Credentials::default() };
        let recorder = Recorder::default();
        recorder.begin(Begun {
            case: None,
            from: Party::Server,
            method: "POST".to_owned(),
            url: "http://127.0.0.1/".to_owned(),
            headers: vec![(name.to_ascii_lowercase(), value.to_owned())],
            body: (&json!({ "text": said })).into(),
        });
        let mut trace = recorder.all();
        credentials.clean_trace(&mut trace);
        assert_eq!(trace[0].body.text().contains(said), kept, "{name}: {value}");
        assert_ne!(trace[0].headers[0].1, value, "{name}");
    }
}
