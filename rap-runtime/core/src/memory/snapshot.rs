//! What a slice starts from.

use super::{Memory, ThreadData};
use crate::{
    CallRow, Child, ChildKind, Claim, Entry, Input, Snapshot, StoreError, SubscriptionRow, SubscriptionState,
    ThreadKind, history::shown_to_model,
};
use rap_types::{CallId, ThreadId};
use std::{collections::HashSet, sync::Arc};

impl Memory {
    /// See [`Store::load`](crate::Store::load).
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the claim is lost.
    pub fn load(&self, claim: &Claim) -> Result<Snapshot, StoreError> {
        self.check(claim)?;
        let thread = self.threads.get(&claim.thread).ok_or(StoreError::Fenced)?;
        let state = self.sessions.get(&thread.row.session).ok_or(StoreError::Fenced)?;
        let inputs: Vec<Input> = self
            .inbox
            .values()
            .filter(|pending| pending.thread == claim.thread)
            .map(|pending| pending.input.clone())
            .collect();
        let named: HashSet<&CallId> = inputs.iter().filter_map(|input| input.body.call()).collect();
        let own = |row: &&CallRow| row.thread == claim.thread;
        let newest = self.calls.values().map(|call| &call.row).filter(own).map(|row| row.turn).max();
        let needed =
            |row: &&CallRow| row.state.is_open() || Some(row.turn) == newest || named.contains(&row.id);
        let mut calls: Vec<CallRow> =
            self.calls.values().map(|call| &call.row).filter(own).filter(needed).cloned().collect();
        calls.sort_by_key(|row| (row.turn, row.index));
        let mut subscriptions: Vec<SubscriptionRow> = self
            .subscriptions
            .values()
            .map(|s| &s.row)
            .filter(|row| row.thread == claim.thread)
            .filter(|row| row.state == SubscriptionState::Active || named.contains(&row.call))
            .cloned()
            .collect();
        subscriptions.sort_by_key(|row| row.created_at);
        Ok(Snapshot {
            session: state.session.clone(),
            completions: state.completions,
            tokens: state.tokens,
            open_threads: self.open_threads(&thread.row.session),
            thread: thread.row.clone(),
            history: shown_to_model(&thread.row.chain, &thread.row.id, &self.visible(thread)).into(),
            calls,
            subscriptions,
            asking: self.asking(&claim.thread),
            children: self.children(&claim.thread),
            inputs,
        })
    }

    fn asking(&self, thread: &ThreadId) -> Vec<CallId> {
        let open = self.questions.iter().filter(|(_, question)| !question.answered);
        let of_thread = |call: &CallId| {
            self.calls.get(call).is_some_and(|data| data.row.thread == *thread && data.row.may_ask())
        };
        open.map(|(call, _)| call).filter(|call| of_thread(call)).cloned().collect()
    }

    pub(super) fn visible(&self, thread: &ThreadData) -> Vec<Arc<Entry>> {
        let inherited = thread.row.chain.iter().flat_map(|segment| {
            let upto = usize::try_from(segment.upto).unwrap_or(usize::MAX);
            self.threads
                .get(&segment.thread)
                .into_iter()
                .flat_map(move |t| t.entries.iter().take(upto).cloned())
        });
        inherited.chain(thread.entries.iter().cloned()).collect()
    }

    fn children(&self, parent: &ThreadId) -> Vec<Child> {
        let mut children: Vec<_> = self
            .threads
            .values()
            .filter(|thread| thread.row.ancestors.last() == Some(parent))
            .map(|thread| {
                let kind = match thread.row.kind {
                    ThreadKind::Event { .. } => ChildKind::Event,
                    _ => ChildKind::Spawned,
                };
                (thread.order, Child { id: thread.row.id.clone(), kind, open: !thread.row.closed })
            })
            .collect();
        children.sort_by_key(|(order, _)| *order);
        children.into_iter().map(|(_, child)| child).collect()
    }

    pub(super) fn open_threads(&self, session: &ThreadId) -> usize {
        self.threads.values().filter(|t| t.row.session == *session && !t.row.closed).count()
    }
}
