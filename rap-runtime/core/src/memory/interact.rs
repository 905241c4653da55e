//! Views and questions.

use super::{Memory, Question};
use crate::{
    Accepted, Answered, CallState, DeliveryKind, Interaction, Millis, OpenInteraction, SurfaceEvent,
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
        let event = SurfaceEvent { thread: thread.clone(), what: interaction.surface() };
        match interaction {
            Interaction::View { ref view_type, .. } => {
                self.views.insert((thread.clone(), view_type.clone()), interaction);
            }
            Interaction::Choice { ref call, .. } | Interaction::Authorize { ref call, .. } => {
                match self
                    .calls
                    .get(call)
                    .filter(|data| data.row.thread == *thread)
                    .map(|data| data.row.state)
                {
                    None => return Accepted::Discarded("no such call in this thread".into()),
                    Some(CallState::Cancelled) => {
                        return Accepted::Discarded("the call was cancelled".into());
                    }
                    Some(state) if !Interaction::is_welcome(state) => return Accepted::Duplicate,
                    Some(_) => {}
                }
                if self.questions.get(call).is_some_and(|question| question.asked == interaction) {
                    return Accepted::Duplicate;
                }
                self.questions.insert(call.clone(), Question { asked: interaction, answered: false });
            }
        }
        self.show(event, now);
        Accepted::Accepted
    }

    /// See [`Store::answer`](crate::Store::answer).
    pub fn answer(&mut self, call: &CallId, selected: u64, now: Millis) -> Answered {
        let Some(row) = self.calls.get(call).map(|data| data.row.clone()) else {
            return Answered::NoQuestion;
        };
        let Some(question) = self.questions.get_mut(call) else { return Answered::NoQuestion };
        let Interaction::Choice { choices, response_url, .. } = &question.asked else {
            return Answered::NoQuestion;
        };
        if !Interaction::is_welcome(row.state) {
            return Answered::NoQuestion;
        }
        if question.answered {
            return Answered::Already;
        }
        if usize::try_from(selected).map_or(true, |index| index >= choices.len()) {
            return Answered::NoSuchChoice(choices.len());
        }
        question.answered = true;
        let url = response_url.clone();
        let body = json!({"id": call, "selected": selected});
        self.send(DeliveryKind::ChoiceAnswer, &row.thread, Some(call.clone()), url, body, now);
        Answered::Accepted
    }

    /// See [`Store::interactions`](crate::Store::interactions).
    pub fn interactions(&self, session: &ThreadId) -> Vec<OpenInteraction> {
        let of_session =
            |thread: &ThreadId| self.threads.get(thread).is_some_and(|data| data.row.session == *session);
        let views =
            self.views.iter().filter(|((thread, _), _)| of_session(thread)).map(|((thread, _), view)| {
                OpenInteraction { thread: thread.clone(), interaction: view.clone() }
            });
        let questions = self.questions.iter().filter_map(|(call, question)| {
            let row = &self.calls.get(call)?.row;
            let open = !question.answered && Interaction::is_welcome(row.state) && row.outcome.is_none();
            (open && of_session(&row.thread))
                .then(|| OpenInteraction { thread: row.thread.clone(), interaction: question.asked.clone() })
        });
        views.chain(questions).collect()
    }
}
