//! What happens when a thread has nothing more to do: its parent may have to know, an event's thread ends.

use super::Draft;
use crate::{Entry, InputBody, InputId, NewInput, Surface, ThreadKind, builtin};
use rap_types::CallId;
use serde_json::Value;

/// The thread waits or rests, with a state for its parent: `idle` or `failed`.
pub(crate) fn rest(draft: &mut Draft, state: &str) {
    draft.model_owed = false;
    let open = draft.open_calls();
    if open > 0 && state == "idle" {
        draft.show(Surface::Waiting { open });
        return;
    }
    match draft.snapshot.thread.kind.clone() {
        ThreadKind::Root => draft.show(Surface::Resting),
        ThreadKind::Spawned { .. } => {
            // Once for what it was asked to do: a report of its progress is not its end, and its parent's next message asks
            // for more.
            if !draft.reported || state == "failed" {
                let text = last_words(draft);
                report(draft, state, text, "rest");
                draft.reported = true;
            }
            draft.show(Surface::Resting);
        }
        ThreadKind::Event { .. } => {
            if state == "failed" {
                let text = last_words(draft);
                report(draft, state, text, "rest");
            }
            draft.close = true;
        }
    }
}

/// Sends a report to the parent; `cause` tells the reports of one commit apart. A root has nobody to tell.
pub(crate) fn report(draft: &mut Draft, state: &str, text: String, cause: &str) {
    let Some(parent) = draft.snapshot.parent().cloned() else { return };
    let Some((name, call, arguments)) = origin(&draft.snapshot.thread.kind) else { return };
    let id = InputId::between_threads(&format!("{}:{}:{cause}", draft.thread(), draft.next_number()));
    draft.inputs.push(NewInput {
        thread: parent,
        id,
        source: format!("thread {}", draft.thread()),
        body: InputBody::Report {
            child: draft.thread().clone(),
            original_tool_name: name,
            original_tool_call_id: call,
            original_args: arguments,
            text,
            state: state.to_owned(),
        },
        traceparent: None,
    });
}

fn origin(kind: &ThreadKind) -> Option<(String, CallId, Value)> {
    match kind {
        ThreadKind::Root => None,
        ThreadKind::Spawned { call, arguments } => {
            Some((builtin::SPAWN_THREAD.to_owned(), call.clone(), arguments.clone()))
        }
        ThreadKind::Event { call, name, arguments } => Some((name.clone(), call.clone(), arguments.clone())),
    }
}

/// The newest text of the thread's model or, where something failed, what people were told of it.
fn last_words(draft: &Draft) -> String {
    let failed = draft.surface.iter().rev().find_map(|event| match &event.what {
        Surface::Error { text } => Some(text.clone()),
        _ => None,
    });
    failed.or_else(|| own_words(draft)).unwrap_or_else(|| "nothing to say".to_owned())
}

/// The newest text of the model, up to what the thread was made with: before that lies its parent's history.
fn own_words(draft: &Draft) -> Option<String> {
    let made_by = match &draft.snapshot.thread.kind {
        ThreadKind::Spawned { call, .. } => Some(call),
        _ => None,
    };
    let before = draft.snapshot.history.iter().rev().map(AsRef::as_ref).take_while(|_| made_by.is_some());
    let turns = draft.entries.iter().rev().chain(before).filter_map(|entry| match entry {
        Entry::Turn(turn) => Some(turn),
        _ => None,
    });
    turns
        .take_while(|turn| !turn.calls.iter().any(|call| Some(&call.id) == made_by))
        .find(|turn| !turn.text.is_empty())
        .map(|turn| turn.text.clone())
}
