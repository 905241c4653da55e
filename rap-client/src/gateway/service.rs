//! The gateway as a tower service: one path, and what is answered for every other.

use super::Gateway;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::Full;
use rap_http::Problem;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tower::Service;

/// What stands before the token.
const CALLBACK: &str = "/callback/";

/// A [`Gateway`] as a tower service over `http` types. Cheap to clone; clones share everything.
///
/// ```
/// use rap_client::{Callback, Gateway, Inbox, InboxError, KeyRing, Taken};
/// use rap_types::{CallId, ThreadId};
/// use std::sync::Arc;
/// use tower::ServiceExt;
///
/// struct Log;
///
/// #[async_trait::async_trait]
/// impl Inbox for Log {
///     async fn take(&self, _: Callback) -> Result<Taken, InboxError> {
///         Ok(Taken::Accepted) // in earnest: only after it is on disk
///     }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let gateway = Gateway::new(KeyRing::generate()?, "http://127.0.0.1:4000/agent".parse()?, Arc::new(Log));
/// let url = gateway.callback_url(&ThreadId::new("t")?, &CallId::new("c")?)?;
/// let body = r#"{"type": "tool_result", "group_id": "t", "id": "c", "text": "done"}"#;
/// let request = http::Request::post(url.as_str())
///     .header("content-type", "application/json")
///     .body(http_body_util::Full::<bytes::Bytes>::from(body))?;
/// assert_eq!(gateway.into_service().oneshot(request).await?.status(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct GatewayService {
    gateway: Arc<Gateway>,
    /// The path of the public URL, without a slash at its end. A proxy may pass it on, or take it off.
    prefix: Arc<str>,
}

impl GatewayService {
    pub(super) fn new(gateway: Gateway) -> Self {
        let prefix = gateway.public_url.parsed().path().trim_end_matches('/').into();
        Self { gateway: Arc::new(gateway), prefix }
    }

    /// The token in a path that is a callback's.
    fn token<'a>(&self, path: &'a str) -> Option<&'a str> {
        let of_callback = |path: &'a str| path.strip_prefix(CALLBACK);
        let token = path.strip_prefix(&*self.prefix).and_then(of_callback).or_else(|| of_callback(path))?;
        (!token.is_empty() && !token.contains('/')).then_some(token)
    }

    async fn answer<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let Some(token) = self.token(request.uri().path()) else {
            return Problem::not_found("only callback URLs lead somewhere here; use them exactly as given")
                .into_response();
        };
        if request.method() != Method::POST {
            let problem =
                Problem::method_not_allowed("callbacks are sent by POST; nothing else is served here");
            return problem.allow("POST").into_response();
        }
        let token = token.to_owned();
        match self.gateway.receive(&token, request).await {
            Ok(()) => Response::new(Full::default()),
            Err(problem) => {
                tracing::debug!(
                    status = problem.status().as_u16(),
                    slug = problem.slug(),
                    "a callback was refused"
                );
                problem.into_response()
            }
        }
    }
}

impl<B> Service<Request<B>> for GatewayService
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}
