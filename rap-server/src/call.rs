//! What a tool's function knows of its call, and what it can do with it: watch for a stop, show a view, ask
//! the person, subscribe. Owned and cheap to clone, so that it can go into tasks of its own.

pub(crate) use crate::parcels::{Core, Parcel, Queue, What};
use crate::{
    ToolError,
    book::Key,
    engine::{Came, Engine},
    extract::States,
    life::{Act, Input, Life, Stop},
    outbox::Target,
    questions::Question,
    signal::Signal,
    subscription::SubscriptionDraft,
};
use rap_http::TraceContext;
use rap_types::{
    CallId, CallbackMessage, HttpUrl, Invocation, ProviderCallId, ThreadId, UserChoice, UserId, ViewUpdate,
};
use serde::Serialize;
use serde_json::Value;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, sync::Semaphore, time::Instant};

/// How many kinds of view one call can have waiting to be sent.
const WAITING_VIEWS: usize = 64;

/// A call in the hands of the function that works on it. Owned, cheap to clone, good for other tasks.
///
/// ```
/// use rap_server::{Call, ToolError, tool};
/// use serde_json::json;
///
/// /// Copies all pages of a book.
/// #[tool(long_running)]
/// async fn copy_book(#[cx] call: Call, pages: u32) -> Result<String, ToolError> {
///     for page in 1..=pages {
///         call.check()?; // an error when the call was cancelled, its thread closed, or the server shuts down
///         call.view("progress", json!({"page": page, "of": pages}))?;
///         tokio::task::yield_now().await;
///     }
///     Ok(format!("{pages} pages of {}", call.session()))
/// }
/// ```
#[derive(Clone)]
pub struct Call {
    pub(crate) inner: Arc<CallInner>,
}

/// What a person picked, by [`Call::choose`].
///
/// ```
/// use rap_server::{Call, Pick, ToolError};
///
/// /// A person's word.
/// async fn consent(call: &Call) -> Result<bool, ToolError> {
///     let pick: Pick = call.choose("Go on?", ["Yes", "No"], 1).await?;
///     Ok(pick.index == 0)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pick {
    /// The index of the choice.
    pub index: usize,
    /// Its text.
    pub text: String,
}

pub(crate) struct CallInner {
    pub(crate) key: Key,
    pub(crate) operation: String,
    pub(crate) id: CallId,
    pub(crate) provider_call: Option<ProviderCallId>,
    pub(crate) thread: ThreadId,
    pub(crate) ancestors: Vec<ThreadId>,
    pub(crate) user: Option<UserId>,
    pub(crate) callback_url: HttpUrl,
    pub(crate) origin: String,
    pub(crate) trace: Option<Box<TraceContext>>,
    /// The public URL that a trusted proxy named; answers come back that way.
    base: Option<HttpUrl>,
    pub(crate) span: tracing::Span,
    pub(crate) since: Instant,
    /// It should stop, or is over.
    pub(crate) stopping: Signal,
    /// Room in the queue of events; made with the subscription.
    event_room: OnceLock<Arc<Semaphore>>,
    /// Held while a person is asked: a call asks one question at a time. Holds the time spent so far.
    pub(crate) asking: tokio::sync::Mutex<Duration>,
    pub(crate) core: Mutex<Core>,
    pub(crate) engine: Arc<Engine>,
    /// Where the call works: its messages leave from there, whatever thread they come from.
    pub(crate) runtime: Handle,
}

/// A person is being asked; dropped, nobody waits for the answer any more.
struct Asking<'a> {
    call: &'a CallInner,
    question: Option<Question>,
    asked: tokio::sync::MutexGuard<'a, Duration>,
    since: Instant,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        *self.asked += self.since.elapsed();
        let Some(question) = self.question.take() else { return };
        let token: Box<str> = question.token().into();
        drop(question);
        let mut core = self.call.core();
        core.leave_out(|what| matches!(what, What::Question { token: t } if **t == *token));
        core.nudge();
    }
}

impl CallInner {
    pub(crate) fn new(
        engine: Arc<Engine>,
        runtime: Handle,
        key: Key,
        invocation: Invocation,
        came: Came,
    ) -> Self {
        Self {
            key,
            operation: invocation.operation,
            id: invocation.id,
            provider_call: invocation.call_id,
            thread: invocation.group_id,
            ancestors: invocation.thread_ancestors.unwrap_or_default(),
            user: invocation.user_id,
            origin: invocation.callback_url.origin(),
            callback_url: invocation.callback_url,
            trace: came.trace,
            base: came.base,
            span: tracing::Span::none(),
            since: Instant::now(),
            stopping: Signal::default(),
            event_room: OnceLock::new(),
            asking: tokio::sync::Mutex::new(Duration::ZERO),
            core: Mutex::new(Core {
                life: Life::new(),
                stop: None,
                urgent: VecDeque::new(),
                events: VecDeque::new(),
                pumping: false,
                sending: None,
                attempts: 0,
                waiting: None,
                target: None,
                gone: false,
                outcome: None,
                emitter: Weak::new(),
                event_slot: None,
            }),
            engine,
            runtime,
        }
    }

    /// It is a new call, and not one that was sent again. Open calls of a thread share its id.
    pub(crate) fn begin(&mut self, thread: Option<ThreadId>) {
        if let Some(thread) = thread {
            self.thread = thread;
        }
        let ids = self.trace.as_ref().map(|trace| trace.ids());
        self.span = tracing::info_span!(
            "tool_call",
            tool = ?self.operation,
            thread = ?self.thread,
            call = ?self.id,
            trace_id = ids.map(|(trace, _)| trace),
            parent_span_id = ids.map(|(_, span)| span),
        );
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Throws away the events that wait, takes no more, and tells whoever emits.
    pub(crate) fn drop_events(&self, core: &mut Core) {
        core.events.clear();
        if core.sending == Some(Queue::Events) {
            core.sending = None;
        }
        self.close_event_room();
        self.stopping.give();
    }

    /// The call was sent again: what it still has to say goes to where it is awaited now (INV-10, TRN-07).
    pub(crate) fn send_to(&self, url: HttpUrl) {
        let mut core = self.core();
        if *core.target.as_ref().map_or(&self.callback_url, |target| &target.url) != url {
            core.target = Some(Target::new(url));
            core.gone = false;
            core.nudge();
        }
    }

    pub(crate) fn event_room(&self) -> &Arc<Semaphore> {
        self.event_room.get_or_init(|| Arc::new(Semaphore::new(self.engine.settings.event_queue)))
    }

    /// Whoever waits for room need not wait; without a subscription nobody does.
    pub(crate) fn close_event_room(&self) {
        if let Some(room) = self.event_room.get() {
            room.close();
        }
    }

    pub(crate) fn stop(self: &Arc<Self>, stop: Stop) {
        let mut core = self.core();
        match core.life.input(Input::Stopped(stop)) {
            Act::Signal => {
                core.stop = Some(stop);
                self.stopping.give();
            }
            Act::DropEvents => {
                core.stop = Some(stop);
                self.drop_events(&mut core);
                core.nudge();
                drop(core);
                self.engine.tidy(self);
            }
            Act::Farewell => {
                core.stop = Some(stop);
                let text = "The subscription ends because the server is shutting down; subscribe again when it is back.";
                let event = rap_types::SubscriptionEvent::new(self.thread.clone(), self.id.clone(), text)
                    .last(true)
                    .event_id(self.engine.event_id());
                core.events.push_back(Parcel {
                    what: What::Event { last: true },
                    body: crate::engine::json(&CallbackMessage::SubscriptionEvent(event)),
                    room: None,
                });
                self.close_event_room();
                self.stopping.give();
                drop(core);
                self.engine.wake(self);
            }
            _ => {}
        }
    }

    /// The error of a call that is to stop.
    pub(crate) fn stopped(&self) -> ToolError {
        stopped(self.core().stop)
    }
}

pub(crate) fn stopped(stop: Option<Stop>) -> ToolError {
    ToolError::stopped(match stop {
        Some(Stop::Cancelled) | None => "the call was cancelled",
        Some(Stop::Closed) => "the thread of the call was closed",
        Some(Stop::ShutDown) => "the server is shutting down; try again when it is back",
    })
}

impl Call {
    /// The call's id, unique in its thread.
    pub fn id(&self) -> &CallId {
        &self.inner.id
    }

    /// The second id of the call, where the runtime gave one: the model's own, for logs. The framework echoes it
    /// (RES-01).
    pub fn provider_call(&self) -> Option<&ProviderCallId> {
        self.inner.provider_call.as_ref()
    }

    /// The conversation that calls.
    ///
    /// ```
    /// use rap_server::{Call, tool};
    ///
    /// /// Writes a note down.
    /// #[tool]
    /// async fn add_note(#[cx] call: Call, text: String) -> String {
    ///     // For a person who is known, else for this conversation with all its threads.
    ///     let of = call.user().map_or(call.session().as_str(), |user| user.as_str());
    ///     tracing::info!(of, thread = %call.thread(), call = %call.id(), of_model = ?call.provider_call(), "a note");
    ///     format!("noted: {text}")
    /// }
    /// ```
    pub fn thread(&self) -> &ThreadId {
        &self.inner.thread
    }

    /// The thread's ancestors, root first; empty for a root thread.
    pub fn ancestors(&self) -> &[ThreadId] {
        &self.inner.ancestors
    }

    /// The root of the thread: the session.
    pub fn session(&self) -> &ThreadId {
        self.inner.ancestors.first().unwrap_or(&self.inner.thread)
    }

    /// The user on whose behalf the call is made, if the runtime knows.
    pub fn user(&self) -> Option<&UserId> {
        self.inner.user.as_ref()
    }

    /// The W3C `traceparent` that came with the call.
    ///
    /// ```
    /// use rap_server::Call;
    ///
    /// /// The headers by which a request that the tool makes belongs to the trace of its call.
    /// fn traced(call: &Call) -> Vec<(&'static str, &str)> {
    ///     let parent = call.traceparent().map(|value| ("traceparent", value));
    ///     let state = call.tracestate().map(|value| ("tracestate", value));
    ///     parent.into_iter().chain(state).collect()
    /// }
    /// ```
    pub fn traceparent(&self) -> Option<&str> {
        self.inner.trace.as_ref().map(|trace| trace.parent())
    }

    /// The W3C `tracestate` that came beside the [`traceparent`](Self::traceparent): what tracing systems note for
    /// themselves.
    pub fn tracestate(&self) -> Option<&str> {
        self.inner.trace.as_ref()?.state()
    }

    pub(crate) fn states(&self) -> &States {
        &self.inner.engine.states
    }

    /// Done when the call should stop: it was cancelled, its thread closed, or the server is shutting down;
    /// for a subscription also when it ended. Whatever the function returns then is still delivered; after a
    /// grace (5 s unless [`ToolServer::grace`](crate::ToolServer::grace) says otherwise) the function is
    /// dropped and the call ends in an error result.
    ///
    /// ```
    /// use rap_server::{Call, ToolError, tool};
    /// use std::{path::Path, time::Duration};
    ///
    /// /// Waits until a file is there.
    /// #[tool(long_running)]
    /// async fn wait_for_file(#[cx] call: Call, path: String) -> Result<&'static str, ToolError> {
    ///     let mut looks = tokio::time::interval(Duration::from_secs(1));
    ///     loop {
    ///         tokio::select! {
    ///             _ = looks.tick() => if Path::new(&path).exists() { return Ok("it is there") },
    ///             // Here is time to clean up.
    ///             () = call.cancelled() => return Err(ToolError::new(format!("{path} was not there yet"))),
    ///         }
    ///     }
    /// }
    /// ```
    pub async fn cancelled(&self) {
        self.inner.stopping.given().await;
    }

    /// Whether the call should stop, as [`cancelled`](Self::cancelled).
    ///
    /// ```
    /// use rap_server::{Call, ToolError, tool};
    ///
    /// /// Counts the primes below a number.
    /// #[tool]
    /// async fn count_primes(#[cx] call: Call, below: u64) -> Result<usize, ToolError> {
    ///     let work = call.clone();
    ///     // Nobody can drop a thread: it has to look itself.
    ///     let counted = tokio::task::spawn_blocking(move || {
    ///         let numbers = (2..below).take_while(|_| !work.is_cancelled());
    ///         numbers.filter(|n| (2..*n).all(|d| n % d != 0)).count()
    ///     });
    ///     let count = counted.await?;
    ///     call.check()?;
    ///     Ok(count)
    /// }
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.inner.stopping.is_given()
    }

    /// An error when the call should stop, for `call.check()?` in a long loop.
    ///
    /// # Errors
    /// A [`ToolError`] with [`is_stopped`](ToolError::is_stopped).
    pub fn check(&self) -> Result<(), ToolError> {
        if self.is_cancelled() { Err(self.inner.stopped()) } else { Ok(()) }
    }

    /// The outcome of some work, unless the call is to stop first; the work is dropped then, and the error is
    /// that of [`check`](Self::check).
    ///
    /// # Errors
    /// A [`ToolError`] with [`is_stopped`](ToolError::is_stopped).
    ///
    /// ```
    /// use rap_server::{Call, ToolError, tool};
    /// use std::time::Duration;
    ///
    /// /// Waits for a while.
    /// #[tool(long_running)]
    /// async fn wait(#[cx] call: Call, seconds: u64) -> Result<&'static str, ToolError> {
    ///     call.until_cancelled(tokio::time::sleep(Duration::from_secs(seconds))).await?;
    ///     Ok("waited")
    /// }
    /// ```
    pub async fn until_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, ToolError> {
        tokio::select! {
            biased;
            () = self.inner.stopping.given() => Err(self.inner.stopped()),
            outcome = work => Ok(outcome),
        }
    }

    /// Shows the latest content of a view to the people who watch the thread; empty content clears it
    /// (VIW-03). Of content that waits to be sent only the newest of each type goes out.
    ///
    /// # Errors
    /// When the content is no JSON object or too large, or the call is over.
    pub fn view(&self, view_type: impl Into<String>, content: impl Serialize) -> Result<(), ToolError> {
        let view_type = view_type.into();
        let Value::Object(content) = serde_json::to_value(content)? else {
            return Err(ToolError::new("the content of a view is a JSON object"));
        };
        let inner = &self.inner;
        let update = ViewUpdate::new(inner.thread.clone(), view_type.as_str(), content);
        let body = crate::engine::json(&CallbackMessage::ViewUpdate(update));
        if body.len() > rap_types::limits::RESULT_BYTES {
            return Err(ToolError::new("the content of the view is larger than 1 MiB (LIM-01); show less"));
        }
        {
            let mut core = inner.core();
            if core.gone || !core.life.takes_views() {
                drop(core);
                return Err(ToolError::stopped("the call is over: nobody watches its views"));
            }
            core.leave_out(|what| matches!(what, What::View { view_type: t, .. } if **t == *view_type));
            if core.behind().filter(|p| matches!(p.what, What::View { .. })).count() >= WAITING_VIEWS {
                return Err(ToolError::new("too many kinds of view wait to be sent"));
            }
            let number = inner.engine.number_view(&inner.thread, &view_type);
            let what = What::View { view_type: view_type.into(), number };
            core.urgent.push_back(Parcel { what, body, room: None });
            // An older one of this type may wait for its next attempt.
            core.nudge();
        }
        inner.engine.wake(inner);
        Ok(())
    }

    /// Asks the person to choose, and waits for the answer, which may take days; `default` is the index that
    /// a dismissal picks (CHO-01, CHO-02). A call asks one question at a time. Its time limit does not run
    /// meanwhile.
    ///
    /// # Errors
    /// No choices or a wrong default; the question could not be delivered; the call should stop; the answer
    /// was none of the choices, and then the call ends in an error result whatever it returns (CHO-03).
    ///
    /// ```
    /// use rap_server::{Call, ToolError, ToolServer, testing::TestServer, tool};
    /// use serde_json::json;
    ///
    /// /// Deletes a file.
    /// #[tool(destructive)]
    /// async fn delete(#[cx] call: Call, path: String) -> Result<String, ToolError> {
    ///     let pick = call.choose(format!("Delete {path}?"), ["Delete", "Keep"], 1).await?;
    ///     Ok(if pick.index == 0 { format!("{path} is gone") } else { format!("{path} was kept") })
    /// }
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let server = TestServer::new(ToolServer::new("files").tool(delete));
    /// let mut call = server.start("delete", json!({"path": "a.txt"})).await;
    /// call.question().await.pick(1).await;
    /// assert_eq!(call.result().await.text(), "a.txt was kept");
    /// # });
    /// ```
    pub async fn choose<C: Into<String>>(
        &self,
        prompt: impl Into<String>,
        choices: impl IntoIterator<Item = C>,
        default: usize,
    ) -> Result<Pick, ToolError> {
        let inner = &self.inner;
        let asked = inner.asking.lock().await;
        self.check()?;
        let since = Instant::now();
        let choices: Vec<String> = choices.into_iter().map(Into::into).collect();
        let (question, answer) = inner.engine.questions.open(&inner.thread, &inner.id, choices.len());
        let choice = UserChoice::new(
            inner.thread.clone(),
            inner.id.clone(),
            prompt,
            choices,
            default as u64,
            inner.engine.response_url(inner.base.as_ref(), question.token()),
        )
        .map_err(|fault| ToolError::new(format!("the tool asks wrongly: {fault}")))?
        .with_call_id(inner.provider_call.clone());
        let texts = choice.choices().to_vec();
        let token: Arc<str> = question.token().into();
        // From here on however this future ends, dropped included.
        let _asking = Asking { call: inner, question: Some(question), asked, since };
        {
            let mut core = inner.core();
            if core.gone || !core.life.is_working() {
                drop(core);
                return Err(ToolError::stopped("the call is over: nobody can be asked"));
            }
            core.urgent.push_back(Parcel {
                what: What::Question { token },
                body: crate::engine::json(&CallbackMessage::UserChoice(choice)),
                room: None,
            });
            core.nudge();
        }
        inner.engine.wake(inner);
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = inner.stopping.given() => return Err(inner.stopped()),
        };
        match answer {
            Ok(Some(index)) => {
                let text = texts.get(index).cloned().unwrap_or_default();
                Ok(Pick { index, text })
            }
            Ok(None) => {
                inner.core().life.input(Input::WrongPick);
                Err(ToolError::new(
                    "the answer was none of the choices; call the tool again to be asked again",
                ))
            }
            Err(_) => Err(ToolError::new("the user could not be asked; try again later")),
        }
    }

    /// Begins a subscription. Nothing happens until the draft is confirmed.
    pub fn subscribe(&self) -> SubscriptionDraft {
        SubscriptionDraft::new(self.clone())
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl std::fmt::Debug for CallInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call")
            .field("operation", &self.operation)
            .field("thread", &self.thread)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
