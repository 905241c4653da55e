//! The way out: every callback by the delivery contract, in order per call, one probe at a time to an
//! origin that is down. What is given up becomes a dead letter.

use crate::{
    call::{CallInner, Core, What},
    engine::Engine,
    letters::{DeadLetter, Letters, ResendError},
    strays::Strays,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use rap_http::{
    AddressPolicy, Attempt, GuardedClient, Origins, TraceContext, Traffic, Verdict,
    delivery::{Permit, Start},
    judge,
};
use rap_types::HttpUrl;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long a view, or a question that nobody awaits any more, may be without an answer while a result or a question
/// waits behind it: a runtime that does not answer the one may answer the other, and one that has first to be started
/// has the time for it.
const GIVES_WAY: Duration = Duration::from_secs(5);

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
    /// Told when everybody is to try once more at once, and how often that was.
    hurrying: Notify,
    hurries: AtomicU64,
    epoch: Instant,
    seeds: AtomicU64,
    pub(crate) letters: Letters,
    pub(crate) strays: Strays,
    taken: metrics::Counter,
    failed: metrics::Counter,
}

/// What came of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    Taken,
    Lost,
    Gone,
    Unwanted,
    /// It failed, or was not answered, and lets what matters more go first.
    GaveWay,
}

/// Why a delivery does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Halt {
    Unwanted,
    GiveWay,
    /// The call was sent again with another callback URL.
    Elsewhere,
}

/// Where the messages of a call go since it was sent again.
pub(crate) struct Target {
    pub(crate) url: HttpUrl,
    origin: String,
}

impl Target {
    pub(crate) fn new(url: HttpUrl) -> Arc<Self> {
        Arc::new(Self { origin: url.origin(), url })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One message on its way.
struct Errand<'a> {
    url: &'a HttpUrl,
    origin: &'a str,
    body: &'a Bytes,
    trace: Option<&'a TraceContext>,
    of: Option<Part<'a>>,
}

/// What of a call is on its way, and where to if not to where the call first said.
#[derive(Clone, Copy)]
struct Part<'a> {
    call: &'a CallInner,
    what: &'a What,
    target: Option<&'a Arc<Target>>,
}

impl Part<'_> {
    /// Whether results and questions need not wait for the answer to it.
    fn gives_way(&self) -> bool {
        matches!(self.what, What::View { .. } | What::Question { .. })
    }

    /// Whether it is still wanted, there and now, after so many attempts.
    fn halt(&self, core: &Core, attempts: u32) -> Option<Halt> {
        let call = self.call;
        if core.gone {
            return Some(Halt::Unwanted);
        }
        if core.target.as_ref().map(Arc::as_ptr) != self.target.map(Arc::as_ptr) {
            return Some(Halt::Elsewhere);
        }
        let wanted = match self.what {
            What::Result => true,
            What::Event { .. } => core.life.may_send_events(),
            // After the result nobody awaits the answer.
            What::Question { token } => core.life.is_working() && call.engine.questions.is_open(token),
            // A view that was overtaken, perhaps by another call of the thread, is not tried again.
            What::View { view_type, number } => {
                if attempts > 0 && core.matters_more_waits() {
                    return Some(Halt::GiveWay);
                }
                call.engine.is_newest_view(&call.thread, view_type, *number)
                    && (attempts == 0 || core.life.is_alive())
            }
        };
        (!wanted).then_some(Halt::Unwanted)
    }
}

impl Errand<'_> {
    fn halt(&self, attempts: u32) -> Option<Halt> {
        let part = self.of?;
        part.halt(&part.call.core(), attempts)
    }

    /// Done when the delivery is not to go on; whoever changes the call wakes it.
    async fn halted(&self, attempts: u32) -> Halt {
        let Some(part) = self.of else { return std::future::pending().await };
        std::future::poll_fn(|cx| {
            let mut core = part.call.core();
            match part.halt(&core, attempts) {
                Some(halt) => Poll::Ready(halt),
                None => {
                    core.attempts = attempts;
                    core.waiting = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// How an errand ended.
enum Ended {
    Taken,
    GivenUp { gone: bool, attempts: u32, reason: String },
    Halted(Halt),
}

impl Outbox {
    pub(crate) fn new(courier: Box<dyn Courier>, policy: AddressPolicy) -> Self {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Self {
            courier,
            policy,
            origins: Mutex::default(),
            moved: Notify::new(),
            hurrying: Notify::new(),
            hurries: AtomicU64::new(0),
            epoch: Instant::now(),
            seeds: AtomicU64::new(seed),
            letters: Letters::default(),
            strays: Strays::default(),
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

    /// Delivers what a call has to say, however long that takes.
    pub(crate) async fn deliver(&self, call: &CallInner, what: &What, body: &Bytes) -> Delivered {
        loop {
            let (gone, target) = {
                let core = call.core();
                (core.gone, core.target.clone())
            };
            let (url, origin) = match &target {
                Some(target) => (&target.url, &target.origin),
                None => (&call.callback_url, &call.origin),
            };
            if gone {
                let reason = "nothing more is taken at this URL (410)";
                self.bury(call, DeadLetter::new(call, url, what.clone(), body.clone(), reason));
                return Delivered::Lost;
            }
            let of = Some(Part { call, what, target: target.as_ref() });
            let errand = Errand { url, origin, body, trace: call.trace.as_deref(), of };
            let ended = {
                let mut work = std::pin::pin!(self.attempts(&errand));
                if matches!(what, What::Event { .. }) {
                    tokio::select! {
                        biased;
                        ended = &mut work => ended,
                        // The farewell of a shutdown is still wanted.
                        () = unwanted(call) => Ended::Halted(Halt::Unwanted),
                    }
                } else {
                    work.await
                }
            };
            match ended {
                Ended::Taken => return Delivered::Taken,
                Ended::Halted(Halt::Elsewhere) => {}
                Ended::Halted(Halt::Unwanted) => return Delivered::Unwanted,
                Ended::Halted(Halt::GiveWay) => return Delivered::GaveWay,
                Ended::GivenUp { gone, attempts, reason } => {
                    // What was refused at the old URL is for the new one to take.
                    if errand.halt(attempts) == Some(Halt::Elsewhere) {
                        continue;
                    }
                    let mut letter = DeadLetter::new(call, url, what.clone(), body.clone(), &reason);
                    letter.attempts = attempts;
                    self.bury(call, letter);
                    return if gone { Delivered::Gone } else { Delivered::Lost };
                }
            }
        }
    }

    /// Delivers a message that no call in work stands behind; what is given up becomes a dead letter.
    pub(crate) async fn deliver_alone(&self, mut letter: DeadLetter) {
        let origin = letter.url.origin();
        let trace = letter.trace.as_deref();
        let errand = Errand { url: &letter.url, origin: &origin, body: &letter.body, trace, of: None };
        if let Ended::GivenUp { attempts, reason, .. } = self.attempts(&errand).await {
            (letter.attempts, letter.reason) = (attempts, reason);
            self.letters.bury(letter, || true);
        }
    }

    fn bury(&self, call: &CallInner, letter: DeadLetter) {
        let what = letter.what.clone();
        self.letters.bury(letter, || match &what {
            What::View { view_type, number } => call.engine.is_newest_view(&call.thread, view_type, *number),
            _ => true,
        });
        if call.core().stop.is_some_and(|stop| stop != crate::life::Stop::ShutDown) {
            self.letters.stopped(&call.thread, Some(&call.id));
        }
    }

    async fn attempts(&self, errand: &Errand<'_>) -> Ended {
        let origin = errand.origin;
        let mut headers = HeaderMap::new();
        if let Some(trace) = errand.trace {
            trace.put(&mut headers);
        }
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        let hurries = self.hurries.load(Ordering::Relaxed);
        let mut hurried = false;
        let mut first = None;
        let mut attempts = 0;
        loop {
            let permit = match self.permit(errand, attempts).await {
                Ok(permit) => permit,
                Err(halt) => return Ended::Halted(halt),
            };
            let first = *first.get_or_insert_with(Instant::now);
            let post = Held { outbox: self, origin, permit: Some(permit) }.finish(self.courier.post(
                errand.url,
                errand.body.clone(),
                headers.clone(),
            ));
            let attempt = match errand.of.filter(|part| part.gives_way()) {
                None => post.await,
                // Cut short it says nothing of its origin.
                Some(part) => tokio::select! {
                    biased;
                    attempt = post => attempt,
                    () = held_up(part.call) => Attempt::TimedOut,
                },
            };
            attempts += 1;
            if attempt.is_delivered() { &self.taken } else { &self.failed }.increment(1);
            match judge(Traffic::Callback, attempts, first.elapsed(), &attempt, seed) {
                Verdict::Delivered => return Ended::Taken,
                Verdict::GiveUp(end) => {
                    return Ended::GivenUp { gone: end.gone, attempts, reason: end.reason };
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
                    let hurry = (!hurried).then_some(hurries);
                    match self.pause(errand, attempts, after, refused, hurry).await {
                        Pause::Over => {}
                        // Not one of the schedule's tries.
                        Pause::BroughtForward => attempts -= 1,
                        Pause::Hurried => {
                            hurried = true;
                            attempts -= 1;
                        }
                        Pause::Halted(halt) => return Ended::Halted(halt),
                    }
                }
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits until the origin may be asked, or the errand is not to go on.
    async fn permit(&self, errand: &Errand<'_>, attempts: u32) -> Result<Permit, Halt> {
        let origin = errand.origin;
        // Nearly always; nobody need be told of anything then, and nobody can have changed anything.
        let start = locked(&self.origins).may_start(origin, self.now_ms());
        if let Start::Now(permit) = start {
            let fresh = attempts == 0 && errand.of.is_none_or(|part| *part.what == What::Result);
            return if fresh { Ok(permit) } else { self.checked(errand, attempts, permit) };
        }
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let start = locked(&self.origins).may_start(origin, self.now_ms());
            let until = match start {
                Start::Now(permit) => return self.checked(errand, attempts, permit),
                Start::WaitUntil(at) | Start::WaitForProbe { at_latest: at } => at,
            };
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(self.epoch + Duration::from_millis(until)) => {}
                halt = errand.halted(attempts) => return Err(halt),
            }
        }
    }

    fn checked(&self, errand: &Errand<'_>, attempts: u32, permit: Permit) -> Result<Permit, Halt> {
        match errand.halt(attempts) {
            None => Ok(permit),
            Some(halt) => {
                self.abandoned(errand.origin, permit);
                Err(halt)
            }
        }
    }

    /// Waits for the next attempt. An origin that was in trouble and is back ends the wait of a delivery whose
    /// connection was refused: after any other failure the fault may be the delivery's own, and others' success
    /// says nothing of it.
    async fn pause(
        &self,
        errand: &Errand<'_>,
        attempts: u32,
        after: Duration,
        refused: bool,
        hurries: Option<u64>,
    ) -> Pause {
        let until = Instant::now() + after;
        let refused = refused && locked(&self.origins).is_troubled(errand.origin);
        loop {
            let moved = if refused { &self.moved } else { &self.hurrying }.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if refused && !locked(&self.origins).is_troubled(errand.origin) {
                return Pause::BroughtForward;
            }
            if hurries.is_some_and(|known| known != self.hurries.load(Ordering::SeqCst)) {
                return Pause::Hurried;
            }
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(until) => return Pause::Over,
                halt = errand.halted(attempts) => return Pause::Halted(halt),
            }
        }
    }

    /// Everything that waits for its next attempt makes one now, once: the last chance before the end. It does not
    /// count. An origin in trouble is still asked by one delivery first.
    pub(crate) fn hurry(&self) {
        locked(&self.origins).probe_now();
        self.hurries.fetch_add(1, Ordering::SeqCst);
        self.moved.notify_waiters();
        self.hurrying.notify_waiters();
    }

    fn abandoned(&self, origin: &str, permit: Permit) {
        if locked(&self.origins).abandoned(origin, permit) {
            self.moved.notify_waiters();
        }
    }

    /// Sends a dead letter once more, if it is still wanted.
    pub(crate) async fn resend(&self, engine: &Engine, number: u64) -> Result<(), ResendError> {
        let _done = Done(engine);
        let hand = self.letters.take_in_hand(engine, number)?;
        let letter = &hand.letter;
        let origin = letter.url.origin();
        let start = locked(&self.origins).may_start(&origin, self.now_ms());
        let mut headers = HeaderMap::new();
        if let Some(trace) = &letter.trace {
            trace.put(&mut headers);
        }
        let post = self.courier.post(&letter.url, letter.body.clone(), headers);
        let attempt = match start {
            Start::Now(permit) => {
                Held { outbox: self, origin: &origin, permit: Some(permit) }.finish(post).await
            }
            // Whoever asks for it need not wait for others' pauses.
            _ => post.await,
        };
        if attempt.is_delivered() {
            self.taken.increment(1);
            hand.off_the_list();
            return Ok(());
        }
        self.failed.increment(1);
        let reason = attempt.to_string();
        hand.failed(&reason);
        Err(ResendError::NotTaken(reason))
    }
}

/// Tells a shutdown, which waits for what is on its way, that something is not.
struct Done<'a>(&'a Engine);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.done().notify_waiters();
    }
}

/// How a wait for the next attempt ended.
enum Pause {
    Over,
    /// The origin is back.
    BroughtForward,
    Hurried,
    Halted(Halt),
}

/// Done when the events of a call are not wanted any more.
async fn unwanted(call: &CallInner) {
    call.stopping.given().await;
    if call.core().life.may_send_events() {
        std::future::pending::<()>().await;
    }
}

/// Done when what matters more has waited for so long behind what is on its way.
async fn held_up(call: &CallInner) {
    let waits = async |expected: bool| {
        std::future::poll_fn(|cx| {
            let mut core = call.core();
            if core.matters_more_waits() == expected {
                return Poll::Ready(());
            }
            core.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    };
    loop {
        waits(true).await;
        tokio::select! {
            () = tokio::time::sleep(GIVES_WAY) => return,
            () = waits(false) => {}
        }
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
