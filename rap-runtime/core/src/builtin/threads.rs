//! The tools that make, tell and end threads, and the threads that events get.

use super::string;
use crate::{
    CallState, ChildKind, Compaction, Entry, EventEntry, Input, InputBody, InputId, NewInput, NewThread,
    ResultEntry, Segment, SubscriptionRow, SubscriptionState, Surface, SurfaceEvent, ThreadKind, ThreadRow,
    TurnCall, TurnEntry, derive_call_id, derive_thread_id,
    machine::{Draft, rest},
};
use rap_types::{CallId, ContentPart, ThreadId};
use serde_json::{Map, Value};

/// `spawn_thread(instructions, child_of)`.
pub(crate) fn spawn(
    draft: &mut Draft,
    turn: u64,
    call: &TurnCall,
    arguments: &Map<String, Value>,
) -> Result<String, String> {
    let instructions = string(arguments, "instructions")?;
    let stack = draft.stack();
    let own: Vec<&str> = stack.iter().map(ThreadId::as_str).collect();
    let named: Option<Vec<&str>> = arguments
        .get("child_of")
        .and_then(Value::as_array)
        .map(|ids| ids.iter().filter_map(Value::as_str).collect());
    if named.as_deref() != Some(&own) {
        return Err(format!("`child_of` must be your own stack of thread ids: {}", stack_text(&stack)));
    }
    let limits = draft.rules();
    if draft.snapshot.thread.ancestors.len() >= limits.depth {
        return Err(format!("threads may nest {} deep, and this one is that deep already", limits.depth));
    }
    if draft.snapshot.open_threads >= limits.open_threads {
        return Err(format!(
            "the session has {} open threads, which is the limit; close one first",
            limits.open_threads
        ));
    }
    let id = derive_thread_id(draft.thread(), call.id.as_str());
    let mut child_stack = stack.clone();
    child_stack.push(id.clone());
    let told = format!(
        "You are a child thread. Your thread id is {id}; your stack is {}. Your instructions: {instructions}\n\
         Work on nothing else. Report with report_to_parent, and close yourself with close_thread when you are done.",
        stack_text(&child_stack)
    );
    let entries = vec![
        Entry::Turn(TurnEntry {
            text: String::new(),
            reasoning: Vec::new(),
            calls: vec![call.clone()],
            order: Vec::new(),
            interrupted: false,
            model: String::new(),
        }),
        Entry::Results {
            results: vec![ResultEntry {
                call: call.id.clone(),
                content: vec![ContentPart::text(told)],
                is_error: false,
                placeholder: false,
            }],
        },
    ];
    let kind = ThreadKind::Spawned { call: call.id.clone(), arguments: call.arguments.clone() };
    open(draft, id.clone(), kind, turn, entries, "spawn", ChildKind::Spawned);
    Ok(format!("Started thread {id}. Its reports come to you as events."))
}

/// Opens a thread for one event of a subscription (SUB-05) and says which.
pub(crate) fn open_for_event(
    draft: &mut Draft,
    input: &Input,
    subscription: &SubscriptionRow,
    text: &str,
) -> ThreadId {
    let id = derive_thread_id(draft.thread(), input.id.as_str());
    let mut stack = draft.stack();
    stack.push(id.clone());
    let entries = vec![event_entry(draft, &id, 0, subscription, text), made_for_events(&id, &stack, 1)];
    let kind = ThreadKind::Event {
        call: subscription.call.clone(),
        name: subscription.name.clone(),
        arguments: subscription.arguments.clone(),
    };
    let upto = draft.safe_point();
    open(draft, id.clone(), kind, upto, entries, "event", ChildKind::Event);
    id
}

/// Adds an event to the thread that this slice opened for an earlier event of its subscription, and says which: of
/// what had to wait for room, all events of a subscription share one thread. None if there is no such thread.
pub(crate) fn share_event(draft: &mut Draft, subscription: &SubscriptionRow, text: &str) -> Option<ThreadId> {
    draft.snapshot.thread.waits_for_room?;
    let made_for = |new: &NewThread| matches!(&new.row.kind, ThreadKind::Event { call, .. } if *call == subscription.call);
    let place = draft.threads.iter().position(made_for)?;
    let (id, events) = (draft.threads[place].row.id.clone(), draft.threads[place].entries.len() - 1);
    let mut stack = draft.stack();
    stack.push(id.clone());
    let event = event_entry(draft, &id, events as u64, subscription, text);
    let shared = &mut draft.threads[place];
    shared.entries.truncate(events);
    shared.entries.push(event);
    shared.entries.push(made_for_events(&id, &stack, events + 1));
    shared.row.next_entry = shared.entries.len() as u64;
    Some(id)
}

fn event_entry(
    draft: &Draft,
    thread: &ThreadId,
    number: u64,
    subscription: &SubscriptionRow,
    text: &str,
) -> Entry {
    Entry::Event(EventEntry {
        id: derive_call_id(thread, number, 0),
        original_tool_name: subscription.name.clone(),
        original_tool_call_id: subscription.call.clone(),
        original_args: subscription.arguments.clone(),
        content: draft.for_model(&[ContentPart::text(text)]),
        is_error: false,
    })
}

/// What an event's thread is told of itself.
fn made_for_events(id: &ThreadId, stack: &[ThreadId], events: usize) -> Entry {
    let (these, them) = match events {
        1 => ("this one event".to_owned(), "the event"),
        n => (format!("these last {n} events"), "them all"),
    };
    Entry::from_runtime(format!(
        "You are thread {id} (stack: {}), made for {these}. Do not continue the work above: your parent \
         does. Handle {them}, then close yourself with close_thread, and report only if your parent needs to \
         know.",
        stack_text(stack)
    ))
}

fn open(
    draft: &mut Draft,
    id: ThreadId,
    kind: ThreadKind,
    upto: u64,
    entries: Vec<Entry>,
    reason: &str,
    child: ChildKind,
) {
    let parent = &draft.snapshot.thread;
    let mut chain = parent.chain.clone();
    chain.push(Segment { thread: parent.id.clone(), upto });
    let opened = Surface::Opened { parent: Some(parent.id.clone()), reason: reason.to_owned() };
    let row = ThreadRow {
        id: id.clone(),
        session: parent.session.clone(),
        ancestors: draft.stack(),
        chain,
        kind,
        version: 0,
        next_entry: entries.len() as u64,
        paused: false,
        closed: false,
        model_owed: true,
        turn_at: None,
        reported: false,
        retry_at: None,
        compaction: Compaction::Idle,
        waits_for_room: None,
        model: draft.model.clone(),
        last_record: String::new(),
    };
    let surface = vec![SurfaceEvent { thread: id, what: opened }];
    draft.add_thread(NewThread { row, entries, surface }, child);
}

fn stack_text(stack: &[ThreadId]) -> String {
    let ids: Vec<String> = stack.iter().map(|id| format!("{:?}", id.as_str())).collect();
    format!("[{}]", ids.join(", "))
}

/// `report_to_parent(report)`.
pub(crate) fn report_to_parent(
    draft: &mut Draft,
    call: &TurnCall,
    arguments: &Map<String, Value>,
) -> Result<String, String> {
    let report = string(arguments, "report")?.to_owned();
    if draft.snapshot.parent().is_none() {
        return Err("this is a root thread: it has no parent; write to the user instead".to_owned());
    }
    rest::report(draft, "reported", report, call.id.as_str());
    Ok("Reported.".to_owned())
}

/// `close_thread(thread_id, report_to_parent?)`: takes effect last in its turn.
pub(crate) fn close_thread(
    draft: &mut Draft,
    call: &TurnCall,
    arguments: &Map<String, Value>,
    alone: bool,
) -> Result<String, String> {
    let id = string(arguments, "thread_id")?;
    if id != draft.thread().as_str() {
        return Err(format!("you can close only your own thread, {}", draft.thread()));
    }
    if !alone {
        return Err("close alone: this turn makes calls whose outcomes would be lost".to_owned());
    }
    let report = match arguments.get("report_to_parent") {
        None | Some(Value::Null) => None,
        Some(_) => Some(string(arguments, "report_to_parent")?.to_owned()),
    };
    if let Some(report) = report {
        rest::report(draft, "closed", report, call.id.as_str());
    }
    draft.close = true;
    Ok("Closed.".to_owned())
}

/// `send_message_to_child(thread_id, message)`.
pub(crate) fn send_message_to_child(
    draft: &mut Draft,
    call: &TurnCall,
    arguments: &Map<String, Value>,
) -> Result<String, String> {
    let id = string(arguments, "thread_id")?;
    let text = string(arguments, "message")?.to_owned();
    let child = draft.snapshot.children.iter().find(|child| child.id.as_str() == id);
    let child = child.ok_or_else(|| format!("{id:?} is no child of yours"))?;
    if !child.open {
        return Err(format!("the child {id} is closed; it takes no messages"));
    }
    let thread = child.id.clone();
    draft.inputs.push(NewInput {
        thread,
        id: InputId::between_threads(call.id.as_str()),
        source: format!("thread {}", draft.thread()),
        body: InputBody::FromParent { text },
        traceparent: None,
    });
    Ok("Sent.".to_owned())
}

/// `cancel_subscription(tool_call_id)`: a subscription or an unanswered call of this thread (SUB-09).
pub(crate) fn cancel_subscription(
    draft: &mut Draft,
    arguments: &Map<String, Value>,
) -> Result<String, String> {
    let id = string(arguments, "tool_call_id")?;
    let call = CallId::new(id).map_err(|e| format!("`tool_call_id`: {e}"))?;
    if draft.subscription(&call).is_some_and(|row| row.state == SubscriptionState::Active) {
        if let Some(row) = draft.change_subscription(&call) {
            row.state = SubscriptionState::Cancelled;
        }
        draft.cancel.push(call);
        return Ok("The subscription is cancelled.".to_owned());
    }
    let row =
        draft.call(&call).filter(|row| row.state.is_open() || row.state == CallState::PresumedLost).cloned();
    let Some(row) = row else {
        return Err(format!("{id:?} is neither a subscription nor a call without a result of this thread"));
    };
    draft.cancel_at_servers(&row);
    if let Some(row) = draft.change_call(&call) {
        row.state = CallState::Cancelled;
    }
    Ok(match row.state {
        CallState::AwaitingApproval => "The call is cancelled; it was never sent.".to_owned(),
        _ => "The call is cancelled; it may already have taken effect.".to_owned(),
    })
}
