//! AWS Signature Version 4, for Bedrock. Pure: the time is given.

use crate::auth::AwsKeys;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What is signed.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    /// The path as it goes out.
    pub(crate) path: &'a str,
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    /// `YYYYMMDDTHHMMSSZ`
    pub(crate) time: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) content_type: Option<&'a str>,
}

/// The value of `Authorization`. Signed are host, `x-amz-date`, the token, and the content type where there is one.
pub(crate) fn authorization(request: &Request<'_>, keys: &AwsKeys) -> String {
    let mut headers: Vec<(&str, &str)> = vec![("host", request.host), ("x-amz-date", request.time)];
    headers.extend(request.content_type.map(|value| ("content-type", value)));
    headers.extend(keys.session_token.as_ref().map(|token| ("x-amz-security-token", token.expose())));
    headers.sort_unstable();
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let path = request.path.split('/').map(escaped).collect::<Vec<_>>().join("/");
    let canonical =
        format!("{}\n{path}\n\n{lines}\n{names}\n{}", request.method, hex(&Sha256::digest(request.body)));
    let day = &request.time[..request.time.len().min(8)];
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", request.time, hex(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", keys.secret_access_key.expose()).into_bytes();
    for part in [day, request.region, request.service, "aws4_request"] {
        key = mac(&key, part);
    }
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        keys.access_key_id,
        hex(&mac(&key, &to_sign))
    )
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("bug: HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn escaped(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `get-vanilla` of AWS's published test suite.
    #[test]
    fn the_published_vector() {
        let keys = AwsKeys {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let request = Request {
            method: "GET",
            host: "example.amazonaws.com",
            path: "/",
            service: "service",
            region: "us-east-1",
            time: "20150830T123600Z",
            body: b"",
            content_type: None,
        };
        assert_eq!(
            authorization(&request, &keys),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }
}
