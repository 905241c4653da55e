//! The engine: takes invocations and notices, and knows every open call. How a call runs is told in `run`, how its
//! messages leave in `pump`, how all of it ends in `shutdown`.

use crate::{
    book::{Book, Key, Keys, fingerprint},
    call::CallInner,
    extract::States,
    gauges::Gauges,
    handler::Sealed,
    life::Stop,
    outbox::Outbox,
    past::Remembered,
    questions::Questions,
    rates::Rates,
    run::run,
    subscription::EventIds,
};
use bytes::Bytes;
use rap_http::{Problem, TraceContext};
use rap_types::{CallId, CallbackMessage, HttpUrl, Invocation, ThreadId, validate::CompiledToolset};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{runtime::Handle, sync::Notify, time::Instant};
use tracing::Instrument;

/// How long the cancellation of a call that never came is remembered: an invocation is tried for two minutes,
/// and the notice may have overtaken it (CAN-01 and TRN-03 have no order between them).
const EARLY_CANCEL: Duration = Duration::from_secs(600);

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
    keys: Keys,
    book: Mutex<Book>,
    views: Mutex<HashMap<(ThreadId, String), u64>>,
    view_numbers: AtomicU64,
    /// Told whenever a call is over while the server ends; only a shutdown waits for it.
    over: Notify,
    closing: AtomicBool,
    pub(crate) gauges: Gauges,
}

/// What came with an invocation beside its body.
#[derive(Default)]
pub(crate) struct Came {
    pub(crate) trace: Option<Box<TraceContext>>,
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
            keys: Keys::default(),
            book: Mutex::default(),
            views: Mutex::default(),
            view_numbers: AtomicU64::new(0),
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
        if self.toolset.tool(&invocation.operation).is_none() && invocation.operation.len() > 128 {
            // A stranger's words go into a log and an error, but not at any length.
            invocation.operation = invocation.operation.chars().take(128).chain(['…']).collect();
        }
        let key = self.keys.of(&invocation.group_id, &invocation.id);
        let arguments = std::mem::take(&mut invocation.arguments);
        let mut call = Arc::new(CallInner::new(self.clone(), Handle::current(), key, invocation, came));
        let mut book = self.book();
        if let Some(known) = book.find(key, print) {
            drop(book);
            self.came_again(&call, known, print);
            return Ok(());
        }
        if self.closing.load(Ordering::Acquire) {
            self.gauges.refused.increment(1);
            return Err(Problem::busy(Duration::from_secs(1)).detail("the server is shutting down"));
        }
        if book.open_count() >= self.settings.open_calls {
            self.gauges.refused.increment(1);
            return Err(Problem::busy(Duration::from_secs(1)).detail("too many calls are open"));
        }
        let thread = book.kept(&call.thread, key);
        Arc::get_mut(&mut call).expect("bug: nobody else knows a new call").begin(thread);
        let cancelled = book.take_cancelled(key, Instant::now());
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

    /// The runtime closed a thread (CLS-03) or cancelled a call (CAN-01). Ids are only ever looked up.
    pub(crate) fn stop(&self, thread: &ThreadId, call: Option<&CallId>) {
        let calls = {
            let mut book = self.book();
            match call {
                Some(call) => {
                    let key = self.keys.of(thread, call);
                    book.cancelled(key, Instant::now() + EARLY_CANCEL);
                    book.open_call(key).into_iter().collect()
                }
                None => book.open_calls_of(thread, self.keys.of_thread(thread)),
            }
        };
        let why = if call.is_some() { Stop::Cancelled } else { Stop::Closed };
        for call in calls {
            call.stop(why);
        }
        self.outbox.letters.stopped(thread, call);
    }

    /// Whether a result is owed or a subscription lives (STA-01).
    pub(crate) fn is_alive(&self, thread: &ThreadId, call: &CallId) -> bool {
        self.open_call(thread, call).is_some_and(|call| call.core().life.is_alive())
    }

    pub(crate) fn open_call(&self, thread: &ThreadId, call: &CallId) -> Option<Arc<CallInner>> {
        self.book().open_call(self.keys.of(thread, call))
    }

    /// The result of a call that is over, if it is still kept.
    pub(crate) fn outcome(&self, key: Key) -> Option<Bytes> {
        self.book().outcome(key)
    }

    /// How many calls are open: running, owed, or subscriptions.
    pub(crate) fn open_calls(&self) -> usize {
        self.book().open_count()
    }

    /// Takes no more calls; those that are open.
    pub(crate) fn close(&self) -> Vec<Arc<CallInner>> {
        self.closing.store(true, Ordering::Release);
        self.book().open_calls()
    }

    /// Told whenever something that a shutdown waits for is done.
    pub(crate) fn done(&self) -> &Notify {
        &self.over
    }

    /// The number of a view, so that an older content never replaces a newer one.
    pub(crate) fn number_view(&self, thread: &ThreadId, view_type: &str) -> u64 {
        let number = self.view_numbers.fetch_add(1, Ordering::Relaxed);
        {
            let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
            views.insert((thread.clone(), view_type.to_owned()), number);
        }
        self.outbox.letters.overtaken(thread, view_type);
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
            core.outcome.clone()
        };
        let was_open = self.book().over(call.key, outcome.as_ref(), self.settings.remembered);
        if was_open.is_some() {
            self.gauges.open_calls.decrement(1);
        }
        // A shutdown that begins after the look into the book finds the call gone from it.
        if self.closing.load(Ordering::Acquire) {
            self.over.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Subscribed, Tool, ToolError, ToolServer, outbox::Courier};
    use futures_util::future::BoxFuture;
    use http::HeaderMap;
    use rap_http::Attempt;
    use serde_json::json;

    /// Takes everything, refuses for good, or says that the URL is gone, in turns.
    #[derive(Default)]
    struct Fickle(AtomicU64);

    impl Courier for Fickle {
        fn post<'a>(&'a self, _: &'a HttpUrl, _: Bytes, _: HeaderMap) -> BoxFuture<'a, Attempt> {
            let turn = self.0.fetch_add(1, Ordering::Relaxed) as usize;
            Box::pin(async move {
                tokio::task::yield_now().await;
                Attempt::status([200, 400, 410, 200, 200][turn % 5])
            })
        }
    }

    /// Whatever becomes of calls with views, questions and subscriptions, when they are over only what recognises them
    /// is kept, in bounds.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_what_is_over() {
        let busy = async |call: Call| -> Result<Subscribed, ToolError> {
            call.view("a", json!({"n": 1}))?;
            call.view("b", json!({"n": 1}))?;
            let asking = call.clone();
            tokio::spawn(async move { asking.choose("Which?", ["x"], 0).await.map(drop) });
            tokio::task::yield_now().await;
            let (subscribed, events) = call.subscribe().confirm("done");
            events.emit("one").await?;
            events.finish("two").await?;
            Ok(subscribed)
        };
        let server = ToolServer::new("t").tool(Tool::new("busy", "d", busy)).remember(50, 1 << 20);
        let base = HttpUrl::new("http://127.0.0.1:3001").ok();
        let (engine, _) = server.start(base, true, Some(Box::<Fickle>::default()), Vec::new()).unwrap();
        for n in 0..200 {
            let invocation = json!({"operation": "busy", "arguments": {}, "id": format!("c{n}"),
                "group_id": format!("t{}", n % 7), "callback_url": "http://127.0.0.1:4000/"});
            let invocation = serde_json::from_value(invocation).unwrap();
            engine.invoke(invocation, Came::default()).unwrap();
        }
        while engine.open_calls() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(engine.views.lock().unwrap().is_empty(), "{:?}", engine.views.lock().unwrap());
        assert_eq!(engine.book().kept_calls(), 50);
        assert_eq!(engine.questions.open_count(), 0);
        assert_eq!(engine.outbox.strays.count(), 0);
    }
}
