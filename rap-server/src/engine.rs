//! The engine: takes invocations and notices, knows every open call, and ends them all at a shutdown. How a
//! call runs is told in `run`, how its messages leave in `pump`.

use crate::{
    book::{Book, Known, Remembered, fingerprint},
    call::{CallInner, Parcel, What},
    extract::States,
    gauges::Gauges,
    handler::Sealed,
    life::Stop,
    outbox::Outbox,
    questions::Questions,
    rates::Rates,
    run::{End, run},
    subscription::EventIds,
    trace::Trace,
};
use bytes::Bytes;
use rap_http::Problem;
use rap_types::{
    CallId, CallbackMessage, HttpUrl, Invocation, ThreadId, ToolResult, validate::CompiledToolset,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep_until},
};
use tracing::Instrument;

/// How long the cancellation of a call that never came is remembered: an invocation is tried for two minutes,
/// and the notice may have overtaken it (CAN-01 and TRN-03 have no order between them).
const EARLY_CANCEL: Duration = Duration::from_secs(600);
/// How many answers to re-sent invocations may be on their way at once; who is left out is answered when it
/// sends again.
const STRAYS: usize = 1000;

/// What can be configured of the work.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) time_limit: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) event_queue: usize,
    pub(crate) events_per_second: u32,
    pub(crate) event_burst: u32,
    pub(crate) open_calls: usize,
    pub(crate) remembered: Remembered,
    /// Calls per minute and user, and how many at once; off when `None`.
    pub(crate) user_rate: Option<(u32, u32)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            time_limit: None,
            grace: Duration::from_secs(5),
            event_queue: 256,
            events_per_second: 100,
            event_burst: 200,
            open_calls: 100_000,
            remembered: Remembered { calls: 100_000, result_bytes: 64 << 20 },
            user_rate: None,
        }
    }
}

pub(crate) struct Engine {
    pub(crate) toolset: CompiledToolset,
    pub(crate) work: HashMap<String, Arc<dyn Sealed>>,
    pub(crate) states: States,
    pub(crate) settings: Settings,
    pub(crate) questions: Questions,
    pub(crate) outbox: Outbox,
    base: HttpUrl,
    event_ids: EventIds,
    pub(crate) users: Rates,
    book: Mutex<Book>,
    views: Mutex<HashMap<(ThreadId, String), u64>>,
    view_numbers: AtomicU64,
    strays: Arc<Semaphore>,
    /// Told whenever a call is over, for those who wait at a shutdown.
    over: Notify,
    closing: AtomicBool,
    pub(crate) gauges: Gauges,
}

/// What came with an invocation beside its body.
#[derive(Default)]
pub(crate) struct Came {
    pub(crate) trace: Option<Box<Trace>>,
    /// The public URL that a trusted proxy named.
    pub(crate) base: Option<HttpUrl>,
}

/// The bytes of a message; every message of ours is plain data.
pub(crate) fn json(message: &CallbackMessage) -> Bytes {
    let bytes = serde_json::to_vec(message).expect("bug: a message is plain data");
    // To measure: results are remembered by the ten thousand.
    bytes.into_boxed_slice().into()
}

impl Engine {
    pub(crate) fn new(
        toolset: CompiledToolset,
        work: HashMap<String, Arc<dyn Sealed>>,
        states: States,
        settings: Settings,
        base: HttpUrl,
        outbox: Outbox,
    ) -> Self {
        let gauges = Gauges::new(work.keys().map(String::as_str));
        Self {
            gauges,
            toolset,
            work,
            states,
            settings,
            questions: Questions::default(),
            outbox,
            base,
            event_ids: EventIds::new(),
            users: Rates::default(),
            book: Mutex::default(),
            views: Mutex::default(),
            view_numbers: AtomicU64::new(0),
            strays: Arc::new(Semaphore::new(STRAYS)),
            over: Notify::new(),
            closing: AtomicBool::new(false),
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn event_id(&self) -> rap_types::EventId {
        self.event_ids.next()
    }

    pub(crate) fn response_url(&self, forwarded: Option<&HttpUrl>, token: &str) -> HttpUrl {
        forwarded
            .unwrap_or(&self.base)
            .below(&format!("choices/{token}"))
            .expect("bug: a base URL has URLs below it")
    }

    /// The path of the base URL, without a slash at its end.
    pub(crate) fn base_path(&self) -> String {
        self.base.parsed().path().trim_end_matches('/').to_owned()
    }

    /// Takes an invocation: when this returns, the answer is 200 and the work has begun (TRN-02).
    ///
    /// # Errors
    /// 400 when the callback URL may not be called; 503 when there is too much to do, or the server is
    /// shutting down.
    pub(crate) fn invoke(self: &Arc<Self>, mut invocation: Invocation, came: Came) -> Result<(), Problem> {
        self.outbox
            .check(&invocation.callback_url)
            .map_err(|why| Problem::invalid(format!("/callback_url: {why}")))?;
        let print = fingerprint(&invocation.operation, &invocation.arguments);
        let mut book = self.book();
        match book.find(&invocation.group_id, &invocation.id, print) {
            Known::New => {}
            Known::Open => return Ok(()),
            Known::Over(outcome) => {
                drop(book);
                if let Some(outcome) = outcome {
                    self.deliver_again(invocation, outcome, came.trace);
                }
                return Ok(());
            }
            Known::Other(over) => {
                drop(book);
                self.id_used_twice(&invocation, over, came.trace);
                return Ok(());
            }
        }
        if self.closing.load(Ordering::Acquire) {
            self.gauges.refused.increment(1);
            return Err(Problem::busy(Duration::from_secs(1)).detail("the server is shutting down"));
        }
        if book.open_count() >= self.settings.open_calls {
            self.gauges.refused.increment(1);
            return Err(Problem::busy(Duration::from_secs(1)).detail("too many calls are open"));
        }
        if self.toolset.tool(&invocation.operation).is_none() && invocation.operation.len() > 128 {
            // A stranger's words go into a log and an error, but not at any length.
            invocation.operation = invocation.operation.chars().take(128).chain(['…']).collect();
        }
        let arguments = std::mem::take(&mut invocation.arguments);
        if let Some(kept) = book.kept(&invocation.group_id) {
            invocation.group_id = kept;
        }
        let origin = invocation.callback_url.origin();
        let cancelled = book.take_cancelled(&invocation.group_id, &invocation.id, Instant::now());
        let call = Arc::new(CallInner::new(self.clone(), invocation, origin, came.trace, came.base));
        book.open(call.clone(), print);
        drop(book);
        self.gauges.open_calls.increment(1);
        if cancelled {
            call.stop(Stop::Cancelled);
        }
        let span = call.span.clone();
        tokio::spawn(run(call, arguments).instrument(span));
        Ok(())
    }

    /// The id of a call was used again for something else (INV-03). While the first runs it keeps the id;
    /// afterwards the second is told.
    fn id_used_twice(self: &Arc<Self>, invocation: &Invocation, over: bool, trace: Option<Box<Trace>>) {
        tracing::warn!(thread = ?invocation.group_id, call = ?invocation.id, "the id of a call was used twice");
        if !over {
            return;
        }
        let text = "the id of this call was used before in its thread, for another call; give each call an id of its own (INV-03)";
        let result = ToolResult::error(invocation.group_id.clone(), invocation.id.clone(), text)
            .with_call_id(invocation.call_id.clone());
        let body = json(&CallbackMessage::ToolResult(result));
        let (engine, url) = (self.clone(), invocation.callback_url.clone());
        let (thread, id) = (invocation.group_id.clone(), invocation.id.clone());
        let Ok(stray) = self.strays.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let _stray = stray;
            engine.outbox.deliver_alone(&thread, &id, &url, body, trace.as_deref()).await;
        });
    }

    fn deliver_again(
        self: &Arc<Self>,
        invocation: Invocation,
        outcome: crate::book::Outcome,
        trace: Option<Box<Trace>>,
    ) {
        let engine = self.clone();
        let (thread, id) = (invocation.group_id, invocation.id);
        let Ok(stray) = self.strays.clone().try_acquire_owned() else {
            return self.book().delivered_again(&thread, &id);
        };
        tokio::spawn(async move {
            let _stray = stray;
            engine.outbox.deliver_alone(&thread, &id, &outcome.url, outcome.body, trace.as_deref()).await;
            engine.book().delivered_again(&thread, &id);
        });
    }

    /// The runtime closed a thread (CLS-03) or cancelled a call (CAN-01). Ids are only ever looked up.
    pub(crate) fn stop(&self, thread: &ThreadId, call: Option<&CallId>) {
        let calls = {
            let mut book = self.book();
            if let Some(call) = call {
                book.cancelled(thread, call, Instant::now() + EARLY_CANCEL);
            }
            book.open_calls(Some((thread, call)))
        };
        let why = if call.is_some() { Stop::Cancelled } else { Stop::Closed };
        for call in calls {
            call.stop(why);
        }
    }

    /// Whether a result is owed or a subscription lives (STA-01).
    pub(crate) fn is_alive(&self, thread: &ThreadId, call: &CallId) -> bool {
        self.book().open_calls(Some((thread, Some(call)))).iter().any(|c| c.core().life.is_alive())
    }

    /// How many calls are open: running, owed, or subscriptions.
    pub(crate) fn open_calls(&self) -> usize {
        self.book().open_count()
    }

    /// Ends everything: tells every function, waits for what is owed to be delivered until `limit` is over,
    /// and hands out what was not.
    pub(crate) async fn shut_down(self: &Arc<Self>, limit: Duration) -> Vec<crate::DeadLetter> {
        let deadline = Instant::now() + limit;
        self.closing.store(true, Ordering::Release);
        for call in self.book().open_calls(None) {
            call.stop(Stop::ShutDown);
        }
        loop {
            let over = self.over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if self.open_calls() == 0 {
                return Vec::new();
            }
            tokio::select! {
                () = over => {}
                () = sleep_until(deadline) => break,
            }
        }
        let mut owed = Vec::new();
        for call in self.book().open_calls(None) {
            // A function that has not returned by now ends here.
            self.ended(&call, End::Dropped);
            let mut core = call.core();
            let parcels = core.urgent.drain(..).collect::<Vec<_>>().into_iter();
            for parcel in parcels.chain(core.events.drain(..).collect::<Vec<_>>()) {
                owed.push(self.outbox.letter(&call, &parcel, "the server shut down before it was delivered"));
            }
            if let Some(outcome) = core.outcome.clone().filter(|_| core.life.owes_result())
                && !owed.iter().any(|l| l.is_result() && l.call() == &call.id && l.thread() == &call.thread)
            {
                let parcel = Parcel { what: What::Result, body: outcome, room: None };
                owed.push(self.outbox.letter(
                    &call,
                    &parcel,
                    "the server shut down while it was being delivered",
                ));
            }
        }
        owed
    }

    /// The number of a view, so that an older content never replaces a newer one.
    pub(crate) fn number_view(&self, thread: &ThreadId, view_type: &str) -> u64 {
        let number = self.view_numbers.fetch_add(1, Ordering::Relaxed);
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.insert((thread.clone(), view_type.to_owned()), number);
        number
    }

    pub(crate) fn is_newest_view(&self, thread: &ThreadId, view_type: &str, number: u64) -> bool {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(&(thread.clone(), view_type.to_owned())) == Some(&number)
    }

    pub(crate) fn forget_view(&self, thread: &ThreadId, view_type: &str, number: u64) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (thread.clone(), view_type.to_owned());
        if views.get(&key) == Some(&number) {
            views.remove(&key);
        }
    }

    /// If the call is over and nothing of it is on the way, only what recognises it is kept.
    pub(crate) fn tidy(&self, call: &Arc<CallInner>) {
        let outcome = {
            let mut core = call.core();
            if core.life.is_alive() || core.pumping || !core.urgent.is_empty() {
                return;
            }
            call.drop_events(&mut core);
            core.outcome.take()
        };
        if self.book().over(call, outcome, self.settings.remembered) {
            self.gauges.open_calls.decrement(1);
        }
        self.over.notify_waiters();
    }
}
