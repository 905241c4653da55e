//! The engine: takes invocations, runs the functions, and turns whatever becomes of them into exactly one
//! result per call. It drives the pure [`Life`](crate::life::Life) with tasks and timers.

use crate::{
    ToolError,
    book::{Book, Known, fingerprint},
    call::{Call, CallInner, Parcel, What, stopped},
    extract::States,
    handler::Sealed,
    life::{Act, Cause, Input, Stop},
    outbox::Outbox,
    output::Reply,
    questions::Questions,
    subscription::EventIds,
};
use bytes::Bytes;
use futures_util::FutureExt;
use rap_http::Problem;
use rap_types::{
    CallId, CallbackMessage, HttpUrl, Invocation, ThreadId, ToolResult, limits, validate::CompiledToolset,
};
use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tracing::Instrument;

/// What can be configured of the work.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) time_limit: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) event_queue: usize,
    pub(crate) events_per_second: u32,
    pub(crate) event_burst: u32,
    pub(crate) open_calls: usize,
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
        }
    }
}

pub(crate) struct Engine {
    pub(crate) toolset: CompiledToolset,
    work: HashMap<String, Arc<dyn Sealed>>,
    pub(crate) states: States,
    pub(crate) settings: Settings,
    pub(crate) questions: Questions,
    pub(crate) outbox: Outbox,
    base: HttpUrl,
    event_ids: EventIds,
    book: Mutex<Book>,
    views: Mutex<HashMap<(ThreadId, String), u64>>,
    view_numbers: AtomicU64,
    /// Told whenever a call is over, for those who wait at a shutdown.
    over: Notify,
    closing: AtomicBool,
}

/// The bytes of a message; every message of ours is plain data.
pub(crate) fn json(message: &CallbackMessage) -> Bytes {
    serde_json::to_vec(message).map(Bytes::from).expect("bug: a message is plain data")
}

/// How a function ended.
enum End {
    Returned(Result<Reply, ToolError>),
    Panicked,
    OutOfTime,
    GraceOver,
    Dropped,
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
        Self {
            toolset,
            work,
            states,
            settings,
            questions: Questions::default(),
            outbox,
            base,
            event_ids: EventIds::new(),
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

    pub(crate) fn response_url(&self, token: &str) -> HttpUrl {
        self.base.below(&format!("choices/{token}")).expect("bug: a base URL has URLs below it")
    }

    /// Takes an invocation: when this returns, the answer is 200 and the work has begun (TRN-02).
    ///
    /// # Errors
    /// 400 when the callback URL may not be called; 503 when there is too much to do, or the server is
    /// shutting down.
    pub(crate) fn invoke(
        self: &Arc<Self>,
        mut invocation: Invocation,
        traceparent: Option<http::HeaderValue>,
    ) -> Result<(), Problem> {
        if let Err(refusal) = self.outbox.policy().check_url(&invocation.callback_url) {
            return Err(Problem::invalid(format!("/callback_url: {refusal}")));
        }
        let print = fingerprint(&invocation.operation, &invocation.arguments);
        let mut book = self.book();
        match book.find(&invocation.group_id, &invocation.id, print) {
            Known::New => {}
            Known::Open => return Ok(()),
            Known::Over(outcome) => {
                drop(book);
                if let Some(outcome) = outcome {
                    self.deliver_again(invocation, outcome, traceparent);
                }
                return Ok(());
            }
            Known::Other(over) => {
                drop(book);
                self.id_used_twice(&invocation, over, traceparent);
                return Ok(());
            }
        }
        if self.closing.load(Ordering::Acquire) {
            return Err(Problem::busy(Duration::from_secs(1)).detail("the server is shutting down"));
        }
        if book.open_count() >= self.settings.open_calls {
            return Err(Problem::busy(Duration::from_secs(1)).detail("too many calls are open"));
        }
        let arguments = std::mem::take(&mut invocation.arguments);
        let origin = invocation.callback_url.origin();
        let call = Arc::new(CallInner::new(self.clone(), invocation, origin, traceparent));
        book.open(call.clone(), print);
        drop(book);
        let span =
            tracing::info_span!("tool_call", tool = %call.operation, thread = %call.thread, call = %call.id);
        tokio::spawn(run(call, arguments).instrument(span));
        Ok(())
    }

    /// The id of a call was used again for something else (INV-03). While the first runs it keeps the id;
    /// afterwards the second is told.
    fn id_used_twice(
        self: &Arc<Self>,
        invocation: &Invocation,
        over: bool,
        traceparent: Option<http::HeaderValue>,
    ) {
        tracing::warn!(thread = %invocation.group_id, call = %invocation.id, "the id of a call was used twice");
        if !over {
            return;
        }
        let text = "the id of this call was used before in its thread, for another call; give each call an id of its own (INV-03)";
        let result = ToolResult::error(invocation.group_id.clone(), invocation.id.clone(), text)
            .with_call_id(invocation.call_id.clone());
        let body = json(&CallbackMessage::ToolResult(result));
        let (engine, url) = (self.clone(), invocation.callback_url.clone());
        let (thread, id) = (invocation.group_id.clone(), invocation.id.clone());
        tokio::spawn(async move {
            engine.outbox.deliver_alone(&thread, &id, &url, body, traceparent.as_ref()).await;
        });
    }

    fn deliver_again(
        self: &Arc<Self>,
        invocation: Invocation,
        outcome: crate::book::Outcome,
        traceparent: Option<http::HeaderValue>,
    ) {
        let engine = self.clone();
        tokio::spawn(async move {
            let (thread, id) = (invocation.group_id, invocation.id);
            engine.outbox.deliver_alone(&thread, &id, &outcome.url, outcome.body, traceparent.as_ref()).await;
            engine.book().delivered_again(&thread, &id);
        });
    }

    /// The runtime closed a thread (CLS-03) or cancelled a call (CAN-01). Ids are only ever looked up.
    pub(crate) fn stop(&self, thread: &ThreadId, call: Option<&CallId>) {
        let calls = self.book().open_calls(Some((thread, call)));
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
            if let Some(outcome) = core.outcome.clone().filter(|_| core.life.is_alive())
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

    fn is_newest_view(&self, thread: &ThreadId, view_type: &str, number: u64) -> bool {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(&(thread.clone(), view_type.to_owned())) == Some(&number)
    }

    fn forget_view(&self, thread: &ThreadId, view_type: &str, number: u64) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (thread.clone(), view_type.to_owned());
        if views.get(&key) == Some(&number) {
            views.remove(&key);
        }
    }

    /// A function ended: one result goes out, whatever happened.
    fn ended(self: &Arc<Self>, call: &Arc<CallInner>, end: End) -> bool {
        let mut outcome = None;
        let input = match end {
            End::Returned(reply) => {
                let reply = reply.and_then(|reply| self.checked(call, reply));
                let (input, result) = match reply {
                    Ok((result, true)) => (Input::Confirmed, result),
                    Ok((result, false)) => (Input::Returned(true), result),
                    Err(error) => {
                        if let Some(source) = error.private_source() {
                            tracing::warn!(error = source, "the tool failed: {error}");
                        }
                        (Input::Returned(false), error_result(call, &error.to_string()))
                    }
                };
                outcome = Some(result);
                input
            }
            End::Panicked => Input::Panicked,
            End::OutOfTime => Input::OutOfTime,
            End::GraceOver => Input::GraceOver,
            End::Dropped => Input::Dropped,
        };
        let mut core = call.core();
        let body = match (core.life.input(input), outcome) {
            (Act::SendOutcome, Some(body)) => body,
            (Act::SendError(cause), _) => error_result(call, &self.words(cause)),
            _ => return false,
        };
        core.outcome = Some(body.clone());
        core.urgent.push_back(Parcel { what: What::Result, body, room: None });
        if !core.life.keeps_events() {
            call.drop_events(&mut core);
        }
        true
    }

    /// The result message, and whether it confirms a subscription; too large a result is an error (LIM-01).
    fn checked(&self, call: &Arc<CallInner>, reply: Reply) -> Result<(Bytes, bool), ToolError> {
        let subscribes = match &reply.subscription {
            Some(ticket) if Arc::ptr_eq(&ticket.0, call) => true,
            Some(_) => return Err(ToolError::new("the tool confirmed the subscription of another call")),
            None => false,
        };
        let plain = |text: String| {
            ToolResult::text(call.thread.clone(), call.id.clone(), text)
                .with_call_id(call.provider_call.clone())
        };
        let mut result = reply.output.fill(plain);
        if subscribes {
            result = result.with_subscription();
        }
        let body = json(&CallbackMessage::ToolResult(result));
        if body.len() > limits::RESULT_BYTES {
            let message = format!(
                "the tool's result has {} bytes, more than the 1 MiB that every runtime takes (LIM-01); ask for less",
                body.len()
            );
            return Err(ToolError::new(message));
        }
        Ok((body, subscribes))
    }

    fn words(&self, cause: Cause) -> String {
        match cause {
            Cause::Panicked => {
                "the tool failed for a reason of its own; trying the same again may not help".to_owned()
            }
            Cause::Dropped => "the tool's work was dropped before it was done; try again".to_owned(),
            Cause::OutOfTime => {
                let limit = self.settings.time_limit.unwrap_or_default().as_secs_f64();
                format!(
                    "the tool did not finish within its time limit of {limit} s; ask for less, or try again later"
                )
            }
            Cause::Stopped(stop) => stopped(Some(stop)).to_string(),
            Cause::WrongPick => {
                "the answer was none of the choices; call the tool again to be asked again".to_owned()
            }
        }
    }

    /// There may be something to deliver.
    pub(crate) fn wake(self: &Arc<Self>, call: &Arc<CallInner>) {
        if start_pump(call) {
            tokio::spawn(pump(call.clone()));
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
        self.book().over(call, outcome);
        self.over.notify_waiters();
    }

    /// What came of a delivery, for the life of the call.
    fn settle(&self, call: &Arc<CallInner>, parcel: &Parcel, delivered: crate::outbox::Delivered) {
        use crate::outbox::Delivered as D;
        let gone = matches!(delivered, D::Gone);
        let mut core = call.core();
        core.gone |= gone;
        let input = match &parcel.what {
            What::Result if delivered == D::Taken => Some(Input::ResultTaken),
            What::Result => Some(Input::ResultLost),
            What::Event { .. } if gone => Some(Input::UrlGone),
            What::Event { last: true } => Some(Input::LastSettled),
            What::Event { .. } => None,
            What::View { view_type, number } => {
                self.forget_view(&call.thread, view_type, *number);
                gone.then_some(Input::UrlGone)
            }
            What::Question { token } => {
                if delivered != D::Taken {
                    self.questions.lost(token);
                }
                None
            }
        };
        if let Some(Act::DropEvents) = input.map(|input| core.life.input(input)) {
            call.drop_events(&mut core);
        }
    }
}

fn error_result(call: &CallInner, text: &str) -> Bytes {
    let result = ToolResult::error(call.thread.clone(), call.id.clone(), text)
        .with_call_id(call.provider_call.clone());
    let body = json(&CallbackMessage::ToolResult(result));
    if body.len() <= limits::RESULT_BYTES {
        return body;
    }
    error_result(
        call,
        "the tool failed, and its words are larger than the 1 MiB that every runtime takes (LIM-01)",
    )
}

/// Runs a call to its end, and delivers.
async fn run(call: Arc<CallInner>, arguments: serde_json::Map<String, serde_json::Value>) {
    let engine = call.engine.clone();
    let guard = Guard(Some(call));
    let call = guard.0.as_ref().expect("bug: the guard holds the call until it is disarmed").clone();
    let end = work(&engine, &call, arguments).await;
    engine.ended(&call, end);
    guard.disarm();
    if start_pump(&call) {
        pump(call).await;
    }
}

async fn work(
    engine: &Arc<Engine>,
    call: &Arc<CallInner>,
    arguments: serde_json::Map<String, serde_json::Value>,
) -> End {
    let (Some(tool), Some(work)) = (engine.toolset.tool(&call.operation), engine.work.get(&call.operation))
    else {
        let known: Vec<&str> =
            engine.toolset.toolset().tools().iter().map(|t| t.name.as_str()).take(50).collect();
        let asked: String = call.operation.chars().take(128).collect();
        let text = format!("there is no tool {asked:?} here; there are: {}", known.join(", "));
        return End::Returned(Err(ToolError::new(text)));
    };
    if let Err(faults) = tool.check_arguments(&arguments) {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let text = format!(
            "the arguments do not fit the schema of {}: {}. Mend them and call again",
            call.operation,
            faults.join("; ")
        );
        return End::Returned(Err(ToolError::new(text)));
    }
    let function = AssertUnwindSafe(work.run(Call { inner: call.clone() }, arguments)).catch_unwind();
    tokio::pin!(function);
    tokio::select! {
        biased;
        returned = &mut function => match returned {
            Ok(reply) => End::Returned(reply),
            Err(_) => {
                tracing::error!("the tool panicked");
                End::Panicked
            }
        },
        () = grace(call, engine.settings.grace) => End::GraceOver,
        () = out_of_time(call, engine.settings.time_limit) => End::OutOfTime,
    }
}

/// Over when a stopped function has had its time for returning.
async fn grace(call: &CallInner, grace: Duration) {
    call.token.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Over when the time limit is, not counting the time in which a person was asked.
async fn out_of_time(call: &CallInner, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    let started = Instant::now();
    let mut asked = Duration::ZERO;
    loop {
        sleep_until(started + limit + asked).await;
        // Waits while a person is being asked.
        let now = *call.asking.lock().await;
        if now == asked {
            return;
        }
        asked = now;
    }
}

/// Ends the call if its task ends without having done so.
struct Guard(Option<Arc<CallInner>>);

impl Guard {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(call) = self.0.take() else { return };
        let end = if std::thread::panicking() { End::Panicked } else { End::Dropped };
        if call.engine.clone().ended(&call, end) && tokio::runtime::Handle::try_current().is_ok() {
            call.engine.wake(&call);
        }
    }
}

/// Whether the caller is to pump: nobody else does.
fn start_pump(call: &CallInner) -> bool {
    let mut core = call.core();
    if core.pumping {
        return false;
    }
    core.pumping = true;
    true
}

/// Delivers what a call has to say, in order, until there is nothing more.
async fn pump(call: Arc<CallInner>) {
    let engine = call.engine.clone();
    loop {
        let parcel = {
            let mut core = call.core();
            let next = match core.urgent.pop_front() {
                Some(parcel) => Some(parcel),
                None if core.life.may_send_events() => core.events.pop_front(),
                None => None,
            };
            match next {
                Some(parcel) => parcel,
                None => {
                    core.pumping = false;
                    break;
                }
            }
        };
        match &parcel.what {
            What::View { view_type, number } if !engine.is_newest_view(&call.thread, view_type, *number) => {
                continue;
            }
            What::Event { .. } => wait_for_slot(&call).await,
            _ => {}
        }
        let delivered = engine.outbox.deliver(&call, &parcel).await;
        engine.settle(&call, &parcel, delivered);
    }
    engine.tidy(&call);
}

/// The rate limit of events (SUB-11): so many a second, so many at once.
async fn wait_for_slot(call: &CallInner) {
    let settings = &call.engine.settings;
    let step = Duration::from_secs(1) / settings.events_per_second.max(1);
    let burst = step * settings.event_burst.saturating_sub(1);
    let slot = {
        let now = Instant::now();
        let mut core = call.core();
        let slot = core.event_slot.map_or(now, |slot| slot.max(now));
        core.event_slot = Some(slot + step);
        slot
    };
    let Some(at) = slot.checked_sub(burst) else { return };
    tokio::select! {
        () = sleep_until(at) => {}
        () = call.token.cancelled() => {}
    }
}
