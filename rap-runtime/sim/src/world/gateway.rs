//! The gateway: callbacks of servers on their way into the store.

use super::World;
use crate::{Fault, network::Happening, server};
use rap_core::{Accepted, CallState, Interaction, NewInput};
use rap_types::CallbackMessage;

impl World {
    /// A server posts a callback; the network may double it.
    pub(super) fn post(&mut self, message: CallbackMessage) {
        let times = if self.dice.u8(0..8) == 0 { 2 } else { 1 };
        for _ in 0..times {
            let there = self.dice.i64(0..400);
            let message = Box::new(message.clone());
            self.queue.push(self.now + there, Happening::Callback { message, attempt: 0 });
        }
    }

    pub(super) fn callback(&mut self, message: CallbackMessage, attempt: u32) {
        let again = |world: &mut Self, message: CallbackMessage| {
            let at = world.now + server::retry_after(attempt);
            world.queue.push(at, Happening::Callback { message: Box::new(message), attempt: attempt + 1 });
        };
        if !self.up {
            again(self, message);
            return;
        }
        if self.is(Fault::AnswerBeforeAccepting) {
            self.promised(&message);
            let at = self.now + self.dice.i64(0..3_000);
            let life = self.life;
            self.queue.push(at, Happening::AcceptLate { message: Box::new(message), life });
            return;
        }
        if self.store_fails() {
            // Nothing is kept, so it is not taken: the server sends it again.
            if self.is(Fault::AnswerDespiteAnError) {
                self.promised(&message);
            } else {
                again(self, message);
            }
            return;
        }
        let accepted = self.accept(&message);
        if self.dice.u8(0..9) == 0 {
            again(self, message); // The answer was lost: the server does not know that it was taken.
            return;
        }
        match accepted {
            Accepted::Accepted | Accepted::Duplicate | Accepted::Discarded(_) => self.promised(&message),
            Accepted::Busy => again(self, message),
            Accepted::UnknownThread | Accepted::Ended => {
                if let Some(job) = message.tool_call_id().and_then(|call| self.servers.jobs.get_mut(call)) {
                    job.gone = true;
                }
            }
        }
    }

    /// The server was told that the message was taken.
    fn promised(&mut self, message: &CallbackMessage) {
        match message {
            CallbackMessage::ToolResult(result) => {
                self.checks.promise(result.as_text().unwrap_or_default());
                let Some(job) = self.servers.jobs.get_mut(&result.id) else { return };
                if result.subscription && !job.confirmed {
                    job.confirmed = true;
                    self.queue.push(self.now, Happening::Emit { call: result.id.clone(), n: 1 });
                }
            }
            CallbackMessage::SubscriptionEvent(event) => self.checks.promise(&event.text),
            CallbackMessage::UserChoice(choice) => self.asked(&choice.id),
            _ => {}
        }
    }

    pub(super) fn accept(&mut self, message: &CallbackMessage) -> Accepted {
        let input = match message.clone() {
            CallbackMessage::ToolResult(result) => NewInput::result(result, None),
            CallbackMessage::SubscriptionEvent(mut event) => {
                if self.is(Fault::IgnoreEventIds) {
                    event.event_id = None;
                }
                let nonce = self.dice.u64(..).to_string();
                NewInput::event(event, &nonce, None)
            }
            CallbackMessage::UserChoice(choice) => {
                self.report.callbacks += 1;
                let question = Interaction::Choice {
                    choices: choice.choices().to_vec(),
                    call: choice.id,
                    prompt: choice.prompt,
                    default: 0,
                    response_url: choice.response_url,
                };
                return self.store.interact(&choice.group_id, question, self.clock());
            }
            _ => return Accepted::Discarded("not simulated".into()),
        };
        self.report.callbacks += 1;
        if self.is(Fault::SwallowTheUnwanted)
            && let Some(call) = input.body.call()
            && self.store.call_state(call) == Some(CallState::Cancelled)
        {
            return Accepted::Duplicate;
        }
        self.store.accept(input, self.clock())
    }
}
