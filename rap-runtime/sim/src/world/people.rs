//! People in a world: what they write, what they want, and what they say when they are asked.

use super::World;
use crate::{
    Fault,
    checks::{Checked, broken, marks},
    model::dice,
    network::Happening,
};
use rap_core::{Accepted, Answered, InputBody, InputId, NewInput};
use rap_types::{CallId, ContentPart};

/// Nobody thinks longer about a question.
const THINKS_MS: u64 = 90_000;

impl World {
    /// After how long a person tries again.
    fn patience(&self) -> i64 {
        if self.now - self.down_since < 60_000 { 1_000 } else { 60_000 }
    }

    pub(super) fn person_writes(&mut self, n: u32) {
        if !self.up || self.store_fails() {
            self.queue.push(self.now + self.patience(), Happening::Message { n });
            return;
        }
        let text = format!("<msg-{n}>");
        let message = NewInput::message(
            self.root.clone(),
            &n.to_string(),
            vec![ContentPart::text(text.as_str())],
            "sim",
        );
        if self.store.accept(message, self.clock()) == Accepted::Accepted {
            debug_assert!(!marks(&text).is_empty());
            self.checks.person_wrote(&self.root.clone(), &text, self.now);
        }
    }

    /// A person wants something of the root. Nobody repeats it where it is not heard.
    pub(super) fn person_controls(&mut self, key: &str, body: InputBody) {
        if !self.up || self.store_fails() {
            return;
        }
        self.checks.wanted(&body);
        let (thread, id) = (self.root.clone(), InputId::control(key));
        let input = NewInput { thread, id, source: "sim".into(), body, traceparent: None };
        self.store.accept(input, self.clock());
    }

    /// A person has another model answer, or again the one that the session began with.
    pub(super) fn person_chooses(&mut self, n: u32) {
        if !self.up || self.store_fails() {
            self.queue.push(self.now + self.patience(), Happening::Choose { n });
            return;
        }
        let model = match dice(self.seed, ("which", n)) % 4 {
            0 => None,
            m => Some(format!("simulated/{m}")),
        };
        let (thread, id) = (self.root.clone(), InputId::control(&format!("choice {n}")));
        let body = InputBody::UseModel { model: model.clone() };
        let input = NewInput { thread, id, source: "sim".into(), body, traceparent: None };
        if self.store.accept(input, self.clock()) == Accepted::Accepted {
            self.report.choices += 1;
            self.checks.chosen(model);
        }
    }

    /// A question is shown. A person answers it after a while; of some questions, never.
    pub(super) fn asked(&mut self, call: &CallId) {
        if !self.checks.asked(call) {
            return;
        }
        let d = dice(self.seed, (call.as_str(), "word"));
        if !d.is_multiple_of(6) {
            let thinks = (d / 8 % THINKS_MS) as i64;
            self.queue.push(self.now + thinks, Happening::Word { call: call.clone() });
        }
    }

    /// A person answers a question: yes or no; some change their mind, which is too late.
    pub(super) fn word(&mut self, call: CallId) -> Checked {
        if !self.up || self.store_fails() {
            self.queue.push(self.now + self.patience(), Happening::Word { call });
            return Ok(());
        }
        let d = dice(self.seed, (call.as_str(), "word"));
        let selected = d >> 20 & 1;
        let heard = if self.is(Fault::TakeANoForAYes) { 1 } else { selected };
        if self.store.answer(&call, heard, self.clock()) == Answered::Accepted {
            self.report.words += 1;
            self.checks.person_decided(&call, selected == 1);
            if self.store.answer(&call, 1 - selected, self.clock()) == Answered::Accepted {
                return Err(broken("P2", format!("the question of {call} was answered twice")));
            }
        }
        Ok(())
    }
}
