//! The way out: every callback by the delivery contract, in order per call, one probe at a time to an
//! origin that is down. What is given up becomes a dead letter, which can be listed and sent again.

use crate::{
    call::{CallInner, Parcel, What},
    trace::Trace,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use rap_http::{
    AddressPolicy, Attempt, GuardedClient, Origins, Traffic, Verdict,
    delivery::{Permit, Start},
    judge,
};
use rap_types::{CallId, HttpUrl, ThreadId};
use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How many dead letters are kept; the oldest go first.
const DEAD_LETTERS: usize = 10_000;

/// Who carries a message to its URL: the guarded client, or a test.
pub(crate) trait Courier: Send + Sync {
    fn post<'a>(&'a self, url: &'a HttpUrl, body: Bytes, headers: HeaderMap) -> BoxFuture<'a, Attempt>;
}

impl Courier for GuardedClient {
    fn post<'a>(&'a self, url: &'a HttpUrl, body: Bytes, headers: HeaderMap) -> BoxFuture<'a, Attempt> {
        Box::pin(self.post_json(url, body, headers))
    }
}

pub(crate) struct Outbox {
    courier: Box<dyn Courier>,
    policy: AddressPolicy,
    origins: Mutex<Origins>,
    /// Told when an origin may be asked again.
    moved: Notify,
    epoch: Instant,
    seeds: AtomicU64,
    dead: Mutex<Dead>,
    taken: metrics::Counter,
    failed: metrics::Counter,
}

#[derive(Default)]
struct Dead {
    letters: VecDeque<DeadLetter>,
    next: u64,
}

/// What came of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    Taken,
    Lost,
    Gone,
    Unwanted,
}

/// A callback that was given up: what it said, why it did not arrive, and how often it was tried.
///
/// ```
/// use rap_server::DeadLetter;
///
/// /// A line for whoever looks after the server. The body is left out: it is the runtime's.
/// fn line(letter: &DeadLetter) -> String {
///     let what = if letter.is_result() { "the result" } else { letter.kind() };
///     format!("{what} of {} was not taken after {} tries: {}", letter.call(), letter.attempts(), letter.reason())
/// }
/// ```
#[derive(Clone, PartialEq)]
pub struct DeadLetter {
    number: u64,
    thread: ThreadId,
    call: CallId,
    kind: &'static str,
    url: HttpUrl,
    body: Bytes,
    attempts: u32,
    reason: String,
}

impl DeadLetter {
    /// Its number, for [`ServerHandle::resend`](crate::ServerHandle::resend).
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The thread of the call.
    pub fn thread(&self) -> &ThreadId {
        &self.thread
    }

    /// The call.
    pub fn call(&self) -> &CallId {
        &self.call
    }

    /// The message's `type`, e.g. `tool_result`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether it is the result of a call.
    pub fn is_result(&self) -> bool {
        self.kind == "tool_result"
    }

    /// The message as it was to be sent. It may hold what only the runtime should read.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How often it was tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Why it did not arrive, without secrets.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Without the message, and without the URL's query.
impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetter")
            .field("number", &self.number)
            .field("thread", &self.thread)
            .field("call", &self.call)
            .field("kind", &self.kind)
            .field("origin", &self.url.origin())
            .field("attempts", &self.attempts)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

impl What {
    fn kind(&self) -> &'static str {
        match self {
            Self::Result => "tool_result",
            Self::Event { .. } => "subscription_event",
            Self::View { .. } => "view_update",
            Self::Question { .. } => "user_choice",
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbox {
    pub(crate) fn new(courier: Box<dyn Courier>, policy: AddressPolicy) -> Self {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Self {
            courier,
            policy,
            origins: Mutex::default(),
            moved: Notify::new(),
            epoch: Instant::now(),
            seeds: AtomicU64::new(seed),
            dead: Mutex::default(),
            taken: crate::gauges::attempts("taken"),
            failed: crate::gauges::attempts("failed"),
        }
    }

    /// Whether a callback URL may be called, as far as that can be said at once: names are judged again when
    /// they are resolved.
    pub(crate) fn check(&self, url: &HttpUrl) -> Result<(), String> {
        let target = self.policy.check_url(url).map_err(|refusal| refusal.to_string())?;
        if target.secure && !cfg!(feature = "tls") {
            return Err("this server was built without https; build it with the feature `tls`".to_owned());
        }
        Ok(())
    }

    /// Delivers a parcel of a call, however long that takes.
    pub(crate) async fn deliver(&self, call: &CallInner, parcel: &Parcel) -> Delivered {
        let is_event = matches!(parcel.what, What::Event { .. });
        let wanted = || match &parcel.what {
            What::Event { .. } => call.core().life.may_send_events(),
            // A view that was overtaken, perhaps by another call of the thread, is not tried again.
            What::View { view_type, number } => call.engine.is_newest_view(&call.thread, view_type, *number),
            What::Result | What::Question { .. } => true,
        };
        if call.core().gone {
            self.bury(self.letter(call, parcel, "nothing more is taken at this URL (410)"));
            return Delivered::Lost;
        }
        let (end, attempts, reason) = {
            let mut work = std::pin::pin!(self.attempts(
                &call.callback_url,
                &call.origin,
                &parcel.body,
                call.trace.as_deref(),
                wanted,
            ));
            if is_event {
                tokio::select! {
                    biased;
                    end = &mut work => end,
                    // The farewell of a shutdown is still wanted.
                    () = unwanted(call) => (Delivered::Unwanted, 0, String::new()),
                }
            } else {
                work.await
            }
        };
        if matches!(end, Delivered::Lost | Delivered::Gone) {
            let mut letter = self.letter(call, parcel, &reason);
            letter.attempts = attempts;
            self.bury(letter);
        }
        end
    }

    /// Delivers a message that no call in work stands behind.
    pub(crate) async fn deliver_alone(
        &self,
        thread: &ThreadId,
        call: &CallId,
        url: &HttpUrl,
        body: Bytes,
        trace: Option<&Trace>,
    ) -> Delivered {
        let (end, attempts, reason) = self.attempts(url, &url.origin(), &body, trace, || true).await;
        if matches!(end, Delivered::Lost | Delivered::Gone) {
            self.bury(DeadLetter {
                number: 0,
                thread: thread.clone(),
                call: call.clone(),
                kind: "tool_result",
                url: url.clone(),
                body,
                attempts,
                reason,
            });
        }
        end
    }

    async fn attempts(
        &self,
        url: &HttpUrl,
        origin: &str,
        body: &Bytes,
        trace: Option<&Trace>,
        wanted: impl Fn() -> bool,
    ) -> (Delivered, u32, String) {
        let mut headers = HeaderMap::new();
        if let Some(trace) = trace {
            trace.put(&mut headers);
        }
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        let mut first = None;
        let mut attempts = 0;
        loop {
            let permit = self.permit(origin).await;
            if !wanted() {
                self.abandoned(origin, permit);
                return (Delivered::Unwanted, attempts, String::new());
            }
            let first = *first.get_or_insert_with(Instant::now);
            let attempt = Held { outbox: self, origin, permit: Some(permit) }
                .finish(self.courier.post(url, body.clone(), headers.clone()))
                .await;
            attempts += 1;
            if attempt.is_delivered() { &self.taken } else { &self.failed }.increment(1);
            match judge(Traffic::Callback, attempts, first.elapsed(), &attempt, seed) {
                Verdict::Delivered => return (Delivered::Taken, attempts, String::new()),
                Verdict::GiveUp(end) => {
                    let delivered = if end.gone { Delivered::Gone } else { Delivered::Lost };
                    return (delivered, attempts, end.reason);
                }
                Verdict::Retry { after, .. } => {
                    if attempts == 1 {
                        tracing::warn!(
                            origin,
                            ?after,
                            "a callback was not taken, and is tried again: {attempt}"
                        );
                    } else {
                        tracing::debug!(
                            origin,
                            attempts,
                            ?after,
                            "a callback is to be tried again: {attempt}"
                        );
                    }
                    let refused = matches!(attempt, Attempt::Refused);
                    if self.pause(origin, after, refused).await {
                        // Brought forward by others' success: not one of the schedule's tries.
                        attempts -= 1;
                    }
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until the origin may be asked.
    async fn permit(&self, origin: &str) -> Permit {
        // Nearly always; nobody need be told of anything then.
        if let Start::Now(permit) = locked(&self.origins).may_start(origin, self.now_ms()) {
            return permit;
        }
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let start = locked(&self.origins).may_start(origin, self.now_ms());
            let until = match start {
                Start::Now(permit) => return permit,
                Start::WaitUntil(at) | Start::WaitForProbe { at_latest: at } => at,
            };
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(self.epoch + Duration::from_millis(until)) => {}
            }
        }
    }

    /// Waits for the next attempt; whether it was brought forward. An origin that was in trouble and is back
    /// ends the wait of a delivery whose connection was refused: after any other failure the fault may be the
    /// delivery's own, and others' success says nothing of it.
    async fn pause(&self, origin: &str, after: Duration, refused: bool) -> bool {
        let until = Instant::now() + after;
        if !refused || !locked(&self.origins).is_troubled(origin) {
            tokio::time::sleep_until(until).await;
            return false;
        }
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if !locked(&self.origins).is_troubled(origin) {
                return true;
            }
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(until) => return false,
            }
        }
    }

    fn abandoned(&self, origin: &str, permit: Permit) {
        if locked(&self.origins).abandoned(origin, permit) {
            self.moved.notify_waiters();
        }
    }

    pub(crate) fn letter(&self, call: &CallInner, parcel: &Parcel, reason: &str) -> DeadLetter {
        DeadLetter {
            number: 0,
            thread: call.thread.clone(),
            call: call.id.clone(),
            kind: parcel.what.kind(),
            url: call.callback_url.clone(),
            body: parcel.body.clone(),
            attempts: 0,
            reason: reason.to_owned(),
        }
    }

    fn bury(&self, mut letter: DeadLetter) {
        tracing::warn!(?letter, "a callback was given up");
        crate::gauges::given_up(letter.kind);
        let mut dead = locked(&self.dead);
        dead.next += 1;
        letter.number = dead.next;
        dead.letters.push_back(letter);
        if dead.letters.len() > DEAD_LETTERS {
            dead.letters.pop_front();
        }
    }

    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        locked(&self.dead).letters.iter().cloned().collect()
    }

    /// Takes a dead letter out and delivers it again.
    pub(crate) async fn resend(&self, number: u64) -> bool {
        let letter = {
            let mut dead = locked(&self.dead);
            let Some(at) = dead.letters.iter().position(|l| l.number == number) else { return false };
            dead.letters.remove(at)
        };
        let Some(mut letter) = letter else { return false };
        let (end, attempts, reason) =
            self.attempts(&letter.url, &letter.url.origin(), &letter.body, None, || true).await;
        if end != Delivered::Taken {
            letter.attempts += attempts;
            letter.reason = reason;
            self.bury(letter);
        }
        end == Delivered::Taken
    }
}

/// Done when the events of a call are not wanted any more.
async fn unwanted(call: &CallInner) {
    call.token.cancelled().await;
    if call.core().life.may_send_events() {
        std::future::pending::<()>().await;
    }
}

/// A permit on its way: handed back whatever happens.
struct Held<'a> {
    outbox: &'a Outbox,
    origin: &'a str,
    permit: Option<Permit>,
}

impl Held<'_> {
    async fn finish(mut self, attempt: BoxFuture<'_, Attempt>) -> Attempt {
        let attempt = attempt.await;
        if let Some(permit) = self.permit.take() {
            let now = self.outbox.now_ms();
            if locked(&self.outbox.origins).finished(self.origin, now, permit, &attempt) {
                self.outbox.moved.notify_waiters();
            }
        }
        attempt
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.outbox.abandoned(self.origin, permit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was given up is kept in bounds: the oldest go first, and numbers are never used again.
    #[test]
    fn dead_letters_are_bounded() {
        let policy = AddressPolicy::public();
        let outbox = Outbox::new(Box::new(GuardedClient::new(policy.clone())), policy);
        for n in 1..=DEAD_LETTERS + 3 {
            outbox.bury(DeadLetter {
                number: 0,
                thread: "t".parse().unwrap(),
                call: format!("c{n}").parse().unwrap(),
                kind: "tool_result",
                url: "https://example.com/".parse().unwrap(),
                body: Bytes::new(),
                attempts: 1,
                reason: String::new(),
            });
        }
        let letters = outbox.dead_letters();
        assert_eq!(letters.len(), DEAD_LETTERS);
        let ends = [&letters[0], &letters[DEAD_LETTERS - 1]].map(|l| (l.number(), l.call().to_string()));
        assert_eq!(ends, [(4, "c4".to_owned()), (10_003, "c10003".to_owned())]);
    }
}
