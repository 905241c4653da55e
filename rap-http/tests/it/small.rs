//! Problems, secrets, signatures.

use http::HeaderMap;
use http_body_util::BodyExt;
use rap_http::{
    Auth, Problem, Secret, TokenError,
    webhooks::{self, Keys, VerifyError},
};
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_problem_is_problem_json_with_a_stable_type() {
    let response = Problem::busy(Duration::from_millis(1500)).into_response();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert_eq!(response.headers()["retry-after"], "2");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(
        std::str::from_utf8(&body).unwrap(),
        r#"{"type":"urn:rap:problem:busy","title":"Not now","status":503,"detail":"nothing was done; send it again after the time in `retry-after`"}"#
    );
    let unauthorized = Problem::unauthorized("x").into_response();
    assert_eq!(unauthorized.headers()["www-authenticate"], "Bearer");
    assert_eq!(Problem::new(200, "x", "x").status(), 500, "a problem is no success");
}

#[test]
fn a_secret_shows_nothing() {
    let secret = Secret::new("hunter2");
    assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(…) Some(Secret(…))");
    assert_eq!(secret.expose(), "hunter2");
    assert!(secret.is(b"hunter2") && !secret.is(b"hunter") && !secret.is(b"hunter3") && !secret.is(b""));
    assert_ne!(secret, Secret::new("hunter3"));
}

/// A bearer token is what can stand in a header, and what is said of any other shows nothing of it.
#[test]
fn a_bearer_token_fits_into_its_header() {
    use TokenError::{Empty, Unsendable, Untrimmed};
    for token in ["t", "a-Z0~+/=._", "!\"#$%&'()*,:;<>?@[]^`{|}"] {
        let header = Secret::from(token).bearer_header().unwrap();
        assert_eq!(header, format!("Bearer {token}"));
        assert!(header.is_sensitive() && Auth::bearer(token).check().is_ok());
    }
    let table = [
        ("", Empty),
        (" \n", Empty),
        ("hunter2\n", Untrimmed),
        ("hunter2\r\n", Untrimmed),
        (" hunter2", Untrimmed),
        ("hunter2\t", Untrimmed),
        ("hunter2\u{a0}", Untrimmed),
        ("hunter 2", Unsendable),
        ("hunter\n2", Unsendable),
        ("hunter2ä", Unsendable),
        ("hunter2\u{feff}", Unsendable),
        ("hunter2\0", Unsendable),
        ("hunter2\u{7f}", Unsendable),
    ];
    for (token, fault) in table {
        assert_eq!(Secret::from(token).bearer_header(), Err(fault), "{token:?}");
        assert_eq!(Auth::Bearer(vec!["good".into(), token.into()]).check(), Err(fault), "{token:?}");
        assert!(!format!("{fault} {fault:?}").contains("hunter"));
    }
    assert_eq!(Auth::Bearer(vec![]).check(), Err(Empty));
    for auth in [Auth::None, Auth::InUrl, Auth::Signed(keys(&[OLD]))] {
        assert_eq!(auth.check(), Ok(()));
    }
}

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn keys(texts: &[&str]) -> Keys {
    let secrets: Vec<Secret> = texts.iter().map(|t| Secret::new(*t)).collect();
    Keys::new(&secrets).unwrap()
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64
}

#[test]
fn signatures_agree_with_an_independent_implementation() {
    let now = now();
    for body in ["", "{}", r#"{"text":"Grüße ☃"}"#, &"x".repeat(100_000)] {
        let headers = keys(&[OLD]).sign("msg_1", now, body.as_bytes()).unwrap();
        let theirs = standardwebhooks::Webhook::new(OLD).unwrap();
        theirs.verify(body.as_bytes(), &headers).unwrap();

        let mut headers = HeaderMap::new();
        headers.insert(webhooks::ID, "msg_2".parse().unwrap());
        headers.insert(webhooks::TIMESTAMP, now.into());
        let signature = theirs.sign("msg_2", now, body.as_bytes()).unwrap();
        headers.insert(webhooks::SIGNATURE, signature.parse().unwrap());
        keys(&[OLD]).verify(&headers, now, body.as_bytes()).unwrap();
    }
}

/// The example of the Standard Webhooks text itself.
#[test]
fn the_published_vector_verifies() {
    let mut headers = HeaderMap::new();
    headers.insert(webhooks::ID, "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().unwrap());
    headers.insert(webhooks::TIMESTAMP, "1614265330".parse().unwrap());
    headers.insert(webhooks::SIGNATURE, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".parse().unwrap());
    keys(&[OLD]).verify(&headers, 1614265330, br#"{"test": 2432232314}"#).unwrap();
}

#[test]
fn keys_are_replaced_without_a_gap() {
    let body = b"{}";
    let both = keys(&[NEW, OLD]).sign("m", 1000, body).unwrap();
    for receiver in [&[OLD][..], &[NEW], &[OLD, NEW]] {
        keys(receiver).verify(&both, 1000, body).unwrap();
    }
    let old = keys(&[OLD]).sign("m", 1000, body).unwrap();
    keys(&[NEW, OLD]).verify(&old, 1000, body).unwrap();
    assert_eq!(keys(&[NEW]).verify(&old, 1000, body), Err(VerifyError::Mismatch));
    assert!(!format!("{:?}", keys(&[OLD])).contains("MfKQ"));
}

#[test]
fn what_is_not_authentic_is_refused() {
    let k = keys(&[OLD]);
    let good = k.sign("m", 1000, b"{}").unwrap();
    k.verify(&good, 1300, b"{}").unwrap();
    k.verify(&good, 700, b"{}").unwrap();
    assert_eq!(k.verify(&good, 1301, b"{}"), Err(VerifyError::Stale));
    assert_eq!(k.verify(&good, 699, b"{}"), Err(VerifyError::Stale));
    assert_eq!(k.verify(&good, i64::MIN, b"{}"), Err(VerifyError::Stale));
    assert_eq!(k.verify(&good, 1000, b"{} "), Err(VerifyError::Mismatch));
    for name in [webhooks::ID, webhooks::TIMESTAMP, webhooks::SIGNATURE] {
        let mut missing = good.clone();
        missing.remove(name);
        assert_eq!(k.verify(&missing, 1000, b"{}"), Err(VerifyError::Missing(name)));
        let mut twice = good.clone();
        twice.append(name, good[name].clone());
        assert_eq!(k.verify(&twice, 1000, b"{}"), Err(VerifyError::Malformed(name)));
    }
    let alter = |name: &'static str, value: &str| {
        let mut headers = good.clone();
        headers.insert(name, value.parse().unwrap());
        k.verify(&headers, 1000, b"{}").unwrap_err()
    };
    assert_eq!(alter(webhooks::ID, "n"), VerifyError::Mismatch);
    assert_eq!(alter(webhooks::TIMESTAMP, "1001"), VerifyError::Mismatch);
    assert_eq!(alter(webhooks::TIMESTAMP, "soon"), VerifyError::Malformed(webhooks::TIMESTAMP));
    for signature in ["v1,", "v1,AAAA", "v2,AAAA", "none", "", "v1"] {
        assert_eq!(alter(webhooks::SIGNATURE, signature), VerifyError::Mismatch, "{signature}");
    }
    assert_eq!(k.sign("a.b", 0, b"").unwrap_err(), VerifyError::Malformed(webhooks::ID));
    for bad in ["", "whsec_", "whsec_AAAA", "whsec_!!!"] {
        assert!(Keys::new(&[Secret::new(bad)]).is_err(), "{bad}");
    }
    assert!(Keys::new(&[]).is_err());
}
