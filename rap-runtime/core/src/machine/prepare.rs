//! What the inputs mean for the thread, before the model is asked.
//!
//! In this order: what the clock did, controls and due timers; outcomes of calls; everything else by arrival. So a message
//! never detaches a call whose outcome is already there, and two runs order alike.

use super::{Draft, approvals, clock, compact, resolve};
use crate::{
    CallRoute, CallRow, CallState, DeliveryKind, Entry, Input, InputBody, InputId, Millis, NewDelivery,
    NewInput, Outcome, SubscriptionRow, SubscriptionState, Surface, UserAuthor, UserEntry, builtin,
    history::text_of,
    machine::turn::{self, Waiting},
};
use rap_types::{CallId, ContentPart};
use serde_json::json;

/// Something that goes into the history of this thread, but only where no call stands open.
struct Arrival<'a> {
    input: &'a Input,
    urgent: bool,
}

pub(crate) fn prepare(draft: &mut Draft) {
    let inputs = std::mem::take(&mut draft.snapshot.inputs);
    clock::set_back(draft, &inputs);
    controls(draft, &inputs);
    if !draft.close {
        compact::controls(draft, &inputs);
        fire_timers(draft);
        approvals::answers(draft, &inputs);
        outcomes(draft, &inputs);
        resend(draft, &inputs);
        let paused = draft.is_paused();
        let arrivals = arrivals(draft, &inputs, paused);
        if !paused || arrivals.iter().any(|arrival| arrival.urgent) {
            settle_and_inject(draft, &arrivals);
        }
        wake_for_timers(draft);
    }
    draft.snapshot.inputs = inputs;
}

/// Stop, close, another model. A message that is newer than the stop lifts it again.
fn controls(draft: &mut Draft, inputs: &[Input]) {
    for input in inputs {
        match &input.body {
            InputBody::Stop => {
                draft.consume(input);
                draft.stopped_by = Some(input.seq);
            }
            InputBody::Close => {
                draft.consume(input);
                draft.close = true;
                draft.model_owed = false;
                return;
            }
            InputBody::UseModel { model } => use_model(draft, input, model.as_ref()),
            InputBody::Refresh => refresh(draft, input),
            _ => {}
        }
    }
    let stopped_by = draft.stopped_by;
    if stopped_by.is_some() {
        stop(draft);
    }
    let lifted = |input: &Input| {
        matches!(input.body, InputBody::Message { .. }) && stopped_by.is_none_or(|stop| input.seq > stop)
    };
    if (draft.pause || draft.snapshot.thread.paused) && inputs.iter().any(lifted) {
        draft.pause = false;
        draft.resume = true;
    }
}

/// Another model from the next turn on, here and in the open threads below. What the former one asked to wait for
/// is no matter of the new one's.
fn use_model(draft: &mut Draft, input: &Input, model: Option<&String>) {
    draft.consume(input);
    let below: Vec<_> =
        draft.snapshot.children.iter().filter(|child| child.open).map(|child| child.id.clone()).collect();
    for child in below {
        draft.inputs.push(NewInput {
            id: InputId::between_threads(&format!("{}:{child}", input.id)),
            source: format!("thread {}", draft.thread()),
            thread: child,
            body: input.body.clone(),
            traceparent: None,
        });
    }
    if draft.model.as_ref() != model {
        draft.model = model.cloned();
        draft.retry_at = None;
        draft.show(Surface::Model { model: draft.model().map(str::to_owned) });
    }
}

/// The session's servers are asked for their toolsets again: a request like any other, so that it outlives a kill.
fn refresh(draft: &mut Draft, input: &Input) {
    draft.consume(input);
    let Some(url) = draft.snapshot.session.toolbox.bases().next().cloned() else { return };
    draft.outbox.push(NewDelivery {
        kind: DeliveryKind::Refresh,
        thread: draft.thread().clone(),
        call: None,
        url,
        body: json!({"asked_at": input.accepted_at}),
        traceparent: None,
    });
}

/// Cancels the thread's open calls and pauses it with all below it.
fn stop(draft: &mut Draft) {
    draft.pause = true;
    let unanswered = |row: &&CallRow| row.state.is_open() && row.outcome.is_none();
    let open: Vec<_> = draft.snapshot.calls.iter().filter(unanswered).cloned().collect();
    for row in open {
        let outcome = Outcome::error(match row.state {
            CallState::AwaitingApproval => "cancelled; it was never sent",
            _ => "cancelled; it may already have taken effect",
        });
        draft.finish_call(&row.id, CallState::Cancelled, outcome.clone());
        draft.cancel_at_servers(&row);
        draft.show_result(&row.id, &row.name, &outcome, false);
    }
    turn::write_results(draft);
    draft.show(Surface::Paused);
}

/// Timers of the newest turn whose time has come answer their calls.
fn fire_timers(draft: &mut Draft) {
    for row in due_timers(draft, CallState::Pending) {
        let outcome = builtin::sleep::ended(&row);
        draft.show_result(&row.id, &row.name, &outcome, false);
        if let Some(row) = draft.change_call(&row.id) {
            row.outcome = Some(outcome);
        }
    }
}

/// Timers in a state whose time has come, the earliest first.
fn due_timers(draft: &Draft, state: CallState) -> Vec<CallRow> {
    let now = draft.now();
    let due =
        |row: &&CallRow| is_ticking(row) && row.state == state && row.due_at.is_some_and(|at| at <= now);
    let mut rows: Vec<CallRow> = draft.snapshot.calls.iter().filter(due).cloned().collect();
    rows.sort_by_key(|row| row.due_at);
    rows
}

pub(crate) fn is_ticking(row: &CallRow) -> bool {
    row.route == CallRoute::Timer && row.state.is_open() && row.outcome.is_none()
}

/// The end of a timer that was not waited for: shown as an event, like any late outcome.
fn late_timer(draft: &mut Draft, row: &CallRow) {
    let outcome = builtin::sleep::ended(row);
    draft.show_result(&row.id, &row.name, &outcome, true);
    draft.add_event(&row.name, &row.id, row.arguments.clone(), &outcome);
    draft.finish_call(&row.id, CallState::Done, outcome);
}

/// Outcomes of calls that we still wait for become known on their rows.
fn outcomes(draft: &mut Draft, inputs: &[Input]) {
    for input in inputs {
        let Some(call) = input.body.call() else { continue };
        let Some(row) = draft.call(call).cloned() else { continue };
        if row.state != CallState::Pending || row.outcome.is_some() {
            continue;
        }
        match &input.body {
            InputBody::Outcome { outcome, .. } => {
                let outcome = confirm_subscription(draft, call, outcome.clone());
                draft.show_result(call, &row.name, &outcome, false);
                if let Some(row) = draft.change_call(call) {
                    row.outcome = Some(outcome);
                }
                draft.consume(input);
            }
            InputBody::Undelivered { may_have_arrived, reason, .. } => {
                let (state, outcome) = undelivered(*may_have_arrived, reason);
                draft.show_result(call, &row.name, &outcome, false);
                draft.finish_call(call, state, outcome);
                draft.consume(input);
            }
            _ => {}
        }
    }
}

/// Invocations that were given up go out once more, under the same id. History has shown their error: what comes of them
/// now comes as an event (P10).
fn resend(draft: &mut Draft, inputs: &[Input]) {
    for input in inputs {
        let InputBody::Resend { call } = &input.body else { continue };
        draft.consume(input);
        let given_up = |row: &&CallRow| {
            row.route.is_sent()
                && matches!(row.state, CallState::Refused | CallState::PresumedLost)
                && !draft.outbox.iter().any(|delivery| delivery.call.as_ref() == Some(&row.id))
        };
        let Some(row) = draft.call(call).filter(given_up).cloned() else { continue };
        if resolve::allowed(draft, &row).is_ok()
            && let Some(row) = draft.change_call(call)
        {
            row.state = CallState::PresumedLost;
        }
    }
}

fn undelivered(may_have_arrived: bool, reason: &str) -> (CallState, Outcome) {
    if may_have_arrived {
        let text = format!("{reason}; the request may have arrived: if an outcome comes, you will see it");
        (CallState::PresumedLost, Outcome::error(text))
    } else {
        (CallState::Refused, Outcome::error(reason))
    }
}

/// `subscription: true` creates the subscription, whichever way the outcome is shown (SUB-02). Gives back the
/// outcome to show: at the limit, an error in its place.
fn confirm_subscription(draft: &mut Draft, call: &CallId, outcome: Outcome) -> Outcome {
    if !outcome.subscription || draft.subscription(call).is_some() {
        return outcome;
    }
    let Some(row) = draft.call(call).cloned() else { return outcome };
    let active = draft.snapshot.subscriptions.iter().filter(|s| s.state == SubscriptionState::Active).count();
    if active >= draft.rules().subscriptions {
        draft.cancel_at_servers(&row);
        return Outcome::error(format!(
            "this thread has {active} subscriptions, which is the limit, so this one was cancelled; cancel another first"
        ));
    }
    draft.add_subscription(SubscriptionRow {
        call: call.clone(),
        thread: row.thread,
        name: row.name,
        arguments: row.arguments,
        state: SubscriptionState::Active,
        created_at: draft.now(),
    });
    outcome
}

/// Sorts out everything that is neither a control nor the outcome of a pending call.
fn arrivals<'a>(draft: &mut Draft, inputs: &'a [Input], paused: bool) -> Vec<Arrival<'a>> {
    let mut arrivals = Vec::new();
    for input in inputs {
        if draft.consumed.contains(&input.seq) {
            continue;
        }
        match &input.body {
            InputBody::Message { .. } => {
                // A message from before a stop waits with everything else until the stop is lifted.
                if !paused {
                    arrivals.push(Arrival { input, urgent: true });
                }
            }
            InputBody::Outcome { call, .. } | InputBody::Undelivered { call, .. } => {
                match draft.call(call).map(|row| row.state) {
                    Some(CallState::Detached | CallState::PresumedLost) => {
                        arrivals.push(Arrival { input, urgent: false });
                    }
                    Some(CallState::Cancelled) => draft.dead_letter(input, "the call was cancelled"),
                    // RES-09: a second outcome has no effect.
                    Some(_) => draft.consume(input),
                    None => draft.dead_letter(input, "no such call in this thread"),
                }
            }
            InputBody::Event { call, .. } => match draft.subscription(call).map(|row| row.state) {
                // After a final event nothing is admitted: what is here came before it.
                Some(SubscriptionState::Active | SubscriptionState::Ended) => {
                    arrivals.push(Arrival { input, urgent: false });
                }
                Some(SubscriptionState::Cancelled) => {
                    draft.dead_letter(input, "the subscription was cancelled");
                }
                None if is_parked(draft, call) => arrivals.push(Arrival { input, urgent: false }),
                None => draft.dead_letter(input, "the call made no subscription"),
            },
            InputBody::Report { .. }
            | InputBody::FromParent { .. }
            | InputBody::Approval { .. }
            | InputBody::Summary { .. } => {
                arrivals.push(Arrival { input, urgent: false });
            }
            InputBody::Stop
            | InputBody::Close
            | InputBody::UseModel { .. }
            | InputBody::Refresh
            | InputBody::ClockSetBack { .. }
            | InputBody::Compact
            | InputBody::NotCompacted { .. }
            | InputBody::Resend { .. } => {}
        }
    }
    arrivals
}

/// Closes the newest turn if its time has come, then lets in what has arrived.
fn settle_and_inject(draft: &mut Draft, arrivals: &[Arrival<'_>]) {
    let urgent = arrivals.iter().any(|arrival| arrival.urgent);
    if urgent {
        approvals::overtaken(draft);
    }
    let late_timers = due_timers(draft, CallState::Detached);
    let oldest_held = arrivals
        .iter()
        // A summary waits for as long as the calls take: it is nothing that the model is to see soon.
        .filter(|arrival| !matches!(arrival.input.body, InputBody::Summary { .. }))
        .filter(|arrival| goes_inline(draft, arrival.input))
        .map(|arrival| arrival.input.accepted_at)
        .chain(late_timers.iter().filter_map(|row| row.due_at))
        .min();
    let open = match turn::waiting(draft, urgent, oldest_held) {
        Waiting::Nothing => false,
        Waiting::Over => {
            turn::detach_open(draft);
            false
        }
        Waiting::Until(due) => {
            if let Some(due) = due {
                draft.wake_at(due);
            }
            true
        }
    };
    if !open {
        if urgent {
            approvals::overtaken_late(draft);
        }
        late_timers.iter().for_each(|row| late_timer(draft, row));
    }
    for (index, arrival) in arrivals.iter().enumerate() {
        inject(draft, arrival.input, open);
        if let InputBody::Outcome { call, .. } | InputBody::Undelivered { call, .. } = &arrival.input.body {
            unpark(draft, call, &arrivals[..index], open);
        }
    }
}

/// A late result has confirmed, or refused, what the events before it were waiting for.
fn unpark(draft: &mut Draft, call: &CallId, earlier: &[Arrival<'_>], open: bool) {
    for arrival in earlier {
        let of_call = matches!(&arrival.input.body, InputBody::Event { call: c, .. } if c == call);
        if !of_call || draft.consumed.contains(&arrival.input.seq) {
            continue;
        }
        if draft.subscription(call).is_some() {
            inject(draft, arrival.input, open);
        } else if !is_parked(draft, call) {
            draft.dead_letter(arrival.input, "the call made no subscription");
        }
    }
}

/// Whether events that name a call wait for its result.
fn is_parked(draft: &Draft, call: &CallId) -> bool {
    draft.call(call).is_some_and(|row| match row.state {
        CallState::Pending => row.outcome.is_none(),
        CallState::Detached | CallState::PresumedLost => true,
        _ => false,
    })
}

/// Whether an input ends up in this thread's own history (an event may get a thread of its own instead).
fn goes_inline(draft: &Draft, input: &Input) -> bool {
    match &input.body {
        InputBody::Event { call, associative, .. } => {
            draft.subscription(call).is_some() && (*associative || too_deep(draft))
        }
        _ => true,
    }
}

fn too_deep(draft: &Draft) -> bool {
    draft.snapshot.thread.ancestors.len() >= draft.rules().depth
}

fn inject(draft: &mut Draft, input: &Input, open: bool) {
    let inline = goes_inline(draft, input);
    if inline && open {
        return; // It stays in the inbox until the calls end or its wait is over.
    }
    match &input.body {
        InputBody::Message { content } => {
            draft.show(Surface::Message { text: text_of(content) });
            draft
                .entries
                .push(Entry::User(UserEntry { author: UserAuthor::Person, content: content.clone() }));
            draft.model_owed = true;
            draft.retry_at = None;
            draft.consume(input);
        }
        InputBody::FromParent { text } => {
            draft.reported = false;
            draft.entries.push(Entry::User(UserEntry {
                author: UserAuthor::Parent,
                content: vec![ContentPart::text(format!("Message from your parent thread: {text}"))],
            }));
            draft.model_owed = true;
            draft.consume(input);
        }
        InputBody::Report {
            child,
            original_tool_name,
            original_tool_call_id,
            original_args,
            text,
            state,
        } => {
            draft.show(Surface::Report { child: child.clone(), text: text.clone() });
            let outcome = Outcome::text(format!("Report of thread {child} ({state}): {text}"));
            draft.add_event(original_tool_name, original_tool_call_id, original_args.clone(), &outcome);
            draft.consume(input);
        }
        InputBody::Outcome { call, outcome } => {
            late(draft, input, call, CallState::Done, outcome.clone());
        }
        InputBody::Undelivered { call, may_have_arrived, reason } => {
            let (state, outcome) = undelivered(*may_have_arrived, reason);
            late(draft, input, call, state, outcome);
        }
        InputBody::Event { call, text, is_final, .. } => event(draft, input, call, text, *is_final, inline),
        InputBody::Approval { call, .. } => {
            approvals::declined_late(draft, call);
            draft.consume(input);
        }
        InputBody::Summary { .. } => compact::store(draft, input),
        InputBody::Stop
        | InputBody::Close
        | InputBody::UseModel { .. }
        | InputBody::Refresh
        | InputBody::ClockSetBack { .. }
        | InputBody::Compact
        | InputBody::NotCompacted { .. }
        | InputBody::Resend { .. } => {}
    }
}

/// What came of a call that we stopped waiting for: shown once, as an event (P10). Our own word that a call is
/// lost gives way to an outcome, whichever of the two came first.
fn late(draft: &mut Draft, input: &Input, call: &CallId, state: CallState, outcome: Outcome) {
    late_outcome(draft, call, state, outcome);
    draft.consume(input);
}

pub(crate) fn late_outcome(draft: &mut Draft, call: &CallId, state: CallState, outcome: Outcome) {
    let Some(row) = draft.call(call).cloned() else { return };
    let is_new = match row.state {
        CallState::Detached | CallState::AwaitingApproval => true,
        CallState::PresumedLost => state == CallState::Done,
        _ => false,
    };
    if is_new {
        let outcome = confirm_subscription(draft, call, outcome);
        draft.show_result(call, &row.name, &outcome, true);
        draft.add_event(&row.name, call, row.arguments, &outcome);
        draft.finish_call(call, state, outcome);
    }
}

fn event(draft: &mut Draft, input: &Input, call: &CallId, text: &str, is_final: bool, inline: bool) {
    let Some(subscription) = draft.subscription(call).cloned() else { return };
    if subscription.state == SubscriptionState::Cancelled {
        draft.dead_letter(input, "the subscription was cancelled");
        return;
    }
    let mut handled_by = None;
    if inline {
        let outcome = Outcome::text(text);
        draft.add_event(&subscription.name, call, subscription.arguments.clone(), &outcome);
    } else if let Some(shared) = builtin::threads::share_event(draft, &subscription, text) {
        handled_by = Some(shared);
    } else if draft.snapshot.open_threads >= draft.rules().open_threads {
        // It stays in the inbox until a thread closes.
        draft.waits_for_room = Some(draft.rules().open_threads);
        return;
    } else {
        handled_by = Some(builtin::threads::open_for_event(draft, input, &subscription, text));
    }
    draft.show(Surface::Event {
        call: call.clone(),
        name: subscription.name,
        text: text.to_owned(),
        handled_by,
    });
    if is_final && let Some(row) = draft.change_subscription(call) {
        row.state = SubscriptionState::Ended;
    }
    draft.consume(input);
}

/// Timers that still run wake the thread. One that is due already is held back by an open turn, which has
/// a due time of its own.
pub(crate) fn wake_for_timers(draft: &mut Draft) {
    let now = draft.now();
    let rows = draft.snapshot.calls.iter().filter(|row| is_ticking(row));
    let next: Option<Millis> = rows.filter_map(|row| row.due_at).filter(|at| *at > now).min();
    if let Some(next) = next {
        draft.wake_at(next);
    }
}
