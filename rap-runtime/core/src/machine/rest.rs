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
            // A report of its progress does not tell the parent that it failed.
            if !draft.reported || state == "failed" {
                let text = last_words(draft);
                report(draft, state, text, "rest");
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
    draft.reported = true;
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

/// The newest text of the model or, where something failed, what people were told of it.
fn last_words(draft: &Draft) -> String {
    let failed = draft.surface.iter().rev().find_map(|event| match &event.what {
        Surface::Error { text } => Some(text.clone()),
        _ => None,
    });
    let own = draft.entries.iter().rev().find_map(|entry| match entry {
        Entry::Turn(turn) if !turn.text.is_empty() => Some(turn.text.clone()),
        _ => None,
    });
    failed.or(own).unwrap_or_else(|| "nothing to say".to_owned())
}
