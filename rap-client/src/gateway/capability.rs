//! Who may speak about which call: signed capabilities, and the keys that sign them.
//!
//! A token says version, key, thread and call, and an HMAC-SHA256 over all of that. It has no clock: it is
//! worth what its call, subscription or thread is worth and ends with it. The form is this gateway's own
//! affair; servers see an opaque URL (TRN-07).

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit, Mac};
use rap_http::Secret;
use rap_types::{CallId, HttpUrl, ThreadId, UrlError};
use sha2::Sha256;
use std::{fmt, sync::Arc};

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
const KEY_BYTES: usize = 32;
/// The longest token that is looked at, in characters; ours have at most 738.
const TOKEN_CHARS: usize = 1024;
/// Keeps these signatures apart from any other use of the same key.
const DOMAIN: &[u8] = b"rap callback capability\0";

/// The right to speak about one call of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Capability {
    /// The thread.
    pub thread: ThreadId,
    /// The call.
    pub call: CallId,
}

impl Capability {
    /// The right to speak about this call.
    pub fn new(thread: ThreadId, call: CallId) -> Self {
        Self { thread, call }
    }
}

/// Keys that sign capabilities: the first signs, all of them are taken. Cheap to clone.
///
/// To replace a key, [`rotate`](Self::rotate) and keep the old one until nothing minted under it lives. `Debug`
/// shows the ids of keys, never keys.
///
/// ```
/// use rap_client::{Capability, KeyRing, gateway::KeyRingError};
/// use rap_types::{CallId, ThreadId};
///
/// let keys = KeyRing::generate()?;
/// let (thread, call) = (ThreadId::new("thread-1")?, CallId::new("call-1")?);
/// let token = keys.mint(&thread, &call);
/// let later = keys.rotate()?;
/// assert_eq!(later.check(&token), Some(Capability::new(thread, call)), "the old key is still taken");
/// let error: KeyRingError = KeyRing::from_text("").unwrap_err();
/// assert!(error.to_string().contains("no key"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KeyRing(Arc<[Key]>);

#[derive(Clone)]
struct Key {
    id: [u8; 4],
    mac: Hmac<Sha256>,
    secret: [u8; KEY_BYTES],
}

impl Key {
    fn new(id: [u8; 4], secret: [u8; KEY_BYTES]) -> Self {
        let mut mac = Hmac::new_from_slice(&secret).expect("bug: HMAC takes keys of any length");
        mac.update(DOMAIN);
        Self { id, mac, secret }
    }

    fn generate() -> Result<Self, KeyRingError> {
        let mut bytes = [0; 4 + KEY_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|e| KeyRingError(format!("the system gives no random bytes: {e}")))?;
        let [a, b, c, d, secret @ ..] = bytes;
        Ok(Self::new([a, b, c, d], secret))
    }
}

/// Why there is no key ring. Never shows a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyRingError(String);

impl KeyRing {
    /// A ring with one new random key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, KeyRingError> {
        Ok(Self(Arc::new([Key::generate()?])))
    }

    /// This ring with a new key in front, which signs from now on; the others are still taken.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn rotate(&self) -> Result<Self, KeyRingError> {
        let mut new = Key::generate()?;
        while self.0.iter().any(|key| key.id == new.id) {
            new = Key::generate()?;
        }
        Ok(Self([new].into_iter().chain(self.0.iter().cloned()).collect()))
    }

    /// This ring without the key of an id: what was minted under it is worth nothing from now on.
    ///
    /// # Errors
    /// When there is no such key, or it is the only one.
    pub fn without(&self, id: &str) -> Result<Self, KeyRingError> {
        let rest: Vec<Key> = self.0.iter().filter(|key| HEXLOWER.encode(&key.id) != id).cloned().collect();
        if rest.len() == self.0.len() {
            return Err(KeyRingError(format!(
                "the ring has no key {id:?}; it has {}",
                self.ids().join(", ")
            )));
        }
        if rest.is_empty() {
            return Err(KeyRingError("this is the only key of the ring; rotate first".to_owned()));
        }
        Ok(Self(rest.into()))
    }

    /// The ids of the keys, the signing one first.
    pub fn ids(&self) -> Vec<String> {
        self.0.iter().map(|key| HEXLOWER.encode(&key.id)).collect()
    }

    /// The ring as text, for a file that only its owner may read (mode 0600): one key a line.
    pub fn to_text(&self) -> Secret {
        let lines = self.0.iter().map(|key| {
            format!("rap-key-1 {} {}\n", HEXLOWER.encode(&key.id), BASE64URL_NOPAD.encode(&key.secret))
        });
        Secret::from(lines.collect::<String>())
    }

    /// Reads what [`to_text`](Self::to_text) wrote. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// A line that is no key, an id that comes twice, or no key at all.
    pub fn from_text(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |what: &str| KeyRingError(format!("line {} of the key file {what}", number + 1));
            let mut words = line.split_ascii_whitespace();
            let (Some("rap-key-1"), Some(id), Some(secret), None) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(bad("is not `rap-key-1 <id> <key>`; restore the file, do not edit it"));
            };
            let id = HEXLOWER.decode(id.as_bytes()).ok().and_then(|id| <[u8; 4]>::try_from(id).ok());
            let secret = BASE64URL_NOPAD.decode(secret.as_bytes()).ok();
            let secret = secret.and_then(|s| <[u8; KEY_BYTES]>::try_from(s).ok());
            let (Some(id), Some(secret)) = (id, secret) else {
                return Err(bad("holds no whole key; restore the file from a copy"));
            };
            if keys.iter().any(|key| key.id == id) {
                return Err(bad("repeats the id of a key; remove one of the two"));
            }
            keys.push(Key::new(id, secret));
        }
        if keys.is_empty() {
            return Err(KeyRingError(
                "the key file holds no key; restore it, or delete it for a new one".into(),
            ));
        }
        Ok(Self(keys.into()))
    }

    /// The token of a capability: base64url, at most 738 characters.
    pub fn mint(&self, thread: &ThreadId, call: &CallId) -> String {
        let key = &self.0[0];
        let (thread, call) = (thread.as_str().as_bytes(), call.as_str().as_bytes());
        let mut token = Vec::with_capacity(9 + thread.len() + call.len() + MAC_BYTES);
        token.push(VERSION);
        token.extend_from_slice(&key.id);
        for id in [thread, call] {
            let length = u16::try_from(id.len()).expect("bug: an id has at most 256 bytes");
            token.extend_from_slice(&length.to_be_bytes());
            token.extend_from_slice(id);
        }
        let mut mac = key.mac.clone();
        mac.update(&token);
        token.extend_from_slice(&mac.finalize().into_bytes());
        BASE64URL_NOPAD.encode(&token)
    }

    /// The capability of a token, if one of the keys made it. Compares in constant time.
    pub fn check(&self, token: &str) -> Option<Capability> {
        if token.len() > TOKEN_CHARS {
            return None;
        }
        let token = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let (signed, signature) = token.split_at_checked(token.len().checked_sub(MAC_BYTES)?)?;
        let (&[VERSION, a, b, c, d], ids) = signed.split_first_chunk::<5>()? else { return None };
        let key = self.0.iter().find(|key| key.id == [a, b, c, d])?;
        let mut mac = key.mac.clone();
        mac.update(signed);
        mac.verify_slice(signature).ok()?;
        let (thread, rest) = id(ids)?;
        let (call, rest) = id(rest)?;
        if !rest.is_empty() {
            return None;
        }
        Some(Capability { thread: ThreadId::new(thread).ok()?, call: CallId::new(call).ok()? })
    }

    /// The callback URL of a call below a public URL.
    ///
    /// # Errors
    /// When the public URL cannot be extended.
    pub fn callback_url(
        &self,
        public_url: &HttpUrl,
        thread: &ThreadId,
        call: &CallId,
    ) -> Result<HttpUrl, UrlError> {
        public_url.below(&format!("callback/{}", self.mint(thread, call)))
    }
}

fn id(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(id).ok()?, rest))
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({})", self.ids().join(", "))
    }
}
