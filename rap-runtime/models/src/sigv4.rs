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

    /// A token of temporary credentials, from the suite.
    const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfI\
        eoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvl\
        Rd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJab\
        IQwj2ICCR/oLxBA==";

    /// Of AWS's published test suite: `get-vanilla`, `get-utf8`, `post-x-www-form-urlencoded`, `post-sts-header-before`.
    #[test]
    fn the_published_vectors() {
        for (method, path, content_type, body, token, names, signature) in [
            (
                "GET",
                "/",
                None,
                "",
                None,
                "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "GET",
                "/\u{1234}",
                None,
                "",
                None,
                "host;x-amz-date",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
            ),
            (
                "POST",
                "/",
                Some("application/x-www-form-urlencoded"),
                "Param1=value1",
                None,
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                "POST",
                "/",
                None,
                "",
                Some(TOKEN),
                "host;x-amz-date;x-amz-security-token",
                "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
            ),
        ] {
            let keys = AwsKeys {
                access_key_id: "AKIDEXAMPLE".to_owned(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: token.map(Into::into),
            };
            let request = Request {
                method,
                host: "example.amazonaws.com",
                path,
                service: "service",
                region: "us-east-1",
                time: "20150830T123600Z",
                body: body.as_bytes(),
                content_type,
            };
            assert_eq!(
                authorization(&request, &keys),
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
                     SignedHeaders={names}, Signature={signature}"
                )
            );
        }
    }
}
