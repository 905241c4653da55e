//! How a call runs and ends: whatever becomes of the function, exactly one result goes out. The decisions are
//! those of the pure [`Life`](crate::life::Life); here are its task and its timers.

use crate::{
    ToolError,
    call::{Call, CallInner, Parcel, What, stopped},
    engine::{Engine, json},
    life::{Act, Cause, Input},
    output::Reply,
    pump::{pump, start_pump},
};
use bytes::Bytes;
use futures_util::FutureExt;
use rap_types::{CallbackMessage, ToolResult, limits};
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// How a function ended.
pub(crate) enum End {
    Returned(Result<Reply, ToolError>),
    Panicked,
    OutOfTime,
    GraceOver,
    Dropped,
}

impl Engine {
    /// A function ended: one result goes out, whatever happened.
    pub(crate) fn ended(self: &Arc<Self>, call: &Arc<CallInner>, end: End) -> bool {
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
        let good = matches!(input, Input::Returned(true) | Input::Confirmed);
        let mut core = call.core();
        let (body, good) = match (core.life.input(input), outcome) {
            (Act::SendOutcome, Some(body)) => (body, good),
            (Act::SendError(cause), _) => (error_result(call, &self.words(cause)), false),
            _ => return false,
        };
        self.gauges.ended(&call.operation, good, call.since.elapsed());
        core.outcome = Some(body.clone());
        core.urgent.push_back(Parcel { what: What::Result, body, room: None });
        // A view that nobody takes, or a question that nobody awaits now, does not hold it up.
        core.nudge();
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
pub(crate) async fn run(call: Arc<CallInner>, arguments: serde_json::Map<String, serde_json::Value>) {
    let guard = Guard(Some(call));
    let end = work(guard.call(), arguments).await;
    guard.call().engine.ended(guard.call(), end);
    let call = guard.disarm();
    if start_pump(&call) {
        // Apart: a task that also had room for this would be as large all the while the function works.
        Box::pin(pump(call)).await;
    }
}

async fn work(call: &Arc<CallInner>, arguments: serde_json::Map<String, serde_json::Value>) -> End {
    let engine = &call.engine;
    let (Some(tool), Some(work)) = (engine.toolset.tool(&call.operation), engine.work.get(&call.operation))
    else {
        let known: Vec<&str> =
            engine.toolset.toolset().tools().iter().map(|t| t.name.as_str()).take(50).collect();
        let text = format!("there is no tool {:?} here; there are: {}", call.operation, known.join(", "));
        return End::Returned(Err(ToolError::new(text)));
    };
    if call.stopping.is_given() {
        // Stopped before it began.
        return End::Returned(Err(call.stopped()));
    }
    if let Err(faults) = tool.check_arguments(&arguments) {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let text = format!(
            "the arguments do not fit the schema of {}: {}. Mend them and call again",
            call.operation,
            faults.join("; ")
        );
        return End::Returned(Err(ToolError::new(text)));
    }
    if let Some((per_minute, burst)) = engine.settings.user_rate
        && let Err(wait) = engine.users.take(call.user.as_ref(), per_minute, burst, Instant::now())
    {
        let text = format!("too many calls at once; try again in {} s", wait.as_secs() + 1);
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
    call.stopping.given().await;
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
    fn call(&self) -> &Arc<CallInner> {
        self.0.as_ref().expect("bug: the guard holds the call until it is disarmed")
    }

    fn disarm(mut self) -> Arc<CallInner> {
        self.0.take().expect("bug: a guard is disarmed once")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(call) = self.0.take() else { return };
        let end = if std::thread::panicking() { End::Panicked } else { End::Dropped };
        if call.engine.ended(&call, end) {
            call.engine.wake(&call);
        }
    }
}
