//! Subscriptions by construction: a draft becomes a confirmation and an emitter in one step, and the
//! confirmation is the only value that says `subscription: true`. No event leaves before the confirmation
//! was answered 2xx, and none after the end (SUB-01, SUB-07).
//!
//! They live in memory: with the process they end. A clean shutdown says goodbye with a last event.

use crate::{
    Call, ToolError,
    call::{CallInner, Parcel, What},
    life::Input,
    output::ToolOutput,
};
use rap_types::{CallbackMessage, EventId, SubscriptionEvent, limits};
use std::{fmt, sync::Arc};

/// The subscription that a call may become; dropped, nothing happened.
///
/// ```
/// use rap_server::{Call, Subscribed, SubscriptionDraft, ToolError, tool};
///
/// /// Watches a file.
/// #[tool]
/// async fn watch(#[cx] call: Call, path: String) -> Result<Subscribed, ToolError> {
///     let draft: SubscriptionDraft = call.subscribe();
///     let size = tokio::task::spawn_blocking({
///         let path = path.clone();
///         move || std::fs::metadata(path).map(|file| file.len())
///     });
///     let size = size.await??; // an error here drops the draft, and the call ends in an error result
///     let (subscribed, events) = draft.confirm(format!("watching {path}, {size} bytes"));
///     tokio::spawn(async move { events.finish("nothing more is watched").await });
///     Ok(subscribed)
/// }
/// ```
#[derive(Debug)]
#[must_use = "a draft does nothing until it is confirmed"]
pub struct SubscriptionDraft {
    call: Call,
}

/// The confirmation of a subscription: return it, and the call's result says `subscription: true`.
#[derive(Debug)]
#[must_use = "return it: the subscription begins with the call's result"]
pub struct Subscribed {
    output: ToolOutput,
    ticket: Ticket,
}

/// The call that a confirmation belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Ticket(pub(crate) Arc<CallInner>);

impl SubscriptionDraft {
    pub(crate) fn new(call: Call) -> Self {
        Self { call }
    }

    /// Confirms: what the model reads as the call's result, and the emitter of the events to come.
    ///
    /// ```
    /// use rap_server::{Call, Subscribed, tool};
    ///
    /// /// Watches a file.
    /// #[tool]
    /// async fn watch(#[cx] call: Call, path: String) -> Subscribed {
    ///     let (subscribed, events) = call.subscribe().confirm(format!("watching {path}"));
    ///     tokio::spawn(async move {
    ///         let _ = events.emit("it changed").await; // waits until the confirmation has arrived
    ///         let _ = events.finish("it was removed").await;
    ///     });
    ///     subscribed
    /// }
    /// ```
    pub fn confirm(self, output: impl Into<ToolOutput>) -> (Subscribed, Emitter) {
        let inner = self.call.inner;
        let core = {
            let mut state = inner.core();
            match state.emitter.upgrade() {
                Some(core) => core,
                None => {
                    let core = Arc::new(EmitterCore { call: inner.clone() });
                    state.emitter = Arc::downgrade(&core);
                    core
                }
            }
        };
        let subscribed = Subscribed { output: output.into(), ticket: Ticket(inner) };
        (subscribed, Emitter { core, associative: false })
    }
}

impl Subscribed {
    pub(crate) fn into_parts(self) -> (ToolOutput, Ticket) {
        (self.output, self.ticket)
    }
}

/// Sends the events of a subscription, in order. Clones share it.
///
/// Events wait in a bounded queue (256 unless [`ToolServer::event_queue`](crate::ToolServer::event_queue)
/// says otherwise). When it is full, [`emit`](Self::emit) waits and [`try_emit`](Self::try_emit) refuses;
/// nothing is ever dropped silently. At most 100 events a second leave, 200 in a burst (SUB-11).
///
/// When the last clone is dropped without [`finish`](Self::finish), a last event says so (SUB-06).
///
/// ```
/// use rap_server::{EmitError, Emitter};
///
/// /// Passes lines on: the newest matter, so one that finds no room is left out.
/// async fn pass_on(mut lines: tokio::sync::mpsc::Receiver<String>, events: Emitter) {
///     while let Some(line) = lines.recv().await {
///         match events.try_emit(line) {
///             Err(EmitError::Ended) => return, // cancelled: there is nobody to tell
///             Err(EmitError::Full | EmitError::TooLarge) => {}
///             _ => {}
///         }
///     }
///     let _ = events.finish("there are no more lines").await;
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Emitter {
    core: Arc<EmitterCore>,
    associative: bool,
}

#[derive(Debug)]
pub(crate) struct EmitterCore {
    call: Arc<CallInner>,
}

/// Why an event was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The subscription is over: finished, cancelled, its thread closed, its confirmation refused, or the
    /// server is shutting down.
    #[error("the subscription is over; stop emitting")]
    Ended,
    /// The queue is full; only [`Emitter::try_emit`] says so.
    #[error("the queue of events is full; wait with `emit`, or drop the event")]
    Full,
    /// The event is larger than 256 KiB (LIM-01).
    #[error("the event is larger than 256 KiB (LIM-01); send less")]
    TooLarge,
}

impl Emitter {
    /// Sends events into the subscribing thread, instead of a thread of its own for each (SUB-05).
    #[must_use]
    pub fn associative(mut self) -> Self {
        self.associative = true;
        self
    }

    /// Hands over an event, waiting for room in the queue. It is delivered by the delivery contract, after
    /// the confirmation and after all events before it. It carries an `event_id` of its own (SUB-13).
    ///
    /// # Errors
    /// [`EmitError::Ended`], [`EmitError::TooLarge`].
    pub async fn emit(&self, text: impl Into<String>) -> Result<(), EmitError> {
        let body = self.body(text.into(), false)?;
        let call = &self.core.call;
        let room = call.event_room().clone().acquire_owned().await.map_err(|_| EmitError::Ended)?;
        self.push(body, Some(room), false)
    }

    /// Hands over an event if there is room.
    ///
    /// # Errors
    /// [`EmitError::Full`], [`EmitError::Ended`], [`EmitError::TooLarge`].
    pub fn try_emit(&self, text: impl Into<String>) -> Result<(), EmitError> {
        use tokio::sync::TryAcquireError;
        let body = self.body(text.into(), false)?;
        let room = self.core.call.event_room().clone().try_acquire_owned().map_err(|e| match e {
            TryAcquireError::Closed => EmitError::Ended,
            TryAcquireError::NoPermits => EmitError::Full,
        })?;
        self.push(body, Some(room), false)
    }

    /// Ends the subscription with a last event (SUB-06).
    ///
    /// # Errors
    /// [`EmitError::Ended`] when it was over already, [`EmitError::TooLarge`].
    pub async fn finish(self, text: impl Into<String>) -> Result<(), EmitError> {
        let body = self.body(text.into(), true)?;
        self.push(body, None, true)
    }

    /// Done when the subscription is over.
    ///
    /// ```
    /// use rap_server::Emitter;
    /// use tokio::sync::watch;
    ///
    /// /// Tells each change of a temperature to the thread that subscribed.
    /// async fn tell(events: Emitter, mut degrees: watch::Receiver<i32>) {
    ///     let events = events.associative();
    ///     loop {
    ///         tokio::select! {
    ///             () = events.ended() => return, // nothing may change for days: the sensor is let go at once
    ///             changed = degrees.changed() => if changed.is_err() { break },
    ///         }
    ///         let text = format!("{} °C", *degrees.borrow_and_update());
    ///         let _ = events.emit(text).await;
    ///     }
    ///     let _ = events.finish("the sensor is gone").await;
    /// }
    /// ```
    pub async fn ended(&self) {
        self.core.call.stopping.given().await;
    }

    /// Whether the subscription is over.
    ///
    /// ```
    /// use rap_server::Emitter;
    ///
    /// /// In a thread of its own, which nothing else ends.
    /// fn follow(events: &Emitter, lines: impl Iterator<Item = String>) {
    ///     for line in lines.take_while(|_| !events.is_ended()) {
    ///         let _ = events.try_emit(line); // without room for it, the line is left out
    ///     }
    /// }
    /// ```
    pub fn is_ended(&self) -> bool {
        !self.core.call.core().life.takes_events()
    }

    fn body(&self, text: String, last: bool) -> Result<bytes::Bytes, EmitError> {
        let call = &self.core.call;
        let event = SubscriptionEvent::new(call.thread.clone(), call.id.clone(), text)
            .associative(self.associative)
            .last(last)
            .event_id(call.engine.event_id());
        let body = crate::engine::json(&CallbackMessage::SubscriptionEvent(event));
        if body.len() > limits::EVENT_BYTES { Err(EmitError::TooLarge) } else { Ok(body) }
    }

    fn push(
        &self,
        body: bytes::Bytes,
        room: Option<tokio::sync::OwnedSemaphorePermit>,
        last: bool,
    ) -> Result<(), EmitError> {
        push(&self.core.call, Parcel { what: What::Event { last }, body, room })
    }
}

fn push(call: &Arc<CallInner>, parcel: Parcel) -> Result<(), EmitError> {
    {
        let mut core = call.core();
        if core.gone || !core.life.takes_events() {
            return Err(EmitError::Ended);
        }
        let last = matches!(parcel.what, What::Event { last: true });
        core.events.push_back(parcel);
        if last {
            core.life.input(Input::Finished);
            call.close_event_room();
        }
    }
    call.engine.wake(call);
    Ok(())
}

impl Drop for EmitterCore {
    fn drop(&mut self) {
        let call = &self.call;
        let text = "The subscription ended; the tool gave no reason.";
        let event = SubscriptionEvent::new(call.thread.clone(), call.id.clone(), text)
            .last(true)
            .event_id(call.engine.event_id());
        let body = crate::engine::json(&CallbackMessage::SubscriptionEvent(event));
        let _ = push(call, Parcel { what: What::Event { last: true }, body, room: None });
    }
}

/// Unique names for events: a prefix for the process and a number, so that a server that was restarted
/// does not repeat itself.
pub(crate) struct EventIds {
    prefix: String,
    next: std::sync::atomic::AtomicU64,
}

impl EventIds {
    pub(crate) fn new() -> Self {
        Self { prefix: crate::questions::random(10), next: std::sync::atomic::AtomicU64::new(1) }
    }

    pub(crate) fn next(&self) -> EventId {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        EventId::new(format!("{}-{number}", self.prefix)).expect("bug: a prefix and a number are an id")
    }
}

impl fmt::Debug for EventIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventIds")
    }
}

const _: () = {
    const fn sync<T: Send + Sync>() {}
    sync::<Emitter>();
    sync::<ToolError>();
};
