//! How a provider knows us. Keys are never in `Debug`, errors or logs.

use crate::{sigv4, wire::Wire};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use rap_http::Secret;
use rap_runtime::ModelError;
use rap_types::HttpUrl;

/// How a provider knows us.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Auth {
    /// It asks nothing.
    Nobody,
    /// By a key, in the header that its API wants.
    Key(Secret),
    /// By a signature of AWS, in a region.
    Aws(AwsKeys, String),
}

/// Credentials of AWS.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// The id of the access key.
    pub access_key_id: String,
    /// The access key.
    pub secret_access_key: Secret,
    /// The token of a temporary one.
    pub session_token: Option<Secret>,
}

impl Auth {
    /// The headers of a request.
    pub(crate) fn headers(&self, wire: Wire, url: &HttpUrl, body: &[u8]) -> Result<HeaderMap, ModelError> {
        let mut headers = HeaderMap::new();
        if wire == Wire::Anthropic {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        match self {
            Self::Nobody => {}
            Self::Key(key) => {
                let (name, value) = match wire {
                    Wire::Anthropic => (HeaderName::from_static("x-api-key"), key.expose().to_owned()),
                    Wire::Gemini => (HeaderName::from_static("x-goog-api-key"), key.expose().to_owned()),
                    _ => (header::AUTHORIZATION, format!("Bearer {}", key.expose())),
                };
                headers.insert(name, secret(&value)?);
            }
            Self::Aws(keys, region) => aws(&mut headers, keys, region, url, body)?,
        }
        Ok(headers)
    }

    /// What must never be passed on.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Nobody => Vec::new(),
            Self::Key(key) => vec![key.expose()],
            Self::Aws(keys, _) => std::iter::once(keys.secret_access_key.expose())
                .chain(keys.session_token.as_ref().map(Secret::expose))
                .collect(),
        }
    }
}

fn secret(value: &str) -> Result<HeaderValue, ModelError> {
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| ModelError::fatal("the key holds characters that no header can carry; copy it anew"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn aws(
    headers: &mut HeaderMap,
    keys: &AwsKeys,
    region: &str,
    url: &HttpUrl,
    body: &[u8],
) -> Result<(), ModelError> {
    let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let parsed = url.parsed();
    let host = match (parsed.host_str(), parsed.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let request = sigv4::Request {
        method: "POST",
        host: &host,
        path: parsed.path(),
        service: "bedrock",
        region,
        time: &time,
        body,
        content_type: Some("application/json"),
    };
    headers.insert(header::AUTHORIZATION, secret(&sigv4::authorization(&request, keys))?);
    headers.insert("x-amz-date", secret(&time)?);
    if let Some(token) = &keys.session_token {
        headers.insert("x-amz-security-token", secret(token.expose())?);
    }
    Ok(())
}
