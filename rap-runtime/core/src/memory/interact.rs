//! Views and questions.

use super::{Memory, Question};
use crate::{
    APPROVAL_CHOICES, Accepted, Answered, CallRow, CallState, DeliveryKind, InputBody, Interaction, Millis,
    NewDelivery, OpenInteraction, Reply, SurfaceEvent, approval,
};
use rap_types::{CallId, ThreadId};
use serde_json::json;

impl Memory {
    /// See [`Store::interact`](crate::Store::interact).
    pub fn interact(&mut self, thread: &ThreadId, interaction: Interaction, now: Millis) -> Accepted {
        let closed = match self.threads.get(thread) {
            None if interaction.call().is_none() => return Accepted::UnknownThread,
            None => return Accepted::Discarded("no such thread".into()),
            Some(data) => data.row.closed,
        };
        if closed {
            return Accepted::Ended;
        }
        if let Interaction::Approval { .. } = interaction {
            return Accepted::Discarded("only the runtime itself asks for approval".into());
        }
        let event = SurfaceEvent { thread: thread.clone(), what: interaction.surface() };
        match interaction {
            Interaction::View { ref view_type, .. } => {
                let n = self.number();
                self.views.insert((thread.clone(), view_type.clone()), (n, interaction));
                self.drop_oldest_view(thread);
            }
            Interaction::Approval { .. } => {}
            Interaction::Choice { ref call, .. } | Interaction::Authorize { ref call, .. } => {
                let row = self.calls.get(call).map(|data| &data.row).filter(|row| row.thread == *thread);
                match row {
                    None => return Accepted::Discarded("no such call in this thread".into()),
                    Some(row) if row.state == CallState::Cancelled => {
                        return Accepted::Discarded("the call was cancelled".into());
                    }
                    Some(row) if !row.may_ask() => return Accepted::Duplicate,
                    Some(_) => {}
                }
                if self.questions.get(call).is_some_and(|question| question.asked == interaction) {
                    return Accepted::Duplicate;
                }
                self.questions.insert(call.clone(), Question { asked: interaction, answered: false });
                // What waits for calls that may soon end need not wait for this one.
                let waits = self.inbox.values().any(|pending| pending.thread == *thread);
                if waits && let Some(due) = self.threads.get_mut(thread).and_then(|data| data.due_at.as_mut())
                {
                    *due = now.min(*due);
                }
            }
        }
        self.show(event, now);
        Accepted::Accepted
    }

    /// At the limit, the view that was longest without an update goes.
    fn drop_oldest_view(&mut self, thread: &ThreadId) {
        let limit = self.rules_of(thread).map_or(usize::MAX, |session| session.rules.views);
        let of_thread = || self.views.iter().filter(|((owner, _), _)| owner == thread);
        if of_thread().count() > limit
            && let Some(oldest) = of_thread().min_by_key(|(_, (n, _))| *n).map(|(key, _)| key.clone())
        {
            self.views.remove(&oldest);
        }
    }

    /// See [`Store::answer`](crate::Store::answer).
    pub fn answer(&mut self, call: &CallId, selected: u64, now: Millis) -> Answered {
        self.reply(call, Reply::Pick(selected), now)
    }

    /// See [`Store::reply`](crate::Store::reply).
    pub fn reply(&mut self, call: &CallId, reply: Reply, now: Millis) -> Answered {
        let Some(row) = self.calls.get(call).map(|data| data.row.clone()) else {
            return Answered::NoQuestion;
        };
        if row.state == CallState::AwaitingApproval {
            let Some(selected) = reply.approval() else { return Answered::NoQuestion };
            if selected as usize >= APPROVAL_CHOICES.len() {
                return Answered::NoSuchChoice(APPROVAL_CHOICES.len());
            }
            return match self.accept(approval(row.thread, call, selected == 1), now) {
                Accepted::Accepted => Answered::Accepted,
                Accepted::Duplicate => Answered::Already,
                _ => Answered::NoQuestion,
            };
        }
        let Some(question) = self.questions.get_mut(call) else { return Answered::NoQuestion };
        let Interaction::Choice { choices, response_url, default, .. } = &question.asked else {
            return Answered::NoQuestion;
        };
        let Some(selected) = reply.choice(*default) else { return Answered::NoQuestion };
        let closed = self.threads.get(&row.thread).is_none_or(|data| data.row.closed);
        if closed || !row.may_ask() {
            return Answered::NoQuestion;
        }
        if matches!(reply, Reply::PickAgain(_)) {
            let under_way = |row: &super::OutboxRow| {
                row.kind == DeliveryKind::ChoiceAnswer && row.call.as_ref() == Some(call)
            };
            if !question.answered {
                return Answered::NoQuestion;
            }
            if self.outbox.values().any(under_way) {
                return Answered::Already;
            }
        } else if question.answered {
            return Answered::Already;
        }
        if usize::try_from(selected).map_or(true, |index| index >= choices.len()) {
            return Answered::NoSuchChoice(choices.len());
        }
        question.answered = true;
        let url = response_url.clone();
        let body = json!({"id": call, "selected": selected});
        let (kind, thread, call) = (DeliveryKind::ChoiceAnswer, row.thread, Some(call.clone()));
        self.send(NewDelivery { kind, thread, call, url, body, traceparent: None }, now);
        Answered::Accepted
    }

    /// See [`Store::interactions`](crate::Store::interactions).
    pub fn interactions(&self, session: &ThreadId) -> Vec<OpenInteraction> {
        let of_session =
            |thread: &ThreadId| self.threads.get(thread).is_some_and(|data| data.row.session == *session);
        let mut views: Vec<_> = self.views.iter().filter(|((thread, _), _)| of_session(thread)).collect();
        views.sort_by_key(|(_, (n, _))| *n);
        let views = views.into_iter().map(|((thread, _), (_, view))| OpenInteraction {
            thread: thread.clone(),
            interaction: view.clone(),
        });
        let questions = self.questions.iter().filter_map(|(call, question)| {
            let row = &self.calls.get(call)?.row;
            let closed = self.threads.get(&row.thread).is_none_or(|data| data.row.closed);
            let open = !question.answered && !closed && row.may_ask();
            (open && of_session(&row.thread))
                .then(|| OpenInteraction { thread: row.thread.clone(), interaction: question.asked.clone() })
        });
        // An answer that no slice has seen yet is one.
        let answered = |call: &CallId| {
            self.inbox.values().any(
                |pending| matches!(&pending.input.body, InputBody::Approval { call: its, .. } if its == call),
            )
        };
        let mut awaiting: Vec<&CallRow> = self
            .calls
            .values()
            .map(|data| &data.row)
            .filter(|row| {
                row.state == CallState::AwaitingApproval && of_session(&row.thread) && !answered(&row.id)
            })
            .collect();
        awaiting.sort_by_key(|row| (row.created_at, row.thread.clone(), row.turn, row.index));
        let approvals = awaiting.into_iter().filter_map(|row| {
            Some(OpenInteraction { thread: row.thread.clone(), interaction: Interaction::approval_of(row)? })
        });
        views.chain(questions).chain(approvals).collect()
    }
}
