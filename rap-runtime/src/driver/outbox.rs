//! The outbox: what was committed is sent, at least once, and every attempt is settled.
//!
//! Each delivery is a task of its own. A server that is down or hangs holds up only its own deliveries: they wait
//! for its origin, and when many wait they go back to the store for a while, so that others find room.

use super::{Pauses, embedded, live, slice::caught};
use crate::{OwnCall, Runtime, clock};
use bytes::Bytes;
use rap_client::Gateway;
use rap_core::{Delivery, DeliveryKind, InputBody, InputId, Millis, NewInput, Settlement, StoreError};
use rap_http::{
    Attempt, Origins, Traffic, Verdict,
    delivery::{INVOCATION_WINDOW, Permit, Start},
    judge,
};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Deliveries that this process holds at most.
const HELD: usize = 1024;
/// From so many on, deliveries that cannot start go back to the store.
const CROWDED: usize = 256;
/// Requests to one origin at once.
const AT_ONCE: usize = 32;
/// Longer than any process lives.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long one that went back stays there, at least, in milliseconds.
const BACK_FOR: i64 = 1_000;
/// How soon is looked again whether a session's servers were asked, in milliseconds.
const REFRESH_AGAIN: i64 = 250;

pub(super) struct Senders {
    runtime: Runtime,
    /// The store is another process's.
    is_guest: bool,
    gateway: Gateway,
    ending: CancellationToken,
    held: Arc<AtomicUsize>,
    origins: Mutex<Origins>,
    /// Rung when an origin may be asked about again.
    released: Notify,
    lanes: Mutex<HashMap<String, Arc<Semaphore>>>,
    /// Per delivery that is tried again: whether one of its attempts may have arrived.
    doubts: Mutex<HashMap<i64, bool>>,
}

/// A place among the held deliveries.
pub(super) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to make one attempt.
struct Turn {
    permit: Permit,
    _lane: OwnedSemaphorePermit,
}

impl Senders {
    pub(super) fn new(runtime: Runtime, ending: CancellationToken, is_guest: bool) -> Self {
        Self {
            is_guest,
            gateway: runtime.callbacks(),
            runtime,
            ending,
            held: Arc::default(),
            origins: Mutex::default(),
            released: Notify::new(),
            lanes: Mutex::default(),
            doubts: Mutex::default(),
        }
    }

    /// Takes what is due.
    #[cfg(feature = "sqlite")]
    pub(super) async fn take(&self, now: Millis) -> Result<Vec<Delivery>, rap_core::StoreError> {
        self.runtime.inner.store.take(now, self.room()).await
    }

    /// How many more deliveries may be taken.
    pub(super) fn room(&self) -> usize {
        HELD.saturating_sub(self.held.load(Ordering::Relaxed))
    }

    pub(super) fn enter(&self) -> Place {
        self.held.fetch_add(1, Ordering::Relaxed);
        Place(self.held.clone())
    }

    /// Makes one attempt and settles it; whether it is held no more. Cut off by a shutdown it still is, to be sent
    /// again after the start.
    pub(super) async fn send(&self, delivery: Delivery) -> bool {
        let settlement = caught(async {
            if delivery.kind == DeliveryKind::Refresh {
                return self.refresh(&delivery).await;
            }
            if let Some(call) = OwnCall::new(&delivery) {
                return embedded::work(&self.runtime, &self.ending, &delivery, call).await;
            }
            match self.body(&delivery) {
                Ok(body) => self.deliver(&delivery, body).await,
                Err(reason) => Some(gave_up(&delivery, &reason, false)),
            }
        });
        let settlement = settlement.await.unwrap_or_else(|| {
            tracing::error!(to = delivery.url.origin(), "bug: a delivery panicked; it is tried again");
            Some(Settlement::RetryAt(clock::now() + 10 * BACK_FOR))
        });
        let Some(settlement) = settlement else { return !self.ending.is_cancelled() };
        self.settle(delivery.id, settlement).await
    }

    /// Settles a delivery: it is kept until that is written, so that nobody sends again what was refused (TRN-04). Whether
    /// it is held no more.
    async fn settle(&self, delivery: i64, settlement: Settlement) -> bool {
        let store = &self.runtime.inner.store;
        let mut pauses = Pauses::new();
        loop {
            match store.settle(delivery, settlement.clone(), clock::now()).await {
                // Another's by now, it is another's to settle.
                Ok(()) | Err(StoreError::Owned { .. }) => break,
                Err(error) => tracing::error!(%error, "a delivery could not be settled; trying again"),
            }
            if !pauses.wait(&self.ending).await {
                return false;
            }
        }
        self.runtime.inner.hub.ring();
        true
    }

    /// Asks all servers of a session for their toolsets. A guest leaves that to the owner, which alone knows what of them
    /// is live.
    async fn refresh(&self, delivery: &Delivery) -> Option<Settlement> {
        let later = |ms| Some(Settlement::RetryAt(clock::now() + ms));
        if self.is_guest {
            return later(REFRESH_AGAIN);
        }
        let asked_at = Millis(delivery.body["asked_at"].as_i64().unwrap_or(i64::MAX));
        let asked = tokio::select! {
            biased;
            () = self.ending.cancelled() => return None,
            asked = self.runtime.ask_all_servers_since(&delivery.session, asked_at) => asked,
        };
        match asked {
            Ok(true) => Some(Settlement::Delivered),
            Ok(false) => later(REFRESH_AGAIN),
            Err(error) => {
                tracing::error!(%error, "a session's servers could not be asked; trying again");
                later(BACK_FOR)
            }
        }
    }

    /// The body as it goes out: an invocation gets its callback URL, everything else is as committed.
    fn body(&self, delivery: &Delivery) -> Result<Bytes, String> {
        let json = |body: &Value| serde_json::to_vec(body).map(Bytes::from).map_err(|e| e.to_string());
        match (delivery.kind, &delivery.call) {
            (DeliveryKind::Invocation, Some(call)) => {
                let url = self
                    .gateway
                    .callback_url(&delivery.thread, call)
                    .map_err(|e| format!("no callback URL can be made: {e}"))?;
                let mut body = delivery.body.clone();
                body["callback_url"] = Value::String(url.as_str().to_owned());
                json(&body)
            }
            _ => json(&delivery.body),
        }
    }

    async fn deliver(&self, delivery: &Delivery, body: Bytes) -> Option<Settlement> {
        let url = live::place(&self.runtime, delivery, self.is_guest).await;
        let origin = url.origin();
        let window = self.window_left(delivery);
        let turn = tokio::select! {
            biased;
            () = self.ending.cancelled() => return None,
            turn = self.turn(delivery, &origin) => turn.map_err(Some),
            () = tokio::time::sleep(window) => Err(None),
        };
        let permit = match turn {
            Ok(turn) => turn,
            Err(Some(back_at)) if !window.is_zero() => {
                self.doubt(delivery, false);
                return Some(Settlement::RetryAt(back_at));
            }
            Err(_) => {
                // Its origin is down, and others probe it: its own time is over all the same.
                let may_have_arrived = self.doubt(delivery, false);
                self.doubts.lock().unwrap_or_else(PoisonError::into_inner).remove(&delivery.id);
                let reason =
                    "its server was not to be reached, and the two minutes for an invocation are over";
                return Some(given_up(delivery, reason, &for_the_model(&Attempt::Refused), may_have_arrived));
            }
        };
        match self.runtime.inner.store.begin(delivery.id).await {
            Ok(true) => {}
            // It was taken back while it waited: nothing is owed any more.
            Ok(false) => {
                self.doubts.lock().unwrap_or_else(PoisonError::into_inner).remove(&delivery.id);
                self.unused(&origin, permit.permit);
                return None;
            }
            Err(error) => {
                tracing::error!(%error, "a delivery could not be begun; it is tried again");
                self.unused(&origin, permit.permit);
                return Some(Settlement::RetryAt(clock::now() + BACK_FOR));
            }
        }
        let attempt = self
            .runtime
            .inner
            .net
            .to(&url)
            .attempt_invocation_bytes(&url, body, delivery.traceparent.as_deref())
            .await;
        let now = clock::now();
        if self.origins(|origins| origins.finished(&origin, clock_ms(now), permit.permit, &attempt)) {
            self.released.notify_waiters();
        }
        let may_have_arrived = self.doubt(delivery, attempt.may_have_arrived());
        let settlement = match attempt {
            Attempt::Status { code: 404 | 410, .. }
                if live::has_moved(&self.runtime, delivery, &url).await =>
            {
                let reason = "the tool server has moved its endpoint and did not take this call; call again";
                gave_up(delivery, reason, may_have_arrived)
            }
            Attempt::Refused => {
                live::refused(&self.runtime, delivery).await;
                settle(delivery, &attempt, may_have_arrived, now)
            }
            _ => settle(delivery, &attempt, may_have_arrived, now),
        };
        if !matches!(settlement, Settlement::RetryAt(_)) {
            self.doubts.lock().unwrap_or_else(PoisonError::into_inner).remove(&delivery.id);
        }
        Some(settlement)
    }

    /// How long a delivery may still wait for its turn. Only invocations end by the clock; the others are the
    /// schedule's.
    fn window_left(&self, delivery: &Delivery) -> Duration {
        if delivery.kind != DeliveryKind::Invocation {
            return FOREVER;
        }
        let waited = delivery.first_attempt.map_or(0, |first| clock::now() - first);
        INVOCATION_WINDOW.saturating_sub(Duration::from_millis(u64::try_from(waited).unwrap_or(0)))
    }

    /// Whether an attempt so far may have arrived, this one included. Of attempts before a restart nothing is
    /// known but that they were made.
    fn doubt(&self, delivery: &Delivery, this: bool) -> bool {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        let doubt = doubts.entry(delivery.id).or_insert(delivery.begun);
        *doubt |= this;
        *doubt
    }

    /// Waits until an attempt may start, or says when to come back.
    async fn turn(&self, delivery: &Delivery, origin: &str) -> Result<Turn, Millis> {
        let lane = self.lane(origin);
        let lane = match lane.clone().try_acquire_owned() {
            Ok(lane) => lane,
            Err(_) if self.is_crowded(delivery) => return Err(clock::now() + BACK_FOR),
            Err(_) => lane.acquire_owned().await.expect("bug: lanes are never closed"),
        };
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            let now = clock::now();
            let until = match self.origins(|origins| origins.may_start(origin, clock_ms(now))) {
                Start::Now(permit) => return Ok(Turn { permit, _lane: lane }),
                Start::WaitUntil(until) => until,
                Start::WaitForProbe { at_latest } => at_latest,
            };
            let wait = until.saturating_sub(clock_ms(now)).max(1);
            if self.is_crowded(delivery) {
                return Err(now + i64::try_from(wait).unwrap_or(BACK_FOR).clamp(BACK_FOR, 10 * BACK_FOR));
            }
            tokio::select! {
                () = &mut released => {}
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
            }
        }
    }

    /// An answer to a person's choice never goes back: its schedule is counted.
    fn is_crowded(&self, delivery: &Delivery) -> bool {
        delivery.kind != DeliveryKind::ChoiceAnswer && self.held.load(Ordering::Relaxed) > CROWDED
    }

    /// Gives back the right to an attempt that is not made.
    fn unused(&self, origin: &str, permit: Permit) {
        if self.origins(|origins| origins.abandoned(origin, permit)) {
            self.released.notify_waiters();
        }
    }

    fn origins<T>(&self, ask: impl FnOnce(&mut Origins) -> T) -> T {
        ask(&mut self.origins.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn lane(&self, origin: &str) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if lanes.len() > 1024 {
            lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        }
        lanes.entry(origin.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone()
    }
}

fn clock_ms(now: Millis) -> u64 {
    u64::try_from(now.0).unwrap_or(0)
}

/// What an attempt means for its row.
fn settle(delivery: &Delivery, attempt: &Attempt, may_have_arrived: bool, now: Millis) -> Settlement {
    let traffic = match delivery.kind {
        DeliveryKind::Invocation => Traffic::Invocation,
        DeliveryKind::ChoiceAnswer => Traffic::Answer,
        _ => Traffic::Notice,
    };
    let since_first = now - delivery.first_attempt.unwrap_or(now);
    let since_first = Duration::from_millis(u64::try_from(since_first).unwrap_or(0));
    match judge(traffic, delivery.attempts + 1, since_first, attempt, clock::dice()) {
        Verdict::Delivered => Settlement::Delivered,
        Verdict::Retry { after, .. } => {
            Settlement::RetryAt(now + i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
        }
        Verdict::GiveUp(end) => {
            if delivery.kind != DeliveryKind::Invocation {
                tracing::warn!(kind = ?delivery.kind, to = delivery.url.origin(), reason = end.reason, "given up");
            }
            given_up(delivery, &end.reason, &for_the_model(attempt), may_have_arrived)
        }
    }
}

/// Why a call did not reach its server, in words that a model can act on.
fn for_the_model(attempt: &Attempt) -> String {
    match attempt {
        Attempt::Status { code: 404 | 410, .. } => {
            "the tool server does not know its own endpoint any more (it answered 404 or 410); do not retry, tell the user".to_owned()
        }
        Attempt::Status { code: code @ (401 | 403), .. } => {
            format!("the tool server turned us away (it answered {code}); do not retry, tell the user that its credentials are missing or wrong")
        }
        Attempt::Status { code: 413, .. } => {
            "the arguments are too large for the tool server (it answered 413); call again with less".to_owned()
        }
        Attempt::Status { code: code @ 400..=499, .. } => {
            format!("the tool server refused the call (it answered {code}); do not retry with the same arguments")
        }
        Attempt::Status { code, .. } => {
            format!("the tool server fails (it answered {code} for two minutes); try again later, or go on without it")
        }
        Attempt::Refused => {
            "the tool server could not be reached for two minutes; try again later, or go on without it".to_owned()
        }
        Attempt::TimedOut => {
            "the tool server did not answer for two minutes; try again later, or go on without it".to_owned()
        }
        Attempt::Failed(_) => {
            "the connection to the tool server broke each time for two minutes; try again later, or go on without it"
                .to_owned()
        }
        Attempt::Blocked(why) => format!("the call was not sent: {why}; do not retry, tell the user"),
    }
}

pub(super) fn gave_up(delivery: &Delivery, reason: &str, may_have_arrived: bool) -> Settlement {
    given_up(delivery, reason, reason, may_have_arrived)
}

/// What people are told is the last error; what the thread of an invocation is told is what its model can act on.
fn given_up(delivery: &Delivery, reason: &str, told: &str, may_have_arrived: bool) -> Settlement {
    let input = delivery.call.clone().filter(|_| delivery.kind == DeliveryKind::Invocation).map(|call| {
        Box::new(NewInput {
            thread: delivery.thread.clone(),
            id: InputId::undelivered(&call),
            source: "runtime".to_owned(),
            body: InputBody::Undelivered { call, may_have_arrived, reason: told.to_owned() },
            traceparent: None,
        })
    });
    Settlement::GaveUp { reason: reason.to_owned(), input }
}
