//! What the inputs mean for the thread, before the model is asked.
//!
//! In this order: due timers and controls; outcomes of calls; everything else by arrival. So a message
//! never detaches a call whose outcome is already there, and two runs order alike.

use super::Draft;
use crate::{
    CallRoute, CallState, Entry, Input, InputBody, Millis, Outcome, SubscriptionRow, SubscriptionState,
    Surface, UserAuthor, UserEntry, builtin,
    history::text_of,
    machine::turn::{self, Waiting},
};
use rap_types::{CallId, ContentPart};

/// Something that goes into the history of this thread, but only where no call stands open.
struct Arrival<'a> {
    input: &'a Input,
    urgent: bool,
}

pub(crate) fn prepare(draft: &mut Draft) {
    let inputs = std::mem::take(&mut draft.snapshot.inputs);
    controls(draft, &inputs);
    if !draft.close {
        fire_timers(draft);
        outcomes(draft, &inputs);
        let paused = draft.is_paused();
        let arrivals = arrivals(draft, &inputs, paused);
        if !paused || arrivals.iter().any(|arrival| arrival.urgent) {
            settle_and_inject(draft, &inputs, arrivals);
        }
    }
    draft.snapshot.inputs = inputs;
}

/// Stop and close. A message that is newer than the stop lifts it again.
fn controls(draft: &mut Draft, inputs: &[Input]) {
    let mut stopped_at = None;
    for input in inputs {
        match &input.body {
            InputBody::Stop => {
                draft.consume(input);
                stopped_at = Some(input.seq);
            }
            InputBody::Close => {
                draft.consume(input);
                draft.close = true;
                draft.model_owed = false;
                draft.show(Surface::Closed);
                return;
            }
            _ => {}
        }
    }
    if stopped_at.is_some() {
        stop(draft);
    }
    let lifted = |input: &Input| {
        matches!(input.body, InputBody::Message { .. }) && stopped_at.is_none_or(|stop| input.seq > stop)
    };
    if (draft.pause || draft.snapshot.thread.paused) && inputs.iter().any(lifted) {
        draft.pause = false;
        draft.resume = true;
    }
}

/// Cancels the thread's open calls and pauses it with all below it.
fn stop(draft: &mut Draft) {
    draft.pause = true;
    let open: Vec<_> = draft.snapshot.calls.iter().filter(|row| row.state.is_open()).cloned().collect();
    for row in open {
        let outcome = Outcome::error("cancelled; it may already have taken effect");
        draft.finish_call(&row.id, CallState::Cancelled, outcome.clone());
        draft.cancel_at_servers(&row);
        draft.show_result(&row.id, &row.name, &outcome, false);
    }
    turn::write_results(draft);
    draft.show(Surface::Paused);
}

/// Timers whose time has come answer their calls.
fn fire_timers(draft: &mut Draft) {
    let now = draft.now();
    let due: Vec<_> = draft
        .snapshot
        .calls
        .iter()
        .filter(|row| row.route == CallRoute::Timer && row.state.is_open() && row.outcome.is_none())
        .filter(|row| row.due_at.is_some_and(|at| at <= now))
        .cloned()
        .collect();
    for row in due {
        let outcome = builtin::sleep::ended(&row);
        draft.show_result(&row.id, &row.name, &outcome, row.state == CallState::Detached);
        if row.state == CallState::Detached {
            draft.finish_call(&row.id, CallState::Done, outcome.clone());
            inject_late_timer(draft, &row.id, &row.name, row.arguments.clone(), &outcome);
        } else if let Some(row) = draft.change_call(&row.id) {
            row.outcome = Some(outcome);
        }
    }
}

/// A detached timer's end is an event of its own; it never detaches another call, so if the newest turn
/// stands open it becomes visible with that turn's results.
fn inject_late_timer(
    draft: &mut Draft,
    call: &CallId,
    name: &str,
    arguments: serde_json::Value,
    outcome: &Outcome,
) {
    if draft.open_turn().is_some() {
        turn::detach_open(draft);
    }
    draft.add_event(name, call, arguments, outcome);
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
                draft.show_result(call, &row.name, outcome, false);
                confirm_subscription(draft, call, outcome);
                if let Some(row) = draft.change_call(call) {
                    row.outcome = Some(outcome.clone());
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

fn undelivered(may_have_arrived: bool, reason: &str) -> (CallState, Outcome) {
    if may_have_arrived {
        let text = format!("{reason}; the request may have arrived: if an outcome comes, you will see it");
        (CallState::PresumedLost, Outcome::error(text))
    } else {
        (CallState::Refused, Outcome::error(reason))
    }
}

/// `subscription: true` creates the subscription, whichever way the outcome is shown (SUB-02).
fn confirm_subscription(draft: &mut Draft, call: &CallId, outcome: &Outcome) {
    if !outcome.subscription || draft.subscription(call).is_some() {
        return;
    }
    let Some(row) = draft.call(call).cloned() else { return };
    let active = draft.snapshot.subscriptions.iter().filter(|s| s.state == SubscriptionState::Active).count();
    if active >= draft.rules().subscriptions {
        let text =
            format!("the thread has {active} subscriptions, which is the limit: {} was cancelled", row.name);
        draft.show(Surface::Error { text });
        draft.cancel_at_servers(&row);
        return;
    }
    draft.add_subscription(SubscriptionRow {
        call: call.clone(),
        thread: row.thread,
        name: row.name,
        arguments: row.arguments,
        state: SubscriptionState::Active,
        created_at: draft.now(),
    });
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
            InputBody::Event { call, .. } => {
                let parked = draft.call(call).is_some_and(|row| {
                    matches!(row.state, CallState::Pending | CallState::Detached | CallState::PresumedLost)
                });
                match draft.subscription(call).map(|row| row.state) {
                    Some(SubscriptionState::Active) => arrivals.push(Arrival { input, urgent: false }),
                    Some(SubscriptionState::Ended) => draft.dead_letter(input, "the subscription has ended"),
                    Some(SubscriptionState::Cancelled) => {
                        draft.dead_letter(input, "the subscription was cancelled");
                    }
                    None if parked => arrivals.push(Arrival { input, urgent: false }),
                    None => draft.dead_letter(input, "the call made no subscription"),
                }
            }
            InputBody::Report { .. } | InputBody::FromParent { .. } => {
                arrivals.push(Arrival { input, urgent: false });
            }
            InputBody::Stop | InputBody::Close => {}
        }
    }
    arrivals
}

/// Closes the newest turn if its time has come, then lets in what has arrived.
fn settle_and_inject(draft: &mut Draft, inputs: &[Input], arrivals: Vec<Arrival<'_>>) {
    let urgent = arrivals.iter().any(|arrival| arrival.urgent);
    let oldest_held = arrivals
        .iter()
        .filter(|arrival| goes_inline(draft, arrival.input))
        .map(|arrival| arrival.input.accepted_at)
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
    for arrival in arrivals {
        inject(draft, arrival.input, open);
    }
    let _ = inputs;
    wake_for_timers(draft);
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
            draft.consume(input);
        }
        InputBody::FromParent { text } => {
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
            if draft.call(call).is_some_and(|row| row.state == CallState::PresumedLost) {
                draft.consume(input);
                return;
            }
            let (state, outcome) = undelivered(*may_have_arrived, reason);
            late(draft, input, call, state, outcome);
        }
        InputBody::Event { call, text, is_final, .. } => event(draft, input, call, text, *is_final, inline),
        InputBody::Stop | InputBody::Close => {}
    }
}

/// The outcome of a call that we stopped waiting for: shown once, as an event (P10).
fn late(draft: &mut Draft, input: &Input, call: &CallId, state: CallState, outcome: Outcome) {
    let Some(row) = draft.call(call).cloned() else { return };
    confirm_subscription(draft, call, &outcome);
    draft.show_result(call, &row.name, &outcome, true);
    draft.add_event(&row.name, call, row.arguments, &outcome);
    draft.finish_call(call, state, outcome);
    draft.consume(input);
}

fn event(draft: &mut Draft, input: &Input, call: &CallId, text: &str, is_final: bool, inline: bool) {
    let Some(subscription) = draft.subscription(call).cloned() else { return };
    if subscription.state != SubscriptionState::Active {
        draft.dead_letter(input, "the subscription has ended");
        return;
    }
    if !inline && draft.snapshot.open_threads >= draft.rules().open_threads {
        // It stays due until a thread closes.
        let later = draft.now() + draft.rules().hold_ms;
        draft.wake_at(later);
        return;
    }
    let mut handled_by = None;
    if inline {
        let outcome = Outcome::text(text);
        draft.add_event(&subscription.name, call, subscription.arguments.clone(), &outcome);
    } else {
        handled_by = Some(builtin::threads::open_for_event(draft, input, &subscription, text));
    }
    draft.show(Surface::Event {
        call: call.clone(),
        name: subscription.name,
        text: text.to_owned(),
        handled_by,
    });
    if is_final {
        if let Some(row) = draft.change_subscription(call) {
            row.state = SubscriptionState::Ended;
        }
    }
    draft.consume(input);
}

/// Timers that still run wake the thread.
pub(crate) fn wake_for_timers(draft: &mut Draft) {
    let next: Option<Millis> = draft
        .snapshot
        .calls
        .iter()
        .filter(|row| row.route == CallRoute::Timer && row.state.is_open() && row.outcome.is_none())
        .filter_map(|row| row.due_at)
        .min();
    if let Some(next) = next {
        draft.wake_at(next);
    }
}
