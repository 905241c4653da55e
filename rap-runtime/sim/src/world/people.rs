//! People in a world: what they write, what they want, and what they say when they are asked.

use super::World;
use crate::{
    Fault,
    checks::{Checked, broken, marks},
    model::dice,
    network::Happening,
};
use rap_core::{Accepted, Answered, InputBody, InputId, NewInput};
use rap_types::{CallId, ContentPart, ThreadId};

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
        let thread = self.written_to(n);
        let content = vec![ContentPart::text(text.as_str())];
        let message = NewInput::message(thread.clone(), &n.to_string(), content, "sim");
        if self.store.accept(message, self.clock()) == Accepted::Accepted {
            debug_assert!(!marks(&text).is_empty());
            self.checks.person_wrote(&thread, &text, self.now);
        }
    }

    /// Whom a person writes to: the root, and now and then an open thread below it; the last message is the root's.
    fn written_to(&self, n: u32) -> ThreadId {
        let d = dice(self.seed, ("whom", n));
        let open = |view: &rap_core::ThreadView| !view.row.closed && view.row.id != self.root;
        let below: Vec<_> = self.store.threads(&self.root).into_iter().filter(open).collect();
        if n == 99 || !d.is_multiple_of(3) || below.is_empty() {
            return self.root.clone();
        }
        below[(d / 3) as usize % below.len()].row.id.clone()
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

    /// A person wants the session's servers asked again.
    pub(super) fn person_wants_a_look(&mut self) {
        if !self.up || self.store_fails() {
            self.queue.push(self.now + self.patience(), Happening::LookAgain);
            return;
        }
        let (thread, id, now) = (self.root.clone(), InputId::control("look"), self.clock());
        let input =
            NewInput { thread, id, source: "sim".into(), body: InputBody::Refresh, traceparent: None };
        if self.store.accept(input, now) == Accepted::Accepted {
            self.report.looks += 1;
            self.checks.wants_a_look(now);
        }
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
