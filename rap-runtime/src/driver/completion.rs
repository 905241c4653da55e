//! One completion: the model's stream gathered into a turn, retried within a budget, cut short by what is urgent.

use super::{sight, slice::caught};
use crate::{
    Delta, ModelError, ModelProvider, Retry, Runtime, clock,
    hub::{RunningSlice, Signal},
};
use futures_util::{StreamExt, stream::BoxStream};
use rap_core::{
    Claim, ModelRequest, ModelTurn, ReasoningBlock, StopReason, StoreError, TurnOutcome, TurnPart,
};
use rap_types::ThreadId;
use std::{
    borrow::Cow,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Tries of one completion. Chunks do not refill them.
const TRIES: u32 = 4;
/// The pause before the second try; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// A longer wait ends the slice: the thread is due again at that time.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long a model may take to begin, where it may not be silent for longer anyway.
const FIRST_WORD: Duration = Duration::from_secs(300);
/// How often in a row a thread may be put off to a later time before its turn counts as failed.
const PUT_OFF: u32 = 20;

/// The longest time for which a thread is left alone that is lost again and again.
const LONGEST_LOSS: Duration = Duration::from_secs(30);
/// Threads that were lost to somebody else are counted for so many.
const LOST_THREADS: usize = 1_000;

/// What each thread was waited for since its last whole turn. A restart forgets it.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// How often it was put off.
    put_off: Mutex<HashMap<ThreadId, u32>>,
    /// How often in a row its slice was lost to somebody else.
    lost: Mutex<HashMap<ThreadId, u32>>,
}

impl Patience {
    /// Whether the thread may be put off once more.
    fn put_off(&self, thread: &ThreadId) -> bool {
        let mut counts = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(thread.clone()).or_default();
        *count += 1;
        if *count > PUT_OFF {
            counts.remove(thread);
            return false;
        }
        true
    }

    /// How often a thread was put off: to be kept where this process ends with its slice.
    #[cfg(feature = "sqlite")]
    pub(super) fn count(&self, thread: &ThreadId) -> u32 {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).get(thread).copied().unwrap_or(0)
    }

    /// Goes on counting from there.
    #[cfg(feature = "sqlite")]
    pub(super) fn resume(&self, thread: &ThreadId, count: u32) {
        let mut counts = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        if count == 0 {
            counts.remove(thread);
        } else {
            counts.insert(thread.clone(), count);
        }
    }

    /// How long a thread whose slice was lost to somebody else is to be left alone: the first time not at all. A store
    /// that never lets it be written would else have the model asked without end.
    pub(super) fn lost(&self, thread: &ThreadId) -> Duration {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() >= LOST_THREADS && !lost.contains_key(thread) {
            lost.clear();
        }
        let times = lost.entry(thread.clone()).or_default();
        *times += 1;
        if *times == 1 {
            Duration::ZERO
        } else {
            (FIRST_PAUSE * (1 << (*times - 2).min(8))).min(LONGEST_LOSS)
        }
    }

    /// A slice of the thread was written.
    pub(super) fn written(&self, thread: &ThreadId) {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).remove(thread);
    }

    fn forget(&self, thread: &ThreadId) {
        self.put_off.lock().unwrap_or_else(PoisonError::into_inner).remove(thread);
    }
}

pub(super) struct Completion<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) patience: &'a Patience,
    pub(super) signals: &'a RunningSlice,
    pub(super) request: &'a ModelRequest,
}

/// How it went.
pub(super) struct Completed {
    /// What to tell the machine; none: nothing is to be committed.
    pub(super) outcome: Option<TurnOutcome>,
    /// The attempt whose text watchers saw, to be ended after the commit.
    pub(super) streamed: Option<u64>,
}

/// How one try went.
enum Try {
    Turn(ModelTurn),
    Interrupted(String),
    Failed(ModelError),
}

impl Completion<'_> {
    pub(super) async fn run(&self, claim: &Claim) -> Result<Completed, StoreError> {
        let thread = &self.request.thread;
        let asked = match self.runtime.model_for(self.request.model.as_deref()) {
            Ok(model) => model,
            Err(why) => return Ok(failed(&format!("this session's model is not configured: {why}"))),
        };
        let card = &asked.card;
        let request =
            if card.images { Cow::Borrowed(self.request) } else { sight::without_images(self.request) };
        let (provider, model, window) = (&asked.provider, card.id.clone(), card.context_window);
        for tried in 1.. {
            let live = LiveAttempt::begin(self.runtime, self.request);
            let error = match self.attempt(claim, provider, &model, &request, &live).await? {
                Try::Turn(mut turn) => {
                    turn.window = Some(window);
                    self.patience.forget(thread);
                    return Ok(live.seal(TurnOutcome::Turn(turn)));
                }
                Try::Interrupted(text) => return Ok(live.seal(TurnOutcome::Interrupted { text, model })),
                Try::Failed(error) => error,
            };
            drop(live);
            tracing::warn!(%thread, tried, %error, "a completion failed");
            let wait = match error.retry {
                Retry::Never if error.overflow => {
                    return Ok(only(TurnOutcome::Overflow { message: error.message }));
                }
                Retry::Never => return Ok(failed(&error.message)),
                // A time that the model asked for is the model's word; the tries are still ours.
                Retry::At(wait) if wait > LONGEST_WAIT => {
                    return Ok(if self.patience.put_off(thread) {
                        let at = clock::now() + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                        let message = format!("{}; trying again in {} s", error.message, wait.as_secs());
                        only(TurnOutcome::RetryAt { at, message })
                    } else {
                        self.patience.forget(thread);
                        failed(&error.message)
                    });
                }
                _ if tried >= TRIES => {
                    return Ok(failed(&format!("{} (tried {tried} times)", error.message)));
                }
                Retry::At(wait) => wait,
                Retry::Soon => pause(tried),
            };
            if self.wait(claim, wait).await? {
                // Something urgent is there: the thread is prepared anew, and the model is asked with it.
                return Ok(only(TurnOutcome::Interrupted { text: String::new(), model }));
            }
        }
        unreachable!("the tries are limited")
    }

    /// Waits for the next try; whether something urgent came first.
    async fn wait(&self, claim: &Claim, wait: Duration) -> Result<bool, StoreError> {
        let mut over = std::pin::pin!(tokio::time::sleep(wait));
        loop {
            tokio::select! {
                biased;
                signal = self.signals.signal() => match signal {
                    Signal::Urgent => return Ok(true),
                    Signal::CheckClaim => self.runtime.inner.store.renew(claim).await?,
                },
                () = &mut over => return Ok(false),
            }
        }
    }

    /// One try. A panic of the model is a failure that no other try mends.
    async fn attempt(
        &self,
        claim: &Claim,
        provider: &Arc<dyn ModelProvider>,
        model: &str,
        request: &ModelRequest,
        live: &LiveAttempt<'_>,
    ) -> Result<Try, StoreError> {
        let mut stream = match begin(provider, request) {
            Ok(stream) => stream,
            Err(error) => return Ok(Try::Failed(error)),
        };
        let mut turn = Gathered::new(model.to_owned());
        let mut limit = self.runtime.first_word_limit();
        loop {
            let next = tokio::select! {
                biased;
                signal = self.signals.signal() => match signal {
                    Signal::Urgent => return Ok(Try::Interrupted(turn.text)),
                    Signal::CheckClaim => {
                        self.runtime.inner.store.renew(claim).await?;
                        continue;
                    }
                },
                next = next(&mut stream, limit) => next,
            };
            limit = self.runtime.inner.model_idle;
            match next {
                Err(error) => return Ok(Try::Failed(error)),
                Ok(None) => return Ok(Try::Turn(turn.into_turn())),
                Ok(Some(delta)) => {
                    if let Delta::Text(piece) = &delta {
                        if turn.text.is_empty() {
                            let thread = &self.request.thread;
                            tracing::debug!(%thread, pid = std::process::id(), "the model speaks");
                        }
                        live.grows(piece);
                    }
                    if turn.take(delta) {
                        return Ok(Try::Turn(turn.into_turn()));
                    }
                }
            }
        }
    }
}

pub(super) type Deltas = BoxStream<'static, Result<Delta, ModelError>>;

/// Asks a model. A panic of it is a failure that no other try mends.
pub(super) fn begin(provider: &Arc<dyn ModelProvider>, request: &ModelRequest) -> Result<Deltas, ModelError> {
    catch_unwind(AssertUnwindSafe(|| provider.complete(request))).map_err(|_| panicked())
}

/// The next delta; an error where the model panicked, or was silent for too long.
pub(super) async fn next(stream: &mut Deltas, limit: Duration) -> Result<Option<Delta>, ModelError> {
    match tokio::time::timeout(limit, caught(stream.next())).await {
        Ok(Some(next)) => next.transpose(),
        Ok(None) => Err(panicked()),
        Err(_) => Err(ModelError::passing(format!("the model was silent for {} s", limit.as_secs()))),
    }
}

fn panicked() -> ModelError {
    ModelError::fatal("the model's adapter panicked, which is a bug in it; write again, or use another model")
}

impl Runtime {
    /// How long a model may be silent before it says anything at all: a long history takes its time to be read.
    pub(super) fn first_word_limit(&self) -> Duration {
        self.inner.model_idle.max(FIRST_WORD)
    }
}

fn only(outcome: TurnOutcome) -> Completed {
    Completed { outcome: Some(outcome), streamed: None }
}

fn failed(message: &str) -> Completed {
    only(TurnOutcome::Failed { message: format!("the model failed: {message}") })
}

/// 0.5, 1, 2 s, each longer by up to a quarter.
fn pause(tried: u32) -> Duration {
    let pause = FIRST_PAUSE * (1 << (tried - 1).min(8));
    pause + pause.mul_f64((clock::dice() % 1024) as f64 / 4096.0)
}

/// A try as watchers see it: ended when dropped, unless it was sealed to be committed.
struct LiveAttempt<'a> {
    runtime: &'a Runtime,
    request: &'a ModelRequest,
    attempt: u64,
    sealed: bool,
}

impl<'a> LiveAttempt<'a> {
    fn begin(runtime: &'a Runtime, request: &'a ModelRequest) -> Self {
        let attempt = runtime.inner.hub.turn_begins(&request.session, &request.thread);
        Self { runtime, request, attempt, sealed: false }
    }

    fn grows(&self, piece: &str) {
        self.runtime.inner.hub.turn_grows(&self.request.session, &self.request.thread, self.attempt, piece);
    }

    fn seal(mut self, outcome: TurnOutcome) -> Completed {
        self.sealed = true;
        self.runtime.inner.hub.turn_sealed(&self.request.session, &self.request.thread, self.attempt);
        Completed { outcome: Some(outcome), streamed: Some(self.attempt) }
    }
}

impl Drop for LiveAttempt<'_> {
    fn drop(&mut self) {
        if !self.sealed {
            self.runtime.inner.hub.turn_ends(&self.request.session, &self.request.thread, self.attempt);
        }
    }
}

/// A turn as it is gathered.
struct Gathered {
    text: String,
    turn: ModelTurn,
    block_is_open: bool,
    stop: Option<StopReason>,
}

impl Gathered {
    fn new(model: String) -> Self {
        let turn = ModelTurn { model, ..ModelTurn::default() };
        Self { text: String::new(), turn, block_is_open: false, stop: None }
    }

    /// Takes a delta in; whether the turn is whole.
    fn take(&mut self, delta: Delta) -> bool {
        match delta {
            Delta::Text(piece) => {
                self.block_is_open = false;
                self.text.push_str(&piece);
                match self.turn.order.last_mut() {
                    _ if piece.is_empty() => {}
                    Some(TurnPart::Text(bytes)) => *bytes += piece.len(),
                    _ => self.turn.order.push(TurnPart::Text(piece.len())),
                }
            }
            Delta::Reasoning(piece) => self.reasoning(piece),
            Delta::Call(call) => {
                self.block_is_open = false;
                self.turn.order.push(TurnPart::Call);
                self.turn.calls.push(call);
            }
            Delta::Usage(usage) => self.turn.usage = usage,
            Delta::Alive => {}
            Delta::Stop(stop) => {
                self.stop = Some(stop);
                return true;
            }
        }
        false
    }

    fn reasoning(&mut self, piece: ReasoningBlock) {
        let signed = piece.signature.is_some();
        match self.turn.reasoning.last_mut().filter(|_| self.block_is_open) {
            Some(block) => {
                block.text.push_str(&piece.text);
                block.signature = piece.signature;
            }
            None => {
                self.turn.order.push(TurnPart::Reasoning);
                self.turn.reasoning.push(piece);
            }
        }
        self.block_is_open = !signed;
    }

    fn into_turn(mut self) -> ModelTurn {
        self.turn.text = self.text;
        if TurnPart::is_usual(&self.turn.order) {
            self.turn.order.clear();
        }
        let natural = if self.turn.calls.is_empty() { StopReason::End } else { StopReason::Calls };
        self.turn.stop = self.stop.unwrap_or(natural);
        // Said where both people and the model see it: the turn is not what the model meant to say.
        let note = match self.turn.stop {
            StopReason::Length if self.turn.calls.is_empty() => {
                "[cut off here: the output limit was reached]"
            }
            StopReason::Refused if self.turn.calls.is_empty() => "[the model, or a filter, refused to go on]",
            _ => return self.turn,
        };
        if !self.turn.text.is_empty() {
            self.turn.text.push('\n');
        }
        self.turn.text.push_str(note);
        self.turn
    }
}
