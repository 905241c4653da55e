//! Signed requests in the Standard Webhooks form: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
//!
//! A sender signs with every key it holds and a receiver takes any key it holds, so keys are replaced
//! without a gap: add the new one on the receiving side, then on the sending side, then drop the old one.
//! A request whose signature header is missing is refused like one whose signature is wrong.

use crate::Secret;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue};
use sha2::Sha256;
use std::{fmt, sync::Arc, time::Duration};
use subtle::ConstantTimeEq;

/// The header with the message's id, the same in every attempt.
pub const ID: &str = "webhook-id";
/// The header with the time of signing, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures, separated by spaces.
pub const SIGNATURE: &str = "webhook-signature";
/// How far the time of signing may be off.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Signing keys, at least one. `Debug` shows how many, never what.
///
/// ```
/// use rap_http::{Secret, webhooks::{KeyError, Keys, VerifyError}};
///
/// let keys = Keys::new([&Secret::from("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")])?;
/// let headers = keys.sign("msg_1", 1_700_000_000, b"{}")?;
/// assert!(keys.verify(&headers, 1_700_000_010, b"{}").is_ok());
/// let error: VerifyError = keys.verify(&headers, 1_700_000_010, b"[]").unwrap_err();
/// println!("{error}");
/// let error: KeyError = Keys::new([&Secret::from("whsec_c2hvcnQ=")]).unwrap_err();
/// println!("{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Keys(Arc<[Vec<u8>]>);

/// Why a string is no signing key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(&'static str);

/// Why a request is not authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A header is missing.
    #[error("the {0} header is missing; sign the request in the Standard Webhooks form")]
    Missing(&'static str),
    /// A header cannot be read.
    #[error("the {0} header cannot be read")]
    Malformed(&'static str),
    /// Signed too long ago, or in the future.
    #[error("the request was signed too long ago or in the future; check both clocks")]
    Stale,
    /// No key made this signature.
    #[error("the signature matches no key")]
    Mismatch,
}

impl Keys {
    /// Keys in the form `whsec_<base64>`; all of them sign, any of them is taken.
    ///
    /// # Errors
    /// No key, not base64, or a key that decodes to fewer than 24 or more than 64 bytes.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Secret>) -> Result<Self, KeyError> {
        let keys = keys.into_iter().map(decode).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(KeyError("no signing key was given"));
        }
        Ok(Self(keys.into()))
    }

    /// The three headers for a body. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When `id` cannot stand in a header, or holds a full stop, which would make the signed text ambiguous.
    pub fn sign(&self, id: &str, now: i64, body: &[u8]) -> Result<HeaderMap, VerifyError> {
        if id.is_empty() || id.contains('.') {
            return Err(VerifyError::Malformed(ID));
        }
        let signatures: Vec<String> =
            self.0.iter().map(|key| format!("v1,{}", STANDARD.encode(mac(key, id, now, body)))).collect();
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(ID, HeaderValue::from_str(id).map_err(|_| VerifyError::Malformed(ID))?);
        headers.insert(TIMESTAMP, HeaderValue::from(now));
        let joined = HeaderValue::from_str(&signatures.join(" ")).expect("bug: base64 can stand in a header");
        headers.insert(SIGNATURE, joined);
        Ok(headers)
    }

    /// Checks that a body was signed with one of the keys, not long ago. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`VerifyError`]; a missing header is one.
    pub fn verify(&self, headers: &HeaderMap, now: i64, body: &[u8]) -> Result<(), VerifyError> {
        let id = text(headers, ID)?;
        let at: i64 = text(headers, TIMESTAMP)?.parse().map_err(|_| VerifyError::Malformed(TIMESTAMP))?;
        let signatures = text(headers, SIGNATURE)?;
        if now.abs_diff(at) > TOLERANCE.as_secs() {
            return Err(VerifyError::Stale);
        }
        let given: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|s| s.strip_prefix("v1,"))
            .take(16)
            .filter_map(|s| STANDARD.decode(s).ok())
            .collect();
        let mut known = subtle::Choice::from(0);
        for key in self.0.iter() {
            let expected = mac(key, id, at, body);
            for signature in &given {
                known |= expected.ct_eq(signature);
            }
        }
        if known.into() { Ok(()) } else { Err(VerifyError::Mismatch) }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} of them)", self.0.len())
    }
}

fn decode(key: &Secret) -> Result<Vec<u8>, KeyError> {
    let text = key.expose().strip_prefix("whsec_").unwrap_or(key.expose());
    let key = STANDARD.decode(text).map_err(|_| {
        KeyError("a signing key is not base64; its form is whsec_ and 32 random bytes in base64")
    })?;
    if !(24..=64).contains(&key.len()) {
        return Err(KeyError(
            "a signing key decodes to fewer than 24 or more than 64 bytes; take 32 random ones",
        ));
    }
    Ok(key)
}

fn mac(key: &[u8], id: &str, at: i64, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("bug: HMAC takes keys of any length");
    mac.update(id.as_bytes());
    mac.update(format!(".{at}.").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().into()
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, VerifyError> {
    let mut all = headers.get_all(name).iter();
    let value = all.next().ok_or(VerifyError::Missing(name))?;
    if all.next().is_some() {
        return Err(VerifyError::Malformed(name));
    }
    value.to_str().map_err(|_| VerifyError::Malformed(name))
}
