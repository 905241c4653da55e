//! What a turn's calls mean: answered at once, refused, or sent to a server.

use super::{Draft, kit, prepare, rest, turn};
use crate::{
    CallRoute, CallRow, CallState, DeliveryKind, DestructivePolicy, Entry, InstantCall, ModelCall, ModelTurn,
    NewDelivery, OfferedTool, Outcome, OwnTool, Surface, Toolbox, TurnCall, TurnEntry, builtin,
    derive_call_id, own::embedded_url,
};
use rap_types::{CallId, RECEIVE_EVENT};
use serde_json::{Map, Value, json};

/// What becomes of one call.
pub(crate) enum Resolution {
    /// It is answered in the decision itself.
    Instant(Outcome),
    /// It never runs.
    Refused(Outcome),
    /// A due time will answer it.
    Timer(crate::Millis),
    /// A server will answer it.
    Send(NewDelivery, bool),
    /// A person must allow it first.
    Ask(bool),
}

/// Takes a turn into the history and its calls into their lives.
pub(crate) fn resolve(draft: &mut Draft, turn: ModelTurn) {
    let number = draft.next_number();
    let calls: Vec<TurnCall> = turn
        .calls
        .into_iter()
        .enumerate()
        .map(|(index, ModelCall { name, arguments, provider_id })| TurnCall {
            id: derive_call_id(draft.thread(), number, index),
            name,
            arguments,
            provider_id,
        })
        .collect();
    show_turn(draft, &turn.text, &turn.reasoning, &calls);
    draft.show(Surface::Usage(turn.usage));
    draft.entries.push(Entry::Turn(TurnEntry {
        text: turn.text,
        reasoning: turn.reasoning,
        calls: calls.clone(),
        order: turn.order,
        interrupted: false,
        model: turn.model,
    }));
    if calls.is_empty() {
        prepare::wake_for_timers(draft);
        rest::rest(draft, "idle");
        return;
    }

    let alone = !calls.iter().any(|call| leaves_the_house(draft, call));
    for (index, call) in calls.iter().enumerate() {
        let resolution = if index >= draft.rules().calls_per_turn {
            let limit = draft.rules().calls_per_turn;
            Resolution::Refused(Outcome::error(format!(
                "a turn may make {limit} calls; make this one in the next"
            )))
        } else {
            one(draft, number, call, alone)
        };
        enter(draft, number, index, call, resolution);
    }
    draft.turn_at = Some(draft.now());

    // `close_thread` takes effect last.
    if draft.close {
        turn::write_results(draft);
        draft.model_owed = false;
        return;
    }
    let rests = calls.iter().any(|call| builtin::rests(&call.name));
    match turn::waiting(draft, false, None) {
        turn::Waiting::Nothing if rests => {
            rest::rest(draft, "idle");
        }
        turn::Waiting::Nothing | turn::Waiting::Over => {
            // The next slice completes, or goes on without what runs long.
            let now = draft.now();
            draft.wake_at(now);
        }
        turn::Waiting::Until(due) => {
            if let Some(due) = due {
                draft.wake_at(due);
            }
            let open = draft.open_calls();
            draft.show(Surface::Waiting { open });
        }
    }
    prepare::wake_for_timers(draft);
}

fn show_turn(draft: &mut Draft, text: &str, reasoning: &[crate::ReasoningBlock], calls: &[TurnCall]) {
    for block in reasoning.iter().filter(|block| !block.text.is_empty()) {
        draft.show(Surface::Reasoning { text: block.text.clone() });
    }
    if !text.is_empty() {
        draft.show(Surface::Text { text: text.to_owned(), interrupted: false });
    }
    for call in calls {
        let (call, name, arguments) = (call.id.clone(), call.name.clone(), call.arguments.clone());
        draft.show(Surface::Call { call, name, arguments });
    }
}

/// Whether a call would leave something open behind a closed thread.
fn leaves_the_house(draft: &Draft, call: &TurnCall) -> bool {
    let toolbox = &draft.snapshot.session.toolbox;
    let own = toolbox.own_tool(&call.name).is_some_and(|tool| !tool.instant);
    own || toolbox.tool(&call.name).is_some() || builtin::is_timed(&call.name)
}

/// Resolves one call.
fn one(draft: &mut Draft, turn: u64, call: &TurnCall, alone: bool) -> Resolution {
    if call.name == RECEIVE_EVENT {
        // SUB-04.
        let text = format!("{RECEIVE_EVENT} is how events are shown to you; it cannot be called");
        return Resolution::Refused(Outcome::error(text));
    }
    let Value::Object(arguments) = &call.arguments else {
        let text = format!("the arguments of {} are not a JSON object; call it again with one", call.name);
        return Resolution::Refused(Outcome::error(text));
    };
    if builtin::is_on(&call.name, &draft.snapshot.session.toolbox.without) {
        return builtin::run(draft, turn, call, arguments, alone);
    }
    let session = draft.snapshot.session.clone();
    match called(&session.toolbox, &call.name) {
        Some(called) => invoke(draft, call, arguments, called),
        None => Resolution::Refused(unknown_tool(draft, &call.name)),
    }
}

/// A tool that is none of the built-in ones.
#[derive(Clone, Copy)]
enum Called<'a> {
    Own(&'a OwnTool),
    Server(&'a OfferedTool),
}

fn called<'a>(toolbox: &'a Toolbox, name: &str) -> Option<Called<'a>> {
    toolbox.own_tool(name).map(Called::Own).or_else(|| toolbox.tool(name).map(Called::Server))
}

impl Called<'_> {
    /// A pure function needs nobody's word.
    fn may_ask(self) -> bool {
        !matches!(self, Self::Own(tool) if tool.instant)
    }

    fn is_destructive(self) -> bool {
        match self {
            Self::Own(tool) => tool.destructive,
            Self::Server(tool) => tool.destructive,
        }
    }

    fn is_long_running(self) -> bool {
        match self {
            Self::Own(tool) => tool.long_running,
            Self::Server(tool) => tool.long_running,
        }
    }
}

fn unknown_tool(draft: &Draft, name: &str) -> Outcome {
    // INV-01.
    let names: Vec<String> =
        draft.snapshot.session.toolbox.for_model().into_iter().map(|tool| tool.name).collect();
    Outcome::error(format!("there is no tool {name:?}; there are: {}", names.join(", ")))
}

/// A call of a server's tool, or of the program's own: checked (INV-02), allowed (CON-02), then sent, or answered.
fn invoke(
    draft: &mut Draft,
    call: &TurnCall,
    arguments: &Map<String, Value>,
    tool: Called<'_>,
) -> Resolution {
    if let Some(faults) = argument_faults(draft, &call.name, tool, arguments) {
        return Resolution::Refused(Outcome::error(faults));
    }
    let asks = tool.may_ask() && (tool.is_destructive() || draft.rules().ask_for.contains(&call.name));
    if asks && draft.rules().destructive == DestructivePolicy::Ask {
        return Resolution::Ask(tool.is_long_running());
    }
    if asks && draft.rules().destructive == DestructivePolicy::Deny {
        let text = format!(
            "declined: {} may destroy something, and nobody here may allow that; tell the user, who can allow destructive tools",
            call.name
        );
        return Resolution::Refused(Outcome::error(text));
    }
    run(draft, &call.id, arguments, tool)
}

/// A call that may run: answered at once, or its request.
fn run(draft: &mut Draft, call: &CallId, arguments: &Map<String, Value>, tool: Called<'_>) -> Resolution {
    if let Called::Own(tool) = tool
        && tool.instant
    {
        let thread = draft.thread().clone();
        let asked = InstantCall { tool: &tool.name, arguments, call, thread: &thread, now: draft.now() };
        let mut outcome = draft.instant_tools.answer(&asked);
        outcome.subscription = false; // Nobody would send its events.
        draft.instants.push(outcome.clone());
        return Resolution::Instant(outcome);
    }
    let session = &draft.snapshot.session;
    let (operation, url) = match tool {
        Called::Own(tool) => (json!(tool.name), embedded_url()),
        Called::Server(tool) => match session.toolbox.servers.get(tool.server) {
            Some(server) => (json!(tool.operation), server.endpoint.clone()),
            None => {
                return Resolution::Refused(Outcome::error(format!(
                    "the server of {} is not there",
                    tool.name
                )));
            }
        },
    };
    let mut body = json!({
        "operation": operation,
        "arguments": arguments,
        "id": call,
        "group_id": draft.thread(),
    });
    if !draft.snapshot.thread.ancestors.is_empty() {
        body["thread_ancestors"] = json!(draft.snapshot.thread.ancestors); // INV-04
    }
    if let Some(user) = &session.user {
        body["user_id"] = json!(user);
    }
    let delivery = NewDelivery {
        kind: DeliveryKind::Invocation,
        thread: draft.thread().clone(),
        call: Some(call.clone()),
        url,
        body,
        traceparent: Some(draft.traceparent()),
    };
    Resolution::Send(delivery, tool.is_long_running())
}

fn argument_faults(
    draft: &Draft,
    name: &str,
    tool: Called<'_>,
    arguments: &Map<String, Value>,
) -> Option<String> {
    let session = &draft.snapshot.session;
    let toolbox = &session.toolbox;
    let (n, schema) = match tool {
        Called::Own(tool) => (toolbox.own.iter().position(|other| other.name == name), &tool.input_schema),
        Called::Server(tool) => {
            let n = toolbox.tools.iter().position(|other| other.name == name);
            (n.map(|n| toolbox.own.len() + n), &tool.input_schema)
        }
    };
    let schema = match kit::of(session).schema(n.unwrap_or(usize::MAX), schema) {
        Ok(schema) => schema,
        Err(fault) => return Some(format!("the schema of {name} cannot be used: {fault}")),
    };
    let faults = schema.check_arguments(arguments).err()?;
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Some(format!("the arguments of {name} do not fit its schema:\n{}", lines.join("\n")))
}

/// Sends a call that a person has allowed. What stands against it now that did not when it was made: an error.
pub(crate) fn allowed(draft: &mut Draft, row: &CallRow) -> Result<(), Outcome> {
    let session = draft.snapshot.session.clone();
    let (Some(tool), Value::Object(arguments)) = (called(&session.toolbox, &row.name), &row.arguments) else {
        return Err(unknown_tool(draft, &row.name));
    };
    match run(draft, &row.id, arguments, tool) {
        Resolution::Send(delivery, _) => {
            draft.outbox.push(delivery);
            Ok(())
        }
        Resolution::Refused(outcome) => Err(outcome),
        _ => Err(Outcome::error("bug: a call that was allowed came out otherwise")),
    }
}

/// Makes the call's row and whatever goes with it.
fn enter(draft: &mut Draft, turn: u64, index: usize, call: &TurnCall, resolution: Resolution) {
    let mut row = CallRow {
        id: call.id.clone(),
        thread: draft.thread().clone(),
        turn,
        index,
        name: call.name.clone(),
        arguments: call.arguments.clone(),
        route: CallRoute::Instant,
        state: CallState::Done,
        long_running: false,
        created_at: draft.now(),
        due_at: None,
        outcome: None,
    };
    match resolution {
        Resolution::Instant(outcome) => row.outcome = Some(outcome),
        Resolution::Refused(outcome) => {
            row.state = CallState::Refused;
            row.outcome = Some(outcome);
        }
        Resolution::Timer(due) => {
            row.route = CallRoute::Timer;
            row.state = CallState::Pending;
            row.due_at = Some(due);
        }
        Resolution::Send(delivery, long_running) => {
            row.route = if delivery.is_embedded() { CallRoute::Embedded } else { CallRoute::Rap };
            row.state = CallState::Pending;
            row.long_running = long_running;
            draft.outbox.push(delivery);
        }
        Resolution::Ask(long_running) => {
            let own = draft.snapshot.session.toolbox.own_tool(&row.name).is_some();
            row.route = if own { CallRoute::Embedded } else { CallRoute::Rap };
            row.state = CallState::AwaitingApproval;
            row.long_running = long_running;
            let (call, name, arguments) = (row.id.clone(), row.name.clone(), row.arguments.clone());
            draft.show(Surface::Approval { call, name, arguments });
        }
    }
    if let Some(outcome) = row.outcome.clone() {
        draft.show_result(&row.id, &row.name, &outcome, false);
    }
    draft.add_call(row);
}
