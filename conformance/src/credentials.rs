//! What shows the server who is asking: a bearer token, or a key by which requests are signed in the Standard
//! Webhooks form. None of it is ever shown: not in a report, a trace, a `curl` line or an error, and where the
//! server says it back, it is taken out.

use crate::{
    nonce::nonce,
    report::{CaseReport, Report},
    trace::{Body, Exchange},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// A text that is never shown. `Debug` says only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// A key by which requests are signed.
#[derive(Clone)]
pub struct Key {
    text: Secret,
    bytes: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(<redacted>)")
    }
}

impl Key {
    /// Reads a key in the form `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// It has another form; the words do not show it.
    pub fn parse(text: &Secret) -> Result<Self, String> {
        const FORM: &str = "its form is whsec_ and then 24 to 64 bytes in base64";
        let encoded = text.expose().strip_prefix("whsec_").unwrap_or(text.expose());
        let bytes =
            STANDARD.decode(encoded).map_err(|_| format!("the webhook secret is not base64; {FORM}"))?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(format!("the webhook secret holds {} bytes; {FORM}", bytes.len()));
        }
        Ok(Self { text: text.clone(), bytes })
    }

    /// A key that nobody had before.
    pub(crate) fn fresh() -> Secret {
        let bytes: String = (0..2).map(|_| nonce()).collect();
        Secret::from(format!("whsec_{}", STANDARD.encode(bytes)))
    }

    /// The value of `webhook-signature` for a message of an id, at a time in seconds since 1970.
    pub fn signature(&self, id: &str, at: u64, body: &[u8]) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.bytes).expect("bug: HMAC takes keys of any length");
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn headers(&self, at: u64, body: &[u8]) -> Headers {
        let id = format!("msg_{}", nonce());
        let signature = self.signature(&id, at, body);
        vec![
            ("webhook-id".to_owned(), id),
            ("webhook-timestamp".to_owned(), at.to_string()),
            ("webhook-signature".to_owned(), signature),
        ]
    }
}

/// Headers whose values everybody uses, or knows: they are no secrets, and would be taken out of everything.
const PLAIN: [&str; 7] =
    ["accept", "accept-encoding", "accept-language", "content-type", "forwarded", "host", "user-agent"];

/// What the names of such headers begin with, besides.
const FORWARDED: &str = "x-forwarded-";

/// Headers whose values are a scheme and a secret.
const SCHEMES: [&str; 2] = ["authorization", "proxy-authorization"];

/// From how many bytes on the value of another header is a secret: what is shorter may be any word.
const LONG: usize = 8;

/// Names and values of headers.
pub type Headers = Vec<(String, String)>;

/// What is sent with every request to the server, and nowhere else.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Further headers, as they are.
    pub headers: Headers,
    /// A bearer token.
    pub bearer: Option<Secret>,
    /// A key by which requests are signed.
    pub key: Option<Key>,
}

/// Somebody who is not whom the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// Shows nothing.
    Nobody,
    /// Has a token that is not the right one.
    WrongToken,
    /// Has a token without a character.
    EmptyToken,
    /// Shows something that is no bearer token.
    OtherScheme,
    /// Signs with a key of its own.
    OtherKey,
    /// Has the signature of another body.
    OtherBody,
    /// Sends again what was signed an hour ago.
    Replay,
}

impl Stranger {
    /// What it does, in words that follow the request's.
    pub fn words(self) -> &'static str {
        match self {
            Self::Nobody => "without authentication",
            Self::WrongToken => "with a wrong token",
            Self::EmptyToken => "with an empty token",
            Self::OtherScheme => "with another scheme",
            Self::OtherKey => "signed with another key",
            Self::OtherBody => "with the signature of another body",
            Self::Replay => "signed an hour ago",
        }
    }
}

impl Credentials {
    /// Whether the server is shown anything.
    pub fn authenticate(&self) -> bool {
        self.bearer.is_some()
            || self.key.is_some()
            || self.headers.iter().any(|(name, _)| name == "authorization")
    }

    /// The headers for a request with this body.
    pub fn headers(&self, body: &[u8]) -> Headers {
        let mut headers = self.headers.clone();
        headers.extend(self.bearer.iter().map(|token| bearer(token.expose())));
        headers.extend(self.key.iter().flat_map(|key| key.headers(now(), body)));
        headers
    }

    /// The strangers that the server must tell from whom it knows.
    pub fn strangers(&self) -> Vec<Stranger> {
        let mut all = vec![Stranger::Nobody];
        if self.bearer.is_some() || self.key.is_none() {
            all.extend([Stranger::WrongToken, Stranger::EmptyToken, Stranger::OtherScheme]);
        }
        if self.key.is_some() {
            all.extend([Stranger::OtherKey, Stranger::OtherBody, Stranger::Replay]);
        }
        all
    }

    /// What a stranger shows with a request of this body.
    pub fn of(&self, stranger: Stranger, body: &[u8]) -> Headers {
        let signed = |at: u64, body: &[u8]| -> Headers {
            self.key.as_ref().map(|key| key.headers(at, body)).unwrap_or_default()
        };
        match stranger {
            Stranger::Nobody => Vec::new(),
            Stranger::WrongToken => vec![bearer("wrong-token")],
            Stranger::EmptyToken => vec![bearer("")],
            Stranger::OtherScheme => vec![("authorization".to_owned(), "Basic d3Jvbmc6d3Jvbmc=".to_owned())],
            Stranger::OtherKey => {
                Key::parse(&Key::fresh()).map(|other| other.headers(now(), body)).unwrap_or_default()
            }
            Stranger::OtherBody => signed(now(), b"{}"),
            Stranger::Replay => signed(now().saturating_sub(3600), body),
        }
    }

    /// What must not be seen; what is too short to be a secret would be found everywhere.
    fn hidden(&self) -> Vec<&str> {
        let key = self.key.iter().map(|key| key.text.expose());
        let bare = key.clone().map(|text| text.strip_prefix("whsec_").unwrap_or(text));
        let header = self.headers.iter().flat_map(|(name, value)| in_header(name, value));
        let token = self.bearer.iter().map(Secret::expose);
        let all = key.chain(bare).chain(header).chain(token);
        all.filter(|text| text.len() >= 4).collect()
    }

    /// Takes out of a text what must not be seen.
    fn clean(&self, text: &mut String) {
        for secret in self.hidden() {
            if text.contains(secret) {
                *text = text.replace(secret, "<redacted>");
            }
        }
    }

    fn clean_body(&self, body: &mut Body) {
        if let Ok(text) = std::str::from_utf8(&body.0)
            && self.hidden().iter().any(|secret| text.contains(secret))
        {
            let mut text = text.to_owned();
            self.clean(&mut text);
            body.0 = text.into();
        }
    }

    /// Takes out of what is said of a case what must not be seen.
    pub fn clean_case(&self, case: &mut CaseReport) {
        case.reason.iter_mut().for_each(|reason| self.clean(reason));
        case.findings.iter_mut().for_each(|finding| self.clean(&mut finding.sentence));
    }

    /// The same of a trace, in which a server may have said it back.
    pub fn clean_trace(&self, trace: &mut [Exchange]) {
        if self.hidden().is_empty() && self.headers.is_empty() {
            return;
        }
        for exchange in trace {
            exchange.redact();
            exchange
                .redact_headers(|name| self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)));
            self.clean(&mut exchange.url);
            self.clean_body(&mut exchange.body);
            exchange.failure.iter_mut().for_each(|why| self.clean(why));
            let answer = exchange.answer.iter_mut();
            for (_, value) in exchange.headers.iter_mut().chain(answer.flat_map(|a| {
                self.clean_body(&mut a.body);
                a.headers.iter_mut()
            })) {
                self.clean(value);
            }
        }
    }

    /// The same of a report.
    pub fn clean_report(&self, report: &mut Report) {
        report.cases.iter_mut().for_each(|case| self.clean_case(case));
        report.obligations.iter_mut().filter_map(|o| o.reason.as_mut()).for_each(|why| self.clean(why));
        report.notes.iter_mut().for_each(|note| self.clean(note));
        self.clean(&mut report.target.name);
        self.clean_trace(&mut report.exchanges);
    }
}

/// What of a header must not be seen anywhere.
fn in_header<'a>(name: &str, value: &'a str) -> impl Iterator<Item = &'a str> {
    let name = name.to_ascii_lowercase();
    let plain = PLAIN.contains(&name.as_str()) || name.starts_with(FORWARDED);
    let (whole, bare) = match SCHEMES.contains(&name.as_str()) {
        true => (value.len() >= 6, value.split_once(' ').map(|(_, token)| token.trim_start())),
        false => (!plain && value.len() >= LONG, None),
    };
    whole.then_some(value).into_iter().chain(bare)
}

fn bearer(token: &str) -> (String, String) {
    ("authorization".to_owned(), format!("Bearer {token}"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
