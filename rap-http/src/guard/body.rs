//! Bodies: put together within limits, or thrown away.

use crate::Problem;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt;
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::Semaphore;

/// Reads a body whole: at most `limit` bytes within `time`. For services that look at the URL first.
///
/// # Errors
/// 413, 408, or 400 for a body that broke off.
///
/// ```
/// use rap_http::{Problem, guard::{check_content, discard, read_body}};
/// use std::time::Duration;
///
/// async fn take(request: http::Request<http_body_util::Full<bytes::Bytes>>) -> Result<bytes::Bytes, Problem> {
///     let (parts, body) = request.into_parts();
///     if let Err(problem) = check_content(&parts.headers) {
///         discard(&parts.headers, body);
///         return Err(problem);
///     }
///     read_body(body, 1 << 20, Duration::from_secs(30)).await
/// }
/// ```
pub async fn read_body<B>(body: B, limit: usize, time: Duration) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let mut body = Box::pin(body);
    match tokio::time::timeout(time, collect(body.as_mut(), limit, &mut |_| Ok(()))).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(problem)) => {
            discard(&HeaderMap::new(), body);
            Err(problem)
        }
        Err(_) => Err(too_slow(time)),
    }
}

/// How much of a refused body is thrown away, for how long, and how many at once. Beyond that the connection
/// is closed under the peer's hands.
const DISCARD_BYTES: usize = 16 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(5);
static DISCARDING: Semaphore = Semaphore::const_new(64);

/// Takes in and throws away what is left of a body that was refused, in the background and within limits: a
/// peer that sends first and reads then would otherwise lose the answer with the connection. For services
/// that refuse by the URL, before a body is read.
pub fn discard<B>(headers: &HeaderMap, body: B)
where
    B: Body<Data = Bytes> + Send + 'static,
{
    // Who expects `100 Continue` waits for our word and has sent nothing; reading would ask for it.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let (Ok(place), Ok(runtime)) = (DISCARDING.try_acquire(), tokio::runtime::Handle::try_current()) else {
        return;
    };
    runtime.spawn(async move {
        let _place = place;
        let _ = tokio::time::timeout(DISCARD_TIME, async move {
            let mut body = std::pin::pin!(body);
            let mut seen = 0;
            while let Some(Ok(frame)) = body.frame().await {
                seen += frame.data_ref().map_or(0, Bytes::len);
                if seen > DISCARD_BYTES {
                    break;
                }
            }
        })
        .await;
    });
}

pub(super) fn too_slow(limit: Duration) -> Problem {
    Problem::timeout(format!("the body must come within {} s", limit.as_secs_f64()))
}

/// Where a body has its room.
pub(super) trait Room {
    /// More of the body came and wants to be kept.
    fn take(&mut self, more: usize) -> Result<(), Problem>;

    /// Nothing of the body is there; it is looked at again when `cx` is woken.
    fn waits(&mut self, cx: &mut Context<'_>) -> Result<(), Problem> {
        let _ = cx;
        Ok(())
    }
}

impl<F: FnMut(usize) -> Result<(), Problem>> Room for F {
    fn take(&mut self, more: usize) -> Result<(), Problem> {
        self(more)
    }
}

/// Puts a body together; the room is asked before more of it is kept.
pub(super) async fn collect<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    limit: usize,
    room: &mut impl Room,
) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > limit as u64 {
        return Err(Problem::too_large(limit));
    }
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    loop {
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => match room.waits(cx) {
                Ok(()) => Poll::Pending,
                Err(problem) => Poll::Ready(Err(problem)),
            },
        });
        let Some(frame) = frame.await? else { break };
        let frame = frame.map_err(|_| Problem::invalid("the body broke off; send it whole"))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + whole.len() + data.len() > limit {
            return Err(Problem::too_large(limit));
        }
        room.take(data.len())?;
        // A body of one frame, the usual case, is passed on without a copy.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}
